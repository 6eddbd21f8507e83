//! Receipts: believed with the right key only, and an implementation of its
//! own makes and accepts the same bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "test code"
)]

use std::process::Command;

use serde_json::Value;
use vram_residency::clock::Timestamp;
use vram_residency::key::{RootKey, SigningKey, VerifyingKey};
use vram_residency::receipt::{Certificate, Receipt, ReceiptError, Trust};
use vram_residency::seal::Record;
use vram_residency::verify::check_record;

const VECTORS: &str = include_str!("../testdata/receipt_vectors.json");
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/receipt_reference.py");

fn file() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    let digits = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap(), 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn root(hex: &Value) -> RootKey {
    RootKey::from_token(&bytes(hex)).unwrap()
}

fn keys() -> (SigningKey, SigningKey) {
    let file = file();
    let key = |name: &str| SigningKey::new(&root(&file[name])).unwrap();
    (key("worker_secret"), key("operator_secret"))
}

fn receipt(vector: &Value) -> Receipt {
    Receipt::from_json(&vector["receipt"].to_string()).unwrap()
}

fn trust(keys: &[VerifyingKey]) -> Trust<'_> {
    Trust {
        keys,
        simulated: true,
    }
}

fn vectors() -> Vec<Value> {
    let vectors = file()["vectors"].as_array().unwrap().clone();
    assert_eq!(vectors.len(), 7);
    vectors
}

#[test]
fn signing_gives_the_checked_in_vectors() {
    let (worker, operator) = keys();
    for vector in vectors() {
        let name = vector["name"].as_str().unwrap();
        let expected = &vector["receipt"];
        let record = Record::from_json(&expected["record"].to_string()).unwrap();
        let authentic = check_record(&record, &root(&vector["secret"])).unwrap();
        let certificate = expected.get("certificate").map(|c| {
            let time = |name: &str| Timestamp::from_nanos(c[name].as_u64().unwrap());
            let id = record.worker_id.clone();
            let (from, to) = (time("not_before"), time("not_after"));
            Certificate::issue(&operator, worker.public(), id, from, to).unwrap()
        });
        let made = Receipt::sign(&authentic, &worker, certificate).unwrap();
        let made: Value = serde_json::from_str(&made.to_json().unwrap()).unwrap();
        assert_eq!(made, *expected, "{name}");
    }
}

#[test]
fn only_the_worker_and_who_certified_it_are_believed() {
    let (worker, operator) = keys();
    let stranger = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
    let stranger = SigningKey::new(&stranger).unwrap();
    for vector in vectors() {
        let receipt = receipt(&vector);
        let by_worker = [worker.public().clone()];
        let checked = receipt.check(&trust(&by_worker)).unwrap();
        let record = checked.record();
        assert!(checked.describes(&record.digest, record.vram_bytes));
        assert!(!checked.describes(&record.digest, record.vram_bytes ^ 1));
        let by_operator = [operator.public().clone()];
        let certified = vector["receipt"].get("certificate").is_some();
        assert_eq!(receipt.check(&trust(&by_operator)).is_ok(), certified);
        for none in [&[][..], &[stranger.public().clone()]] {
            let error = receipt.check(&trust(none)).unwrap_err();
            assert!(matches!(error, ReceiptError::Untrusted { .. }), "{error}");
        }
    }
}

#[test]
fn a_simulated_device_is_refused_unless_it_is_asked_for() {
    let (worker, _) = keys();
    let keys = [worker.public().clone()];
    let strict = Trust {
        keys: &keys,
        simulated: false,
    };
    let mut kinds = Vec::new();
    for vector in vectors() {
        let simulated = vector["receipt"]["record"]["device_kind"] == "simulated";
        let receipt = receipt(&vector);
        let answer = receipt.check(&strict).map(|_| ());
        let expected = if simulated {
            Err(ReceiptError::Simulated)
        } else {
            Ok(())
        };
        assert_eq!(answer, expected);
        kinds.push(simulated);
    }
    assert!(kinds.contains(&true) && kinds.contains(&false));
}

/// Every character of every receipt, replaced: none is believed as it is.
#[test]
fn every_changed_character_is_refused() {
    let (worker, operator) = keys();
    let keys = [worker.public().clone(), operator.public().clone()];
    let mut changes = 0;
    for vector in vectors() {
        let text = vector["receipt"].to_string();
        let good = receipt(&vector);
        assert!(good.check(&trust(&keys)).is_ok());
        for at in 0..text.len() {
            for by in [1, 2, 16] {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= by;
                let Ok(changed) = String::from_utf8(changed) else {
                    continue;
                };
                changes += 1;
                let believed = Receipt::from_json(&changed)
                    .is_ok_and(|read| read != good && read.check(&trust(&keys)).is_ok());
                assert!(!believed, "byte {at}: {changed}");
            }
        }
    }
    assert!(changes > 10_000, "{changes}");
}

#[test]
fn a_certificate_covers_its_key_worker_and_time_only() {
    let (worker, operator) = keys();
    let vector = &vectors()[0];
    let record = Record::from_json(&vector["receipt"]["record"].to_string()).unwrap();
    let authentic = check_record(&record, &root(&vector["secret"])).unwrap();
    let at = record.sealed_at.nanos();
    let issue = |key: &SigningKey, worker_id: &str, from: u64, to: u64| {
        let (from, to) = (Timestamp::from_nanos(from), Timestamp::from_nanos(to));
        let id = worker_id.parse().unwrap();
        Certificate::issue(&operator, key.public(), id, from, to).unwrap()
    };
    let id = record.worker_id.as_str();
    let good = issue(&worker, id, at, at);
    let signed = Receipt::sign(&authentic, &worker, Some(good)).unwrap();
    let keys = [operator.public().clone()];
    assert_eq!(signed.check(&trust(&keys)).unwrap().record(), &record);
    for bad in [
        issue(&operator, id, at, at),
        issue(&worker, "somebody-else", at, at),
        issue(&worker, id, at + 1, u64::MAX),
        issue(&worker, id, 0, at - 1),
    ] {
        let refused = Receipt::sign(&authentic, &worker, Some(bad.clone()));
        assert!(
            matches!(refused, Err(ReceiptError::Scope { .. })),
            "{bad:?}"
        );
        // The same put into a receipt that is signed already.
        let mut forged: Value = serde_json::from_str(&signed.to_json().unwrap()).unwrap();
        forged["certificate"] = serde_json::to_value(bad).unwrap();
        let forged = Receipt::from_json(&forged.to_string()).unwrap();
        let answer = forged.check(&trust(&keys)).map(|_| ());
        assert!(
            matches!(answer, Err(ReceiptError::Scope { .. })),
            "{answer:?}"
        );
    }
}

#[test]
fn strange_texts_are_no_receipts() {
    let good = vectors()[0]["receipt"].clone();
    for (field, value) in [
        ("schema", "vram-residency/receipt/v2".into()),
        ("extra", 1.into()),
        ("public_key", "00".repeat(32).into()),
        ("signature", "AB".repeat(64).into()),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let error = Receipt::from_json(&bad.to_string()).unwrap_err();
        assert!(matches!(error, ReceiptError::Format { .. }), "{field}");
    }
    let long = format!("{good}{}", " ".repeat(128 << 10));
    assert!(Receipt::from_json(&long).is_err());
}

#[test]
fn an_independent_program_agrees() {
    let has = Command::new("python3")
        .args(["-c", "import cryptography"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: python3 with the package `cryptography` is not here;");
        eprintln!("SKIPPED: receipts are compared with the checked-in vectors only");
        return;
    }
    let python = |args: &[&str]| {
        let output = Command::new("python3").arg(REFERENCE).args(args).output();
        output.unwrap().status.success()
    };
    assert!(python(&["check"]), "the vectors are not the reference's");
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("receipt.json");
    let (worker, operator) = keys();
    let [worker, operator] = [worker, operator].map(|key| key.public().to_string());
    let path_text = path.to_str().unwrap().to_owned();
    let receipt = &vectors()[1]["receipt"];
    std::fs::write(&path, receipt.to_string()).unwrap();
    assert!(python(&["verify", &path_text, &worker]));
    assert!(python(&["verify", &path_text, &operator]));
    assert!(!python(&["verify", &path_text, &"11".repeat(32)]));
    let mut forged = receipt.clone();
    forged["record"]["gpu_device"] = 7.into();
    std::fs::write(&path, forged.to_string()).unwrap();
    assert!(!python(&["verify", &path_text, &worker]));
}
