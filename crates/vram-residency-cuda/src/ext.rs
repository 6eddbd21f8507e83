//! What only hardware can offer to the library's own types: constructors that
//! imply a GPU, and a lease that ends when device work does.

use std::sync::Arc;

use vram_residency::audit::{Body, Sink};
use vram_residency::device::{Device as _, DeviceError, DeviceKind};
use vram_residency::key::RootKey;
use vram_residency::random::{OsRandom, Random};
use vram_residency::{Error, Lease, Result, VramManager};

use crate::device::{Cuda, CudaDevice, Event};

/// The sources' constructors that name a GPU. None of them ever yields a
/// simulated device: without a driver they fail with the loader's reason.
pub trait HardwareConstructors: Sized {
    /// A manager of all of one GPU's memory, with a key that lives as long as
    /// the process (requirement: API-F4). Records made by it cannot be verified
    /// after a restart.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] without a GPU, policy and key failures.
    fn from_gpu_device(gpu_device: u32) -> Result<Self>;

    /// A manager of one GPU whose keys come from the worker's token
    /// (requirement: API-F5).
    ///
    /// # Errors
    /// As for [`Self::from_gpu_device`]; a short token is refused.
    fn new_with_token(token: &[u8], gpu_device: u32) -> Result<Self>;

    /// The production shape: token, worker id, and where events go
    /// (requirement: API-F6, API-F7, POL-6). A start without a GPU or with a bad
    /// token is recorded there (requirement: AU-7).
    ///
    /// # Errors
    /// As for [`Self::new_with_token`]; a bad worker id is refused.
    fn new_production(
        token: &[u8],
        gpu_device: u32,
        worker_id: &str,
        sink: Arc<dyn Sink>,
    ) -> Result<Self>;
}

impl HardwareConstructors for VramManager {
    fn from_gpu_device(gpu_device: u32) -> Result<Self> {
        let random = OsRandom;
        let key = RootKey::generate(&random as &dyn Random)?;
        Self::builder().device(open(gpu_device)?).key(key).build()
    }

    fn new_with_token(token: &[u8], gpu_device: u32) -> Result<Self> {
        let key = RootKey::from_token(token)?;
        Self::builder().device(open(gpu_device)?).key(key).build()
    }

    fn new_production(
        token: &[u8],
        gpu_device: u32,
        worker_id: &str,
        sink: Arc<dyn Sink>,
    ) -> Result<Self> {
        let builder = Self::builder().worker_id(worker_id).sink(sink);
        let parts = RootKey::from_token(token).map_err(Error::from);
        match parts.and_then(|key| Ok((key, open(gpu_device)?))) {
            Ok((key, device)) => builder.key(key).device(device).build(),
            Err(error) => {
                builder.record(came_to_nothing(&error))?;
                Err(error)
            }
        }
    }
}

/// The event of a start that had no manager yet.
fn came_to_nothing(error: &Error) -> Body {
    let reason = error.to_string();
    match error {
        Error::Device(_) => Body::start_blocked("vram_only", &reason),
        _ => Body::start_failed(error.code(), &reason),
    }
}

fn open(gpu_device: u32) -> Result<CudaDevice> {
    Ok(real(Cuda::open()?.device(gpu_device)?)?)
}

/// Refuses the project's own fake driver: these constructors promise a GPU.
fn real(device: CudaDevice) -> Result<CudaDevice, DeviceError> {
    if device.info().kind == DeviceKind::Cuda {
        return Ok(device);
    }
    let reason = format!("{} is a simulated device, not a GPU", device.info().name);
    Err(DeviceError::Unavailable { reason })
}

/// A lease could not be ended: it comes back, still holding the memory.
#[derive(Debug, thiserror::Error)]
#[error("the device work of a lease did not finish: {source}")]
pub struct FinishError {
    /// The lease; dropping it frees the memory for others.
    pub lease: Box<Lease>,
    /// Why the work did not finish.
    pub source: DeviceError,
}

/// Ends leases by device work.
pub trait FinishAfter: Sized {
    /// Waits for `event`, then ends the lease: until then the memory is neither
    /// freed nor moved nor repaired.
    ///
    /// # Errors
    /// [`FinishError`] with the lease when the work failed.
    fn finish_after(self, event: &Event) -> std::result::Result<(), FinishError>;
}

impl FinishAfter for Lease {
    fn finish_after(self, event: &Event) -> std::result::Result<(), FinishError> {
        match event.wait() {
            Ok(()) => {
                self.finish();
                Ok(())
            }
            Err(source) => Err(FinishError {
                lease: Box::new(self),
                source,
            }),
        }
    }
}
