//! The tree's root, of which the device hashes two levels.

mod common;

use common::{Machine, sample, take};
use vram_residency::device::{Device as _, Extent};
use vram_residency_cuda::CudaDevice;

/// All but the first bytes of a fresh buffer, filled.
fn filled(device: &CudaDevice, bytes: &[u8], start: u64) -> Extent {
    let whole = take(device, start + bytes.len() as u64);
    let extent = Extent {
        start,
        len: bytes.len() as u64,
        ..whole
    };
    device.write(extent, 0, bytes).unwrap();
    extent
}

fn host_root(bytes: &[u8]) -> [u8; 32] {
    let mut hashes = vec![[0; 32]; bytes.len().div_ceil(4096)];
    vram_digest::hash_blocks(bytes, &mut hashes).unwrap();
    vram_digest::root(&hashes)
}

on_each_machine! {
    fn it_is_the_root_of_all_block_hashes(machine: &Machine) {
        let device = machine.open();
        for len in [1, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 3 * 128 * 4096 - 4096] {
            for start in [0, 7] {
                let bytes = sample(len, 5);
                let extent = filled(&device, &bytes, start);
                let root = device.tree_root(extent).unwrap();
                assert_eq!(root, Some(host_root(&bytes)), "{len} bytes at {start}");
                device.free(extent.buffer).unwrap();
            }
        }
    }
}

/// Small devices have small rooms, so that this takes several launches.
#[test]
fn parts_of_a_long_extent_make_one_tree() {
    let machine = Machine::fake("vram=64M nopoison");
    let device = machine.open();
    let bytes = sample((17 << 20) + 5, 6);
    let extent = filled(&device, &bytes, 3);
    assert_eq!(device.tree_root(extent).unwrap(), Some(host_root(&bytes)));
    // One byte further on it is another tree.
    let other = Extent {
        start: 4,
        len: extent.len - 1,
        ..extent
    };
    assert_ne!(device.tree_root(other).unwrap(), Some(host_root(&bytes)));
}

/// What an earlier launch left must not stand in for one that did not happen.
#[test]
fn a_launch_that_does_nothing_never_gives_the_right_root() {
    for skipped in [1, 2] {
        let machine = Machine::fake("vram=64M");
        let device = machine.open();
        let bytes = sample(700_000, 7);
        let extent = filled(&device, &bytes, 0);
        assert_eq!(device.tree_root(extent).unwrap(), Some(host_root(&bytes)));
        // The lanes take turns: as many more make sure that this one was there.
        for _ in 0..3 {
            device.tree_root(extent).unwrap();
        }
        let work = "exec.launch.vram_sha256_blocks";
        machine.fake_ctl().tell(&format!("skip {work} {skipped}"));
        let root = device.tree_root(extent);
        assert_ne!(root, Ok(Some(host_root(&bytes))), "launch {skipped}");
    }
}
