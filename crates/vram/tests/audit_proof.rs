//! Proofs, changed keys and yardsticks of logs: `vram audit prove`, `check`,
//! `rekey`, and what `verify` is held against.

mod common;

use std::process::Command;
use std::sync::Arc;

use common::Session;
use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{Body, Event, Sink as _};
use vram_residency::clock::{SystemClock, Timestamp};
use vram_residency::key::SigningKey;

const SEAL: &str = "seal model --device sim --key-file key --id m1 --audit log --audit-key akey";

/// A log of two runs, the checkpoint after the first, and public keys.
fn logged() -> Session {
    let session = Session::new();
    session.file("model", 20_000);
    session.vram("key new key").exit(0);
    for key in ["akey", "bkey", "okey"] {
        session.vram(&format!("key new --signing {key}")).exit(0);
        let public = session.vram(&format!("key public {key}")).exit(0).out;
        session.write(&format!("{key}.pub"), &public);
    }
    session.vram(SEAL).exit(0);
    session.write("early", &session.read("log/checkpoint"));
    session.vram(SEAL).exit(0);
    session
}

fn key_id(session: &Session, key: &str) -> String {
    let public = session
        .vram(&format!("key public {key} --json"))
        .exit(0)
        .json("vram-residency/public-key/v1");
    public["key_id"].as_str().unwrap().to_owned()
}

// requirement: AU-10, AU-16
#[test]
fn one_event_is_proved_to_somebody_without_the_log() {
    let session = logged();
    let prove = "audit prove log --line 1 --trust akey.pub";
    session.vram(prove).exit(0).says("proof        event 1, ");
    let proof = session.vram(&format!("{prove} --json")).exit(0);
    proof.json("vram-residency/audit-inclusion/v1");
    session.write("proof.json", &proof.out);
    session.write("kept", &session.read("log/checkpoint"));
    std::fs::remove_dir_all(session.path("log")).unwrap();
    let check = "audit check proof.json --trust akey.pub";
    session
        .vram(check)
        .exit(0)
        .says("event        1 ")
        .says("checkpoint   the proof's own")
        .says("result       good");
    let proved = session
        .vram(&format!("{check} --checkpoint kept --json"))
        .exit(0)
        .json("vram-residency/audit-proved/v1");
    assert_eq!(
        (&proved["proved"], &proved["seq"]),
        (&"event".into(), &1.into())
    );
    session
        .vram(&format!("{check} --checkpoint early"))
        .exit(3)
        .refuses("the proof leads to a checkpoint of");
    session
        .vram("audit check proof.json --trust bkey.pub")
        .exit(3)
        .refuses("signed by none of the trusted keys");
    let forged = proof
        .out
        .replacen("\\\"gpu_device\\\":0", "\\\"gpu_device\\\":1", 1);
    let forged = if forged == proof.out {
        proof.out.replacen("\\\"info\\\"", "\\\"error\\\"", 1)
    } else {
        forged
    };
    assert_ne!(forged, proof.out);
    session.write("forged.json", &forged);
    session
        .vram("audit check forged.json --trust akey.pub")
        .exit(3)
        .refuses("does not lead to the signed root");
}

// requirement: AU-16
#[test]
fn growth_from_a_kept_checkpoint_is_proved() {
    let session = logged();
    let prove = "audit prove log --since early --trust akey.pub";
    session.vram(prove).exit(0).says("proof        growth, ");
    let proof = session.vram(&format!("{prove} --json")).exit(0);
    session.write("growth.json", &proof.out);
    let check = "audit check growth.json --trust akey.pub";
    session.vram(check).exit(0).says("growth       from ");
    let proved = session
        .vram(&format!("{check} --json"))
        .exit(0)
        .json("vram-residency/audit-proved/v1");
    assert_eq!(proved["proved"], "growth");
    assert!(proved["earlier_size"].as_u64() < proved["size"].as_u64());
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let session = logged();
    session
        .vram("audit prove log --line 9999 --trust akey.pub")
        .exit(1)
        .refuses("event 9999 is not under the checkpoint");
    session
        .vram("audit prove log --trust akey.pub")
        .exit(2)
        .refuses("--line");
    session
        .vram("audit prove log --line 1 --since early --trust akey.pub")
        .exit(2)
        .refuses("cannot be used with");
    session
        .vram("audit prove log --since akey.pub --trust akey.pub")
        .exit(2)
        .refuses("earlier checkpoint");
    session.write("no.json", "{}");
    session
        .vram("audit check no.json --trust akey.pub")
        .exit(1)
        .refuses("not a proof");
    let text = session.read("log/events.jsonl");
    session.write("log/events.jsonl", &text.replacen("\"m1\"", "\"m2\"", 1));
    session
        .vram("audit prove log --line 1 --trust akey.pub")
        .exit(3)
        .refuses("nothing in it can be proved");
}

/// What is held against a log may be no checkpoint of it: that is a wrong
/// argument, and no word about the log. Anybody can sign one of its name.
#[test]
fn a_yardstick_of_another_log_is_an_argument_error() {
    let session = logged();
    let verify = "audit verify log --trust akey.pub --earlier";
    session.vram(&format!("{verify} early")).exit(0);
    let other = SEAL.replace(
        "--audit log --audit-key akey",
        "--audit other --audit-key bkey",
    );
    session.vram(&other).exit(0);
    for command in [verify, "audit prove log --trust akey.pub --since"] {
        session
            .vram(&format!("{command} other/checkpoint"))
            .exit(2)
            .refuses("other/checkpoint: ")
            .refuses("signed by none of the trusted keys")
            .refuses("says nothing about the log; name the key");
    }
    // A log that is wrong is told so all the same.
    let events = session.read("log/events.jsonl");
    session.write(
        "log/events.jsonl",
        &events.replacen("audit.opened", "audit.closed", 1),
    );
    session
        .vram(&format!("{verify} other/checkpoint"))
        .exit(3)
        .says("edited: the line is not what was written")
        .says("not checked  --earlier: ")
        .says("signed by none of the trusted keys");
    session.write("log/events.jsonl", &events);
    // Of another log it is under a key that is believed, too.
    session
        .vram(&format!("{verify} other/checkpoint --trust bkey.pub"))
        .exit(2)
        .refuses("the earlier checkpoint is of the log 'vram/worker/");
    let named = SEAL.replace("--audit log", "--audit third --worker-id w2");
    session.vram(&named).exit(0);
    session
        .vram(&format!("{verify} third/checkpoint"))
        .exit(2)
        .refuses("of the log 'vram/w2/")
        .refuses("says nothing about the log");
}

/// The log as it was before its key was changed takes its place: who trusts the key
/// after the change is told, and nobody else can be.
// requirement: KD-10, AU-16
#[test]
fn a_rollback_to_before_a_change_of_the_key_is_told_to_who_trusts_both() {
    let session = logged();
    let (log, before) = (session.path("log"), session.path("before"));
    let copied = Command::new("cp").arg("-a").args([&log, &before]).status();
    assert!(copied.unwrap().success());
    let rekey = "audit rekey log --audit-key akey --new-audit-key bkey";
    session.vram(rekey).exit(0);
    session.vram(&SEAL.replace("akey", "bkey")).exit(0);
    session.write("kept", &session.read("log/checkpoint"));
    let verify = "audit verify log --trust akey.pub --earlier kept";
    session.vram(verify).exit(0);
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(&before, &log).unwrap();
    session
        .vram(verify)
        .exit(2)
        .refuses("before a change to it");
    let both = format!("{verify} --trust bkey.pub");
    session.vram(&both).exit(3).says("rolled_back");
    session
        .vram("audit prove log --since kept --trust akey.pub --trust bkey.pub")
        .exit(3)
        .refuses("nothing in it can be proved");
}

/// Attestations carry the log's checkpoint to whoever asks for one.
// requirement: AU-16
#[test]
fn an_attestation_is_a_yardstick_too() {
    let session = logged();
    session.vram("key new --signing --test tkey").exit(0);
    let nonce = "00112233445566778899aabbccddeeff";
    let attest =
        format!("attest model --device sim --key-file key --nonce {nonce} --sign-key tkey --json");
    let logged = format!("{attest} --audit log --audit-key akey");
    session.write("attested.json", &session.vram(&logged).exit(0).out);
    let verify = "audit verify log --trust akey.pub --earlier attested.json";
    session.vram(verify).exit(0).says("result       good");
    let proof = "audit prove log --since attested.json --trust akey.pub --json";
    session.write("growth.json", &session.vram(proof).exit(0).out);
    session
        .vram("audit check growth.json --trust akey.pub")
        .exit(0);
    let newest = session.read("log/events.jsonl");
    let lines: Vec<&str> = newest.lines().collect();
    session.write("log/events.jsonl", &format!("{}\n", lines[..3].join("\n")));
    session.write("log/checkpoint", &session.read("early"));
    session.vram(verify).exit(3).says("rolled_back");
    session.write("bare.json", &session.vram(&attest).exit(0).out);
    session
        .vram("audit verify log --trust akey.pub --earlier bare.json")
        .exit(2)
        .refuses("an attestation without a checkpoint");
}

// requirement: KD-10
#[test]
fn a_log_goes_over_to_another_key_and_the_old_one_can_be_revoked() {
    let session = logged();
    let rekey = "audit rekey log --audit-key akey --new-audit-key bkey";
    let report = session
        .vram(&format!("{rekey} --json"))
        .exit(0)
        .json("vram-residency/audit-rekey/v1");
    assert_eq!(report["new_key_id"], key_id(&session, "bkey").as_str());
    session
        .vram(rekey)
        .exit(1)
        .refuses("was replaced; open it with the new one");
    session
        .vram(SEAL)
        .exit(1)
        .refuses("was replaced; open it with the new one");
    session.vram(&SEAL.replace("akey", "bkey")).exit(0);
    for key in ["akey", "bkey"] {
        session
            .vram(&format!("audit verify log --trust {key}.pub --closed"))
            .exit(0);
    }
    let old = key_id(&session, "akey");
    session
        .vram(&format!(
            "key revoke {old} --operator okey --out revoked.json"
        ))
        .exit(0);
    let with = |keys: &str| {
        session.vram(&format!(
            "audit verify log {keys} --trust okey.pub --revoked revoked.json"
        ))
    };
    with("--trust bkey.pub").exit(0).says("result       good");
    with("--trust akey.pub").exit(3).says("foreign_checkpoint");
    session
        .vram("audit verify log --trust bkey.pub --revoked revoked.json")
        .exit(3)
        .refuses("revoked.json");
    session
        .vram("audit rekey nowhere --audit-key akey --new-audit-key bkey")
        .exit(1)
        .refuses("cannot read the log nowhere");
}

/// A log of akey that went over to bkey, its checkpoint of before, and proofs of an
/// event and of growth that who has bkey made.
fn rekeyed() -> Session {
    let session = logged();
    let rekey = "audit rekey log --audit-key akey --new-audit-key bkey";
    session.vram(rekey).exit(0);
    session.vram(&SEAL.replace("akey", "bkey")).exit(0);
    let prove = "audit prove log --line 1 --trust bkey.pub --json";
    session.write("event.json", &session.vram(prove).exit(0).out);
    let prove = "audit prove log --since early --trust akey.pub --json";
    session.write("growth.json", &session.vram(prove).exit(0).out);
    session
}

/// As the help says: keys that the log named as its successors are believed, too.
// requirement: KD-10, AU-16
#[test]
fn a_proof_of_a_rekeyed_log_is_believed_by_who_trusts_the_older_key() {
    let session = rekeyed();
    let kept = session.read("log/checkpoint");
    std::fs::remove_dir_all(session.path("log")).unwrap();
    session.write("kept", &kept);
    for line in [
        "audit check event.json --trust akey.pub",
        "audit check event.json --trust bkey.pub",
        "audit check event.json --trust akey.pub --checkpoint kept",
        "audit check growth.json --trust akey.pub",
        "audit check growth.json --trust akey.pub --checkpoint kept",
    ] {
        session.vram(line).exit(0).says("result       good");
    }
    session
        .vram("audit check event.json --trust okey.pub")
        .exit(3)
        .refuses("signed by none of the trusted keys");
}

/// Revokes a key in revoked.json; its id.
fn revoke(session: &Session, key: &str) -> String {
    let id = key_id(session, key);
    let line = format!("key revoke {id} --operator okey --out revoked.json");
    session.vram(&line).exit(0);
    id
}

// requirement: KD-10
#[test]
fn a_proof_under_a_revoked_key_is_refused_by_that_name() {
    let session = rekeyed();
    let id = revoke(&session, "bkey");
    for key in ["akey", "bkey"] {
        session
            .vram(&format!(
                "audit check event.json --trust {key}.pub --trust okey.pub --revoked revoked.json"
            ))
            .exit(3)
            .refuses(&format!("signed by key {id}, which is revoked"));
    }
}

/// The rule of 'vram verify': no older list, and none by who is on the one before.
// requirement: KD-10
#[test]
fn an_older_list_of_revoked_keys_is_refused_where_the_newer_one_is_named() {
    let session = rekeyed();
    let unknown = "key revoke 0011223344556677 --operator okey --out revoked.json";
    session.vram(unknown).exit(0);
    session.write("old.json", &session.read("revoked.json"));
    revoke(&session, "bkey");
    let trust = "--trust bkey.pub --trust okey.pub";
    for what in ["verify log", "check event.json", "prove log --line 1"] {
        let line = format!("audit {what} {trust} --revoked");
        let old = session.vram(&format!("{line} old.json --revoked-seen revoked.json"));
        old.exit(3).refuses("believed already");
        session.vram(&format!("{line} revoked.json")).exit(3);
        let only = session.vram(&format!("audit {what} {trust} --revoked-seen old.json"));
        only.exit(2).refuses("--revoked");
    }
    session
        .vram(&format!(
            "audit verify log {trust} --revoked old.json --revoked-seen old.json"
        ))
        .exit(0);
    // A list by a key of the log, and by the one that signs lists.
    session
        .vram("key revoke 7766554433221100 --operator akey --out thiefs.json")
        .exit(0);
    let keys = "audit verify log --trust akey.pub";
    session
        .vram(&format!("{keys} --revoked thiefs.json"))
        .exit(0);
    session
        .vram(&format!(
            "{keys} --revoked thiefs.json --revoked-by okey.pub"
        ))
        .exit(3)
        .refuses("no trusted key");
    session
        .vram(&format!("{keys} --revoked old.json --revoked-by okey.pub"))
        .exit(0);
    session
        .vram(&format!("{keys} --revoked-by okey.pub"))
        .exit(2)
        .refuses("--revoked");
    // A newer list that leaves out who is on the last one.
    let other = "key revoke 7766554433221100 --operator okey --out short.json";
    session.vram(other).exit(0);
    session
        .vram(&format!(
            "audit verify log {trust} --revoked short.json --revoked-seen old.json"
        ))
        .exit(3)
        .refuses("short.json: the list leaves out key 0011223344556677");
}

/// An event that somebody put behind the last checkpoint of a killed writer, and
/// that the next writer adopted.
// requirement: AU-9, AU-16
#[test]
fn an_adopted_event_is_marked_and_not_proved() {
    let session = logged();
    let dir = session.path("killed");
    let key = SigningKey::from_file(&session.path("akey")).unwrap();
    let origin = Origin::new("vram/worker").unwrap();
    let options = LogOptions::new(origin, "worker".parse().unwrap());
    let log = LogSink::open(&dir, options, key, Arc::new(SystemClock::new())).unwrap();
    let body = Body::VramDeallocated {
        shard_id: "m1".parse().unwrap(),
        freed_bytes: 1,
        remaining_used: 0,
        gpu_device: 0,
    };
    let event = |audit_id| Event {
        audit_id,
        timestamp: Timestamp::from_nanos(1_800_000_000_000_000_000),
        worker_id: "worker".parse().unwrap(),
        severity: body.severity(),
        correlation_id: None,
        body: body.clone(),
    };
    log.record(&event(1)).unwrap();
    log.flush().unwrap();
    let checkpoint = session.read("killed/checkpoint");
    let covered = session.read("killed/events.jsonl");
    drop(log);
    let (json, time) = (
        serde_json::to_string(&event(2)).unwrap(),
        event(2).timestamp,
    );
    let forged = format!("{{\"seq\":2,\"time\":\"{time}\",{}\n", &json[1..]);
    session.write("killed/checkpoint", &checkpoint);
    session.write("killed/events.jsonl", &(covered + &forged));
    std::fs::remove_dir_all(dir.join("tile")).unwrap();
    session
        .vram(&SEAL.replace("--audit log", "--audit killed"))
        .exit(0);
    let verify = "audit verify killed --trust akey.pub";
    session.vram(verify).exit(0).says("unproved     1 event ");
    session
        .vram("audit prove killed --line 2 --trust akey.pub")
        .exit(1)
        .refuses("event 2 was adopted");
    for line in [0, 1, 3] {
        let prove = format!("audit prove killed --line {line} --trust akey.pub");
        session.vram(&prove).exit(0);
    }
    for command in ["audit show killed", "audit tail killed -n 1000"] {
        let shown = session.vram(command).exit(0).out;
        let marked = shown.lines().filter(|line| line.ends_with("unproved)"));
        let marked: Vec<&str> = marked.collect();
        assert_eq!(marked.len(), 1, "{shown}");
        assert!(marked[0].contains(" 2 vram.deallocated "), "{shown}");
        // The line as it stands and one member more.
        let shown = session.vram(&format!("{command} --json")).exit(0).out;
        let mark = ",\"adopted\":true}";
        let marked: Vec<&str> = shown
            .lines()
            .filter_map(|line| line.strip_suffix(mark))
            .collect();
        assert_eq!(marked, [forged.trim_end().trim_end_matches('}')], "{shown}");
    }
}

/// A newer version has events and fields that this one does not know: `show` and `tail`
/// give them as they stand, and what the log is worth does not change.
#[test]
fn events_of_another_version_are_shown_and_marked() {
    let session = logged();
    let text = session.read("log/events.jsonl");
    let newer = text
        .replacen(
            "\"event_type\":\"vram.sealed\"",
            "\"event_type\":\"vram.new\",\"more\":[7]",
            1,
        )
        .replacen(
            "\"event_type\":\"seal.verified\"",
            "\"event_type\":\"seal.verified\",\"since\":8",
            1,
        );
    session.write("log/events.jsonl", &newer);
    for command in ["audit show log", "audit tail log -n 1000"] {
        let shown = session.vram(command).exit(0).says(" since=8").out;
        let marked = shown
            .lines()
            .filter(|line| line.ends_with(" (not known to this version)"));
        let marked: Vec<&str> = marked.collect();
        assert_eq!(marked.len(), 1, "{shown}");
        assert!(marked[0].contains(" vram.new "), "{shown}");
        assert!(marked[0].contains(" more=[7]"), "{shown}");
    }
    let shown = session.vram("audit show log --event vram. --json").exit(0);
    shown.says("\"event_type\":\"vram.new\"");
    // Here somebody else wrote them.
    let verify = "audit verify log --trust akey.pub";
    session.vram(verify).exit(3).says("edited");
}

#[test]
fn show_names_the_lines_that_it_cannot_read_and_refuses_what_no_event_has() {
    let session = logged();
    let text = session.read("log/events.jsonl");
    let broken = text.replacen("\"event_type\":\"vram.sealed\"", "\"event_type\":7", 1);
    let line = 1 + text
        .lines()
        .position(|line| line.contains("vram.sealed"))
        .unwrap();
    session.write("log/events.jsonl", &broken);
    for command in [
        "audit show log",
        "audit tail log -n 3",
        "audit show log --json",
    ] {
        session.vram(command).exit(3).tells(&format!(
            "events.jsonl:{line}: unreadable: the line is no event"
        ));
    }
    session.write("log/events.jsonl", text.trim_end());
    session.vram("audit show log").exit(0);
    std::fs::create_dir(session.path("nothing")).unwrap();
    for command in ["audit show nothing", "audit tail nothing"] {
        let refused = session.vram(command).exit(1);
        refused.refuses("there is no log in nothing");
    }
    for (bad, why) in [
        ("--event sealed", "there is no such event"),
        ("--event seal", "audit. "),
        ("--since yesterday", "write UTC as"),
        ("--until 2026-13", "write UTC as"),
    ] {
        session
            .vram(&format!("audit show log {bad}"))
            .exit(2)
            .refuses(why);
    }
}
