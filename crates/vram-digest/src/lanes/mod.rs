//! Many blocks at once: the ladder of kernels, fastest first.

use sha2::{Digest as _, Sha256};

use crate::path::Path;
use crate::{BLOCK_BYTES, BlockHash};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod rounds;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

/// 64-byte pieces of a block, what SHA-256 takes at a step.
#[cfg(target_arch = "x86_64")]
const PIECES: usize = BLOCK_BYTES / 64;

/// One whole block, as pieces.
#[cfg(target_arch = "x86_64")]
type Block = [[u8; 64]; PIECES];

/// Hashes the blocks of `data` into as many entries of `out`, with nothing faster than `path`.
pub(crate) fn hash_all(path: Path, data: &[u8], out: &mut [BlockHash]) {
    #[cfg(target_arch = "x86_64")]
    let (data, out) = hash_groups(path, data, out);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = path;
    for (block, hash) in data.chunks(BLOCK_BYTES).zip(out) {
        *hash = padded_hash(block);
    }
}

/// SHA-256 of at most one block, zero-padded to a whole one.
pub(crate) fn padded_hash(block: &[u8]) -> BlockHash {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let mut hash = Sha256::new();
    hash.update(block);
    hash.update(ZEROS.get(block.len()..).unwrap_or_default());
    hash.finalize().into()
}

/// Hashes whole groups of whole blocks; gives back what is left over.
#[cfg(target_arch = "x86_64")]
fn hash_groups<'a>(
    path: Path,
    data: &'a [u8],
    out: &'a mut [BlockHash],
) -> (&'a [u8], &'a mut [BlockHash]) {
    use crate::cpu::{Avx2, Avx512, ShaNi};

    let mut left = Left { data, out };
    if path >= Path::Avx512
        && let Some(cpu) = Avx512::detect()
    {
        left.take_groups(|blocks, out| avx512::hash16(cpu, blocks, out));
    }
    if path >= Path::ShaNi
        && let Some(cpu) = ShaNi::detect()
    {
        left.take_groups(|blocks, out| sha_ni::hash2(cpu, blocks, out));
    } else if path >= Path::Avx2
        && let Some(cpu) = Avx2::detect()
    {
        left.take_groups(|blocks, out| avx2::hash8(cpu, blocks, out));
    }
    (left.data, left.out)
}

/// Bytes not hashed yet, and where their hashes go.
#[cfg(target_arch = "x86_64")]
struct Left<'a> {
    data: &'a [u8],
    out: &'a mut [BlockHash],
}

#[cfg(target_arch = "x86_64")]
impl<'a> Left<'a> {
    /// Hashes as many groups of `LANES` whole blocks as there are.
    fn take_groups<const LANES: usize>(
        &mut self,
        kernel: impl Fn(&'a [Block; LANES], &mut [BlockHash; LANES]),
    ) {
        let blocks: &[Block] = self.data.as_chunks().0.as_chunks().0;
        let (groups, _) = blocks.as_chunks::<LANES>();
        let done = groups.as_flattened().len();
        let (head, tail) = std::mem::take(&mut self.out).split_at_mut(done);
        for (group, out) in groups.iter().zip(head.as_chunks_mut().0) {
            kernel(group, out);
        }
        self.out = tail;
        self.data = self
            .data
            .get(done.saturating_mul(BLOCK_BYTES)..)
            .unwrap_or_default();
    }
}
