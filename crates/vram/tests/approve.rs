//! `vram approve`, and loads that only take what it listed: sessions of an
//! operator with a model that the real tool signed.
//!
//! requirement: PM-15

mod common;

use std::path::{Path, PathBuf};

use common::{Outcome, Session};

const APPROVE: &str =
    "approve model --signature p256.sig --trust p256.pub --sign-key a.sign --out allow.toml";
const SEAL: &str = "seal model/weights.bin --device sim --allow allow.toml --trust a.pub";

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../../testdata/signed").join(name)
}

/// An operator with a signed model and a key for lists.
fn operator() -> Session {
    let session = Session::new();
    std::fs::create_dir_all(session.path("model/tokenizer")).unwrap();
    for name in [
        "p256.sig",
        "p256.pub",
        "p384.pub",
        "chain.sig",
        "chain-root.pem",
        "authority-root.pem",
        "model/config.json",
        "model/empty.txt",
        "model/tokenizer-2.json",
        "model/tokenizer/vocab.txt",
        "model/weights.bin",
    ] {
        std::fs::copy(fixture(name), session.path(name)).unwrap();
    }
    signer(&session, "a");
    session
}

fn signer(session: &Session, name: &str) {
    session
        .vram(&format!("key new --signing --test {name}.sign"))
        .exit(0);
    let public = session.vram(&format!("key public {name}.sign")).exit(0).out;
    session.write(&format!("{name}.pub"), &public);
}

/// Of many files it is said which one is not approved.
#[test]
fn the_file_of_a_group_that_is_not_approved_is_named() {
    let session = operator();
    session.vram(APPROVE).exit(0);
    session.file("other.bin", 20_000);
    let seal = SEAL.replace("weights.bin", "weights.bin other.bin --group");
    for more in ["", "--retries 1", "--device sim:1GiB,ordinal=1"] {
        let outcome = session.vram(&format!("{seal} {more}")).exit(3);
        let names = outcome
            .err
            .starts_with("vram: error: other.bin: policy violation");
        assert!(names, "{outcome:#?}");
    }
}

/// Lets the operator 'op' revoke the key 'a' in revoked.json.
fn revoke_the_approver(session: &Session) {
    let id = session.vram("key public a.sign --json").exit(0);
    let id = id.json("vram-residency/public-key/v1")["key_id"].clone();
    let id = id.as_str().unwrap();
    let line = format!("key revoke {id} --operator op.sign --out revoked.json");
    session.vram(&line).exit(0);
}

fn approved() -> Session {
    let session = operator();
    session.vram(APPROVE).exit(0);
    session
}

/// The refusal of one file that is as it should be and another that is not.
fn refused(session: &Session, line: &str, code: i32, what: &str) -> Outcome {
    session.vram(line).exit(code).refuses(what)
}

#[test]
fn a_signed_model_is_listed_once_and_then_loaded_by_its_digest() {
    let session = operator();
    session
        .vram(APPROVE)
        .exit(0)
        .says("signer    key:sha256:")
        .says("approved  5 files, 20032 bytes")
        .says("list      allow.toml (key ");
    let list = session.read("allow.toml");
    let digest = session.vram("digest model/weights.bin").exit(0).out;
    let digest = digest.split_whitespace().next().unwrap();
    assert!(list.contains(digest), "{list}");
    session.vram(SEAL).exit(0).says("signer    key:sha256:");
    // What nobody signed stays out, and leaves nothing behind.
    session.file("other", 20_000);
    let line = SEAL.replace("model/weights.bin", "other");
    refused(&session, &line, 3, "only signed models may be sealed")
        .tells("vram approve")
        .tells("nothing is left on the device: 0 of");
    // An existing list is not replaced.
    refused(&session, APPROVE, 1, "allow.toml exists");
}

#[test]
fn the_signer_stands_in_record_receipt_attestation_and_log() {
    let session = approved();
    session.vram("key new w.key").exit(0);
    session.vram("key new --signing log.key").exit(0);
    signer(&session, "w");
    let papers = "--key-file w.key --record r.json --receipt c.json --sign-key w.sign";
    session
        .vram(&format!("{SEAL} {papers} --audit log --audit-key log.key"))
        .exit(0);
    let signer = "key:sha256:";
    let record: serde_json::Value = serde_json::from_str(&session.read("r.json")).unwrap();
    assert_eq!(record["schema"], "vram-residency/record/v2");
    assert!(record["signer"].as_str().unwrap().starts_with(signer));
    assert!(session.read("c.json").contains(signer));
    let log = session.read("log/events.jsonl");
    let sealed = log.lines().find(|line| line.contains("\"vram.sealed\""));
    assert!(sealed.unwrap().contains(signer), "{log}");
    session
        .vram("verify r.json model/weights.bin --key-file w.key")
        .exit(0)
        .says("model signer key:sha256:");
    session
        .vram("verify c.json model/weights.bin --trust w.pub --simulated")
        .exit(0)
        .says("model signer key:sha256:");
    let nonce = "00112233445566778899aabbccddeeff";
    let attest = format!(
        "attest model/weights.bin --device sim --nonce {nonce} --sign-key w.sign \
         --allow allow.toml --trust a.pub"
    );
    session.vram(&attest).exit(0).says(signer);
    session.file("other", 5);
    let line = attest.replace("model/weights.bin", "other");
    refused(&session, &line, 3, "only signed models");
    // Another signer in the record: the tag covers it.
    let digits = record["signer"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap();
    let forged = session.read("r.json").replace(digits, &"0".repeat(64));
    session.write("r.json", &forged);
    let line = "verify r.json model/weights.bin --key-file w.key";
    refused(&session, line, 3, "tag");
}

#[test]
fn the_refusal_is_a_critical_event() {
    let session = approved();
    session.vram("key new --signing log.key").exit(0);
    session.file("other", 20_000);
    let line = SEAL.replace("model/weights.bin", "other");
    let line = format!("{line} --audit log --audit-key log.key");
    refused(&session, &line, 3, "only signed models");
    let log = session.read("log/events.jsonl");
    let event = log
        .lines()
        .find(|line| line.contains("\"policy.violation\""));
    let event: serde_json::Value = serde_json::from_str(event.unwrap()).unwrap();
    assert_eq!(event["policy"], "signed_models");
    assert_eq!(event["action_taken"], "seal_refused");
    assert_eq!(event["severity"], "critical");
    assert!(!log.contains("\"vram.sealed\""), "{log}");
}

/// A worker that may not start leaves a critical event.
// requirement: AU-7
#[test]
fn a_list_that_is_not_believed_is_in_the_log() {
    for words in ["was revoked", "signature is wrong"] {
        let session = approved();
        session.vram("key new --signing log.key").exit(0);
        signer(&session, "op");
        revoke_the_approver(&session);
        let keys = ["a.pub", "op.pub"].map(|name| session.read(name));
        let keys = keys.map(|key| format!("'{}'", key.trim())).join(", ");
        let mut policy = format!("require = 'signed'\nallow = ['allow.toml']\ntrust = [{keys}]\n");
        if words == "was revoked" {
            policy.push_str("revoked = 'revoked.json'\n");
        } else {
            let list = session.read("allow.toml").replacen("20000", "20001", 1);
            session.write("allow.toml", &list);
        }
        session.write("policy.toml", &policy);
        let line = "seal model/weights.bin --device sim --policy policy.toml \
                    --audit log --audit-key log.key";
        refused(&session, line, 3, words);
        let log = session.read("log/events.jsonl");
        let mut events = log
            .lines()
            .filter(|line| line.contains("\"policy.violation\""));
        let event: serde_json::Value = serde_json::from_str(events.next().unwrap()).unwrap();
        assert_eq!(event["policy"], "signed_models");
        assert_eq!(event["action_taken"], "worker_startup_blocked");
        assert_eq!(event["severity"], "critical");
        assert!(
            event["violation"].as_str().unwrap().contains(words),
            "{event}"
        );
        assert!(events.next().is_none(), "{log}");
    }
}

#[test]
fn a_model_that_is_not_the_signed_one_is_not_listed() {
    let session = operator();
    let weights = std::fs::read(session.path("model/weights.bin")).unwrap();
    let mut changed = weights.clone();
    changed[19_999] ^= 1;
    std::fs::write(session.path("model/weights.bin"), &changed).unwrap();
    refused(&session, APPROVE, 3, "weights.bin is not as it was signed");
    std::fs::write(session.path("model/weights.bin"), &weights).unwrap();
    session.write("model/more", "x");
    refused(&session, APPROVE, 3, "more was not signed");
    std::fs::remove_file(session.path("model/more")).unwrap();
    std::fs::remove_file(session.path("model/config.json")).unwrap();
    refused(
        &session,
        APPROVE,
        3,
        "config.json was signed and is missing",
    );
    std::os::unix::fs::symlink("/etc/passwd", session.path("model/config.json")).unwrap();
    refused(&session, APPROVE, 3, "config.json is a symbolic link").tells("cp -rL");
    let line = APPROVE.replace("p256.pub", "p384.pub");
    refused(&session, &line, 3, "which is not trusted");
    session.write("bad.sig", "{}");
    let line = APPROVE.replace("p256.sig", "bad.sig");
    refused(&session, &line, 1, "not a model signature");
    let line = APPROVE.replace("p256.pub", "a.pub");
    refused(&session, &line, 1, "PEM");
    assert!(!session.path("allow.toml").exists());
    refused(&session, &APPROVE.replace("--trust p256.pub", ""), 2, "");
}

// requirement: PM-15
#[test]
fn a_snapshot_of_a_cache_is_approved_and_sealed() {
    let session = operator();
    let snapshot = session.path("hub/models--a--b/snapshots/0123abc");
    std::fs::create_dir_all(snapshot.join("tokenizer")).unwrap();
    let blobs = session.path("hub/models--a--b/blobs");
    std::fs::create_dir(&blobs).unwrap();
    for (name, up) in [
        ("config.json", ""),
        ("empty.txt", ""),
        ("tokenizer-2.json", ""),
        ("tokenizer/vocab.txt", "../"),
        ("weights.bin", ""),
    ] {
        let blob = name.replace('/', "-");
        std::fs::rename(session.path("model").join(name), blobs.join(&blob)).unwrap();
        let target = format!("{up}../../blobs/{blob}");
        std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
    }
    let place = "hub/models--a--b/snapshots/0123abc";
    let line = APPROVE.replacen("model", place, 1);
    session.vram(&line).exit(0).says("approved  5 files");
    let line = SEAL.replace("model/weights", &format!("{place}/weights"));
    session.vram(&line).exit(0);
}

#[test]
fn certificates_need_their_root_and_the_name_that_is_asked_for() {
    let session = operator();
    let line = "approve model --signature chain.sig --trust-root chain-root.pem \
                --sign-key a.sign --out allow.toml";
    refused(
        &session,
        &format!("{line} --identity other@example.com"),
        3,
        "not the required one",
    );
    let other = line.replace("chain-root", "authority-root");
    refused(&session, &other, 3, "only has the name of ours");
    session
        .vram(&format!("{line} --identity models@example.com --json"))
        .exit(0)
        .quiet()
        .json("vram-residency/approved/v1");
    session.vram(SEAL).exit(0).says(":models@example.com");
}

#[test]
fn lists_are_believed_only_under_a_trusted_key() {
    let session = approved();
    signer(&session, "b");
    let other = SEAL.replace("a.pub", "b.pub");
    refused(&session, &other, 3, "which is not trusted");
    let list = session.read("allow.toml");
    for (from, to) in [
        ("bytes = 20000", "bytes = 20001"),
        ("key:sha256:", "key:sha256:0"),
        ("weights.bin", "Weights.bin"),
        ("schema = ", "extra = 1\nschema = "),
    ] {
        assert!(list.contains(from), "{from}");
        session.write("allow.toml", &list.replace(from, to));
        let outcome = session.vram(SEAL);
        assert!(outcome.err.contains("allow.toml: "), "{outcome:#?}");
        let changed = from.starts_with("bytes") || from.starts_with("weights");
        let _ = outcome.exit(if changed { 3 } else { 1 });
    }
    refused(&session, &SEAL.replace(" --trust a.pub", ""), 2, "--trust");
}

#[test]
fn a_policy_file_says_what_is_required() {
    let session = approved();
    let key = session.read("a.pub").trim().to_owned();
    let policy = |text: &str| session.write("policy.toml", &text.replace("KEY", &key));
    let seal = "seal model/weights.bin --device sim --policy policy.toml";
    let other = seal.replace("model/weights.bin", "other");
    session.file("other", 100);
    let lists = "allow = ['allow.toml']\ntrust = ['KEY']\n";
    policy(&format!("require = 'signed'\n{lists}"));
    session.vram(seal).exit(0).says("signer    key:");
    refused(&session, &other, 3, "only signed models");
    policy(&format!("require = 'nothing'\n{lists}"));
    session.vram(seal).exit(0).says("signer    key:");
    let outcome = session.vram(&other).exit(0);
    assert!(!outcome.out.contains("signer"), "{outcome:#?}");
    // The approver's key was revoked.
    signer(&session, "op");
    let op = session.read("op.pub").trim().to_owned();
    let lists = lists.replace("'KEY'", &format!("'KEY', '{op}'"));
    revoke_the_approver(&session);
    policy(&format!(
        "require = 'signed'\nrevoked = 'revoked.json'\n{lists}"
    ));
    refused(&session, seal, 3, "was revoked");
    // A list without that key, where the last one is named.
    session.write("seen.json", &session.read("revoked.json"));
    let other = "key revoke 0011223344556677 --operator op.sign --out short.json";
    session.vram(other).exit(0);
    let short = format!("require = 'signed'\nrevoked = 'short.json'\n{lists}");
    policy(&short);
    session.vram(seal).exit(0);
    policy(&format!("revoked_seen = 'seen.json'\n{short}"));
    refused(
        &session,
        seal,
        3,
        "short.json: the list of revoked keys: the list leaves out",
    );
    for (text, what) in [
        ("", "require"),
        ("require = 'sometimes'", "line 1: "),
        (
            "require = 'signed'\nalow = ['x']",
            "line 2: unknown field `alow`",
        ),
        (
            "require = 'signed'\nrequire = 'nothing'",
            "line 2: duplicate key",
        ),
        ("require = 'signed'", "names no allow-list"),
        (
            "require = 'signed'\nallow = ['allow.toml']",
            "no key to trust",
        ),
        (
            "require = 'signed'\nallow = ['allow.toml']\ntrust = ['00']",
            "line 3: ",
        ),
        (
            "require = 'signed'\nallow = ['no.toml']\ntrust = ['KEY']",
            "no.toml: ",
        ),
        ("require = [[[[[[[[", "line 1: "),
    ] {
        policy(text);
        refused(&session, seal, 1, what);
    }
    session.write("policy.toml", &"# long\n".repeat(10_000));
    refused(&session, seal, 1, "longer than 65536 bytes");
    refused(
        &session,
        &format!("{seal} --allow allow.toml --trust a.pub"),
        2,
        "",
    );
}
