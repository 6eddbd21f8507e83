//! The definitions written down once more, as plainly as possible, and repeatable test data.

#![allow(dead_code, reason = "each test binary uses its own part")]

use sha2::{Digest as _, Sha256};

/// `len` repeatable bytes: the little-endian words of SplitMix64 started at `seed`.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A level of the tree: SHA-256 of every zero-padded 4096-byte block.
pub(crate) fn level(data: &[u8]) -> Vec<[u8; 32]> {
    data.chunks(4096)
        .map(|block| {
            let mut padded = block.to_vec();
            padded.resize(4096, 0);
            Sha256::digest(padded).into()
        })
        .collect()
}

/// The fs-verity file digest, straight from the kernel's documentation.
pub(crate) fn fsverity(data: &[u8]) -> [u8; 32] {
    let mut hashes = level(data);
    while hashes.len() > 1 {
        hashes = level(&hashes.concat());
    }
    let mut descriptor = [0_u8; 256];
    descriptor[..3].copy_from_slice(&[1, 1, 12]);
    descriptor[8..16].copy_from_slice(&(data.len() as u64).to_le_bytes());
    descriptor[16..48].copy_from_slice(&hashes.first().copied().unwrap_or_default());
    Sha256::digest(descriptor).into()
}

/// NH of one unit: four passes over pairs of words two apart.
pub(crate) fn nh(key: &[u8], unit: &[u8]) -> [u8; 32] {
    let word =
        |bytes: &[u8], i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap());
    let mut padded = unit.to_vec();
    padded.resize(unit.len().next_multiple_of(16), 0);
    let mut out = [0; 32];
    for pass in 0..4 {
        let mut sum = 0_u64;
        for i in (0..padded.len() / 4).step_by(4) {
            for j in [i, i + 1] {
                let a = word(&padded, j).wrapping_add(word(key, 4 * pass + j));
                let b = word(&padded, j + 2).wrapping_add(word(key, 4 * pass + j + 2));
                sum = sum.wrapping_add(u64::from(a) * u64::from(b));
            }
        }
        out[8 * pass..8 * pass + 8].copy_from_slice(&sum.to_le_bytes());
    }
    out
}

/// Poly1305 without the nonce: schoolbook numbers, little-endian base 256, least digit first.
pub(crate) fn poly1305(r: &[u8], message: &[u8]) -> [u8; 16] {
    let mut r = r.to_vec();
    for i in [3, 7, 11, 15] {
        r[i] &= 15;
    }
    for i in [4, 8, 12] {
        r[i] &= 252;
    }
    let mut h = vec![0_u64; 17];
    for block in message.chunks(16) {
        for (digit, byte) in h.iter_mut().zip(block.iter().chain(&[1])) {
            *digit += u64::from(*byte);
        }
        let mut product = vec![0_u64; 40];
        for (i, a) in h.iter().enumerate() {
            for (j, b) in r.iter().enumerate() {
                product[i + j] += a * u64::from(*b);
            }
        }
        carry(&mut product);
        h = reduce(&product);
    }
    // Subtract 2^130 - 5 if that leaves a number that is not negative.
    let mut plus5 = h.clone();
    plus5[0] += 5;
    carry(&mut plus5);
    if plus5[16] >= 4 {
        h = plus5;
    }
    std::array::from_fn(|i| u8::try_from(h[i]).unwrap())
}

/// Makes every digit less than 256.
fn carry(digits: &mut [u64]) {
    let mut over = 0;
    for digit in digits {
        *digit += over;
        over = *digit >> 8;
        *digit &= 255;
    }
    assert_eq!(over, 0);
}

/// Folds bits from 130 up back in five-fold until fewer than 131 remain.
fn reduce(number: &[u64]) -> Vec<u64> {
    let mut low = number[..17].to_vec();
    low[16] &= 3;
    let high: Vec<u64> = (16..number.len() - 1)
        .map(|i| (number[i] >> 2) | ((number[i + 1] & 3) << 6))
        .collect();
    if high.iter().all(|digit| *digit == 0) {
        return low;
    }
    let mut sum = vec![0; 40];
    for (i, digit) in sum.iter_mut().enumerate() {
        *digit = low.get(i).unwrap_or(&0) + 5 * high.get(i).unwrap_or(&0);
    }
    carry(&mut sum);
    reduce(&sum)
}

/// NHPoly1305: Poly1305 over NH of every 1024 bytes.
pub(crate) fn nhpoly1305(key: &[u8], message: &[u8]) -> [u8; 16] {
    let hashes: Vec<u8> = message
        .chunks(1024)
        .flat_map(|unit| nh(&key[16..], unit))
        .collect();
    poly1305(&key[..16], &hashes)
}

/// Bytes of a hex text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2).unwrap(), 16).unwrap())
        .collect()
}

/// Says that `what` was not tested, past the harness, which hides what a passing test prints by
/// `eprintln`. `cargo xtask ci` lists it as well.
pub(crate) fn skipped(what: &str) {
    let text = format!("\n*** SKIPPED: {what} ***\n\n");
    std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes()).unwrap();
}

/// The vectors of a published file.
pub(crate) fn published(json: &str) -> Vec<serde_json::Value> {
    let vectors: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
    assert!(vectors.len() > 10, "{} vectors", vectors.len());
    vectors
}
