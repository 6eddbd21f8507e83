//! The safetensors header, read within bounds.
//!
//! A file is an 8-byte little-endian header length, a JSON object that names
//! each tensor with dtype, shape and byte range, and the data. The rules are
//! those of the format page of the `safetensors` project: the header starts
//! with `{`, has no duplicate keys, and the ranges cover the data section
//! without holes or overlaps.
//!
//! The `safetensors` crate (0.8) is not used to read, for reasons seen in its
//! source: it needs the whole file as one slice; a repeated key silently
//! replaces the first, so two readers may see two models; `serde(flatten)`
//! first copies the header into a generic tree many times its size; names,
//! dimensions and tensor counts have no bounds; unknown fields are skipped.
//! The tests hold this reader against that crate: whatever is accepted here,
//! it accepts with the same table.

use super::Format;
use super::dtype::Dtype;
use super::error::{Excerpt, FormatError, named};
use super::json::{Fields, Json, Numbers, Object, Reader, Text};
use super::limits::{Limits, bound};
use super::memory::Memory;
use super::shape::Shape;
use super::source::{ReadAt, read_into, read_pages};
use super::table::{
    Listed, MetaValue, TensorInfo, TensorTable, check_kept, check_name, element_count,
};
use serde::de::{DeserializeSeed, Error, MapAccess};

/// Bytes of the header length in front of the header.
pub const LENGTH_BYTES: u64 = 8;

/// The key that holds text about the model instead of a tensor.
const METADATA_KEY: &str = "__metadata__";

/// Shortest entry of a tensor: `"":{"dtype":"U8","shape":[],"data_offsets":[0,0]}`.
const MIN_ENTRY_BYTES: usize = 49;

/// Reads the header of a safetensors file.
///
/// Memory taken is a small multiple of the header, which lies in the file.
///
/// # Errors
/// Every variant of [`FormatError`] that is about JSON, names, sizes or layout;
/// requirement: IV-005, VA-10.
pub fn parse(src: &dyn ReadAt, limits: &Limits) -> Result<TensorTable, FormatError> {
    parse_beside(src, limits, 0)
}

/// Like [`parse`] for one of several files, whose tables take `before` bytes.
pub(super) fn parse_beside(
    src: &dyn ReadAt,
    limits: &Limits,
    before: u64,
) -> Result<TensorTable, FormatError> {
    let length = read_length(src, limits)?;
    let data_start = LENGTH_BYTES.saturating_add(length);
    let header = read_pages(src, LENGTH_BYTES, length, "header")?;
    if header.first() != Some(&b'{') {
        return Err(FormatError::WrongStart {
            expected: Format::Safetensors,
            reason: "the header does not start with '{'",
        });
    }
    let found = Reader::run(limits, &header, |reader, json: &mut Json<'_>| {
        let mut tensors = Vec::new();
        // Where there is no such room it grows after all.
        let _ = tensors.try_reserve(most_entries(&header, limits));
        let empty = Header {
            reader,
            data_start,
            tensors,
            metadata: None,
            memory: Memory::new(limits, before),
        };
        let done = Object(empty).deserialize(json)?;
        Ok(Listed {
            tensors: done.tensors,
            metadata: done.metadata.unwrap_or_default(),
            memory: done.memory.taken(),
        })
    });
    let listed = found?;
    drop(header);
    TensorTable::new(listed, data_start, src.len(), |_, _| false)
}

/// Tensors that a header has at most. Room for them all at once is touched as
/// far as it is used; a list that grows leaves holes of its former sizes.
fn most_entries(header: &[u8], limits: &Limits) -> usize {
    let most = usize::try_from(limits.tensors).unwrap_or(usize::MAX);
    header.len().div_ceil(MIN_ENTRY_BYTES).min(most)
}

/// The length of the header, held against its limit.
fn read_length(src: &dyn ReadAt, limits: &Limits) -> Result<u64, FormatError> {
    let file_len = src.len();
    let truncated = |field, offset, need| FormatError::Truncated {
        field,
        offset,
        need,
        have: file_len.saturating_sub(offset),
    };
    if file_len < LENGTH_BYTES {
        return Err(truncated("header length", 0, LENGTH_BYTES));
    }
    let mut length = [0; 8];
    read_into(src, 0, &mut length)?;
    let length = u64::from_le_bytes(length);
    bound!(limits.header_bytes).check("header length", length)?;
    Ok(length)
}

/// The whole header object.
struct Header<'r> {
    reader: &'r Reader<'r>,
    data_start: u64,
    tensors: Vec<TensorInfo>,
    metadata: Option<Vec<(String, MetaValue)>>,
    memory: Memory,
}

impl<'de> Fields<'de> for Header<'_> {
    const EXPECTING: &'static str = "an object of tensors";

    /// A tensor's name; `None` for the metadata.
    type Key = Option<String>;

    fn key<E: Error>(&self, key: &str) -> Result<Option<String>, E> {
        if key == METADATA_KEY {
            return Ok(None);
        }
        let limits = self.reader.limits;
        let longest = bound!(limits.name_bytes);
        let checked = check_name("tensor", "tensor name length", key, longest);
        self.reader.check(checked.map(|()| Some(key.to_owned())))
    }

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Option<String>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let Some(key) = key else {
            return self.metadata(map);
        };
        let reader = self.reader;
        let limits = reader.limits;
        let next = self.tensors.len().saturating_add(1);
        reader.count("number of tensors", next, bound!(limits.tensors))?;
        let entry = Entry {
            reader,
            name: &key,
            dtype: None,
            shape: None,
            offsets: None,
        };
        let entry = map.next_value_seed(Object(entry));
        let entry = reader.within(|| named("tensor", &key), entry)?;
        let tensor = reader.check(entry.finish(self.data_start))?;
        reader.check(self.memory.tensor(&tensor))?;
        self.tensors.push(tensor);
        Ok(())
    }
}

impl Header<'_> {
    /// Takes the entries of the metadata, in the order of their keys.
    fn metadata<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        reader.once(&self.metadata, "key", || METADATA_KEY.to_owned())?;
        let empty = Metadata {
            reader,
            entries: Vec::new(),
            kept: 0,
        };
        let mut entries = map.next_value_seed(Object(empty))?.entries;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut pairs = entries.iter().zip(entries.iter().skip(1));
        if let Some(((name, _), _)) = pairs.find(|(a, b)| a.0 == b.0) {
            return Err(reader.stop(FormatError::Duplicate {
                what: "metadata key",
                name: name.as_str().into(),
            }));
        }
        for (key, value) in &entries {
            reader.check(self.memory.entry(key, value))?;
        }
        self.metadata = Some(entries);
        Ok(())
    }
}

/// The `__metadata__` object: text to text.
struct Metadata<'r> {
    reader: &'r Reader<'r>,
    entries: Vec<(String, MetaValue)>,
    /// Bytes of the keys and texts.
    kept: u64,
}

impl<'de> Fields<'de> for Metadata<'_> {
    const EXPECTING: &'static str = "an object of text values";

    type Key = String;

    fn key<E: Error>(&self, key: &str) -> Result<String, E> {
        let limits = self.reader.limits;
        let longest = bound!(limits.string_bytes);
        let checked = check_name("metadata key", "metadata key length", key, longest);
        self.reader.check(checked.map(|()| key.to_owned()))
    }

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        let limits = reader.limits;
        let next = self.entries.len().saturating_add(1);
        let most = bound!(limits.metadata_entries);
        reader.count("number of metadata entries", next, most)?;
        let taken = self.kept.saturating_add(bytes(&key));
        let take = |text: &str| {
            let kept = taken.saturating_add(bytes(text));
            check_kept(kept, limits).map(|()| (text.to_owned(), kept))
        };
        let value = map.next_value_seed(Text { reader, take });
        let (value, kept) = reader.within(|| named("metadata key", &key), value)?;
        self.kept = kept;
        self.entries.push((key, MetaValue::Text(value)));
        Ok(())
    }
}

fn bytes(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// The description of one tensor, as its fields come in.
struct Entry<'r, 'n> {
    reader: &'r Reader<'r>,
    name: &'n str,
    dtype: Option<Dtype>,
    shape: Option<Shape>,
    offsets: Option<[u64; 2]>,
}

impl<'de> Fields<'de> for Entry<'_, '_> {
    const EXPECTING: &'static str = "a tensor's dtype, shape and data_offsets";

    type Key = Field;

    fn key<E: Error>(&self, key: &str) -> Result<Field, E> {
        match key {
            "dtype" => Ok(Field::Dtype),
            "shape" => Ok(Field::Shape),
            "data_offsets" => Ok(Field::Offsets),
            _ => Err(self.reader.stop(FormatError::BadValue {
                of: self.name.into(),
                field: "a field's name",
                value: key.into(),
                reason: "only dtype, shape and data_offsets describe a tensor",
            })),
        }
    }

    fn field<A: MapAccess<'de>>(&mut self, key: Field, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        let twin = |field| format!("{field} of {}", self.name);
        match key {
            Field::Dtype => {
                reader.once(&self.dtype, "field", || twin("dtype"))?;
                let take = |text: &str| self.dtype_named(text);
                self.dtype = Some(map.next_value_seed(Text { reader, take })?);
            }
            Field::Shape => {
                reader.once(&self.shape, "field", || twin("shape"))?;
                self.shape = Some(self.dims(map)?);
            }
            Field::Offsets => {
                reader.once(&self.offsets, "field", || twin("data_offsets"))?;
                self.offsets = Some(self.two(map)?);
            }
        }
        Ok(())
    }
}

/// What describes a tensor.
#[derive(Clone, Copy)]
enum Field {
    Dtype,
    Shape,
    Offsets,
}

impl Entry<'_, '_> {
    /// The dimensions, refused at the first one too many.
    fn dims<'de, A: MapAccess<'de>>(&self, map: &mut A) -> Result<Shape, A::Error> {
        let reader = self.reader;
        let limits = reader.limits;
        let most = bound!(limits.dims);
        let mut shape: Vec<u64> = Vec::new();
        let each = |dim| {
            shape.push(dim);
            most.check_count("number of dimensions", shape.len())
        };
        let expecting = "a list of dimensions";
        map.next_value_seed(Numbers {
            reader,
            expecting,
            each,
        })?;
        Ok(Shape::from(shape))
    }

    /// The offsets of the first byte and of the one after the last.
    fn two<'de, A: MapAccess<'de>>(&self, map: &mut A) -> Result<[u64; 2], A::Error> {
        let reader = self.reader;
        let (mut offsets, mut found) = ([0; 2], 0_usize);
        let each = |offset| {
            if let Some(place) = offsets.get_mut(found) {
                *place = offset;
            }
            found = found.saturating_add(1);
            Ok(())
        };
        let expecting = "a list of two offsets";
        map.next_value_seed(Numbers {
            reader,
            expecting,
            each,
        })?;
        match found {
            2 => Ok(offsets),
            _ => Err(A::Error::invalid_length(found, &expecting)),
        }
    }

    fn dtype_named(&self, text: &str) -> Result<Dtype, FormatError> {
        Dtype::from_safetensors(text).ok_or_else(|| FormatError::BadValue {
            of: self.name.into(),
            field: "dtype",
            value: text.into(),
            reason: "not an element type of safetensors",
        })
    }

    /// Holds type, shape and offsets against each other.
    fn finish(self, data_start: u64) -> Result<TensorInfo, FormatError> {
        let dtype = self.dtype.ok_or_else(|| self.missing("dtype"))?;
        let (offset, have) = self.place(data_start)?;
        let shape = self.shape.clone().ok_or_else(|| self.missing("shape"))?;
        let len = self.length(dtype, &shape)?;
        if len != have {
            return Err(FormatError::SizeMismatch {
                name: self.name.into(),
                need: len,
                have,
            });
        }
        Ok(TensorInfo {
            name: self.name.into(),
            dtype,
            shape,
            offset,
            len,
        })
    }

    /// First byte in the file, and bytes, by the offsets.
    fn place(&self, data_start: u64) -> Result<(u64, u64), FormatError> {
        const FIELD: &str = "data_offsets";
        let [start, end] = self.offsets.ok_or_else(|| self.missing(FIELD))?;
        let shown = || Excerpt::new(&format!("[{start}, {end}]"));
        let have = end
            .checked_sub(start)
            .ok_or_else(|| FormatError::BadValue {
                of: self.name.into(),
                field: FIELD,
                value: shown(),
                reason: "the end lies before the start",
            })?;
        let offset = data_start.checked_add(start);
        let offset = offset.ok_or_else(|| self.overflow(FIELD, shown()))?;
        Ok((offset, have))
    }

    /// Bytes by type and shape.
    fn length(&self, dtype: Dtype, shape: &[u64]) -> Result<u64, FormatError> {
        let elements = element_count(self.name, shape)?;
        if !elements.is_multiple_of(dtype.block_elements()) {
            return Err(FormatError::PartialBlock {
                name: self.name.into(),
                dtype,
                elements,
            });
        }
        dtype.bytes(elements).ok_or_else(|| {
            let size = format!("{elements} elements of {dtype}");
            self.overflow("length", Excerpt::new(&size))
        })
    }

    fn missing(&self, field: &'static str) -> FormatError {
        FormatError::Missing {
            of: self.name.into(),
            field,
        }
    }

    fn overflow(&self, field: &'static str, value: Excerpt) -> FormatError {
        FormatError::Overflow {
            name: self.name.into(),
            field,
            value,
        }
    }
}
