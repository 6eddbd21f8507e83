//! Receipts and attestations: writing them, and what `vram verify` says of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vram_residency::Record;
use vram_residency::device::DeviceKind;
use vram_residency::error::Error;
use vram_residency::key::{KeyId, RootKey};
use vram_residency::receipt::{
    ATTESTED_SCHEMA, Answered, Attested, Facts, Nonce, RECEIPT_SCHEMA, Receipt, ReceiptError,
    TAGGED_SCHEMA, Tagged, check_set,
};

use crate::failure::Failure;
use crate::keys::no_key;
use crate::measure;
use crate::output::Output;
use crate::progress::Progress;
use crate::signing::{Trusted, believed, read};
use crate::text::printable;

/// Longest file of papers that is read, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// A file of papers, not yet believed.
pub(crate) enum Papers {
    Receipts(Vec<Receipt>),
    Attested(Box<Attested>),
    Tagged(Box<Tagged>),
}

#[derive(Deserialize)]
struct Peek {
    schema: String,
}

/// The papers in a file, or `None` when its first line is something else.
pub(crate) fn open(path: &Path) -> Result<Option<Papers>, Failure> {
    let Ok(text) = read(path, MAX_BYTES) else {
        // No regular file, or not readable: whoever reads it as a record says why it cannot be read.
        return Ok(None);
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let schema = serde_json::from_str::<Peek>(first).map(|peek| peek.schema);
    let wrong = |error: ReceiptError| believed(&path.to_string_lossy(), error);
    match schema.as_deref() {
        Ok(RECEIPT_SCHEMA) => {
            let receipts = std::iter::once(first).chain(lines).map(Receipt::from_json);
            let receipts: Result<Vec<_>, _> = receipts.collect();
            Ok(Some(Papers::Receipts(receipts.map_err(wrong)?)))
        }
        Ok(ATTESTED_SCHEMA) => {
            let attested = Attested::from_json(&text).map_err(wrong)?;
            Ok(Some(Papers::Attested(Box::new(attested))))
        }
        Ok(TAGGED_SCHEMA) => {
            let tagged = Tagged::from_json(&text).map_err(wrong)?;
            Ok(Some(Papers::Tagged(Box::new(tagged))))
        }
        _ => Ok(None),
    }
}

/// What a command writes.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Receipts,
    Attestation,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Receipts => "receipt",
            Self::Attestation => "attestation",
        }
    }
}

/// Refuses a target that is something else than a paper of the kind.
pub(crate) fn check_target(path: &Path, kind: Kind) -> Result<(), Failure> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    let is_one = || {
        matches!(
            (open(path), kind),
            (Ok(Some(Papers::Receipts(_))), Kind::Receipts)
                | (
                    Ok(Some(Papers::Attested(_) | Papers::Tagged(_))),
                    Kind::Attestation
                )
        )
    };
    if meta.is_file() && (meta.len() == 0 || is_one()) {
        return Ok(());
    }
    let message = format!("{} is no {}", path.display(), kind.name());
    Err(Failure::new(message).hint("it is not replaced by one; name another file"))
}

/// How papers are checked.
pub(crate) struct Check<'a> {
    pub(crate) name: &'a str,
    pub(crate) files: &'a [PathBuf],
    pub(crate) trusted: &'a Trusted,
    /// The sealing key, for what is tagged and not signed.
    pub(crate) key: Option<&'a RootKey>,
    pub(crate) nonce: Option<&'a Nonce>,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    checked: Vec<Checked<'a>>,
    not_checked: Vec<&'static str>,
}

#[derive(Serialize)]
struct Checked<'a> {
    kind: &'static str,
    record: &'a Record,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Facts>,
    #[serde(flatten)]
    under: Under,
    file: Option<String>,
    contents: &'static str,
}

/// What makes a paper believed.
#[derive(Serialize)]
#[serde(untagged)]
enum Under {
    Signature {
        signature: &'static str,
        signed_by: KeyId,
        #[serde(skip_serializing_if = "Option::is_none")]
        certified_by: Option<KeyId>,
    },
    Tag {
        tag: &'static str,
        key_id: KeyId,
    },
}

impl Under {
    const fn signature(signed_by: KeyId, certified_by: Option<KeyId>) -> Self {
        Self::Signature {
            signature: "ok",
            signed_by,
            certified_by,
        }
    }
}

impl Papers {
    /// Believes all of them or none, then compares files.
    pub(crate) fn verify(&self, check: &Check<'_>, output: &Output) -> Result<(), Failure> {
        let mut checked = match self {
            Self::Receipts(receipts) => {
                let checked = receipts.iter().map(|receipt| check.receipt(receipt));
                let checked = checked.collect::<Result<Vec<_>, _>>()?;
                check.set(&checked)?;
                checked
            }
            Self::Attested(attested) => vec![check.attested(attested)?],
            Self::Tagged(tagged) => vec![check.tagged(tagged)?],
        };
        check.count(checked.len())?;
        for (one, path) in checked.iter_mut().zip(check.files) {
            compare(one.record, path, output)?;
            one.file = Some(path.to_string_lossy().into_owned());
            one.contents = "ok";
        }
        report(checked, output)
    }
}

impl Check<'_> {
    fn receipt<'r>(&self, receipt: &'r Receipt) -> Result<Checked<'r>, Failure> {
        if self.nonce.is_some() {
            return Err(Failure::usage(
                "a receipt answers no nonce; only an attestation does",
            ));
        }
        let checked = receipt.check(&self.trusted.trust());
        let checked = checked.map_err(|error| believed(self.name, error))?;
        let operator = checked.certificate().map(|c| c.operator().id());
        Ok(Checked {
            kind: "receipt",
            record: checked.record(),
            facts: None,
            under: Under::signature(checked.key_id(), operator),
            file: None,
            contents: "not checked",
        })
    }

    /// Whether receipts that are good one by one are all of a model.
    fn set(&self, checked: &[Checked<'_>]) -> Result<(), Failure> {
        let records: Vec<_> = checked.iter().map(|one| one.record).collect();
        check_set(&records).map_err(|fault| believed(self.name, fault.into()))
    }

    fn attested<'r>(&self, attested: &'r Attested) -> Result<Checked<'r>, Failure> {
        let nonce = self.nonce.ok_or_else(no_nonce)?;
        let answered = attested.check(&self.trusted.trust(), nonce);
        let answered = answered.map_err(|error| believed(self.name, error))?;
        let operator = attested
            .certificate()
            .filter(|certificate| self.trusted.trust().vouches(certificate))
            .map(|c| c.operator().id());
        Ok(measured(
            answered,
            Under::signature(attested.key_id(), operator),
        ))
    }

    fn tagged<'r>(&self, tagged: &'r Tagged) -> Result<Checked<'r>, Failure> {
        let key = self.key.ok_or_else(|| no_key("an attestation"))?;
        if tagged.facts().nonce.is_some() && self.nonce.is_none() {
            return Err(no_nonce());
        }
        let answered = tagged.check(key, &self.trusted.trust(), self.nonce);
        let answered = answered.map_err(|error| match error {
            Error::Receipt(error) => believed(self.name, error),
            error => Failure::from(error).naming(self.name),
        })?;
        let under = Under::Tag {
            tag: "ok",
            key_id: answered.facts().record.key_id,
        };
        Ok(measured(answered, under))
    }

    fn count(&self, papers: usize) -> Result<(), Failure> {
        let files = self.files.len();
        if files == 0 || files == papers {
            return Ok(());
        }
        let name = self.name;
        Err(Failure::usage(format!(
            "{name} holds {papers} receipt(s), and {files} file(s) are named"
        )))
    }
}

fn measured(answered: Answered<'_>, under: Under) -> Checked<'_> {
    let facts = answered.facts();
    Checked {
        kind: "attestation",
        record: &facts.record,
        facts: Some(facts),
        under,
        file: None,
        contents: "not checked",
    }
}

fn no_nonce() -> Failure {
    Failure::usage("an attestation is believed only for the nonce that you chose")
        .hint("add --nonce HEX")
}

/// The record is believed: now the file.
fn compare(record: &Record, path: &Path, output: &Output) -> Result<(), Failure> {
    let name = path.to_string_lossy();
    let total = std::fs::metadata(path).ok().map(|meta| meta.len());
    let progress = Progress::start(output, "hashing", &name, total);
    let measured = measure::file(path, measure::cores(), &|bytes| progress.advance(bytes))?;
    drop(progress);
    if measured.len == record.vram_bytes && measured.digest == record.digest {
        return Ok(());
    }
    Err(
        Failure::verification(format!("{name} is not the file that was sealed"))
            .with_note(format!(
                "sealed sha256:{}, {} bytes",
                record.digest, record.vram_bytes
            ))
            .with_note(format!(
                "found  sha256:{}, {} bytes",
                measured.digest, measured.len
            )),
    )
}

fn report(checked: Vec<Checked<'_>>, output: &Output) -> Result<(), Failure> {
    let is_tagged = |one: &Checked<'_>| matches!(one.under, Under::Tag { .. });
    let mut not_checked = if checked.iter().any(is_tagged) {
        vec!["the worker: whoever has the sealing key can make this"]
    } else {
        vec!["the worker: a process that lies about its measurements can sign them"]
    };
    let is_old = |facts: &Facts| facts.nonce.is_none();
    if checked.iter().any(|one| one.facts.is_some_and(is_old)) {
        not_checked.push("its age: it answers no nonce, so it may be an old one");
    }
    if checked.iter().any(|one| one.facts.is_none()) {
        not_checked.push("VRAM: a receipt tells what was sealed, not what is resident now");
    }
    let is_bare = |facts: &Facts| facts.checkpoint.is_none();
    if checked.iter().any(|one| one.facts.is_some_and(is_bare)) {
        not_checked.push("the log: the worker keeps none, or went on without it");
    }
    if checked.iter().any(|one| one.file.is_none()) {
        not_checked.push("contents: no file was named");
    }
    if checked
        .iter()
        .any(|one| one.record.device_kind == DeviceKind::Simulated)
    {
        not_checked.push("a GPU: this was measured on a simulated device");
    }
    if output.is_json() {
        return output.json(&Report {
            schema: "vram-residency/verify-signed/v1",
            checked,
            not_checked,
        });
    }
    for one in &checked {
        lines(one).iter().try_for_each(|line| output.line(line))?;
    }
    let is_group = |one: &Checked<'_>| one.facts.is_none() && one.record.group.is_some();
    if checked.iter().any(is_group) {
        let members = checked.len();
        output.line(format!("group        complete, {members} members in order"))?;
    }
    not_checked
        .iter()
        .try_for_each(|what| output.line(format!("not checked  {what}")))
}

/// Who signed the model, where that is known.
pub(crate) fn signer(record: &Record) -> Option<String> {
    let signer = record.signer.as_ref()?;
    Some(format!("model signer {signer}"))
}

fn lines(one: &Checked<'_>) -> Vec<String> {
    let record = one.record;
    let mut lines = vec![
        format!("shard        {}", record.shard_id),
        format!(
            "sealed       {} by {} on {} device {}",
            record.sealed_at, record.worker_id, record.device_kind, record.device_uuid
        ),
        format!("digest       sha256:{}", record.digest),
        match &one.under {
            Under::Signature { signed_by, .. } => format!("signature    ok (key {signed_by})"),
            Under::Tag { key_id, .. } => format!("tag          ok (key {key_id})"),
        },
    ];
    lines.extend(signer(record));
    if let Under::Signature {
        certified_by: Some(operator),
        ..
    } = &one.under
    {
        lines.push(format!("certificate  ok (operator {operator})"));
    }
    if let Some(facts) = one.facts {
        lines.push(format!(
            "resident     {} of {} bytes in device memory at {}, attestation {}",
            facts.bytes_checked, record.vram_bytes, facts.measured_at, facts.sequence
        ));
    }
    if let Some(file) = &one.file {
        lines.push(format!("contents     ok ({})", printable(file)));
    }
    lines
}
