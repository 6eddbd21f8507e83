//! What each rank of a tensor-parallel model would hold, before files for the
//! ranks exist (requirement: PM-1).

use std::num::NonZeroU32;

use crate::format::{TensorInfo, TensorTable};

/// Bytes that each of `degree` ranks holds of a file of `bytes` with these
/// tensors: matrices are cut evenly along a dimension that allows it, all else
/// is held by every rank, the header too.
///
/// An answer by shapes alone. A runtime that cuts vectors too needs less; one
/// that repeats key and value heads, because there are fewer of them than
/// ranks, needs more.
#[must_use]
pub fn rank_bytes(bytes: u64, tensors: &TensorTable, degree: NonZeroU32) -> u64 {
    let degree = u64::from(degree.get());
    let spared = |tensor: &TensorInfo| match can_be_cut(tensor, degree) {
        true => tensor.len.saturating_sub(tensor.len.div_ceil(degree)),
        false => 0,
    };
    let spared = tensors.tensors().iter().map(spared);
    bytes.saturating_sub(spared.fold(0, u64::saturating_add))
}

/// Whether a matrix has a dimension of which every rank gets an equal part,
/// in whole blocks of its element type. An empty one is cut into empty parts.
fn can_be_cut(tensor: &TensorInfo, degree: u64) -> bool {
    let Some((inner, outer)) = tensor.shape.split_last() else {
        return false;
    };
    let even = |size: u64, unit: u64| {
        let parts = degree.checked_mul(unit);
        parts.is_some_and(|parts| size.is_multiple_of(parts))
    };
    !outer.is_empty()
        && (outer.iter().any(|size| even(*size, 1)) || even(*inner, tensor.dtype.block_elements()))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use super::*;
    use crate::format::{self, Format, Limits};

    /// A file of F32 tensors with these shapes, and its length.
    fn file(shapes: &[&[u64]]) -> (u64, TensorTable) {
        let (mut header, mut end) = (Vec::new(), 0_u64);
        for (index, shape) in shapes.iter().enumerate() {
            let start = end;
            end += 4 * shape.iter().product::<u64>();
            header.push(format!(
                "\"t{index}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
            ));
        }
        let header = format!("{{{}}}", header.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + usize::try_from(end).unwrap(), 0);
        let table = format::parse_with(Format::Safetensors, &bytes.as_slice(), &Limits::default());
        (bytes.len() as u64, table.unwrap())
    }

    fn of(shapes: &[&[u64]], degree: u32) -> u64 {
        let (bytes, table) = file(shapes);
        bytes - rank_bytes(bytes, &table, NonZeroU32::new(degree).unwrap())
    }

    // requirement: PM-1
    #[test]
    fn matrices_are_cut_and_all_else_is_held_by_every_rank() {
        assert_eq!(of(&[&[8, 3]], 1), 0, "one rank holds all");
        assert_eq!(of(&[&[8, 3]], 4), 3 * 24, "three quarters are elsewhere");
        assert_eq!(of(&[&[3, 8]], 4), 3 * 24, "along the other dimension");
        assert_eq!(of(&[&[3, 5]], 4), 0, "along none");
        assert_eq!(of(&[&[64]], 4), 0, "a vector");
        assert_eq!(of(&[&[]], 4), 0, "a scalar");
        assert_eq!(of(&[&[0, 8]], 4), 0, "nothing");
        assert_eq!(of(&[&[8, 3], &[64], &[3, 5], &[2, 2, 8]], 2), 48 + 64);
        assert_eq!(of(&[&[8, 3]], u32::MAX), 0);
    }

    #[test]
    fn packed_elements_are_cut_at_their_blocks_only() {
        let packed = |shape: &[u64]| TensorInfo {
            name: "w".into(),
            dtype: format::Dtype::Q4_0,
            shape: shape.into(),
            offset: 0,
            len: 0,
        };
        assert!(can_be_cut(&packed(&[3, 64]), 2));
        assert!(!can_be_cut(&packed(&[3, 32]), 2), "half a block");
        assert!(can_be_cut(&packed(&[4, 32]), 2), "row by row");
    }

    #[test]
    fn plain_bytes_cannot_be_cut() {
        let table = TensorTable::default();
        assert_eq!(rank_bytes(100, &table, NonZeroU32::new(2).unwrap()), 100);
    }
}
