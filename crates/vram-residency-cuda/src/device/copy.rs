//! Copies: host to device, device to host, device to device.

use vram_residency::device::{Device, DeviceError, Extent};
use zeroize::Zeroizing;

use super::CudaDevice;
use super::buffer::{Buffer, Open};
use super::convert::{lock, out_of_range};
use super::hash::pieces;
use super::lane::Lane;
use super::lanes::Lanes;
use super::launch::Run;

/// Host bytes that a staged copy between devices uses.
const STAGED: usize = 8 << 20;

/// Copies bytes of the extent to the host, through pinned memory: the driver is
/// never given the caller's own memory, which it could still write to after an
/// error had returned control.
pub(crate) fn read(
    lanes: &Lanes,
    buffer: &Buffer,
    (extent, offset): (Extent, u64),
    out: &mut [u8],
) -> Result<(), DeviceError> {
    let whole = buffer.part(extent, offset, out.len() as u64)?;
    let _open = buffer.open()?;
    let jobs: Vec<_> = out
        .chunks_mut(lanes.room())
        .zip(pieces(whole, lanes.room(), 1))
        .collect();
    let queue = |lane: &mut Lane, (out, run): &mut (&mut [u8], Run)| {
        // SAFETY: the gate is held open until the pipeline has waited for every lane.
        unsafe { lane.read(run.at, out.len()) }
    };
    lanes.pipeline(jobs.into_iter(), queue, |lane, (out, _)| {
        out.copy_from_slice(lane.results(out.len())?);
        Ok(())
    })
}

/// Copies host bytes into the extent, through pinned memory.
pub(crate) fn write(
    lanes: &Lanes,
    buffer: &Buffer,
    (extent, offset): (Extent, u64),
    bytes: &[u8],
) -> Result<(), DeviceError> {
    let whole = buffer.part(extent, offset, bytes.len() as u64)?;
    let _open = buffer.open_to_write()?;
    let jobs: Vec<_> = bytes
        .chunks(lanes.room())
        .zip(pieces(whole, lanes.room(), 1))
        .collect();
    let queue = |lane: &mut Lane, (bytes, run): &mut (&[u8], Run)| {
        lane.outgoing(bytes.len())?.copy_from_slice(bytes);
        // SAFETY: the gate is held open until the pipeline has waited for every lane.
        unsafe { lane.write(run.at, bytes.len()) }
    };
    lanes.pipeline(jobs.into_iter(), queue, |_, _| Ok(()))
}

/// Sets every byte of the extent.
pub(crate) fn fill(
    lanes: &Lanes,
    buffer: &Buffer,
    extent: Extent,
    byte: u8,
) -> Result<(), DeviceError> {
    let run = buffer.part(extent, 0, extent.len)?;
    let _open = buffer.open_to_write()?;
    let Some(len) = usize::try_from(run.len).ok().filter(|len| *len > 0) else {
        return Ok(());
    };
    lanes.take()?.with(|lane| {
        // SAFETY: the gate is held open until the lane has waited, below.
        unsafe { lane.fill(run.at, byte, len) }?;
        lane.wait()
    })
}

/// Copies an extent to another device, by the shortest way that there is.
pub(crate) fn between(
    from: (&CudaDevice, Extent),
    to: (&dyn Device, Extent),
) -> Result<(), DeviceError> {
    let ((device, source), (other, dest)) = (from, to);
    if source.len != dest.len {
        return Err(out_of_range(0, source.len, dest.len));
    }
    match other.as_any().downcast_ref::<CudaDevice>() {
        Some(peer) if device.is_reached_by(peer)? => {
            match direct((device, source), (peer, dest))? {
                Direct::Copied => Ok(()),
                Direct::Refused => staged(from, to),
            }
        }
        _ => staged(from, to),
    }
}

/// What became of a direct copy.
enum Direct {
    Copied,
    /// This pair of devices has no direct path after all. Nothing was copied.
    Refused,
}

/// "Invalid value" (1) or "not supported" (801) from the peer copy itself.
fn is_refusal(error: &DeviceError) -> bool {
    let op = "cuMemcpyPeerAsync";
    matches!(error, DeviceError::Driver { op: failed, code: 1 | 801, .. } if *failed == op)
}

/// A copy that never touches the host.
fn direct(
    (device, source): (&CudaDevice, Extent),
    (peer, dest): (&CudaDevice, Extent),
) -> Result<Direct, DeviceError> {
    let from_buffer = device.buffer(source.buffer)?;
    let to_buffer = peer.buffer(dest.buffer)?;
    let from = from_buffer.part(source, 0, source.len)?;
    let to = to_buffer.part(dest, 0, dest.len)?;
    let Some(len) = usize::try_from(from.len).ok().filter(|len| *len > 0) else {
        return Ok(Direct::Copied);
    };
    let apart = to.at.0.abs_diff(from.at.0) >= from.len;
    if source.buffer == dest.buffer {
        if !apart {
            return Err(out_of_range(dest.start, dest.len, source.start));
        }
        let _open = to_buffer.open_to_write()?;
        return within(device, from, to, len);
    }
    let copy = |open: &Open<'_>| {
        if device.context().device() == peer.context().device() {
            within(device, from, to, len)
        } else {
            pull((device, &from_buffer, open), from, (peer, to), len)
        }
    };
    // Two gates at once: always in the order of their addresses, which are
    // unique across devices, so that two copies cannot wait for each other.
    if from_buffer.run().at < to_buffer.run().at {
        let from = from_buffer.open()?;
        let _to = to_buffer.open_to_write()?;
        copy(&from)
    } else {
        let _to = to_buffer.open_to_write()?;
        let from = from_buffer.open()?;
        copy(&from)
    }
}

/// Copies within one device and waits; the caller holds the gates open.
fn within(device: &CudaDevice, from: Run, to: Run, len: usize) -> Result<Direct, DeviceError> {
    device.lanes().take()?.with(|lane| {
        // SAFETY: the gates are held open until the lane has waited.
        unsafe { lane.copy_within(to.at, from.at, len) }?;
        lane.wait()
    })?;
    Ok(Direct::Copied)
}

/// The other device reads what this one has, which it is allowed to do only
/// meanwhile; waits. The caller holds both gates open.
fn pull(
    (device, buffer, open): (&CudaDevice, &Buffer, &Open<'_>),
    from: Run,
    (peer, to): (&CudaDevice, Run),
    len: usize,
) -> Result<Direct, DeviceError> {
    let memory = open.memory.as_ref().ok_or(DeviceError::UnknownBuffer)?;
    let reader = peer.context().ordinal();
    let mut lane = peer.lanes().take()?;
    let _alone = lock(&buffer.lending);
    if !memory.lend(reader)? {
        return Ok(Direct::Refused);
    }
    let copied = lane.with(|lane| {
        // SAFETY: both gates are held open until the lane has waited, and both
        // devices keep their contexts.
        unsafe { lane.copy_from_peer(to.at, from.at, device.context(), len) }?;
        lane.wait()
    });
    drop(lane);
    if let Some(why) = peer.context().unsettled() {
        // The copy may still be running: it keeps its right and its source.
        device.context().abandon(&why);
        return Err(why);
    }
    let withdrawn = memory.withdraw(reader);
    match copied {
        Err(error) if is_refusal(&error) => withdrawn.map(|()| Direct::Refused),
        Err(error) => Err(error),
        Ok(()) => withdrawn.map(|()| Direct::Copied),
    }
}

/// A copy through host memory, which is wiped.
fn staged(
    (device, source): (&CudaDevice, Extent),
    (other, dest): (&dyn Device, Extent),
) -> Result<(), DeviceError> {
    let size = usize::try_from(source.len)
        .unwrap_or(usize::MAX)
        .min(STAGED);
    let mut staging = Zeroizing::new(vec![0_u8; size]);
    for piece in pieces(
        Run {
            at: crate::sys::CuDevicePtr(0),
            len: source.len,
        },
        STAGED,
        1,
    ) {
        let len = usize::try_from(piece.len).unwrap_or(usize::MAX);
        let Some(chunk) = staging.get_mut(..len) else {
            break;
        };
        device.read(source, piece.at.0, chunk)?;
        other.write(dest, piece.at.0, chunk)?;
    }
    Ok(())
}
