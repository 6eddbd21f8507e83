//! Finding the driver and its devices.

use std::ffi::OsStr;
use std::sync::Arc;

use tracing::debug;
use vram_residency::device::{DeviceError, DeviceInfo, Uuid};

use super::facts::{self, Abilities};
use super::{CudaDevice, memory};
use crate::driver::Driver;
use crate::sys::DEFAULT_LIBRARY;

/// The CUDA driver of this machine, initialised. Clones share it.
#[derive(Clone)]
pub struct Cuda {
    driver: Arc<Driver>,
}

impl Cuda {
    /// Finds `libcuda.so.1` by the loader's normal search and initialises it.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] naming libcuda with the loader's reason, or
    /// with the driver's own when it has no device.
    pub fn open() -> Result<Self, DeviceError> {
        Self::open_library(DEFAULT_LIBRARY)
    }

    /// Like [`Self::open`], for a library that the caller names by its path.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_library(library: impl AsRef<OsStr>) -> Result<Self, DeviceError> {
        let unavailable = |reason| DeviceError::Unavailable { reason };
        let driver = Driver::load(library).map_err(|error| unavailable(error.to_string()))?;
        driver
            .init()
            .map_err(|error| unavailable(format!("{}: {error}", driver.library())))?;
        debug!(library = driver.library(), "the CUDA driver is ready");
        Ok(Self {
            driver: Arc::new(driver),
        })
    }

    /// The driver level.
    #[must_use]
    pub const fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Devices that this process may see, after `CUDA_VISIBLE_DEVICES`.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub fn count(&self) -> Result<u32, DeviceError> {
        Ok(self.driver.device_get_count()?.unsigned_abs())
    }

    /// Facts about the device with this ordinal, without opening it.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub fn info(&self, ordinal: u32) -> Result<DeviceInfo, DeviceError> {
        let ordinal = signed(ordinal)?;
        facts::read(
            &self.driver,
            ordinal,
            memory::granularity(&self.driver, ordinal)?,
        )
    }

    /// More facts, for reports.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub fn abilities(&self, ordinal: u32) -> Result<Abilities, DeviceError> {
        facts::abilities(&self.driver, signed(ordinal)?)
    }

    /// Facts about all devices, in the driver's order: the fastest first, or by
    /// PCI address where `CUDA_DEVICE_ORDER=PCI_BUS_ID` says so. The UUID names
    /// a device whatever the order.
    ///
    /// # Errors
    /// [`DeviceError`] of the driver.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        (0..self.count()?)
            .map(|ordinal| self.info(ordinal))
            .collect()
    }

    /// Opens a device by its ordinal.
    ///
    /// # Errors
    /// As for [`CudaDevice::open`].
    pub fn device(&self, ordinal: u32) -> Result<CudaDevice, DeviceError> {
        CudaDevice::open(Arc::clone(&self.driver), ordinal)
    }

    /// Opens a device by its identity, which survives reordering.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] when no device has it, and as for
    /// [`CudaDevice::open`].
    pub fn device_by_uuid(&self, uuid: Uuid) -> Result<CudaDevice, DeviceError> {
        let found = self.devices()?.into_iter().find(|info| info.uuid == uuid);
        match found {
            Some(info) => self.device(info.ordinal),
            None => Err(DeviceError::Unavailable {
                reason: format!("no device has UUID {uuid}"),
            }),
        }
    }
}

fn signed(ordinal: u32) -> Result<i32, DeviceError> {
    i32::try_from(ordinal).map_err(|_| DeviceError::Unavailable {
        reason: format!("no such ordinal: {ordinal}"),
    })
}
