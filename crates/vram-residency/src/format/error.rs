//! What can be wrong with a model file. The caller adds the file's name.

use super::dtype::Dtype;
use super::lfs::Pointer;
use std::fmt;
use std::io;

/// Longest piece of file text that a message repeats, in characters.
const SHOWN: usize = 80;

/// Text taken from an untrusted file, made safe to print: escaped and cut.
///
/// Names may be a megabyte long or hold terminal escapes; a message must not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Excerpt(String);

impl Excerpt {
    /// Keeps the first 80 characters of `text`, control characters escaped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut kept: String = text.chars().take(SHOWN).flat_map(shown).collect();
        if text.chars().nth(SHOWN).is_some() {
            kept.push_str("...");
        }
        Self(kept)
    }
}

/// One character as it may appear in a message.
fn shown(c: char) -> impl Iterator<Item = char> {
    // Printable ASCII as it is, the rest escaped: no control characters, no
    // text that changes its reading direction.
    let plain = c.is_ascii_graphic() || c == ' ';
    let escaped = (!plain).then(|| c.escape_unicode());
    plain
        .then_some(c)
        .into_iter()
        .chain(escaped.into_iter().flatten())
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl From<&str> for Excerpt {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Why a file was refused. All variants but [`FormatError::Io`] and
/// [`FormatError::Path`] blame the file.
///
/// Messages name the field, the value and the limit; none holds weight bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Reading failed.
    #[error("cannot read {len} bytes at offset {offset}: {source}")]
    Io {
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted.
        len: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A path of a model in several files cannot be followed.
    #[error("cannot follow \"{path}\": {source}")]
    Path {
        /// The path.
        path: Excerpt,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends inside a field.
    #[error("{field} at offset {offset} needs {need} bytes, but the file leaves only {have}")]
    Truncated {
        /// The field cut short.
        field: &'static str,
        /// Where it starts.
        offset: u64,
        /// Bytes it needs (at least).
        need: u64,
        /// Bytes left.
        have: u64,
    },
    /// A count or size is over a bound.
    #[error("{field} is {value}, over the limit of {limit}{}", set_by(*setting))]
    TooLarge {
        /// The field over its limit.
        field: &'static str,
        /// What the file claims; for streamed lists, the first count refused.
        value: u64,
        /// The largest value accepted.
        limit: u64,
        /// The field of [`super::Limits`] that raises it; `None` where the
        /// format sets the bound.
        setting: Option<&'static str>,
    },
    /// The file is a git-LFS pointer, not the model itself.
    #[error(
        "this is a git-LFS pointer, not the model: the real file has sha256 {} and {} bytes; fetch it with 'git lfs pull' or download it again",
        .0.oid, .0.size
    )]
    LfsPointer(Pointer),
    /// The file starts as a git-LFS pointer but breaks the pointer rules.
    #[error("malformed git-LFS pointer, line {line}: {reason}")]
    LfsMalformed {
        /// Line, from 1.
        line: u64,
        /// Which rule.
        reason: &'static str,
    },
    /// The first bytes are not what the format starts with.
    #[error("not a {expected} file: {reason}")]
    WrongStart {
        /// The format that was asked for or claimed.
        expected: super::Format,
        /// What is missing.
        reason: &'static str,
    },
    /// The file starts as one format does and is called another.
    #[error("this is a {found} file, not a {expected} file, as its first bytes say")]
    OtherFormat {
        /// What its name or the caller calls it.
        expected: super::Format,
        /// What it is.
        found: super::Format,
    },
    /// A GGUF version that is not read here.
    #[error("GGUF version {0} is not supported, only 2 and 3 are")]
    Version(u32),
    /// A big-endian GGUF file.
    #[error("big-endian GGUF is not supported; convert it with gguf_convert_endian.py")]
    BigEndian,
    /// JSON that does not parse or has another structure than the format.
    #[error("JSON, line {line}, column {column}: {reason}")]
    Json {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What was found and what was expected.
        reason: Excerpt,
    },
    /// A name occurs twice.
    #[error("{what} \"{name}\" occurs twice")]
    Duplicate {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: Excerpt,
    },
    /// A name or text that may not occur.
    #[error("{what} \"{name}\" {reason}")]
    BadName {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: Excerpt,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes that should be UTF-8 text are not.
    #[error("{field} at offset {offset} is not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// Where it starts.
        offset: u64,
    },
    /// A required field is missing.
    #[error("\"{of}\" has no {field}")]
    Missing {
        /// The tensor or object.
        of: Excerpt,
        /// The field.
        field: &'static str,
    },
    /// A field holds a value outside its meaning.
    #[error("{field} of \"{of}\" is {value}: {reason}")]
    BadValue {
        /// The tensor, key or object.
        of: Excerpt,
        /// The field.
        field: &'static str,
        /// The value found.
        value: Excerpt,
        /// What was expected.
        reason: &'static str,
    },
    /// Elements, bytes or end of a tensor do not fit 64 bits.
    #[error("{field} of tensor \"{name}\" overflows 64 bits: {value}")]
    Overflow {
        /// The tensor.
        name: Excerpt,
        /// What overflows.
        field: &'static str,
        /// What it is made of.
        value: Excerpt,
    },
    /// Elements of a blocked or sub-byte type that are not whole blocks.
    #[error(
        "tensor \"{name}\" has {elements} elements in a run, not a multiple of the {} that {dtype} packs",
        .dtype.block_elements()
    )]
    PartialBlock {
        /// The tensor.
        name: Excerpt,
        /// Its type.
        dtype: Dtype,
        /// Elements in the row or tensor.
        elements: u64,
    },
    /// Shape and type need another number of bytes than the offsets give.
    #[error("tensor \"{name}\" needs {need} bytes by shape and type, its offsets give {have}")]
    SizeMismatch {
        /// The tensor.
        name: Excerpt,
        /// Bytes by shape and type.
        need: u64,
        /// Bytes by offsets.
        have: u64,
    },
    /// A tensor starts where no aligned tensor may.
    #[error("tensor \"{name}\" starts at {offset}, not a multiple of the alignment {alignment}")]
    Unaligned {
        /// The tensor.
        name: Excerpt,
        /// Offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors \"{first}\" and \"{second}\" overlap at file offset {offset}")]
    Overlap {
        /// The earlier tensor.
        first: Excerpt,
        /// The later tensor.
        second: Excerpt,
        /// First shared byte.
        offset: u64,
    },
    /// Bytes before a tensor belong to no tensor.
    #[error("file bytes {from}..{to} before tensor \"{name}\" belong to no tensor")]
    Gap {
        /// The tensor after the gap.
        name: Excerpt,
        /// First byte of the gap.
        from: u64,
        /// First byte after it.
        to: u64,
    },
    /// Bytes after the last tensor belong to no tensor.
    #[error("file bytes {from}..{to} after the last tensor belong to no tensor")]
    Trailing {
        /// First byte too many.
        from: u64,
        /// The file's length.
        to: u64,
    },
    /// A tensor reaches past the end of the file.
    #[error("tensor \"{name}\" ends at {end}, but the file has {file_len} bytes")]
    OutsideFile {
        /// The tensor.
        name: Excerpt,
        /// One past its last byte.
        end: u64,
        /// The file's length.
        file_len: u64,
    },
    /// Files of one model contradict each other or their index.
    #[error("part \"{part}\": {reason}")]
    Set {
        /// The file or part.
        part: Excerpt,
        /// The contradiction.
        reason: String,
    },
    /// One of the others, about a tensor or metadata entry that it does not
    /// name itself.
    #[error("{place}: {source}")]
    In {
        /// Which tensor or entry.
        place: String,
        /// What is wrong there.
        source: Box<FormatError>,
    },
    /// A file named by an index lies outside the allowed directory.
    #[error("\"{name}\" leads outside the model directory; put the file itself into it")]
    Escapes {
        /// The name in the index.
        name: Excerpt,
    },
}

impl FormatError {
    /// The rule that was broken, without the place where.
    #[must_use]
    pub fn rule(&self) -> &Self {
        match self {
            Self::In { source, .. } => source.rule(),
            other => other,
        }
    }

    /// Names the place, where the error does not do so itself.
    pub(super) fn within(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Truncated { .. }
            | Self::TooLarge { .. }
            | Self::NotUtf8 { .. }
            | Self::Json { .. } => Self::In {
                place: place(),
                source: Box::new(self),
            },
            other => other,
        }
    }
}

/// Which field sets a limit, as messages add it.
fn set_by(setting: Option<&str>) -> String {
    setting.map_or_else(String::new, |name| format!(" ({name})"))
}

/// The place of that name.
pub(super) fn named(what: &str, name: &str) -> String {
    format!("{what} \"{}\"", Excerpt::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(Excerpt::new("model.w").to_string(), "model.w");
        let nasty = Excerpt::new("a\u{1b}[31m\n\u{202e}").to_string();
        assert_eq!(nasty, "a\\u{1b}[31m\\u{a}\\u{202e}");
        let long = Excerpt::new(&"x".repeat(1 << 20)).to_string();
        assert_eq!(long.len(), SHOWN + 3);
        assert!(long.ends_with("x..."));
        assert_eq!(Excerpt::new(&"y".repeat(SHOWN)).to_string().len(), SHOWN);
    }
}
