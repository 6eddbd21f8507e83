//! `vram_sha256_blocks` against `vram_digest`.

use crate::rig::{Rig, Table, generator, place, with_each_compiler};
use fake_cuda::ptx::{FaultKind, HostMemory};
use vram_digest::{BLOCK_BYTES, BlockHash, hash_blocks};

const KERNEL: &str = "vram_sha256_blocks";

fn expected(data: &[u8]) -> Vec<u8> {
    let mut out: Vec<BlockHash> = vec![[0; 32]; data.len().div_ceil(BLOCK_BYTES)];
    hash_blocks(data, &mut out).unwrap();
    out.concat()
}

fn run(rig: &Rig, memory: &mut HostMemory, table: &Table) {
    let address = table.place(memory);
    // One block more than needed: it has to do nothing.
    let grid = table.items.div_ceil(128) + 1;
    rig.launch(
        memory,
        KERNEL,
        grid,
        128,
        &[address, table.entries, table.items, 1],
    );
}

/// Hashes all of `inputs` (data and address modulo 16) in one launch and compares each.
fn check(rig: &Rig, seed: u64, inputs: &[(Vec<u8>, usize)]) {
    let mut rng = generator(seed);
    let mut memory = HostMemory::new();
    let mut table = Table::default();
    let mut outputs = Vec::new();
    for (data, shift) in inputs {
        let address = place(&mut memory, &mut rng, data, *shift);
        let blocks = data.len().div_ceil(BLOCK_BYTES) as u64;
        outputs.push(table.push(&mut memory, address, data.len() as u64, blocks, 32));
    }
    run(rig, &mut memory, &table);
    for ((data, shift), output) in inputs.iter().zip(outputs) {
        assert_eq!(
            memory.bytes(output).unwrap(),
            expected(data),
            "{}: {} bytes at {shift} modulo 16",
            rig.name,
            data.len()
        );
    }
}

// requirement: CI-004
#[test]
fn every_alignment_and_boundary_size_in_one_launch() {
    with_each_compiler(|rig| {
        let mut rng = generator(1);
        let sizes = [0, 1, 15, 16, 17, 63, 64, 65, 4031, 4032, 4095, 4096, 4097];
        let inputs: Vec<_> = (0..16)
            .flat_map(|shift| sizes.map(|size| (size, shift)))
            .map(|(size, shift)| (rng.bytes(size), shift))
            .collect();
        check(rig, 2, &inputs);
    });
}

#[test]
fn whole_blocks_and_ragged_tails_of_long_ranges() {
    with_each_compiler(|rig| {
        let mut rng = generator(3);
        let inputs: Vec<_> = [(40_960, 0), (40_961, 8), (77_777, 3), (131_071, 15), (1, 5)]
            .map(|(size, shift)| (rng.bytes(size), shift))
            .into();
        check(rig, 4, &inputs);
        // One record alone, and grids of just one item.
        check(rig, 5, &inputs[2..3]);
        check(rig, 6, &inputs[4..]);
    });
}

#[test]
fn each_level_hashes_the_one_below_up_to_the_root() {
    with_each_compiler(|rig| {
        let mut rng = generator(7);
        // 130 blocks: two upper levels.
        let data = rng.bytes(130 * BLOCK_BYTES - 5);
        let mut memory = HostMemory::new();
        let mut level = place(&mut memory, &mut rng, &data, 8);
        let mut length = data.len() as u64;
        loop {
            let mut table = Table::default();
            let blocks = length.div_ceil(BLOCK_BYTES as u64);
            level = table.push(&mut memory, level, length, blocks, 32);
            run(rig, &mut memory, &table);
            length = 32 * blocks;
            if blocks == 1 {
                break;
            }
        }
        let root: BlockHash = memory.bytes(level).unwrap().try_into().unwrap();
        assert_eq!(
            vram_digest::file_digest(&root, data.len() as u64),
            vram_digest::digest(&data),
            "{}",
            rig.name
        );
    });
}

#[test]
fn offsets_beyond_4_gib_are_64_bits_wide() {
    with_each_compiler(|rig| {
        let mut rng = generator(8);
        let mut memory = HostMemory::new();
        let data = rng.bytes(5000);
        let address = place(&mut memory, &mut rng, &data, 4);
        let output = memory.alloc(&[0; 64]);
        // A range whose first blocks lie before this launch: `first` below zero.
        let before = (1 << 20) + 3;
        let mut table = Table::default();
        table.push_at(
            address - BLOCK_BYTES as u64 * before,
            BLOCK_BYTES as u64 * before + 5000,
            before.wrapping_neg(),
            output - 32 * before,
        );
        table.items = 2;
        run(rig, &mut memory, &table);
        assert_eq!(
            memory.bytes(output).unwrap(),
            expected(&data),
            "{}",
            rig.name
        );
    });
}

#[test]
fn a_length_beyond_the_allocation_is_caught() {
    with_each_compiler(|rig| {
        let mut rng = generator(9);
        for shift in 0..16 {
            let mut memory = HostMemory::new();
            let data = rng.bytes(4096 - shift);
            let address = place(&mut memory, &mut rng, &data, shift);
            let mut table = Table::default();
            table.push(&mut memory, address, 4097 - shift as u64, 1, 32);
            table.items = 1;
            let at = table.place(&mut memory);
            let fault = rig.try_launch(&mut memory, KERNEL, 1, 128, &[at, 1, 1, 1]);
            let kind = fault.unwrap_err().kind;
            assert!(matches!(kind, FaultKind::OutOfBounds { .. }), "{kind:?}");
        }
    });
}
