//! Devices and drivers below the policy's floor, through a manager
//! (requirement: POL-1, POL-2, POL-7, WORKER-4101).

mod common;
#[path = "../../vram-residency/tests/common/forward.rs"]
mod forward;

use std::sync::Arc;

use common::{Machine, sample};
use forward::forward;
use vram_residency::capacity::Sharing;
use vram_residency::device::{self, Device, DeviceError, DeviceInfo, DeviceKind, Protection};
use vram_residency::key::RootKey;
use vram_residency::policy::{Policy, PolicyError};
use vram_residency::{Error, Mode, SealRequest, VramManager};
use vram_residency_cuda::CudaDevice;

/// The backend on a pretended device, recorded as the GPU that the backend would
/// record were it not recognised by its name.
struct AsGpu {
    inner: CudaDevice,
    info: DeviceInfo,
}

impl AsGpu {
    fn of(inner: CudaDevice) -> Arc<dyn Device> {
        let info = posing(inner.info().clone());
        Arc::new(Self { inner, info })
    }
}

fn posing(info: DeviceInfo) -> DeviceInfo {
    DeviceInfo {
        kind: DeviceKind::Cuda,
        ..info
    }
}

impl Device for AsGpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn facts(&self) -> Result<DeviceInfo, DeviceError> {
        self.inner.facts().map(posing)
    }

    forward!(inner: memory allocate free protect witness address upload read write fill block_digests keyed_tags copy_to as_any close);
}

fn manager(device: Arc<dyn Device>, policy: Policy) -> Result<VramManager, Error> {
    VramManager::builder()
        .device_with(device, None, Sharing::Dedicated)
        .policy(policy)
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
}

#[test]
fn a_gpu_below_the_floor_holds_no_model() {
    for (options, reason) in [
        ("vram=2G integrated", "it shares memory with the CPU"),
        ("vram=1023M", "at least 1073741824 are required"),
        ("vram=2G cc=6.1", "compute capability 6.1 is below 7.0"),
    ] {
        let machine = Machine::fake(options);
        let policy = Policy {
            min_compute_capability: (7, 0),
            ..Policy::default()
        };
        let built = manager(AsGpu::of(machine.open()), policy).map(|_| ());
        let refused = matches!(&built, Err(Error::Policy(PolicyError::Device { reason: why, .. })) if why.contains(reason));
        assert!(refused, "{options}: {built:?}");
        assert_eq!(
            machine.fake_ctl().held(),
            [],
            "{options}: something is left"
        );
    }
    let machine = Machine::fake("vram=2G cc=7.0");
    manager(AsGpu::of(machine.open()), Policy::default()).unwrap();
}

/// What the driver says is asked again, each time.
// requirement: POL-5
#[test]
fn a_gpu_that_falls_below_the_floor_later_is_found() {
    let machine = Machine::fake("vram=2G cc=7.0");
    let manager = manager(AsGpu::of(machine.open()), Policy::default()).unwrap();
    manager.enforce_vram_only_policy().unwrap();
    let integrated = 18;
    machine
        .fake_ctl()
        .tell(&format!("attribute 0 {integrated} 1"));
    let error = manager.enforce_vram_only_policy().unwrap_err();
    assert!(
        error.to_string().contains("it shares memory with the CPU"),
        "{error}"
    );
    assert!(!manager.is_vram_only());
    machine.fake_ctl().tell("clear");
    assert!(manager.is_vram_only());
}

/// Below the target of the committed kernels no policy helps: the backend does
/// not open the device.
#[test]
fn a_gpu_that_cannot_run_the_kernels_is_not_opened() {
    let machine = Machine::fake("cc=5.2");
    let error = machine.cuda.device(0).map(|_| ()).unwrap_err();
    assert!(matches!(error, DeviceError::Unsupported { .. }), "{error}");
    assert_eq!(machine.fake_ctl().held(), []);
}

#[test]
fn without_virtual_memory_only_a_laxer_policy_seals_and_the_seal_says_so() {
    let old = Machine::fake_without(&["cuMemCreate", "cuMemMap"], "vram=256M");
    let refusing = Machine::fake("vram=256M novmm");
    for machine in [&old, &refusing] {
        let bytes = sample(100_001, 3);
        let strict = manager(Arc::new(machine.open()), Policy::default()).unwrap();
        let error = strict.seal(SealRequest::bytes(&bytes)).map(|_| ());
        let refused = matches!(&error, Err(Error::Policy(PolicyError::Memory { .. })));
        assert!(refused, "{error:?}");
        assert_eq!(strict.used_vram(), 0);
        let lax = Policy {
            require_read_only: false,
            ..Policy::default()
        };
        let lax = manager(Arc::new(machine.open()), lax).unwrap();
        let shard = lax.seal(SealRequest::bytes(&bytes)).unwrap();
        let witness = lax.get_shard(shard.id()).unwrap().witness;
        assert_eq!(witness.protection, Protection::ReadWrite);
        assert!(!witness.pinned_on_device);
        let _ = lax.verify_sealed(&shard, Mode::Full).unwrap();
        lax.deallocate(&shard).unwrap();
    }
}
