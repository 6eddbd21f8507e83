//! The one function every level of the tree is made of: SHA-256 of zero-padded 4096-byte blocks.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use crate::error::{LengthMismatch, TooLong, check_count};
use crate::lanes::{hash_all, padded_hash};
use crate::{BLOCK_BYTES, BlockHash, path};

/// Below this many bytes a further thread costs more than it saves.
const WORK_PER_THREAD: usize = 256 * 1024;

/// SHA-256 of one block of at most [`BLOCK_BYTES`], zero-padded to that size as fs-verity does.
///
/// # Errors
///
/// [`TooLong`] when the block is longer than [`BLOCK_BYTES`].
///
/// # Examples
///
/// ```
/// let short = vram_digest::hash_block(b"weights")?;
/// let mut padded = [0; vram_digest::BLOCK_BYTES];
/// padded[..7].copy_from_slice(b"weights");
/// assert_eq!(short, vram_digest::hash_block(&padded)?);
/// # Ok::<(), vram_digest::TooLong>(())
/// ```
pub fn hash_block(block: &[u8]) -> Result<BlockHash, TooLong> {
    if block.len() > BLOCK_BYTES {
        return Err(TooLong {
            what: "block",
            limit: BLOCK_BYTES,
            actual: block.len(),
        });
    }
    Ok(padded_hash(block))
}

/// Hashes `data` block by block into `out`, on this thread, by the fastest path of this CPU.
///
/// The last block may be short; it is zero-padded.
///
/// # Errors
///
/// [`LengthMismatch`] when `out` does not have one entry per started 4096 bytes of `data`;
/// nothing is written then.
pub fn hash_blocks(data: &[u8], out: &mut [BlockHash]) -> Result<(), LengthMismatch> {
    check_count("block hashes", bytes(data), BLOCK_BYTES, out.len())?;
    hash_all(path::active(), data, out);
    Ok(())
}

/// [`hash_blocks`] on up to `threads` threads, this one included.
///
/// Work is split at block borders and no thread is started for less than 256 KiB. Where the system
/// refuses a thread, the others do its share.
///
/// # Errors
///
/// As [`hash_blocks`].
pub fn hash_blocks_parallel(
    data: &[u8],
    out: &mut [BlockHash],
    threads: NonZeroUsize,
) -> Result<(), LengthMismatch> {
    check_count("block hashes", bytes(data), BLOCK_BYTES, out.len())?;
    let path = path::active();
    share_out(
        threads,
        data.len(),
        data.chunks(WORK_PER_THREAD)
            .zip(out.chunks_mut(WORK_PER_THREAD / BLOCK_BYTES)),
        |(data, out)| hash_all(path, data, out),
    );
    Ok(())
}

/// Runs `work` on every piece, on up to `threads` threads but at least 256 KiB each.
pub(crate) fn share_out<T: Send>(
    threads: NonZeroUsize,
    bytes: usize,
    pieces: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    let helpers = threads
        .get()
        .min(bytes.div_ceil(WORK_PER_THREAD))
        .saturating_sub(1);
    let queue = Mutex::new(pieces);
    let drain = || {
        loop {
            // A poisoned queue only means that another worker stopped between two pieces.
            let piece = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            match piece {
                Some(piece) => work(piece),
                None => break,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            if std::thread::Builder::new()
                .spawn_scoped(scope, drain)
                .is_err()
            {
                break;
            }
        }
        drain();
    });
}

/// Length of a slice as the format counts it.
pub(crate) fn bytes(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
