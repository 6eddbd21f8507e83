//! A listener for a whole test program, at the most verbose level: it writes what
//! is told in both forms that the command has, and fails the test in which a
//! planted secret is told. It hears the beginning, the first of each kind, and
//! all while a test keeps it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::secrets::Secrets;

struct Heard {
    secrets: Secrets,
    /// JSON lines, and text lines, while somebody wants to see them.
    kept: Option<(Vec<u8>, Vec<u8>)>,
}

static HEARD: Mutex<Option<Heard>> = Mutex::new(None);
static KEEPING: Mutex<()> = Mutex::new(());

/// So much of the beginning of a program is searched, and after that the first
/// of each place in the code. A property with a thousand cases tells the same
/// hundreds of thousands of times, and a search is slow unoptimised.
const SEARCHED: usize = 2000;
const OF_EACH: usize = 50;
static LINES: AtomicUsize = AtomicUsize::new(0);
static HEARD_OF: Mutex<Option<HashMap<Identifier, usize>>> = Mutex::new(None);
static IS_KEPT: AtomicBool = AtomicBool::new(false);

fn listens(to: &Metadata<'_>) -> bool {
    let mut heard_of = HEARD_OF.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = heard_of.get_or_insert_default();
    let count = counts.entry(to.callsite()).or_default();
    *count += 1;
    let early = LINES.load(Ordering::Relaxed) < SEARCHED;
    early || *count <= OF_EACH || IS_KEPT.load(Ordering::Relaxed)
}

fn heard<R>(work: impl FnOnce(&mut Heard) -> R) -> R {
    let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    work(heard.get_or_insert_with(|| Heard {
        secrets: Secrets::default(),
        kept: None,
    }))
}

/// Where one form of the log goes.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Text,
}

impl Write for Form {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.fetch_add(1, Ordering::Relaxed);
        let leaked = heard(|heard| {
            match (&mut heard.kept, *self) {
                (Some((json, _)), Self::Json) => json.extend_from_slice(line),
                (Some((_, text)), Self::Text) => text.extend_from_slice(line),
                (None, _) => {}
            }
            heard.secrets.found_in(line)
        });
        if let Some(how) = leaked.filter(|_| !std::thread::panicking()) {
            let line = String::from_utf8_lossy(line);
            panic!("a secret was told {how}: {line}");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens for the rest of the program.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let json = fmt::layer().json().with_writer(|| Form::Json);
        let text = fmt::layer().with_ansi(false).with_writer(|| Form::Text);
        let both = json.and_then(text);
        let both = both.with_filter(dynamic_filter_fn(|told, _| listens(told)));
        tracing_subscriber::registry().with(both).init();
    });
}

/// Looks for a secret in all that is told from now on.
pub(crate) fn plant(secret: &[u8]) {
    heard(|heard| heard.secrets.plant(secret));
}

/// What is told while this lives, also by tests beside this one.
pub(crate) struct Keeping {
    _one_at_a_time: MutexGuard<'static, ()>,
}

/// Keeps what is told from now on.
pub(crate) fn keep() -> Keeping {
    listen();
    let one = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
    heard(|heard| heard.kept = Some(Default::default()));
    IS_KEPT.store(true, Ordering::Relaxed);
    Keeping {
        _one_at_a_time: one,
    }
}

impl Keeping {
    /// The JSON lines and the text so far.
    pub(crate) fn told(&self) -> (Vec<serde_json::Value>, String) {
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
        IS_KEPT.store(false, Ordering::Relaxed);
        heard(|heard| heard.kept = None);
    }
}
