//! Model file formats: recognised, read within bounds, and written for benches.
//!
//! * [`detect`] and [`parse`] turn an untrusted file into a [`TensorTable`]:
//!   where each tensor lies, with every range inside the file.
//! * [`safetensors`], [`gguf`] and [`lfs`] hold the rules of each format;
//!   [`index`] those of a model in several safetensors files.
//! * [`synth`] writes models for benches and tests.
//!
//! Nothing here opens files, follows paths, reads the environment or keeps state:
//! the parsers read through [`ReadAt`]. Input is taken to be hostile. Every count, size and
//! length is bounded by [`Limits`] and by the bytes that the file really has
//! before memory is taken for it, and arithmetic is checked.
//!
//! ```
//! use vram_residency::format::{Format, detect, parse, synth};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut file = Vec::new();
//! let spec = synth::Spec {
//!     format: Format::Safetensors,
//!     like: synth::Like::Llama,
//!     size: 1 << 20,
//!     seed: 7,
//! };
//! synth::write(&spec, &mut file)?;
//!
//! let format = detect(Some("safetensors"), &file)?;
//! let table = parse(format, &file)?;
//! let q = table.get("model.layers.0.self_attn.q_proj.weight").ok_or("no such tensor")?;
//! assert_eq!(q.dtype.to_string(), "BF16");
//! // Which tensors does a corrupt 4 KiB block belong to?
//! assert!(table.which_tensors(q.offset..q.offset + 4096).any(|t| t == q));
//! # Ok(())
//! # }
//! ```
//!
//! requirement: VA-10

mod dtype;
mod error;
pub mod gguf;
pub mod index;
mod json;
pub mod lfs;
mod limits;
mod memory;
pub mod safetensors;
mod shape;
mod source;
pub mod synth;
mod table;

pub use dtype::Dtype;
pub use error::{Excerpt, FormatError};
pub use limits::Limits;
pub use shape::Shape;
pub use source::ReadAt;
pub use table::{MetaValue, TensorInfo, TensorTable};

use limits::bound;
use std::fmt;

/// How the bytes of a model file are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Plain bytes without a table.
    Raw,
    /// A safetensors file.
    Safetensors,
    /// A GGUF file.
    Gguf,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Safetensors => "safetensors",
            Self::Gguf => "GGUF",
        })
    }
}

/// Recognises a file by its extension and content, within default limits.
///
/// An extension that names a format is a claim: a file that does not parse as
/// that is an error, never quietly plain bytes. Without such an extension the
/// first bytes decide, and what starts like a format must parse as it, a file
/// that was cut inside its header included.
///
/// # Errors
/// [`FormatError::LfsPointer`] for a git-LFS pointer, whatever its extension,
/// and what [`parse`] says where a format is claimed.
pub fn detect(path_extension: Option<&str>, src: &dyn ReadAt) -> Result<Format, FormatError> {
    detect_with(path_extension, src, &Limits::default()).map(|found| found.0)
}

/// Like [`detect`] under the caller's limits; gives the table as well, which
/// had to be read anyway.
///
/// # Errors
/// As [`detect`].
pub fn detect_with(
    path_extension: Option<&str>,
    src: &dyn ReadAt,
    limits: &Limits,
) -> Result<(Format, TensorTable), FormatError> {
    detect_beside(path_extension, src, limits, 0)
}

/// Like [`detect_with`] for one of the files of a model, the others of which
/// have tables that take `before` bytes ([`TensorTable::memory`]).
pub(crate) fn detect_beside(
    path_extension: Option<&str>,
    src: &dyn ReadAt,
    limits: &Limits,
    before: u64,
) -> Result<(Format, TensorTable), FormatError> {
    lfs::refuse_pointer(src)?;
    let claimed = path_extension.and_then(|ext| Format::of_extension(&ext.to_ascii_lowercase()));
    let format = match claimed {
        Some(format) => format,
        None => sniff(src, limits)?,
    };
    read_table(format, src, limits, before).map(|table| (format, table))
}

impl Format {
    /// The format that a file name extension (lower case, no dot) claims.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "safetensors" => Some(Self::Safetensors),
            "gguf" => Some(Self::Gguf),
            _ => None,
        }
    }
}

/// What the first bytes look like. A header that is longer than the file is a
/// cut file and not plain bytes, as long as headers of that length exist.
fn sniff(src: &dyn ReadAt, limits: &Limits) -> Result<Format, FormatError> {
    let mut head = [0_u8; 9];
    let len = usize::try_from(src.len()).unwrap_or(usize::MAX);
    let have = head.len().min(len);
    source::read_into(src, 0, head.get_mut(..have).unwrap_or_default())?;
    if head.starts_with(&gguf::MAGIC) {
        return Ok(Format::Gguf);
    }
    let room = src.len().saturating_sub(safetensors::LENGTH_BYTES);
    let [length @ .., first] = head;
    let length = u64::from_le_bytes(length);
    let plausible = room.max(limits.header_bytes);
    if first == b'{' && (2..=plausible).contains(&length) {
        return Ok(Format::Safetensors);
    }
    Ok(Format::Raw)
}

/// Reads the table of a file in a known format, within default limits. Plain
/// bytes have an empty one, whatever they are: not even a pointer is refused.
///
/// # Errors
/// The first rule that the file breaks.
pub fn parse(format: Format, src: &dyn ReadAt) -> Result<TensorTable, FormatError> {
    parse_with(format, src, &Limits::default())
}

/// Like [`parse`] under the caller's limits.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    format: Format,
    src: &dyn ReadAt,
    limits: &Limits,
) -> Result<TensorTable, FormatError> {
    parse_beside(format, src, limits, 0)
}

/// Like [`parse_with`] for one of the files of a model, the others of which
/// have tables that take `before` bytes ([`TensorTable::memory`]).
pub(crate) fn parse_beside(
    format: Format,
    src: &dyn ReadAt,
    limits: &Limits,
    before: u64,
) -> Result<TensorTable, FormatError> {
    if format != Format::Raw {
        lfs::refuse_pointer(src)?;
    }
    read_table(format, src, limits, before)
}

/// The table of a file that is no pointer.
fn read_table(
    format: Format,
    src: &dyn ReadAt,
    limits: &Limits,
    before: u64,
) -> Result<TensorTable, FormatError> {
    let parser = match format {
        Format::Raw => return Ok(TensorTable::default()),
        Format::Safetensors => safetensors::parse_beside,
        Format::Gguf => gguf::parse_beside,
    };
    refuse_other(format, src, limits)?;
    bound!(limits.file_bytes).check("file length", src.len())?;
    parser(src, limits, before)
}

/// Refuses a file that starts as the other format does, before its first bytes
/// are taken for a length.
fn refuse_other(format: Format, src: &dyn ReadAt, limits: &Limits) -> Result<(), FormatError> {
    match (format, sniff(src, limits)?) {
        (Format::Safetensors, found @ Format::Gguf)
        | (Format::Gguf, found @ Format::Safetensors) => Err(FormatError::OtherFormat {
            expected: format,
            found,
        }),
        _ => Ok(()),
    }
}
