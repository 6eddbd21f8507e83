//! Sessions of the real command in a directory of their own. Whatever a command
//! of any test prints is searched for the keys and the models of the sessions.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../../vram-residency/tests/common/python.rs"]
mod python;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use test_listener::Secrets;

/// A test that takes longer waits for something that will not come. The
/// longest take seconds, and minutes on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(900);

/// Keys and models of every session of this test program.
static PLANTED: LazyLock<Mutex<Secrets>> = LazyLock::new(Mutex::default);

fn planted() -> MutexGuard<'static, Secrets> {
    PLANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory in which commands run.
pub(crate) struct Session {
    dir: tempfile::TempDir,
    /// Hung up when the session ends.
    _alive: Sender<()>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    command: String,
    code: Option<i32>,
    pub(crate) out: String,
    /// Without the lines of progress: whether a command takes long enough for one is the
    /// machine's affair.
    pub(crate) err: String,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            _alive: watched(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of `len` repeatable bytes and returns them.
    pub(crate) fn file(&self, name: &str, len: usize) -> Vec<u8> {
        let word = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        let bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(word).take(len).collect();
        std::fs::write(self.path(name), &bytes).unwrap();
        planted().plant(&bytes);
        bytes
    }

    /// Looks from now on for the keys that lie in the directory.
    pub(crate) fn plant_keys(&self) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = Some(&path).filter(|path| is_key(path));
            let text = text.and_then(|path| std::fs::read_to_string(path).ok());
            let Some(text) = text else { continue };
            let digits = text.trim().rsplit(':').next().unwrap();
            if let Some(key) = unhex(digits).filter(|key| key.len() == 32) {
                planted().plant(&key);
            }
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// `$ vram ARGS`, words separated by blanks.
    pub(crate) fn vram(&self, args: &str) -> Outcome {
        let words: Vec<&str> = args.split_whitespace().collect();
        self.vram_words(&words)
    }

    /// The same with words that hold blanks or nothing.
    pub(crate) fn vram_words(&self, words: &[&str]) -> Outcome {
        self.plant_keys();
        let child = self.command(words).spawn().unwrap();
        finish(child, words.join(" "))
    }

    /// `$ vram ARGS` with its input, output and environment open to the test.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vram"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Keys are short and for their owner only; a FIFO would never end.
pub(crate) fn is_key(path: &Path) -> bool {
    let meta = std::fs::symlink_metadata(path);
    meta.is_ok_and(|meta| {
        let private = meta.permissions().mode() & 0o077 == 0;
        meta.is_file() && private && meta.len() < 80
    })
}

/// Looks from now on for these bytes of a model.
pub(crate) fn plant(model: &[u8]) {
    planted().plant(model);
}

/// The checker of papers that shares no code with us.
pub(crate) fn reference(session: &Session, words: &[&str]) -> Option<Outcome> {
    let instead = "receipts are checked by the library's own code only";
    let python = python::python("cryptography", instead)?;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../vram-residency/testdata/receipt_reference.py"
    );
    let mut command = Command::new(python);
    command
        .arg(script)
        .args(words)
        .current_dir(session.path(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(finish(command.spawn().unwrap(), words.join(" ")))
}

/// Ends the tests with a failure when what it returns lives longer than a test may.
fn watched() -> Sender<()> {
    let (alive, ended) = channel();
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            let mut err = std::io::stderr().lock();
            let seconds = LIMIT.as_secs();
            writeln!(err, "\n*** {test} still ran after {seconds} s ***\n").unwrap();
            std::process::exit(101);
        }
    });
    alive
}

/// Says that something was not checked where nobody can miss it: the harness
/// hides what a passing test prints by `eprintln`.
pub(crate) fn skipped(what: &str) {
    let mut err = std::io::stderr().lock();
    writeln!(err, "\n*** SKIPPED: {what} ***\n").unwrap();
}

/// Bytes of hex digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let read = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(read).collect()
}

/// No key and no model may stand in what a command printed.
pub(crate) fn search(command: &str, printed: &[u8]) {
    let leaked = planted().found_in(printed);
    let text = String::from_utf8_lossy(printed);
    assert_eq!(leaked, None, "'{command}' printed a secret: {text}");
}

/// Waits for a command and searches what it printed.
pub(crate) fn finish(child: Child, command: String) -> Outcome {
    let output = child.wait_with_output().unwrap();
    search(&command, &output.stdout);
    search(&command, &output.stderr);
    Outcome {
        command,
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: without_progress(&String::from_utf8_lossy(&output.stderr)),
    }
}

fn without_progress(err: &str) -> String {
    let lines = err.split_inclusive('\n');
    lines
        .filter(|line| !line.starts_with("vram: progress: "))
        .collect()
}

impl Outcome {
    /// The exit code must be this.
    #[track_caller]
    pub(crate) fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// stdout must have this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text), "no '{text}' in {self:#?}");
        self
    }

    /// stderr must have this.
    #[track_caller]
    pub(crate) fn tells(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no '{text}' in {self:#?}");
        self
    }

    /// stderr must hold an error in this command's voice, and stdout nothing.
    #[track_caller]
    pub(crate) fn refuses(self, text: &str) -> Self {
        assert!(self.err.starts_with("vram: error: "), "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        assert_eq!(self.out, "", "{self:#?}");
        self.tells(text)
    }

    /// stderr must be empty.
    #[track_caller]
    pub(crate) fn quiet(self) -> Self {
        assert_eq!(self.err, "", "{self:#?}");
        self
    }

    /// stdout as one JSON value of this schema.
    #[track_caller]
    pub(crate) fn json(&self, schema: &str) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(&self.out).unwrap();
        assert_eq!(value["schema"], schema, "{self:#?}");
        value
    }
}

/// Waits until the child listens for SIGINT, then sends it.
pub(crate) fn interrupt(child: &Child) {
    signal(child, Signal::INT);
}

/// Waits until the child listens for the signal, then sends it.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let status = format!("/proc/{}/status", child.id());
    let bit = 1_u64.checked_shl(signal.as_raw().unsigned_abs()).unwrap() >> 1;
    loop {
        let text = std::fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        if caught & bit != 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The small model that the repository carries.
pub(crate) fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/small.safetensors")
}
