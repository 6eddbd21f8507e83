//! `vram audit prove` and `vram audit check`.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use vram_residency::audit::check::DirFiles;
use vram_residency::audit::note::Checkpoint;
use vram_residency::audit::proof::{MAX_PROOF_BYTES, Proof, ProofError, Proved};
use vram_residency::clock::Timestamp;

use super::{Trust, checkpoint, unchecked};
use crate::failure::Failure;
use crate::output::Output;
use crate::signing::read;
use crate::text::printable;

/// Prove one event of a log, or that it grew from an earlier checkpoint
///
/// The log must verify. The proof, which --json prints, is checked without the
/// log: 'vram audit check' needs it, a public key of the log, and at best a
/// checkpoint that came by another way. It carries the changes of the log's key
/// ('vram audit rekey'), so that who trusts an older key can check it, too.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit prove log --line 4 --trust audit.pub --json > proof.json
  vram audit prove log --since kept/checkpoint --trust audit.pub --json > growth.json

Exit codes: 0 fine, 1 failure, 2 usage, 3 the log is wrong.")]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub(super) struct Prove {
    /// The log's directory
    dir: PathBuf,
    /// Number of the event, as 'vram audit show' prints it
    #[arg(long, value_name = "N", group = "what")]
    line: Option<u64>,
    /// The earlier checkpoint, or an attestation with one
    #[arg(long, value_name = "FILE", group = "what")]
    since: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
}

/// Check a proof without the log
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram audit check proof.json --trust audit.pub
  vram audit check proof.json --trust audit.pub --checkpoint kept/checkpoint

Exit codes: 0 fine, 1 failure, 2 usage, 3 the proof does not hold.")]
pub(super) struct Check {
    /// What 'vram audit prove --json' printed
    proof: PathBuf,
    /// The log's checkpoint that came by another way, or an attestation with it
    /// [default: the proof's own]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    proved: &'static str,
    origin: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_size: Option<u64>,
}

impl Prove {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let trusted = self.trust.load()?;
        let files = DirFiles::new(&self.dir);
        let proof = match (self.line, &self.since) {
            (Some(seq), _) => Proof::of_event(&files, &trusted.options(), seq),
            (None, Some(path)) => Proof::since(&files, &trusted.options(), &checkpoint(path)?),
            (None, None) => return Err(Failure::usage("name --line or --since")),
        };
        let proof = proof.map_err(|error| self.refused(error))?;
        if output.is_json() {
            return output.line(proof.to_json().map_err(|error| self.refused(error))?);
        }
        output.note("--json prints the proof itself, for 'vram audit check'");
        let (Proof::Inclusion { path, .. } | Proof::Consistency { path, .. }) = &proof else {
            return Ok(());
        };
        let shown = match self.line {
            Some(seq) => format!("event {seq}"),
            None => "growth".to_owned(),
        };
        output.line(format!("proof        {shown}, {} hashes", path.len()))
    }

    fn refused(&self, error: ProofError) -> Failure {
        match error {
            ProofError::Check(error) => unchecked(&self.dir, self.since.as_deref(), error),
            ProofError::NotCovered { .. }
            | ProofError::Retired { .. }
            | ProofError::Adopted { .. } => Failure::new(error.to_string()),
            error => Failure::verification(error.to_string())
                .hint("'vram audit verify' names everything that is wrong with the log"),
        }
    }
}

impl Check {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let trusted = self.trust.load()?;
        let name = match &self.checkpoint {
            Some(kept) => format!("{} under {}", self.proof.display(), kept.display()),
            None => self.proof.display().to_string(),
        };
        let refused = |error: ProofError| {
            let failure = match &error {
                ProofError::Format { .. } => Failure::new(error.to_string()),
                ProofError::OtherCheckpoint { .. } => Failure::verification(error.to_string())
                    .hint("name the checkpoint that the proof was made for, or have it made again"),
                _ => Failure::verification(error.to_string()),
            };
            failure.naming(&name)
        };
        let proof = Proof::from_json(read(&self.proof, MAX_PROOF_BYTES)?.trim_end());
        let proof = proof.map_err(refused)?;
        let note = self.checkpoint.as_deref().map(checkpoint).transpose()?;
        let proved = proof
            .check(&trusted.of_proof(), note.as_deref())
            .map_err(refused)?;
        report(&proved, note.is_some(), output)
    }
}

fn report(proved: &Proved, kept: bool, output: &Output) -> Result<(), Failure> {
    let (last, seq, event, earlier) = match proved {
        Proved::Event(event, seq, last) => {
            (last, Some(*seq), serde_json::to_value(event).ok(), None)
        }
        Proved::Unknown(line, seq, last) => {
            output.note("the event is of another version: its fields are not known to this one");
            (last, Some(*seq), serde_json::from_str(line).ok(), None)
        }
        Proved::Prefix(first, last) => (last, None, None, Some(first)),
        _ => {
            return Err(Failure::new(
                "this proof is of a kind that is not known here",
            ));
        }
    };
    if output.is_json() {
        return output.json(&Report {
            schema: "vram-residency/audit-proved/v1",
            proved: if seq.is_some() { "event" } else { "growth" },
            origin: last.origin.as_str(),
            size: last.size,
            seq,
            event,
            earlier_size: earlier.map(|first| first.size),
        });
    }
    if let (Some(seq), Some(event)) = (seq, event) {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let time = event.get("timestamp").and_then(Value::as_u64);
        let time = Timestamp::from_nanos(time.unwrap_or_default());
        let (name, worker) = (text("event_type"), text("worker_id"));
        let text = format!("event        {seq} {name} of {worker} at {time}");
        output.line(printable(&text))?;
    }
    if let Some(first) = earlier {
        output.line(format!("growth       from {} events", first.size))?;
    }
    log(last, kept, output)
}

fn log(last: &Checkpoint, kept: bool, output: &Output) -> Result<(), Failure> {
    let (origin, size) = (&last.origin, last.size);
    output.line(format!("log          {origin}, {size} events"))?;
    let whose = if kept {
        "the one given"
    } else {
        "the proof's own"
    };
    output.line(format!("checkpoint   {whose}"))?;
    output.line("result       good")
}
