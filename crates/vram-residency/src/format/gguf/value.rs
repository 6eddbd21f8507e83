//! GGUF metadata: typed key-value pairs.

use super::cursor::Cursor;
use crate::format::error::{FormatError, named};
use crate::format::limits::{Limits, bound};
use crate::format::memory::Memory;
use crate::format::table::{MetaValue, check_kept, check_name};

/// Smallest pair: an 8-byte key length, a type, a one-byte value.
const MIN_PAIR_BYTES: u64 = 13;

/// The kinds of values, by their number in the file.
#[derive(Clone, Copy)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    /// Name, and the bytes that a value takes at least.
    const fn facts(self) -> (&'static str, u64) {
        match self {
            Self::U8 => ("uint8", 1),
            Self::I8 => ("int8", 1),
            Self::U16 => ("uint16", 2),
            Self::I16 => ("int16", 2),
            Self::U32 => ("uint32", 4),
            Self::I32 => ("int32", 4),
            Self::F32 => ("float32", 4),
            Self::Bool => ("bool", 1),
            Self::Text => ("string", 8),
            Self::Array => ("array", 12),
            Self::U64 => ("uint64", 8),
            Self::I64 => ("int64", 8),
            Self::F64 => ("float64", 8),
        }
    }

    const fn of_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, FormatError> {
        let code = cursor.u32("value type")?;
        Self::of_code(code).ok_or_else(|| bad(key, "value type", code, "not a GGUF value type"))
    }
}

fn bad(key: &str, field: &'static str, value: impl ToString, reason: &'static str) -> FormatError {
    FormatError::BadValue {
        of: key.into(),
        field,
        value: value.to_string().as_str().into(),
        reason,
    }
}

/// Reads `count` pairs; keys must differ.
pub(super) fn read_pairs(
    cursor: &mut Cursor<'_>,
    count: u64,
    limits: &Limits,
    memory: &mut Memory,
) -> Result<Vec<(String, MetaValue)>, FormatError> {
    cursor.need(count.saturating_mul(MIN_PAIR_BYTES), "metadata pairs")?;
    let (mut pairs, mut kept) = (Vec::new(), 0_u64);
    for number in 1..=count {
        let longest = bound!(limits.string_bytes);
        let key = cursor.string("metadata key length", longest);
        let key = key.map_err(|error| error.within(|| format!("metadata entry {number}")))?;
        check_name("metadata key", "metadata key length", &key, longest)?;
        let value = read_value(cursor, &key, limits);
        let value = value.map_err(|error| error.within(|| named("metadata key", &key)))?;
        kept = kept.saturating_add(text_bytes(&key, &value));
        let taken = check_kept(kept, limits).and_then(|()| memory.entry(&key, &value));
        taken.map_err(|error| error.within(|| named("metadata key", &key)))?;
        pairs.push((key, value));
    }
    let mut keys: Vec<&str> = pairs.iter().map(|p| p.0.as_str()).collect();
    keys.sort_unstable();
    let twin = keys.iter().zip(keys.iter().skip(1)).find(|(a, b)| a == b);
    if let Some((name, _)) = twin {
        return Err(FormatError::Duplicate {
            what: "metadata key",
            name: (*name).into(),
        });
    }
    Ok(pairs)
}

/// Bytes of text that a pair keeps.
fn text_bytes(key: &str, value: &MetaValue) -> u64 {
    let text = match value {
        MetaValue::Text(text) => text.len(),
        _ => 0,
    };
    u64::try_from(key.len().saturating_add(text)).unwrap_or(u64::MAX)
}

fn read_value(
    cursor: &mut Cursor<'_>,
    key: &str,
    limits: &Limits,
) -> Result<MetaValue, FormatError> {
    const FIELD: &str = "metadata value";
    Ok(match Kind::read(cursor, key)? {
        Kind::U8 => MetaValue::Unsigned(u8::from_le_bytes(cursor.array(FIELD)?).into()),
        Kind::I8 => MetaValue::Signed(i8::from_le_bytes(cursor.array(FIELD)?).into()),
        Kind::U16 => MetaValue::Unsigned(u16::from_le_bytes(cursor.array(FIELD)?).into()),
        Kind::I16 => MetaValue::Signed(i16::from_le_bytes(cursor.array(FIELD)?).into()),
        Kind::U32 => MetaValue::Unsigned(cursor.u32(FIELD)?.into()),
        Kind::I32 => MetaValue::Signed(i32::from_le_bytes(cursor.array(FIELD)?).into()),
        Kind::U64 => MetaValue::Unsigned(cursor.u64(FIELD)?),
        Kind::I64 => MetaValue::Signed(i64::from_le_bytes(cursor.array(FIELD)?)),
        Kind::F32 => MetaValue::Float(f32::from_le_bytes(cursor.array(FIELD)?).into()),
        Kind::F64 => MetaValue::Float(f64::from_le_bytes(cursor.array(FIELD)?)),
        Kind::Bool => match cursor.array(FIELD)? {
            [0_u8] => MetaValue::Bool(false),
            [1] => MetaValue::Bool(true),
            [other] => return Err(bad(key, "bool", other, "must be 0 or 1")),
        },
        Kind::Text => {
            MetaValue::Text(cursor.string("metadata string length", bound!(limits.string_bytes))?)
        }
        Kind::Array => skip_array(cursor, key, limits)?,
    })
}

/// Walks over an array; its elements are bounded but not kept.
fn skip_array(
    cursor: &mut Cursor<'_>,
    key: &str,
    limits: &Limits,
) -> Result<MetaValue, FormatError> {
    const FIELD: &str = "metadata array";
    let kind = Kind::read(cursor, key)?;
    let len = cursor.u64("metadata array length")?;
    bound!(limits.array_elements).check("metadata array length", len)?;
    let (element, width) = kind.facts();
    // ggml refuses arrays of arrays as well.
    if matches!(kind, Kind::Array) {
        return Err(bad(
            key,
            "array element type",
            element,
            "nested arrays are refused",
        ));
    }
    let bytes = len.saturating_mul(width);
    if matches!(kind, Kind::Text) {
        cursor.need(bytes, FIELD)?;
        for _ in 0..len {
            let len = cursor.string_length("array string length", bound!(limits.string_bytes))?;
            cursor.skip(len, FIELD)?;
        }
    } else {
        cursor.skip(bytes, FIELD)?;
    }
    Ok(MetaValue::Array { element, len })
}
