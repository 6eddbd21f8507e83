//! GGUF files: no panic, nothing outside the file, tensors apart and aligned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vram_residency::format::gguf::{PartName, Split, check_parts};
use vram_residency::format::{Format, Limits, parse};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let Ok(table) = parse(Format::Gguf, &data) else {
        return;
    };
    let len = data.len() as u64;
    assert!(table.data_start() <= len);
    let mut end = table.data_start();
    for tensor in table.tensors() {
        assert!(tensor.offset >= end && tensor.range().end <= len);
        let elements: u64 = tensor.shape.iter().product();
        assert_eq!(tensor.dtype.bytes(elements), Some(tensor.len));
        assert_eq!(table.get(&tensor.name), Some(tensor));
        end = tensor.range().end;
    }
    if let Ok(Some(split)) = Split::of(&table, &limits) {
        let name = PartName {
            prefix: "m".into(),
            number: split.number + 1,
            count: split.count,
        };
        let file = name.sibling(name.number);
        let alone = check_parts(&[(&file, &table)], &limits);
        let whole = split.count == 1 && split.tensors == table.tensors().len() as u64;
        assert_eq!(alone.is_ok(), whole);
    }
});
