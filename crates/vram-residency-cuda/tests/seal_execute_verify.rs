//! A sealed model is executed on leased memory and verified again; a flip in
//! between stops the execution. On the simulated device, on the fake driver
//! with the committed PTX, and on a real GPU, with the code of the example.

mod common;
#[path = "../examples/matvec/engine.rs"]
mod engine;
#[path = "../examples/matvec/model.rs"]
mod model;
#[path = "../examples/matvec/tamper.rs"]
mod tamper;

use std::sync::Arc;

use common::Machine;
use engine::{Engine, Gpu};
use model::Layer;
use vram_residency::capacity::Sharing;
use vram_residency::device::Device;
use vram_residency::error::{Error, Misuse, VerifyError};
use vram_residency::format::Format;
use vram_residency::key::RootKey;
use vram_residency::load::FormatChoice;
use vram_residency::manager::RunState;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

const SEED: u64 = 5;

fn manager(device: Arc<dyn Device>) -> VramManager {
    VramManager::builder()
        .device_with(device, None, Sharing::Dedicated)
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap()
}

fn seal(manager: &VramManager, layer: &Layer) -> SealedShard {
    let file = layer.to_safetensors();
    let request = SealRequest::bytes(&file).format(FormatChoice::Exactly(Format::Safetensors));
    let shard = manager.seal(request).unwrap();
    assert_eq!(shard.record().digest, vram_digest::digest(&file));
    shard
}

/// What an engine does for one request.
fn serve(
    manager: &VramManager,
    shard: &SealedShard,
    mode: Mode,
    engine: &Engine,
) -> Result<Vec<i32>, Error> {
    let lease = manager.lease(shard, mode)?;
    assert_eq!(lease.verification().bytes_checked, lease.bytes());
    assert!(!lease.verification().reused, "verified for this execution");
    Ok(engine
        .execute(lease, &model::input(SEED))
        .expect("the work itself"))
}

/// Seal, lease, execute, finish, verify; `flip` changes one bit of a weight.
fn scenario(
    device: Arc<dyn Device>,
    engine: &Engine,
    flip: impl FnOnce(&VramManager, &SealedShard, u64),
) {
    let manager = manager(device);
    let layer = Layer::new(SEED);
    let shard = seal(&manager, &layer);
    let expected = layer.apply(&model::input(SEED));
    assert!(expected.iter().any(|y| *y != 0) && expected.len() == model::ROWS);
    for mode in [Mode::Full, Mode::Keyed] {
        assert_eq!(serve(&manager, &shard, mode, engine).unwrap(), expected);
        assert_eq!(shard.leases(), 0, "the engine gave its lease back");
    }
    let verified = manager.verify_sealed(&shard, Mode::Full).unwrap();
    assert_eq!(
        verified.verification().bytes_checked,
        shard.record().vram_bytes
    );

    let weight = shard.tensors().get("weight").unwrap();
    flip(&manager, &shard, weight.offset + weight.len / 2);
    let refused = serve(&manager, &shard, Mode::Full, engine).unwrap_err();
    let Error::Verify(VerifyError::Contents { damage, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(damage.blocks, Some(1), "{refused}");
    assert!(
        refused.to_string().contains("in tensor weight"),
        "{refused}"
    );
    assert!(matches!(manager.state(), RunState::Stopped { .. }));
    for mode in [Mode::Full, Mode::Keyed, Mode::TagOnly] {
        let refused = manager.lease(&shard, mode).map(|_| ()).unwrap_err();
        assert!(
            matches!(refused, Error::Misuse(Misuse::Stopped { .. })),
            "{refused:?}"
        );
    }
    manager.deallocate(&shard).unwrap();
}

fn on_cuda(machine: &Machine) {
    let device = Arc::new(machine.open());
    let engine = Engine::Gpu(Box::new(Gpu::new(&machine.cuda, &device, 0).unwrap()));
    let before = common::free(&device);
    scenario(
        Arc::clone(&device) as Arc<dyn Device>,
        &engine,
        |manager, shard, offset| {
            let lease = manager.lease(shard, Mode::TagOnly).unwrap();
            let whole = (lease.address().unwrap().raw(), lease.bytes());
            lease.finish();
            tamper::flip_on_gpu(&machine.cuda, &device, whole, whole.0 + offset).unwrap();
        },
    );
    common::assert_restored(machine, &device, before);
}

// requirement: WORKER-4245, MS-007, WORKER-4121, WORKER-4122
#[test]
fn seal_execute_verify_on_the_simulated_device() {
    let device = SimDevice::new(16 << 20);
    scenario(Arc::new(device.clone()), &Engine::Host, |_, _, offset| {
        tamper::flip_simulated(&device, offset).unwrap();
    });
}

on_each_machine! {
    // requirement: WORKER-4245, MS-007, WORKER-4121, WORKER-4122
    fn seal_execute_verify(machine: &Machine) {
        on_cuda(machine);
    }
}

/// The lease ends when the kernel has, not when it was launched: until then
/// the memory is refused to everybody else.
// requirement: MS-001
#[test]
fn a_kernel_that_faults_gives_no_result_and_its_lease_back() {
    let machine = Machine::fake("vram=1G schedule=lazy");
    let device = Arc::new(machine.open());
    let engine = Engine::Gpu(Box::new(Gpu::new(&machine.cuda, &device, 0).unwrap()));
    let manager = manager(Arc::clone(&device) as Arc<dyn Device>);
    let shard = seal(&manager, &Layer::new(SEED));
    machine.fake_ctl().tell("fail exec.launch.matvec_i8 1 700");
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    let error = engine.execute(lease, &model::input(SEED)).unwrap_err();
    assert!(error.to_string().contains("did not finish"), "{error}");
    assert_eq!(shard.leases(), 1, "the error holds the lease");
    drop(error);
    assert_eq!(shard.leases(), 0);
}
