//! The memory that tables take and keep, held against its bound while a header
//! is read: what counts is what stays for as long as the model is loaded.

use super::error::FormatError;
use super::limits::{Bound, Limits, bound};
use super::table::{MetaValue, TensorInfo};

/// Least memory of one piece on the heap, what the allocator keeps included.
const LEAST_PIECE: usize = 32;
/// Pieces are multiples of this.
const STEP: usize = 16;
/// What the allocator keeps of a piece.
const KEPT: usize = 8;
/// A tensor's place in the order of names.
const PLACE: usize = size_of::<u32>();

/// What the tables of a model take so far.
pub(super) struct Memory {
    bound: Bound,
    /// By the tables of other files.
    before: u64,
    taken: u64,
}

impl Memory {
    /// Nothing but what the tables of other files of the model take.
    pub(super) fn new(limits: &Limits, before: u64) -> Self {
        Self {
            bound: bound!(limits.table_bytes),
            before,
            taken: 0,
        }
    }

    /// Takes what one tensor needs.
    pub(super) fn tensor(&mut self, tensor: &TensorInfo) -> Result<(), FormatError> {
        let dims = tensor.shape.outside().saturating_mul(size_of::<u64>());
        self.take([
            size_of::<TensorInfo>(),
            PLACE,
            piece(tensor.name.len()),
            piece(dims),
        ])
    }

    /// Takes what one entry of the metadata needs.
    pub(super) fn entry(&mut self, key: &str, value: &MetaValue) -> Result<(), FormatError> {
        let text = match value {
            MetaValue::Text(text) => text.len(),
            _ => 0,
        };
        self.take([
            size_of::<(String, MetaValue)>(),
            piece(key.len()),
            piece(text),
            0,
        ])
    }

    fn take(&mut self, parts: [usize; 4]) -> Result<(), FormatError> {
        let more = parts.into_iter().fold(0, usize::saturating_add);
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        self.taken = self.taken.saturating_add(more);
        let all = self.before.saturating_add(self.taken);
        self.bound.check("memory for the tables of all files", all)
    }

    /// Bytes that this table takes, others not counted.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }
}

/// Memory of `len` bytes on the heap: the usual allocator's pieces.
const fn piece(len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    let whole = len.saturating_add(KEPT).next_multiple_of(STEP);
    if whole < LEAST_PIECE {
        LEAST_PIECE
    } else {
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Dtype;

    fn tensor(name: &str, shape: Vec<u64>) -> TensorInfo {
        TensorInfo {
            name: name.into(),
            dtype: Dtype::U8,
            shape: shape.into(),
            offset: 0,
            len: 0,
        }
    }

    #[test]
    fn a_tensor_of_a_large_model_takes_about_150_bytes() {
        let name = "language_model.model.layers.10.mlp.experts.100.down_proj.weight_packed";
        let mut memory = Memory::new(&Limits::default(), 0);
        memory.tensor(&tensor(name, vec![7168, 256])).unwrap();
        assert_eq!(memory.taken(), 64 + 4 + 80);
    }

    #[test]
    fn what_other_files_took_counts_and_the_last_byte_is_allowed() {
        let small = tensor("t", vec![1, 2, 3]);
        let each = 64 + 4 + 32 + 32;
        let limits = Limits {
            table_bytes: 1000 + 2 * each,
            ..Limits::default()
        };
        let mut memory = Memory::new(&limits, 1000);
        memory.tensor(&small).unwrap();
        memory.tensor(&small).unwrap();
        assert_eq!(memory.taken(), 2 * each);
        let refused = memory.tensor(&small).unwrap_err();
        assert!(matches!(
            refused,
            FormatError::TooLarge { value, setting: Some("table_bytes"), .. } if value == 1000 + 3 * each
        ));
        let mut memory = Memory::new(&limits, 1000);
        let text = MetaValue::Text("x".repeat(1000));
        assert!(memory.entry("key", &text).is_err());
        let mut memory = Memory::new(&limits, 1000);
        memory.entry("key", &MetaValue::Bool(true)).unwrap();
    }

    #[test]
    fn pieces_are_as_the_allocator_cuts_them() {
        for (len, memory) in [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64)] {
            assert_eq!(piece(len), memory, "{len}");
        }
    }
}
