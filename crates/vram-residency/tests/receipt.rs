//! Receipts: believed with the right key only, and an implementation of its
//! own makes and accepts the same bytes.

#[path = "common/python.rs"]
mod python;

use std::collections::BTreeSet;
use std::process::Command;

use serde::Serialize;
use serde_json::Value;
use vram_residency::clock::Timestamp;
use vram_residency::key::{KeyId, RootKey, Scope, SigningKey, VerifyingKey};
use vram_residency::receipt::{
    Attested, Certificate, Nonce, REVOCATIONS_SKEW, Receipt, ReceiptError, Revocations, Signer,
    Trust,
};
use vram_residency::seal::Record;
use vram_residency::verify::check_record;

const VECTORS: &str = include_str!("../testdata/receipt_vectors.json");
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/receipt_reference.py");

/// After every list of revoked keys in these tests.
const LATER: Timestamp = Timestamp::from_nanos(u64::MAX);

fn file() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    let digits = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap(), 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn root(hex: &Value) -> RootKey {
    test_listener::plant(&bytes(hex));
    RootKey::from_token(&bytes(hex)).unwrap()
}

fn operator() -> SigningKey {
    SigningKey::new(&root(&file()["operator_secret"])).unwrap()
}

fn worker(scope: Scope) -> SigningKey {
    SigningKey::scoped(&root(&file()["worker_secret"]), scope).unwrap()
}

/// The worker's key for the device of this record.
fn signer_of(record: &Value) -> SigningKey {
    worker(match record["device_kind"].as_str() {
        Some("cuda") => Scope::Production,
        _ => Scope::Test,
    })
}

/// Both keys of the worker, and the operator's.
fn everybody() -> [VerifyingKey; 3] {
    let worker = |scope| worker(scope).public().clone();
    [
        worker(Scope::Production),
        worker(Scope::Test),
        operator().public().clone(),
    ]
}

fn receipt(vector: &Value) -> Receipt {
    Receipt::from_json(&vector["receipt"].to_string()).unwrap()
}

fn trust(keys: &[VerifyingKey]) -> Trust<'_> {
    Trust {
        keys,
        simulated: true,
        ..Trust::default()
    }
}

/// Whether a changed paper is believed under the operator, or says anything else to who
/// trusts the worker: for those the certificate beside the signature is nothing.
fn is_believed<P: PartialEq + Serialize>(
    (read, good): (&P, &P),
    keys: &[VerifyingKey; 3],
    check: impl Fn(&Trust<'_>) -> bool,
) -> bool {
    let bare = |paper: &P| {
        let mut paper = serde_json::to_value(paper).unwrap();
        let signed = paper["signed"].as_object_mut().unwrap();
        signed.remove("certificate");
        paper
    };
    let [_, _, operator] = keys;
    let by_operator = || check(&trust(std::slice::from_ref(operator)));
    let directly = || bare(read) != bare(good) && check(&trust(keys));
    read != good && (by_operator() || directly())
}

const fn signer<'a>(key: &'a SigningKey, certificate: Option<&'a Certificate>) -> Signer<'a> {
    Signer { key, certificate }
}

fn vectors() -> Vec<Value> {
    let vectors = file()["vectors"].as_array().unwrap().clone();
    assert_eq!(vectors.len(), 9);
    vectors
}

#[test]
fn signing_gives_the_checked_in_vectors() {
    let operator = operator();
    for vector in vectors() {
        let name = vector["name"].as_str().unwrap();
        let expected = &vector["receipt"];
        let record = Record::from_json(&expected["record"].to_string()).unwrap();
        let authentic = check_record(&record, &root(&vector["secret"])).unwrap();
        let worker = signer_of(&expected["record"]);
        let certificate = expected["signed"].get("certificate").map(|c| {
            let time = |name: &str| Timestamp::from_nanos(c[name].as_u64().unwrap());
            let id = record.worker_id.clone();
            let (from, to) = (time("not_before"), time("not_after"));
            Certificate::issue(&operator, worker.public(), id, from, to).unwrap()
        });
        let made = Receipt::sign(&authentic, &signer(&worker, certificate.as_ref())).unwrap();
        let made: Value = serde_json::from_str(&made.to_json().unwrap()).unwrap();
        assert_eq!(made, *expected, "{name}");
    }
}

#[test]
fn only_the_worker_and_who_certified_it_are_believed() {
    let operator = operator();
    let stranger = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
    let stranger = SigningKey::new(&stranger).unwrap();
    for vector in vectors() {
        let receipt = receipt(&vector);
        let worker = signer_of(&vector["receipt"]["record"]);
        let by_worker = [worker.public().clone()];
        let checked = receipt.check(&trust(&by_worker)).unwrap();
        let record = checked.record();
        assert!(checked.describes(&record.digest, record.vram_bytes));
        assert!(!checked.describes(&record.digest, record.vram_bytes ^ 1));
        let by_operator = [operator.public().clone()];
        let certified = vector["receipt"]["signed"].get("certificate").is_some();
        assert_eq!(receipt.check(&trust(&by_operator)).is_ok(), certified);
        for none in [&[][..], &[stranger.public().clone()]] {
            let error = receipt.check(&trust(none)).unwrap_err();
            assert!(matches!(error, ReceiptError::Untrusted { .. }), "{error}");
        }
    }
}

#[test]
fn a_simulated_device_is_refused_unless_it_is_asked_for() {
    let keys = everybody();
    let strict = Trust {
        keys: &keys,
        ..Trust::default()
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
    let keys = everybody();
    let mut changes = 0;
    for vector in vectors() {
        let text = vector["receipt"].to_string();
        let good = receipt(&vector);
        assert!(good.check(&trust(&keys)).is_ok());
        for at in 0..text.len() {
            for by in [1, 16] {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= by;
                let Ok(changed) = String::from_utf8(changed) else {
                    continue;
                };
                changes += 1;
                let believed = Receipt::from_json(&changed).is_ok_and(|read| {
                    is_believed((&read, &good), &keys, |trust| read.check(trust).is_ok())
                });
                assert!(!believed, "byte {at}: {changed}");
            }
        }
    }
    assert!(changes > 10_000, "{changes}");
}

/// One random drop, truncation, repetition or exchange of parts of a text.
fn mangled(text: &str, mut random: impl FnMut(usize) -> usize) -> String {
    let mut cuts = [0; 4].map(|_: usize| random(text.len() + 1));
    cuts.sort_unstable();
    let [a, b, c, d] = cuts;
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    match random(4) {
        0 => [part(0, a), part(b, text.len())].concat(),
        1 => part(0, a).to_owned(),
        2 => [part(0, b), part(a, text.len())].concat(),
        _ => [
            part(0, a),
            part(c, d),
            part(b, c),
            part(a, b),
            part(d, text.len()),
        ]
        .concat(),
    }
}

/// Parts of receipts and attestations dropped, cut off, repeated and exchanged.
#[test]
fn ten_thousand_mangled_papers_are_refused() {
    const SEED: u64 = 20_261_121;
    println!("seed {SEED}");
    let mut state = SEED;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 33) as usize % below
    };
    let (keys, vectors) = (everybody(), vectors());
    let mut changes = 0;
    while changes < 10_000 {
        let vector = &vectors[random(vectors.len())];
        for kind in ["receipt", "attested"] {
            let text = vector[kind].to_string();
            let changed = mangled(&text, &mut random);
            if changed == text {
                continue;
            }
            changes += 1;
            let believed = if kind == "receipt" {
                Receipt::from_json(&changed)
                    .is_ok_and(|read| read != receipt(vector) && read.check(&trust(&keys)).is_ok())
            } else {
                let (good, nonce) = attested(vector);
                Attested::from_json(&changed)
                    .is_ok_and(|read| read != good && read.check(&trust(&keys), &nonce).is_ok())
            };
            assert!(!believed, "{kind}: {changed}");
        }
    }
}

#[test]
fn a_certificate_covers_its_key_worker_and_time_only() {
    let operator = operator();
    let vector = &vectors()[0];
    let worker = signer_of(&vector["receipt"]["record"]);
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
    let signed = Receipt::sign(&authentic, &signer(&worker, Some(&good))).unwrap();
    let keys = [operator.public().clone()];
    assert_eq!(signed.check(&trust(&keys)).unwrap().record(), &record);
    for bad in [
        issue(&operator, id, at, at),
        issue(&worker, "somebody-else", at, at),
        issue(&worker, id, at + 1, u64::MAX),
        issue(&worker, id, 0, at - 1),
    ] {
        let refused = Receipt::sign(&authentic, &signer(&worker, Some(&bad)));
        assert!(
            matches!(refused, Err(ReceiptError::Scope { .. })),
            "{bad:?}"
        );
        // The same put into a receipt that is signed already.
        let mut forged: Value = serde_json::from_str(&signed.to_json().unwrap()).unwrap();
        forged["signed"]["certificate"] = serde_json::to_value(bad).unwrap();
        let forged = Receipt::from_json(&forged.to_string()).unwrap();
        let answer = forged.check(&trust(&keys)).map(|_| ());
        assert!(
            matches!(answer, Err(ReceiptError::Scope { .. })),
            "{answer:?}"
        );
    }
    // One that covers everything, in words that the operator never signed.
    let mut forged: Value = serde_json::from_str(&signed.to_json().unwrap()).unwrap();
    forged["signed"]["certificate"]["not_after"] = (at + 1).into();
    let forged = Receipt::from_json(&forged.to_string()).unwrap();
    let answer = forged.check(&trust(&keys)).map(|_| ());
    assert_eq!(answer, Err(ReceiptError::Certificate));
    // Nobody would believe what is signed under it, so nothing is.
    let mut words = serde_json::to_value(&good).unwrap();
    words["not_after"] = (at + 1).into();
    let words = Certificate::from_json(&words.to_string()).unwrap();
    let refused = Receipt::sign(&authentic, &signer(&worker, Some(&words)));
    assert_eq!(refused, Err(ReceiptError::Certificate));
}

#[test]
fn strange_texts_are_no_receipts() {
    let good = vectors()[0]["receipt"].clone();
    for (field, value) in [
        ("schema", "vram-residency/receipt/v2".into()),
        ("extra", 1.into()),
        ("signed", 1.into()),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let error = Receipt::from_json(&bad.to_string()).unwrap_err();
        assert!(matches!(error, ReceiptError::Format { .. }), "{field}");
    }
    for (field, value) in [
        ("extra", 1.into()),
        ("public_key", Value::from("00".repeat(32))),
        ("signature", "AB".repeat(64).into()),
    ] {
        let mut bad = good.clone();
        bad["signed"][field] = value;
        let error = Receipt::from_json(&bad.to_string()).unwrap_err();
        assert!(matches!(error, ReceiptError::Format { .. }), "{field}");
    }
    let long = format!("{good}{}", " ".repeat(128 << 10));
    assert!(Receipt::from_json(&long).is_err());
}

#[test]
fn an_independent_program_agrees() {
    let instead = "receipts are compared with the checked-in vectors only";
    let Some(python) = python::python("cryptography", instead) else {
        return;
    };
    let python = |args: &[&str]| {
        let output = Command::new(&python).arg(REFERENCE).args(args).output();
        output.unwrap().status.success()
    };
    assert!(python(&["check"]), "the vectors are not the reference's");
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("paper.json");
    let path_text = path.to_str().unwrap().to_owned();
    let operator = operator().public().to_string();
    for (at, vector) in vectors().iter().enumerate() {
        let worker = signer_of(&vector["receipt"]["record"]).public().to_string();
        let paper = if at % 2 == 0 { "attested" } else { "receipt" };
        let paper = &vector[paper];
        let nonce = paper["facts"]["nonce"].as_str().unwrap_or_default();
        std::fs::write(&path, paper.to_string()).unwrap();
        let verify =
            |key: &str, nonce: &str| python(&["verify", "--simulated", &path_text, key, nonce]);
        assert!(verify(&worker, nonce) && verify(&operator, nonce));
        assert!(!verify(&"11".repeat(32), nonce));
        assert!(nonce.is_empty() || !verify(&worker, &nonce[2..]));
        let is_cuda = signer_of(&vector["receipt"]["record"]).scope() == Scope::Production;
        assert_eq!(python(&["verify", &path_text, &worker, nonce]), is_cuda);
        for (once, twice) in [
            ("\"sequence\":", "\"sequence\":1"),
            ("\"sequence\":", "\"sequence\":1,\"sequence\":"),
        ] {
            std::fs::write(&path, paper.to_string().replace(once, twice)).unwrap();
            assert!(!verify(&worker, nonce), "{twice}");
        }
    }
}

/// Signed by a worker whose key is good, and said by no honest one.
#[test]
fn the_independent_program_refuses_what_is_not_sealed() {
    let instead = "signed contradictions are refused by the library's own code only";
    let Some(python) = python::python("cryptography", instead) else {
        return;
    };
    let forge = "\
import json, runpy, sys
path, out, sealed = sys.argv[1:]
sys.argv[1:] = ['check']
checker = runpy.run_path(path)
record = json.loads(checker['VECTORS'].read_text())['vectors'][0]['receipt']['record']
record['sealed'] = sealed == 'true'
print(json.dumps(checker['receipt'](record, False)), file=open(out, 'w'))
";
    let temp = tempfile::tempdir().unwrap();
    let paper = temp.path().join("paper.json");
    let worker = signer_of(&vectors()[0]["receipt"]["record"])
        .public()
        .to_string();
    for sealed in ["true", "false"] {
        let mut made = Command::new(&python);
        made.args(["-c", forge, REFERENCE]).arg(&paper).arg(sealed);
        assert!(made.status().unwrap().success());
        let mut check = Command::new(&python);
        check.args([REFERENCE, "verify", "--simulated"]);
        let output = check.arg(&paper).arg(&worker).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), sealed == "true", "{said}");
        assert_eq!(said.contains("not sealed"), sealed == "false", "{said}");
    }
}

fn attested(vector: &Value) -> (Attested, Nonce) {
    let text = vector["attested"].to_string();
    let nonce = vector["attested"]["facts"]["nonce"].as_str().unwrap();
    (Attested::from_json(&text).unwrap(), nonce.parse().unwrap())
}

// requirement: VP-006, API-F22
#[test]
fn attestations_of_the_vectors_are_believed_for_their_nonce_only() {
    let keys = everybody();
    for vector in vectors() {
        let (attested, nonce) = attested(&vector);
        let facts = attested.check(&trust(&keys), &nonce).unwrap().facts();
        assert_eq!(facts.digest, facts.record.digest);
        assert_eq!(
            serde_json::from_str::<Value>(&attested.to_json().unwrap()).unwrap(),
            vector["attested"]
        );
        let other = Nonce::new(&[7; 16]).unwrap();
        let replayed = attested.check(&trust(&keys), &other).map(drop);
        assert_eq!(replayed, Err(ReceiptError::Nonce));
        let unknown = attested.check(&trust(&[]), &nonce).map(drop);
        assert!(matches!(unknown, Err(ReceiptError::Untrusted { .. })));
        let simulated = vector["receipt"]["record"]["device_kind"] == "simulated";
        let strict = Trust {
            keys: &keys,
            ..Trust::default()
        };
        let strict = attested.check(&strict, &nonce).map(drop);
        let expected = if simulated {
            Err(ReceiptError::Simulated)
        } else {
            Ok(())
        };
        assert_eq!(strict, expected);
    }
}

#[test]
fn every_changed_character_of_an_attestation_is_refused() {
    let keys = everybody();
    let mut changes = 0;
    for vector in vectors() {
        let text = vector["attested"].to_string();
        let (good, nonce) = attested(&vector);
        for at in 0..text.len() {
            for by in [1, 16] {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= by;
                let Ok(changed) = String::from_utf8(changed) else {
                    continue;
                };
                changes += 1;
                let believed = Attested::from_json(&changed).is_ok_and(|read| {
                    is_believed((&read, &good), &keys, |trust| {
                        read.check(trust, &nonce).is_ok()
                    })
                });
                assert!(!believed, "byte {at}: {changed}");
            }
        }
    }
    assert!(changes > 10_000, "{changes}");
}

#[test]
fn a_production_key_does_not_sign_for_a_simulated_device() {
    let mut kinds = [0, 0];
    for vector in vectors() {
        let record = &vector["receipt"]["record"];
        let simulated = record["device_kind"] == "simulated";
        kinds[usize::from(simulated)] += 1;
        let record = Record::from_json(&record.to_string()).unwrap();
        let authentic = check_record(&record, &root(&vector["secret"])).unwrap();
        let answer = Receipt::sign(&authentic, &signer(&worker(Scope::Production), None));
        assert_eq!(answer.is_err(), simulated);
        if simulated {
            assert_eq!(answer.unwrap_err(), ReceiptError::Production);
        }
    }
    assert!(kinds.iter().all(|n| *n > 0), "{kinds:?}");
}

// requirement: KD-10
#[test]
fn a_revoked_worker_operator_or_sealing_key_is_believed_no_longer() {
    let list = file()["revocations"].to_string();
    let trusted = [operator().public().clone()];
    let read = Revocations::from_json(&list, &trusted, LATER).unwrap();
    assert_eq!(
        read.to_json().unwrap().parse::<Value>().unwrap(),
        file()["revocations"]
    );
    let stranger = Revocations::from_json(&list, &[], LATER).map(drop);
    assert!(matches!(stranger, Err(ReceiptError::Untrusted { .. })));
    let short = list.replacen("1700000000000000000", "1700000000000000001", 1);
    let forged = Revocations::from_json(&short, &trusted, LATER).map(drop);
    assert_eq!(forged, Err(ReceiptError::Signature));

    let keys = everybody();
    let vector = &vectors()[1];
    let receipt = receipt(vector);
    let worker = signer_of(&vector["receipt"]["record"]).public().id();
    let sealing = receipt.check(&trust(&keys)).unwrap().record().key_id;
    let by_operator = [operator().public().clone()];
    for (keys, revoked, hit) in [
        (&keys[..], worker, true),
        (&by_operator[..], operator().public().id(), true),
        // Who trusts the worker's own key asks for no operator's word.
        (&keys[..], operator().public().id(), false),
        (&keys[..], sealing, true),
        (&keys[..], *read.keys().first().unwrap(), false),
    ] {
        let list = Revocations::issue(&operator(), read.issued_at(), [revoked].into()).unwrap();
        let trust = Trust {
            revoked: Some(&list),
            ..trust(keys)
        };
        let answer = receipt.check(&trust);
        if let Ok(checked) = &answer {
            let vouched = checked.certificate().is_some();
            assert_eq!(vouched, revoked != operator().public().id());
        }
        let expected = if hit {
            Err(ReceiptError::Revoked { key_id: revoked })
        } else {
            Ok(())
        };
        assert_eq!(answer.map(drop), expected);
    }
}

/// A nonce is new, and so is the answer to it: a certificate that has ended counts no
/// more, whatever time the worker says it measured at. Who trusts the worker's own key
/// needs none.
// requirement: KD-10, API-F22
#[test]
fn an_answer_under_a_certificate_that_has_ended_is_not_believed() {
    let (mut certified, mut receipts) = (0, 0);
    for vector in vectors() {
        // When a receipt was signed, nothing but its own time tells.
        let keys = [operator().public().clone()];
        let late = Trust {
            now: Some(Timestamp::from_nanos(u64::MAX)),
            ..trust(&keys)
        };
        let sealed = receipt(&vector);
        let [answer, later] = [trust(&keys), late].map(|trust| sealed.check(&trust).is_ok());
        assert_eq!(answer, later);
        receipts += usize::from(answer);
        let signed = &vector["attested"]["signed"];
        let Some(ends) = signed["certificate"]["not_after"].as_u64() else {
            continue;
        };
        // One of the vectors never ends.
        let Some(after) = ends.checked_add(1) else {
            continue;
        };
        certified += 1;
        let (attested, nonce) = attested(&vector);
        let answer = |key: &SigningKey, now: Option<u64>| {
            let keys = [key.public().clone()];
            let trust = Trust {
                now: now.map(Timestamp::from_nanos),
                ..trust(&keys)
            };
            attested.check(&trust, &nonce).map(drop)
        };
        let (operator, worker) = (operator(), signer_of(&vector["receipt"]["record"]));
        for now in [None, Some(0), Some(ends)] {
            assert_eq!(answer(&operator, now), Ok(()), "{now:?}");
        }
        let ended = answer(&operator, Some(after));
        assert!(
            matches!(ended, Err(ReceiptError::Scope { .. })),
            "{ended:?}"
        );
        assert_eq!(answer(&worker, Some(after)), Ok(()));
    }
    assert!(certified > 0 && receipts > 0, "{certified} {receipts}");
}

/// A certificate is under no signature but its own: whoever hands a receipt on can add
/// one, and nobody takes it for the word of somebody who is trusted.
#[test]
fn a_certificate_by_a_stranger_vouches_for_nothing() {
    let stranger = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
    let stranger = SigningKey::new(&stranger).unwrap();
    for vector in vectors() {
        let worker = signer_of(&vector["receipt"]["record"]);
        let [direct, by_operator] = [&worker, &operator()].map(|key| [key.public().clone()]);
        let sealed = receipt(&vector);
        assert!(
            sealed
                .check(&trust(&direct))
                .unwrap()
                .certificate()
                .is_none()
        );
        if let Ok(checked) = sealed.check(&trust(&by_operator)) {
            assert_eq!(
                checked.certificate().unwrap().operator(),
                operator().public()
            );
        }
        let id = sealed
            .check(&trust(&direct))
            .unwrap()
            .record()
            .worker_id
            .clone();
        let (from, to) = (Timestamp::from_nanos(0), Timestamp::from_nanos(u64::MAX));
        let added = Certificate::issue(&stranger, worker.public(), id, from, to).unwrap();
        assert!(!trust(&by_operator).vouches(&added));
        let mut edited = vector["receipt"].clone();
        edited["signed"]["certificate"] = serde_json::to_value(&added).unwrap();
        let edited = Receipt::from_json(&edited.to_string()).unwrap();
        assert!(
            edited
                .check(&trust(&direct))
                .unwrap()
                .certificate()
                .is_none()
        );
        // Not even where nobody ever signed it.
        let mut broken = vector["receipt"].clone();
        broken["signed"]["certificate"] = serde_json::to_value(&added).unwrap();
        broken["signed"]["certificate"]["not_after"] = 1.into();
        let broken = Receipt::from_json(&broken.to_string()).unwrap();
        assert!(broken.check(&trust(&direct)).is_ok());
        let alone = edited.check(&trust(&by_operator)).map(drop);
        assert!(
            matches!(alone, Err(ReceiptError::Untrusted { .. })),
            "{alone:?}"
        );
    }
}

/// It would be newer than every list that follows, until its time comes.
// requirement: KD-10
#[test]
fn a_list_from_a_time_that_has_not_come_is_refused() {
    let trusted = [operator().public().clone()];
    let issued = Timestamp::from_nanos(1_700_000_000_000_000_000);
    let list = Revocations::issue(&operator(), issued, BTreeSet::new()).unwrap();
    let text = list.to_json().unwrap();
    let skew = u64::try_from(REVOCATIONS_SKEW.as_nanos()).unwrap();
    let at = |nanos| Revocations::from_json(&text, &trusted, Timestamp::from_nanos(nanos));
    for fine in [u64::MAX, issued.nanos(), issued.nanos() - skew] {
        assert_eq!(at(fine).as_ref(), Ok(&list), "{fine}");
    }
    for early in [issued.nanos() - skew - 1, 0] {
        let now = Timestamp::from_nanos(early);
        assert_eq!(at(early), Err(ReceiptError::Early { issued, now }));
    }
}

/// It was believed once: neither who is trusted now nor what the clock says now takes
/// that back. What was changed since was not.
// requirement: KD-10
#[test]
fn the_list_that_was_believed_last_needs_no_trust_of_today() {
    let key_id = signer_of_nobody(1);
    let ids = BTreeSet::from([key_id]);
    let list = Revocations::issue(&operator(), Timestamp::from_nanos(u64::MAX), ids).unwrap();
    let text = list.to_json().unwrap();
    let refused = Revocations::from_json(&text, &[], LATER);
    assert!(matches!(refused, Err(ReceiptError::Untrusted { .. })));
    assert_eq!(Revocations::believed_before(&text), Ok(list));
    let other = signer_of_nobody(2).to_string();
    let changed = text.replace(&key_id.to_string(), &other);
    let refused = Revocations::believed_before(&changed);
    assert_eq!(refused, Err(ReceiptError::Signature));
    let refused = Revocations::believed_before("{}");
    assert!(matches!(refused, Err(ReceiptError::Format { .. })));
}

/// What is made can be read.
// requirement: KD-10
#[test]
fn a_list_that_nobody_could_read_is_not_made() {
    let list = |keys: u64| {
        let ids = (0..keys).map(|n| KeyId::try_from(format!("{n:016x}")).unwrap());
        Revocations::issue(&operator(), Timestamp::from_nanos(1), ids.collect()).unwrap()
    };
    let most = list(55_000).to_json().unwrap();
    let trusted = [operator().public().clone()];
    assert_eq!(
        Revocations::from_json(&most, &trusted, LATER)
            .unwrap()
            .keys()
            .len(),
        55_000
    );
    let refused = list(56_000).to_json().unwrap_err().to_string();
    assert!(refused.contains("the limit is 1048576"), "{refused}");
}

/// Neither an old list, nor whoever was revoked, nor a list that leaves a key out
/// brings a revoked key back.
// requirement: KD-10
#[test]
fn a_list_by_a_revoked_key_or_older_or_shorter_than_the_last_is_refused() {
    let (first, second) = (operator(), worker(Scope::Test));
    let trusted = [first.public().clone(), second.public().clone()];
    let issue = |by: &SigningKey, at: u64, ids: &[KeyId]| {
        let ids = ids.iter().copied().collect();
        let list = Revocations::issue(by, Timestamp::from_nanos(at), ids).unwrap();
        Revocations::from_json(&list.to_json().unwrap(), &trusted, LATER)
    };
    let key_id = first.public().id();
    let own = issue(&first, 5, &[key_id]);
    assert_eq!(own, Err(ReceiptError::Revoked { key_id }));
    let (lost, more) = (signer_of_nobody(1), signer_of_nobody(2));
    let seen = issue(&second, 5, &[key_id, lost]).unwrap();
    let unrevoked = |key_id| Err(ReceiptError::Unrevoked { key_id });
    for (by, at, ids, answer) in [
        (&second, 5, &[key_id, lost][..], Ok(())),
        (&second, 6, &[key_id, lost, more], Ok(())),
        (&second, 6, &[key_id, more], unrevoked(lost)),
        (&second, 6, &[lost], unrevoked(key_id)),
        (&second, 5, &[], unrevoked(key_id.min(lost))),
        (&first, 6, &[lost], Err(ReceiptError::Revoked { key_id })),
    ] {
        let next = issue(by, at, ids).unwrap();
        assert_eq!(next.follows(&seen), answer, "{at} {ids:?}");
    }
    let old = issue(&second, 4, &[key_id, lost]).unwrap().follows(&seen);
    assert!(matches!(old, Err(ReceiptError::Stale { .. })), "{old:?}");
    // Another operator's list takes its place when it revokes as much.
    let seen = issue(&first, 5, &[lost]).unwrap();
    assert_eq!(issue(&second, 6, &[lost]).unwrap().follows(&seen), Ok(()));
    let next = issue(&second, 6, &[key_id]).unwrap();
    assert_eq!(next.follows(&seen), unrevoked(lost));
}

/// The id of a key that signs nothing here.
fn signer_of_nobody(number: u8) -> KeyId {
    let root = RootKey::from_token(&[[b'0' + number; 16], *b"fedcba9876543210"].concat());
    SigningKey::new(&root.unwrap()).unwrap().public().id()
}

/// By its own id, whatever manager derived a key from it.
// requirement: KD-10
#[test]
fn records_of_a_revoked_sealing_key_are_believed_no_longer() {
    for vector in vectors() {
        let key = root(&vector["secret"]);
        let record = &vector["receipt"]["record"];
        let record = Record::from_json(&record.to_string()).unwrap();
        let list = |key_id| {
            let at = Timestamp::from_nanos(1);
            Revocations::issue(&operator(), at, [key_id].into()).unwrap()
        };
        for key_id in [key.id().unwrap(), record.key_id] {
            let answer = list(key_id).check_sealed(&key, &record);
            assert_eq!(answer, Err(ReceiptError::Revoked { key_id }));
        }
        let other = list(operator().public().id());
        assert_eq!(other.check_sealed(&key, &record), Ok(()));
    }
}

// requirement: KD-10
#[test]
fn two_keys_overlap_while_a_worker_changes_its_key() {
    let vector = vectors()
        .into_iter()
        .find(|v| v["receipt"]["record"]["device_kind"] == "cuda")
        .unwrap();
    let record = Record::from_json(&vector["receipt"]["record"].to_string()).unwrap();
    let authentic = check_record(&record, &root(&vector["secret"])).unwrap();
    let next = SigningKey::new(
        &RootKey::from_token(&[b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h'].repeat(4)).unwrap(),
    )
    .unwrap();
    let old = worker(Scope::Production);
    let by_old = Receipt::sign(&authentic, &signer(&old, None)).unwrap();
    let by_next = Receipt::sign(&authentic, &signer(&next, None)).unwrap();
    let both = [old.public().clone(), next.public().clone()];
    assert!(by_old.check(&trust(&both)).is_ok() && by_next.check(&trust(&both)).is_ok());
    let after = [next.public().clone()];
    assert!(by_old.check(&trust(&after)).is_err() && by_next.check(&trust(&after)).is_ok());
}
