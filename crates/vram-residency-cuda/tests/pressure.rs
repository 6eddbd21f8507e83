//! A GPU that is nearly full (requirement: PM-14).

mod common;

use std::sync::Arc;

use common::{Machine, free, sample, take};
use vram_digest::nh;
use vram_residency::capacity::Sharing;
use vram_residency::device::{Device, Extent};
use vram_residency::key::RootKey;
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

/// A driver may load code as late as at the first launch. By then weights may
/// have taken all memory: sealed weights could neither be verified nor scrubbed.
#[test]
fn a_full_device_still_hashes_and_scrubs() {
    let machine = Machine::fake("vram=48M code=3M");
    let device = machine.open();
    let extent = take(&device, free(&device));
    assert_eq!(free(&device), 0, "the device is not full");
    device.fill(extent, 7).unwrap();
    let key = nh::Key::from_bytes(&[9; nh::KEY_BYTES]);
    let first = Extent {
        len: 4096,
        ..extent
    };
    let mut hash = [[0; 32]];
    device.block_digests(first, 0..1, &mut hash).unwrap();
    assert_eq!(hash[0], vram_digest::hash_block(&[7; 4096]).unwrap());
    for keys in [&[&key][..], &[&key, &key]] {
        let tags = device.keyed_tags(first, &[0], keys).unwrap();
        assert!(tags.iter().all(|tag| *tag == nh::tag(&key, &[7; 4096])));
    }
    device.free(extent.buffer).unwrap();
    device.close().unwrap();
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
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
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
