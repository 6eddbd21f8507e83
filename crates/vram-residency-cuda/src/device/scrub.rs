//! Scrubbing: zeroes, read back on the device before memory is given up.

use vram_residency::device::DeviceError;

use super::kernels::Kernels;
use super::lane::Lane;
use super::launch::Run;

/// What the last byte holds while the check runs.
const CANARY: u8 = 1;

/// Sets all of `run` to zero and has the device read every byte back.
///
/// The last byte is set to a canary first and to zero after: a check that
/// silently did not run reports no difference at all and is found out by that.
///
/// # Safety
/// The run stays allocated, and nothing else uses it, until the lane has waited.
pub(crate) unsafe fn scrub(
    lane: &mut Lane,
    kernels: &Kernels,
    run: Run,
) -> Result<(), DeviceError> {
    let dirty = DeviceError::Unsupported {
        what: "scrubbing: the memory kept its contents",
    };
    let Some(last) = run.len.checked_sub(1) else {
        return Ok(());
    };
    let len = usize::try_from(run.len).map_err(|_| dirty.clone())?;
    let end = run.at.offset(last);
    // SAFETY: as this function's contract.
    unsafe { lane.fill(run.at, 0, len) }?;
    // SAFETY: the last byte of the run.
    unsafe { lane.fill(end, CANARY, 1) }?;
    // SAFETY: as this function's contract.
    let found = unsafe { lane.check(kernels, run, 0) }?;
    // SAFETY: the last byte of the run.
    unsafe { lane.fill(end, 0, 1) }?;
    // SAFETY: the last byte of the run.
    unsafe { lane.read(end, 1) }?;
    let last_is_zero = lane.results(1)? == [0];
    if found == (1, last) && last_is_zero {
        Ok(())
    } else {
        Err(dirty)
    }
}
