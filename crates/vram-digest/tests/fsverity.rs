//! The file digest against the definition, checked-in vectors and Debian's `fsverity digest`.

mod common;

use std::num::NonZeroUsize;
use std::process::Command;

use common::{fsverity, level, pattern, skipped};
use vram_digest::{
    BlockHash, FileDigest, Hasher, Tree, digest, hash_block, hash_blocks, hash_blocks_parallel,
    root,
};

/// Sizes at which something changes: no, part, full and one more block, one and two lane groups,
/// and one and two levels of the tree.
fn border_sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..=3).flat_map(|blocks| around(blocks * 4096)).collect();
    for blocks in [7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 128, 129] {
        sizes.extend(around(blocks * 4096));
    }
    sizes
}

/// The size and its neighbours.
fn around(size: usize) -> impl Iterator<Item = usize> {
    size.saturating_sub(1)..=size + 1
}

#[test]
fn equals_the_definition_at_every_border() {
    for size in border_sizes() {
        let data = pattern(size, 1);
        assert_eq!(
            digest(&data),
            FileDigest::from_bytes(fsverity(&data)),
            "size {size}"
        );
    }
}

/// Each line of the vectors: length, pattern seed, digest as the real tool printed it.
fn vectors() -> Vec<(usize, u64, FileDigest)> {
    let text = include_str!("../testdata/fsverity.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split(' ');
            let mut next = || fields.next().unwrap();
            (
                next().parse().unwrap(),
                next().parse().unwrap(),
                next().parse().unwrap(),
            )
        })
        .collect()
}

#[test]
fn equals_the_checked_in_vectors() {
    let vectors = vectors();
    assert!(vectors.len() > 20);
    for (size, seed, expected) in vectors {
        assert_eq!(
            digest(&pattern(size, seed)),
            expected,
            "size {size}, seed {seed}"
        );
    }
}

#[test]
fn equals_the_installed_fsverity_tool() {
    if Command::new("fsverity").arg("--version").output().is_err() {
        skipped("no `fsverity` on PATH (Debian package fsverity): checked-in vectors alone");
        return;
    }
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join(format!("fsverity-{}.bin", std::process::id()));
    let mut sizes = border_sizes();
    sizes.extend(around(16384 * 4096));
    sizes.push(90_868_376);
    let data = pattern(90_868_376, 2);
    for size in sizes {
        std::fs::write(&path, &data[..size]).unwrap();
        let output = Command::new("fsverity")
            .arg("digest")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let ours = format!("sha256:{} {}\n", digest(&data[..size]), path.display());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            ours,
            "size {size}"
        );
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn any_chunking_gives_the_same_tree() {
    let data = pattern(40 * 4096 + 77, 3);
    let expected = Tree::from_level0(level(&data), data.len() as u64).unwrap();
    assert_eq!(expected.digest(), digest(&data));
    for chunk in [
        1, 7, 4095, 4096, 4097, 65535, 65536, 65537, 100_000, 200_000,
    ] {
        let mut hasher = Hasher::new();
        for piece in data.chunks(chunk) {
            hasher.update(piece);
            hasher.update(&[]);
        }
        assert_eq!(hasher.len(), data.len() as u64);
        assert!(!hasher.is_empty());
        assert_eq!(hasher.finalize(), expected, "chunks of {chunk}");
    }
    assert!(Hasher::new().is_empty());
}

// requirement: CI-006
#[test]
fn a_hasher_shows_its_length_and_no_byte() {
    let mut hasher = Hasher::new();
    hasher.update(b"weights");
    assert_eq!(format!("{hasher:?}"), "Hasher { len: 7, .. }");
}

#[test]
fn a_tree_tells_what_it_was_made_of() {
    let hashes = level(&pattern(2 * 4096 + 1, 5));
    let tree = Tree::from_level0(hashes.clone(), 2 * 4096 + 1).unwrap();
    assert_eq!((tree.len(), tree.is_empty()), (2 * 4096 + 1, false));
    assert_eq!(tree.block(2), Some(&hashes[2]));
    assert_eq!(tree.block(3), None);
    assert_eq!(tree.level0(), hashes);
    assert_eq!(tree.into_level0(), hashes);
}

#[test]
fn threads_change_nothing() {
    let data = pattern(3 * 1024 * 1024 + 5000, 4);
    let expected = level(&data);
    for threads in [1, 2, 3, 8, 64] {
        let mut out = vec![BlockHash::default(); expected.len()];
        hash_blocks_parallel(&data, &mut out, NonZeroUsize::new(threads).unwrap()).unwrap();
        assert_eq!(out, expected, "{threads} threads");
    }
    let threads = NonZeroUsize::new(4).unwrap();
    assert_eq!(hash_blocks_parallel(&[], &mut [], threads), Ok(()));
}

#[test]
fn wrong_counts_are_refused_and_write_nothing() {
    let data = pattern(4097, 5);
    let threads = NonZeroUsize::new(2).unwrap();
    for count in [0, 1, 3] {
        let mut out = vec![[9; 32]; count];
        let error = hash_blocks(&data, &mut out).unwrap_err();
        assert_eq!((error.expected, error.actual), (2, count as u64));
        assert!(hash_blocks_parallel(&data, &mut out, threads).is_err());
        assert!(out.iter().all(|hash| *hash == [9; 32]));
        assert!(Tree::from_level0(out, 4097).is_err());
    }
    let message = hash_blocks(&data, &mut []).unwrap_err().to_string();
    assert_eq!(
        message,
        "block hashes: got 0, need 2; size the slice by the data length"
    );
}

#[test]
fn several_threads_build_the_same_tree() {
    // The last count gives each of several threads its 256 KiB of hashes.
    for count in [0_usize, 1, 2, 128, 129, 16_385, 70_001] {
        let hashes: Vec<_> = pattern(count * 32, 8).as_chunks::<32>().0.to_vec();
        let len = count as u64 * 4096;
        let one = Tree::from_level0(hashes.clone(), len).unwrap();
        for threads in [1, 3, 8] {
            let threads = std::num::NonZeroUsize::new(threads).unwrap();
            let many = Tree::from_level0_parallel(hashes.clone(), len, threads);
            assert_eq!(many.unwrap(), one, "{count} hashes, {threads} threads");
        }
        let more = Tree::from_level0_parallel(hashes, len + 1, std::num::NonZeroUsize::MIN);
        assert!(more.is_err());
    }
}

#[test]
fn a_block_is_padded_and_bounded() {
    for size in [0, 1, 4095, 4096] {
        let data = pattern(size, 6);
        let mut padded = data.clone();
        padded.resize(4096, 0);
        assert_eq!(hash_block(&data).unwrap(), level(&padded)[0], "size {size}");
    }
    let error = hash_block(&[0; 4097]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "block of 4097 bytes is longer than 4096; split it first"
    );
}

#[test]
fn roots_of_no_block_and_one_block() {
    assert_eq!(root(&[]), [0; 32]);
    assert_eq!(root(&[[5; 32]]), [5; 32]);
    let tree = Tree::from_level0(Vec::new(), 0).unwrap();
    assert!(tree.is_empty());
    assert_eq!(tree.digest(), digest(&[]));
    assert_eq!(tree.block(0), None);
}

/// Every bit of a small file, of its length and of its tree counts (requirement: DG-1).
#[test]
fn one_flipped_bit_changes_the_digest() {
    let data = pattern(5000, 7);
    let expected = digest(&data);
    for bit in 0..data.len() * 8 {
        let mut flipped = data.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(digest(&flipped), expected, "bit {bit}");
    }
    let mut longer = data.clone();
    longer.push(0);
    assert_ne!(
        digest(&longer),
        expected,
        "a zero byte more, the same padded blocks"
    );
}
