//! GGUF, the model file format of ggml and llama.cpp, read within bounds.
//!
//! Versions 2 and 3, little-endian. The rules are those of ggml's `gguf.md` and
//! of its reader: a header of counts, typed metadata, tensor descriptions, then
//! the data section at the next multiple of `general.alignment` (32 unless the
//! file says otherwise), tensors one after the other with only padding between.
//!
//! Readers on crates.io were looked at in November 2026: `gguf` 0.1.2 and
//! `ggus` 0.5.1 want the file as one slice and check no layout (the latter with
//! unsafe code and unwraps); `gguf-rs` 0.1.8 takes up to 1 GiB for a string on
//! the file's word, and looks for neither duplicates nor overlaps;
//! `gguf-rs-lib` 0.3.3 is careful, but its bounds are constants (1,000,000
//! tensors, 256 MiB of decoded metadata whatever the file's length), so VA-10
//! cannot be set, gaps pass, and its errors are free text. Hence this reader.
//!
//! requirement: VA-10

mod cursor;
mod split;
mod value;

pub use split::{PartName, Split, check_parts};

use super::Format;
use super::dtype::Dtype;
use super::error::{Excerpt, FormatError, named};
use super::limits::{Bound, Limits, bound};
use super::memory::Memory;
use super::shape::Shape;
use super::source::ReadAt;
use super::table::{Listed, MetaValue, TensorInfo, TensorTable, check_name, element_count};
use cursor::Cursor;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Alignment of the data section and its tensors unless the file sets it.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The metadata key that sets the alignment.
const ALIGNMENT_KEY: &str = "general.alignment";

/// Most dimensions a tensor may have: `GGML_MAX_DIMS`.
const MAX_DIMS: u64 = 4;

/// Smallest description: name length, one byte of name, dimension count, type,
/// offset.
const MIN_TENSOR_BYTES: u64 = 25;

/// Reads the header, metadata and tensor descriptions of a GGUF file.
///
/// Array values are walked over, not kept. Memory taken is a small multiple of
/// the names and strings, which lie in the file, plus a 64 KiB window.
///
/// # Errors
/// Every variant of [`FormatError`] that is about GGUF, names, sizes or layout.
pub fn parse(src: &dyn ReadAt, limits: &Limits) -> Result<TensorTable, FormatError> {
    parse_beside(src, limits, 0)
}

/// Like [`parse`] for one of several files, whose tables take `before` bytes.
pub(super) fn parse_beside(
    src: &dyn ReadAt,
    limits: &Limits,
    before: u64,
) -> Result<TensorTable, FormatError> {
    let mut memory = Memory::new(limits, before);
    let mut cursor = Cursor::new(src, bound!(limits.gguf_header_bytes));
    let (tensor_count, pair_count) = read_counts(&mut cursor, limits)?;
    let metadata = value::read_pairs(&mut cursor, pair_count, limits, &mut memory)?;
    let alignment = alignment(&metadata)?;

    cursor.need(
        tensor_count.saturating_mul(MIN_TENSOR_BYTES),
        "tensor descriptions",
    )?;
    let mut tensors = Vec::new();
    for number in 1..=tensor_count {
        let tensor = read_tensor(&mut cursor, alignment, limits);
        let tensor = tensor.and_then(|tensor| memory.tensor(&tensor).map(|()| tensor));
        tensors.push(tensor.map_err(|error| error.within(|| format!("tensor {number}")))?);
    }
    let data_start = place(&mut tensors, cursor.pos(), alignment, src.len())?;
    let may_pad = |from: u64, to: u64| {
        // The data section starts aligned, so file offsets align alike.
        let aligned = from.checked_next_multiple_of(alignment);
        aligned.is_some_and(|aligned| to <= aligned)
    };
    let listed = Listed {
        tensors,
        metadata,
        memory: memory.taken(),
    };
    TensorTable::new(listed, data_start, src.len(), may_pad)
}

/// Magic, version, number of tensors, number of metadata pairs.
fn read_counts(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<(u64, u64), FormatError> {
    if cursor.array("magic")? != MAGIC {
        return Err(FormatError::WrongStart {
            expected: Format::Gguf,
            reason: "the file does not start with 'GGUF'",
        });
    }
    match cursor.u32("version")? {
        2 | 3 => {}
        other if matches!(other.swap_bytes(), 1..=3) => return Err(FormatError::BigEndian),
        other => return Err(FormatError::Version(other)),
    }
    let mut count = |field, most: Bound| {
        let value = cursor.u64(field)?;
        most.check(field, value).map(|()| value)
    };
    let tensors = count("number of tensors", bound!(limits.gguf_tensors))?;
    let pairs = count(
        "number of metadata entries",
        bound!(limits.metadata_entries),
    )?;
    Ok((tensors, pairs))
}

/// The alignment that the metadata sets, or the usual one.
fn alignment(metadata: &[(String, MetaValue)]) -> Result<u64, FormatError> {
    let found = metadata
        .iter()
        .find_map(|(key, value)| (key == ALIGNMENT_KEY).then_some(value));
    let shown = match found {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(MetaValue::Unsigned(n)) if n.is_power_of_two() && u32::try_from(*n).is_ok() => {
            return Ok(*n);
        }
        Some(MetaValue::Unsigned(n)) => n.to_string(),
        Some(_) => "not an unsigned integer".to_owned(),
    };
    Err(FormatError::BadValue {
        of: ALIGNMENT_KEY.into(),
        field: "value",
        value: shown.as_str().into(),
        reason: "must be a power of two below 2^32",
    })
}

/// One tensor description; its offset still counts from the data section.
fn read_tensor(
    cursor: &mut Cursor<'_>,
    alignment: u64,
    limits: &Limits,
) -> Result<TensorInfo, FormatError> {
    let longest = bound!(limits.gguf_name_bytes);
    let name = cursor.string("tensor name length", longest)?;
    check_name("tensor", "tensor name length", &name, longest)?;
    let tensor = read_description(cursor, &name, alignment, limits);
    tensor.map_err(|error| error.within(|| named("tensor", &name)))
}

/// What follows a tensor's name.
fn read_description(
    cursor: &mut Cursor<'_>,
    name: &str,
    alignment: u64,
    limits: &Limits,
) -> Result<TensorInfo, FormatError> {
    let shape = read_shape(cursor, limits)?;
    let dtype = read_type(cursor, name)?;
    let len = length(name, dtype, &shape)?;
    let offset = cursor.u64("tensor offset")?;
    if !offset.is_multiple_of(alignment) {
        return Err(FormatError::Unaligned {
            name: name.into(),
            offset,
            alignment,
        });
    }
    Ok(TensorInfo {
        name: name.into(),
        dtype,
        shape,
        offset,
        len,
    })
}

/// The dimensions, outermost first.
fn read_shape(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Shape, FormatError> {
    let dims = u64::from(cursor.u32("number of dimensions")?);
    let most = Bound::fixed(MAX_DIMS).or_less(bound!(limits.dims));
    most.check("number of dimensions", dims)?;
    let mut shape = Vec::new();
    for _ in 0..dims {
        shape.push(cursor.u64("dimension")?);
    }
    // The file has the innermost dimension first.
    shape.reverse();
    Ok(shape.into())
}

fn read_type(cursor: &mut Cursor<'_>, name: &str) -> Result<Dtype, FormatError> {
    let code = cursor.u32("tensor type")?;
    Dtype::from_gguf(code).ok_or_else(|| FormatError::BadValue {
        of: name.into(),
        field: "type",
        value: code.to_string().as_str().into(),
        reason: "not a tensor type that ggml uses",
    })
}

/// Bytes by type and shape.
fn length(name: &str, dtype: Dtype, shape: &[u64]) -> Result<u64, FormatError> {
    // ggml packs along rows, so each row must be whole blocks.
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.block_elements()) {
        return Err(FormatError::PartialBlock {
            name: name.into(),
            dtype,
            elements: row,
        });
    }
    let elements = element_count(name, shape)?;
    dtype.bytes(elements).ok_or_else(|| FormatError::Overflow {
        name: name.into(),
        field: "length",
        value: Excerpt::new(&format!("{elements} elements of {dtype}")),
    })
}

/// Turns offsets into file offsets and gives the start of the data section.
fn place(
    tensors: &mut [TensorInfo],
    header_end: u64,
    alignment: u64,
    file_len: u64,
) -> Result<u64, FormatError> {
    let start = header_end.checked_next_multiple_of(alignment);
    if tensors.is_empty() {
        // A vocabulary alone: the file may end without the padding.
        return Ok(start.unwrap_or(file_len).min(file_len));
    }
    for tensor in tensors {
        tensor.offset = start
            .and_then(|start| start.checked_add(tensor.offset))
            .ok_or_else(|| FormatError::Overflow {
                name: (&*tensor.name).into(),
                field: "offset",
                value: tensor.offset.to_string().as_str().into(),
            })?;
    }
    Ok(start.unwrap_or(file_len))
}
