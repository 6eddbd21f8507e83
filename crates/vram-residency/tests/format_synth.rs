//! Synthetic models: repeatable, of exactly the size asked for, and read by
//! every reader there is.

#[path = "common/cases.rs"]
mod cases;

use cases::cases;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use vram_residency::format::synth::{Like, MAX_BYTES, MIN_BYTES, Spec, SynthError, write};
use vram_residency::format::{Dtype, Format, MetaValue, detect, parse};

fn spec(format: Format, size: u64, seed: u64) -> Spec {
    let like = Like::Llama;
    Spec {
        format,
        like,
        size,
        seed,
    }
}

fn model(format: Format, size: u64, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = write(&spec(format, size, seed), &mut bytes).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The bytes are part of the interface: benches of different days compare.
#[test]
fn the_bytes_never_change() {
    for (format, size, expected) in [
        (
            Format::Safetensors,
            65_536,
            "3fac53af8abfd50bd241f8e66c434972ccc981c066b35ed5ace4b3fa91ceabe3",
        ),
        (
            Format::Gguf,
            65_536,
            "e0d8ceaba8177c4ddf27394e69c28c1995cb0fb93629c47e7fb6b61291cf5046",
        ),
        (
            Format::Safetensors,
            1_000_003,
            "cd9c23de28fd355fc2fd7e9896ed53afed2aa9cb3622301edfa7df45152bd3be",
        ),
        (
            Format::Gguf,
            1_000_003,
            "30d65f8a13f29b7cac2d7c19dfd0cd53ff8e6e1b5883fc30a0e7c51737ce6c23",
        ),
    ] {
        assert_eq!(sha256(&model(format, size, 1)), expected, "{format} {size}");
    }
}

#[test]
fn names_shapes_and_types_are_those_of_the_family() {
    let bytes = model(Format::Safetensors, 1 << 20, 5);
    let table = parse(Format::Safetensors, &bytes).unwrap();
    let q = table.get("model.layers.0.self_attn.q_proj.weight").unwrap();
    let up = table.get("model.layers.0.mlp.up_proj.weight").unwrap();
    assert_eq!((q.dtype, q.shape[0]), (Dtype::Bf16, q.shape[1]));
    assert_eq!(up.shape[0], q.shape[0] * 7 / 2);
    assert!(table.get("lm_head.weight").is_some() && table.get("model.norm.weight").is_some());
    assert_eq!(
        table.metadata_value("format"),
        Some(&MetaValue::Text("pt".into()))
    );

    let bytes = model(Format::Gguf, 1 << 20, 5);
    let table = parse(Format::Gguf, &bytes).unwrap();
    let width = table.get("token_embd.weight").unwrap().shape[1];
    let value = |key| table.metadata_value(key).unwrap().clone();
    assert_eq!(value("llama.embedding_length"), MetaValue::Unsigned(width));
    assert_eq!(
        value("general.architecture"),
        MetaValue::Text("llama".into())
    );
    assert_eq!(
        table.get("blk.0.attn_norm.weight").unwrap().dtype,
        Dtype::F32
    );
    assert_eq!(
        table.get("blk.0.ffn_down.weight").unwrap().dtype,
        Dtype::Q8_0
    );
}

#[test]
fn what_cannot_be_written_is_said_before_the_first_byte() {
    let refuse = |spec: Spec| {
        let mut out = Vec::new();
        let error = write(&spec, &mut out).unwrap_err();
        assert!(out.is_empty());
        error
    };
    for size in [0, MIN_BYTES - 1, MAX_BYTES + 1, u64::MAX] {
        let error = refuse(spec(Format::Gguf, size, 0));
        assert!(matches!(error, SynthError::Size { size: s } if s == size));
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
    let error = refuse(spec(Format::Raw, MIN_BYTES, 0));
    assert!(
        matches!(error, SynthError::Format(Format::Raw)),
        "{error:?}"
    );
    assert_eq!("llama".parse::<Like>().unwrap(), Like::Llama);
    assert_eq!(Like::Llama.to_string(), "llama");
    assert!(matches!(
        "LLAMA".parse::<Like>(),
        Err(SynthError::UnknownFamily)
    ));
}

/// Takes so many bytes, then has no space left.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.0);
        self.0 -= n;
        if n == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_reported_with_its_offset() {
    for room in [0, 1, 5_000, 65_535] {
        let error = write(&spec(Format::Safetensors, MIN_BYTES, 0), &mut Full(room)).unwrap_err();
        match error {
            SynthError::Io { written, source } => {
                assert_eq!(written, room as u64);
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
    }
    write(&spec(Format::Safetensors, MIN_BYTES, 0), &mut Full(65_536)).unwrap();
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn whatever_is_written_parses_and_has_its_size(
        size in MIN_BYTES..150_000,
        seed: u64,
        gguf: bool,
    ) {
        let (format, unit) = if gguf { (Format::Gguf, 32) } else { (Format::Safetensors, 8) };
        let bytes = model(format, size, seed);
        prop_assert_eq!(bytes.len() as u64, size / unit * unit);
        prop_assert_eq!(detect(None, &bytes).unwrap(), format);
        let table = parse(format, &bytes).unwrap();
        prop_assert!(table.tensors().len() >= 13);
        for tensor in table.tensors() {
            let start = usize::try_from(tensor.offset).unwrap();
            let end = usize::try_from(tensor.range().end).unwrap();
            prop_assert!(bytes[start..end].iter().any(|b| *b != 0), "{}", tensor.name);
        }
        if !gguf {
            let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(reference.len(), table.tensors().len());
        }
    }
}
