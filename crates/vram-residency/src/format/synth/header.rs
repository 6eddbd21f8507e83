//! The headers of synthetic models, byte for byte.

use super::tensors::{Dims, LLAMA_CPP, Scheme, TRANSFORMERS, Tensor};
use crate::format::Format;
use crate::format::gguf;
use std::fmt::Write as _;

/// The file format around the tensors.
#[derive(Clone, Copy)]
pub(super) enum Container {
    Safetensors,
    Gguf,
}

impl Container {
    pub(super) const fn of(format: Format) -> Option<Self> {
        match format {
            Format::Safetensors => Some(Self::Safetensors),
            Format::Gguf => Some(Self::Gguf),
            Format::Raw => None,
        }
    }

    pub(super) const fn scheme(self) -> &'static Scheme {
        match self {
            Self::Safetensors => &TRANSFORMERS,
            Self::Gguf => &LLAMA_CPP,
        }
    }

    /// What every offset of a tensor, and the file's length, is a multiple of.
    pub(super) const fn unit(self) -> u64 {
        match self {
            Self::Safetensors => 8,
            Self::Gguf => gguf::DEFAULT_ALIGNMENT,
        }
    }

    /// All bytes before the data section, without padding.
    pub(super) fn header(self, dims: Dims, tensors: &[Tensor]) -> Vec<u8> {
        match self {
            Self::Safetensors => json(tensors),
            Self::Gguf => binary(dims, tensors),
        }
    }

    /// Pads the header to `len` bytes, the way each format allows.
    pub(super) fn pad(self, header: &mut Vec<u8>, len: u64) {
        let target = usize::try_from(len).unwrap_or_default();
        match self {
            Self::Safetensors => {
                header.resize(target, b' ');
                // The length in front does not count itself.
                let json = len.saturating_sub(8).to_le_bytes();
                header.splice(..8, json);
            }
            Self::Gguf => header.resize(target, 0),
        }
    }
}

/// Room for the length, then the JSON. Names are plain ASCII of our own, so
/// nothing needs escaping.
fn json(tensors: &[Tensor]) -> Vec<u8> {
    let mut text = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut at = 0_u64;
    for tensor in tensors {
        let end = at.saturating_add(tensor.len);
        let shape: Vec<_> = tensor.shape.iter().map(ToString::to_string).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#","{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{at},{end}]}}"#,
            tensor.name,
            tensor.dtype,
            shape.join(",")
        );
        at = end;
    }
    text.push('}');
    [[0; 8].as_slice(), text.as_bytes()].concat()
}

/// A growing GGUF header.
struct Gguf(Vec<u8>);

impl Gguf {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, value: &str) {
        self.u64(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(value.as_bytes());
    }

    fn text_pair(&mut self, key: &str, value: &str) {
        self.text(key);
        self.u32(8);
        self.text(value);
    }

    /// A 32-bit unsigned pair; every value here is far smaller.
    fn number_pair(&mut self, key: &str, value: u64) {
        self.text(key);
        self.u32(4);
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }
}

fn binary(dims: Dims, tensors: &[Tensor]) -> Vec<u8> {
    let mut out = Gguf(gguf::MAGIC.to_vec());
    let heads = dims.hidden.div_ceil(128).max(4);
    let numbers = [
        ("llama.block_count", dims.layers),
        ("llama.context_length", 8_192),
        ("llama.embedding_length", dims.hidden),
        ("llama.feed_forward_length", dims.ff()),
        ("llama.attention.head_count", heads),
        ("llama.attention.head_count_kv", heads.div_ceil(4)),
        ("llama.vocab_size", dims.vocab),
        // LLAMA_FTYPE_MOSTLY_Q8_0
        ("general.file_type", 7),
        ("general.quantization_version", 2),
    ];
    let texts = [
        ("general.architecture", "llama"),
        ("general.name", "synthetic"),
    ];
    let pairs = numbers.len().saturating_add(texts.len());
    out.u32(3);
    out.u64(u64::try_from(tensors.len()).unwrap_or(u64::MAX));
    out.u64(u64::try_from(pairs).unwrap_or(u64::MAX));
    texts
        .iter()
        .for_each(|(key, value)| out.text_pair(key, value));
    numbers
        .iter()
        .for_each(|(key, value)| out.number_pair(key, *value));
    let mut at = 0_u64;
    for tensor in tensors {
        out.text(&tensor.name);
        out.u32(u32::try_from(tensor.shape.len()).unwrap_or(u32::MAX));
        tensor.shape.iter().rev().for_each(|dim| out.u64(*dim));
        out.u32(tensor.dtype.gguf_code().unwrap_or(u32::MAX));
        out.u64(at);
        at = at.saturating_add(tensor.len).saturating_add(tensor.padding);
    }
    out.0
}
