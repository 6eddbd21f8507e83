//! A forward reader over the front of a file, in a window of fixed size.

use crate::format::error::FormatError;
use crate::format::limits::Bound;
use crate::format::source::{ReadAt, read_vec};

/// Bytes fetched at a time; most headers fit in a few.
const WINDOW: u64 = 64 * 1024;

/// Reads fields one after the other and never past `end`.
pub(super) struct Cursor<'s> {
    src: &'s dyn ReadAt,
    /// Offset of the next byte.
    pos: u64,
    /// How far the header may reach.
    most: Bound,
    window: Vec<u8>,
    window_at: u64,
}

impl<'s> Cursor<'s> {
    /// Starts at the first byte; nothing behind `most` will be read.
    pub(super) fn new(src: &'s dyn ReadAt, most: Bound) -> Self {
        Self {
            src,
            pos: 0,
            most,
            window: Vec::new(),
            window_at: 0,
        }
    }

    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// Makes sure that `need` more bytes are there before anything is done for
    /// them. All reading and skipping passes through here.
    pub(super) fn need(&self, need: u64, field: &'static str) -> Result<(), FormatError> {
        let have = self.src.len().saturating_sub(self.pos);
        if need > have {
            return Err(FormatError::Truncated {
                field,
                offset: self.pos,
                need,
                have,
            });
        }
        let end = self.pos.saturating_add(need);
        self.most.check("header length", end)
    }

    /// Moves on without looking.
    pub(super) fn skip(&mut self, len: u64, field: &'static str) -> Result<(), FormatError> {
        self.need(len, field)?;
        self.pos = self.pos.saturating_add(len);
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        self.copy(&mut out, field)?;
        Ok(out)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, FormatError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, FormatError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// The length in front of a string, held against limit and file.
    pub(super) fn string_length(
        &mut self,
        field: &'static str,
        bound: Bound,
    ) -> Result<u64, FormatError> {
        let len = self.u64(field)?;
        bound.check(field, len)?;
        self.need(len, field)?;
        Ok(len)
    }

    /// A string within `bound`.
    pub(super) fn string(
        &mut self,
        field: &'static str,
        bound: Bound,
    ) -> Result<String, FormatError> {
        let len = self.string_length(field, bound)?;
        let offset = self.pos;
        // `string_length` has seen that the file holds so many bytes.
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        self.copy(&mut bytes, field)?;
        let field = field.strip_suffix(" length").unwrap_or(field);
        String::from_utf8(bytes).map_err(|_| FormatError::NotUtf8 { field, offset })
    }

    /// Fills `out` with the next bytes, through the window.
    fn copy(&mut self, out: &mut [u8], field: &'static str) -> Result<(), FormatError> {
        self.need(u64::try_from(out.len()).unwrap_or(u64::MAX), field)?;
        let mut rest = out;
        while !rest.is_empty() {
            let ready = self.ready(field)?;
            let len = ready.len().min(rest.len());
            let (now, later) = rest.split_at_mut_checked(len).unwrap_or_default();
            now.copy_from_slice(ready.get(..len).unwrap_or_default());
            rest = later;
            self.pos = self
                .pos
                .saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// At least one buffered byte from `pos` on; the caller has called `need`.
    fn ready(&mut self, field: &'static str) -> Result<&[u8], FormatError> {
        let inside = self
            .pos
            .checked_sub(self.window_at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| *skip < self.window.len());
        let skip = match inside {
            Some(skip) => skip,
            None => {
                let end = self.src.len().min(self.most.limit());
                let len = end.saturating_sub(self.pos).min(WINDOW);
                self.window = read_vec(self.src, self.pos, len, field)?;
                self.window_at = self.pos;
                0
            }
        };
        Ok(self.window.get(skip..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cross_window_borders() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut cursor = Cursor::new(&bytes, Bound::fixed(u64::MAX));
        cursor.skip(2, "odd start").unwrap();
        for i in 0..199_999_u32 {
            let expected = (i >> 16) | ((i + 1) << 16);
            assert_eq!(cursor.u32("word").unwrap(), expected, "{i}");
        }
        let err = cursor.u32("word").unwrap_err();
        assert!(matches!(
            err,
            FormatError::Truncated {
                offset: 799_998,
                need: 4,
                have: 2,
                ..
            }
        ));
    }

    #[test]
    fn the_limit_is_not_mistaken_for_the_end_of_the_file() {
        // The file has exactly the bytes that the limit does not allow.
        let bytes = vec![0; 12];
        let mut cursor = Cursor::new(&bytes, Bound::fixed(10));
        cursor.u64("first").unwrap();
        let err = cursor.u32("second").unwrap_err();
        assert!(matches!(
            err,
            FormatError::TooLarge {
                value: 12,
                limit: 10,
                ..
            }
        ));
        assert_eq!(cursor.pos(), 8);
    }
}
