//! A listener for whole test programs, at the most verbose level. All that is
//! told through `tracing` is written in both forms that the command has, every
//! line is searched for the secrets that tests planted, and the first leak ends
//! the program: a test or a thread that catches panics cannot hide one.
//!
//! A line is searched when it is told, for what was planted before. So a test
//! plants a secret where it makes it, before the library has it. Keys that the
//! library derives are known where a test derives them, too.
//!
//! This is a crate because a test program is built unoptimised, and each line
//! takes fifty times longer there; see the profiles in the root's `Cargo.toml`.
#![forbid(unsafe_code)]

mod addresses;
mod secrets;

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use addresses::address_in;
pub use secrets::Secrets;

/// What the program exits with after a leak: what it does when a test fails.
pub const LEAKED: i32 = 101;

#[derive(Default)]
struct Heard {
    secrets: Secrets,
    /// Whether an address is a secret, too.
    addresses: bool,
    /// JSON lines, and text lines, while somebody wants to see them.
    kept: Option<(Vec<u8>, Vec<u8>)>,
}

static HEARD: Mutex<Option<Heard>> = Mutex::new(None);
static KEEPING: Mutex<()> = Mutex::new(());

fn heard<R>(work: impl FnOnce(&mut Heard) -> R) -> R {
    let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    work(heard.get_or_insert_default())
}

/// Where one form of the log goes.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Text,
}

impl Write for Form {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let leaked = heard(|heard| {
            match (&mut heard.kept, *self) {
                (Some((json, _)), Self::Json) => json.extend_from_slice(line),
                (Some((_, text)), Self::Text) => text.extend_from_slice(line),
                (None, _) => {}
            }
            let text = || String::from_utf8_lossy(line);
            let address = heard.addresses && address_in(&text()).is_some();
            let address = address.then_some("as an address");
            heard.secrets.found_in(line).or(address)
        });
        if let Some(how) = leaked {
            end(how, line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends the program. Past the capture of output, which would be lost with it.
fn end(how: &str, line: &[u8]) -> ! {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a thread without a name");
    let line = String::from_utf8_lossy(line);
    let place = Backtrace::force_capture();
    let message = format!("{test}: a secret was told {how}: {line}\n{place}\n");
    let _ = io::stderr().write_all(message.as_bytes());
    std::process::exit(LEAKED)
}

/// Listens for the rest of the program.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let json = fmt::layer().json().with_writer(|| Form::Json);
        let text = fmt::layer().with_ansi(false).with_writer(|| Form::Text);
        tracing_subscriber::registry().with(json).with(text).init();
    });
}

/// Listens, and looks for a secret in all that is told from now on.
pub fn plant(secret: &[u8]) {
    listen();
    heard(|heard| heard.secrets.plant(secret));
}

/// A random secret that is looked for from now on.
#[must_use]
pub fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    let mut random = File::open("/dev/urandom").unwrap();
    random.read_exact(&mut secret).unwrap();
    plant(&secret);
    secret
}

/// Listens, and looks for addresses of memory, too: for programs whose devices
/// have any.
pub fn listen_for_addresses() {
    listen();
    heard(|heard| heard.addresses = true);
}

/// What is told while this lives, also by tests beside this one.
#[derive(Debug)]
pub struct Keeping {
    _one_at_a_time: MutexGuard<'static, ()>,
}

/// Keeps what is told from now on.
#[must_use = "it keeps for as long as it lives"]
pub fn keep() -> Keeping {
    listen();
    let one = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
    heard(|heard| heard.kept = Some(Default::default()));
    Keeping {
        _one_at_a_time: one,
    }
}

impl Keeping {
    /// The JSON lines and the text so far.
    #[must_use]
    pub fn told(&self) -> (Vec<serde_json::Value>, String) {
        let (json, text) = heard(|heard| heard.kept.clone()).unwrap();
        let lines = json
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let values = lines.map(|line| serde_json::from_slice(line).unwrap());
        (values.collect(), String::from_utf8(text).unwrap())
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        heard(|heard| heard.kept = None);
    }
}
