//! The VRAM-only policy: which devices and which memory may hold a model
//! (requirement: WORKER-4101, VP-001..VP-006, POL-1..POL-5).
//!
//! Nothing can be "disabled" from outside; what can be done is to allocate
//! device memory only, and to ask the driver about that very allocation. Each
//! check returns a value that only it makes and that the next step needs.

use std::time::Duration;

use crate::device::{DeviceInfo, DeviceKind, MemoryKind, Protection, Witness};
use crate::error::InputError;
use crate::signed::ModelPolicy;

/// What to do after a failed verification (requirement: WORKER-4122).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// Quarantine the shard and stop the whole manager.
    #[default]
    Stop,
    /// Quarantine the shard and leave the others usable.
    Isolate,
}

/// What a failure of one member means for its group (requirement: PM-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnGroupFailure {
    /// Every member of the group is quarantined.
    #[default]
    FailAll,
    /// Only the bad member is.
    IsolateMember,
}

/// The operator's choices. [`Policy::default`] is the strict one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Largest model in bytes (requirement: IV-001, RP-003). Default 100 GiB.
    pub max_model_bytes: u64,
    /// Lowest compute capability of a GPU. Default 6.0.
    pub min_compute_capability: (u32, u32),
    /// Smallest GPU in bytes. Default 1 GiB.
    pub min_device_bytes: u64,
    /// Require a read-only mapping after sealing. Default true.
    pub require_read_only: bool,
    /// Require virtual-memory allocations pinned on the device, the stronger
    /// witness. Default false: old drivers lack them.
    pub require_pinned_allocation: bool,
    /// Allow exporting plaintext from a GPU (`unseal_model`). Always allowed on
    /// simulated devices. Default false.
    pub allow_export: bool,
    /// Allow repairing blocks of a damaged shard. Default false.
    pub allow_repair: bool,
    /// What a failed verification does. Default: stop.
    pub on_failure: OnFailure,
    /// What it does to the shard's group. Default: fail all.
    pub on_group_failure: OnGroupFailure,
    /// Seals older than this fail verification. Default: none (requirement: DG-6).
    pub max_seal_age: Option<Duration>,
    /// Seals dated further ahead of the clock than this fail verification: the
    /// clock went back, or the seal comes from another one. Default: none
    /// (requirement: DG-6).
    pub max_clock_skew: Option<Duration>,
    /// Keyed passes over the whole shard between two full ones. Default 1000.
    pub anchor_passes: u64,
    /// Longest time between two full passes of keyed checking; a `Full`
    /// verification is one. Default 1 hour.
    pub anchor_age: Duration,
    /// How old a verification may be for a lease to reuse it. Default: none,
    /// every lease verifies. The age counts from the begin of the check; one that
    /// began after a lease was asked for is young enough for it however long it took.
    /// A lease that reuses one still waits for the check of that shard that is under
    /// way, the scrubber's included.
    pub max_lease_age: Option<Duration>,
    /// Which models may be sealed (requirement: PM-15). Default: any.
    pub models: ModelPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_model_bytes: 100 << 30,
            min_compute_capability: (6, 0),
            min_device_bytes: 1 << 30,
            require_read_only: true,
            require_pinned_allocation: false,
            allow_export: false,
            allow_repair: false,
            on_failure: OnFailure::Stop,
            on_group_failure: OnGroupFailure::FailAll,
            max_seal_age: None,
            max_clock_skew: None,
            anchor_passes: 1000,
            anchor_age: Duration::from_secs(3600),
            max_lease_age: None,
            models: ModelPolicy::default(),
        }
    }
}

/// The policy forbids it (requirement: ER-6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The device may not hold models.
    #[error("policy violation: device {ordinal} ({name}): {reason}")]
    Device {
        /// Its ordinal.
        ordinal: u32,
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The memory is not what the policy asks for.
    #[error("policy violation: the driver does not confirm VRAM residency: {reason}")]
    Memory {
        /// Which fact is wrong.
        reason: &'static str,
    },
    /// Exporting plaintext is off.
    #[error("policy violation: exporting weights from a GPU is off; set allow_export to permit it")]
    ExportOff,
    /// Repair is off.
    #[error("policy violation: repairing shards is off; set allow_repair to permit it")]
    RepairOff,
    /// No allow-list names the bytes that the device measured.
    #[error(
        "policy violation: only signed models may be sealed, and no allow-list names \
         sha256:{digest} with {len} bytes; approve the model first"
    )]
    NotSigned {
        /// fs-verity digest measured in VRAM, hex.
        digest: String,
        /// Length in bytes.
        len: u64,
    },
    /// The seal is older than the policy allows.
    #[error("policy violation: the seal is {age_s} s old, the limit is {max_s} s")]
    SealAge {
        /// Age in seconds.
        age_s: u64,
        /// Limit in seconds.
        max_s: u64,
    },
    /// The seal is dated later than now.
    #[error(
        "policy violation: the seal is dated {ahead_s} s ahead of the clock, the limit is {max_s} s; \
         set the clock right"
    )]
    SealDate {
        /// How far ahead, in seconds.
        ahead_s: u64,
        /// Limit in seconds.
        max_s: u64,
    },
}

impl PolicyError {
    /// The rule that was broken, as events name it (requirement: AU-7).
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Device { .. } | Self::Memory { .. } => "vram_only",
            Self::ExportOff => "export",
            Self::RepairOff => "repair",
            Self::NotSigned { .. } => "signed_models",
            Self::SealAge { .. } => "seal_age",
            Self::SealDate { .. } => "clock_skew",
        }
    }
}

/// Proof that a device was admitted. Reservations require it.
#[derive(Debug, Clone, Copy)]
pub struct Admitted(());

/// Proof that the driver confirmed the memory. Sealing requires it.
#[derive(Debug, Clone, Copy)]
pub struct ConfirmedMemory {
    witness: Witness,
}

impl ConfirmedMemory {
    /// The facts that were confirmed.
    #[must_use]
    pub const fn witness(&self) -> Witness {
        self.witness
    }
}

/// Proof that export is allowed here.
#[derive(Debug, Clone, Copy)]
pub struct ExportAllowed(());

/// Proof that repair is allowed here.
#[derive(Debug, Clone, Copy)]
pub struct RepairAllowed(());

/// Proof that a size is within the policy's limits.
#[derive(Debug, Clone, Copy)]
pub struct AdmittedSize(u64);

impl AdmittedSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size with room for a shift of the first byte.
    pub(crate) const fn padded(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl Policy {
    /// Whether a device may hold models at all (requirement: POL-1).
    ///
    /// # Errors
    /// [`PolicyError::Device`] with the reason and what to do.
    pub fn admit_device(&self, info: &DeviceInfo) -> Result<Admitted, PolicyError> {
        let refuse = |reason: String| {
            Err(PolicyError::Device {
                ordinal: info.ordinal,
                name: info.name.clone(),
                reason,
            })
        };
        if info.kind == DeviceKind::Simulated {
            return Ok(Admitted(()));
        }
        if info.integrated {
            return refuse("it shares memory with the CPU; use a discrete GPU".to_owned());
        }
        let (major, minor) = self.min_compute_capability;
        match info.compute_capability {
            Some(found) if found >= (major, minor) => {}
            Some((a, b)) => {
                return refuse(format!(
                    "compute capability {a}.{b} is below {major}.{minor}"
                ));
            }
            None => return refuse("it does not tell its compute capability".to_owned()),
        }
        if info.total_bytes < self.min_device_bytes {
            let (have, need) = (info.total_bytes, self.min_device_bytes);
            return refuse(format!(
                "{have} bytes of memory, at least {need} are required"
            ));
        }
        Ok(Admitted(()))
    }

    /// Whether a model of `len` bytes may be sealed (requirement: IV-001, VA-3).
    ///
    /// # Errors
    /// [`InputError::ModelSize`].
    pub const fn admit_size(&self, len: u64) -> Result<AdmittedSize, InputError> {
        if len == 0 || len > self.max_model_bytes {
            return Err(InputError::ModelSize {
                len,
                max: self.max_model_bytes,
            });
        }
        Ok(AdmittedSize(len))
    }

    /// Whether the driver's answers prove residency of sealed memory
    /// (requirement: POL-2, WORKER-4101).
    ///
    /// # Errors
    /// [`PolicyError::Memory`] naming the fact that is wrong.
    pub fn admit_memory(
        &self,
        info: &DeviceInfo,
        witness: Witness,
    ) -> Result<ConfirmedMemory, PolicyError> {
        let refuse = |reason| Err(PolicyError::Memory { reason });
        let expected = match info.kind {
            DeviceKind::Cuda => MemoryKind::Device,
            DeviceKind::Simulated => MemoryKind::Simulated,
        };
        let simulated = info.kind == DeviceKind::Simulated;
        match witness {
            Witness { managed: true, .. } => refuse("the memory is managed and can migrate"),
            Witness {
                host_pointer: true, ..
            } => refuse("the memory is reachable from the host"),
            // The CUDA backend on a fake driver is recorded as simulated and
            // still describes its memory as the driver does.
            Witness { memory, .. }
                if memory != expected && !(simulated && memory == MemoryKind::Device) =>
            {
                refuse("the memory is not device memory")
            }
            Witness { ordinal, .. } if ordinal != info.ordinal => {
                refuse("the memory lies on another device")
            }
            Witness {
                pinned_on_device: false,
                ..
            } if self.require_pinned_allocation && !simulated => {
                refuse("the allocation is not a pinned virtual-memory allocation")
            }
            Witness {
                protection: Protection::ReadWrite,
                ..
            } if self.require_read_only => refuse("the mapping is still writable"),
            witness => Ok(ConfirmedMemory { witness }),
        }
    }

    /// Whether weights may leave the device (requirement: API-F24).
    ///
    /// # Errors
    /// [`PolicyError::ExportOff`].
    pub fn admit_export(&self, info: &DeviceInfo) -> Result<ExportAllowed, PolicyError> {
        if self.allow_export || info.kind == DeviceKind::Simulated {
            return Ok(ExportAllowed(()));
        }
        Err(PolicyError::ExportOff)
    }

    /// Whether damaged blocks may be rewritten.
    ///
    /// # Errors
    /// [`PolicyError::RepairOff`].
    pub const fn admit_repair(&self) -> Result<RepairAllowed, PolicyError> {
        if self.allow_repair {
            Ok(RepairAllowed(()))
        } else {
            Err(PolicyError::RepairOff)
        }
    }
}
