//! A device that claims to be a GPU: simulated memory behind the facts, the
//! witnesses and the addresses that a test chooses.

use std::any::Any;
use std::sync::{Arc, Mutex};

use vram_digest::BlockHash;
use vram_residency::device::{
    self, Allocated, BufferId, Device, DeviceAddress, DeviceError, DeviceInfo, DeviceKind,
    DriverInfo, Extent, MemoryInfo, MemoryKind, Uuid, Witness,
};
use vram_residency::sim::SimDevice;

use super::forward::forward;

/// Changes the honest witness of a GPU.
pub(crate) type Lie = Box<dyn Fn(Witness) -> Witness + Send + Sync>;

/// Runs once, when the device is next asked for its memory.
type Hook = Box<dyn FnOnce() + Send>;

/// What the device says it gave when asked for a length.
pub(crate) type Grant = fn(u64) -> u64;

/// Simulated memory in the clothes of a GPU. Clones share the lie.
#[derive(Clone)]
pub(crate) struct Disguise {
    pub(crate) sim: SimDevice,
    info: DeviceInfo,
    now: Arc<Mutex<DeviceInfo>>,
    lie: Arc<Mutex<Option<Lie>>>,
    hook: Arc<Mutex<Option<Hook>>>,
    grant: Arc<Mutex<Option<Grant>>>,
    root: Arc<Mutex<Option<BlockHash>>>,
}

/// The facts of a GPU that every policy admits.
pub(crate) fn gpu_info(total_bytes: u64) -> DeviceInfo {
    DeviceInfo {
        kind: DeviceKind::Cuda,
        ordinal: 0,
        uuid: Uuid::from_bytes(*b"GPU-disguise-000"),
        name: "NVIDIA Disguise".to_owned(),
        compute_capability: Some((9, 0)),
        total_bytes,
        granularity: 1,
        integrated: false,
        ecc: Some(true),
        mig: Some(false),
        pci: Some("0000:01:00.0".to_owned()),
        driver: Some(DriverInfo {
            version: 12_080,
            library: "libcuda.so.1".to_owned(),
        }),
    }
}

impl Disguise {
    pub(crate) fn new(info: DeviceInfo) -> Self {
        Self {
            sim: SimDevice::new(info.total_bytes),
            now: Arc::new(Mutex::new(info.clone())),
            info,
            lie: Arc::default(),
            hook: Arc::default(),
            grant: Arc::default(),
            root: Arc::default(),
        }
    }

    /// Changes what is told of the device from now on.
    pub(crate) fn change(&self, edit: impl FnOnce(&mut DeviceInfo)) {
        edit(&mut self.now.lock().unwrap());
    }

    /// What `allocate` claims to have given from now on.
    pub(crate) fn claim_to_grant(&self, grant: Grant) {
        *self.grant.lock().unwrap() = Some(grant);
    }

    /// What `tree_root` answers from now on.
    pub(crate) fn claim_root(&self, root: BlockHash) {
        *self.root.lock().unwrap() = Some(root);
    }

    /// Runs `hook` when the device is next asked for its memory.
    pub(crate) fn on_memory(&self, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// What `witness` answers from now on, made from the honest answer.
    pub(crate) fn lie(&self, lie: impl Fn(Witness) -> Witness + Send + Sync + 'static) {
        *self.lie.lock().unwrap() = Some(Box::new(lie));
    }
}

impl Device for Disguise {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn facts(&self) -> Result<DeviceInfo, DeviceError> {
        self.sim.facts()?;
        Ok(self.now.lock().unwrap().clone())
    }

    fn memory(&self) -> Result<MemoryInfo, DeviceError> {
        let hook = self.hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.sim.memory()
    }

    fn allocate(&self, len: u64) -> Result<Allocated, DeviceError> {
        let given = self.sim.allocate(len)?;
        let grant = *self.grant.lock().unwrap();
        Ok(Allocated {
            granted: grant.map_or(given.granted, |grant| grant(len)),
            ..given
        })
    }

    fn witness(&self, buffer: BufferId) -> Result<Witness, DeviceError> {
        let honest = Witness {
            memory: MemoryKind::Device,
            pinned_on_device: true,
            ordinal: self.info.ordinal,
            ..self.sim.witness(buffer)?
        };
        let lie = self.lie.lock().unwrap();
        Ok(lie.as_ref().map_or(honest, |lie| lie(honest)))
    }

    fn address(&self, extent: Extent) -> Result<Option<DeviceAddress>, DeviceError> {
        self.sim.address(extent)?;
        let base = self.sim.simulated_address(extent.buffer)?;
        Ok(base.checked_add(extent.start).map(DeviceAddress::new))
    }

    fn tree_root(&self, extent: Extent) -> Result<Option<BlockHash>, DeviceError> {
        let _of_the_tests_choice = extent;
        Ok(*self.root.lock().unwrap())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    forward!(sim: free protect upload read write fill block_digests keyed_tags close);
}
