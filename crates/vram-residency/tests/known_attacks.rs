//! Attacks on seals and papers that are known from elsewhere: a stale handle
//! after its address went to another model, a change between check and grant,
//! an older or weaker algorithm, a signature of one kind of paper on another.
//! Forgery, replay and other tokens are in `security.rs`, a name twice in
//! `duplicate_names.rs`, what may not leak in `leaks.rs`.
//!
//! requirement: TP-6, TP-9

mod common;

use std::sync::{Arc, Mutex};

use common::{newest, rig, root_key, weights};
use serde_json::Value;
use vram_residency::audit::note::{Checkpoint, Cut, NoteError, Origin};
use vram_residency::audit::{AuditError, Event, Sink};
use vram_residency::clock::Timestamp;
use vram_residency::device::{Device, DeviceError, Extent};
use vram_residency::error::{Error, Misuse, VerifyError};
use vram_residency::key::{
    KeyContext, KeyProvider, RootKey, Scope, SealTag, SigningKey, VerifyingKey,
};
use vram_residency::receipt::{
    Attested, Certificate, Nonce, Receipt, ReceiptError, Revocations, Signer, Tagged, Trust,
};
use vram_residency::seal::Record;
use vram_residency::sim::SimDevice;
use vram_residency::verify::check_record;
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

fn not_sealed<T>(answer: Result<T, Error>) {
    match answer.map(drop) {
        Err(Error::Misuse(Misuse::NotSealed)) => {}
        other => panic!("{other:?}"),
    }
}

// requirement: API-F41, PM-7
#[test]
fn a_stale_handle_reaches_nothing_after_its_address_went_to_another_model() {
    let rig = rig(1 << 20);
    let (old, new) = (weights(9000, 1), weights(9000, 2));
    let first = rig.manager.seal(SealRequest::bytes(&old).id("a")).unwrap();
    let stale = newest(rig.device());
    let address = rig.device().simulated_address(stale).unwrap();
    rig.manager.deallocate(&first).unwrap();
    let second = rig.manager.seal(SealRequest::bytes(&new).id("b")).unwrap();
    let buffer = newest(rig.device());
    assert_eq!(rig.device().simulated_address(buffer).unwrap(), address);

    let manager = &rig.manager;
    not_sealed(manager.verify_sealed(&first, Mode::Full));
    not_sealed(manager.lease(&first, Mode::Full));
    not_sealed(manager.lease(&first, Mode::TagOnly));
    not_sealed(manager.unseal_model(&first));
    not_sealed(manager.unseal_to(&first, &mut Vec::new()));
    not_sealed(manager.read_shard_at_offset(&first, 0, 16));
    not_sealed(manager.repair(&first, &old.as_slice()));
    not_sealed(manager.migrate_shard(&first, 0));
    not_sealed(manager.measure_residency(&first, &Nonce::new(&[7; 16]).unwrap()));
    // Its record is a replay, and so is that record with the new one's name.
    let renamed = Record {
        shard_id: second.id().clone(),
        ..first.record().clone()
    };
    for record in [first.record(), &renamed] {
        let answer = manager.verify_record(record, Mode::Full).map(drop);
        let refused = matches!(
            answer,
            Err(Error::Verify(
                VerifyError::NotHeld { .. } | VerifyError::Tag { .. }
            ))
        );
        assert!(refused, "{answer:?}");
    }
    // The device knows its old buffer no more, whatever lies at the address.
    let extent = Extent {
        buffer: stale,
        start: 0,
        len: 9000,
    };
    let read = rig.device().read(extent, 0, &mut [0; 16]);
    assert!(matches!(read, Err(DeviceError::UnknownBuffer)), "{read:?}");
    assert!(rig.device().free(stale).is_err());
    // The new owner noticed nothing of all this.
    assert!(!second.is_quarantined());
    assert_eq!(manager.unseal_model(&second).unwrap(), new);
    assert_eq!(manager.used_vram(), 9000);
}

type Action = Box<dyn FnOnce() + Send>;

/// Runs an action once, when the next event of a type is recorded.
#[derive(Default)]
struct At(Mutex<Option<(&'static str, Action)>>);

impl Sink for At {
    fn record(&self, event: &Event) -> Result<(), AuditError> {
        let mut armed = self.0.lock().unwrap();
        let due = armed.take_if(|(name, _)| event.body.event_type() == *name);
        drop(armed);
        if let Some((_, action)) = due {
            action();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), AuditError> {
        Ok(())
    }
}

/// What is done to a shard, and a shard that lives on after it.
type Attack = fn(&VramManager, &SealedShard, &SimDevice) -> Option<SealedShard>;

/// Attacks a shard after a lease has verified it and before the lease is
/// granted; whether it was granted.
fn between_check_and_grant(act: Attack) -> bool {
    let (device, at) = (SimDevice::new(1 << 20), Arc::new(At::default()));
    let manager = VramManager::builder()
        .device(device.clone())
        .key(root_key(1))
        .sink(at.clone())
        .build()
        .unwrap();
    let shard = manager.seal(SealRequest::bytes(&weights(9000, 1))).unwrap();
    let shard = Arc::new(shard);
    let done = Arc::new(Mutex::new(None));
    let (ours, theirs, told) = (manager.clone(), Arc::clone(&shard), Arc::clone(&done));
    let action = move || {
        let kept = act(&ours, &theirs, &device);
        *told.lock().unwrap() = Some(kept);
    };
    *at.0.lock().unwrap() = Some(("seal.verified", Box::new(action)));
    let leased = manager.lease(&shard, Mode::Full);
    assert!(done.lock().unwrap().is_some(), "the moment never came");
    leased.is_ok()
}

/// Another check of the shard, or a move, waits for the first.
// requirement: DG-7
#[test]
fn what_happens_between_check_and_grant_refuses_the_lease() {
    assert!(between_check_and_grant(|_, _, _| None), "nothing happened");
    let freed = between_check_and_grant(|manager, shard, _| {
        manager.deallocate(shard).unwrap();
        None
    });
    assert!(!freed, "freed");
    let replaced = between_check_and_grant(|manager, shard, _| {
        manager.deallocate(shard).unwrap();
        Some(manager.seal(SealRequest::bytes(&weights(9000, 2))).unwrap())
    });
    assert!(!replaced, "another model came");
    let failed = between_check_and_grant(|manager, _, device| {
        let other = manager.seal(SealRequest::bytes(&weights(9000, 2))).unwrap();
        device.flip_bit(newest(device), 8191, 7).unwrap();
        assert!(manager.verify_sealed(&other, Mode::Full).is_err());
        Some(other)
    });
    assert!(!failed, "a failure elsewhere has stopped the manager");
    let stopped = between_check_and_grant(|manager, _, _| {
        manager.stop("by its operator").unwrap();
        None
    });
    assert!(!stopped, "the operator has stopped the manager");
}

/// A record, its statement, and the tag of that statement with one byte changed,
/// made with the right key.
fn tagged_with(record: &Record, at: usize, byte: u8) -> Record {
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let mut statement = record.statement();
    statement[at] = byte;
    let key = root_key(1).seal_key(&context).unwrap();
    Record {
        tag: key.tag(&statement).unwrap(),
        ..record.clone()
    }
}

// requirement: SG-4, SG-6
#[test]
fn no_other_version_or_algorithm_passes_even_under_the_right_key() {
    let rig = rig(1 << 20);
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    let record = shard.record();
    // Magic, version (two bytes), digest algorithm, tag algorithm.
    assert_eq!(record.statement()[..12], *b"VRAMSEAL\x01\x00\x01\x01");
    assert!(check_record(record, &root_key(1)).is_ok());
    for at in 0..12 {
        for byte in (0..=255).filter(|byte| *byte != record.statement()[at]) {
            let other = tagged_with(record, at, byte);
            let answer = check_record(&other, &root_key(1)).map(drop);
            let refused = matches!(answer, Err(Error::Verify(VerifyError::Tag { .. })));
            assert!(refused, "byte {at} = {byte}: {answer:?}");
        }
    }
    // No tag at all is no algorithm either, and a record cannot name one.
    let none = Record {
        tag: SealTag::from_bytes([0; 32]),
        ..record.clone()
    };
    assert!(check_record(&none, &root_key(1)).is_err());
    let json: Value = serde_json::from_str(&record.to_json().unwrap()).unwrap();
    for (name, value) in [
        ("schema", Value::from("vram-residency/record/v0")),
        ("schema", "vram-residency/record/v2".into()),
        ("schema", "vram-residency/receipt/v1".into()),
        ("schema", Value::Null),
        ("alg", "none".into()),
        ("version", 0.into()),
        ("tag", "".into()),
        ("tag", Value::Null),
        ("tag", "00".repeat(16).into()),
    ] {
        let mut other = json.clone();
        other[name] = value;
        assert!(Record::from_json(&other.to_string()).is_err(), "{other}");
    }
    let mut without = json;
    without.as_object_mut().unwrap().remove("tag");
    assert!(Record::from_json(&without.to_string()).is_err());
}

/// Papers of one worker and one operator, all under one vector's record.
struct Papers {
    keys: [VerifyingKey; 2],
    receipt: Value,
    attested: Value,
    tagged: Value,
    revocations: Value,
    nonce: Nonce,
    root: RootKey,
}

/// The key whose digits these are.
fn root_of(hex: &Value) -> RootKey {
    let hex = hex.as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
    let secret: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    RootKey::from_token(&secret).unwrap()
}

fn papers() -> Papers {
    let file: Value =
        serde_json::from_str(include_str!("../testdata/receipt_vectors.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let certified = |vector: &&Value| vector["receipt"]["signed"].get("certificate").is_some();
    let vector = vectors.iter().find(certified).unwrap();
    let key = |text: &Value| VerifyingKey::from_hex(text.as_str().unwrap()).unwrap();
    let worker = &vector["receipt"]["signed"]["public_key"];
    let nonce = vector["attested"]["facts"]["nonce"].as_str().unwrap();
    Papers {
        keys: [key(worker), key(&file["operator_key"])],
        receipt: vector["receipt"].clone(),
        attested: vector["attested"].clone(),
        tagged: vector["tagged"].clone(),
        revocations: file["revocations"].clone(),
        nonce: nonce.parse().unwrap(),
        root: root_of(&vector["secret"]),
    }
}

impl Papers {
    fn trust(&self) -> Trust<'_> {
        Trust {
            keys: &self.keys,
            simulated: true,
            ..Trust::default()
        }
    }

    fn receipt(&self, paper: &Value) -> Result<(), ReceiptError> {
        let receipt = Receipt::from_json(&paper.to_string())?;
        receipt.check(&self.trust()).map(drop)
    }

    fn attested(&self, paper: &Value) -> Result<(), ReceiptError> {
        let attested = Attested::from_json(&paper.to_string())?;
        attested.check(&self.trust(), &self.nonce).map(drop)
    }

    fn tagged(&self, paper: &Value) -> Result<(), Error> {
        let tagged = Tagged::from_json(&paper.to_string())?;
        let answered = tagged.check(&self.root, &self.trust(), Some(&self.nonce));
        answered.map(drop)
    }

    fn revocations(&self, paper: &Value) -> Result<(), ReceiptError> {
        Revocations::from_json(
            &paper.to_string(),
            &self.keys,
            Timestamp::from_nanos(u64::MAX),
        )
        .map(drop)
    }
}

// requirement: VP-006
#[test]
fn a_signature_of_one_paper_is_none_of_another() {
    let papers = papers();
    let places = [
        ("receipt", "/receipt/signed/signature"),
        ("attested", "/attested/signed/signature"),
        ("certificate", "/receipt/signed/certificate/signature"),
        ("revocations", "/revocations/signature"),
    ];
    let all = serde_json::json!({
        "receipt": papers.receipt, "attested": papers.attested,
        "revocations": papers.revocations,
    });
    let believed = |all: &Value| {
        [
            papers.receipt(&all["receipt"]),
            papers.attested(&all["attested"]),
            papers.revocations(&all["revocations"]),
        ]
    };
    assert_eq!(believed(&all), [Ok(()), Ok(()), Ok(())]);
    for (from, source) in places {
        for (to, target) in places.iter().filter(|(to, _)| *to != from) {
            let mut changed = all.clone();
            *changed.pointer_mut(target).unwrap() = all.pointer(source).unwrap().clone();
            let refused = believed(&changed).into_iter().any(|answer| answer.is_err());
            assert!(refused, "the signature of {from} passes on {to}");
        }
    }
    // Facts under a tag are no signed ones, and the tag of the seal in them is none of theirs.
    assert!(papers.tagged(&papers.tagged).is_ok());
    assert!(papers.tagged(&papers.attested).is_err());
    assert!(papers.attested(&papers.tagged).is_err());
    let mut sealed = papers.tagged.clone();
    sealed["tag"] = sealed["facts"]["record"]["tag"].clone();
    let answer = papers.tagged(&sealed);
    assert!(matches!(answer, Err(Error::Receipt(ReceiptError::Tag))));
}

// requirement: VP-006
#[test]
fn no_older_paper_and_no_named_algorithm_is_read() {
    let papers = papers();
    for (name, value) in [
        ("schema", "vram-residency/receipt/v0"),
        ("schema", "vram-residency/attested/v0"),
        ("schema", "vram-residency/tagged/v0"),
        ("schema", "vram-residency/revocations/v0"),
        ("schema", ""),
        ("alg", "none"),
        ("version", "0"),
    ] {
        let with = |paper: &Value| {
            let mut paper = paper.clone();
            paper[name] = value.into();
            paper
        };
        let format = |answer| matches!(answer, Err(ReceiptError::Format { .. }));
        assert!(
            format(papers.receipt(&with(&papers.receipt))),
            "{name} {value}"
        );
        assert!(
            format(papers.attested(&with(&papers.attested))),
            "{name} {value}"
        );
        assert!(
            format(papers.revocations(&with(&papers.revocations))),
            "{name} {value}"
        );
        let answer = papers.tagged(&with(&papers.tagged));
        assert!(
            matches!(answer, Err(Error::Receipt(ReceiptError::Format { .. }))),
            "{name} {value}: {answer:?}"
        );
        let mut signed = papers.receipt.clone();
        signed["signed"][name] = value.into();
        assert!(format(papers.receipt(&signed)), "{name} {value}");
    }
    for signature in [
        Value::Null,
        "".into(),
        "00".repeat(64).into(),
        "00".repeat(32).into(),
    ] {
        let mut unsigned = papers.receipt.clone();
        unsigned["signed"]["signature"] = signature.clone();
        assert!(papers.receipt(&unsigned).is_err(), "{unsigned}");
        let mut untagged = papers.tagged.clone();
        untagged["tag"] = signature;
        assert!(papers.tagged(&untagged).is_err(), "{untagged}");
    }
}

// requirement: VP-006, KD-10
#[test]
fn a_test_key_is_not_believed_where_its_production_half_is() {
    let file: Value = serde_json::from_str(include_str!("../testdata/seal_vectors.json")).unwrap();
    let record = Record::from_json(&file["vectors"][1]["record"].to_string()).unwrap();
    let sealing = root_of(&file["vectors"][1]["secret"]);
    let authentic = check_record(&record, &sealing).unwrap();
    let key = |scope| SigningKey::scoped(&root_key(3), scope).unwrap();
    let (production, test) = (key(Scope::Production), key(Scope::Test));
    let sign = |key| {
        let certificate = None;
        Receipt::sign(&authentic, &Signer { key, certificate }).unwrap()
    };
    let trusted = [production.public().clone()];
    let trust = Trust {
        keys: &trusted,
        ..Trust::default()
    };
    assert!(sign(&production).check(&trust).is_ok());
    let answer = sign(&test).check(&trust).map(drop);
    assert!(
        matches!(answer, Err(ReceiptError::Untrusted { .. })),
        "{answer:?}"
    );
    // An operator is no worker: its certificate does not make it one.
    let time = Timestamp::from_nanos;
    let worker = record.worker_id.clone();
    let own = Certificate::issue(&test, test.public(), worker, time(0), time(u64::MAX)).unwrap();
    let certificate = Some(&own);
    let signed = Receipt::sign(
        &authentic,
        &Signer {
            key: &test,
            certificate,
        },
    )
    .unwrap();
    let answer = signed.check(&trust).map(drop);
    assert!(
        matches!(answer, Err(ReceiptError::Untrusted { .. })),
        "{answer:?}"
    );
}

// requirement: AU-10
#[test]
fn a_checkpoint_without_our_kind_of_signature_is_not_believed() {
    let key = SigningKey::new(&root_key(4)).unwrap();
    let trusted = [key.public().clone()];
    let checkpoint = Checkpoint {
        reopened: false,
        cut: Cut::default(),
        origin: Origin::new("example.org/log").unwrap(),
        size: 5,
        root: [7; 32],
    };
    let note = checkpoint.sign(&key).unwrap();
    assert_eq!(Checkpoint::open(&note, &trusted), Ok(checkpoint));
    let (text, signature) = note.split_once("\n\n").unwrap();
    let blob = signature.trim_end().rsplit_once(' ').unwrap().1;
    let foreign = |answer| {
        matches!(
            answer,
            Err(NoteError::Foreign { .. } | NoteError::Format(_))
        )
    };
    // Unsigned, a key hash of another type, a shorter signature, another name.
    let first = if blob.starts_with('A') { "B" } else { "A" };
    for signatures in [
        String::new(),
        "\n".to_owned(),
        signature.replacen(blob, &format!("{first}{}", &blob[1..]), 1),
        signature.replacen(blob, &format!("{}=", &blob[..43]), 1),
        signature.replacen("example.org/log", "example.org/other", 1),
    ] {
        let changed = format!("{text}\n\n{signatures}");
        assert!(foreign(Checkpoint::open(&changed, &trusted)), "{changed}");
    }
}
