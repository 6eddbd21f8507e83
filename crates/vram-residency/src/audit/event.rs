//! The events and their fields.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::device::{DeviceKind, Uuid, Witness};
use crate::error::{Answer, Code, Damage};
use crate::key::KeyId;
use crate::shard::{ModelRef, ShardId, WorkerId};
use crate::signed::SignerId;
use crate::text::printable;

/// Longest free text in an event, in characters (requirement: AU-11).
pub const MAX_TEXT_CHARS: usize = 1024;

/// Free text that is safe in a log: what does not show as itself is escaped, and
/// its length is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// Escapes what does not show as itself, as [`printable`] does, and cuts at
    /// [`MAX_TEXT_CHARS`].
    #[must_use]
    pub fn new(text: &str) -> Self {
        let cut: String = text.chars().take(MAX_TEXT_CHARS).collect();
        Self(printable(&cut).chars().take(MAX_TEXT_CHARS).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something happened as intended.
    Info,
    /// Something was refused or degraded.
    Warning,
    /// Something failed.
    Error,
    /// Integrity or policy is broken: durable before the call returns.
    Critical,
}

/// One event with its envelope (requirement: AU-9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of this manager from 1.
    pub audit_id: u64,
    /// When, nanoseconds since the epoch.
    pub timestamp: Timestamp,
    /// The worker.
    pub worker_id: WorkerId,
    /// How much it matters.
    pub severity: Severity,
    /// Ties events of one request together (requirement: AU-17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Text>,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened. The serialised `event_type` is dotted lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event_type")]
#[non_exhaustive]
pub enum Body {
    /// Memory was taken (requirement: AU-4).
    #[serde(rename = "vram.allocated")]
    VramAllocated {
        /// The shard it is for.
        shard_id: ShardId,
        /// Bytes asked for.
        requested_bytes: u64,
        /// Bytes taken.
        allocated_bytes: u64,
        /// Budget left after it.
        available_bytes: u64,
        /// Budget used after it.
        used_bytes: u64,
        /// Device ordinal.
        gpu_device: u32,
    },
    /// Memory was refused (requirement: AU-5).
    #[serde(rename = "vram.allocation_failed")]
    VramAllocationFailed {
        /// Bytes asked for.
        requested_bytes: u64,
        /// Bytes that were available.
        available_bytes: u64,
        /// `insufficient_vram` or the device's words.
        reason: Text,
        /// Device ordinal.
        gpu_device: u32,
    },
    /// Room was taken out of the budget for a use of the caller's own
    /// (requirement: AU-4).
    #[serde(rename = "vram.reserved")]
    VramReserved {
        /// Bytes taken, rounded up to the device's granularity.
        reserved_bytes: u64,
        /// Budget left after it.
        available_bytes: u64,
        /// Budget used after it.
        used_bytes: u64,
        /// Device ordinal.
        gpu_device: u32,
    },
    /// Such room was given back (requirement: AU-6).
    #[serde(rename = "vram.reservation_released")]
    VramReservationReleased {
        /// Bytes given back.
        freed_bytes: u64,
        /// Budget still used.
        remaining_used: u64,
        /// Device ordinal.
        gpu_device: u32,
    },
    /// A model is being read into the memory that was taken for it
    /// (requirement: AU-8, WORKER-4390).
    #[serde(rename = "model.load_started")]
    ModelLoadStarted {
        /// The shard it is for.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// What the source calls itself.
        source: Text,
        /// Its length in bytes.
        bytes: u64,
        /// The fs-verity digest that the caller expects, hex.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_digest: Option<String>,
        /// The plain SHA-256 that the caller expects, hex.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_content: Option<String>,
    },
    /// What arrived is what the caller expects; only when something was expected
    /// (requirement: AU-8, WORKER-4391).
    #[serde(rename = "model.hash_verified")]
    ModelHashVerified {
        /// The shard it is for.
        shard_id: ShardId,
        /// fs-verity digest measured in VRAM.
        digest: String,
        /// Plain SHA-256 of the same bytes, when it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
    },
    /// What arrived is not what the caller expects: another file, or one that was
    /// changed. Nothing is sealed (requirement: AU-3, AU-8).
    #[serde(rename = "model.hash_mismatch")]
    ModelHashMismatch {
        /// The shard it was for.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// `fs-verity` or `sha256`.
        algorithm: Text,
        /// The caller's digest, hex.
        expected_digest: String,
        /// Digest of what arrived, hex.
        actual_digest: String,
    },
    /// The whole model arrived; it is sealed next (requirement: AU-8, WORKER-4392).
    /// A load that fails is a `vram.seal_failed`, or an `operation.failed` when no
    /// memory was taken yet (WORKER-4393).
    #[serde(rename = "model.load_completed")]
    ModelLoadCompleted {
        /// The shard it is for.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Bytes that were loaded.
        bytes: u64,
        /// Tensors in the model; 0 for raw bytes.
        tensors: u64,
    },
    /// A shard was sealed (requirement: AU-1, WORKER-4160). Sequence number,
    /// digest and device tie it to the one statement that was tagged
    /// (requirement: SG-8).
    #[serde(rename = "vram.sealed")]
    VramSealed {
        /// The shard.
        shard_id: ShardId,
        /// What the caller calls the model.
        model_ref: ModelRef,
        /// Device ordinal.
        gpu_device: u32,
        /// Device identity.
        device_uuid: Uuid,
        /// GPU or simulator.
        device_kind: DeviceKind,
        /// Length in bytes.
        vram_bytes: u64,
        /// Digest measured in VRAM.
        digest: String,
        /// Sequence number of the seal.
        sequence: u64,
        /// Who signed the model, if an allow-list says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signer: Option<SignerId>,
    },
    /// Sealing failed after memory was taken; nothing is left on the device.
    #[serde(rename = "vram.seal_failed")]
    VramSealFailed {
        /// The shard that did not come to be.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Why.
        reason: Text,
    },
    /// Memory was scrubbed and given back (requirement: AU-6, WORKER-4162).
    #[serde(rename = "vram.deallocated")]
    VramDeallocated {
        /// The shard.
        shard_id: ShardId,
        /// Bytes given back.
        freed_bytes: u64,
        /// Budget still used.
        remaining_used: u64,
        /// Device ordinal.
        gpu_device: u32,
    },
    /// Memory could not be scrubbed or given back and will never be offered again.
    #[serde(rename = "vram.stranded")]
    VramStranded {
        /// The shard.
        shard_id: ShardId,
        /// Bytes lost to the budget.
        stranded_bytes: u64,
        /// Device ordinal.
        gpu_device: u32,
        /// Why.
        reason: Text,
    },
    /// A verification passed (requirement: AU-2).
    #[serde(rename = "seal.verified")]
    SealVerified {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Always `pass`.
        result: Text,
        /// Mode of the verification.
        mode: Text,
        /// Bytes that were read and checked.
        bytes_checked: u64,
        /// Nanoseconds it took.
        nanos: u64,
    },
    /// A verifier's nonce was answered with facts measured now.
    #[serde(rename = "vram.attested")]
    VramAttested {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// The verifier's, hex; absent when none was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<Text>,
        /// Sequence number of the attestation.
        sequence: u64,
    },
    /// A receipt of a shard was signed.
    #[serde(rename = "receipt.issued")]
    ReceiptIssued {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Sequence number of the seal.
        sequence: u64,
        /// The signing key.
        key_id: KeyId,
    },
    /// A verification failed (requirement: AU-3, WORKER-4161).
    #[serde(rename = "seal.verification_failed")]
    SealVerificationFailed {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// `digest_mismatch`, `tag_mismatch`, `unknown_key`, `not_held`,
        /// `not_sealed`, `witness_changed`, `quarantined`, `seal_too_old`, `seal_too_new`,
        /// `unsettled`, `device_lost`, `device_error`, `key_error`,
        /// `random_error`, `audit_error` or `internal_error`. `unsettled` is a
        /// mismatch whose second opinion failed: only a full verification settles it.
        reason: Text,
        /// Sealed digest.
        expected_digest: String,
        /// Digest measured in VRAM; empty when none was measured.
        actual_digest: String,
        /// Bad blocks and the tensors that they lie in, when contents differ.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        damage: Option<Box<Damage>>,
        /// What every checker said, in the order in which they were asked, when
        /// contents differ or are in doubt.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        answers: Vec<Answer>,
        /// What the driver said of the memory when the shard was sealed, when a
        /// verification that asked again condemns it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed_witness: Option<Witness>,
        /// What it says now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        witness: Option<Witness>,
        /// The error in full.
        details: Text,
    },
    /// A checker found blocks bad that are not: the answers of others outvoted it.
    #[serde(rename = "seal.checker_fault")]
    CheckerFault {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Blocks that the first answer was wrong about: that many at most looked bad
        /// and are not.
        suspect_blocks: u64,
        /// What every checker said, in the order in which they were asked; also those
        /// of an earlier check that could not be finished.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        answers: Vec<Answer>,
    },
    /// Block hashes that were kept in host memory were not the sealed ones any more,
    /// and were measured again; the contents are as sealed.
    #[serde(rename = "seal.hashes_replaced")]
    HashesReplaced {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Hashes that were wrong.
        hashes: u64,
    },
    /// The policy was violated (requirement: AU-7, WORKER-4163).
    #[serde(rename = "policy.violation")]
    PolicyViolation {
        /// `vram_only`, `export`, `repair` or `signed_models`.
        policy: Text,
        /// What is wrong, and what to do.
        violation: Text,
        /// The device: what it says it is.
        details: Text,
        /// The shard, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard_id: Option<ShardId>,
        /// Device ordinal, where there is a device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu_device: Option<u32>,
        /// `worker_startup_blocked`, `worker_stopped`, `seal_refused` or `refused`.
        action_taken: Text,
    },
    /// A lease counted on an earlier verification, as the policy allows. Every
    /// other lease has a `seal.verified` of its own, so each one leaves exactly
    /// one event.
    #[serde(rename = "lease.reused")]
    LeaseReused {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Mode of the verification that counts again.
        mode: Text,
        /// Its age in nanoseconds.
        age_nanos: u64,
    },
    /// A lease was refused for another reason than a failed verification, which
    /// is an event itself: the manager is stopped, the shard was quarantined
    /// after its verification, or the device gave no address.
    #[serde(rename = "lease.refused")]
    LeaseRefused {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Stable code of the error.
        code: Code,
        /// The error in full.
        reason: Text,
    },
    /// Leases are refused from now on (requirement: WORKER-4122).
    #[serde(rename = "manager.stopped")]
    ManagerStopped {
        /// Why.
        reason: Text,
    },
    /// Leases are granted again.
    #[serde(rename = "manager.resumed")]
    ManagerResumed {
        /// The operator's reason.
        reason: Text,
    },
    /// A shard was quarantined because of another member of its group.
    #[serde(rename = "shard.quarantined")]
    ShardQuarantined {
        /// The shard.
        shard_id: ShardId,
        /// The member that failed.
        because_of: ShardId,
    },
    /// Damaged blocks were rewritten and the shard verified again.
    #[serde(rename = "shard.repaired")]
    ShardRepaired {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Where the good bytes came from.
        source: Text,
        /// Blocks rewritten.
        blocks: u64,
        /// Runs of them as (first block, count); at most
        /// [`Damage::MAX_RUNS`](crate::error::Damage::MAX_RUNS).
        runs: Vec<(u64, u64)>,
        /// Digest measured before, hex.
        digest_before: String,
        /// Digest measured after, hex: the sealed one.
        digest_after: String,
    },
    /// A repair that was begun and did not heal the shard, or could not show it.
    #[serde(rename = "shard.repair_failed")]
    ShardRepairFailed {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
        /// Where good bytes were to come from.
        source: Text,
        /// Stable error code.
        code: Code,
        /// The error in full.
        reason: Text,
    },
    /// A request was answered with a shard that already held its bytes
    /// (requirement: API-F18).
    #[serde(rename = "shard.shared")]
    ShardShared {
        /// The shard.
        shard_id: ShardId,
        /// Device ordinal.
        gpu_device: u32,
    },
    /// Plaintext is leaving the device (requirement: API-F24). Recorded before
    /// the first byte does; a failure on the way is `operation.failed`.
    #[serde(rename = "shard.exported")]
    ShardExported {
        /// The shard.
        shard_id: ShardId,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// A shard moved to another device (requirement: API-F30).
    #[serde(rename = "shard.migrated")]
    ShardMigrated {
        /// The shard.
        shard_id: ShardId,
        /// Device it left.
        from_device: u32,
        /// Device it is on.
        to_device: u32,
    },
    /// A migration was rolled back; the source is as before.
    #[serde(rename = "shard.migration_failed")]
    ShardMigrationFailed {
        /// The shard.
        shard_id: ShardId,
        /// Device it is still on.
        from_device: u32,
        /// Device it did not reach.
        to_device: u32,
        /// Why.
        reason: Text,
    },
    /// New seals use another key.
    #[serde(rename = "key.rotated")]
    KeyRotated {
        /// Devices whose key changed.
        devices: u32,
        /// Ids of the keys that sealed until now, by device. Earlier versions wrote none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        from: Vec<KeyId>,
        /// Ids of the keys that seal from now on, by device.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        to: Vec<KeyId>,
    },
    /// Older keys are no longer accepted.
    #[serde(rename = "key.retired")]
    KeyRetired {
        /// Keys that were dropped.
        keys: u32,
        /// Their ids. Earlier versions wrote none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        key_ids: Vec<KeyId>,
    },
    /// A device is gone until the process restarts.
    #[serde(rename = "device.lost")]
    DeviceLost {
        /// Device ordinal.
        gpu_device: u32,
        /// The driver's words.
        reason: Text,
    },
    /// An operation failed, and no other event says so. What counts as a failure
    /// is said at [`crate::Error::is_refusal`].
    #[serde(rename = "operation.failed")]
    OperationFailed {
        /// Which: `build`, `seal`, `export`, `repair`, `attest`, `answer`,
        /// `issue_receipt`, `rotate_key`, `driver_memory`, `enforce_policy`, `can_admit`,
        /// `plan`, `group_load`, `verify_group` or `read_tensor`.
        operation: Text,
        /// The shard, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard_id: Option<ShardId>,
        /// Device ordinal, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gpu_device: Option<u32>,
        /// Stable code of the error.
        code: Code,
        /// The error in full.
        reason: Text,
    },
    /// The log was opened; its own first event of each start.
    #[serde(rename = "audit.opened")]
    AuditOpened {
        /// Events right before this one that no checkpoint covered: a killed
        /// writer left them, or somebody who can write to the directory did.
        adopted_events: u64,
        /// Lines after them that were cut off: none of a manager's events.
        #[serde(default)]
        refused_lines: u64,
        /// Bytes of an unfinished last line that were cut off.
        torn_bytes: u64,
        /// What the adopted events are worth; only where there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caveat: Option<Text>,
    },
    /// The log was closed in order; the last event of a start. What stands after
    /// it was not written by the log.
    #[serde(rename = "audit.closed")]
    AuditClosed,
    /// The last word of the log's key: another one signs from here on.
    #[serde(rename = "audit.key_changed")]
    AuditKeyChanged {
        /// The public key that signed until now, hex.
        from: Text,
        /// The public key that signs from now on, hex.
        to: Text,
    },
    /// Events were refused because the log could not take them.
    #[serde(rename = "audit.lost")]
    AuditLost {
        /// How many.
        events: u64,
        /// Critical ones among them.
        critical: u64,
    },
    /// The oldest events are deleted next, as the retention rules ask. Their
    /// hashes stay.
    #[serde(rename = "audit.retired")]
    AuditRetired {
        /// Number of the first event that is kept.
        first_kept: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: AU-11
    #[test]
    fn free_text_is_sanitised_and_cut() {
        let text = Text::new(&format!("a\nb\u{1b}[31m{}", "x".repeat(5000)));
        assert_eq!(text.as_str().chars().count(), MAX_TEXT_CHARS);
        assert!(text.as_str().starts_with("a\\nb\\u{1b}[31m"));
        let turned = Text::new("model\u{202e}dab\u{200b}");
        assert_eq!(turned.as_str(), "model\\u{202e}dab\\u{200b}");
        assert_eq!(Text::new(turned.as_str()), turned);
        assert_eq!(turned.to_string(), turned.as_str());
    }

    #[test]
    fn event_types_are_dotted_and_severities_typed() {
        let stopped = Body::ManagerStopped {
            reason: Text::new("test"),
        };
        assert_eq!(stopped.event_type(), "manager.stopped");
        assert_eq!(stopped.severity(), Severity::Critical);
        assert_eq!(
            serde_json::to_string(&Severity::Critical).unwrap(),
            "\"critical\""
        );
    }
}
