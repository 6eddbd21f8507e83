//! `vram synth`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vram_residency::format::Format;
use vram_residency::format::synth::{self, Like, Spec, Summary};
use vram_residency::load::CancelToken;

use crate::failure::Failure;
use crate::fresh::Fresh;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::text;

/// Bytes that are written at a time.
const BUFFER: usize = 4 << 20;

/// Write a synthetic model: a repeatable file with the names, shapes and types
/// of a real family
///
/// For benches and tests that need no download. Equal options give equal bytes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram synth model.safetensors --size 4GiB
  vram synth model.gguf --size 512MiB --like llama --seed 7

The name's extension says what is written: .safetensors or .gguf. Lengths are
rounded down to a multiple of 8 bytes for safetensors and of 32 for GGUF. The
file has its name once it is whole; when it cannot be finished, or at a signal,
nothing of it stays. (After SIGKILL .OUT.PID.N.tmp does, where the file system
knows no files without a name: FAT, some network file systems.)

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(crate) struct Args {
    /// The file to make; it must not exist
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Length of the file, rounded down (below): bytes, or a number with KiB,
    /// MiB, GiB or TiB
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    size: u64,
    /// The family: llama
    #[arg(long, value_name = "FAMILY", default_value = "llama")]
    like: Like,
    /// Chooses the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    file: String,
    bytes: u64,
    tensors: u64,
    layers: u64,
    hidden: u64,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let name = self.out.to_string_lossy().into_owned();
        let extension = self.out.extension().unwrap_or_default();
        let extension = extension.to_string_lossy().to_ascii_lowercase();
        let format = Format::of_extension(&extension).ok_or_else(|| {
            Failure::usage(format!("{name} does not say what to write"))
                .hint("end the name with .safetensors or .gguf")
        })?;
        let spec = Spec {
            format,
            like: self.like,
            size: self.size,
            seed: self.seed,
        };
        let made = write(&self.out, &spec)?;
        if output.is_json() {
            return output.json(&Report {
                schema: "vram-residency/synth/v1",
                file: name,
                bytes: made.bytes,
                tensors: made.tensors,
                layers: made.layers,
                hidden: made.hidden,
            });
        }
        output.line(format!(
            "{}: {} bytes ({}), {}, {} of width {}",
            text::printable(&name),
            made.bytes,
            text::size(made.bytes),
            text::count(made.tensors, "tensor"),
            made.layers,
            made.hidden,
        ))
    }
}

/// Writes a new file; an unfinished one does not stay.
fn write(path: &Path, spec: &Spec) -> Result<Summary, Failure> {
    let name = path.display();
    let interrupt = Interrupt::listen()?;
    let failed = |error: io::Error| {
        let taken = error.kind() == io::ErrorKind::AlreadyExists;
        let failure = Failure::new(format!("cannot make {name}: {error}"));
        if taken {
            return failure.hint("nothing is replaced: name a new file, or remove that one first");
        }
        failure
    };
    let (fresh, file) = Fresh::create(path).map_err(failed)?;
    let token = interrupt.token();
    let out = Cancellable { file, token };
    let made = synth::write(spec, &mut BufWriter::with_capacity(BUFFER, out));
    if token.is_cancelled() {
        return Err(Failure::new(format!(
            "making {name} was cancelled; nothing of it stays"
        )));
    }
    let made = made.map_err(|error| Failure::new(format!("{name}: {error}")))?;
    fresh.finish().map_err(failed)?;
    Ok(made)
}

/// A file that takes nothing more once it was cancelled.
struct Cancellable<'t> {
    file: File,
    token: &'t CancelToken,
}

impl Write for Cancellable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.token.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
