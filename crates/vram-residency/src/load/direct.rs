//! Cold files: which bytes the page cache holds, reads past it, and the trial
//! that tells whether those pay on this mount.

use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{Advice, AtFlags, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::file::handle_of;
use crate::clock::Clock;

/// A page of the page cache.
const PAGE: u64 = 4096;
/// Alignment that every block device takes, where the system names none.
const USUAL_ALIGN: u64 = 4096;
/// Cold pieces that are read each way before one is chosen.
const TRIES: u32 = 4;

/// How the bytes of a piece came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Out of the page cache.
    Cached,
    /// From the device through the page cache.
    Buffered,
    /// From the device past the page cache.
    Direct,
}

/// A second handle of the file whose reads go past the page cache.
pub(super) struct Direct {
    file: File,
    /// Offsets and lengths are multiples of this.
    offset_align: u64,
    /// So are the addresses of buffers.
    memory_align: usize,
}

impl Direct {
    /// Opens the file again; `None` where the file system reads only through the
    /// page cache.
    pub(super) fn open(file: &File) -> Option<Self> {
        let flags = i32::try_from((OFlags::DIRECT | OFlags::NONBLOCK).bits()).ok()?;
        let file = File::options()
            .read(true)
            .custom_flags(flags)
            .open(handle_of(file))
            .ok()?;
        let stat = rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        let told = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        let aligns = (stat.stx_dio_offset_align, stat.stx_dio_mem_align);
        let (offset_align, memory_align) = match (told, aligns) {
            (false, _) => (USUAL_ALIGN, USUAL_ALIGN),
            (true, (0, _) | (_, 0)) => return None,
            (true, (offset, memory)) => (u64::from(offset), u64::from(memory)),
        };
        Some(Self {
            file,
            offset_align,
            memory_align: usize::try_from(memory_align).ok()?,
        })
    }

    /// Bytes at the start of a piece that can be read this way.
    pub(super) fn prefix(&self, offset: u64, out: &[u8]) -> usize {
        let aligned = out.as_ptr().align_offset(self.memory_align) == 0;
        let unit = usize::try_from(self.offset_align).unwrap_or(usize::MAX);
        let tail = out.len().checked_rem(unit).unwrap_or(out.len());
        if aligned && offset.is_multiple_of(self.offset_align) {
            out.len().saturating_sub(tail)
        } else {
            0
        }
    }

    /// Fills `out`, a whole [`Direct::prefix`].
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
}

/// Asks whether pages are in the page cache. A handle of its own: it is told
/// that reads are random, so that asking reads at most the page asked about.
pub(super) struct Cache {
    file: File,
}

impl Cache {
    /// Opens the file again.
    pub(super) fn open(file: &File) -> Option<Self> {
        let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).ok()?;
        let mut options = File::options();
        let options = options.read(true).custom_flags(nonblock);
        let file = options.open(handle_of(file)).ok()?;
        rustix::fs::fadvise(&file, 0, None, Advice::Random).ok()?;
        Some(Self { file })
    }

    /// Whether a piece is cold: a page of it is not in the cache. The first
    /// page is not asked about: reading the piece before may have fetched it.
    pub(super) fn is_cold(&self, offset: u64, len: u64) -> bool {
        places(offset, len).any(|at| self.is_absent(at))
    }

    /// Reads one byte, but only if that needs no device. File systems that cannot
    /// tell (overlays, network mounts) count as cached: what their cache holds is
    /// never read from the disk again.
    fn is_absent(&self, at: u64) -> bool {
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let answer = rustix::io::preadv2(&self.file, &mut parts, at, ReadWriteFlags::NOWAIT);
        answer == Err(Errno::AGAIN)
    }

    /// Forgets the pages of a cold piece that asking may have fetched, so that
    /// the cache is as it was.
    pub(super) fn forget(&self, offset: u64, len: u64) {
        for at in places(offset, len) {
            let page = at.checked_div(PAGE).unwrap_or(0).saturating_mul(PAGE);
            // A hint: what stays costs a page of cache.
            let length = std::num::NonZeroU64::new(PAGE);
            let _ = rustix::fs::fadvise(&self.file, page, length, Advice::DontNeed);
        }
    }
}

/// Where a piece is asked about: behind its first and third quarter, and at
/// its end.
fn places(offset: u64, len: u64) -> impl Iterator<Item = u64> {
    let last = len.saturating_sub(1);
    [len / 4, (len / 4).saturating_mul(3), last]
        .into_iter()
        .map(move |at| offset.saturating_add(at.min(last)))
}

/// Bytes and time of one way.
#[derive(Default, Clone, Copy)]
struct Tally {
    tries: u32,
    bytes: u64,
    nanos: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64, nanos: u64) {
        self.tries = self.tries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.nanos = self.nanos.saturating_add(nanos);
    }
}

/// Reads cold pieces both ways in turn and keeps to direct reads where they
/// are at least a tenth faster. The pieces are part of the load: nothing is
/// read for the trial alone.
#[derive(Default)]
pub(super) struct Trial {
    begun: u64,
    direct: Tally,
    buffered: Tally,
    verdict: Option<Way>,
}

impl Trial {
    /// How the next cold piece is read.
    pub(super) fn next(&mut self) -> Way {
        if let Some(way) = self.verdict {
            return way;
        }
        self.begun = self.begun.saturating_add(1);
        if self.begun.is_multiple_of(2) {
            Way::Buffered
        } else {
            Way::Direct
        }
    }

    /// What a cold piece took.
    pub(super) fn took(&mut self, way: Way, bytes: u64, nanos: u64) {
        match way {
            Way::Direct => self.direct.add(bytes, nanos),
            Way::Buffered => self.buffered.add(bytes, nanos),
            Way::Cached => {}
        }
        if self.verdict.is_none() && self.direct.tries.min(self.buffered.tries) >= TRIES {
            self.verdict = Some(self.judge());
        }
    }

    /// Direct reads do not work here after all.
    pub(super) fn give_up(&mut self) {
        self.verdict = Some(Way::Buffered);
    }

    /// `direct.bytes / direct.nanos >= 1.1 * buffered.bytes / buffered.nanos`.
    fn judge(&self) -> Way {
        let product = |a: u64, b: u64, by: u128| {
            u128::from(a)
                .saturating_mul(u128::from(b))
                .saturating_mul(by)
        };
        let direct = product(self.direct.bytes, self.buffered.nanos, 10);
        let buffered = product(self.buffered.bytes, self.direct.nanos, 11);
        if direct >= buffered && direct > 0 {
            Way::Direct
        } else {
            Way::Buffered
        }
    }
}

/// Runs `read` and says how long it took.
pub(super) fn timed(clock: &dyn Clock, read: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let started = clock.monotonic();
    read()?;
    Ok(clock.monotonic().saturating_sub(started))
}

/// Whether a direct read failed for want of support rather than of the bytes.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(direct_nanos: u64, buffered_nanos: u64) -> Trial {
        let mut trial = Trial::default();
        for _ in 0..2 * TRIES {
            match trial.next() {
                Way::Direct => trial.took(Way::Direct, 1 << 20, direct_nanos),
                way => trial.took(way, 1 << 20, buffered_nanos),
            }
        }
        trial
    }

    #[test]
    fn a_file_system_that_cannot_tell_is_read_as_ever() {
        // As overlays and network mounts do.
        let file = File::open("/proc/cpuinfo").unwrap();
        let cache = Cache::open(&file).unwrap();
        assert!(!cache.is_cold(0, 1));
    }

    #[test]
    fn direct_reads_are_kept_only_where_they_are_a_tenth_faster() {
        for (direct, buffered, way) in [
            (100, 200, Way::Direct),
            (100, 110, Way::Direct),
            (100, 109, Way::Buffered),
            (200, 100, Way::Buffered),
            (0, 0, Way::Buffered),
        ] {
            let mut trial = tried(direct, buffered);
            assert_eq!(trial.next(), way, "{direct} {buffered}");
            // A verdict stands, whatever follows.
            trial.took(Way::Direct, 1 << 40, 1);
            assert_eq!(trial.next(), way);
        }
    }

    #[test]
    fn both_ways_are_tried_in_turn_until_then() {
        let mut trial = Trial::default();
        let ways: Vec<Way> = (0..4).map(|_| trial.next()).collect();
        let expected = [Way::Direct, Way::Buffered, Way::Direct, Way::Buffered];
        assert_eq!(ways, expected);
        trial.give_up();
        assert_eq!(trial.next(), Way::Buffered);
    }

    #[test]
    fn places_lie_inside_the_piece() {
        for len in [1, 2, 3, 4095, 4096, 4097, 1 << 21] {
            for at in places(7, len) {
                assert!((7..7 + len).contains(&at), "{len}: {at}");
            }
        }
    }
}
