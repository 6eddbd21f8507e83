//! Inclusion and consistency proofs (RFC 6962, sections 2.1.1 and 2.1.2), and
//! their verification as RFC 9162 writes it down.

use super::{Hash, node_hash, root};

/// The hashes that lead from leaf `index` to the root of the tree over
/// `leaves`; none when there is no such leaf.
#[must_use]
pub fn inclusion(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while let Some((left, right)) = halves(leaves) {
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index = index.saturating_sub(left.len());
            leaves = right;
        }
    }
    path.reverse();
    path
}

/// The hashes that show that the tree over the first `old` leaves is a prefix
/// of the tree over `leaves`.
#[must_use]
pub fn consistency(leaves: &[Hash], old: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    let (mut leaves, mut old, mut whole) = (leaves, old, true);
    while old < leaves.len() {
        let Some((left, right)) = halves(leaves) else {
            break;
        };
        if old <= left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            old = old.saturating_sub(left.len());
            leaves = right;
            whole = false;
        }
    }
    // A left-edge subtree is the old tree itself, whose root is known.
    if !whole {
        path.push(root(leaves));
    }
    path.reverse();
    path
}

/// Splits at the largest power of two below the length.
fn halves(leaves: &[Hash]) -> Option<(&[Hash], &[Hash])> {
    if leaves.len() < 2 {
        return None;
    }
    leaves.split_at_checked(leaves.len().next_power_of_two() / 2)
}

/// Whether `proof` leads from `leaf` at `index` to `root` of a tree of `size`.
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size.saturating_sub(1), *leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            (node, last) = skip_lone(node, last);
        } else {
            hash = node_hash(&hash, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `old` leaves and root `old_root` is a
/// prefix of the tree of `size` leaves and root `root`. Not for empty trees.
#[must_use]
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> bool {
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 || old > size {
        return false;
    }
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut node, mut last) = (old.saturating_sub(1), size.saturating_sub(1));
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut was, mut is) = (first, first);
    for step in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            (was, is) = (node_hash(step, &was), node_hash(step, &is));
            (node, last) = skip_lone(node, last);
        } else {
            is = node_hash(&is, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && was == *old_root && is == *root
}

/// A node without a sibling moves up unhashed until it is a right child.
const fn skip_lone(mut node: u64, mut last: u64) -> (u64, u64) {
    while node & 1 == 0 && node != 0 {
        (node, last) = (node >> 1, last >> 1);
    }
    (node, last)
}
