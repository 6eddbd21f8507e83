//! Devices and their facts.

use std::ffi::{CStr, c_char, c_int};

use super::{Driver, DriverError, need};
use crate::sys::{CuDevice, CuUuid};

/// Room for names; the driver truncates and terminates.
const TEXT_BYTES: usize = 256;

/// The same, as the driver wants it.
const TEXT_LIMIT: c_int = 256;

/// The text before the first NUL of a buffer that the driver filled.
fn text_of(buffer: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(buffer).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

impl Driver {
    /// `cuDeviceGetCount`: devices that this process may see, which is what
    /// `CUDA_VISIBLE_DEVICES` left.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn device_get_count(&self) -> Result<i32, DriverError> {
        let mut count = 0;
        // SAFETY: `count` is a live local that the call writes.
        let code = unsafe { (self.table().device_get_count)(&raw mut count) };
        self.check("cuDeviceGetCount", code)?;
        Ok(count)
    }

    /// `cuDeviceGet`.
    ///
    /// # Errors
    /// [`DriverError`] for an ordinal that does not exist.
    pub fn device_get(&self, ordinal: i32) -> Result<CuDevice, DriverError> {
        let mut device = CuDevice(0);
        // SAFETY: `device` is a live local; the driver validates the ordinal.
        let code = unsafe { (self.table().device_get)(&raw mut device, ordinal) };
        self.check("cuDeviceGet", code)?;
        Ok(device)
    }

    /// `cuDeviceGetName`.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn device_get_name(&self, device: CuDevice) -> Result<String, DriverError> {
        let mut buffer = [0_u8; TEXT_BYTES];
        let at: *mut c_char = buffer.as_mut_ptr().cast();
        // SAFETY: `at` has room for the 256 bytes that the call is told of.
        let code = unsafe { (self.table().device_get_name)(at, TEXT_LIMIT, device) };
        self.check("cuDeviceGetName", code)?;
        Ok(text_of(&buffer))
    }

    /// `cuDeviceGetPCIBusId`, for example `0000:65:00.0`.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn device_get_pci_bus_id(&self, device: CuDevice) -> Result<String, DriverError> {
        let mut buffer = [0_u8; TEXT_BYTES];
        let at: *mut c_char = buffer.as_mut_ptr().cast();
        // SAFETY: `at` has room for the 256 bytes that the call is told of.
        let code = unsafe { (self.table().device_get_pci_bus_id)(at, TEXT_LIMIT, device) };
        self.check("cuDeviceGetPCIBusId", code)?;
        Ok(text_of(&buffer))
    }

    /// `cuDeviceGetUuid`: identity of the card.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn device_get_uuid(&self, device: CuDevice) -> Result<CuUuid, DriverError> {
        let mut uuid = CuUuid::default();
        // SAFETY: `uuid` is a live local of the 16 bytes that the call writes.
        let code = unsafe { (self.table().device_get_uuid)(&raw mut uuid, device) };
        self.check("cuDeviceGetUuid", code)?;
        Ok(uuid)
    }

    /// `cuDeviceGetUuid_v2`: identity of the MIG instance where there is one,
    /// else of the card.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Missing`] before CUDA 11.4.
    pub fn device_get_uuid_v2(&self, device: CuDevice) -> Result<CuUuid, DriverError> {
        let ask = need("cuDeviceGetUuid_v2", self.table().device_get_uuid_v2)?;
        let mut uuid = CuUuid::default();
        // SAFETY: `uuid` is a live local of the 16 bytes that the call writes.
        let code = unsafe { ask(&raw mut uuid, device) };
        self.check("cuDeviceGetUuid_v2", code)?;
        Ok(uuid)
    }

    /// `cuDeviceTotalMem`, in bytes.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn device_total_mem(&self, device: CuDevice) -> Result<u64, DriverError> {
        let mut bytes = 0_usize;
        // SAFETY: `bytes` is a live local that the call writes.
        let code = unsafe { (self.table().device_total_mem)(&raw mut bytes, device) };
        self.check("cuDeviceTotalMem", code)?;
        Ok(bytes as u64)
    }

    /// `cuDeviceGetAttribute`, for one of [`crate::sys::attribute`].
    ///
    /// # Errors
    /// [`DriverError`], also for an attribute that the driver does not know.
    pub fn device_get_attribute(
        &self,
        attribute: u32,
        device: CuDevice,
    ) -> Result<i32, DriverError> {
        let mut value = 0;
        // SAFETY: `value` is a live local; the driver validates the attribute.
        let code =
            unsafe { (self.table().device_get_attribute)(&raw mut value, attribute, device) };
        self.check("cuDeviceGetAttribute", code)?;
        Ok(value)
    }

    /// `cuDeviceCanAccessPeer`.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn device_can_access_peer(
        &self,
        device: CuDevice,
        peer: CuDevice,
    ) -> Result<bool, DriverError> {
        let ask = need("cuDeviceCanAccessPeer", self.table().device_can_access_peer)?;
        let mut can = 0;
        // SAFETY: `can` is a live local; the driver validates the devices.
        let code = unsafe { ask(&raw mut can, device, peer) };
        self.check("cuDeviceCanAccessPeer", code)?;
        Ok(can != 0)
    }
}
