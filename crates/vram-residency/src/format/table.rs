//! The table of a model's tensors: names, types, shapes and where they lie.

use super::dtype::Dtype;
use super::error::{Excerpt, FormatError, named};
use super::limits::{Bound, Limits, bound};
use super::shape::Shape;
use std::ops::Range;

/// One tensor of a model file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorInfo {
    /// Its name, never empty and free of control characters.
    pub name: Box<str>,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, outermost first, as PyTorch shows them; empty for a
    /// scalar. GGUF files store the reverse order.
    pub shape: Shape,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// Its length in bytes; 0 if one dimension is 0.
    pub len: u64,
}

impl TensorInfo {
    /// The bytes of the file that it takes.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        // The table's constructor has seen that the sum fits.
        self.offset..self.offset.saturating_add(self.len)
    }
}

/// A value of a model's metadata, in the width that holds every kind.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetaValue {
    /// Text.
    Text(String),
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A floating-point number of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A list, of which only kind and length are kept.
    Array {
        /// The name of the element kind (`string`, `float32`).
        element: &'static str,
        /// Elements.
        len: u64,
    },
}

/// The tensors of one file, in file order, and what its header says besides.
///
/// Made only by the parsers, so its rules hold for every value: ranges lie
/// inside the file, do not overlap, and are sorted by offset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorTable {
    tensors: Vec<TensorInfo>,
    by_name: Vec<u32>,
    metadata: Vec<(String, MetaValue)>,
    data_start: u64,
    memory: u64,
}

/// What a header lists, as it came.
pub(super) struct Listed {
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: Vec<(String, MetaValue)>,
    /// Bytes that both take.
    pub(super) memory: u64,
}

impl TensorTable {
    /// Sorts by offset and refuses duplicate names, overlaps, ranges that
    /// leave the file, and gaps that `may_pad` does not allow. The last is
    /// asked with (end of one tensor, start of the next or end of file).
    pub(super) fn new(
        listed: Listed,
        data_start: u64,
        file_len: u64,
        may_pad: impl Fn(u64, u64) -> bool,
    ) -> Result<Self, FormatError> {
        let Listed {
            mut tensors,
            metadata,
            memory,
        } = listed;
        // Empty tensors come before the tensor that starts at the same byte.
        tensors.sort_unstable_by(|a, b| {
            let place = |t: &TensorInfo| (t.offset, t.len);
            place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name))
        });
        tensors.shrink_to_fit();
        let by_name = name_order(&tensors)?;
        check_layout(&tensors, data_start, file_len, may_pad)?;
        Ok(Self {
            tensors,
            by_name,
            metadata,
            data_start,
            memory,
        })
    }

    /// Bytes of memory that the table takes: what [`Limits::table_bytes`]
    /// bounds for all files of a model together.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// The tensors in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        let at = |i: &u32| self.at(*i);
        let found = self
            .by_name
            .binary_search_by(|i| at(i).map_or("", |t| &*t.name).cmp(name));
        found.ok().and_then(|p| self.by_name.get(p)).and_then(at)
    }

    /// The tensors in the order of their names.
    pub fn iter_by_name(&self) -> impl Iterator<Item = &TensorInfo> {
        self.by_name.iter().filter_map(|i| self.at(*i))
    }

    fn at(&self, index: u32) -> Option<&TensorInfo> {
        self.tensors.get(usize::try_from(index).ok()?)
    }

    /// First byte of the data section, counted from the start of the file; 0
    /// for plain bytes.
    #[must_use]
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        // Disjoint ranges of one file: the sum is at most the file's length.
        self.tensors
            .iter()
            .fold(0, |sum: u64, t| sum.saturating_add(t.len))
    }

    /// What the header says besides tensors: in file order for GGUF, in the
    /// order of keys for safetensors.
    #[must_use]
    pub fn metadata(&self) -> &[(String, MetaValue)] {
        &self.metadata
    }

    /// The metadata value of that key.
    #[must_use]
    pub fn metadata_value(&self, key: &str) -> Option<&MetaValue> {
        self.metadata
            .iter()
            .find_map(|(k, v)| (k == key).then_some(v))
    }

    /// The tensors that have at least one byte in `bytes` (file offsets): which
    /// tensors a corrupt block belongs to. Empty tensors are in no range.
    pub fn which_tensors(&self, bytes: Range<u64>) -> impl Iterator<Item = &TensorInfo> {
        let first = self
            .tensors
            .partition_point(|t| t.range().end <= bytes.start);
        self.tensors
            .get(first..)
            .unwrap_or_default()
            .iter()
            .take_while(move |t| t.offset < bytes.end)
            .filter(move |t| t.len > 0 && !bytes.is_empty())
    }
}

/// Indices of `tensors` in the order of their names; names must differ.
fn name_order(tensors: &[TensorInfo]) -> Result<Vec<u32>, FormatError> {
    let len = u64::try_from(tensors.len()).unwrap_or(u64::MAX);
    Bound::fixed(u64::from(u32::MAX)).check("number of tensors", len)?;
    let count = u32::try_from(tensors.len()).unwrap_or(u32::MAX);
    let name = |i: &u32| {
        usize::try_from(*i)
            .ok()
            .and_then(|i| tensors.get(i))
            .map_or("", |t| &*t.name)
    };
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    let twin = order
        .iter()
        .zip(order.iter().skip(1))
        .find(|(a, b)| name(a) == name(b));
    match twin {
        Some((a, _)) => Err(FormatError::Duplicate {
            what: "tensor",
            name: name(a).into(),
        }),
        None => Ok(order),
    }
}

/// Holds sorted `tensors` against the file: one after the other, inside.
fn check_layout(
    tensors: &[TensorInfo],
    data_start: u64,
    file_len: u64,
    may_pad: impl Fn(u64, u64) -> bool,
) -> Result<(), FormatError> {
    let mut end = data_start;
    let mut previous = "header";
    for tensor in tensors {
        let name = || Excerpt::new(&tensor.name);
        if tensor.offset < end {
            return Err(FormatError::Overlap {
                first: previous.into(),
                second: name(),
                offset: tensor.offset,
            });
        }
        if tensor.offset > end && !may_pad(end, tensor.offset) {
            return Err(FormatError::Gap {
                name: name(),
                from: end,
                to: tensor.offset,
            });
        }
        end = tensor
            .offset
            .checked_add(tensor.len)
            .ok_or_else(|| FormatError::Overflow {
                name: name(),
                field: "end",
                value: Excerpt::new(&format!("{} + {}", tensor.offset, tensor.len)),
            })?;
        if end > file_len {
            return Err(FormatError::OutsideFile {
                name: name(),
                end,
                file_len,
            });
        }
        previous = &tensor.name;
    }
    if end < file_len && !may_pad(end, file_len) {
        return Err(FormatError::Trailing {
            from: end,
            to: file_len,
        });
    }
    Ok(())
}

/// Elements of `shape`. The product may not overflow in any order of the
/// dimensions, not even where a 0 makes it 0: users multiply as they like.
pub(super) fn element_count(name: &str, shape: &[u64]) -> Result<u64, FormatError> {
    let without_zeros = shape.iter().filter(|dim| **dim != 0);
    let product = without_zeros
        .copied()
        .try_fold(1_u64, u64::checked_mul)
        .ok_or_else(|| FormatError::Overflow {
            name: name.into(),
            field: "shape",
            value: Excerpt::new(&format!("{shape:?}")),
        })?;
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// Holds the bytes of all texts of the metadata against their limit.
pub(super) fn check_kept(kept: u64, limits: &Limits) -> Result<(), FormatError> {
    bound!(limits.metadata_bytes).check("bytes of metadata text", kept)
}

/// A name that may be shown and used as a key: not empty, not too long, no
/// control characters (IV-005: no NUL in any string).
pub(super) fn check_name(
    what: &'static str,
    field: &'static str,
    name: &str,
    bound: Bound,
) -> Result<(), FormatError> {
    let len = u64::try_from(name.len()).unwrap_or(u64::MAX);
    let short = bound.check(field, len);
    short.map_err(|long| long.within(|| named(what, name)))?;
    let reason = if name.is_empty() {
        "is empty"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(FormatError::BadName {
        what,
        name: name.into(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, offset: u64, len: u64) -> TensorInfo {
        TensorInfo {
            name: name.into(),
            dtype: Dtype::U8,
            shape: vec![len].into(),
            offset,
            len,
        }
    }

    fn table(tensors: Vec<TensorInfo>, file_len: u64) -> Result<TensorTable, FormatError> {
        let listed = Listed {
            tensors,
            metadata: Vec::new(),
            memory: 0,
        };
        TensorTable::new(listed, 8, file_len, |_, _| false)
    }

    #[test]
    fn lookup_by_name_and_by_byte() {
        let t = table(
            vec![
                tensor("b", 12, 4),
                tensor("a", 16, 8),
                tensor("z", 8, 4),
                tensor("empty", 12, 0),
            ],
            24,
        )
        .unwrap();
        let names: Vec<_> = t.tensors().iter().map(|t| &*t.name).collect();
        assert_eq!(names, ["z", "empty", "b", "a"]);
        let sorted: Vec<_> = t.iter_by_name().map(|t| &*t.name).collect();
        assert_eq!(sorted, ["a", "b", "empty", "z"]);
        for name in names {
            assert_eq!(&*t.get(name).unwrap().name, name);
        }
        assert!(t.get("").is_none() && t.get("c").is_none());
        assert_eq!((t.tensor_bytes(), t.data_start()), (16, 8));

        let hit = |r: Range<u64>| {
            let names: Vec<_> = t.which_tensors(r).map(|t| &*t.name).collect();
            names.join(" ")
        };
        assert_eq!(hit(0..8), "");
        assert_eq!(hit(0..9), "z");
        assert_eq!(hit(11..13), "z b");
        assert_eq!(hit(12..13), "b");
        assert_eq!(hit(15..16), "b");
        assert_eq!(hit(0..u64::MAX), "z b a");
        assert_eq!(hit(23..24), "a");
        assert_eq!(hit(24..99), "");
        assert_eq!(hit(13..13), "");
    }

    #[test]
    fn every_byte_of_the_data_section_has_one_owner() {
        let whole = table(vec![tensor("a", 8, 4), tensor("b", 12, 4)], 16).unwrap();
        for byte in 8..16 {
            assert_eq!(whole.which_tensors(byte..byte + 1).count(), 1, "{byte}");
        }
    }

    #[test]
    fn layouts_that_lie_are_refused() {
        let err = |t, len| table(t, len).unwrap_err();
        assert!(matches!(
            err(vec![tensor("a", 8, 4), tensor("b", 11, 4)], 15),
            FormatError::Overlap { offset: 11, .. }
        ));
        assert!(matches!(
            err(vec![tensor("a", 7, 4)], 11),
            FormatError::Overlap { offset: 7, .. }
        ));
        assert!(matches!(
            err(vec![tensor("a", 8, 4), tensor("b", 13, 4)], 17),
            FormatError::Gap {
                from: 12,
                to: 13,
                ..
            }
        ));
        assert!(matches!(
            err(vec![tensor("a", 8, 4)], 13),
            FormatError::Trailing { from: 12, to: 13 }
        ));
        assert!(matches!(
            err(vec![tensor("a", 8, 4)], 11),
            FormatError::OutsideFile {
                end: 12,
                file_len: 11,
                ..
            }
        ));
        assert!(matches!(
            err(vec![tensor("a", 8, u64::MAX)], 11),
            FormatError::Overflow { .. }
        ));
        assert!(matches!(
            err(vec![tensor("a", 8, 4), tensor("a", 12, 4)], 16),
            FormatError::Duplicate { what: "tensor", .. }
        ));
    }

    #[test]
    fn names_and_element_counts_are_checked() {
        let check = |name: &str| check_name("tensor", "tensor name", name, Bound::fixed(4));
        check("abcd").unwrap();
        check("\u{e9}a").unwrap();
        assert!(matches!(
            check("abcde").unwrap_err().rule(),
            FormatError::TooLarge {
                value: 5,
                limit: 4,
                ..
            }
        ));
        for bad in ["", "a\0", "\u{1b}[m", "\u{7f}", "\u{85}"] {
            let err = check(bad).unwrap_err();
            assert!(matches!(err, FormatError::BadName { .. }), "{bad:?}");
        }
        assert_eq!(element_count("t", &[]).unwrap(), 1);
        assert_eq!(element_count("t", &[3, 0]).unwrap(), 0);
        element_count("t", &[u64::MAX, 2, 0]).unwrap_err();
        element_count("t", &[0, u64::MAX, 2]).unwrap_err();
        assert_eq!(element_count("t", &[0, u64::MAX]).unwrap(), 0);
    }
}
