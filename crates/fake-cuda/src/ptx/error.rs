//! What can be wrong with a PTX module, and what can go wrong in a launch.

use std::fmt;

/// Why a module was refused when it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PtxError {
    /// The text is not PTX as we read it.
    #[error("ptx line {line}: {what}")]
    Syntax {
        /// 1-based line, 0 for the whole text.
        line: u32,
        /// What is wrong.
        what: String,
    },
    /// An opcode, modifier or directive that this interpreter does not implement.
    /// Refused, never guessed.
    #[error("ptx line {line}: unsupported: {what}")]
    Unsupported {
        /// 1-based line.
        line: u32,
        /// The full opcode or directive and the reason.
        what: String,
    },
    /// `.version` is newer than the driver accepts (CUDA error 222).
    #[error(
        "ptx version {major}.{minor} is newer than this driver accepts ({max_major}.{max_minor})"
    )]
    Version {
        /// Major version of the module.
        major: u32,
        /// Minor version of the module.
        minor: u32,
        /// Newest major version accepted.
        max_major: u32,
        /// Newest minor version accepted.
        max_minor: u32,
    },
}

impl PtxError {
    pub(crate) fn syntax(line: u32, what: impl Into<String>) -> PtxError {
        PtxError::Syntax {
            line,
            what: what.into(),
        }
    }

    pub(crate) fn unsupported(line: u32, what: impl Into<String>) -> PtxError {
        PtxError::Unsupported {
            line,
            what: what.into(),
        }
    }
}

/// What a kernel did to memory when it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// A read-modify-write.
    Atomic,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Atomic => "atomic",
        })
    }
}

/// Why memory refused an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// No memory there, or the access runs over its end.
    OutOfBounds,
    /// Memory is there, but this access is not allowed (read-only mapping).
    Protected,
}

/// The kind of fault that ended a launch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// Access outside every allocation (CUDA error 700).
    #[error("out-of-bounds {access} of {len} bytes in {space} memory at {addr:#x}")]
    OutOfBounds {
        /// What was tried.
        access: Access,
        /// State space.
        space: &'static str,
        /// Address inside that space.
        addr: u64,
        /// Bytes of one lane's access.
        len: u32,
    },
    /// Write to memory that is mapped read-only, or any access without rights (700).
    #[error("{access} of {len} bytes at {addr:#x} is not allowed by the mapping")]
    Protected {
        /// What was tried.
        access: Access,
        /// Device address.
        addr: u64,
        /// Bytes of one lane's access.
        len: u32,
    },
    /// Address is not a multiple of the access size (716).
    #[error("misaligned {access} of {len} bytes in {space} memory at {addr:#x}")]
    Misaligned {
        /// What was tried.
        access: Access,
        /// State space.
        space: &'static str,
        /// Address inside that space.
        addr: u64,
        /// Bytes of one lane's access.
        len: u32,
    },
    /// Two threads touched one shared byte, at least one wrote, no barrier between (719).
    #[error(
        "shared-memory race at byte {offset}: {earlier} by thread {first}, then {later} by thread {second}, no barrier between"
    )]
    SharedRace {
        /// Byte of the block's shared memory.
        offset: u32,
        /// The earlier access.
        earlier: Access,
        /// Its thread (linear index in the block).
        first: u32,
        /// The later access.
        later: Access,
        /// Its thread.
        second: u32,
    },
    /// A barrier or warp-wide operation that not all of its threads reached together (719).
    #[error("divergent {what}: lanes {active:#010x} arrived, {expected:#010x} expected")]
    Divergent {
        /// The operation.
        what: &'static str,
        /// Lanes that arrived.
        active: u32,
        /// Lanes that should have.
        expected: u32,
    },
    /// `trap`, or a branch through an index outside its table (719).
    #[error("trap")]
    Trap,
    /// The instruction budget of the launch ran out: an endless loop (702).
    #[error("instruction budget of {0} used up")]
    Timeout(u64),
    /// Launch dimensions, shared memory or parameters do not fit the kernel (1).
    #[error("launch refused: {0}")]
    BadLaunch(String),
}

/// A fault with the place where it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (ptx line {line}, block {block:?}, warp {warp}, lane {lane})")]
#[non_exhaustive]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Line of the PTX text, 0 before the first instruction.
    pub line: u32,
    /// Block index.
    pub block: [u32; 3],
    /// Warp in the block.
    pub warp: u32,
    /// First lane that faulted.
    pub lane: u32,
}

impl Fault {
    /// The CUDA driver's error code for this fault.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self.kind {
            FaultKind::OutOfBounds { .. } | FaultKind::Protected { .. } => 700,
            FaultKind::Misaligned { .. } => 716,
            FaultKind::SharedRace { .. } | FaultKind::Divergent { .. } | FaultKind::Trap => 719,
            FaultKind::Timeout(_) => 702,
            FaultKind::BadLaunch(_) => 1,
        }
    }
}
