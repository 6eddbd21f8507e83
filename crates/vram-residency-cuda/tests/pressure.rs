//! A GPU that is nearly full (requirement: PM-14).
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod common;

use std::sync::Arc;

use common::{Machine, free, sample};
use vram_residency::capacity::Sharing;
use vram_residency::device::Device;
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::{Error, Mode, Policy, SealRequest, SealedShard, VramManager};

/// An odd size, as quantised models have.
const LEN: usize = (3 << 20) + 12_345;

/// Seals until the device has no more, and returns the refusal too.
fn fill(manager: &VramManager, held: &mut Vec<SealedShard>) -> Error {
    loop {
        let bytes = sample(LEN, held.len() as u64);
        match manager.seal(SealRequest::bytes(&bytes)) {
            Ok(shard) => held.push(shard),
            Err(error) => return error,
        }
    }
}

#[test]
fn memory_pressure_refuses_and_harms_no_shard() {
    let machine = Machine::fake("vram=48M");
    let device = Arc::new(machine.open());
    let policy = Policy {
        min_device_bytes: 1 << 20,
        ..Policy::default()
    };
    let manager = VramManager::builder()
        .device_with(
            Arc::clone(&device) as Arc<dyn Device>,
            None,
            Sharing::Dedicated,
        )
        .key(RootKey::generate(&OsRandom).unwrap())
        .policy(policy)
        .build()
        .unwrap();
    let before = free(&device);
    let mut held = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let refusal = fill(&manager, &mut held);
        assert!(refusal.is_retriable(), "{refusal}");
        counts.push(held.len());
        for shard in &held {
            let _ = manager.verify_sealed(shard, Mode::Full).unwrap();
        }
        // Room again: as much as was given back, in pieces that do not touch.
        let mut index = 0;
        held.retain(|shard| {
            index += 1;
            let keep = index % 2 == 0;
            if !keep {
                manager.deallocate(shard).unwrap();
            }
            keep
        });
    }
    println!("{counts:?} shards fitted");
    assert!(counts[0] >= 4 && counts[0] == counts[1], "{counts:?}");
    for shard in &held {
        manager.deallocate(shard).unwrap();
    }
    assert_eq!(manager.used_vram(), 0);
    assert_eq!(free(&device), before);
}
