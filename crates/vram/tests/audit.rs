//! `vram audit`, and the logs that `vram seal` writes.

mod common;

use common::Session;

const SEAL: &str = "seal model --device sim --key-file key --id m1 --audit log --audit-key akey";

/// Two runs that share a log.
fn logged() -> Session {
    let session = Session::new();
    session.file("model", 20_000);
    session.vram("key new key").exit(0);
    session.vram("key new --signing akey").exit(0);
    let public = session.vram("key public akey").exit(0).out;
    session.write("akey.pub", &public);
    session.vram(SEAL).exit(0);
    session.vram(SEAL).exit(0);
    session
}

// requirement: AU-16
#[test]
fn what_seal_wrote_verifies_and_goes_on_after_a_restart() {
    let session = logged();
    let report = session
        .vram("audit verify log --trust akey.pub --closed --json")
        .exit(0)
        .json("vram-residency/audit-verify/v1");
    assert_eq!(
        (&report["good"], &report["uncovered"]),
        (&true.into(), &0.into())
    );
    let name = report["origin"].as_str().unwrap();
    assert!(name.starts_with("vram/worker/"), "{name}");
    let shown = session.vram("audit show log --event audit.opened").exit(0);
    assert_eq!(shown.out.lines().count(), 2, "{shown:?}");
    session
        .vram("audit verify log --trust akey.pub")
        .exit(0)
        .says("result       good");
}

// requirement: AU-1, AU-2, AU-6
#[test]
fn show_and_tail_filter() {
    let session = logged();
    let shown = session.vram("audit show log --shard m1 --json").exit(0);
    for event in ["vram.sealed", "seal.verified", "vram.deallocated"] {
        let has = |line: &str| line.contains(&format!("\"event_type\":\"{event}\""));
        assert_eq!(
            shown.out.lines().filter(|line| has(line)).count(),
            2,
            "{event}"
        );
    }
    assert!(shown.out.lines().all(|line| line.contains("\"m1\"")));
    let none = session.vram("audit show log --shard m2").exit(0);
    assert_eq!(none.out, "");
    let none = session.vram("audit show log --since 2999").exit(0);
    assert_eq!(none.out, "");
    let tail = session.vram("audit tail log -n 2").exit(0);
    assert_eq!(tail.out.lines().count(), 2, "{tail:?}");
}

/// Who can write to the directory has no key, and can add nothing.
#[test]
fn a_line_after_the_event_that_closed_the_log_is_named_and_not_signed() {
    let session = logged();
    let text = session.read("log/events.jsonl");
    let last = text.lines().last().unwrap();
    assert!(last.contains("\"audit.closed\""), "{last}");
    let lines = text.lines().count();
    let seq = |number: usize| format!("\"seq\":{number},");
    let more = last
        .replace(&seq(lines - 1), &seq(lines))
        .replace("\"audit.closed\"", "\"audit.retired\",\"first_kept\":9");
    session.write("log/events.jsonl", &format!("{text}{more}\n"));
    session
        .vram("audit verify log --trust akey.pub")
        .exit(3)
        .says(&format!("events.jsonl:{}: inserted", lines + 1));
    session.vram(SEAL).exit(1).refuses("does not verify");
}

#[test]
fn a_changed_log_is_named_and_not_written_to() {
    let session = logged();
    let text = session.read("log/events.jsonl");
    let at = text
        .lines()
        .position(|line| line.contains("vram.sealed"))
        .unwrap()
        + 1;
    session.write(
        "log/events.jsonl",
        &text.replacen("\"gpu_device\":0", "\"gpu_device\":1", 1),
    );
    let wrong = session.vram("audit verify log --trust akey.pub").exit(3);
    assert!(wrong.out.contains("events.jsonl:"), "{wrong:?}");
    session.vram(SEAL).exit(1).refuses("does not verify");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(at - 1);
    session.write("log/events.jsonl", &format!("{}\n", lines.join("\n")));
    session
        .vram("audit verify log --trust akey.pub")
        .exit(3)
        .says(&format!("events.jsonl:{at}: dropped"));
}

/// Two logs of one worker and key: neither stands in for the other, and neither is
/// accused with what the other says.
#[test]
fn each_log_of_a_worker_has_a_name_of_its_own() {
    let session = logged();
    session
        .vram(&SEAL.replace("--audit log", "--audit next"))
        .exit(0);
    let name = |dir: &str| {
        let checkpoint = session.read(&format!("{dir}/checkpoint"));
        checkpoint.lines().next().unwrap().to_owned()
    };
    let (first, next) = (name("log"), name("next"));
    assert_ne!(first, next);
    let verify = |dir: &str, more: &str| {
        session.vram(&format!("audit verify {dir} --trust akey.pub {more}"))
    };
    verify("log", &format!("--name {first}")).exit(0);
    verify("next", &format!("--name {first}"))
        .exit(3)
        .says("other_log");
    verify("next", "--earlier log/checkpoint")
        .exit(2)
        .refuses("of the log 'vram/worker/");
    // A log goes on under its own name, also under another key.
    session.vram(SEAL).exit(0);
    session.vram("key new --signing bkey").exit(0);
    let rekey = "audit rekey log --audit-key akey --new-audit-key bkey";
    session.vram(rekey).exit(0);
    assert_eq!(name("log"), first);
    // Another worker's is not taken over.
    session
        .vram(&format!("{} --worker-id w2", SEAL.replace("akey", "bkey")))
        .exit(1)
        .refuses("'vram/w2' was asked for");
}

/// What a power failure takes is no fault; what it cannot leave is named.
#[test]
fn lost_tiles_are_counted_and_what_cannot_be_read_is_named() {
    let session = logged();
    let path = |name: &str| session.path(&format!("log/{name}"));
    std::fs::remove_dir_all(path("tile")).unwrap();
    let verify = "audit verify log --trust akey.pub";
    session
        .vram(verify)
        .exit(0)
        .says("tiles        1 tile lost");
    let json = session.vram(&format!("{verify} --json")).exit(0);
    let report = json.json("vram-residency/audit-verify/v1");
    assert_eq!(
        (&report["good"], &report["tiles_lost"]),
        (&true.into(), &1.into())
    );
    // The next writer makes it again.
    session.vram(SEAL).exit(0);
    let good = session.vram(verify).exit(0);
    assert!(!good.out.contains("lost"), "{good:?}");
    let handover = path("handover.000000000999.json");
    std::os::unix::fs::symlink("elsewhere", handover).unwrap();
    let text = session.read("log/events.jsonl");
    session.write("log/events.jsonl", &text.replacen("\"m1\"", "\"m2\"", 1));
    let wrong = session.vram(verify).exit(3);
    let named = "wrong        handover.000000000999.json: unreadable_file";
    wrong
        .says(named)
        .says("edited: the line is not what was written");
    session
        .vram("audit show log")
        .exit(3)
        .tells("unreadable_file");
    session
        .vram("audit tail log")
        .exit(3)
        .tells("unreadable_file");
}

#[test]
fn another_key_is_foreign_and_bad_names_are_refused() {
    let session = logged();
    session.vram("key new --signing other").exit(0);
    let other = session.vram("key public other").exit(0).out;
    session
        .vram(&format!("audit verify log --trust {}", other.trim()))
        .exit(3)
        .says("foreign_checkpoint");
    session
        .vram(&SEAL.replace("akey", "other"))
        .exit(1)
        .refuses("name the key that signs it");
    session
        .vram("audit verify nowhere --trust akey.pub")
        .exit(1)
        .refuses("cannot read the log nowhere");
    session
        .vram("audit verify log --trust model")
        .exit(1)
        .refuses("model");
    session.vram("audit verify log").exit(2).refuses("--trust");
    session
        .vram("seal model --device sim --audit log")
        .exit(2)
        .refuses("--audit-key");
}

// requirement: AU-3, AU-12
#[test]
fn a_failed_verification_is_in_the_log() {
    let session = logged();
    session
        .vram(
            "seal model --device sim:1GiB,flip=4096:0 --key-file key --audit log --audit-key akey",
        )
        .exit(3);
    let shown = session
        .vram("audit show log --event seal.verification_failed")
        .exit(0);
    assert_eq!(shown.out.lines().count(), 1, "{shown:?}");
    session
        .vram("audit verify log --trust akey.pub --closed")
        .exit(0);
}

/// Of all that a command does, from its start to the last byte that it wipes.
// requirement: AU-17
#[test]
fn the_events_of_a_request_are_found_by_its_id() {
    let session = logged();
    let nonce = "00112233445566778899aabbccddeeff";
    let attest = format!(
        "attest model --device sim --key-file key --nonce {nonce} --audit log --audit-key akey"
    );
    let before = session.vram("audit tail log -n 1 --json").exit(0);
    let before: serde_json::Value = serde_json::from_str(&before.out).unwrap();
    let before = before["seq"].as_u64().unwrap();
    session
        .vram(&format!("{attest} --correlation-id request-7"))
        .exit(0);
    let refused = SEAL.replace("sim ", "sim:16KiB ");
    session
        .vram(&format!("{refused} --correlation-id other"))
        .exit(1);
    let shown = |words: &str| -> Vec<serde_json::Value> {
        let shown = session.vram(&format!("audit show log --json {words}"));
        let lines = shown.exit(0).out;
        let read = |line: &str| serde_json::from_str(line).unwrap();
        lines.lines().map(read).collect()
    };
    let of_request = shown("--correlation request-7");
    for event in ["vram.sealed", "vram.attested", "vram.deallocated"] {
        let there = of_request.iter().any(|line| line["event_type"] == event);
        assert!(there, "{event}: {of_request:?}");
    }
    assert!(!shown("--correlation other").is_empty());
    // What a manager recorded since is of one or of the other.
    let since = shown("")
        .into_iter()
        .filter(|line| line["seq"].as_u64() > Some(before));
    let own = |line: &serde_json::Value| line["audit_id"] == 0;
    let unknown: Vec<_> = since
        .filter(|line| !own(line) && line["correlation_id"].is_null())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(shown("--correlation request"), [] as [serde_json::Value; 0]);
}
