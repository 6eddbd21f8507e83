//! What a device can answer instead of doing its work. Blame: the machine,
//! except where a variant says otherwise.

/// A device failure. Unknown driver codes travel as numbers with the driver's
/// own text; no address is ever part of a message (requirement: WORKER-4152).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No driver or no such device: not a failure of a running device.
    #[error("no usable device: {reason}")]
    Unavailable {
        /// The loader's or driver's own words.
        reason: String,
    },
    /// The device has no room; distinct from host memory (requirement: WORKER-4952).
    #[error("device out of memory: {requested} bytes requested")]
    OutOfMemory {
        /// Bytes asked for.
        requested: u64,
    },
    /// The host has no room: for staging memory, hashes, or the contents of a
    /// simulated device.
    #[error("host out of memory: {requested} bytes requested")]
    HostOutOfMemory {
        /// Bytes asked for.
        requested: u64,
    },
    /// A driver call failed; the device itself goes on.
    #[error("{op} failed: {name} ({code}): {text}")]
    Driver {
        /// The driver call.
        op: &'static str,
        /// The driver's number.
        code: u32,
        /// The driver's name for it, or "unknown".
        name: String,
        /// The driver's text.
        text: String,
    },
    /// A sticky fault: nothing on this device works until the process restarts.
    #[error("device lost in {op} (driver code {code}): {text}")]
    Lost {
        /// The call that met the fault.
        op: &'static str,
        /// The driver's number.
        code: u32,
        /// The driver's text.
        text: String,
    },
    /// The handle was freed, or belongs to another device. Blame: the caller.
    #[error("no such buffer on this device: the handle is stale or foreign")]
    UnknownBuffer,
    /// An access or a size outside what exists. Blame: the caller.
    #[error("range out of bounds: {len} bytes at offset {offset}, the limit is {size}")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Bytes that exist.
        size: u64,
    },
    /// A write to a read-only buffer.
    #[error("write refused: the buffer is read-only since it was sealed")]
    Protected,
    /// An upload was finished before all its bytes had been submitted.
    #[error("upload incomplete: {missing} bytes were never submitted")]
    Incomplete {
        /// Bytes that are missing.
        missing: u64,
    },
    /// A computation that reported success and left nothing, or something that
    /// an independent computation contradicts.
    #[error("{op} reported success and computed nothing that can be trusted")]
    NoResult {
        /// What was to be computed.
        op: &'static str,
    },
    /// The device, or this mode of it, cannot do that.
    #[error("not supported by this device: {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// The device was closed.
    #[error("the device is closed")]
    Closed,
}

impl DeviceError {
    /// True when the same call may succeed later: memory may come back.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::OutOfMemory { .. } | Self::HostOutOfMemory { .. }
        )
    }

    /// True when the device is gone for this process.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// Memory that could not be given back: counted, audited, never offered again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stranded} bytes stranded: {source}")]
pub struct FreeError {
    /// Bytes that stay taken.
    pub stranded: u64,
    /// What went wrong.
    pub source: DeviceError,
}
