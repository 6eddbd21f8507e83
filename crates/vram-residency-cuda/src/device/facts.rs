//! Facts about a device, as the driver states them.

use vram_residency::device::{DeviceError, DeviceInfo, DeviceKind, DriverInfo, Uuid};

use crate::driver::{Driver, DriverError};
use crate::sys::{CuDevice, attribute};

/// How the project's own fake driver names its devices. A device with such a
/// name is recorded as simulated, so that its seals never pass for a GPU's.
pub const FAKE_DEVICE_NAME: &str = "vram-residency fake CUDA device";

/// Facts that are not part of [`DeviceInfo`], for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// The virtual memory API, as the driver's attribute says.
    pub virtual_memory: bool,
    /// Memory can be exported as file descriptors, as the driver's attribute says.
    pub fd_export: bool,
    /// The driver's number: 0 default, 2 prohibited, 3 exclusive process.
    pub compute_mode: Option<i32>,
}

/// Reads the facts of the device with this ordinal. Needs no context.
pub(crate) fn read(
    driver: &Driver,
    ordinal: i32,
    granularity: u64,
) -> Result<DeviceInfo, DeviceError> {
    let device = driver.device_get(ordinal)?;
    let name = driver.device_get_name(device)?;
    let (uuid, mig) = identity(driver, device)?;
    let major = driver.device_get_attribute(attribute::COMPUTE_CAPABILITY_MAJOR, device)?;
    let minor = driver.device_get_attribute(attribute::COMPUTE_CAPABILITY_MINOR, device)?;
    let kind = if name.contains(FAKE_DEVICE_NAME) {
        DeviceKind::Simulated
    } else {
        DeviceKind::Cuda
    };
    Ok(DeviceInfo {
        kind,
        ordinal: ordinal.unsigned_abs(),
        uuid,
        name,
        compute_capability: Some((major.unsigned_abs(), minor.unsigned_abs())),
        total_bytes: driver.device_total_mem(device)?,
        granularity,
        integrated: driver.device_get_attribute(attribute::INTEGRATED, device)? != 0,
        ecc: told(driver.device_get_attribute(attribute::ECC_ENABLED, device))?.map(|on| on != 0),
        mig,
        pci: told(driver.device_get_pci_bus_id(device))?,
        driver: Some(DriverInfo {
            version: driver.driver_get_version()?.unsigned_abs(),
            library: driver.library().to_owned(),
        }),
    })
}

/// Reads what a report wants to know beyond [`read`].
pub(crate) fn abilities(driver: &Driver, ordinal: i32) -> Result<Abilities, DeviceError> {
    let device = driver.device_get(ordinal)?;
    let ask = |which| told(driver.device_get_attribute(which, device));
    Ok(Abilities {
        virtual_memory: ask(attribute::VIRTUAL_MEMORY)? == Some(1),
        fd_export: ask(attribute::POSIX_FD_HANDLES)? == Some(1),
        compute_mode: ask(attribute::COMPUTE_MODE)?,
    })
}

/// The UUID of what this process may use, and whether that is a MIG slice: the
/// newer call names the slice, the older one always the card.
fn identity(driver: &Driver, device: CuDevice) -> Result<(Uuid, Option<bool>), DeviceError> {
    let card = driver.device_get_uuid(device)?;
    match driver.device_get_uuid_v2(device) {
        Ok(slice) => Ok((Uuid::from_bytes(slice.0), Some(slice != card))),
        Err(DriverError::Missing { .. }) => Ok((Uuid::from_bytes(card.0), None)),
        Err(error) => Err(error.into()),
    }
}

/// `None` for a fact that this driver or device does not have; other failures
/// stay failures.
fn told<T>(answer: Result<T, DriverError>) -> Result<Option<T>, DeviceError> {
    use crate::sys::CuResult;
    match answer {
        Ok(fact) => Ok(Some(fact)),
        Err(DriverError::Call {
            code: CuResult::INVALID_VALUE | CuResult::NOT_SUPPORTED,
            ..
        }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
