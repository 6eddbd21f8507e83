//! Every error variant of the library is met by a manager and leaves exactly the
//! events that it should; a variant that nobody walks fails this test.
//!
//! requirement: AU-3, AU-5, AU-7, AU-14, TP-1

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::disguise::{Disguise, gpu_info};
use common::errors::{device_errors, key_errors, load_errors};
use common::source::Ends;
use common::{Rig, Seeded, root_key, weights};
use vram_residency::audit::{AuditMode, MemorySink};
use vram_residency::clock::Timestamp;
use vram_residency::device::DeviceError;
use vram_residency::error::Error;
use vram_residency::key::{KeyContext, KeyError, KeyId, KeyProvider, Scope, SealKey, SigningKey};
use vram_residency::policy::OnFailure;
use vram_residency::random::{Random, RandomError};
use vram_residency::receipt::Signer;
use vram_residency::seal::Record;
use vram_residency::signed::ModelPolicy;
use vram_residency::sim::{Flip, Moment, Op, SimDevice, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};

/// The enums whose variants must be walked, by the file that declares them.
const ENUMS: [(&str, &str, &str); 8] = [
    ("Verify", "VerifyError", include_str!("../src/error.rs")),
    ("Input", "InputError", include_str!("../src/error.rs")),
    ("Misuse", "Misuse", include_str!("../src/error.rs")),
    ("Policy", "PolicyError", include_str!("../src/policy.rs")),
    ("Load", "LoadError", include_str!("../src/load/error.rs")),
    ("Key", "KeyError", include_str!("../src/key/mod.rs")),
    (
        "Receipt",
        "ReceiptError",
        include_str!("../src/receipt/mod.rs"),
    ),
    (
        "Device",
        "DeviceError",
        include_str!("../src/device/error.rs"),
    ),
];

/// Variants that no call of a manager returns, and who does.
const ELSEWHERE: [(&str, &str); 18] = [
    (
        "Input(Record",
        "Record::from_json reads text before a manager sees it",
    ),
    ("Verify(GroupMember", "GroupRecord::from_json reads text"),
    (
        "Input(NoSuchTensor",
        "a lease is asked, which changes nothing",
    ),
    ("Receipt(Format", READER),
    ("Receipt(Untrusted", READER),
    ("Receipt(Signature", READER),
    ("Receipt(Tag", READER),
    ("Receipt(Revoked", READER),
    ("Receipt(Stale", READER),
    ("Receipt(Early", READER),
    ("Receipt(Unrevoked", READER),
    ("Receipt(Set", READER),
    ("Receipt(Contradiction", READER),
    ("Receipt(Nonce", READER),
    ("Receipt(Simulated", READER),
    ("Receipt(Certificate", SIGNER),
    ("Receipt(Scope", SIGNER),
    (
        "Receipt(Key",
        "signing fails for a key that lost its length: none can be made",
    ),
];

const READER: &str = "who reads a paper is told, without a manager";
const SIGNER: &str = "as `Production`: whatever signing refuses is one failed operation";

/// Kind and variant of an error, as its `Debug` begins.
fn variant(error: &Error) -> String {
    let text = format!("{error:?}");
    let word = |c: &char| c.is_alphanumeric() || *c == '(';
    let text: String = text.chars().take_while(word).collect();
    text.trim_end_matches('(').to_owned()
}

/// What was walked, and the check of each step.
struct Walk {
    seen: BTreeSet<String>,
}

impl Walk {
    /// `call` must fail with `expected` and leave exactly these events.
    fn step<T>(
        &mut self,
        sink: &MemorySink,
        expected: &str,
        events: &[&str],
        call: impl FnOnce() -> Result<T, Error>,
    ) {
        let before = sink.types().len();
        let error = call().err().unwrap_or_else(|| panic!("{expected}: passed"));
        assert_eq!(variant(&error), expected, "{error}");
        let found = sink.types();
        assert_eq!(found[before..], *events, "{expected}: {error}");
        self.seen.insert(expected.to_owned());
    }
}

fn isolating() -> Rig {
    let policy = Policy {
        on_failure: OnFailure::Isolate,
        allow_repair: true,
        ..Policy::default()
    };
    let options: Vec<_> = (0..2)
        .map(|i| SimOptions::new(1 << 20).ordinal(i))
        .collect();
    Rig::build(&options, policy, |b| b)
}

fn sealed(rig: &Rig) -> SealedShard {
    let request = SealRequest::bytes(&[7; 9000]).id("subject");
    rig.manager.seal(request).unwrap()
}

struct NoKey(KeyError);

impl KeyProvider for NoKey {
    fn seal_key(&self, _context: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        Err(self.0.clone())
    }

    fn id(&self) -> Result<KeyId, KeyError> {
        Err(self.0.clone())
    }
}

struct NoRandom;

impl Random for NoRandom {
    fn fill(&self, _out: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::new("test"))
    }
}

/// A load that failed after memory was taken.
const UNDONE: [&str; 4] = [
    "vram.allocated",
    "model.load_started",
    "vram.deallocated",
    "vram.seal_failed",
];

fn walk_loads(walk: &mut Walk) {
    let rig = isolating();
    let refused = UNDONE;
    for (expected, make) in load_errors() {
        let request = || SealRequest::source(Ends(Box::new(make)));
        walk.step(&rig.sink, expected, &refused, || {
            rig.manager.seal(request())
        });
    }
    let missing = || SealRequest::file("/nonexistent/model");
    walk.step(&rig.sink, "Load(Open", &["operation.failed"], || {
        rig.manager.seal(missing())
    });
    rig.assert_empty();
}

fn walk_devices(walk: &mut Walk) {
    let rig = isolating();
    let shard = sealed(&rig);
    let failed = ["seal.verification_failed"];
    for (expected, error) in device_errors() {
        rig.device().fail(Op::BlockDigests, 1, error.clone());
        walk.step(&rig.sink, expected, &failed, || {
            rig.manager.verify_sealed(&shard, Mode::Full)
        });
        rig.device().fail(Op::Memory, 1, error);
        walk.step(&rig.sink, expected, &["operation.failed"], || {
            rig.manager.driver_memory(0)
        });
    }
    rig.device()
        .fail(Op::Free, 1, DeviceError::Unsupported { what: "test" });
    walk.step(&rig.sink, "Free(FreeError", &["vram.stranded"], || {
        rig.manager.deallocate(&shard)
    });
    let gone = DeviceError::Lost {
        op: "test",
        code: 1,
        text: "test".to_owned(),
    };
    rig.device().fail(Op::Memory, 1, gone);
    let lost = ["device.lost", "manager.stopped", "operation.failed"];
    walk.step(&rig.sink, "Device(Lost", &lost, || {
        rig.manager.driver_memory(0)
    });
    let again = ["vram.allocation_failed"];
    walk.step(&rig.sink, "Device(Lost", &again, || {
        rig.manager.reserve(0, 1)
    });
}

fn walk_keys(walk: &mut Walk) {
    let rig = isolating();
    for (expected, error) in key_errors() {
        let sink = Arc::new(MemorySink::new());
        let build = || {
            let builder = VramManager::builder().device(SimDevice::new(1000));
            let builder = builder.key(NoKey(error.clone())).sink(sink.clone());
            builder.build()
        };
        walk.step(&sink, expected, &["operation.failed"], build);
        walk.step(&rig.sink, expected, &["operation.failed"], || {
            rig.manager.rotate_key(&NoKey(error.clone()))
        });
    }
    let sink = Arc::new(MemorySink::new());
    let random = || {
        let builder = VramManager::builder().device(SimDevice::new(1000));
        let builder = builder.key(root_key(1)).sink(sink.clone());
        builder.random(Arc::new(NoRandom)).build()
    };
    walk.step(&sink, "Random(RandomError", &["operation.failed"], random);
}

fn walk_papers(walk: &mut Walk) {
    let rig = isolating();
    let shard = sealed(&rig);
    let key = SigningKey::scoped(&root_key(3), Scope::Production).unwrap();
    let signer = Signer {
        key: &key,
        certificate: None,
    };
    walk.step(
        &rig.sink,
        "Receipt(Production",
        &["operation.failed"],
        || rig.manager.issue_receipt(&shard, &signer),
    );
}

fn walk_room_and_inputs(walk: &mut Walk) {
    let rig = isolating();
    let shard = sealed(&rig);
    let manager = &rig.manager;
    let full = ["vram.allocation_failed"];
    let sink = &rig.sink;
    walk.step(sink, "InsufficientVram(InsufficientVram", &full, || {
        manager.reserve(0, 2 << 20)
    });
    walk.step(sink, "InsufficientVram(InsufficientVram", &full, || {
        manager.seal(SealRequest::bytes(&vec![0; 2 << 20]))
    });
    let ok = || SealRequest::bytes(b"weights");
    let long = "a".repeat(257);
    let inputs: Vec<(&str, SealRequest<'_>)> = vec![
        ("Input(Empty", ok().id("")),
        ("Input(TooLong", ok().id(&long)),
        ("Input(Characters", ok().id("@")),
        ("Input(NullByte", ok().id("a\0")),
        ("Input(PathTraversal", ok().id("../a")),
        ("Input(Digest", ok().expect("00")),
        ("Input(SourceSize", SealRequest::bytes(&[])),
        ("Input(NoSuchDevice", ok().device(9)),
        ("Input(ShardPosition", ok().position(2, 2)),
        ("Input(DuplicateId", ok().id("subject")),
        ("Input(Dedupe", ok().dedupe()),
    ];
    for (expected, request) in inputs {
        walk.step(sink, expected, &[], || manager.seal(request));
    }
    walk.step(sink, "Input(ModelSize", &[], || manager.reserve(0, 0));
    walk.step(sink, "Input(Range", &[], || {
        manager.read_shard_at_offset(&shard, 8999, 2)
    });
    walk.step(sink, "Input(Nonce", &[], || {
        manager.attest_vram_residency(&shard, Some(&[0; 15]))
    });
    walk.step(sink, "Input(Group", &[], || manager.seal_group(Vec::new()));
}

fn walk_misuse(walk: &mut Walk) {
    let rig = isolating();
    let (manager, sink) = (&rig.manager, &rig.sink);
    let shard = sealed(&rig);
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    walk.step(sink, "Misuse(Busy", &[], || manager.deallocate(&shard));
    walk.step(sink, "Misuse(Busy", &[], || {
        manager.migrate_shard(&shard, 1)
    });
    lease.finish();
    let digest = shard.digest().to_string();
    let twin = SealRequest::bytes(&[7; 9000]).expect(&digest).dedupe();
    let twin = manager.seal(twin).unwrap();
    walk.step(sink, "Misuse(Shared", &[], || {
        manager.migrate_shard(&shard, 1)
    });
    drop(twin);
    manager.stop("test").unwrap();
    walk.step(sink, "Misuse(Stopped", &["lease.refused"], || {
        manager.lease(&shard, Mode::Full)
    });
    let other = Rig::build(&[SimOptions::new(1000)], Policy::default(), |b| {
        b.random(Arc::new(Seeded::new(77)))
    });
    walk.step(&other.sink, "Misuse(ForeignShard", &[], || {
        other.manager.verify_sealed(&shard, Mode::Full)
    });
    manager.deallocate(&shard).unwrap();
    walk.step(sink, "Misuse(NotSealed", &[], || {
        manager.verify_sealed(&shard, Mode::Full)
    });
    let nothing = Arc::new(MemorySink::new());
    walk.step(&nothing, "Misuse(Builder", &[], || {
        VramManager::builder().sink(nothing.clone()).build()
    });
}

fn walk_policy(walk: &mut Walk) {
    let sink = Arc::new(MemorySink::new());
    let mut integrated = gpu_info(2 << 30);
    integrated.integrated = true;
    walk.step(&sink, "Policy(Device", &["policy.violation"], || {
        let builder = VramManager::builder().device(Disguise::new(integrated));
        builder.key(root_key(1)).sink(sink.clone()).build()
    });
    let device = Disguise::new(gpu_info(2 << 30));
    let rig = Rig::build(&[], Policy::default(), |b| b.device(device.clone()));
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    let violated = ["policy.violation"];
    walk.step(&rig.sink, "Policy(ExportOff", &violated, || {
        rig.manager.unseal_model(&shard)
    });
    walk.step(&rig.sink, "Policy(RepairOff", &violated, || {
        rig.manager.repair(&shard, &b"weights".as_slice())
    });
    device.sim.ignore_protect(true);
    let refused = [
        "vram.allocated",
        "model.load_started",
        "model.load_completed",
        "policy.violation",
        "vram.deallocated",
        "vram.seal_failed",
    ];
    walk.step(&rig.sink, "Policy(Memory", &refused, || {
        rig.manager.seal(SealRequest::bytes(b"others"))
    });
    let policy = Policy {
        models: ModelPolicy::signed_only(&[]),
        ..Policy::default()
    };
    let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |b| b);
    walk.step(&rig.sink, "Policy(NotSigned", &refused, || {
        rig.manager.seal(SealRequest::bytes(b"weights"))
    });
    let policy = Policy {
        max_seal_age: Some(Duration::from_secs(1)),
        ..Policy::default()
    };
    let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |b| b);
    let shard = sealed(&rig);
    rig.clock.advance(2_000_000_000);
    walk.step(
        &rig.sink,
        "Policy(SealAge",
        &["seal.verification_failed"],
        || rig.manager.verify_sealed(&shard, Mode::TagOnly),
    );
    let policy = Policy {
        max_clock_skew: Some(Duration::from_secs(1)),
        ..Policy::default()
    };
    let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |b| b);
    rig.clock.set_wall(Timestamp::from_nanos(9_000_000_000));
    let shard = sealed(&rig);
    rig.clock.set_wall(Timestamp::from_nanos(1));
    walk.step(
        &rig.sink,
        "Policy(SealDate",
        &["seal.verification_failed"],
        || rig.manager.verify_sealed(&shard, Mode::TagOnly),
    );
}

/// Does one thing with a shard.
type Call = fn(&VramManager, &SealedShard) -> Result<(), Error>;

fn walk_verification(walk: &mut Walk) {
    let rig = isolating();
    let (manager, sink) = (&rig.manager, &rig.sink);
    let shard = sealed(&rig);
    let failed = ["seal.verification_failed"];
    let forged = Record {
        sequence: 99,
        ..shard.record().clone()
    };
    walk.step(sink, "Verify(Tag", &failed, || {
        manager.verify_record(&forged, Mode::Full)
    });
    let foreign = Record {
        gpu_device: 9,
        ..shard.record().clone()
    };
    walk.step(sink, "Verify(NotHeld", &failed, || {
        manager.verify_record(&foreign, Mode::Full)
    });
    let other_file = [
        "vram.allocated",
        "model.load_started",
        "vram.deallocated",
        "model.hash_mismatch",
        "vram.seal_failed",
    ];
    walk.step(sink, "Verify(Unexpected", &other_file, || {
        manager.seal(SealRequest::bytes(b"other").expect(&"0".repeat(64)))
    });
    rig.device().flip_at(Flip {
        moment: Moment::AfterCopy,
        offset: 3,
        bit: 1,
    });
    walk.step(sink, "Verify(Copy", &UNDONE, || {
        manager.seal(SealRequest::bytes(b"other"))
    });
    // The old buffers are gone, so the shard is the newest again.
    rig.flip_newest(&shard, 5000, 2);
    rig.device().flip_at(Flip {
        moment: Moment::BeforeCheck,
        offset: 5000,
        bit: 2,
    });
    let read_back = [
        "shard.exported",
        "seal.checker_fault",
        "seal.verified",
        "operation.failed",
    ];
    walk.step(sink, "Verify(ReadBack", &read_back, || {
        manager.unseal_model(&shard)
    });
    rig.flip_newest(&shard, 5000, 2);
    walk.step(sink, "Verify(Contents", &failed, || {
        manager.verify_sealed(&shard, Mode::Full)
    });
    let calls: [Call; 4] = [
        |m, s| m.verify_sealed(s, Mode::TagOnly).map(drop),
        |m, s| m.unseal_model(s).map(drop),
        |m, s| m.migrate_shard(s, 1).map(drop),
        |m, s| m.lease(s, Mode::Full).map(drop),
    ];
    for call in calls {
        walk.step(sink, "Verify(Quarantined", &failed, || {
            call(manager, &shard)
        });
    }
    let unhealed = ["shard.repair_failed"];
    walk.step(sink, "Verify(RepairSource", &unhealed, || {
        manager.repair(&shard, &weights(9000, 3).as_slice())
    });
    manager.rotate_key(&root_key(2)).unwrap();
    manager.retire_old_keys().unwrap();
    let calls: [Call; 3] = [
        |m, s| m.unseal_model(s).map(drop),
        |m, s| m.migrate_shard(s, 1).map(drop),
        |m, s| m.repair(s, &[7; 9000].as_slice()).map(drop),
    ];
    for call in calls {
        walk.step(sink, "Verify(UnknownKey", &failed, || call(manager, &shard));
    }
    let other = manager.seal(SealRequest::bytes(b"other")).unwrap();
    rig.device()
        .lie_witness(Some(vram_residency::device::Witness {
            managed: true,
            ..other.record().witness
        }));
    walk.step(sink, "Verify(Witness", &failed, || {
        manager.verify_sealed(&other, Mode::TagOnly)
    });
}

fn walk_audit(walk: &mut Walk) {
    let rig = Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |b| {
        b.audit_mode(AuditMode::Required)
    });
    rig.sink.set_broken(true);
    walk.step(&rig.sink, "Audit(AuditError", &[], || {
        rig.manager.reserve(0, 1)
    });
    assert_eq!(rig.manager.used_vram(), 0, "what is not recorded is undone");
    assert_eq!(rig.manager.metrics().audit_emit_failures_total, 1);
}

/// Names of the variants of an enum in Rust source.
fn declared(source: &str, name: &str) -> Vec<String> {
    let head = format!("pub enum {name} {{");
    let (_, body) = source.split_once(&head).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let word = |line: &str| {
        let letters = line.chars().take_while(|c| c.is_alphanumeric());
        letters.collect()
    };
    names.map(word).collect()
}

// requirement: AU-3, AU-5, AU-7, AU-14, WORKER-4150
#[test]
fn every_error_variant_leaves_the_events_that_it_should() {
    let mut walk = Walk {
        seen: BTreeSet::new(),
    };
    walk_loads(&mut walk);
    walk_devices(&mut walk);
    walk_keys(&mut walk);
    walk_papers(&mut walk);
    walk_room_and_inputs(&mut walk);
    walk_misuse(&mut walk);
    walk_policy(&mut walk);
    walk_verification(&mut walk);
    walk_audit(&mut walk);
    let mut count = 0;
    let mut excused = BTreeSet::new();
    for (kind, name, source) in ENUMS {
        for variant in declared(source, name) {
            let variant = format!("{kind}({variant}");
            let elsewhere = ELSEWHERE.iter().any(|(known, _)| *known == variant);
            excused.extend(elsewhere.then(|| variant.clone()));
            let seen = walk.seen.contains(&variant);
            assert!(
                seen != elsewhere,
                "{variant}: walked {seen}, listed elsewhere {elsewhere}"
            );
            count += 1;
        }
    }
    assert!(
        count > 60,
        "only {count} variants were found in the sources"
    );
    assert_eq!(
        excused.len(),
        ELSEWHERE.len(),
        "an excuse for what is not there"
    );
    // `Internal` is left: a state that no caller can bring about.
    let kinds = ["Free(", "InsufficientVram(", "Audit(", "Random("];
    for kind in kinds {
        assert!(
            walk.seen.iter().any(|seen| seen.starts_with(kind)),
            "{kind}"
        );
    }
}
