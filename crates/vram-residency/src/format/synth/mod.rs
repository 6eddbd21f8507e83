//! Synthetic models: repeatable files of any size with the names, shapes and
//! types of a real family, so that benches and tests need no download.
//!
//! The bytes depend on format, family, size and seed alone, on every machine.
//! Weights are noise of the right magnitude from a counter-based generator;
//! they are written in a few tens of kilobytes of memory.

mod fit;
mod header;
mod noise;
mod tensors;

use super::Format;
use noise::Noise;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// Smallest file that holds a model of every family.
pub const MIN_BYTES: u64 = 64 * 1024;

/// Largest file that is planned: 1 TiB.
pub const MAX_BYTES: u64 = 1 << 40;

/// Bytes of weights made at a time: whole words and whole Q8_0 blocks.
const PIECE: usize = 34 * 2048;

/// The family whose names and shapes a synthetic model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Like {
    /// Decoder-only, grouped-query attention, gated feed-forward: Llama 3.
    #[default]
    Llama,
}

impl fmt::Display for Like {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Llama => "llama",
        })
    }
}

impl FromStr for Like {
    type Err = SynthError;

    fn from_str(text: &str) -> Result<Self, SynthError> {
        match text {
            "llama" => Ok(Self::Llama),
            _ => Err(SynthError::UnknownFamily),
        }
    }
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Safetensors (BF16 weights) or GGUF (Q8_0 weights, F32 norms).
    pub format: Format,
    /// The family.
    pub like: Like,
    /// Bytes of the file, [`MIN_BYTES`] to [`MAX_BYTES`]; rounded down to a
    /// multiple of 8 for safetensors, of 32 for GGUF, and then met exactly.
    pub size: u64,
    /// Chooses the weights.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Tensors in it.
    pub tensors: u64,
    /// Layers of the model.
    pub layers: u64,
    /// Width of the model.
    pub hidden: u64,
}

/// Why no model was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The size is outside what can be planned.
    #[error("size is {size} bytes, must be {MIN_BYTES} to {MAX_BYTES}")]
    Size {
        /// The size asked for.
        size: u64,
    },
    /// Plain bytes have no tensors to write.
    #[error("only safetensors and GGUF models can be written, not {0}")]
    Format(Format),
    /// No such family.
    #[error("unknown model family; known is: llama")]
    UnknownFamily,
    /// Writing failed.
    #[error("cannot write the model after {written} bytes: {source}")]
    Io {
        /// Bytes written before.
        written: u64,
        /// What the writer said.
        source: io::Error,
    },
}

/// Writes the model that `spec` describes.
///
/// # Errors
/// [`SynthError::Size`] and [`SynthError::Format`] before the first byte is
/// written; [`SynthError::Io`] where `out` fails.
pub fn write(spec: &Spec, out: &mut dyn Write) -> Result<Summary, SynthError> {
    if !(MIN_BYTES..=MAX_BYTES).contains(&spec.size) {
        return Err(SynthError::Size { size: spec.size });
    }
    let container = header::Container::of(spec.format).ok_or(SynthError::Format(spec.format))?;
    let Like::Llama = spec.like;
    let plan = fit::fit(container, spec.size).ok_or(SynthError::Size { size: spec.size })?;

    let mut out = Counted { out, written: 0 };
    let written = write_plan(&plan, spec.seed, &mut out);
    written.map_err(|source| SynthError::Io {
        written: out.written,
        source,
    })?;
    Ok(Summary {
        bytes: out.written,
        tensors: u64::try_from(plan.tensors.len()).unwrap_or(u64::MAX),
        layers: plan.dims.layers,
        hidden: plan.dims.hidden,
    })
}

/// Header, then each tensor with its padding.
fn write_plan(plan: &fit::Plan, seed: u64, out: &mut Counted<'_>) -> io::Result<()> {
    out.write_all(&plan.header)?;
    let mut buffer = vec![0; PIECE];
    for (tensor, number) in plan.tensors.iter().zip(0_u64..) {
        let mut noise = Noise::new(seed, number, tensor.dtype);
        let mut left = tensor.len;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let bytes = buffer.get_mut(..piece).unwrap_or_default();
            noise.fill(bytes);
            out.write_all(bytes)?;
            left = left.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
        }
        let padding = usize::try_from(tensor.padding).unwrap_or_default();
        buffer.fill(0);
        out.write_all(buffer.get(..padding).unwrap_or_default())?;
    }
    out.flush()
}

/// Counts what went through.
struct Counted<'w> {
    out: &'w mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        let more = u64::try_from(n).unwrap_or(u64::MAX);
        self.written = self.written.saturating_add(more);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
