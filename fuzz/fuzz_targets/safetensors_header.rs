//! Safetensors headers: no panic, nothing outside the file, and whatever is
//! accepted the reference crate accepts with the same table.
//!
//! New inputs go to the first folder, the checked-in seeds are the second:
//!
//! ```text
//! mkdir -p fuzz/target/corpus/safetensors_header
//! cargo +nightly fuzz run safetensors_header \
//!     fuzz/target/corpus/safetensors_header fuzz/corpus/safetensors_header -- \
//!     -dict=fuzz/dict/json.dict -malloc_limit_mb=64 -max_total_time=600
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use vram_residency::format::{Format, TensorTable, parse};

fuzz_target!(|data: &[u8]| {
    if let Ok(table) = parse(Format::Safetensors, &data) {
        agree_with_reference(data, &table);
    }
    // The input as a header of its own, which mutations reach more often.
    let mut file = (data.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(data);
    for padding in [0, 24] {
        file.resize(8 + data.len() + padding, 0);
        if let Ok(table) = parse(Format::Safetensors, &file) {
            agree_with_reference(&file, &table);
        }
    }
});

fn agree_with_reference(file: &[u8], table: &TensorTable) {
    let (header, reference) = safetensors::SafeTensors::read_metadata(file)
        .unwrap_or_else(|e| panic!("only we accept this: {e}"));
    assert_eq!(table.data_start(), 8 + header as u64);
    let theirs = reference.tensors();
    assert_eq!(theirs.len(), table.tensors().len());
    for ours in table.tensors() {
        let theirs = theirs[&ours.name];
        let (from, to) = theirs.data_offsets;
        let start = 8 + header as u64 + from as u64;
        assert_eq!(ours.offset, start);
        assert_eq!(ours.len, (to - from) as u64);
        assert!(ours.range().end <= file.len() as u64);
        let shape: Vec<u64> = theirs.shape.iter().map(|dim| *dim as u64).collect();
        assert_eq!(ours.shape, shape);
        assert_eq!(ours.dtype.to_string(), theirs.dtype.to_string());
        assert_eq!(table.get(&ours.name), Some(ours));
        if ours.len > 0 {
            let hit: Vec<_> = table.which_tensors(ours.range()).collect();
            assert_eq!(hit, [ours]);
        }
    }
}
