//! `vram digest`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::measure::{self, Measured};
use crate::output::Output;
use crate::progress::Progress;
use crate::text;

/// Print the fs-verity digest of files, as 'fsverity digest' does
///
/// SHA-256 over a tree of 4096-byte blocks, without salt: the digest that the
/// Linux kernel enforces on files with fs-verity, and the one that a seal binds.
/// It is not what sha256sum prints; --content adds that.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram digest model.safetensors             sha256:35b370b4... model.safetensors
  vram digest --content *.safetensors       and what sha256sum prints
  curl -s URL | vram digest -               of a pipe

A file that cannot be read is reported, the others are digested.

Exit codes: 0 fine, 1 a file could not be read, 2 usage.")]
pub(crate) struct Args {
    /// Files; '-' is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also compute the plain SHA-256 of the contents (one core, slower)
    #[arg(long)]
    content: bool,
}

#[derive(Serialize)]
struct Entry {
    file: String,
    bytes: u64,
    digest: String,
    content_sha256: Option<String>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    files: Vec<Entry>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let mut files = Vec::new();
        let mut worst = None;
        for path in &self.files {
            match self.measure(path, output) {
                Ok(measured) if output.is_json() => files.push(entry(path, &measured)),
                Ok(measured) => print(path, &measured, output)?,
                Err(failure) => {
                    failure.say(output);
                    worst = worst.max(Some(failure.exit()));
                }
            }
        }
        if output.is_json() {
            let schema = "vram-residency/digest/v1";
            output.json(&Report { schema, files })?;
        }
        worst.map_or(Ok(()), |exit: Exit| Err(Failure::reported(exit)))
    }

    fn measure(&self, path: &Path, output: &Output) -> Result<Measured, Failure> {
        let name = path.to_string_lossy();
        let is_stdin = path.as_os_str() == OsStr::new("-");
        let known = std::fs::metadata(path).ok().filter(|_| !is_stdin);
        let total = known.map(|meta| meta.len());
        let progress = Progress::start(output, "hashing", &name, total);
        let advance = |bytes| progress.advance(bytes);
        let threads = measure::cores();
        let measured = if is_stdin {
            let mut stdin = std::io::stdin().lock();
            measure::stream("stdin", &mut stdin, self.content, threads, &advance)
        } else if self.content {
            measure::file_with_content(path, threads, &advance)
        } else {
            measure::file(path, threads, &advance)
        };
        Ok(measured?)
    }
}

fn entry(path: &Path, measured: &Measured) -> Entry {
    Entry {
        file: path.to_string_lossy().into_owned(),
        bytes: measured.len,
        digest: format!("sha256:{}", measured.digest),
        content_sha256: measured.content.map(|hash| text::hex(&hash)),
    }
}

/// The name byte for byte, as `fsverity digest` and `sha256sum` print it.
fn print(path: &Path, measured: &Measured, output: &Output) -> Result<(), Failure> {
    let name = path.as_os_str().as_bytes();
    output.line([format!("sha256:{} ", measured.digest).as_bytes(), name].concat())?;
    let Some(hash) = measured.content else {
        return Ok(());
    };
    let content = format!("content-sha256:{} ", text::hex(&hash));
    output.line([content.as_bytes(), name].concat())
}
