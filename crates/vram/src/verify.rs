//! `vram verify`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vram_residency::Record;
use vram_residency::device::DeviceKind;
use vram_residency::error::{Error, Misuse};
use vram_residency::key::RootKey;
use vram_residency::receipt::Nonce;
use vram_residency::seal::Authentic;
use vram_residency::verify::{FileCheck, check_digest, check_record};

use crate::failure::Failure;
use crate::keys::{KeyArgs, no_key};
use crate::measure;
use crate::output::Output;
use crate::papers::{self, Check, Papers};
use crate::progress::Progress;
use crate::records::{self, Records};
use crate::signing::{TrustArgs, believed};

/// Check a record, a receipt or an attestation, and the file that it describes
///
/// Checks a record's tag under the sealing key, or a signature under a public key
/// that is trusted, then that the file has the sealed length and digest. It does
/// not look at VRAM: a record tells what was sealed, not what lies in a device now.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram verify model.json model.safetensors --key-file worker.key
  vram verify model.json --tag-only --key-file worker.key
  vram verify group.json part1.safetensors part2.safetensors --key-file worker.key
  vram verify model.json --tag-only --key-file worker.key --revoked revoked.json --trust op.pub
  vram verify receipt.json model.safetensors --trust worker.pub
  vram verify answer.json --nonce 8f0c... --trust worker.pub
  vram verify tagged.json --nonce 8f0c... --key-file worker.key

A RECORD that holds several records (a group, or one a line) needs as many
FILEs, in its order.

Exit codes: 0 fine, 1 failure (no key, no file), 2 usage, 3 the record or a file is
not what was sealed.")]
pub(crate) struct Args {
    /// What 'vram seal --record' or '--receipt' or 'vram attest' wrote
    record: PathBuf,
    /// The files that were sealed; none is needed with --trust or --nonce
    #[arg(
        value_name = "FILE",
        required_unless_present_any = ["tag_only", "keys", "nonce"],
        conflicts_with = "tag_only"
    )]
    files: Vec<PathBuf>,
    /// Check the tag alone, and no file
    #[arg(long)]
    tag_only: bool,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// The nonce that an attestation must answer
    #[arg(long, value_name = "HEX")]
    nonce: Option<Nonce>,
}

/// What was checked about one record.
#[derive(Serialize)]
struct Checked {
    record: Record,
    file: Option<String>,
    tag: &'static str,
    contents: &'static str,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    checked: Vec<Checked>,
    group: bool,
    not_checked: Vec<&'static str>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        if let Some(papers) = papers::open(&self.record)? {
            return self.paper(&papers, output);
        }
        self.trusts_no_signer()?;
        if self.nonce.is_some() || self.trust.simulated {
            let name = self.record.display();
            return Err(Failure::usage(format!(
                "{name} is no attestation; --nonce and --simulated are about those"
            )));
        }
        let trusted = self.trust.load()?;
        let key = self.key.load()?.ok_or_else(|| no_key("a record"))?;
        let found = records::read(&self.record)?;
        self.check_count(&found)?;
        let name = self.record.to_string_lossy();
        let mut checked = Vec::new();
        // Tags first: a file is not read for a record that nobody vouches for.
        for record in &found.records {
            let _ = authenticate(record, &key).map_err(|failure| failure.naming(&name))?;
            let current = trusted.check_sealed(&key, record);
            current.map_err(|error| believed(&name, error))?;
        }
        for (i, record) in found.records.iter().enumerate() {
            checked.push(self.check(record, &key, i, output)?);
        }
        self.report(checked, found.is_group, output)
    }

    /// What is under the sealing key is under nobody's signature.
    fn trusts_no_signer(&self) -> Result<(), Failure> {
        if self.trust.keys.is_empty() || self.trust.revoked.is_named() {
            return Ok(());
        }
        let name = self.record.display();
        Err(Failure::usage(format!(
            "{name} is not signed; --trust is about what is, and about --revoked"
        ))
        .hint("check it with the key that sealed it: --key-file FILE"))
    }

    fn paper(&self, papers: &Papers, output: &Output) -> Result<(), Failure> {
        let tagged = matches!(papers, Papers::Tagged(_));
        if tagged {
            self.trusts_no_signer()?;
        } else {
            self.trusts_a_signer()?;
        }
        let key = if tagged { self.key.load()? } else { None };
        let check = Check {
            name: &self.record.to_string_lossy(),
            files: &self.files,
            trusted: &self.trust.load()?,
            key: key.as_ref(),
            nonce: self.nonce.as_ref(),
        };
        papers.verify(&check, output)
    }

    fn trusts_a_signer(&self) -> Result<(), Failure> {
        if self.trust.keys.is_empty() {
            return Err(
                Failure::usage("a receipt or an attestation is checked with a public key")
                    .hint("add --trust KEY, with what 'vram key public' prints"),
            );
        }
        if self.tag_only {
            return Err(Failure::usage(
                "--tag-only is about records; a receipt or an attestation has a signature",
            ));
        }
        Ok(())
    }

    fn check_count(&self, found: &Records) -> Result<(), Failure> {
        let (files, records) = (self.files.len(), found.records.len());
        if self.tag_only || files == records {
            return Ok(());
        }
        let name = self.record.display();
        Err(Failure::usage(format!(
            "{name} holds {records} record(s), and {files} file(s) are named"
        ))
        .hint("name one FILE for each record, in the same order"))
    }

    fn check(
        &self,
        record: &Record,
        key: &RootKey,
        index: usize,
        output: &Output,
    ) -> Result<Checked, Failure> {
        let authentic = authenticate(record, key)?;
        let file = self.files.get(index);
        if let Some(path) = file {
            compare(&authentic, path, output)?;
        }
        Ok(Checked {
            record: record.clone(),
            file: file.map(|path| path.to_string_lossy().into_owned()),
            tag: "ok",
            contents: if file.is_some() { "ok" } else { "not checked" },
        })
    }

    fn report(&self, checked: Vec<Checked>, group: bool, output: &Output) -> Result<(), Failure> {
        let mut not_checked =
            vec!["VRAM: a record tells what was sealed, not what is resident now"];
        if self.tag_only {
            not_checked.push("contents: no file was read (--tag-only)");
        }
        let simulated = |c: &Checked| c.record.device_kind == DeviceKind::Simulated;
        if checked.iter().any(simulated) {
            not_checked.push("a GPU: this was sealed on a simulated device");
        }
        if output.is_json() {
            return output.json(&Report {
                schema: "vram-residency/verify/v1",
                checked,
                group,
                not_checked,
            });
        }
        for one in &checked {
            lines(one).iter().try_for_each(|line| output.line(line))?;
        }
        if group {
            output.line(format!(
                "group        complete, {} members in order",
                checked.len()
            ))?;
        }
        not_checked
            .iter()
            .try_for_each(|what| output.line(format!("not checked  {what}")))
    }
}

/// Checks the tag. A record that is marked as not sealed is a failed check too.
fn authenticate<'r>(record: &'r Record, key: &RootKey) -> Result<Authentic<'r>, Failure> {
    check_record(record, key).map_err(|error| match error {
        Error::Misuse(Misuse::NotSealed) => {
            Failure::verification("the record says that nothing was sealed")
                .hint("vram makes no such records; do not trust it")
        }
        error => error.into(),
    })
}

fn compare(record: &Authentic<'_>, path: &Path, output: &Output) -> Result<(), Failure> {
    let name = path.to_string_lossy();
    let total = std::fs::metadata(path).ok().map(|meta| meta.len());
    let progress = Progress::start(output, "hashing", &name, total);
    let advance = |bytes| progress.advance(bytes);
    let measured = measure::file(path, measure::cores(), &advance)?;
    drop(progress);
    let check = check_digest(record, measured.digest, measured.len);
    if check.matches {
        return Ok(());
    }
    Err(mismatch(&name, record.record(), &check))
}

fn mismatch(name: &str, sealed: &Record, found: &FileCheck) -> Failure {
    let what = if found.len == sealed.vram_bytes {
        "it has the sealed length and other contents".to_owned()
    } else {
        format!(
            "{} bytes were sealed, it has {}",
            sealed.vram_bytes, found.len
        )
    };
    Failure::verification(format!("{name} is not the sealed file: {what}"))
        .with_note(format!("sealed sha256:{}", sealed.digest))
        .with_note(format!("found  sha256:{}", found.actual))
        .hint("the record is authentic, the file is not the one; fetch it again and compare")
}

fn lines(checked: &Checked) -> Vec<String> {
    let record = &checked.record;
    let mut lines = vec![
        format!("shard        {}", record.shard_id),
        format!(
            "sealed       {} by {} on {} device {}",
            record.sealed_at, record.worker_id, record.device_kind, record.device_uuid
        ),
        format!("digest       sha256:{}", record.digest),
        format!("tag          {} (key {})", checked.tag, record.key_id),
    ];
    lines.extend(papers::signer(record));
    if let Some(file) = &checked.file {
        let file = crate::text::printable(file);
        lines.push(format!(
            "contents     {} ({file}, {} bytes)",
            checked.contents, record.vram_bytes
        ));
    }
    lines
}
