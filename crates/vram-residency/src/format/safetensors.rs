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
use super::json::{Fields, Json, Object, Reader};
use super::limits::Limits;
use super::source::{ReadAt, read_into, read_pages};
use super::table::{MetaValue, TensorInfo, TensorTable, check_kept, check_name, element_count};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Bytes of the header length in front of the header.
pub const LENGTH_BYTES: u64 = 8;

/// The key that holds text about the model instead of a tensor.
const METADATA_KEY: &str = "__metadata__";

/// Reads the header of a safetensors file.
///
/// Memory taken is a small multiple of the header, which lies in the file.
///
/// # Errors
/// Every variant of [`FormatError`] that is about JSON, names, sizes or layout;
/// requirement: IV-005, VA-10.
pub fn parse(src: &dyn ReadAt, limits: &Limits) -> Result<TensorTable, FormatError> {
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
        let header = Header {
            reader,
            data_start,
            tensors: Vec::new(),
            metadata: None,
        };
        let done = Object(header).deserialize(json)?;
        Ok((done.tensors, done.metadata.unwrap_or_default()))
    });
    let (tensors, metadata) = found?;
    drop(header);
    TensorTable::new(tensors, metadata, data_start, src.len(), |_, _| false)
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
    if length > limits.header_bytes {
        return Err(FormatError::TooLarge {
            field: "header length",
            value: length,
            limit: limits.header_bytes,
        });
    }
    Ok(length)
}

/// The whole header object.
struct Header<'r> {
    reader: &'r Reader<'r>,
    data_start: u64,
    tensors: Vec<TensorInfo>,
    metadata: Option<Vec<(String, MetaValue)>>,
}

impl<'de> Fields<'de> for Header<'_> {
    const EXPECTING: &'static str = "an object of tensors";

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        if key == METADATA_KEY {
            reader.once(&self.metadata, "key", METADATA_KEY)?;
            let metadata = Metadata {
                reader,
                entries: Vec::new(),
                kept: 0,
            };
            let mut entries = map.next_value_seed(Object(metadata))?.entries;
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let twin = entries.iter().zip(entries.iter().skip(1));
            if let Some(((name, _), _)) = twin.into_iter().find(|(a, b)| a.0 == b.0) {
                return Err(reader.stop(FormatError::Duplicate {
                    what: "metadata key",
                    name: name.as_str().into(),
                }));
            }
            self.metadata = Some(entries);
            return Ok(());
        }
        let limits = reader.limits;
        reader.check(check_name(
            "tensor",
            "tensor name length",
            &key,
            limits.name_bytes,
        ))?;
        let next = self.tensors.len().saturating_add(1);
        reader.count("number of tensors", next, limits.tensors)?;
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
        self.tensors.push(tensor);
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

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        let limits = reader.limits;
        reader.check(check_name(
            "metadata key",
            "metadata key length",
            &key,
            limits.string_bytes,
        ))?;
        let next = self.entries.len().saturating_add(1);
        reader.count("number of metadata entries", next, limits.metadata_entries)?;
        let value = map.next_value::<String>();
        let value = reader.within(|| named("metadata key", &key), value)?;
        let bytes = key.len().saturating_add(value.len());
        self.kept = self
            .kept
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let kept = check_kept(self.kept, limits);
        let kept = kept.map_err(|error| error.within(|| named("metadata key", &key)));
        reader.check(kept)?;
        self.entries.push((key, MetaValue::Text(value)));
        Ok(())
    }
}

/// The description of one tensor, as its fields come in.
struct Entry<'r, 'n> {
    reader: &'r Reader<'r>,
    name: &'n str,
    dtype: Option<Dtype>,
    shape: Option<Vec<u64>>,
    offsets: Option<[u64; 2]>,
}

impl<'de> Fields<'de> for Entry<'_, '_> {
    const EXPECTING: &'static str = "a tensor's dtype, shape and data_offsets";

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        let twin = || format!("{key} of {}", self.name);
        match key.as_str() {
            "dtype" => {
                reader.once(&self.dtype, "field", &twin())?;
                let text = map.next_value::<String>()?;
                self.dtype = Some(reader.check(self.dtype_named(&text))?);
            }
            "shape" => {
                reader.once(&self.shape, "field", &twin())?;
                self.shape = Some(map.next_value_seed(Shape { reader })?);
            }
            "data_offsets" => {
                reader.once(&self.offsets, "field", &twin())?;
                self.offsets = Some(map.next_value()?);
            }
            _ => {
                return Err(reader.stop(FormatError::BadValue {
                    of: self.name.into(),
                    field: "a field's name",
                    value: key.as_str().into(),
                    reason: "only dtype, shape and data_offsets describe a tensor",
                }));
            }
        }
        Ok(())
    }
}

impl Entry<'_, '_> {
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
        let name = || Excerpt::new(self.name);
        let missing = |field| FormatError::Missing { of: name(), field };
        let dtype = self.dtype.ok_or_else(|| missing("dtype"))?;
        let [start, end] = self.offsets.ok_or_else(|| missing("data_offsets"))?;
        let offsets = || Excerpt::new(&format!("[{start}, {end}]"));
        let overflow = |field, value| FormatError::Overflow {
            name: name(),
            field,
            value,
        };
        let have = end
            .checked_sub(start)
            .ok_or_else(|| FormatError::BadValue {
                of: name(),
                field: "data_offsets",
                value: offsets(),
                reason: "the end lies before the start",
            })?;
        let offset = data_start
            .checked_add(start)
            .ok_or_else(|| overflow("data_offsets", offsets()))?;
        let shape = self.shape.as_deref().ok_or_else(|| missing("shape"))?;
        let elements = element_count(self.name, shape)?;
        if !elements.is_multiple_of(dtype.block_elements()) {
            return Err(FormatError::PartialBlock {
                name: name(),
                dtype,
                elements,
            });
        }
        let size = || Excerpt::new(&format!("{elements} elements of {dtype}"));
        let len = dtype
            .bytes(elements)
            .ok_or_else(|| overflow("length", size()))?;
        if len != have {
            return Err(FormatError::SizeMismatch {
                name: name(),
                need: len,
                have,
            });
        }
        Ok(TensorInfo {
            name: self.name.to_owned(),
            dtype,
            shape: self.shape.unwrap_or_default(),
            offset,
            len,
        })
    }
}

/// The dimensions, refused at the first one too many.
struct Shape<'r> {
    reader: &'r Reader<'r>,
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Vec<u64>, D::Error> {
        de.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(dim) = seq.next_element()? {
            shape.push(dim);
            self.reader
                .count("number of dimensions", shape.len(), self.reader.limits.dims)?;
        }
        Ok(shape)
    }
}
