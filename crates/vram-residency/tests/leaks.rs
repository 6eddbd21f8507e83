//! No pointer, key, tag or weight byte in any message, `Debug`, JSON or event.

mod common;

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use common::disguise::{Disguise, gpu_info};
use common::{Seeded, known, listen, newest, root_key};
use sha2::Sha256;
use vram_residency::audit::MemorySink;
use vram_residency::device::{DeviceError, MemoryKind};
use vram_residency::key::KeyContext;
use vram_residency::policy::OnFailure;
use vram_residency::random::Random;
use vram_residency::sim::Op;
use vram_residency::{Error, Mode, Policy, SealRequest, SealedShard, VramManager};

/// Weights that would be seen in any encoding.
const WEIGHTS: &[u8] = b"WEIGHTS-THAT-NOBODY-MAY-SEE-IN-A-MESSAGE";

/// Everything printable that a full life produced.
#[derive(Default)]
struct Printed(String);

impl Printed {
    fn debug(&mut self, value: &impl Debug) {
        writeln!(self.0, "{value:?}\n{value:#?}").unwrap();
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        writeln!(self.0, "{}", serde_json::to_string(value).unwrap()).unwrap();
    }

    fn error<T>(&mut self, answer: Result<T, Error>) {
        let error = answer.err().expect("this must fail");
        self.debug(&error);
        writeln!(self.0, "{error}\n{:?}", error.code()).unwrap();
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(inner) = source {
            writeln!(self.0, "{inner}\n{inner:?}").unwrap();
            source = inner.source();
        }
    }

    fn assert_without(&self, what: &str, bytes: &[u8]) {
        let lower: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let list = format!("{bytes:?}");
        let list = list.trim_matches(['[', ']']);
        let text = String::from_utf8_lossy(bytes);
        for form in [lower.as_str(), &lower.to_uppercase(), list, &text] {
            assert!(!self.0.contains(form), "{what} leaked as {form}");
        }
    }
}

struct Stage {
    manager: VramManager,
    device: Disguise,
    sink: Arc<MemorySink>,
}

fn stage() -> Stage {
    let device = Disguise::new(gpu_info(2 << 30));
    let sink = Arc::new(MemorySink::new());
    let policy = Policy {
        allow_repair: true,
        on_failure: OnFailure::Isolate,
        ..Policy::default()
    };
    let manager = VramManager::builder()
        .device(device.clone())
        .key(root_key(1))
        .random(Arc::new(Seeded::new(2)))
        .policy(policy)
        .sink(sink.clone())
        .build()
        .unwrap();
    Stage {
        manager,
        device,
        sink,
    }
}

/// Prints every public value that a life produces; returns the shard and its
/// address.
fn live(stage: &Stage, out: &mut Printed) -> (SealedShard, u64) {
    let manager = &stage.manager;
    let request = SealRequest::bytes(WEIGHTS)
        .id("leaky")
        .with_content_digest();
    let shard = manager.seal(request).unwrap();
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    let address = lease.address().unwrap().raw();
    assert_eq!(address % 256, 0);
    out.debug(&shard);
    out.debug(&lease);
    out.debug(shard.record());
    out.debug(lease.verification());
    out.json(lease.verification());
    lease.finish();
    out.debug(&manager.capacity(0).unwrap());
    out.json(&manager.metrics());
    out.debug(&manager.metrics());
    out.debug(&manager.devices());
    out.debug(&manager.policy());
    out.debug(&manager.key_id(0).unwrap());
    let attestation = manager
        .attest_vram_residency(&shard, Some(&[9; 16]))
        .unwrap();
    out.debug(&attestation);
    (shard, address)
}

/// Provokes errors of every kind and prints them.
fn fail(stage: &Stage, shard: &SealedShard, out: &mut Printed) {
    let (manager, sim) = (&stage.manager, &stage.device.sim);
    let driver = || DeviceError::Driver {
        op: "cuMemcpy",
        code: 12_345,
        name: "unknown".to_owned(),
        text: "no text".to_owned(),
    };
    out.error(manager.unseal_model(shard));
    out.error(manager.read_shard_at_offset(shard, u64::MAX, 2));
    out.error(manager.seal(SealRequest::bytes(WEIGHTS).id("leaky")));
    out.error(manager.seal(SealRequest::bytes(WEIGHTS).device(3)));
    out.error(manager.seal(SealRequest::bytes(WEIGHTS).expect(&"0".repeat(64))));
    out.error(manager.seal(SealRequest::bytes(WEIGHTS).expect_content(&"0".repeat(64))));
    out.error(manager.reserve(0, 4 << 30));
    out.error(manager.repair(shard, &b"short".as_slice()));
    for op in [
        Op::Allocate,
        Op::Upload,
        Op::Submit,
        Op::Finish,
        Op::Protect,
        Op::Witness,
    ] {
        sim.fail(op, 1, driver());
        out.error(manager.seal(SealRequest::bytes(WEIGHTS)));
    }
    let lease = manager.lease(shard, Mode::Full).unwrap();
    out.error(manager.deallocate(shard));
    out.error(lease.tensor("no.such.tensor"));
    lease.finish();
    let mut record = shard.record().clone();
    record.sequence += 1;
    out.error(manager.verify_record(&record, Mode::Full));
    record.key_id = vram_residency::key::KeyId::from_bytes([1; 8]);
    out.error(manager.verify_record(&record, Mode::Full));
    stage.device.lie(|honest| vram_residency::device::Witness {
        memory: MemoryKind::Managed,
        managed: true,
        ..honest
    });
    out.error(manager.seal(SealRequest::bytes(WEIGHTS)));
    stage.device.lie(|honest| honest);
    sim.flip_bit(newest(sim), 3, 3).unwrap();
    out.error(manager.verify_sealed(shard, Mode::Full));
    out.error(manager.lease(shard, Mode::Full));
    let other = [0_u8; WEIGHTS.len()];
    out.error(manager.repair(shard, &other.as_slice()));
    sim.fail(Op::Free, 1, driver());
    out.error(manager.deallocate(shard));
    out.error(manager.verify_sealed(shard, Mode::Full));
    manager.stop("a reason").unwrap();
    let another = manager.seal(SealRequest::bytes(WEIGHTS)).unwrap();
    out.error(manager.lease(&another, Mode::Full));
}

impl Printed {
    /// The address of a leased shard stands here in no form.
    fn assert_without_address(&self, address: u64) {
        for form in [
            format!("{address:x}"),
            format!("{address:X}"),
            address.to_string(),
        ] {
            assert!(!self.0.contains(&form), "the address leaked as {form}");
        }
    }

    fn assert_long(&self, bytes: usize) {
        let len = self.0.len();
        assert!(len > bytes, "only {len} bytes were printed");
    }
}

// requirement: WORKER-4111, MS-001
#[test]
fn vram_ptr_not_in_debug() {
    let stage = stage();
    let mut out = Printed::default();
    let (shard, address) = live(&stage, &mut out);
    out.assert_long(5_000);
    assert!(out.0.contains("leaky") && out.0.contains(&shard.digest().to_string()));
    out.assert_without_address(address);
}

// requirement: WORKER-4111, WORKER-4152
#[test]
fn errors_dont_expose_pointers() {
    let stage = stage();
    let (shard, address) = live(&stage, &mut Printed::default());
    let mut out = Printed::default();
    fail(&stage, &shard, &mut out);
    out.assert_long(5_000);
    out.assert_without_address(address);
}

/// Everything printable of a life with all its failures, events and logs included.
fn everything() -> (Printed, SealedShard, u64) {
    let keeping = listen::keep();
    let stage = stage();
    let mut out = Printed::default();
    let (shard, address) = live(&stage, &mut out);
    fail(&stage, &shard, &mut out);
    for event in stage.sink.events() {
        out.debug(&event);
        out.json(&event);
    }
    // The log, at its most verbose, in both forms.
    let (lines, text) = keeping.told();
    assert!(text.contains("the statement was tagged"), "{text}");
    lines.iter().for_each(|line| out.json(line));
    out.0 += &text;
    out.assert_long(50_000);
    (out, shard, address)
}

// requirement: CI-006, KD-8, TY-6
#[test]
fn seal_key_not_logged() {
    let (out, shard, _) = everything();
    // The secret, and the key that was derived from it.
    let mut secret = [0; 32];
    Seeded::new(1 ^ 0x6b65_7973).fill(&mut secret).unwrap();
    let derived = derived_key(&secret, &shard);
    out.assert_without("the secret", &secret);
    out.assert_without("the sealing key", &derived);
}

// requirement: WORKER-4111, WORKER-4152, AU-11
#[test]
fn weights_tags_and_addresses_appear_in_no_text() {
    let (out, shard, address) = everything();
    out.assert_without_address(address);
    out.assert_without("weights", WEIGHTS);
    out.assert_without("weights", &WEIGHTS[..12]);
    // The tag is public in the record's JSON and attestations, nowhere else.
    out.assert_without("the tag", shard.record().tag.as_bytes());
}

/// HKDF by hand: the derived key is the one that made the tag.
fn derived_key(secret: &[u8; 32], shard: &SealedShard) -> [u8; 32] {
    use hmac::{Hmac, KeyInit, Mac};
    let record = shard.record();
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let key = known::derived_key(secret, &context);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(&record.statement());
    assert_eq!(mac.finalize().into_bytes()[..], record.tag.as_bytes()[..]);
    key
}

// requirement: WORKER-4111, VP-006
#[test]
fn vram_ptr_not_in_json() {
    let stage = stage();
    let shard = stage.manager.seal(SealRequest::bytes(WEIGHTS)).unwrap();
    let lease = stage.manager.lease(&shard, Mode::Full).unwrap();
    let address = lease.address().unwrap().raw();
    let attestation = stage.manager.attest_vram_residency(&shard, None).unwrap();
    let json = serde_json::to_string(&attestation).unwrap() + &shard.record().to_json().unwrap();
    assert!(json.contains("\"schema\":\"vram-residency/tagged/v1\""));
    for word in ["ptr", "addr", &address.to_string(), &format!("{address:x}")] {
        assert!(!json.contains(word), "{word} in {json}");
    }
}

// requirement: WORKER-4111
#[test]
fn vram_ptr_not_exposed() {
    // Not without a lease, and never on the simulator.
    let rig = common::rig(1 << 20);
    let shard = rig.manager.seal(SealRequest::bytes(WEIGHTS)).unwrap();
    let lease = rig.manager.lease(&shard, Mode::Full).unwrap();
    assert!(
        lease.address().is_none(),
        "host memory has no device address"
    );
    let stage = stage();
    let shard = stage.manager.seal(SealRequest::bytes(WEIGHTS)).unwrap();
    stage.manager.stop("test").unwrap();
    assert!(
        stage.manager.lease(&shard, Mode::Full).is_err(),
        "no lease, no address"
    );
}

// requirement: KD-8, PM-14
#[test]
fn token_leakage_detection() {
    // Errors of key sources repeat nothing of the key.
    let token = b"short-and-secret-token";
    let error = vram_residency::key::RootKey::from_token(token)
        .err()
        .unwrap();
    assert!(error.to_string().contains("22 bytes"), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret-token"));
    let hex = "SECRETSECRET".repeat(6);
    let error = vram_residency::key::RootKey::from_reader(hex.as_bytes())
        .err()
        .unwrap();
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
}
