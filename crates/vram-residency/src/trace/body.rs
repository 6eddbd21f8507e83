//! Audit events as `tracing` events: the same facts, with their level and a
//! sentence for people.

use tracing::{error, info, warn};

use crate::audit::{AuditError, Body, Text};
use crate::error::Said;

/// Tells of one event. The levels follow [`Body::severity`]: a critical event is
/// an error here, for `tracing` knows nothing worse.
pub(crate) fn told(body: &Body, correlation_id: Option<&Text>) {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return;
    }
    let id = correlation_id.map(Text::as_str);
    match body {
        Body::VramAllocated { .. }
        | Body::VramAllocationFailed { .. }
        | Body::VramReserved { .. }
        | Body::VramReservationReleased { .. }
        | Body::VramDeallocated { .. }
        | Body::VramStranded { .. } => memory(body, id),
        Body::ModelLoadStarted { .. }
        | Body::ModelHashVerified { .. }
        | Body::ModelHashMismatch { .. }
        | Body::ModelLoadCompleted { .. }
        | Body::VramSealed { .. }
        | Body::VramSealFailed { .. } => sealing(body, id),
        Body::SealVerified { .. }
        | Body::SealVerificationFailed { .. }
        | Body::CheckerFault { .. }
        | Body::HashesReplaced { .. }
        | Body::VramAttested { .. }
        | Body::ReceiptIssued { .. }
        | Body::LeaseReused { .. }
        | Body::LeaseRefused { .. } => checking(body, id),
        Body::ShardQuarantined { .. }
        | Body::ShardRepaired { .. }
        | Body::ShardRepairFailed { .. }
        | Body::ShardShared { .. }
        | Body::ShardExported { .. }
        | Body::ShardMigrated { .. }
        | Body::ShardMigrationFailed { .. } => shards(body, id),
        Body::PolicyViolation { .. }
        | Body::ManagerStopped { .. }
        | Body::ManagerResumed { .. }
        | Body::KeyRotated { .. }
        | Body::KeyRetired { .. }
        | Body::DeviceLost { .. }
        | Body::OperationFailed { .. } => managing(body, id),
        // The log's own, which no recorder sees.
        Body::AuditOpened { .. }
        | Body::AuditClosed
        | Body::AuditKeyChanged { .. }
        | Body::AuditLost { .. }
        | Body::AuditRetired { .. } => {}
    }
}

/// Tells of an event that a sink did not take (requirement: AU-13).
pub(crate) fn lost(body: &Body, error: &AuditError) {
    error!(
        severity = ?body.severity(),
        reason = %Text::new(&error.reason),
        "an event could not be recorded"
    );
}

#[rustfmt::skip] // One arm per event: the shape of a table.
fn memory(body: &Body, correlation_id: Option<&str>) {
    match body {
        Body::VramAllocated { shard_id, requested_bytes, allocated_bytes, available_bytes, used_bytes, gpu_device } => info!(
            event = "vram.allocated", correlation_id, %shard_id, requested_bytes, allocated_bytes,
            available_bytes, used_bytes, gpu_device, "memory was taken"
        ),
        Body::VramAllocationFailed { requested_bytes, available_bytes, reason, gpu_device } => warn!(
            event = "vram.allocation_failed", correlation_id, requested_bytes, available_bytes, %reason,
            gpu_device, "memory was refused"
        ),
        Body::VramReserved { reserved_bytes, available_bytes, used_bytes, gpu_device } => info!(
            event = "vram.reserved", correlation_id, reserved_bytes, available_bytes, used_bytes,
            gpu_device, "room was reserved"
        ),
        Body::VramReservationReleased { freed_bytes, remaining_used, gpu_device } => info!(
            event = "vram.reservation_released", correlation_id, freed_bytes, remaining_used,
            gpu_device, "reserved room was given back"
        ),
        Body::VramDeallocated { shard_id, freed_bytes, remaining_used, gpu_device } => info!(
            event = "vram.deallocated", correlation_id, %shard_id, freed_bytes, remaining_used,
            gpu_device, "memory was scrubbed and given back"
        ),
        Body::VramStranded { shard_id, stranded_bytes, gpu_device, reason } => error!(
            event = "vram.stranded", correlation_id, %shard_id, stranded_bytes, gpu_device, %reason,
            "memory could not be given back"
        ),
        _ => {}
    }
}

#[rustfmt::skip] // One arm per event: the shape of a table.
fn sealing(body: &Body, correlation_id: Option<&str>) {
    match body {
        Body::ModelLoadStarted { shard_id, gpu_device, source, bytes, expected_digest, expected_content } => info!(
            event = "model.load_started", correlation_id, %shard_id, gpu_device, %source, bytes,
            expected_digest, expected_content, "a model is being loaded"
        ),
        Body::ModelHashVerified { shard_id, digest, content } => info!(
            event = "model.hash_verified", correlation_id, %shard_id, digest, content,
            "what arrived is what was expected"
        ),
        Body::ModelHashMismatch { shard_id, gpu_device, algorithm, expected_digest, actual_digest } => error!(
            event = "model.hash_mismatch", correlation_id, %shard_id, gpu_device, %algorithm, expected_digest,
            actual_digest, "what arrived is not what was expected"
        ),
        Body::ModelLoadCompleted { shard_id, gpu_device, bytes, tensors } => info!(
            event = "model.load_completed", correlation_id, %shard_id, gpu_device, bytes, tensors,
            "the whole model arrived"
        ),
        Body::VramSealed { shard_id, model_ref, gpu_device, device_uuid, device_kind, vram_bytes, digest, sequence, signer } => info!(
            event = "vram.sealed", correlation_id, %shard_id, %model_ref, gpu_device, %device_uuid,
            %device_kind, vram_bytes, digest, sequence,
            signer = signer.as_ref().map(tracing::field::display), "a shard was sealed"
        ),
        Body::VramSealFailed { shard_id, gpu_device, reason } => error!(
            event = "vram.seal_failed", correlation_id, %shard_id, gpu_device, %reason,
            "sealing failed and left nothing behind"
        ),
        _ => {}
    }
}

#[rustfmt::skip] // One arm per event: the shape of a table.
fn checking(body: &Body, correlation_id: Option<&str>) {
    match body {
        Body::SealVerified { shard_id, gpu_device, result, mode, bytes_checked, nanos } => info!(
            event = "seal.verified", correlation_id, %shard_id, gpu_device, %result, %mode,
            bytes_checked, nanos, "a verification passed"
        ),
        // What the audit log keeps of damage and witnesses, the details say in short.
        Body::SealVerificationFailed { shard_id, gpu_device, reason, expected_digest, actual_digest, details, .. } => error!(
            event = "seal.verification_failed", correlation_id, %shard_id, gpu_device, %reason,
            expected_digest, actual_digest, %details, "a verification failed"
        ),
        Body::CheckerFault { shard_id, gpu_device, suspect_blocks, answers } => warn!(
            event = "seal.checker_fault", correlation_id, %shard_id, gpu_device, suspect_blocks,
            answers = %Said(answers), "a checker found blocks bad that are good"
        ),
        Body::HashesReplaced { shard_id, gpu_device, hashes } => warn!(
            event = "seal.hashes_replaced", correlation_id, %shard_id, gpu_device, hashes,
            "block hashes in host memory went bad and were measured again"
        ),
        Body::VramAttested { shard_id, gpu_device, nonce, sequence } => info!(
            event = "vram.attested", correlation_id, %shard_id, gpu_device, sequence,
            nonce = nonce.as_ref().map(tracing::field::display),
            "a verifier's nonce was answered"
        ),
        Body::ReceiptIssued { shard_id, gpu_device, sequence, key_id } => info!(
            event = "receipt.issued", correlation_id, %shard_id, gpu_device, sequence, %key_id,
            "a receipt was signed"
        ),
        Body::LeaseReused { shard_id, gpu_device, mode, age_nanos } => info!(
            event = "lease.reused", correlation_id, %shard_id, gpu_device, %mode, age_nanos,
            "an earlier verification counts again"
        ),
        Body::LeaseRefused { shard_id, gpu_device, code, reason } => warn!(
            event = "lease.refused", correlation_id, %shard_id, gpu_device, code = code.as_str(), %reason,
            "a lease was refused"
        ),
        _ => {}
    }
}

#[rustfmt::skip] // One arm per event: the shape of a table.
fn shards(body: &Body, correlation_id: Option<&str>) {
    match body {
        Body::ShardQuarantined { shard_id, because_of } => error!(
            event = "shard.quarantined", correlation_id, %shard_id, %because_of,
            "a shard fails with another of its group"
        ),
        Body::ShardRepaired { shard_id, gpu_device, source, blocks, .. } => info!(
            event = "shard.repaired", correlation_id, %shard_id, gpu_device, %source, blocks,
            "damaged blocks were rewritten and the shard verified"
        ),
        Body::ShardRepairFailed { shard_id, gpu_device, source, code, reason } => error!(
            event = "shard.repair_failed", correlation_id, %shard_id, gpu_device, %source,
            code = code.as_str(), %reason, "a shard could not be repaired"
        ),
        Body::ShardShared { shard_id, gpu_device } => info!(
            event = "shard.shared", correlation_id, %shard_id, gpu_device,
            "a shard that holds the same bytes was shared"
        ),
        Body::ShardExported { shard_id, offset, len } => warn!(
            event = "shard.exported", correlation_id, %shard_id, offset, len,
            "plain bytes leave the device"
        ),
        Body::ShardMigrated { shard_id, from_device, to_device } => info!(
            event = "shard.migrated", correlation_id, %shard_id, from_device, to_device,
            "a shard moved to another device"
        ),
        Body::ShardMigrationFailed { shard_id, from_device, to_device, reason } => error!(
            event = "shard.migration_failed", correlation_id, %shard_id, from_device, to_device,
            %reason, "a move was rolled back"
        ),
        _ => {}
    }
}

#[rustfmt::skip] // One arm per event: the shape of a table.
fn managing(body: &Body, correlation_id: Option<&str>) {
    match body {
        Body::PolicyViolation {
            policy, violation, details, shard_id, gpu_device, action_taken
        } => error!(
            event = "policy.violation", correlation_id, %policy, %violation, %details,
            shard_id = shard_id.as_ref().map(tracing::field::display), gpu_device, %action_taken,
            "the policy was violated"
        ),
        Body::ManagerStopped { reason } => error!(
            event = "manager.stopped", correlation_id, %reason, "leases are refused from now on"
        ),
        Body::ManagerResumed { reason } => warn!(
            event = "manager.resumed", correlation_id, %reason, "leases are granted again"
        ),
        Body::KeyRotated { devices, from, to } => info!(
            event = "key.rotated", correlation_id, devices, ?from, ?to,
            "new seals use another key"
        ),
        Body::KeyRetired { keys, key_ids } => warn!(
            event = "key.retired", correlation_id, keys, ?key_ids,
            "older keys are no longer accepted"
        ),
        Body::DeviceLost { gpu_device, reason } => error!(
            event = "device.lost", correlation_id, gpu_device, %reason,
            "a device is gone until the process restarts"
        ),
        Body::OperationFailed { operation, shard_id, gpu_device, code, reason } => error!(
            event = "operation.failed", correlation_id, %operation,
            shard_id = shard_id.as_ref().map(tracing::field::display), gpu_device, code = code.as_str(), %reason,
            "an operation failed"
        ),
        _ => {}
    }
}
