//! `--log`: what is told at which level, in which form, and that no secret is.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader};

use common::{Outcome, Session, finish, interrupt, search, unhex};
use serde_json::Value;
use test_listener::Secrets;

const SEAL: &str = "seal model --device sim --key-file key --id m --record r.json";

/// Command lines that between them do everything, and their exit codes.
const LIVES: [(&str, i32); 22] = [
    ("devices --device sim", 0),
    ("doctor --key-file key", 0),
    ("digest model", 0),
    ("synth made.safetensors --size 100KiB", 0),
    ("inspect made.safetensors", 0),
    ("plan made.safetensors --device sim", 0),
    (
        "seal model --device sim --key-file key --id m --record r.json --receipt p.json --sign-key s.key --audit log --audit-key a.key",
        0,
    ),
    (
        "seal model model --device sim --key-file key --group --record g.json",
        0,
    ),
    ("seal model --device sim --content --json", 0),
    ("seal model --device sim:4KiB", 1),
    (
        "seal model --device sim --expect 0000000000000000000000000000000000000000000000000000000000000000",
        3,
    ),
    (
        "seal model --device sim:1GiB,flip=4100:2 --key-file key --audit log --audit-key a.key",
        3,
    ),
    ("seal missing --device sim", 1),
    ("verify r.json --tag-only --key-file key", 0),
    ("verify r.json model --key-file key", 0),
    ("verify r.json --tag-only --key-file other", 3),
    ("verify p.json model --trust s.pub --simulated", 0),
    (
        "attest model --device sim --nonce 00112233445566778899aabbccddeeff --sign-key s.key --out a.json",
        0,
    ),
    ("audit verify log --trust a.pub", 0),
    ("audit show log", 0),
    ("audit tail log", 0),
    ("key public s.key", 0),
];

/// A model and keys.
fn session() -> Session {
    let session = Session::new();
    session.file("model", 300_000);
    for key in ["key", "other"] {
        session.vram(&format!("key new {key}")).exit(0);
    }
    for (key, public) in [("s.key", "s.pub"), ("a.key", "a.pub")] {
        session
            .vram(&format!("key new --signing --test {key}"))
            .exit(0);
        let text = session.vram(&format!("key public {key}")).exit(0).out;
        session.write(public, &text);
    }
    session
}

/// The lines of a JSON log; what the command itself says is left out.
fn lines(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.err.lines().filter(|line| line.starts_with('{'));
    let values = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    values.filter(|value| value["level"].is_string()).collect()
}

/// The tags of the records in the session: public in the papers, told nowhere.
fn tags(session: &Session) -> Secrets {
    let mut tags = Secrets::default();
    for paper in ["r.json", "p.json", "g.json", "a.json"] {
        let Ok(text) = std::fs::read_to_string(session.path(paper)) else {
            continue;
        };
        for part in text.split("\"tag\":\"").skip(1) {
            tags.plant(&unhex(part.get(..64).unwrap()).unwrap());
        }
    }
    tags
}

// requirement: OB-6, AU-11, CI-006
#[test]
fn many_lives_at_the_most_verbose_level_tell_no_secret() {
    let session = session();
    let mut told = [String::new(), String::new()];
    for (form, told) in ["text", "json"].iter().zip(&mut told) {
        let _ = std::fs::remove_file(session.path("made.safetensors"));
        for (words, code) in LIVES {
            let words = format!("{words} --log trace --log-format {form}");
            let outcome = session.vram(&words).exit(code);
            *told += &outcome.err;
        }
        let words = format!("{SEAL} --hold --every 1s --log trace --log-format {form}");
        let words: Vec<&str> = words.split_whitespace().collect();
        // A file, which unlike a pipe never fills up.
        let err = File::create(session.path("err")).unwrap();
        let mut held = session.command(&words).stderr(err).spawn().unwrap();
        let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("held")));
        interrupt(&held);
        let _ = finish(held, words.join(" ")).exit(0);
        let err = session.read("err");
        search("--hold", err.as_bytes());
        *told += &err;
    }
    let tags = tags(&session);
    for text in told {
        assert!(text.len() > 20_000, "only {} bytes were told", text.len());
        assert!(text.contains("the statement was tagged"));
        assert_eq!(tags.found_in(text.as_bytes()), None);
    }
    // Tags are looked for rightly: the papers have them.
    let record = session.read("r.json");
    assert_eq!(tags.found_in(record.as_bytes()), Some("in hex"));
}

#[test]
#[should_panic(expected = "printed a secret")]
fn a_command_that_prints_a_key_fails_its_test() {
    let session = session();
    session.vram("devices --device sim").exit(0);
    let mut cat = std::process::Command::new("cat");
    cat.arg(session.path("key"));
    let child = cat.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let _ = finish(child, "cat key".to_owned());
}

// requirement: OB-1
#[test]
fn levels_and_forms_are_what_was_asked_for() {
    let session = session();
    session.vram(SEAL).exit(0).quiet();
    session.vram(&format!("{SEAL} --log error")).exit(0).quiet();
    session
        .vram(&format!("{SEAL} --log info"))
        .exit(0)
        .tells(" INFO seal{shard_id=m gpu_device=0 bytes=300000}: ")
        .tells("a shard was sealed event=\"vram.sealed\" shard_id=m");
    let json = session
        .vram(&format!("--log debug --log-format json {SEAL}"))
        .exit(0);
    let lines = lines(&json);
    assert_eq!(lines.len(), json.err.lines().count(), "{json:#?}");
    let device = |line: &&Value| line["fields"]["op"] == "allocate";
    let call = lines.iter().find(device).unwrap();
    assert_eq!(call["level"], "DEBUG");
    assert_eq!(call["fields"]["bytes"], 300_000);
    assert!(!lines.iter().any(|line| line["level"] == "TRACE"));
    session
        .vram(&format!("{SEAL} --log loud"))
        .exit(2)
        .refuses("loud");
}

#[test]
fn results_are_the_same_and_a_full_disk_for_the_log_ends_nothing() {
    let session = session();
    let plain = session.vram("digest model").exit(0);
    let logged = session.vram("digest model --log trace").exit(0);
    assert_eq!(plain.out, logged.out);
    let words: Vec<&str> = SEAL.split_whitespace().chain(["--log", "trace"]).collect();
    let mut command = session.command(&words);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = command.stderr(full).spawn().unwrap();
    let _ = finish(child, words.join(" "))
        .exit(0)
        .says("verified  full");
}
