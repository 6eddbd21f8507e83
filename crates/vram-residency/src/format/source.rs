//! Positioned reads: the only thing the parsers ask of a file.

use super::error::FormatError;
use std::io;

use memmap2::MmapMut;

/// Positioned reads of something file-like whose length is known.
///
/// Implemented by the loader for files, and here for byte slices.
pub trait ReadAt {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the range leaves the source, or
    /// what the system says.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        // A slice never has more than isize::MAX bytes.
        u64::try_from(<[u8]>::len(self)).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..))
            .and_then(|rest| rest.get(..out.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, out)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, out)
    }
}

/// Fills `out` from `offset`, with the error that names the place.
pub(super) fn read_into(src: &dyn ReadAt, offset: u64, out: &mut [u8]) -> Result<(), FormatError> {
    let len = u64::try_from(out.len()).unwrap_or(u64::MAX);
    src.read_exact_at(offset, out)
        .map_err(|source| FormatError::Io {
            offset,
            len,
            source,
        })
}

/// Reads `len` bytes at `offset` into fresh memory. `len` must have been held
/// against the source's length before: this and [`read_pages`] are the places
/// that allocate by a number.
pub(super) fn read_vec(
    src: &dyn ReadAt,
    offset: u64,
    len: u64,
    field: &'static str,
) -> Result<Vec<u8>, FormatError> {
    check_there(src, offset, len, field)?;
    let mut bytes = Vec::new();
    usize::try_from(len)
        .ok()
        .and_then(|n| bytes.try_reserve_exact(n).ok().map(|()| n))
        .map(|n| bytes.resize(n, 0))
        .ok_or_else(|| FormatError::Io {
            offset,
            len,
            source: io::ErrorKind::OutOfMemory.into(),
        })?;
    read_into(src, offset, &mut bytes)?;
    Ok(bytes)
}

/// The same into pages of its own, for texts of megabytes: the system has them
/// back as soon as they are dropped, and a load finds no holes in the heap.
/// Nothing is one blank.
pub(super) fn read_pages(
    src: &dyn ReadAt,
    offset: u64,
    len: u64,
    field: &'static str,
) -> Result<MmapMut, FormatError> {
    check_there(src, offset, len, field)?;
    let refused = |source| FormatError::Io {
        offset,
        len,
        source,
    };
    let size = usize::try_from(len).map_err(|_| refused(io::ErrorKind::OutOfMemory.into()))?;
    // There are no mappings of nothing.
    let mut pages = MmapMut::map_anon(size.max(1)).map_err(refused)?;
    pages.fill(b' ');
    read_into(src, offset, pages.get_mut(..size).unwrap_or_default())?;
    Ok(pages)
}

/// Holds a length against what the source has.
fn check_there(
    src: &dyn ReadAt,
    offset: u64,
    len: u64,
    field: &'static str,
) -> Result<(), FormatError> {
    let have = src.len().saturating_sub(offset);
    if len > have {
        return Err(FormatError::Truncated {
            field,
            offset,
            need: len,
            have,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_read_inside_and_refuse_outside() {
        let bytes = [1_u8, 2, 3, 4];
        let src: &dyn ReadAt = &bytes.as_slice();
        let mut out = [0_u8; 2];
        src.read_exact_at(2, &mut out).unwrap();
        assert_eq!(out, [3, 4]);
        for offset in [3, 4, 5, u64::MAX] {
            let err = src.read_exact_at(offset, &mut out).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
        }
        src.read_exact_at(4, &mut []).unwrap();
        assert_eq!((src.len(), src.is_empty()), (4, false));
        assert!(ReadAt::is_empty(&Vec::new()));
        assert_eq!(ReadAt::len(&bytes.to_vec()), 4);
    }

    #[test]
    fn a_short_source_is_named_before_memory_is_taken() {
        let err = read_vec(&vec![0; 4], 2, u64::MAX, "thing").unwrap_err();
        assert!(matches!(
            err,
            FormatError::Truncated {
                field: "thing",
                offset: 2,
                need: u64::MAX,
                have: 2
            }
        ));
    }

    /// Claims more bytes than it can give, as a file that shrank does.
    struct Shrunk;

    impl ReadAt for Shrunk {
        fn len(&self) -> u64 {
            8
        }

        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    #[test]
    fn a_failed_read_names_its_place() {
        let err = read_vec(&Shrunk, 3, 5, "thing").unwrap_err();
        assert!(matches!(
            err,
            FormatError::Io {
                offset: 3,
                len: 5,
                ..
            }
        ));
    }
}
