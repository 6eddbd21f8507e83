//! VRAM only: which devices and which memory may hold a model, asked of a
//! device that claims to be a GPU and then lies.

mod common;

use std::sync::Arc;

use common::disguise::{Disguise, gpu_info};
use common::{Rig, Seeded, newest, rig, root_key, weights};
use vram_residency::audit::{AuditMode, Body, MemorySink, Severity};
use vram_residency::device::{
    Device, DeviceError, DeviceInfo, DeviceKind, MemoryKind, Protection, Uuid, Witness,
};
use vram_residency::error::{Code, Error, InputError, Misuse, VerifyError};
use vram_residency::policy::{OnFailure, PolicyError};
use vram_residency::random::{Random, RandomError};
use vram_residency::receipt::{Nonce, ReceiptError, Trust};
use vram_residency::sim::{Op, SimDevice, SimOptions};
use vram_residency::{Mode, Policy, SealRequest, VramManager};

type Lie = fn(Witness) -> Witness;

/// What a driver may say that is not residency, and the words of the refusal.
const LIES: [(&str, Lie); 6] = [
    ("managed", |w| Witness { managed: true, ..w }),
    ("reachable from the host", |w| Witness {
        host_pointer: true,
        ..w
    }),
    ("not device memory", |w| Witness {
        memory: MemoryKind::Host,
        ..w
    }),
    ("not device memory", |w| Witness {
        memory: MemoryKind::Unknown,
        ..w
    }),
    ("another device", |w| Witness { ordinal: 1, ..w }),
    ("still writable", |w| Witness {
        protection: Protection::ReadWrite,
        ..w
    }),
];

struct Gpu {
    manager: VramManager,
    device: Disguise,
    sink: Arc<MemorySink>,
}

fn gpu(policy: Policy) -> Gpu {
    let device = Disguise::new(gpu_info(2 << 30));
    let sink = Arc::new(MemorySink::new());
    let manager = start(device.clone(), policy, &sink).unwrap();
    Gpu {
        manager,
        device,
        sink,
    }
}

fn start(
    device: impl Device + 'static,
    policy: Policy,
    sink: &Arc<MemorySink>,
) -> vram_residency::Result<VramManager> {
    VramManager::builder()
        .device(device)
        .key(root_key(1))
        .random(Arc::new(Seeded::new(3)))
        .policy(policy)
        .sink(sink.clone())
        .build()
}

fn seal(manager: &VramManager) -> vram_residency::Result<vram_residency::SealedShard> {
    manager.seal(SealRequest::bytes(&weights(5000, 1)))
}

// requirement: POL-1, POL-3, POL-7, VP-002, WORKER-4163, WORKER-4171, AU-7, OP-6
#[test]
fn vram_only_enforced() {
    // At the start; the device that fails is named.
    let edit = |edit: fn(&mut DeviceInfo)| {
        let mut info = gpu_info(2 << 30);
        edit(&mut info);
        info
    };
    let cases = [
        ("discrete GPU", edit(|i| i.integrated = true)),
        (
            "5.2 is below 6.0",
            edit(|i| i.compute_capability = Some((5, 2))),
        ),
        ("does not tell", edit(|i| i.compute_capability = None)),
        (
            "at least 1073741824",
            edit(|i| i.total_bytes = (1 << 30) - 1),
        ),
    ];
    for (words, info) in cases {
        let sink = Arc::new(MemorySink::new());
        let refused = start(Disguise::new(info), Policy::default(), &sink);
        let error = refused.err().unwrap();
        assert!(
            matches!(error, Error::Policy(PolicyError::Device { .. })),
            "{error}"
        );
        assert!(
            error.to_string().contains(words) && error.is_fatal(),
            "{error}"
        );
        assert_eq!(error.code(), Code::PolicyViolation);
        let events = sink.events();
        let [event] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(event.severity, Severity::Critical);
        let Body::PolicyViolation {
            policy,
            violation,
            details,
            shard_id: None,
            gpu_device,
            action_taken,
        } = &event.body
        else {
            panic!("{event:?}");
        };
        assert_eq!((policy.as_str(), *gpu_device), ("vram_only", Some(0)));
        assert!(details.as_str().contains("NVIDIA Disguise"), "{details}");
        assert_eq!(action_taken.as_str(), "worker_startup_blocked");
        assert!(violation.as_str().contains(words), "{violation}");
    }
    for good in [(6, 0), (6, 1), (7, 0), (10, 0), (12, 1)] {
        let mut info = gpu_info(1 << 30);
        info.compute_capability = Some(good);
        start(Disguise::new(info), Policy::default(), &Arc::default()).unwrap();
    }
}

// requirement: POL-1, POL-4, API-F36
#[test]
fn limits_are_the_operators_choice() {
    let device = || Disguise::new(gpu_info(2 << 30));
    let strict = Policy {
        min_compute_capability: (9, 1),
        ..Policy::default()
    };
    assert!(start(device(), strict, &Arc::default()).is_err());
    let strict = Policy {
        min_device_bytes: 3 << 30,
        ..Policy::default()
    };
    assert!(start(device(), strict, &Arc::default()).is_err());
    let gpu = gpu(Policy::default());
    assert!(gpu.manager.is_vram_only() && gpu.manager.is_policy_enforced(0).unwrap());
    assert!(gpu.manager.is_policy_enforced(1).is_err());
    gpu.manager.enforce_vram_only_policy().unwrap();
    assert!(gpu.sink.events().is_empty());
}

/// What was true at the start is asked again.
// requirement: POL-3, AU-3, AU-13
#[test]
fn a_device_that_fails_the_policy_is_named_although_the_log_is_full() {
    let (device, sink) = (
        Disguise::new(gpu_info(2 << 30)),
        Arc::new(MemorySink::new()),
    );
    let manager = VramManager::builder()
        .device(device.clone())
        .key(root_key(1))
        .sink(sink.clone())
        .audit_mode(AuditMode::Required)
        .build()
        .unwrap();
    let shard = seal(&manager).unwrap();
    device.change(|info| info.integrated = true);
    sink.set_broken(true);
    let error = manager.enforce_vram_only_policy().unwrap_err();
    assert!(matches!(error, Error::Policy(_)), "{error}");
    assert!(error.is_fatal());
    sink.set_broken(false);
    let leased = manager.lease(&shard, Mode::Full).unwrap_err();
    assert!(
        matches!(leased, Error::Misuse(Misuse::Stopped { .. })),
        "{leased}"
    );
}

// requirement: POL-3, POL-4, POL-5, AU-7
#[test]
fn a_device_that_changes_after_the_start_is_found() {
    type Edit = fn(&mut DeviceInfo);
    let edits: [(Edit, &str); 4] = [
        (|i| i.integrated = true, "discrete GPU"),
        (|i| i.total_bytes = 1 << 20, "1048576 bytes of memory"),
        (|i| i.kind = DeviceKind::Simulated, "another device"),
        (|i| i.uuid = Uuid::from_bytes([7; 16]), "another device"),
    ];
    for (edit, words) in edits {
        let gpu = gpu(Policy::default());
        let shard = seal(&gpu.manager).unwrap();
        gpu.device.change(edit);
        let nonce = Nonce::new(&[7; 16]).unwrap();
        let attested = gpu.manager.attest_vram_residency(&shard, None).err();
        let measured = gpu.manager.measure_residency(&shard, &nonce).err();
        for error in [attested, measured] {
            assert!(error.unwrap().to_string().contains(words), "{words}");
        }
        assert!(!gpu.manager.is_vram_only(), "{words}");
        assert!(!gpu.manager.is_policy_enforced(0).unwrap(), "{words}");
        let error = gpu.manager.enforce_vram_only_policy().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.is_fatal());
        let events = gpu.sink.events();
        let violations = events
            .iter()
            .filter(|e| e.body.event_type() == "policy.violation");
        for violation in violations.clone() {
            assert_eq!(violation.severity, Severity::Critical);
            let json = serde_json::to_value(violation).unwrap();
            assert_eq!(json["action_taken"], "worker_stopped");
        }
        assert_eq!(violations.count(), 3);
        // Nothing is leased on a device that is not what was admitted.
        let leased = gpu.manager.lease(&shard, Mode::Full).unwrap_err();
        assert!(
            matches!(leased, Error::Misuse(Misuse::Stopped { .. })),
            "{leased}"
        );
        let stops = gpu
            .sink
            .types()
            .iter()
            .filter(|e| *e == "manager.stopped")
            .count();
        assert_eq!(stops, 1);
    }
    let gpu = gpu(Policy::default());
    let silent = DeviceError::Unsupported { what: "facts" };
    gpu.device.sim.fail(Op::Facts, 1, silent.clone());
    assert!(gpu.manager.enforce_vram_only_policy().is_err());
    assert_eq!(gpu.sink.types(), ["operation.failed"]);
    gpu.device.sim.fail(Op::Facts, 1, silent);
    assert!(!gpu.manager.is_vram_only());
    assert!(gpu.manager.is_vram_only());
}

/// A driver that says `lie` about fresh memory: nothing is sealed in it, nothing
/// is left, and the violation is an event.
fn refused_at_the_seal(words: &str, lie: impl Fn(Witness) -> Witness + Send + Sync + 'static) {
    let gpu = gpu(Policy::default());
    gpu.device.lie(lie);
    let error = seal(&gpu.manager).unwrap_err();
    assert!(
        matches!(error, Error::Policy(PolicyError::Memory { .. })),
        "{error}"
    );
    assert!(error.to_string().contains(words), "{error}");
    assert!(gpu.device.sim.buffers().is_empty(), "nothing is left");
    assert_eq!(gpu.manager.used_vram(), 0);
    let expected = [
        "vram.allocated",
        "model.load_started",
        "model.load_completed",
        "policy.violation",
        "vram.deallocated",
        "vram.seal_failed",
    ];
    assert_eq!(gpu.sink.types(), expected);
    assert_eq!(gpu.sink.events()[3].severity, Severity::Critical);
}

// requirement: WORKER-4101, POL-2, M0-W-1010, AU-7, VP-001
#[test]
fn every_answer_that_is_not_residency_is_refused() {
    for (words, lie) in LIES {
        refused_at_the_seal(words, lie);
    }
}

// requirement: VP-002, POL-2, WORKER-4101
#[test]
fn uma_disabled() {
    // Managed memory, whatever else the driver says about it.
    for memory in [MemoryKind::Device, MemoryKind::Managed, MemoryKind::Unknown] {
        refused_at_the_seal("managed", move |w| Witness {
            memory,
            managed: true,
            ..w
        });
    }
    // A GPU that shares its memory with the CPU is refused at the start.
    let mut shared = gpu_info(2 << 30);
    shared.integrated = true;
    let error = start(Disguise::new(shared), Policy::default(), &Arc::default()).err();
    assert!(error.unwrap().to_string().contains("discrete GPU"));
}

// requirement: VP-003, WORKER-4101
#[test]
fn zero_copy_disabled() {
    // Device memory that the host can reach through a pointer of its own.
    for memory in [MemoryKind::Device, MemoryKind::Host] {
        refused_at_the_seal("reachable from the host", move |w| Witness {
            memory,
            host_pointer: true,
            ..w
        });
    }
}

// requirement: VP-003, WORKER-4101, WORKER-4102
#[test]
fn pinned_memory_disabled() {
    // Page-locked host memory, without and with a host pointer admitted.
    refused_at_the_seal("not device memory", |w| Witness {
        memory: MemoryKind::Host,
        host_pointer: false,
        ..w
    });
    refused_at_the_seal("host", |w| Witness {
        memory: MemoryKind::Host,
        host_pointer: true,
        ..w
    });
}

// requirement: VP-004, VP-005, WORKER-4103, WORKER-4000, WORKER-4100
#[test]
fn ram_fallback_rejected() {
    // A model that does not fit is refused; it is not put elsewhere, and the
    // model that fits still is.
    let gpu = gpu(Policy::default());
    let too_big = vram_residency::load::PatternSource::new((2 << 30) + 1, 1);
    let error = gpu.manager.seal(SealRequest::source(too_big)).unwrap_err();
    assert!(matches!(error, Error::InsufficientVram(_)), "{error}");
    assert_eq!(gpu.device.sim.calls(Op::Allocate), 0);
    assert_eq!(gpu.device.sim.host_bytes(), 0);
    // A driver that has room only in host memory is refused as well.
    gpu.device.lie(|w| Witness {
        memory: MemoryKind::Host,
        ..w
    });
    let error = seal(&gpu.manager).unwrap_err();
    assert!(matches!(error, Error::Policy(_)), "{error}");
    gpu.device.lie(|honest| honest);
    let shard = seal(&gpu.manager).unwrap();
    assert_eq!(shard.record().witness.memory, MemoryKind::Device);
}

// requirement: M0-W-1012, POL-5, WORKER-4122, PM-12
#[test]
fn a_witness_that_changes_after_the_seal_fails_the_verification() {
    for (_, lie) in LIES {
        let gpu = gpu(Policy::default());
        let shard = seal(&gpu.manager).unwrap();
        let _ = gpu.manager.verify_sealed(&shard, Mode::TagOnly).unwrap();
        gpu.device.lie(lie);
        let error = gpu
            .manager
            .verify_sealed(&shard, Mode::TagOnly)
            .err()
            .unwrap();
        assert!(
            matches!(error, Error::Verify(VerifyError::Witness { .. })),
            "{error}"
        );
        assert!(shard.is_quarantined());
        assert!(gpu.manager.lease(&shard, Mode::Full).is_err());
        // A driver that tells the truth again does not lift the quarantine.
        gpu.device.lie(|honest| honest);
        gpu.manager.resume("the driver was updated").unwrap();
        let error = gpu.manager.lease(&shard, Mode::Full).err().unwrap();
        assert!(
            matches!(error, Error::Verify(VerifyError::Quarantined { .. })),
            "{error}"
        );
    }
}

// requirement: WORKER-4112, MS-007
#[test]
fn hardware_without_read_only_mappings_is_admitted_only_by_name() {
    let sealed = |policy| {
        let rig = Rig::build(&[SimOptions::new(1 << 20)], policy, |b| b);
        rig.device().ignore_protect(true);
        let shard = rig.manager.seal(SealRequest::bytes(b"weights"));
        (rig, shard)
    };
    let (rig, refused) = sealed(Policy::default());
    assert!(refused.unwrap_err().to_string().contains("still writable"));
    rig.assert_empty();
    let (rig, shard) = sealed(Policy {
        require_read_only: false,
        ..Policy::default()
    });
    let shard = shard.unwrap();
    assert_eq!(
        shard.record().witness.protection,
        Protection::ReadWrite,
        "the seal says so"
    );
    assert!(rig.manager.verify_shard_integrity(&shard).unwrap());
}

// requirement: POL-2
#[test]
fn a_weaker_allocation_is_refused_when_the_policy_asks_for_the_stronger() {
    let strict = Policy {
        require_pinned_allocation: true,
        ..Policy::default()
    };
    let gpu = gpu(strict);
    seal(&gpu.manager).map(drop).unwrap();
    gpu.device.lie(|w| Witness {
        pinned_on_device: false,
        ..w
    });
    assert!(
        seal(&gpu.manager)
            .unwrap_err()
            .to_string()
            .contains("pinned")
    );
}

// requirement: POL-2, WORKER-4101
#[test]
fn each_kind_of_device_has_its_kind_of_memory() {
    let admitted = |policy: &Policy, kind, memory, pinned_on_device| {
        let info = DeviceInfo {
            kind,
            ..gpu_info(2 << 30)
        };
        let witness = Witness {
            memory,
            managed: false,
            host_pointer: false,
            pinned_on_device,
            ordinal: 0,
            protection: Protection::ReadOnly,
        };
        let answer = policy.admit_memory(&info, witness);
        answer.map(|confirmed| assert_eq!(confirmed.witness(), witness))
    };
    let (cuda, simulated) = (DeviceKind::Cuda, DeviceKind::Simulated);
    let default = Policy::default();
    // A fake driver under the CUDA backend says what a driver says.
    for (kind, memory, good) in [
        (cuda, MemoryKind::Device, true),
        (cuda, MemoryKind::Simulated, false),
        (cuda, MemoryKind::Host, false),
        (cuda, MemoryKind::Managed, false),
        (simulated, MemoryKind::Simulated, true),
        (simulated, MemoryKind::Device, true),
        (simulated, MemoryKind::Host, false),
        (simulated, MemoryKind::Unknown, false),
    ] {
        let answer = admitted(&default, kind, memory, true);
        assert_eq!(answer.is_ok(), good, "{kind:?} {memory:?}");
    }
    // Only a GPU can be asked for pinned allocations, and only if the policy does.
    let strict = Policy {
        require_pinned_allocation: true,
        ..Policy::default()
    };
    for (policy, kind, memory, good) in [
        (&strict, cuda, MemoryKind::Device, false),
        (&default, cuda, MemoryKind::Device, true),
        (&strict, simulated, MemoryKind::Simulated, true),
        (&default, simulated, MemoryKind::Simulated, true),
    ] {
        let answer = admitted(policy, kind, memory, false);
        assert_eq!(answer.is_ok(), good, "{kind:?} {memory:?}");
    }
}

// requirement: IV-001, VA-3
#[test]
fn a_size_is_admitted_from_one_byte_to_the_limit() {
    let policy = Policy {
        max_model_bytes: 10,
        ..Policy::default()
    };
    for len in [1, 2, 9, 10] {
        assert_eq!(policy.admit_size(len).unwrap().bytes(), len);
    }
    for len in [0, 11, u64::MAX] {
        let error = policy.admit_size(len).unwrap_err();
        assert_eq!(error, InputError::ModelSize { len, max: 10 });
    }
}

// requirement: VP-005, POL-6, DM-11
#[test]
fn ram_inference_rejected() {
    // A simulated seal never passes for one of a GPU.
    let rig = rig(1 << 20);
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    assert_eq!(shard.record().device_kind, DeviceKind::Simulated);
    assert_eq!(shard.record().witness.memory, MemoryKind::Simulated);
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    assert!(
        lease.address().is_none(),
        "host memory has no address for a kernel"
    );
    lease.finish();
    // A simulator that claims to be a GPU, but whose memory is what it is.
    let gpu = gpu(Policy::default());
    gpu.device.lie(|w| Witness {
        memory: MemoryKind::Simulated,
        ..w
    });
    assert!(
        seal(&gpu.manager)
            .unwrap_err()
            .to_string()
            .contains("not device memory")
    );
}

// requirement: API-F24, VP-005
#[test]
fn export_from_a_gpu_is_off_unless_the_policy_allows_it() {
    let closed = gpu(Policy::default());
    let shard = seal(&closed.manager).unwrap();
    for answer in [
        closed.manager.unseal_model(&shard),
        closed.manager.read_shard_at_offset(&shard, 0, 1),
    ] {
        assert!(matches!(
            answer.unwrap_err(),
            Error::Policy(PolicyError::ExportOff)
        ));
    }
    assert_eq!(
        closed.device.sim.calls(Op::Read),
        0,
        "no byte left the device"
    );
    let open = gpu(Policy {
        allow_export: true,
        ..Policy::default()
    });
    let shard = seal(&open.manager).unwrap();
    assert_eq!(open.manager.unseal_model(&shard).unwrap(), weights(5000, 1));
    assert_eq!(open.sink.types().last().unwrap(), "shard.exported");
}

// requirement: VP-006, API-F22, WORKER-4230
#[test]
fn policy_attestation() {
    // It states measured facts, under a tag.
    let gpu = gpu(Policy::default());
    let shard = seal(&gpu.manager).unwrap();
    let attest = |nonce: &[u8]| {
        gpu.manager
            .attest_vram_residency(&shard, Some(nonce))
            .unwrap()
    };
    let attestation = attest(&[7; 32]);
    let nonce = Nonce::new(&[7; 32]).unwrap();
    // Believed of a GPU without being asked to believe a simulator.
    let answered = attestation.check(&root_key(1), &Trust::default(), Some(&nonce));
    let facts = answered.unwrap().facts();
    assert_eq!(facts.bytes_checked, 5000);
    assert_eq!(facts.witness.memory, MemoryKind::Device);
    assert_eq!(facts.device.uuid, shard.record().device_uuid);
    assert_eq!(facts.device.total_bytes - facts.device.free_bytes, 5000);
    let other = attest(&[8; 32]);
    let other = other.check(&root_key(1), &Trust::default(), Some(&nonce));
    assert!(matches!(other, Err(Error::Receipt(ReceiptError::Nonce))));
    gpu.device
        .sim
        .flip_bit(newest(&gpu.device.sim), 0, 0)
        .unwrap();
    assert!(gpu.manager.attest_vram_residency(&shard, None).is_err());
}

/// A source of randomness that has none.
struct Dry;

impl Random for Dry {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError::new("dry"))
    }
}

// requirement: WORKER-4172, API-F2, VA-2, API-F1
#[test]
fn a_manager_that_cannot_be_built_says_why() {
    let sim = |ordinal| SimDevice::with_options(SimOptions::new(1).ordinal(ordinal));
    let builder = || VramManager::builder().key(root_key(1));
    let why = |builder: vram_residency::manager::VramManagerBuilder| match builder.build() {
        Err(Error::Misuse(Misuse::Builder(why))) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("built"),
    };
    assert!(why(builder()).contains("no device"));
    assert!(why(VramManager::builder().device(sim(0))).contains("no key"));
    assert!(why(builder().device(sim(0)).device(sim(0))).contains("same ordinal or UUID"));
    let many = (0..65).fold(builder(), |b, i| b.device(sim(i)));
    assert!(why(many).contains("more than 64"));
    let odd = builder().device(sim(0)).worker_id("no spaces").build();
    assert!(matches!(
        odd.err(),
        Some(Error::Input(InputError::Characters { .. }))
    ));
    let dry = builder().device(sim(0)).random(Arc::new(Dry)).build();
    assert!(matches!(dry.err(), Some(Error::Random(_))));
    let isolate = Policy {
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let built = builder()
        .device(sim(0))
        .device(sim(1))
        .policy(isolate.clone())
        .build();
    assert_eq!(built.unwrap().policy(), &isolate);
}
