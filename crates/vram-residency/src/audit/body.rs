//! How events are made, what they are called, and how much they matter.

use super::{Body, Severity, Text};
use crate::device::DeviceInfo;
use crate::error::{Code, Error};
use crate::policy::PolicyError;
use crate::shard::ShardId;

impl Body {
    /// The names of all events on the wire, sorted.
    pub const TYPES: [&'static str; 39] = [
        "audit.closed",
        "audit.key_changed",
        "audit.lost",
        "audit.opened",
        "audit.retired",
        "device.lost",
        "key.retired",
        "key.rotated",
        "lease.refused",
        "lease.reused",
        "manager.resumed",
        "manager.stopped",
        "model.hash_mismatch",
        "model.hash_verified",
        "model.load_completed",
        "model.load_started",
        "operation.failed",
        "policy.violation",
        "receipt.issued",
        "seal.checker_fault",
        "seal.hashes_replaced",
        "seal.verification_failed",
        "seal.verified",
        "shard.exported",
        "shard.migrated",
        "shard.migration_failed",
        "shard.quarantined",
        "shard.repair_failed",
        "shard.repaired",
        "shard.shared",
        "vram.allocated",
        "vram.allocation_failed",
        "vram.attested",
        "vram.deallocated",
        "vram.reservation_released",
        "vram.reserved",
        "vram.seal_failed",
        "vram.sealed",
        "vram.stranded",
    ];

    /// The event of a broken rule; `action` says what was done about it.
    pub(crate) fn policy_violation(
        error: &PolicyError,
        shard_id: Option<ShardId>,
        info: &DeviceInfo,
        action: &str,
    ) -> Self {
        let details = format!(
            "{} device {} {}, {}, {} bytes",
            info.kind, info.ordinal, info.uuid, info.name, info.total_bytes
        );
        Self::PolicyViolation {
            policy: Text::new(error.rule()),
            violation: Text::new(&error.to_string()),
            details: Text::new(&details),
            shard_id,
            gpu_device: Some(info.ordinal),
            action_taken: Text::new(action),
        }
    }

    /// The event of a start that `rule` forbids before there is a device to name:
    /// `vram_only` where no GPU could be opened, `signed_models` where a list or
    /// policy is not believed (requirement: AU-7, POL-3).
    #[must_use]
    pub fn start_blocked(rule: &str, reason: &str) -> Self {
        Self::PolicyViolation {
            policy: Text::new(rule),
            violation: Text::new(reason),
            details: Text::new("no device was opened"),
            shard_id: None,
            gpu_device: None,
            action_taken: Text::new("worker_startup_blocked"),
        }
    }

    /// The event of a start that fails for another reason before there is a
    /// manager, such as a key that cannot be read.
    #[must_use]
    pub fn start_failed(code: Code, reason: &str) -> Self {
        Self::OperationFailed {
            operation: Text::new("build"),
            shard_id: None,
            gpu_device: None,
            code,
            reason: Text::new(reason),
        }
    }

    /// The event of a failure that has none of its own.
    pub(crate) fn operation_failed(
        operation: &str,
        shard_id: Option<ShardId>,
        gpu_device: Option<u32>,
        error: &Error,
    ) -> Self {
        Self::OperationFailed {
            operation: Text::new(operation),
            shard_id,
            gpu_device,
            code: error.code(),
            reason: Text::new(&error.to_string()),
        }
    }

    /// The event of a log that was opened over what an earlier writer left.
    pub(crate) fn audit_opened(adopted_events: u64, refused_lines: u64, torn_bytes: u64) -> Self {
        let caveat = "unproved: no checkpoint covered the adopted events when the log was opened";
        Self::AuditOpened {
            adopted_events,
            refused_lines,
            torn_bytes,
            caveat: (adopted_events > 0).then(|| Text::new(caveat)),
        }
    }

    /// Whether only the log itself writes this event.
    pub(crate) const fn is_of_the_log(&self) -> bool {
        matches!(
            self,
            Self::AuditOpened { .. }
                | Self::AuditClosed
                | Self::AuditKeyChanged { .. }
                | Self::AuditLost { .. }
                | Self::AuditRetired { .. }
        )
    }

    /// The event's name on the wire.
    #[must_use]
    pub fn event_type(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        let name = value.get("event_type").and_then(serde_json::Value::as_str);
        name.unwrap_or_default().to_owned()
    }

    /// How much the event matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::SealVerificationFailed { .. }
            | Self::ModelHashMismatch { .. }
            | Self::PolicyViolation { .. }
            | Self::ManagerStopped { .. }
            | Self::DeviceLost { .. } => Severity::Critical,
            Self::VramSealFailed { .. }
            | Self::VramStranded { .. }
            | Self::ShardQuarantined { .. }
            | Self::ShardMigrationFailed { .. }
            | Self::ShardRepairFailed { .. }
            | Self::OperationFailed { .. }
            | Self::AuditLost { .. } => Severity::Error,
            Self::VramAllocationFailed { .. }
            | Self::CheckerFault { .. }
            | Self::HashesReplaced { .. }
            | Self::LeaseRefused { .. }
            | Self::ShardExported { .. }
            | Self::ManagerResumed { .. }
            | Self::KeyRetired { .. }
            | Self::AuditKeyChanged { .. } => Severity::Warning,
            Self::AuditOpened {
                adopted_events,
                refused_lines,
                torn_bytes,
                ..
            } if *adopted_events > 0 || *refused_lines > 0 || *torn_bytes > 0 => Severity::Warning,
            _ => Severity::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed() {
        let unknown = r#"{"event_type":"?"}"#;
        let told = serde_json::from_str::<Body>(unknown)
            .unwrap_err()
            .to_string();
        let mut names: Vec<&str> = told.split('`').skip(3).step_by(2).collect();
        names.sort_unstable();
        assert_eq!(names, Body::TYPES, "{told}");
    }

    /// Whoever opens a log after a killed writer is to look at it.
    #[test]
    fn an_opening_is_a_warning_when_anything_was_left() {
        for (adopted, refused, torn, expected) in [
            (0, 0, 0, Severity::Info),
            (1, 0, 0, Severity::Warning),
            (0, 1, 0, Severity::Warning),
            (0, 0, 1, Severity::Warning),
            (2, 2, 2, Severity::Warning),
        ] {
            let opened = Body::audit_opened(adopted, refused, torn);
            assert_eq!(opened.severity(), expected, "{opened:?}");
            let Body::AuditOpened { caveat, .. } = opened else {
                panic!("another event")
            };
            assert_eq!(caveat.is_some(), adopted > 0);
        }
    }

    #[test]
    fn the_log_speaks_of_itself_and_of_nothing_else() {
        assert!(Body::AuditClosed.is_of_the_log());
        assert!(Body::audit_opened(0, 0, 0).is_of_the_log());
        let reason = Text::new("stopped");
        assert!(!Body::ManagerStopped { reason }.is_of_the_log());
    }
}
