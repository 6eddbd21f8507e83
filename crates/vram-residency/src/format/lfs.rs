//! git-LFS pointer files: the small text that stands where a model should be
//! when a repository was cloned without its large files.
//!
//! The rules are those of the git-LFS pointer specification, version 1, with
//! the extension lines (`ext-...`) left out: they change what the oid means,
//! and no model host uses them.

use super::error::FormatError;
use super::limits::Bound;
use super::source::{ReadAt, read_vec};

/// The first line of every pointer.
const VERSION_LINE: &str = "version https://git-lfs.github.com/spec/v1";

/// What a file must start with to be taken for a pointer.
const MARK: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Pointers are shorter than this: git-LFS itself reads no more.
const MAX_BYTES: u64 = 1_024;

/// A well-formed pointer: which content belongs in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// Plain SHA-256 of the content, 64 lower-case hex digits: the value that
    /// `--expect-content` takes.
    pub oid: String,
    /// Length of the content in bytes.
    pub size: u64,
}

/// Whether `src` is so short and starts so that it must be a pointer, well
/// formed or not.
///
/// # Errors
/// [`FormatError::Io`] if the first bytes cannot be read.
pub fn looks_like_pointer(src: &dyn ReadAt) -> Result<bool, FormatError> {
    if src.len() >= MAX_BYTES {
        return Ok(false);
    }
    let head = read_vec(src, 0, src.len(), "git-LFS pointer")?;
    Ok(head.starts_with(MARK))
}

/// Passes what is no pointer.
///
/// # Errors
/// [`FormatError::LfsPointer`] for a pointer, [`FormatError::LfsMalformed`] for
/// what starts as one, [`FormatError::Io`] if reading fails.
pub(super) fn refuse_pointer(src: &dyn ReadAt) -> Result<(), FormatError> {
    if looks_like_pointer(src)? {
        return Err(FormatError::LfsPointer(parse(src)?));
    }
    Ok(())
}

/// Reads a pointer.
///
/// # Errors
/// [`FormatError::LfsMalformed`] with the line that breaks a rule: exactly the
/// lines `version`, `oid sha256:HEX` and `size N`, in this order, each ended by
/// a line feed; [`FormatError::TooLarge`] from 1,024 bytes on;
/// [`FormatError::Io`] if reading fails.
pub fn parse(src: &dyn ReadAt) -> Result<Pointer, FormatError> {
    let longest = Bound::fixed(MAX_BYTES.saturating_sub(1));
    longest.check("git-LFS pointer length", src.len())?;
    let bytes = read_vec(src, 0, src.len(), "git-LFS pointer")?;
    let bad = |line, reason| FormatError::LfsMalformed { line, reason };
    let text = std::str::from_utf8(&bytes).map_err(|_| bad(1, "not UTF-8"))?;
    let mut lines = text.split_inclusive('\n');
    let mut line = |number, missing| {
        let line = lines.next().ok_or(bad(number, missing))?;
        line.strip_suffix('\n')
            .ok_or(bad(number, "does not end with a line feed"))
    };
    if line(1, "is missing")? != VERSION_LINE {
        return Err(bad(1, "is not the version line of pointer version 1"));
    }
    let oid = line(2, "the oid line is missing")?
        .strip_prefix("oid sha256:")
        .ok_or(bad(2, "does not start with 'oid sha256:'"))?;
    let size = line(3, "the size line is missing")?
        .strip_prefix("size ")
        .ok_or(bad(3, "does not start with 'size '"))?;
    if lines.next().is_some() {
        return Err(bad(4, "only version, oid and size may stand in a pointer"));
    }
    if !is_sha256_hex(oid) {
        return Err(bad(2, "the oid is not 64 lower-case hex digits"));
    }
    let size = plain_number(size).ok_or(bad(3, "the size is not a plain decimal number"))?;
    Ok(Pointer {
        oid: oid.to_owned(),
        size,
    })
}

fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Decimal without sign, spaces or leading zeros.
fn plain_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn pointer(oid: &str, size: &str) -> Vec<u8> {
        format!("{VERSION_LINE}\noid sha256:{oid}\nsize {size}\n").into_bytes()
    }

    #[test]
    fn a_real_pointer_is_read() {
        let src = pointer(OID, "90868376");
        assert!(looks_like_pointer(&src).unwrap());
        let found = parse(&src).unwrap();
        assert_eq!((found.oid.as_str(), found.size), (OID, 90_868_376));
        assert_eq!(parse(&pointer(OID, "0")).unwrap().size, 0);
        let max = parse(&pointer(OID, "18446744073709551615")).unwrap();
        assert_eq!(max.size, u64::MAX);
    }

    #[test]
    fn every_rule_has_its_line() {
        let upper = OID.to_uppercase();
        let long = format!("{OID}0");
        let cases: &[(Vec<u8>, u64)] = &[
            (Vec::new(), 1),
            (b"\xff\n".to_vec(), 1),
            (b"version https://git-lfs.github.com/spec/v2\n".to_vec(), 1),
            (VERSION_LINE.as_bytes().to_vec(), 1),
            (format!("{VERSION_LINE}\n").into_bytes(), 2),
            (format!("{VERSION_LINE}\nsize 1\n").into_bytes(), 2),
            (pointer(&upper, "1"), 2),
            (pointer(OID.trim_start_matches('4'), "1"), 2),
            (pointer(&long, "1"), 2),
            (pointer(&OID.replace('4', "g"), "1"), 2),
            (
                format!("{VERSION_LINE}\noid sha256:{OID}\n").into_bytes(),
                3,
            ),
            (pointer(OID, ""), 3),
            (pointer(OID, "+1"), 3),
            (pointer(OID, "-1"), 3),
            (pointer(OID, "01"), 3),
            (pointer(OID, " 1"), 3),
            (pointer(OID, "1.0"), 3),
            (pointer(OID, "18446744073709551616"), 3),
            (pointer(OID, "1\r"), 3),
            (pointer(OID, "1")[..pointer(OID, "1").len() - 1].to_vec(), 3),
            (pointer(OID, "1\nx-extra 1"), 4),
            (pointer(OID, "1\n"), 4),
        ];
        for (bytes, expected) in cases {
            match parse(bytes) {
                Err(FormatError::LfsMalformed { line, .. }) => {
                    assert_eq!(line, *expected, "{:?}", String::from_utf8_lossy(bytes));
                }
                other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
            }
        }
    }

    #[test]
    fn long_files_are_never_pointers() {
        let mut long = pointer(OID, "1");
        long.resize(1_024, b' ');
        assert!(!looks_like_pointer(&long).unwrap());
        assert!(matches!(
            parse(&long).unwrap_err(),
            FormatError::TooLarge {
                value: 1_024,
                limit: 1_023,
                ..
            }
        ));
        assert!(!looks_like_pointer(&b"weights".to_vec()).unwrap());
        assert!(!looks_like_pointer(&Vec::new()).unwrap());
    }
}
