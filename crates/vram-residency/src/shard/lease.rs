//! The guard that exists only after a verification passed: the one way to a
//! device address.

use std::fmt;
use std::sync::Arc;

use super::Resident;
use crate::device::{Checked, Device, DeviceAddress, Extent};
use crate::error::{Error, InputError};
use crate::format::{Dtype, TensorInfo};
use crate::manager::VramManager;
use crate::policy::ExportAllowed;
use crate::seal::Record;
use crate::verify::{Verification, Verified};

/// Access to a verified shard for one execution. Owned and `Send`: a worker can
/// store it. Hold it until the device work that uses it is done; it keeps the
/// memory alive, and free, migrate and repair are refused meanwhile.
#[must_use = "a lease that is dropped protects nothing"]
pub struct Lease {
    resident: Arc<Resident>,
    device: Arc<Checked>,
    extent: Extent,
    base: Option<DeviceAddress>,
    export: Option<ExportAllowed>,
    verification: Verification,
    /// Records what is read through the lease.
    manager: VramManager,
}

/// Memory that a lease keeps in place.
pub(crate) struct LeasedMemory {
    pub(crate) device: Arc<Checked>,
    pub(crate) extent: Extent,
}

/// One tensor of a leased shard.
pub struct TensorView<'l> {
    /// Where it lies; `None` on the simulator, which has no addresses.
    pub address: Option<DeviceAddress>,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: &'l [u64],
    /// Length in bytes.
    pub bytes: u64,
    lease: &'l Lease,
    offset: u64,
}

impl Lease {
    /// `verified` proves the check; the caller counted the lease while it held
    /// the memory, and dropping the lease takes that count back.
    pub(crate) fn new(
        resident: Arc<Resident>,
        memory: LeasedMemory,
        verified: Verified,
        export: Option<ExportAllowed>,
        manager: VramManager,
    ) -> Result<Self, Error> {
        let mut lease = Self {
            resident,
            device: memory.device,
            extent: memory.extent,
            base: None,
            export,
            verification: verified.into_verification(),
            manager,
        };
        // After construction, so that a failure gives the count back.
        lease.base = lease.device.address(lease.extent)?;
        Ok(lease)
    }

    pub(crate) const fn resident(&self) -> &Arc<Resident> {
        &self.resident
    }

    /// What was checked for this lease, and when.
    #[must_use]
    pub const fn verification(&self) -> &Verification {
        &self.verification
    }

    /// The shard's record.
    #[must_use]
    pub fn record(&self) -> &Record {
        self.resident.record()
    }

    /// Address of the shard's first byte; `None` on the simulator.
    #[must_use]
    pub const fn address(&self) -> Option<DeviceAddress> {
        self.base
    }

    /// Length of the shard in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.extent.len
    }

    /// One tensor by name.
    ///
    /// # Errors
    /// [`InputError::NoSuchTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let table = self.resident.tensors();
        let info = table.get(name).ok_or_else(|| InputError::NoSuchTensor {
            name: name.chars().filter(|c| !c.is_control()).take(256).collect(),
            count: table.tensors().len(),
        })?;
        self.view(info)
    }

    /// Every tensor, in file order.
    ///
    /// # Errors
    /// [`Error::Internal`], which a table that was parsed cannot cause.
    pub fn tensors(&self) -> Result<Vec<(&str, TensorView<'_>)>, Error> {
        let infos = self.resident.tensors().tensors().iter();
        infos
            .map(|info| Ok((&*info.name, self.view(info)?)))
            .collect()
    }

    fn view<'l>(&'l self, info: &'l TensorInfo) -> Result<TensorView<'l>, Error> {
        let outside = Error::Internal("a tensor lies outside its shard");
        let address = match self.base {
            Some(base) => Some(base.checked_add(info.offset).ok_or(outside)?),
            None => None,
        };
        Ok(TensorView {
            address,
            dtype: info.dtype,
            shape: &info.shape,
            bytes: info.len,
            lease: self,
            offset: info.offset,
        })
    }

    /// Ends the lease. The same as dropping it, said aloud.
    pub fn finish(self) {}
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.resident.drop_lease();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("shard_id", &self.record().shard_id.as_str())
            .field("bytes", &self.extent.len)
            .field("verification", &self.verification)
            .finish_non_exhaustive()
    }
}

impl TensorView<'_> {
    /// Copies bytes of the tensor to the host: how the simulated device
    /// computes. On a GPU only where the policy allows export. Bytes that leave
    /// are an event, and so are a refusal and a failure (requirement: AU-7).
    ///
    /// # Errors
    /// [`InputError::Range`], [`crate::policy::PolicyError::ExportOff`], or a
    /// device failure.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let lease = self.lease;
        let allowed = lease.manager.may_read(&lease.resident, lease.export)?;
        let len = out.len() as u64;
        let range = InputError::Range {
            offset,
            len,
            size: self.bytes,
        };
        let end = offset.checked_add(len).filter(|end| *end <= self.bytes);
        let start = end
            .and_then(|_| self.offset.checked_add(offset))
            .ok_or(range)?;
        let read = |out: &mut [u8]| lease.device.read(lease.extent, start, out);
        let resident = &lease.resident;
        lease
            .manager
            .read_leased(resident, allowed, start, out, read)
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorView")
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
