//! Writes small GGUF files, right and wrong ones, for the tests of the reader.

use vram_residency::format::{Format, TensorTable, parse};

/// ggml's number for single-precision floats.
pub(crate) const F32: u32 = 0;

/// Writes GGUF files piece by piece, wrong ones included.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    pub(crate) version: u32,
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    /// Counts to claim instead of the real ones.
    pub(crate) claim: (Option<u64>, Option<u64>),
    data: usize,
}

pub(crate) fn text(value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self {
            version: 3,
            ..Self::default()
        }
    }

    pub(crate) fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let mut bytes = text(key.as_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(value);
        self.pairs.push(bytes);
        self
    }

    pub(crate) fn array(self, key: &str, kind: u32, len: u64, values: &[u8]) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(values);
        self.pair(key, 9, &bytes)
    }

    pub(crate) fn tensor(mut self, name: &[u8], dims: &[u64], kind: u32, offset: u64) -> Self {
        let mut bytes = text(name);
        bytes.extend_from_slice(&u32::try_from(dims.len()).unwrap().to_le_bytes());
        dims.iter()
            .for_each(|d| bytes.extend_from_slice(&d.to_le_bytes()));
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    /// Bytes of the data section.
    pub(crate) fn data(mut self, len: usize) -> Self {
        self.data = len;
        self
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend_from_slice(&self.version.to_le_bytes());
        let tensors = self.claim.0.unwrap_or(self.tensors.len() as u64);
        let pairs = self.claim.1.unwrap_or(self.pairs.len() as u64);
        bytes.extend_from_slice(&tensors.to_le_bytes());
        bytes.extend_from_slice(&pairs.to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }

    pub(crate) fn aligned(&self, alignment: usize) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(alignment) + self.data, 0);
        bytes
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        self.aligned(32)
    }

    pub(crate) fn table(&self) -> TensorTable {
        parse(Format::Gguf, &self.file()).unwrap()
    }
}
