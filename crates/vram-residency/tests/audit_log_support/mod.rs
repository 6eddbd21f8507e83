//! What the tests of the audit log share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vram_residency::audit::check::{self, DirFiles, Files, Report};
use vram_residency::audit::log::{LogOptions, LogSink, OpenError, change_key};
use vram_residency::audit::merkle::{self, Hash};
use vram_residency::audit::note::{Checkpoint, Cut, Origin};
use vram_residency::audit::{Body, Event, Sink, Text};
use vram_residency::clock::{Clock, SystemClock, Timestamp};
use vram_residency::key::{RootKey, SigningKey, VerifyingKey};

pub const TOKEN: &[u8] = b"0123456789abcdef0123456789abcdef";

pub fn key() -> SigningKey {
    test_listener::plant(TOKEN);
    SigningKey::new(&RootKey::from_token(TOKEN).unwrap()).unwrap()
}

pub fn trusted() -> Vec<VerifyingKey> {
    vec![key().public().clone()]
}

pub fn options() -> LogOptions {
    let origin = Origin::new("example.org/worker-1").unwrap();
    let mut options = LogOptions::new(origin, "worker-1".parse().unwrap());
    options.keep_days = None;
    options.interval = Duration::from_millis(20);
    options
}

pub fn open(dir: &Path, options: LogOptions) -> Result<LogSink, OpenError> {
    open_at(dir, options, Arc::new(SystemClock::new()))
}

pub fn open_at(
    dir: &Path,
    options: LogOptions,
    clock: Arc<dyn Clock>,
) -> Result<LogSink, OpenError> {
    LogSink::open(dir, options, key(), clock)
}

/// Event `id` at a second of its own; every seventh names another shard.
pub fn event(id: u64) -> Event {
    let body = Body::VramDeallocated {
        shard_id: format!("shard-{}", id % 7).parse().unwrap(),
        freed_bytes: id,
        remaining_used: 0,
        gpu_device: 0,
    };
    with_body(id, body)
}

/// A critical event.
pub fn critical(id: u64) -> Event {
    let reason = Text::new(&format!("critical {id}"));
    with_body(id, Body::ManagerStopped { reason })
}

fn with_body(id: u64, body: Body) -> Event {
    Event {
        audit_id: id,
        timestamp: Timestamp::from_nanos((1_700_000_000 + id) * 1_000_000_000),
        worker_id: "worker-1".parse().unwrap(),
        severity: body.severity(),
        correlation_id: None,
        body,
    }
}

pub fn verify(dir: &Path) -> Report {
    verify_files(&DirFiles::new(dir))
}

pub fn verify_files(files: &dyn Files) -> Report {
    verify_under(files, key().public())
}

/// Verifies for who trusts this key alone.
pub fn verify_under(files: &dyn Files, trusted: &VerifyingKey) -> Report {
    let options = check::Options {
        trusted: std::slice::from_ref(trusted),
        ..check::Options::default()
    };
    check::verify(files, &options).unwrap()
}

/// The events whose lines are there, of the log itself excepted.
pub fn audit_ids(dir: &Path) -> Vec<u64> {
    let mut ids = Vec::new();
    let filter = check::Filter::default();
    check::show(&DirFiles::new(dir), &filter, &mut |shown| {
        ids.push(shown.event.unwrap().audit_id);
        Ok(())
    })
    .unwrap();
    ids.retain(|id| *id != 0);
    ids
}

/// A log in memory, for tests that change it many times.
pub type MemoryFiles = BTreeMap<String, Vec<u8>>;

pub fn read_all(dir: &Path) -> MemoryFiles {
    let files = DirFiles::new(dir);
    let read = |name: String| {
        let mut bytes = Vec::new();
        files.open(&name).unwrap().read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    files.names().unwrap().into_iter().map(read).collect()
}

/// Puts files, and no others, into the private directory of a log.
pub fn write_all(dir: &Path, files: &MemoryFiles) {
    use std::os::unix::fs::PermissionsExt;
    let private = |mode| std::fs::Permissions::from_mode(mode);
    if dir.exists() {
        std::fs::remove_dir_all(dir).unwrap();
    }
    std::fs::create_dir(dir).unwrap();
    std::fs::set_permissions(dir, private(0o700)).unwrap();
    for (name, bytes) in files {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), bytes).unwrap();
        std::fs::set_permissions(dir.join(name), private(0o600)).unwrap();
    }
}

/// What a checkpoint of the log of [`options`] over these lines says, and their leaves.
pub fn checkpoint_over(
    lines: impl IntoIterator<Item = impl AsRef<str>>,
) -> (Checkpoint, Vec<Hash>) {
    let leaf = |line: &str| merkle::leaf_hash(line.trim_end().as_bytes());
    let leaves: Vec<_> = lines.into_iter().map(|line| leaf(line.as_ref())).collect();
    let checkpoint = Checkpoint {
        origin: options().origin,
        size: leaves.len() as u64,
        root: merkle::root(&leaves),
        reopened: false,
        cut: Cut::default(),
    };
    (checkpoint, leaves)
}

/// splitmix64: small, seeded, good enough to choose what to break.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// The line of an event, as anybody can write it who knows the format.
pub fn forged(seq: u64, event: &Event) -> String {
    let json = serde_json::to_string(event).unwrap();
    let time = event.timestamp;
    format!("{{\"seq\":{seq},\"time\":\"{time}\",{}\n", &json[1..])
}

/// Puts a text behind the newest line.
pub fn append(files: &mut MemoryFiles, text: &str) {
    files.get_mut("events.jsonl").unwrap().extend(text.bytes());
}

/// One of several keys of a log.
pub fn numbered(number: u8) -> SigningKey {
    let token = [b'a' + number; 32].map(|byte| byte);
    let mut token = token.to_vec();
    token.extend(TOKEN);
    SigningKey::new(&RootKey::from_token(&token).unwrap()).unwrap()
}

/// Lets a key write events.
pub fn write_as(dir: &Path, key: SigningKey, ids: std::ops::Range<u64>) {
    let log = LogSink::open(dir, options(), key, Arc::new(SystemClock::new())).unwrap();
    ids.for_each(|id| log.record(&event(id)).unwrap());
}

/// Lets the log go over from one key to another.
pub fn change(dir: &Path, old: u8, new: u8) -> Result<u64, OpenError> {
    let clock = Arc::new(SystemClock::new());
    change_key(dir, &options(), numbered(old), numbered(new), clock)
}

/// A log of another name under one key, which it leaves for the other.
pub fn elsewhere(dir: &Path, old: u8, new: u8) {
    let mut options = options();
    options.origin = Origin::new("elsewhere").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let log = LogSink::open(dir, options.clone(), numbered(old), clock.clone()).unwrap();
    log.record(&event(1)).unwrap();
    drop(log);
    change_key(dir, &options, numbered(old), numbered(new), clock).unwrap();
}

/// Events under key 0, 1 and 2, one after the other.
pub fn three_keys(dir: &Path) {
    write_as(dir, numbered(0), 1..10);
    change(dir, 0, 1).unwrap();
    write_as(dir, numbered(1), 10..20);
    change(dir, 1, 2).unwrap();
    write_as(dir, numbered(2), 20..30);
}
