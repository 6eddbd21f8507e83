//! Which device a command works on. With `gpu`, the only place
//! that knows the backends.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use vram_residency::device::{Device, DeviceError, Extent};
use vram_residency::sim::{SimDevice, SimOptions, SimOptionsError};
use vram_residency_cuda::device::PlainCopies;
use vram_residency_cuda::{Cuda, CudaDevice};

/// A device as the user names it. The simulator is never chosen by itself.
#[derive(Debug, Clone)]
pub(crate) struct DeviceSpec {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Cuda(u32),
    Simulated(SimOptions),
}

/// Why a text names no device.
#[derive(Debug)]
pub(crate) enum BadSpec {
    Unknown(String),
    Simulated(SimOptionsError),
}

impl fmt::Display for BadSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(
                f,
                "'{text}' names no device; write cuda:N, sim, sim:8GiB or sim:2GiB,flip=OFFSET:BIT"
            ),
            Self::Simulated(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BadSpec {}

impl FromStr for DeviceSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || BadSpec::Unknown(text.to_owned());
        let kind = if text.starts_with("sim") {
            Kind::Simulated(text.parse().map_err(BadSpec::Simulated)?)
        } else {
            let rest = text.strip_prefix("cuda").ok_or_else(unknown)?;
            let ordinal = match rest.strip_prefix(':') {
                Some(number) => number.parse().map_err(|_| unknown())?,
                None if rest.is_empty() => 0,
                None => return Err(unknown()),
            };
            Kind::Cuda(ordinal)
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }
}

impl DeviceSpec {
    /// Contents are measured and dropped: nothing can be verified afterwards.
    pub(crate) const fn discards(&self) -> bool {
        matches!(&self.kind, Kind::Simulated(options) if options.discards())
    }

    /// Offset of the last scripted flip of a simulated device.
    pub(crate) fn largest_flip(&self) -> Option<u64> {
        match &self.kind {
            Kind::Simulated(options) => options.flips().iter().map(|flip| flip.offset).max(),
            Kind::Cuda(_) => None,
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Opens a device.
pub(crate) fn open(spec: &DeviceSpec) -> Result<Arc<dyn Device>, DeviceError> {
    match &spec.kind {
        Kind::Simulated(options) => Ok(Arc::new(SimDevice::with_options(options.clone()))),
        Kind::Cuda(ordinal) => Ok(Arc::new(Cuda::open()?.device(*ordinal)?)),
    }
}

/// A GPU behind a [`Device`], for what benches hold our work against.
pub(crate) struct Card<'d>(&'d CudaDevice);

impl<'d> Card<'d> {
    /// `None` where the device is host memory.
    pub(crate) fn of(device: &'d dyn Device) -> Option<Self> {
        device.as_any().downcast_ref().map(Self)
    }

    /// Pinned host memory held now.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.0.pinned_bytes()
    }

    /// Takes `len` bytes of the device.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no such room.
    pub(crate) fn room(&self, len: u64) -> Result<Room<'d>, DeviceError> {
        let extent = Extent {
            buffer: self.0.allocate(len)?.id,
            start: 0,
            len,
        };
        Ok(Room {
            device: self.0,
            extent,
        })
    }
}

/// Device memory that nothing is sealed in. Freed when dropped.
pub(crate) struct Room<'d> {
    device: &'d CudaDevice,
    extent: Extent,
}

impl Room<'_> {
    /// Copies into it, out of up to `slots` pinned slots.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub(crate) fn copies(
        &self,
        slot_bytes: usize,
        slots: usize,
    ) -> Result<PlainCopies<'_>, DeviceError> {
        self.device.plain_copies(self.extent, slot_bytes, slots)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // It holds nothing; what cannot be given back goes with the process.
        let _ = self.device.free(self.extent.buffer);
    }
}

/// The last byte of what a [`Reader`] reads: a kernel that silently did not run
/// does not find it.
const CANARY: u8 = 1;

/// Device memory that can be read by the device itself and for nothing else: the
/// roof of whatever else reads it.
pub(crate) struct Reader<'d>(Room<'d>);

impl<'d> Reader<'d> {
    /// Takes `len` bytes of the device; `None` where the device is host memory.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no such room.
    pub(crate) fn of(device: &'d dyn Device, len: u64) -> Result<Option<Self>, DeviceError> {
        let Some(gpu) = Card::of(device) else {
            return Ok(None);
        };
        let room = gpu.room(len)?;
        device.fill(room.extent, 0)?;
        let last = Extent {
            start: len.saturating_sub(1),
            len: 1,
            ..room.extent
        };
        device.fill(last, CANARY)?;
        Ok(Some(Self(room)))
    }

    /// Reads every byte once.
    ///
    /// # Errors
    /// [`DeviceError`] of the device.
    pub(crate) fn read(&self) -> Result<(), DeviceError> {
        match self.0.device.count_other(self.0.extent, 0)? {
            1 => Ok(()),
            _ => Err(DeviceError::NoResult { op: "device read" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        let kind = |text: &str| text.parse::<DeviceSpec>().map(|spec| spec.kind);
        assert!(matches!(kind("cuda"), Ok(Kind::Cuda(0))));
        assert!(matches!(kind("cuda:3"), Ok(Kind::Cuda(3))));
        assert!(matches!(
            kind("sim:2GiB,flip=4096:1"),
            Ok(Kind::Simulated(_))
        ));
        for bad in [
            "", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "sims", "sim:0",
        ] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }
}
