//! `vram_nh_tags_1` and `vram_nh_tags_2` against `vram_digest::nh`.

use crate::rig::{Rig, Table, generator, place, with_each_compiler};
use fake_cuda::ptx::HostMemory;
use vram_digest::nh::{KEY_BYTES, Key, SEGMENT_BYTES, tag};

type KeyBytes = [u8; KEY_BYTES];

fn expected(data: &[u8], keys: &[KeyBytes]) -> Vec<u8> {
    let keys: Vec<Key> = keys.iter().map(Key::from_bytes).collect();
    data.chunks(SEGMENT_BYTES)
        .flat_map(|segment| keys.iter().map(move |key| *tag(key, segment).as_bytes()))
        .flatten()
        .collect()
}

fn random_keys(seed: u64, count: usize) -> Vec<KeyBytes> {
    let mut rng = generator(seed);
    (0..count)
        .map(|_| rng.bytes(KEY_BYTES).try_into().unwrap())
        .collect()
}

fn run(rig: &Rig, memory: &mut HostMemory, table: &Table, keys: &[KeyBytes], grid: u64) {
    let mut values = vec![table.place(memory), table.entries, table.items];
    values.extend(keys.iter().map(|key| memory.alloc(key)));
    let kernel = ["vram_nh_tags_1", "vram_nh_tags_2"][keys.len() - 1];
    rig.launch(memory, kernel, grid, 256, &values);
}

/// Tags all of `inputs` (data and address modulo 16) in one launch and compares each.
fn check(rig: &Rig, keys: &[KeyBytes], grid: u64, inputs: &[(Vec<u8>, usize)]) {
    let mut rng = generator(grid);
    let mut memory = HostMemory::new();
    let mut table = Table::default();
    let mut outputs = Vec::new();
    for (data, shift) in inputs {
        let address = place(&mut memory, &mut rng, data, *shift);
        let segments = data.len().div_ceil(SEGMENT_BYTES) as u64;
        let length = data.len() as u64;
        outputs.push(table.push(&mut memory, address, length, segments, 16 * keys.len()));
    }
    run(rig, &mut memory, &table, keys, grid);
    for ((data, shift), output) in inputs.iter().zip(outputs) {
        assert_eq!(
            memory.bytes(output).unwrap(),
            expected(data, keys),
            "{}: {} keys, {} bytes at {shift} modulo 16",
            rig.name,
            keys.len(),
            data.len()
        );
    }
}

fn each_key_count(rig: &Rig, grid: u64, inputs: &[(Vec<u8>, usize)]) {
    let keys = random_keys(grid + 100, 2);
    check(rig, &keys[..1], grid, inputs);
    check(rig, &keys, grid, inputs);
}

#[test]
fn every_alignment_and_boundary_size_in_one_launch() {
    with_each_compiler(|rig| {
        let mut rng = generator(1);
        let sizes = [0, 1, 15, 16, 17, 1023, 1024, 1025, 4095, 4096, 4097];
        let inputs: Vec<_> = (0..16)
            .flat_map(|shift| sizes.map(|size| (size, shift)))
            .map(|(size, shift)| (rng.bytes(size), shift))
            .collect();
        each_key_count(rig, 3, &inputs);
    });
}

#[test]
fn full_batches_between_ragged_ends_at_every_alignment() {
    with_each_compiler(|rig| {
        let mut rng = generator(2);
        // A batch is 8 KiB, a row of the block 64 KiB.
        let sizes = [8191, 8192, 8193, 65_535, 65_536, 65_537, 73_728, 140_001];
        let inputs: Vec<_> = (0..16)
            .map(|shift| (rng.bytes(sizes[shift % 8]), shift))
            .chain(sizes.map(|size| (vec![0xff; size], 8)))
            .collect();
        each_key_count(rig, 2, &inputs);
    });
}

#[test]
fn many_segments_on_fewer_and_on_more_blocks() {
    with_each_compiler(|rig| {
        let mut rng = generator(3);
        let long = rng.bytes(2 * SEGMENT_BYTES + 70_003);
        let inputs = [(long, 8), (rng.bytes(SEGMENT_BYTES), 0)];
        each_key_count(rig, 1, &inputs);
        check(rig, &random_keys(4, 1), 9, &inputs);
    });
}

/// Clamping, carries and the final reduction at their limits.
#[test]
fn keys_and_data_of_all_ones_and_all_zeros() {
    with_each_compiler(|rig| {
        let ones = [0xff; KEY_BYTES];
        let zeros = [0; KEY_BYTES];
        let mut r_only = zeros;
        r_only[..16].fill(0xff);
        for keys in [[ones, zeros], [zeros, ones], [r_only, ones]] {
            let inputs = [
                (vec![0xff; 70_000], 0),
                (vec![0; 70_000], 3),
                (vec![0x80; 1024], 12),
            ];
            check(rig, &keys, 2, &inputs);
            check(rig, &keys[..1], 2, &inputs);
        }
    });
}

/// With r = 1 and both blocks of the only chunk 2^128 + 2^128 - 1, the sum is 2^130 - 2: less than
/// 2^130, but not less than p = 2^130 - 5. The tag is 3.
#[test]
fn a_sum_between_p_and_2_to_the_130_is_reduced() {
    with_each_compiler(|rig| {
        let mut key = [0; KEY_BYTES];
        key[0] = 1;
        // Over a unit of zeros a pass is k0 * k2 + k1 * k3 = (2^32 - 1) * (2^32 - 1 + 2).
        for unit in key[16..80].chunks_exact_mut(16) {
            unit.fill(0xff);
            unit[4..8].copy_from_slice(&2_u32.to_le_bytes());
        }
        let mut three = vec![0; 16];
        three[0] = 3;
        assert_eq!(expected(&[0; 16], &[key]), three);
        check(rig, &[key], 1, &[(vec![0; 16], 0)]);
        check(rig, &[key, key], 1, &[(vec![0; 16], 9)]);
    });
}

#[test]
fn offsets_beyond_4_gib_are_64_bits_wide() {
    with_each_compiler(|rig| {
        let mut rng = generator(5);
        let mut memory = HostMemory::new();
        let data = rng.bytes(20_000);
        let address = place(&mut memory, &mut rng, &data, 4);
        let output = memory.alloc(&[0; 16]);
        let before = 5000;
        let mut table = Table::default();
        table.push_at(
            address - ((before) << 20),
            (before << 20) + 20_000,
            before.wrapping_neg(),
            output - 16 * before,
        );
        table.items = 1;
        let keys = random_keys(6, 1);
        run(rig, &mut memory, &table, &keys, 1);
        assert_eq!(
            memory.bytes(output).unwrap(),
            expected(&data, &keys),
            "{}",
            rig.name
        );
    });
}
