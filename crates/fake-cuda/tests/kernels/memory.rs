//! Fill, check, compare, random fill and sum against a few lines of Rust.

use crate::rig::{Rig, generator, place, split_mix, with_each_compiler};
use fake_cuda::ptx::HostMemory;

/// Grids with fewer and with more threads than there are 16-byte words.
const GRIDS: [(u64, u32); 3] = [(1, 32), (2, 64), (9, 256)];
const SIZES: [usize; 9] = [0, 1, 15, 16, 17, 31, 100, 1000, 4097];
const NOTHING: (u64, u64) = (0, u64::MAX);

fn result(memory: &mut HostMemory) -> u64 {
    let mut bytes = [0_u8; 16];
    bytes[8..].fill(0xff);
    memory.alloc(&bytes)
}

fn tally(memory: &HostMemory, result: u64) -> (u64, u64) {
    let bytes = memory.bytes(result).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (word(0), word(8))
}

fn check(rig: &Rig, memory: &mut HostMemory, address: u64, length: u64, value: u64) -> (u64, u64) {
    let out = result(memory);
    rig.launch(memory, "vram_check", 2, 64, &[address, length, value, out]);
    tally(memory, out)
}

#[test]
fn fill_writes_the_range_and_nothing_else() {
    with_each_compiler(|rig| {
        for (shift, length) in (0..16).flat_map(|shift| SIZES.map(|length| (shift, length))) {
            for (grid, block) in GRIDS {
                let mut memory = HostMemory::new();
                let base = memory.alloc(&vec![7; shift + length + 16]);
                // Only the low byte of the value counts.
                let values = [base + shift as u64, length as u64, 0x1ab];
                rig.launch(&mut memory, "vram_fill", grid, block, &values);
                let mut expected = vec![7; shift + length + 16];
                expected[shift..shift + length].fill(0xab);
                assert_eq!(memory.bytes(base).unwrap(), expected, "{shift} {length}");
            }
        }
    });
}

#[test]
fn check_counts_wrong_bytes_and_finds_the_first() {
    with_each_compiler(|rig| {
        let mut rng = generator(1);
        for (shift, length) in (0..16).flat_map(|shift| SIZES.map(|length| (shift, length))) {
            let mut data = vec![0x5a; length];
            let mut memory = HostMemory::new();
            let address = place(&mut memory, &mut rng, &data, shift);
            let clean = check(rig, &mut memory, address, length as u64, 0xff5a);
            assert_eq!(clean, NOTHING, "{shift} {length}");
            if length == 0 {
                continue;
            }
            let mut wrong: Vec<usize> = (0..3).map(|_| rng.below(length)).collect();
            wrong.push(length - 1);
            wrong.sort_unstable();
            wrong.dedup();
            for at in &wrong {
                data[*at] ^= 1 << rng.below(8);
            }
            let address = place(&mut memory, &mut rng, &data, shift);
            let found = check(rig, &mut memory, address, length as u64, 0x5a);
            let expected = (wrong.len() as u64, wrong[0] as u64);
            assert_eq!(found, expected, "{}: {shift} {length}", rig.name);
        }
    });
}

#[test]
fn compare_works_across_any_two_alignments() {
    with_each_compiler(|rig| {
        let mut rng = generator(2);
        for (a_shift, b_shift) in (0..16).flat_map(|a| (0..16).map(move |b| (a, b))) {
            let length = SIZES[(a_shift + 3 * b_shift) % SIZES.len()];
            let mut memory = HostMemory::new();
            let mut data = rng.bytes(length);
            let a = place(&mut memory, &mut rng, &data, a_shift);
            let mut expected = NOTHING;
            for turn in 0..2 {
                let b = place(&mut memory, &mut rng, &data, b_shift);
                let out = result(&mut memory);
                let values = [a, b, length as u64, out];
                rig.launch(&mut memory, "vram_compare", 2, 64, &values);
                let found = tally(&memory, out);
                assert_eq!(found, expected, "{}: {length} turn {turn}", rig.name);
                if length > 0 {
                    let at = rng.below(length);
                    data[at] ^= 0x80;
                    data[length - 1] ^= 0x01;
                    let count = if at == length - 1 { 1 } else { 2 };
                    expected = (count, at as u64);
                }
            }
        }
    });
}

#[test]
fn random_fill_is_split_mix() {
    // First output for seed 0 in the reference implementation.
    assert_eq!(split_mix(0, 0), 0xe220_a839_7b1d_cdaf);
    with_each_compiler(|rig| {
        for length in SIZES {
            for (grid, block) in GRIDS {
                let mut memory = HostMemory::new();
                let base = memory.alloc(&vec![7; length + 16]);
                let values = [base, length as u64, 42];
                rig.launch(&mut memory, "vram_random", grid, block, &values);
                let mut expected: Vec<u8> = (0..length as u64)
                    .map(|at| split_mix(42, at / 8).to_le_bytes()[at as usize % 8])
                    .collect();
                expected.extend([7; 16]);
                assert_eq!(memory.bytes(base).unwrap(), expected, "{length}");
            }
        }
    });
}

#[test]
fn sum_reads_every_word_once() {
    with_each_compiler(|rig| {
        let mut rng = generator(3);
        for length in [0, 16, 4096, 32_752, 32_768, 32_784, 100_000] {
            for grid in [1, 2, 7] {
                let data = rng.bytes(length);
                let mut memory = HostMemory::new();
                let address = place(&mut memory, &mut rng, &data, 0);
                let out = memory.alloc(&5_u32.to_le_bytes());
                let values = [address, length as u64, out];
                rig.launch(&mut memory, "vram_sum", grid, 256, &values);
                let expected = data
                    .chunks_exact(4)
                    .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
                    .fold(5_u32, u32::wrapping_add);
                assert_eq!(memory.bytes(out).unwrap(), expected.to_le_bytes());
            }
        }
    });
}
