//! Receipts, attestations and keys: sessions of a worker, an operator and a
//! verifier.
//!
//! requirement: VP-006, KD-10

mod common;

use std::collections::BTreeSet;

use common::{Session, reference};
use vram_residency::clock::Timestamp;
use vram_residency::key::SigningKey;
use vram_residency::receipt::Revocations;

const NONCE: &str = "00112233445566778899aabbccddeeff";
const SEAL: &str = "seal model --device sim --receipt receipt.json --sign-key w.sign";

/// A worker with a key for tests, and its public key.
fn worker() -> Session {
    let session = Session::new();
    session.file("model", 20_000);
    session.vram("key new --signing --test w.sign").exit(0);
    public(&session, "w");
    session
}

fn public(session: &Session, name: &str) {
    let text = session.vram(&format!("key public {name}.sign")).exit(0).out;
    session.write(&format!("{name}.pub"), &text);
}

fn key_id(session: &Session, name: &str) -> String {
    let shown = session.vram(&format!("key public {name}.sign --json"));
    let shown = shown.exit(0).json("vram-residency/public-key/v1");
    shown["key_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_receipt_is_checked_with_a_public_key_and_no_other() {
    let session = worker();
    session.vram(SEAL).exit(0).says("receipt   receipt.json");
    session
        .vram("verify receipt.json model --trust w.pub --simulated")
        .exit(0)
        .quiet()
        .says("signature    ok (key ")
        .says("contents     ok (model)")
        .says("not checked  VRAM")
        .says("not checked  a GPU");
    session
        .vram("verify receipt.json --trust w.pub")
        .exit(3)
        .refuses("simulated device");
    session.vram("key new --signing --test other.sign").exit(0);
    public(&session, "other");
    session
        .vram("verify receipt.json model --trust other.pub --simulated")
        .exit(3)
        .refuses("no trusted key");
    session
        .vram("verify receipt.json model")
        .exit(2)
        .refuses("add --trust");
    let other = session.file("other", 20_001);
    assert_eq!(other.len(), 20_001);
    session
        .vram("verify receipt.json other --trust w.pub --simulated")
        .exit(3)
        .refuses("not the file that was sealed");
    let forged = session.read("receipt.json").replace("20000", "20001");
    session.write("receipt.json", &forged);
    session
        .vram("verify receipt.json --trust w.pub --simulated")
        .exit(3)
        .refuses("signature is wrong");
}

#[test]
fn each_file_has_its_receipt() {
    let session = worker();
    session.file("second", 5000);
    let both = SEAL.replace("model", "model second");
    session.vram(&both).exit(0);
    assert_eq!(session.read("receipt.json").lines().count(), 2);
    session
        .vram("verify receipt.json model second --trust w.pub --simulated")
        .exit(0);
    session
        .vram("verify receipt.json second model --trust w.pub --simulated")
        .exit(3)
        .refuses("not the file");
    session
        .vram("verify receipt.json model --trust w.pub --simulated")
        .exit(2)
        .refuses("2 receipt(s), and 1 file(s)");
}

// requirement: PM-1
#[test]
fn receipts_of_one_model_are_a_set() {
    let session = worker();
    session.file("second", 5000);
    let both = format!("{} --group", SEAL.replace("model", "model second"));
    session.vram(&both).exit(0);
    let first = session.read("receipt.json");
    session.vram(&both).exit(0);
    let text = session.read("receipt.json");
    let (lines, old): (Vec<_>, Vec<_>) = (text.lines().collect(), first.lines().collect());
    let [a, b] = [lines[0], lines[1]];
    let verify = "verify receipt.json --trust w.pub --simulated";
    session
        .vram(&format!("{verify} --json"))
        .exit(0)
        .json("vram-residency/verify-signed/v1");
    session
        .vram(verify)
        .exit(0)
        .says("group        complete, 2 members in order");
    for (lines, words) in [
        (vec![b], "shard 1 of 2 of the model has no receipt"),
        (vec![a], "shard 2 of 2 of the model has no receipt"),
        (vec![a, b, b], "receipt 3 is receipt 2 once more"),
        (vec![b, a], "receipt 1 is of shard 2 of the model"),
        (
            vec![a, old[1]],
            "receipt 2 is not of the model of receipt 1",
        ),
    ] {
        session.write("receipt.json", &lines.join("\n"));
        session.vram(verify).exit(3).refuses(words);
    }
}

#[test]
fn a_production_key_signs_for_no_simulated_device() {
    let session = worker();
    session.vram("key new --signing p.sign").exit(0);
    let production = SEAL.replace("w.sign", "p.sign");
    session
        .vram(&production)
        .exit(1)
        .refuses("production scope");
    assert!(!session.path("receipt.json").exists());
    let attest = format!("attest model --device sim --nonce {NONCE} --sign-key p.sign");
    session.vram(&attest).exit(1).refuses("production scope");
}

#[test]
fn a_nonce_is_answered_once() {
    let session = worker();
    let attest = format!("attest model --device sim --nonce {NONCE} --sign-key w.sign");
    session.vram(&format!("{attest} --out answer.json")).exit(0);
    let verify = format!("verify answer.json --trust w.pub --simulated --nonce {NONCE}");
    session
        .vram(&verify)
        .exit(0)
        .says("resident     20000 of 20000 bytes in device memory")
        .says("not checked  the log: the worker keeps none, or went on without it");
    let checked = session.vram(&format!("{verify} model --json")).exit(0);
    let checked = checked.json("vram-residency/verify-signed/v1");
    let facts = &checked["checked"][0]["facts"];
    assert_eq!(facts["nonce"], NONCE);
    assert_eq!(facts["device"]["kind"], "simulated");
    let replayed = verify.replace(NONCE, &NONCE.replace('0', "1"));
    session.vram(&replayed).exit(3).refuses("this nonce");
    session
        .vram("verify answer.json --trust w.pub --simulated")
        .exit(2)
        .refuses("--nonce");
    session
        .vram("attest model --device sim --nonce 0011 --sign-key w.sign")
        .exit(2)
        .refuses("16 to 64 bytes");
    let damaged = attest.replace("sim ", "sim:1MiB,flip=4096:0 ");
    session.vram(&damaged).exit(3).refuses("model");
}

#[test]
fn an_attestation_points_into_the_log() {
    let session = worker();
    session.vram("key new --signing log.sign").exit(0);
    public(&session, "log");
    let attest = format!(
        "attest model --device sim --nonce {NONCE} --sign-key w.sign --audit log --audit-key log.sign"
    );
    let answer = session.vram(&attest).exit(0);
    session.write("answer.json", &answer.out);
    let verify = format!("verify answer.json --trust w.pub --simulated --nonce {NONCE}");
    let checked = session.vram(&verify).exit(0).out;
    assert!(!checked.contains("the log"), "{checked}");
    let answer = answer.json("vram-residency/attested/v1");
    let checkpoint = answer["facts"]["checkpoint"].as_str().unwrap();
    session.write("kept", checkpoint);
    session
        .vram("audit verify log --trust log.pub --earlier kept --closed")
        .exit(0);
    session
        .vram("audit show log --event vram.attested")
        .exit(0)
        .says(NONCE);
}

#[test]
fn a_list_of_revoked_keys_from_a_time_that_has_not_come_is_refused() {
    let session = worker();
    session.vram(SEAL).exit(0);
    session.vram("key new --signing op.sign").exit(0);
    public(&session, "op");
    let operator = SigningKey::from_file(&session.path("op.sign")).unwrap();
    let last = Timestamp::from_nanos(u64::MAX);
    let list = Revocations::issue(&operator, last, BTreeSet::new()).unwrap();
    session.write("revoked.json", &list.to_json().unwrap());
    for line in [
        "verify receipt.json --simulated --trust w.pub --trust op.pub --revoked revoked.json",
        "key revoke 0011223344556677 --operator op.sign --out revoked.json",
    ] {
        session.vram(line).exit(3).refuses("and it is only");
    }
}

#[test]
fn an_operator_certifies_and_revokes() {
    let session = worker();
    session.vram("key new --signing op.sign").exit(0);
    public(&session, "op");
    session
        .vram("key certify w.pub --operator op.sign --worker-id w1 --out w1.cert")
        .exit(0);
    session
        .vram("key certify w.pub --operator op.sign --worker-id w1 --days 0 --out none.cert")
        .exit(2)
        .refuses("--days");
    let seal = format!("{SEAL} --certificate w1.cert --worker-id");
    // Its own papers, before anything is loaded: no damage is proved.
    let refused = session.vram(&format!("{seal} w2")).exit(1);
    refused.refuses("it certifies another worker");
    assert!(!session.path("receipt.json").exists());
    let signed = session.read("w1.cert");
    let (head, tail) = signed.split_once("\"not_after\":").unwrap();
    session.write("forged.cert", &format!("{head}\"not_after\":1{tail}"));
    for command in [
        SEAL,
        "attest model --device sim --nonce 00112233445566778899aabbccddeeff --sign-key w.sign",
    ] {
        let forged = format!("{command} --certificate forged.cert --worker-id w1");
        let refused = session.vram(&forged).exit(1);
        refused.refuses("the certificate's signature is wrong");
    }
    session.vram(&format!("{seal} w1")).exit(0);
    let verify = "verify receipt.json model --trust op.pub --simulated";
    session
        .vram(verify)
        .exit(0)
        .says("certificate  ok (operator ");
    // Who trusts the worker's own key hears nothing of an operator whom nobody trusts.
    let direct = "verify receipt.json model --trust w.pub --simulated";
    let direct = session.vram(direct).exit(0).out;
    assert!(!direct.contains("certificate"), "{direct}");
    // Another key is revoked first, then this one.
    let revoke = "--operator op.sign --out revoked.json";
    session
        .vram(&format!("key revoke 0011223344556677 {revoke}"))
        .exit(0)
        .says("1 key(s)");
    let verify = format!("{verify} --revoked revoked.json");
    session.vram(&verify).exit(0);
    let id = key_id(&session, "w");
    session
        .vram(&format!("key revoke {id} {revoke}"))
        .exit(0)
        .says("2 key(s)");
    session.vram(&verify).exit(3).refuses("was revoked");
    // A list of somebody else's proves nothing.
    let foreign = verify.replace("--trust op.pub", "--trust w.pub");
    session.vram(&foreign).exit(3).refuses("no trusted key");
    session
        .vram("key certify w.pub --operator op.sign --worker-id w1 --out w1.cert")
        .exit(1)
        .refuses("exists");
}

/// Each list is added to the one before, also when several are made at a time.
// requirement: KD-10
#[test]
fn no_revocation_is_lost_to_another_one() {
    let session = worker();
    session.vram("key new --signing op.sign").exit(0);
    let ids: Vec<_> = (0..8).map(|n| format!("{n:016x}")).collect();
    std::thread::scope(|scope| {
        for id in &ids {
            let revoke = format!("key revoke {id} --operator op.sign --out revoked.json");
            let session = &session;
            scope.spawn(move || session.vram(&revoke).exit(0));
        }
    });
    let list = session.read("revoked.json");
    for id in ids {
        assert!(list.contains(&id), "{id} is not in {list}");
    }
}

/// Papers that one command cannot all write replace none.
#[test]
fn papers_replace_their_own_kind_and_no_paper_of_the_same_seal() {
    let session = worker();
    session
        .vram(&format!("{SEAL} --record ./receipt.json"))
        .exit(2)
        .refuses("name the same file");
    session.vram(SEAL).exit(0);
    let receipt = session.read("receipt.json");
    // The name is free when it is looked at, and cannot be given.
    let refused = session
        .vram(&format!("{SEAL} --record /proc/r.json"))
        .exit(1);
    refused.refuses("/proc/r.json");
    assert_eq!(session.read("receipt.json"), receipt);
    let attest = format!("attest model --device sim --nonce {NONCE} --sign-key w.sign");
    session
        .vram(&format!("{attest} --out receipt.json"))
        .exit(1)
        .refuses("is no attestation");
    assert_eq!(session.read("receipt.json"), receipt);
    session.vram(&format!("{attest} --out answer.json")).exit(0);
    let answer = session.read("answer.json");
    session.vram(&format!("{attest} --out answer.json")).exit(0);
    assert_ne!(session.read("answer.json"), answer);
    let seal = SEAL.replace("receipt.json", "answer.json");
    session.vram(&seal).exit(1).refuses("is no receipt");
}

// requirement: KD-10
#[test]
fn a_lost_sealing_key_is_revoked_by_its_id() {
    let session = worker();
    let made = session.vram("key new seal.key --json").exit(0);
    let id = made.json("vram-residency/key/v1")["key_id"].clone();
    let id = id.as_str().unwrap();
    session.vram("key id seal.key").exit(0).says(id);
    session.vram("key new --signing op.sign").exit(0);
    session.vram("key new --signing op2.sign").exit(0);
    for name in ["op", "op2"] {
        public(&session, name);
    }
    let seal = "seal model --device sim --key-file seal.key --record r.json";
    let verify = "verify r.json model --key-file seal.key --trust op.pub --revoked revoked.json";
    let revoke = |id: &str| format!("key revoke {id} --operator op.sign --out revoked.json");
    session.vram(&revoke("0011223344556677")).exit(0);
    let old = session.read("revoked.json");
    session.write("old.json", &old);
    // Whatever start of a worker sealed.
    for _ in 0..2 {
        session.vram(seal).exit(0);
        session.write("revoked.json", &old);
        session.vram(verify).exit(0);
        session.vram(&revoke(id)).exit(0);
        session.vram(verify).exit(3).refuses("was revoked");
        let tag_only = verify.replace(" model ", " --tag-only ");
        session.vram(&tag_only).exit(3).refuses("was revoked");
    }
    // An older list, and one of an operator who was revoked.
    session.write("seen.json", &session.read("revoked.json"));
    session.write("revoked.json", &old);
    let seen = format!("{verify} --revoked-seen seen.json");
    session.vram(&seen).exit(3).refuses("believed already");
    let op = key_id(&session, "op");
    session
        .vram(&format!(
            "key revoke {op} --operator op2.sign --out seen.json"
        ))
        .exit(3)
        .refuses("no trusted key");
    session
        .vram(&format!(
            "key revoke {op} --operator op2.sign --out two.json"
        ))
        .exit(0);
    std::fs::remove_file(session.path("revoked.json")).unwrap();
    session.vram(&revoke("0011223344556677")).exit(0);
    // Kept since op2 was trusted.
    let two = seen.replace("seen.json", "two.json");
    session.vram(&two).exit(3).refuses("was revoked");
    session
        .vram(&revoke(&op))
        .exit(2)
        .refuses("cannot revoke itself");
}

/// As 'vram key id --help' says: the id of a sealing key ends records, and a receipt
/// ends with its signing key or the key_id of its record.
// requirement: KD-10
#[test]
fn a_receipt_does_not_end_with_the_id_of_a_sealing_key() {
    let session = worker();
    session.vram("key new seal.key").exit(0);
    session.vram("key new --signing op.sign").exit(0);
    public(&session, "op");
    let seal = format!("{SEAL} --key-file seal.key --record r.json");
    session.vram(&seal).exit(0);
    let trust = "--trust op.pub --revoked revoked.json";
    let receipt = format!("verify receipt.json model --trust w.pub --simulated {trust}");
    let record = format!("verify r.json model --key-file seal.key {trust}");
    let id = session.vram("key id seal.key").exit(0).out;
    let record_id: serde_json::Value = serde_json::from_str(&session.read("r.json")).unwrap();
    for (id, of_record, of_receipt) in [
        (id.trim(), 3, 0),
        (record_id["key_id"].as_str().unwrap(), 3, 3),
        (&key_id(&session, "w"), 0, 3),
    ] {
        let revoke = format!("key revoke {id} --operator op.sign --out revoked.json");
        session.vram(&revoke).exit(0);
        session.vram(&record).exit(of_record);
        session.vram(&receipt).exit(of_receipt);
        std::fs::remove_file(session.path("revoked.json")).unwrap();
    }
    let help = session.vram("key id --help").exit(0);
    let help = help.says("Receipts and attestations are checked without it");
    help.says("'vram key public --json'");
}

#[test]
fn keys_of_one_kind_do_not_pass_for_another() {
    let session = worker();
    session.vram("key new seal.key").exit(0);
    session
        .vram("seal model --device sim --key-file w.sign")
        .exit(1)
        .refuses("hex digits");
    for line in [
        "key public seal.key",
        "seal model --device sim --receipt r.json --sign-key seal.key",
        "seal model --device sim --audit log --audit-key seal.key",
        "key certify w.pub --operator seal.key --worker-id w --out w.cert",
    ] {
        session.vram(line).exit(1).refuses("it is a sealing key");
    }
    let shown = session.vram("key public w.sign --json").exit(0);
    let shown = shown.json("vram-residency/public-key/v1");
    assert_eq!(shown["scope"], "test");
    session
        .vram("key new --test x.key")
        .exit(2)
        .refuses("--signing");
    session
        .vram("key new --signing w.sign")
        .exit(1)
        .refuses("never overwritten");
    session
        .vram("seal model --device sim --receipt model --sign-key w.sign")
        .exit(1)
        .refuses("not replaced");
    assert_eq!(std::fs::read(session.path("model")).unwrap().len(), 20_000);
}

#[test]
fn an_independent_program_believes_what_the_command_wrote() {
    let session = worker();
    session.vram(SEAL).exit(0);
    let attest = format!("attest model --device sim --nonce {NONCE} --sign-key w.sign");
    session.vram(&format!("{attest} --out answer.json")).exit(0);
    let key = session.read("w.pub");
    let key = key.trim();
    let Some(receipt) = reference(&session, &["verify", "--simulated", "receipt.json", key]) else {
        return;
    };
    receipt.exit(0).says("good");
    let answer = ["verify", "--simulated", "answer.json", key, NONCE];
    reference(&session, &answer).unwrap().exit(0).says("good");
    let replayed = ["verify", "--simulated", "answer.json", key, "ff"];
    reference(&session, &replayed).unwrap().exit(1);
    let forged = session.read("receipt.json").replace("20000", "20001");
    session.write("receipt.json", &forged);
    let unasked = reference(&session, &["verify", "receipt.json", key]).unwrap();
    unasked.exit(1).tells("a simulated device");
    let forged = ["verify", "--simulated", "receipt.json", key];
    reference(&session, &forged).unwrap().exit(1);
}
