//! Input that must be refused: a clear message that names it, exit code 1 or
//! 2, and nothing left anywhere.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Session, skipped};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// What a refused seal says about the device.
const LEFT: &str = "nothing is left on the device: 0 of 1048576 bytes in use";

fn fifo(session: &Session, name: &str) {
    mknodat(
        CWD,
        session.path(name),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
}

#[test]
fn an_empty_model_has_a_digest_and_no_seal() {
    let session = Session::new();
    session.file("empty", 0);
    session
        .vram("digest empty")
        .exit(0)
        .says("sha256:3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95 empty\n");
    session
        .vram("seal empty --device sim:1MiB")
        .exit(1)
        .refuses("empty: the model has 0 bytes")
        .tells("was the download complete?")
        .tells(LEFT);
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let session = Session::new();
    fifo(&session, "fifo");
    std::fs::create_dir(session.path("dir")).unwrap();
    symlink("loop", session.path("loop")).unwrap();
    for (name, message) in [
        ("fifo", "fifo is not a regular file"),
        ("dir", "dir is not a regular file"),
        ("loop", "cannot open loop: "),
        ("missing", "cannot open missing: "),
    ] {
        session
            .vram(&format!("digest {name}"))
            .exit(1)
            .refuses(message);
        // A directory may hold a model of several files; this one holds none.
        let message = if name == "dir" {
            "dir holds no model"
        } else {
            message
        };
        session
            .vram(&format!("seal {name} --device sim:1MiB"))
            .exit(1)
            .refuses(message)
            .tells(LEFT);
    }
    session.vram("key new key").exit(0);
    for (name, message) in [
        ("fifo", "it is not a regular file"),
        ("dir", "it is a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("missing", "No such file"),
    ] {
        session
            .vram(&format!("verify {name} --tag-only --key-file key"))
            .exit(1)
            .refuses(&format!("cannot read record {name}: {message}"));
        session
            .vram(&format!("bench load {name}"))
            .exit(1)
            .refuses(&format!("cannot read {name}: {message}"));
    }
    session.file("model", 10);
    session
        .vram("seal model --device sim:1MiB --key-file key --record r.json")
        .exit(0);
    for name in ["fifo", "dir", "loop", "missing"] {
        session
            .vram(&format!("verify r.json {name} --key-file key"))
            .exit(1)
            .refuses(name);
        session
            .vram(&format!("inspect {name}"))
            .exit(1)
            .refuses(name);
    }
}

/// Who may read every file drops that privilege first: of root's capabilities
/// none is left to the command.
fn unprivileged(session: &Session, args: &str) -> common::Outcome {
    let words: Vec<&str> = args.split_whitespace().collect();
    let plain = session.command(&words);
    let mut command = if File::open(session.path("model")).is_ok() {
        let mut setpriv = Command::new("setpriv");
        setpriv
            .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
            .arg(plain.get_program())
            .args(plain.get_args())
            .current_dir(session.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        setpriv
    } else {
        plain
    };
    common::finish(command.spawn().unwrap(), args.to_owned())
}

#[test]
fn no_permission_is_said() {
    let session = Session::new();
    session.vram("key new key").exit(0);
    session.file("model", 10);
    session
        .vram("seal model --device sim --key-file key --record r.json")
        .exit(0);
    for name in ["model", "key", "r.json"] {
        std::fs::set_permissions(session.path(name), PermissionsExt::from_mode(0o000)).unwrap();
    }
    let tool = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "true"])
        .status();
    if File::open(session.path("model")).is_ok() && !tool.is_ok_and(|tool| tool.success()) {
        skipped(
            "this user may read every file, and setpriv (Debian package util-linux) cannot help",
        );
        return;
    }
    for (args, message) in [
        ("digest model", "cannot open model: Permission denied"),
        (
            "seal model --device sim:1MiB",
            "cannot open model: Permission denied",
        ),
        ("inspect model", "cannot open model: Permission denied"),
        ("bench load model", "cannot read model: Permission denied"),
        ("verify r.json --tag-only --key-file key", "key file key"),
    ] {
        let outcome = unprivileged(&session, args).exit(1).refuses(message);
        let outcome = outcome.tells("Permission denied");
        if args.starts_with("seal") {
            outcome.tells(LEFT);
        }
    }
    std::fs::set_permissions(session.path("key"), PermissionsExt::from_mode(0o600)).unwrap();
    unprivileged(&session, "verify r.json --tag-only --key-file key")
        .exit(1)
        .refuses("cannot read record r.json: Permission denied");
}

/// Runs a command while `change` is done to the file again and again.
fn while_changing(session: &Session, args: &str, change: impl Fn(&File) + Sync) -> common::Outcome {
    session.file("model", 48 << 20);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options()
                .append(true)
                .open(session.path("model"))
                .unwrap();
            while !stop.load(Ordering::Relaxed) {
                change(&file);
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let outcome = session.vram(args);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn a_growing_file_is_noticed() {
    let session = Session::new();
    let grow = |mut file: &File| file.write_all(b"more").unwrap();
    while_changing(&session, "digest model", grow)
        .exit(1)
        .refuses("model changed while it was read (size differs)");
    while_changing(&session, "seal model --format raw --device sim:1GiB", grow)
        .exit(1)
        .refuses("model changed while it was read (size differs)")
        .tells("nothing is left on the device: 0 of 1073741824 bytes in use");
}

#[test]
fn a_shrinking_file_is_noticed() {
    let session = Session::new();
    let shrink = |file: &File| {
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(4096).max(1)).unwrap();
    };
    for args in ["digest model", "seal model --format raw --device sim:1GiB"] {
        let outcome = while_changing(&session, args, shrink).exit(1);
        let told = outcome.err.contains("changed while it was read")
            || outcome.err.contains("ended early");
        assert!(told, "{outcome:#?}");
        if args.starts_with("seal") {
            outcome.tells("nothing is left on the device: 0 of 1073741824 bytes in use");
        }
    }
}

#[test]
fn a_truncated_model_is_named_by_its_format() {
    let session = Session::new();
    let model = std::fs::read(common::small()).unwrap();
    std::fs::write(session.path("cut.safetensors"), &model[..model.len() - 1]).unwrap();
    session
        .vram("seal cut.safetensors --device sim:1MiB")
        .exit(1)
        .refuses("cut.safetensors: ")
        .tells("was the download complete?")
        .tells(LEFT);
    session.write("lie.safetensors", "this is no model at all");
    session
        .vram("seal lie.safetensors --device sim:1MiB")
        .exit(1)
        .refuses("lie.safetensors: ");
    session.write("lie.gguf", "this is no model at all");
    session
        .vram("seal lie.gguf --device sim:1MiB")
        .exit(1)
        .refuses("lie.gguf: ");
    session
        .vram("seal lie.gguf --format raw --device sim:1MiB")
        .exit(0);
}

// requirement: IV-003, IV-005, VA-1
#[test]
fn bad_ids_are_usage_errors() {
    let session = Session::new();
    session.file("model", 10);
    let long = "a".repeat(257);
    for (id, message) in [
        ("../model", "path traversal"),
        ("a/b", "path traversal"),
        ("a b", "not allowed at position 1"),
        ("tab\there", "not allowed at position 3"),
        ("\u{1b}[31mred", "not allowed at position 0"),
        ("caf\u{e9}", "not allowed at position 3"),
        (long.as_str(), "257 bytes, the limit is 256"),
        ("", "shard id"),
    ] {
        let option = format!("--id={id}");
        let outcome = session.vram_words(&["seal", "model", "--device", "sim", &option]);
        let outcome = outcome.exit(2).refuses("--id").tells(message);
        assert!(!outcome.err.contains('\u{1b}'), "{outcome:?}");
    }
    session
        .vram("seal model --device sim --worker-id a/b")
        .exit(2)
        .refuses("worker id looks like a path traversal");
    let name = format!("--model-ref={}", "m".repeat(1025));
    session
        .vram_words(&["seal", "model", "--device", "sim", &name])
        .exit(2)
        .refuses("model reference has 1025 bytes");
    session
        .vram("seal model model --device sim --id one")
        .exit(2)
        .refuses("--id is about one FILE, 2 are named");
}

// requirement: IV-004
#[test]
fn bad_digests_are_usage_errors() {
    let session = Session::new();
    session.file("model", 10);
    let upper = "A".repeat(64);
    for (digest, message) in [
        ("abcd", "digest has 4 characters"),
        (upper.as_str(), "upper-case hex digit at position 0"),
        ("sha512:00", "digest has 9 characters"),
    ] {
        for option in ["--expect", "--expect-content"] {
            session
                .vram(&format!("seal model --device sim {option} {digest}"))
                .exit(2)
                .refuses(message)
                .tells(option);
        }
    }
    session
        .vram(&format!(
            "seal model --device sim --expect-content sha256:{}",
            "0".repeat(64)
        ))
        .exit(2)
        .refuses("use --expect for it");
}

// requirement: KD-6, KD-7
#[test]
fn careless_key_files_are_refused() {
    let session = Session::new();
    session.file("model", 10);
    session.vram("key new key").exit(0);
    let mode = std::fs::metadata(session.path("key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    session
        .vram("key new key")
        .exit(1)
        .refuses("cannot make key")
        .tells("never overwritten");
    let seal = |key: &str| session.vram(&format!("seal model --device sim --key-file {key}"));
    symlink("key", session.path("link")).unwrap();
    seal("link").exit(1).refuses("link is not a regular file");
    fifo(&session, "fifo");
    seal("fifo").exit(1).refuses("fifo is not a regular file");
    session.write("text", "not a key\n");
    std::fs::set_permissions(session.path("text"), PermissionsExt::from_mode(0o600)).unwrap();
    seal("text").exit(1).refuses("text: the key is not 64");
    std::fs::set_permissions(session.path("text"), PermissionsExt::from_mode(0o700)).unwrap();
    seal("text").exit(1).refuses("key file text has mode 0700");
    std::fs::set_permissions(session.path("text"), PermissionsExt::from_mode(0o600)).unwrap();
    seal("text").exit(1).refuses("not 64 lower-case hex digits");
    std::fs::set_permissions(session.path("key"), PermissionsExt::from_mode(0o640)).unwrap();
    seal("key")
        .exit(1)
        .refuses("has mode 0640; it must be 0600 or tighter");
    let secret = session.read("key");
    let doctor = session
        .vram("doctor --key-file key")
        .exit(1)
        .says("bad   key ");
    assert!(!doctor.out.contains(secret.trim()) && !doctor.err.contains(secret.trim()));
}

#[test]
fn records_that_no_seal_wrote_are_refused() {
    let session = Session::new();
    session.file("model", 10);
    session.vram("key new key").exit(0);
    session
        .vram("seal model --device sim --key-file key --record r.json")
        .exit(0);
    let good = session.read("r.json");
    let with = |from: &str, to: &str| {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        changed
    };
    let huge = "\"vram_bytes\":99999999999999999999999999999999";
    let parsed: serde_json::Value = serde_json::from_str(&good).unwrap();
    let digest = parsed["digest"].as_str().unwrap();
    let id = |to: &str| with("\"shard_id\":\"orch-", &format!("\"shard_id\":\"{to}"));
    for (text, message) in [
        (id("../"), "path traversal"),
        (id("a\\u0000b"), "NUL"),
        (id("a\\u001b[31m"), "not allowed at position 1"),
        (id("caf\u{e9}"), "not allowed at position 3"),
        (id(&"a".repeat(257)), "the limit is 256"),
        (with(digest, &"A".repeat(64)), "upper-case hex digit"),
        (with(digest, "abcd"), "4 characters"),
        (with("record/v1", "record/v9"), "unknown schema"),
        (
            with("\"sealed\":true", "\"sealed\":true,\"extra\":1"),
            "unknown field `extra`",
        ),
        (
            with("\"sealed\":true", "\"sealed\":true,\"sealed\":true"),
            "duplicate field `sealed`",
        ),
        (with("\"vram_bytes\":10", huge), "cannot read the record"),
        (
            with("\"vram_bytes\":10", "\"vram_bytes\":-1"),
            "cannot read the record",
        ),
        (with("\"vram_bytes\":10,", ""), "missing field `vram_bytes`"),
        (with("}\n", ""), "EOF"),
        (String::new(), "EOF"),
        ("[".repeat(100_000), "cannot read the record"),
        (" ".repeat(17 << 20), "longer than 16777216 bytes"),
    ] {
        session.write("bad.json", &text);
        session
            .vram("verify bad.json model --key-file key")
            .exit(1)
            .refuses("bad.json")
            .tells(message);
    }
    std::fs::write(session.path("bad.json"), [0xff, 0xfe]).unwrap();
    session
        .vram("verify bad.json model --key-file key")
        .exit(1)
        .refuses("is not UTF-8 text");
}

#[test]
fn a_record_that_cannot_be_written_is_known_before_loading() {
    let session = Session::new();
    session.file("model", 10);
    std::fs::create_dir(session.path("dir")).unwrap();
    for path in ["dir", "nowhere/out.json"] {
        session
            .vram(&format!("seal model --device sim --record {path}"))
            .exit(1)
            .refuses(&format!("cannot write record {path}"));
    }
}

#[test]
fn bad_devices_and_times_are_usage_errors() {
    let session = Session::new();
    session.file("model", 10);
    for device in [
        "gpu0",
        "cuda:x",
        "sim:0",
        "sim:1XB",
        "sim:1GiB,colour=red",
        "sim:1GiB,flip=1:8",
    ] {
        session
            .vram(&format!("seal model --device {device}"))
            .exit(2)
            .refuses("--device");
    }
    session
        .vram("seal model --device sim --timeout soon")
        .exit(2)
        .refuses("is not a time");
    session
        .vram("seal")
        .exit(2)
        .refuses("<FILE>...")
        .tells("vram: hint: usage: vram seal");
    session
        .vram("dijest model")
        .exit(2)
        .refuses("unrecognized subcommand 'dijest'")
        .tells("'digest'");
}

#[test]
fn a_record_never_replaces_anything_but_a_record() {
    let session = Session::new();
    let model = session.file("model", 5000);
    let twice = |name: &str| format!("seal model --device sim --record {name}");
    session.vram(&twice("model")).exit(1);
    assert_eq!(std::fs::read(session.path("model")).unwrap(), model);
    std::os::unix::fs::symlink(session.path("model"), session.path("link")).unwrap();
    session.vram(&twice("link")).exit(1);
    assert!(session.path("link").is_symlink());
    session.vram(&twice("new.json")).exit(0);
    session.vram(&twice("new.json")).exit(0);
}

#[test]
fn sealing_plain_bytes_is_advised_only_where_it_helps() {
    let session = Session::new();
    session.write("lie.safetensors", "this is no model at all");
    session.write("bad.safetensors.index.json", "[]");
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 4096\n",
        "a".repeat(64)
    );
    session.write("pointer.safetensors", &pointer);
    for args in [
        "inspect lie.safetensors",
        "plan lie.safetensors --device sim",
        "seal bad.safetensors.index.json --device sim",
        "seal pointer.safetensors --device sim",
    ] {
        let refused = session.vram(args).exit(1);
        assert!(!refused.err.contains("--format"), "{args}: {}", refused.err);
    }
}

#[test]
fn a_flip_that_could_never_strike_is_refused() {
    let session = Session::new();
    session.file("model", 5000);
    let refused = session
        .vram("seal model --device sim:1GiB,flip=5000:0")
        .exit(2);
    assert!(refused.err.contains("5000"), "{}", refused.err);
    session
        .vram("seal model --device sim:1GiB,flip=4999:0")
        .exit(3);
}
