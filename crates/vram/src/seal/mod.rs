//! `vram seal`: load, seal, verify, report, and free or hold.

mod again;
pub(crate) mod args;
mod asked;
mod devices;
mod hold;
mod load;
mod paper;
mod placing;
mod report;
mod run;
mod scrubbing;
mod view;

use std::path::{Path, PathBuf};
use std::time::Duration;

use vram_digest::FileDigest;
use vram_residency::load::Model;

use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::output::Output;
use crate::worker::WorkerArgs;
use crate::{folder, text};
use args::{FormatArg, ModeArg};

/// Load models into VRAM, seal them, verify them there, and report
///
/// The digest is computed from device memory after the copy. Afterwards the
/// memory is wiped and freed, unless --hold keeps it. If loading, sealing,
/// verifying or freeing fails, nothing stays on the device and no record is
/// written.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram seal model.safetensors                     on the first GPU
  vram seal model.safetensors --device sim        without a GPU
  vram seal model.safetensors --expect sha256:35b370b4...
  vram seal model.safetensors --key-file worker.key --record model.json
  vram seal part1.gguf part2.gguf --group --record group.json --key-file worker.key
  vram seal big-00001-of-00002.gguf                both parts
  vram seal model.safetensors.index.json --device cuda:0 --device cuda:1
  vram seal model.safetensors.index.json --record group.json --key-file worker.key
  vram seal model.safetensors --receipt receipt.json --sign-key worker.sign
  vram seal model/weights.bin --allow allow.toml --trust op.pub
  vram seal model/weights.bin --policy policy.toml
  vram seal model.safetensors --audit log --audit-key audit.key
  vram seal model.safetensors --hold --every 60s  keep it and keep proving it
  vram seal model.safetensors --device sim:2GiB,flip=4096:0   see a failure

A FILE that is an index, a part of a split GGUF or a directory with one of them
is a model of several files: they are sealed as one group. Several FILEs of one
device are sealed one after the other; --record then holds one record a line, or
one group record with --group. The first failure ends the command, once --retries are
used up where it is one of reading.

With several --device the files are spread over them, the largest first, each
to the device that has to load the least; where one has no room left then, they
lie as 'vram plan' says. Files are loaded on up to 8 devices at the same time, and
verified on all of them. No file is cut.

The simulated device is host memory: sim (8 GiB) or sim:SIZE, and after that any
of these, with commas between them:
  flip=OFFSET:BIT   this bit of the first shard that has it flips once it is sealed
  granularity=SIZE  every allocation is rounded up to a multiple of SIZE
  ordinal=N         its number; it is part of the device's identity
  seed=N            the same model of device with another identity
  discard           contents are measured and dropped, so that a model may be
                    larger than memory; what was dropped cannot be verified,
                    so the digest is told and the command ends with exit 1

--allow and --policy let only files be sealed that 'vram approve' listed, by the
digest that the device measured. A policy file is TOML:
  require = 'signed'        or 'nothing': signers are recorded where known
  allow = ['allow.toml']    lists, from where the policy lies
  trust = ['HEX']           public keys that sign them ('vram key public')
  revoked = 'revoked.json'  optional: keys that are believed no longer
  revoked_seen = 'r1.json'  optional: the list of them that was believed last;
                            an older one, or one that leaves a key out, is refused
  revoked_by = ['HEX']      optional: keys that sign it, instead of those in trust

While --hold keeps them, every shard is verified every --every, and a scrubber
reads them in a secret order in between, at --scrub-rate bytes a second. SIGUSR1
pauses the scrubber, SIGUSR2 lets it go on.

Exit codes: 0 sealed and verified, 1 failure, 2 usage, 3 the bytes are not the
expected or approved ones, or VRAM was damaged. SIGINT and SIGTERM cancel a load or what
follows it (exit 1; no record is written) and end a hold (exit 0).")]
pub(crate) struct Args {
    /// Models, or the shards of one
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// cuda:N; or the simulated device: sim, sim:SIZE or sim:SIZE,OPTION,...
    /// (below); once for each device that may hold a part of the FILEs
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: Vec<DeviceSpec>,
    /// fs-verity digest that the bytes in VRAM must have ('vram digest', 'fsverity digest')
    #[arg(long, value_name = "sha256:HEX", value_parser = args::digest)]
    expect: Option<FileDigest>,
    /// Plain SHA-256 that the file must have ('sha256sum')
    #[arg(long, value_name = "HEX", value_parser = args::content)]
    expect_content: Option<String>,
    /// Record the plain SHA-256 as well (one core, slower)
    #[arg(long)]
    content: bool,
    /// How to read the files
    #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
    format: FormatArg,
    #[command(flatten)]
    worker: WorkerArgs,
    /// The FILEs are the shards of one model: all sealed or none
    #[arg(long)]
    group: bool,
    /// Where to write the record; an older one there is replaced
    #[arg(long, value_name = "OUT.json")]
    record: Option<PathBuf>,
    /// Where to write the receipt: the record, signed for everybody to check;
    /// an older one there is replaced
    #[arg(long, value_name = "OUT.json", requires = "sign_key")]
    receipt: Option<PathBuf>,
    /// Give up a file when opening and loading it take longer than this; with
    /// --retries, one try at it
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    timeout: Option<Duration>,
    /// Read a file again, so often, when reading it failed; files that are
    /// loaded stay. One of a group that changed ends the command
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Keep the models resident and verify them again until interrupted
    #[arg(long)]
    hold: bool,
    /// Time between two verifications
    #[arg(long, value_name = "TIME", value_parser = args::duration, default_value = "60s", requires = "hold")]
    every: Duration,
    /// How to verify again
    #[arg(long, value_enum, default_value_t = ModeArg::Full, requires = "hold")]
    mode: ModeArg,
    /// Bytes a second that the scrubber checks in between; 0 is none
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size, default_value = "256MiB", requires = "hold")]
    scrub_rate: u64,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        self.check()?;
        run::run(&self, output)
    }

    /// Options that say something about one file.
    fn one_only(&self) -> [(&'static str, bool); 3] {
        [
            ("--id", self.worker.id.is_some()),
            ("--expect", self.expect.is_some()),
            ("--expect-content", self.expect_content.is_some()),
        ]
    }

    /// What the definitions cannot say.
    fn check(&self) -> Result<(), Failure> {
        for (option, given) in self.one_only() {
            if given && self.files.len() > 1 {
                return Err(Failure::usage(format!(
                    "{option} is about one FILE, {} are named",
                    self.files.len()
                ))
                .hint("seal them one by one"));
            }
        }
        let stands_for_several = |path: &&PathBuf| Model::is_index(path) || path.is_dir();
        if let (Some(path), [_, _, ..]) = (
            self.files.iter().find(stands_for_several),
            self.files.as_slice(),
        ) {
            return Err(Failure::usage(format!(
                "{} stands for several files and cannot be one of several FILEs",
                text::printable(&path.to_string_lossy())
            ))
            .hint("seal it by itself, or name the files of it"));
        }
        for (what, path) in [("record", &self.record), ("receipt", &self.receipt)] {
            if let Some(path) = path {
                check_place(what, path)?;
            }
        }
        if let (Some(record), Some(receipt)) = (&self.record, &self.receipt)
            && folder::is_same_name(record, receipt)
        {
            return Err(Failure::usage("--record and --receipt name the same file")
                .hint("name two: one would replace the other"));
        }
        Ok(())
    }
}

/// Better now than after minutes of loading.
fn check_place(what: &str, path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Err(Failure::usage(format!("--{what} takes a file, not '-'"))
            .hint("stdout has the results, with --json for programs; a file of that name is ./-"));
    }
    if path.is_dir() || !folder::of(path).is_dir() {
        let name = path.display();
        return Err(Failure::new(format!(
            "cannot write {what} {name}: not a file in an existing directory"
        )));
    }
    Ok(())
}
