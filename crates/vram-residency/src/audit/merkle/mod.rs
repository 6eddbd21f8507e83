//! Merkle trees of RFC 6962, section 2.1: the hash of every prefix of a log,
//! and short proofs about it.

mod proof;
pub(crate) mod tile;
mod tree;

pub use proof::{consistency, inclusion, verify_consistency, verify_inclusion};
pub(crate) use tree::Tree;

use sha2::{Digest, Sha256};

/// A SHA-256 hash of the tree.
pub type Hash = [u8; 32];

/// The hash of one leaf: `SHA-256(0x00 || leaf)`.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update([0]).chain_update(leaf);
    hash.finalize().into()
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new().chain_update([1]);
    hash.chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The root of the tree over `leaves`; of none, SHA-256 of nothing.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut row = leaves.to_vec();
    if row.is_empty() {
        return Sha256::digest([]).into();
    }
    while let [_, _, ..] = row.as_slice() {
        row = pair_up(&row);
    }
    row.first().copied().unwrap_or_default()
}

/// One level up: pairs are hashed, a last one alone moves up as it is.
fn pair_up(row: &[Hash]) -> Vec<Hash> {
    let up = row.chunks(2).map(|pair| match pair {
        [left, right] => node_hash(left, right),
        rest => rest.first().copied().unwrap_or_default(),
    });
    up.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    /// The eight leaves and roots of Certificate Transparency's reference tests.
    const LEAVES: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[
            0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
            0x6e, 0x6f,
        ],
    ];

    #[test]
    fn known_roots() {
        let leaves: Vec<Hash> = LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
        for (size, expected) in [
            (
                0,
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                1,
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            ),
            (
                2,
                "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            ),
            (
                8,
                "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
            ),
        ] {
            assert_eq!(hex::encode(&root(&leaves[..size])), expected, "{size}");
        }
    }

    #[test]
    fn the_growing_tree_agrees_with_the_definition() {
        let leaves: Vec<Hash> = (0_u32..1100).map(|i| leaf_hash(&i.to_le_bytes())).collect();
        let mut tree = Tree::default();
        for (at, leaf) in leaves.iter().enumerate() {
            tree.push(*leaf);
            if at % 37 == 0 || at > 1020 {
                assert_eq!(tree.root(), root(&leaves[..=at]), "{at}");
            }
        }
        assert_eq!(tree.size(), 1100);
    }

    /// The definition of RFC 6962, written as it stands there.
    fn recursive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            more => {
                let split = more.len().next_power_of_two() / 2;
                node_hash(&recursive(&more[..split]), &recursive(&more[split..]))
            }
        }
    }

    #[test]
    fn every_proof_of_small_trees_holds_and_no_wrong_one() {
        let leaves: Vec<Hash> = (0_u32..40).map(|i| leaf_hash(&i.to_le_bytes())).collect();
        for size in 1..=leaves.len() {
            let tree = &leaves[..size];
            let whole = root(tree);
            assert_eq!(whole, recursive(tree));
            for (at, leaf) in tree.iter().enumerate() {
                let (index, size) = (at as u64, size as u64);
                let proof = inclusion(tree, at);
                assert!(verify_inclusion(leaf, index, size, &proof, &whole));
                assert!(!verify_inclusion(&[9; 32], index, size, &proof, &whole));
                assert!(!verify_inclusion(leaf, index + 1, size, &proof, &whole));
                for bad in 0..proof.len() {
                    let mut wrong = proof.clone();
                    wrong[bad][3] ^= 1;
                    assert!(!verify_inclusion(leaf, index, size, &wrong, &whole));
                }
            }
            for old in 1..=size {
                let proof = consistency(tree, old);
                let before = root(&tree[..old]);
                let (old, size) = (old as u64, size as u64);
                assert!(verify_consistency(old, &before, size, &whole, &proof));
                assert!(!verify_consistency(old, &[9; 32], size, &whole, &proof));
                assert!(!verify_consistency(old, &before, size, &[9; 32], &proof));
            }
        }
    }

    /// Nothing grew out of an empty tree, and none grew smaller, whatever the proof.
    #[test]
    fn no_tree_is_the_beginning_of_a_smaller_one() {
        let root = [3; 32];
        assert!(!verify_consistency(0, &root, 1, &root, &[root]));
        assert!(!verify_consistency(2, &root, 1, &root, &[]));
        assert!(!verify_consistency(3, &root, 1, &root, &[root]));
    }
}
