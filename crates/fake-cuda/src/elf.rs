//! Just enough of ELF to find a shared library's table of dynamic names.

use std::ops::Range;

const MAGIC_64_LITTLE: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
/// `sh_type` of a table of dynamic symbols.
const DYNAMIC_SYMBOLS: u32 = 11;
const SECTION_HEADER: u64 = 64;

fn bytes<const N: usize>(file: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    file.get(at..)?.first_chunk::<N>().copied()
}

fn word(file: &[u8], at: u64) -> Option<u64> {
    bytes(file, at).map(u64::from_le_bytes)
}

/// Where the names of the dynamic symbols lie in the file; `None` when the file
/// is not a 64-bit little-endian shared library.
pub(crate) fn dynamic_names(file: &[u8]) -> Option<Range<usize>> {
    if bytes::<6>(file, 0)? != MAGIC_64_LITTLE {
        return None;
    }
    let sections = word(file, 0x28)?;
    let count = u64::from(u16::from_le_bytes(bytes(file, 0x3c)?));
    let header = |index: u64| sections.checked_add(index.checked_mul(SECTION_HEADER)?);
    for index in 0..count {
        let at = header(index)?;
        let kind = u32::from_le_bytes(bytes(file, at.checked_add(4)?)?);
        if kind == DYNAMIC_SYMBOLS {
            let link = u32::from_le_bytes(bytes(file, at.checked_add(0x28)?)?);
            let names = header(u64::from(link))?;
            let start = usize::try_from(word(file, names.checked_add(0x18)?)?).ok()?;
            let len = usize::try_from(word(file, names.checked_add(0x20)?)?).ok()?;
            return Some(start..start.checked_add(len)?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_have_no_names() {
        assert_eq!(dynamic_names(b"#!/bin/sh"), None);
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(dynamic_names(&program[..200]), None);
    }
}
