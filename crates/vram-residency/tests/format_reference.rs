//! The safetensors reader against the reference crate: what one accepts, the
//! other reads alike.
//!
//! requirement: VA-10

#[path = "common/cases.rs"]
mod cases;

use cases::cases;
use proptest::prelude::*;
use std::cell::Cell;
use vram_residency::format::{Format, TensorInfo, parse};

/// A file with this header and `data` zero bytes after it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Random headers built to be almost right.
fn almost_headers() -> impl Strategy<Value = (String, usize)> {
    let dtype = prop::sample::select(vec![
        "U8", "BF16", "F32", "F64", "F4", "BOOL", "C64", "I128",
    ]);
    let tensor = (
        dtype,
        prop::collection::vec(0_u64..4, 0..4),
        -1_i64..2,
        0_u8..30,
    );
    prop::collection::vec(tensor, 0..6).prop_map(|tensors| {
        let mut at = 0_i64;
        let mut entries = Vec::new();
        for (i, (dtype, shape, slip, dice)) in tensors.into_iter().enumerate() {
            let bits: i64 = match dtype {
                "F4" => 4,
                "U8" | "BOOL" => 8,
                "BF16" => 16,
                "F32" => 32,
                _ => 64,
            };
            let elements = i64::try_from(shape.iter().product::<u64>()).unwrap();
            let len = elements * bits / 8;
            let slip = if dice < 3 { slip } else { 0 };
            let name = if dice == 3 {
                "twin".into()
            } else {
                format!("t{i}")
            };
            let (from, to) = (at + slip, at + slip + len);
            let shape = format!("{shape:?}");
            entries.push(format!(
                r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#
            ));
            at += len;
        }
        (
            format!("{{{}}}", entries.join(",")),
            usize::try_from(at).unwrap(),
        )
    })
}

/// Name, type, shape, first byte in the file, bytes; in the order of names.
type Row = (String, String, Vec<u64>, u64, u64);

/// What the reference crate reads, in our terms.
fn reference(bytes: &[u8]) -> Option<Vec<Row>> {
    let (header, metadata) = safetensors::SafeTensors::read_metadata(bytes).ok()?;
    let mut all: Vec<Row> = metadata
        .tensors()
        .into_iter()
        .map(|(name, t)| {
            let (from, to) = t.data_offsets;
            let shape = t.shape.iter().map(|d| *d as u64).collect();
            let start = 8 + header + from;
            (
                name,
                t.dtype.to_string(),
                shape,
                start as u64,
                (to - from) as u64,
            )
        })
        .collect();
    all.sort();
    Some(all)
}

fn ours(bytes: &[u8]) -> Option<Vec<Row>> {
    let table = parse(Format::Safetensors, &bytes).ok()?;
    let row = |t: &TensorInfo| {
        (
            t.name.to_string(),
            t.dtype.to_string(),
            t.shape.to_vec(),
            t.offset,
            t.len,
        )
    };
    Some(table.iter_by_name().map(row).collect())
}

#[test]
fn what_is_accepted_is_what_the_reference_crate_reads() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let config = cases(1000);
    let each = config.cases / 10;
    proptest!(config, |((header, data) in almost_headers())| {
        let bytes = file(&header, data);
        match (ours(&bytes), reference(&bytes)) {
            (Some(mine), theirs) => {
                accepted.set(accepted.get() + 1);
                prop_assert_eq!(Some(mine), theirs);
            }
            // Stricter in one point only: no name twice.
            (None, Some(_)) => prop_assert!(header.matches("\"twin\"").count() > 1, "{}", header),
            (None, None) => refused.set(refused.get() + 1),
        }
    });
    // Both sides of the border were visited.
    assert!(
        accepted.get() > each && refused.get() > each,
        "{accepted:?} {refused:?}"
    );
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn mutated_headers_never_panic_and_never_leave_the_file(
        (header, data) in almost_headers(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        do_cut in prop::bool::weighted(0.2),
    ) {
        let mut bytes = file(&header, data);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if do_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(table) = parse(Format::Safetensors, &bytes) {
            let len = bytes.len() as u64;
            prop_assert!(table.tensors().iter().all(|t| t.range().end <= len && t.offset <= len));
            prop_assert_eq!(ours(&bytes), reference(&bytes));
        }
    }
}
