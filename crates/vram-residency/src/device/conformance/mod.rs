//! The suite that every [`Device`] must pass, whatever it is made of: run on
//! the simulator, on CUDA with the fake driver, and on real GPUs.
//!
//! Each check allocates at most a few MiB, leaves nothing behind, and returns a
//! message instead of panicking, so that a runner without a test harness can
//! use it.

mod hashes;
mod memory;
mod support;
mod uploads;

use super::Device;

/// A named check.
pub type Check = (&'static str, fn(&dyn Device) -> Result<(), String>);

/// Every check, in an order that tests simple things first.
pub const CHECKS: &[Check] = &[
    ("facts_are_plausible", memory::facts_are_plausible),
    ("zero_bytes_are_refused", memory::zero_bytes_are_refused),
    (
        "huge_allocations_are_refused",
        memory::huge_allocations_are_refused,
    ),
    ("free_memory_is_accounted", memory::free_memory_is_accounted),
    ("writes_are_read_back", memory::writes_are_read_back),
    ("bounds_hold", memory::bounds_hold),
    (
        "stale_and_foreign_handles_are_refused",
        memory::stale_and_foreign_handles_are_refused,
    ),
    (
        "read_only_memory_refuses_writes",
        memory::read_only_memory_refuses_writes,
    ),
    (
        "witness_tells_protection_and_ordinal",
        memory::witness_tells_protection_and_ordinal,
    ),
    (
        "uploads_measure_what_arrived",
        uploads::uploads_measure_what_arrived,
    ),
    (
        "uploads_must_be_complete",
        uploads::uploads_must_be_complete,
    ),
    (
        "aborted_uploads_leave_the_device_usable",
        uploads::aborted_uploads_leave_the_device_usable,
    ),
    (
        "uploads_share_staging_memory",
        uploads::uploads_share_staging_memory,
    ),
    (
        "block_digests_at_every_alignment",
        hashes::block_digests_at_every_alignment,
    ),
    (
        "keyed_tags_at_every_alignment",
        hashes::keyed_tags_at_every_alignment,
    ),
    (
        "a_flipped_bit_changes_digest_and_tag",
        hashes::a_flipped_bit_changes_digest_and_tag,
    ),
    ("copies_arrive_whole", memory::copies_arrive_whole),
    (
        "freed_memory_does_not_leak_contents",
        memory::freed_memory_does_not_leak_contents,
    ),
];

/// Runs every check and returns the failures.
#[must_use]
pub fn run(device: &dyn Device) -> Vec<(&'static str, String)> {
    let failure = |(name, check): &Check| check(device).err().map(|why| (*name, why));
    CHECKS.iter().filter_map(failure).collect()
}
