//! Where bytes come from: positioned reads of something with a known length.

use std::io::{self, ErrorKind, Read};

use super::{FileIdentity, LoadError};
use crate::clock::Clock;
use crate::format::ReadAt;
use crate::sync::{Mutex, PoisonError};

/// A source of model bytes, its length fixed when it was opened. Reads may come
/// from several threads at once.
pub trait Source: ReadAt + Send + Sync {
    /// What messages call it.
    fn name(&self) -> String;

    /// True when reads must come in file order (a pipe, say).
    fn is_sequential(&self) -> bool {
        false
    }

    /// Reads one piece of a load. A source that knows several ways to its bytes
    /// may time them by `clock` and keep to the fastest; others read as
    /// [`ReadAt::read_exact_at`] does.
    ///
    /// # Errors
    /// The system's words.
    fn read_piece(&self, offset: u64, out: &mut [u8], clock: &dyn Clock) -> io::Result<()> {
        let _ = clock;
        self.read_exact_at(offset, out)
    }

    /// Where the source ends by now, for the message about a read that came
    /// short; `None` where nothing can tell.
    fn end(&self) -> Option<u64> {
        None
    }

    /// The file it reads, as it was when it was opened; `None` for what is no
    /// file.
    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    /// Whether the source is still what it was when it was opened.
    ///
    /// # Errors
    /// [`LoadError::Changed`].
    fn check_unchanged(&self) -> Result<(), LoadError> {
        Ok(())
    }
}

impl Source for &[u8] {
    fn name(&self) -> String {
        "bytes".to_owned()
    }
}

/// A reader of known length, such as a pipe; read in order.
pub(super) struct ReaderSource<R> {
    len: u64,
    /// The reader and how far it is.
    state: Mutex<(R, u64)>,
}

impl<R: Read + Send> ReaderSource<R> {
    pub(super) const fn new(reader: R, len: u64) -> Self {
        Self {
            len,
            state: Mutex::new((reader, 0)),
        }
    }
}

impl<R: Read + Send> ReadAt for ReaderSource<R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1 != offset {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "a reader cannot go back",
            ));
        }
        let mut rest = out;
        while !rest.is_empty() {
            match state.0.read(rest) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    rest = rest.get_mut(n..).unwrap_or_default();
                    state.1 = state.1.saturating_add(n as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read + Send> Source for ReaderSource<R> {
    fn name(&self) -> String {
        "reader".to_owned()
    }

    fn is_sequential(&self) -> bool {
        true
    }

    fn end(&self) -> Option<u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Some(state.1)
    }

    /// The reader must end where it said it would.
    fn check_unchanged(&self) -> Result<(), LoadError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let name = || "reader".to_owned();
        let end = loop {
            match state.0.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                end => break end,
            }
        };
        match end {
            Ok(0) => Ok(()),
            Ok(_) => Err(LoadError::Changed {
                name: name(),
                what: "size",
            }),
            Err(source) => Err(LoadError::Read {
                name: name(),
                offset: self.len,
                source,
            }),
        }
    }
}

/// A repeatable source of any length that holds no bytes: for capacity tests,
/// benches and models larger than memory. Byte `i` is a mix of `i` and the seed.
#[derive(Debug, Clone, Copy)]
pub struct PatternSource {
    len: u64,
    seed: u64,
}

impl PatternSource {
    /// `len` bytes of the pattern of `seed`.
    #[must_use]
    pub const fn new(len: u64, seed: u64) -> Self {
        Self { len, seed }
    }

    /// Eight bytes of the pattern: SplitMix64 of the word's index.
    const fn word(&self, index: u64) -> [u8; 8] {
        let mut z = index
            .wrapping_add(self.seed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

impl Source for PatternSource {
    fn name(&self) -> String {
        format!("pattern of seed {}", self.seed)
    }
}

impl ReadAt for PatternSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let skip = usize::try_from(offset % 8).unwrap_or(0);
        let (head, rest) = out.split_at_mut(out.len().min((8_usize.saturating_sub(skip)) % 8));
        let first = self.word(offset / 8);
        for (byte, value) in head.iter_mut().zip(first.iter().skip(skip)) {
            *byte = *value;
        }
        for (index, word) in (offset.div_ceil(8)..).zip(rest.chunks_mut(8)) {
            let value = self.word(index);
            word.copy_from_slice(value.get(..word.len()).unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_reads_agree_at_every_offset() {
        let source = PatternSource::new(100, 7);
        let mut whole = [0; 100];
        source.read_exact_at(0, &mut whole).unwrap();
        for offset in 0..90 {
            let mut part = [0; 10];
            source.read_exact_at(offset as u64, &mut part).unwrap();
            assert_eq!(part, whole[offset..offset + 10]);
        }
        assert!(source.read_exact_at(91, &mut [0; 10]).is_err());
    }
}
