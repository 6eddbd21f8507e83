//! A verifier's nonce is answered with what is measured now, and with nothing
//! when the bytes, the device or the log do not allow it.
//!
//! requirement: VP-006, API-F22

mod common;

use std::path::Path;
use std::sync::Arc;

use common::disguise::{Disguise, gpu_info};
use common::{Rig, Seeded, holding, rig, root_key, weights};
use serde_json::Value;
use vram_residency::audit::check::{self, DirFiles};
use vram_residency::audit::log::{LogOptions, LogSink};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{AuditMode, Sink};
use vram_residency::clock::SystemClock;
use vram_residency::device::{DeviceError, DeviceKind};
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::{Scope, SigningKey};
use vram_residency::receipt::{Attested, Facts, Nonce, ReceiptError, Signer, Trust};
use vram_residency::sim::{Op, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

fn seal(rig: &Rig) -> SealedShard {
    let bytes = weights(50_000, 7);
    rig.manager.seal(SealRequest::bytes(&bytes)).unwrap()
}

fn nonce(byte: u8) -> Nonce {
    Nonce::new(&[byte; 20]).unwrap()
}

fn key(scope: Scope) -> SigningKey {
    SigningKey::scoped(&root_key(3), scope).unwrap()
}

const fn signer(key: &SigningKey) -> Signer<'_> {
    Signer {
        key,
        certificate: None,
    }
}

#[test]
fn facts_are_measured_signed_and_believed_with_the_public_key() {
    let rig = rig(1 << 20);
    let shard = seal(&rig);
    let test = key(Scope::Test);
    let measured = rig.manager.measure_residency(&shard, &nonce(1)).unwrap();
    let attested = measured.sign(&signer(&test)).unwrap();
    let again = Attested::from_json(&attested.to_json().unwrap()).unwrap();
    assert_eq!(again, attested);
    let keys = [test.public().clone()];
    let trust = Trust {
        keys: &keys,
        simulated: true,
        ..Trust::default()
    };
    let facts = again.check(&trust, &nonce(1)).unwrap().facts();
    assert_eq!(facts.record, *shard.record());
    assert_eq!(
        (facts.bytes_checked, facts.device.kind),
        (50_000, DeviceKind::Simulated)
    );
    assert_eq!(facts.device.uuid, rig.manager.devices()[0].uuid);
    assert_eq!(facts.witness, shard.record().witness);
    assert_eq!(facts.checkpoint, None, "there is no log");
    assert_eq!(again.check(&trust, &nonce(2)), Err(ReceiptError::Nonce));
    // Seals and attestations count together and never repeat.
    let later = rig.manager.measure_residency(&shard, &nonce(2)).unwrap();
    assert_eq!((shard.record().sequence, facts.sequence), (1, 2));
    assert_eq!(later.facts().sequence, 3);
    assert_eq!(rig.count("vram.attested"), 2);
    assert_eq!(rig.count("seal.verified"), 2, "each measured anew");
}

// requirement: AU-7, RP-005
#[test]
fn what_is_signed_and_what_is_refused_a_signature_is_recorded() {
    let rig = rig(1 << 20);
    let shard = seal(&rig);
    let (test, production) = (key(Scope::Test), key(Scope::Production));
    let receipt = rig.manager.issue_receipt(&shard, &signer(&test)).unwrap();
    assert_eq!(receipt.key_id(), test.public().id());
    let event = serde_json::to_value(rig.sink.events().last().unwrap()).unwrap();
    assert_eq!(event["event_type"], "receipt.issued");
    assert_eq!(event["shard_id"], shard.id().as_str());
    assert_eq!(event["key_id"], test.public().id().to_string());
    let refused = rig.manager.issue_receipt(&shard, &signer(&production));
    assert!(matches!(
        refused,
        Err(Error::Receipt(ReceiptError::Production))
    ));
    let refused = rig.manager.answer(&shard, &nonce(1), &signer(&production));
    assert!(matches!(
        refused,
        Err(Error::Receipt(ReceiptError::Production))
    ));
    let json = |event| serde_json::to_value(event).unwrap();
    let events: Vec<Value> = rig.sink.events().iter().map(json).collect();
    let failed = events
        .iter()
        .filter(|e| e["event_type"] == "operation.failed");
    let failed: Vec<_> = failed.map(|e| [&e["operation"], &e["code"]]).collect();
    let expected = ["issue_receipt", "answer"].map(|name| [name, "AUTH_FAILED"]);
    assert_eq!(failed, expected);
    assert_eq!(rig.count("receipt.issued"), 1);
}

/// What condemns the first of two shards while an attestation of it is made: the shard that
/// is damaged and the check that finds it. By itself, with its group, or in doubt for want
/// of a tree.
const STRIKES: [(&str, usize, Mode); 3] = [
    ("itself", 0, Mode::Full),
    ("its group", 1, Mode::Full),
    ("a doubt", 0, Mode::Keyed),
];

fn strike(device: &Disguise, manager: &VramManager, at: (&SealedShard, &[u8]), mode: Mode) {
    let (shard, bytes) = at;
    let buffer = holding(&device.sim, bytes);
    device.sim.flip_bit(buffer, 5, 1).unwrap();
    if mode == Mode::Keyed {
        let away = DeviceError::Unsupported { what: "scripted" };
        device.sim.fail(Op::BlockDigests, 1, away);
    }
    assert!(manager.verify_record(shard.record(), mode).is_err());
}

/// The measurement was good, and what it is worth had ended before it was handed out.
// requirement: VP-006, WORKER-4122
#[test]
fn a_shard_that_is_condemned_meanwhile_is_not_attested() {
    type Ask = fn(&VramManager, &SealedShard) -> Result<(), Error>;
    let asks: [Ask; 3] = [
        |manager, shard| manager.attest_vram_residency(shard, None).map(drop),
        |manager, shard| manager.measure_residency(shard, &nonce(1)).map(drop),
        |manager, shard| {
            let key = key(Scope::Test);
            manager.answer(shard, &nonce(1), &signer(&key)).map(drop)
        },
    ];
    for (name, at, mode) in STRIKES {
        for ask in asks {
            let device = Disguise::new(gpu_info(2 << 30));
            let rig = Rig::build(&[], Policy::default(), |b| b.device(device.clone()));
            let bytes = [weights(5000, 7), weights(5000, 8)];
            let requests = bytes.iter().map(|bytes| SealRequest::bytes(bytes));
            let group = rig.manager.seal_group(requests.collect()).unwrap();
            let shards: Arc<[SealedShard]> = group.into_shards().into();
            let (on, manager, all) = (device.clone(), rig.manager.clone(), Arc::clone(&shards));
            // Asked for free memory, after the verification and before the answer.
            let bytes = bytes[at].clone();
            device.on_memory(move || strike(&on, &manager, (&all[at], &bytes), mode));
            let error = ask(&rig.manager, &shards[0]).unwrap_err();
            assert!(matches!(error, Error::Verify(_)), "{name}: {error}");
            assert!(shards[0].is_quarantined(), "{name}");
        }
    }
}

#[test]
fn a_production_key_attests_no_simulated_device() {
    let rig = rig(1 << 20);
    let shard = seal(&rig);
    let measured = rig.manager.measure_residency(&shard, &nonce(1)).unwrap();
    let refused = measured.clone().sign(&signer(&key(Scope::Production)));
    assert_eq!(refused, Err(ReceiptError::Production));
    // Nor does who trusts the production key believe the test key.
    let attested = measured.sign(&signer(&key(Scope::Test))).unwrap();
    let keys = [key(Scope::Production).public().clone()];
    let trust = Trust {
        keys: &keys,
        simulated: true,
        ..Trust::default()
    };
    let answer = attested.check(&trust, &nonce(1)).map(drop);
    assert!(matches!(answer, Err(ReceiptError::Untrusted { .. })));
}

/// Under the sealing key or a signing key: it is the same answer.
// requirement: API-F22, VP-006, AU-7
#[test]
fn both_kinds_of_attestation_measure_number_and_record_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let rig = logged(&temp.path().join("log"));
    let shard = seal(&rig);
    let given = nonce(4);
    let tagged = rig
        .manager
        .attest_vram_residency(&shard, Some(given.as_bytes()));
    let tagged = tagged.unwrap();
    let said = tagged.facts();
    let measured = rig.manager.measure_residency(&shard, &given).unwrap();
    let facts = measured.facts();
    let same = Facts {
        sequence: said.sequence,
        checkpoint: said.checkpoint.clone(),
        ..facts.clone()
    };
    assert_eq!(*said, same);
    let bare = rig.manager.attest_vram_residency(&shard, None).unwrap();
    let bare = bare.facts();
    assert_eq!((&said.nonce, &bare.nonce), (&Some(given.clone()), &None));
    let sequences = [said.sequence, facts.sequence, bare.sequence];
    assert_eq!(sequences, [2, 3, 4], "after the seal's");
    let size = |note: &Option<String>| -> u64 {
        let size = note.as_ref().unwrap().lines().nth(1).unwrap();
        size.parse().unwrap()
    };
    let covered = [&said.checkpoint, &facts.checkpoint, &bare.checkpoint].map(size);
    assert!(covered.is_sorted_by(|a, b| a < b), "{covered:?}");
    let lines = std::fs::read_to_string(temp.path().join("log/events.jsonl")).unwrap();
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let attested = |(at, event): &(usize, &Value)| {
        (event["event_type"] == "vram.attested").then_some((*at as u64, event["nonce"].clone()))
    };
    let attested: Vec<_> = events
        .iter()
        .enumerate()
        .filter_map(|event| attested(&event))
        .collect();
    let nonces = [
        given.to_string().into(),
        given.to_string().into(),
        Value::Null,
    ];
    assert_eq!(attested.len(), 3);
    for (((at, nonce), expected), size) in attested.into_iter().zip(nonces).zip(covered) {
        assert_eq!(nonce, expected);
        assert!(at < size, "event {at} under a checkpoint of {size}");
    }
}

#[test]
fn damaged_memory_is_not_attested() {
    let rig = rig(1 << 20);
    let shard = seal(&rig);
    rig.flip_newest(&shard, 49_999, 0);
    let error = rig
        .manager
        .measure_residency(&shard, &nonce(1))
        .unwrap_err();
    assert!(matches!(error, Error::Verify(VerifyError::Contents { .. })));
    assert_eq!(rig.count("vram.attested"), 0);
}

fn log(dir: &Path) -> Arc<LogSink> {
    let origin = Origin::new("attest").unwrap();
    let options = LogOptions::new(origin, "worker".parse().unwrap());
    let clock = Arc::new(SystemClock::new());
    Arc::new(LogSink::open(dir, options, key(Scope::Production), clock).unwrap())
}

/// A manager whose log is in `dir`.
fn logged(dir: &Path) -> Rig {
    let sink: Arc<dyn Sink> = log(dir);
    Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |builder| {
        builder
            .sink(sink)
            .audit_mode(AuditMode::Required)
            .random(Arc::new(Seeded::new(9)))
    })
}

#[test]
fn the_checkpoint_covers_the_verification_that_was_attested() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let rig = logged(&dir);
    let shard = seal(&rig);
    let measured = rig.manager.measure_residency(&shard, &nonce(4)).unwrap();
    let facts = measured.facts().clone();
    drop(shard);
    drop(rig);
    // The checkpoint that the attestation carries proves a beginning of the log.
    let trusted = [key(Scope::Production).public().clone()];
    let checkpoint = facts.checkpoint.unwrap();
    let options = check::Options {
        trusted: &trusted,
        earlier: Some(&checkpoint),
        closed: true,
        ..check::Options::default()
    };
    let report = check::verify(&DirFiles::new(&dir), &options).unwrap();
    assert!(report.is_good(), "{report:?}");
    let size: usize = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let covered: Vec<Value> = text
        .lines()
        .take(size)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = covered.last().unwrap();
    assert_eq!(last["event_type"], "vram.attested");
    assert_eq!(last["nonce"], nonce(4).to_string());
    assert!(
        covered
            .iter()
            .any(|event| event["event_type"] == "seal.verified")
    );
}
