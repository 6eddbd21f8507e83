//! Tags of segments: NH over units, Poly1305 over the results.

use std::num::NonZeroUsize;

use super::kernel::Kernel;
use super::key::Key;
use super::poly::Poly;
use super::tag::Tag;
use super::{NH_HASH_BYTES, NH_UNIT_BYTES, SEGMENT_BYTES};
use crate::block::{bytes, share_out};
use crate::error::{LengthMismatch, TooLong, check_count};

/// NH of one unit: four little-endian 64-bit sums, one per pass.
pub type NhHash = [u8; NH_HASH_BYTES];

/// How many tags [`tags`] makes of `len` bytes.
#[must_use]
pub const fn tag_count(len: usize) -> usize {
    len.div_ceil(SEGMENT_BYTES)
}

/// NH of one unit of at most [`NH_UNIT_BYTES`], the first half of the hash.
///
/// A length that is no multiple of 16 is padded with zeros to the next one, and no further.
///
/// # Errors
///
/// [`TooLong`] when the unit is longer than [`NH_UNIT_BYTES`].
pub fn nh_unit(key: &Key, unit: &[u8]) -> Result<NhHash, TooLong> {
    if unit.len() > NH_UNIT_BYTES {
        return Err(TooLong {
            what: "NH unit",
            limit: NH_UNIT_BYTES,
            actual: unit.len(),
        });
    }
    let mut hash = [0; NH_HASH_BYTES];
    let sums = Kernel::active().nh(key.nh(), unit);
    for (to, sum) in hash.as_chunks_mut().0.iter_mut().zip(sums) {
        *to = sum.to_le_bytes();
    }
    Ok(hash)
}

/// Poly1305 over the NH results of a segment's units in order, the second half of the hash.
///
/// A device that computes NH alone leaves this to the host: `tag` is this over [`nh_unit`] of every
/// unit.
#[must_use]
pub fn tag_of_units(key: &Key, units: &[NhHash]) -> Tag {
    let mut poly = Poly::new(key.multiplier());
    for unit in units {
        let (words, _) = unit.as_chunks::<8>();
        if let &[a, b, c, d] = words {
            absorb(&mut poly, [a, b, c, d].map(u64::from_le_bytes));
        }
    }
    poly.finish()
}

/// Feeds one NH result as two Poly1305 blocks.
#[inline]
fn absorb(poly: &mut Poly<'_>, [a, b, c, d]: [u64; 4]) {
    poly.block(a, b);
    poly.block(c, d);
}

/// NHPoly1305 of `segment` as Adiantum and the Linux kernel's `nhpoly1305` compute it.
///
/// Meant for segments of at most [`SEGMENT_BYTES`], right for any length. No bytes give
/// [`Tag::ZERO`].
#[must_use]
pub fn tag(key: &Key, segment: &[u8]) -> Tag {
    let [tag] = tags_of(Kernel::active(), [key], segment);
    tag
}

/// The tags of one segment under each key, in one pass over the bytes: what the first key reads
/// from memory, the next ones find in the nearest cache.
fn tags_of<const KEYS: usize>(kernel: Kernel, keys: [&Key; KEYS], segment: &[u8]) -> [Tag; KEYS] {
    let mut polys = keys.map(|key| Poly::new(key.multiplier()));
    for unit in segment.chunks(NH_UNIT_BYTES) {
        for (poly, key) in polys.iter_mut().zip(keys) {
            absorb(poly, kernel.nh(key.nh(), unit));
        }
    }
    polys.map(Poly::finish)
}

/// One tag per started [`SEGMENT_BYTES`] of `data`, on this thread.
///
/// # Errors
///
/// [`LengthMismatch`] when `out` does not have [`tag_count`] entries; nothing is written then.
pub fn tags(key: &Key, data: &[u8], out: &mut [Tag]) -> Result<(), LengthMismatch> {
    check_count("segment tags", bytes(data), SEGMENT_BYTES, out.len())?;
    let kernel = Kernel::active();
    for (segment, to) in data.chunks(SEGMENT_BYTES).zip(out) {
        [*to] = tags_of(kernel, [key], segment);
    }
    Ok(())
}

/// [`tags`] on up to `threads` threads, this one included.
///
/// # Errors
///
/// As [`tags`].
pub fn tags_parallel(
    key: &Key,
    data: &[u8],
    out: &mut [Tag],
    threads: NonZeroUsize,
) -> Result<(), LengthMismatch> {
    check_count("segment tags", bytes(data), SEGMENT_BYTES, out.len())?;
    let kernel = Kernel::active();
    let pieces = data.chunks(SEGMENT_BYTES).zip(out);
    share_out(threads, data.len(), pieces, |(segment, to)| {
        [*to] = tags_of(kernel, [key], segment)
    });
    Ok(())
}

/// Tags under two keys in one pass over the data: rolling keys check under the first while they
/// make the reference for the second.
///
/// # Errors
///
/// [`LengthMismatch`] when either slice does not have [`tag_count`] entries; nothing is written
/// then.
pub fn tags2(
    key1: &Key,
    key2: &Key,
    data: &[u8],
    out1: &mut [Tag],
    out2: &mut [Tag],
) -> Result<(), LengthMismatch> {
    check_count("segment tags", bytes(data), SEGMENT_BYTES, out1.len())?;
    check_count("segment tags", bytes(data), SEGMENT_BYTES, out2.len())?;
    let kernel = Kernel::active();
    for (segment, (to1, to2)) in data.chunks(SEGMENT_BYTES).zip(out1.iter_mut().zip(out2)) {
        [*to1, *to2] = tags_of(kernel, [key1, key2], segment);
    }
    Ok(())
}
