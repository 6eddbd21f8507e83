//! `vram approve`: a model's signature, checked once.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vram_residency::clock::{Clock as _, SystemClock};
use vram_residency::key::SigningKey;
use vram_residency::signed::{AllowList, CheckedModel, MAX_BUNDLE_BYTES, ModelTrust, SignedError};

use crate::failure::Failure;
use crate::keys::in_file;
use crate::output::Output;
use crate::progress::Progress;
use crate::signing::read;
use crate::text::{self, printable};
use crate::{records, replace};

/// Longest PEM file that is read, in bytes.
const MAX_PEM_BYTES: usize = 1 << 20;

/// Check a model's signature (model.sig of OpenSSF model-signing) and list its
/// files for later loads
///
/// Offline. Every file in DIR is read once and compared with the signed digests;
/// a file that was not signed, a missing one, a link or a changed byte ends it.
/// The list holds each file's fs-verity digest and length and who signed the
/// model, under a signature of --sign-key. 'vram seal --allow' then only compares
/// what the device measured with it.
///
/// Believed are an EC key on P-256, P-384 or P-521 (--trust), or certificates that lead
/// to a root (--trust-root). A signature carries no time, so a certificate counts
/// even after it ended; take the root away to end that.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram approve model --signature model.sig --trust model.pub --sign-key op.sign --out allow.toml
  vram approve model --signature chain.sig --trust-root ca.pem --sign-key op.sign --out allow.toml
  vram seal model/weights.bin --device sim --allow allow.toml --trust op.pub

The tool makes such signatures with:
  model_signing sign key model --private_key model.key --signature model.sig

Exit codes: 0 listed, 1 failure, 2 usage, 3 the model is not the signed one or
its signer is not believed.")]
pub(crate) struct Args {
    /// The model's directory, or its one file
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// The bundle; it may lie in DIR
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    #[command(flatten)]
    believe: Believe,
    /// The certificate must have this mail address, URI, DNS name or, where it has none of
    /// these and its issuers may give any, common name
    #[arg(long, value_name = "NAME", requires = "trust_root")]
    identity: Option<String>,
    /// Signing key under which the list is believed later ('vram key new --signing')
    #[arg(long, value_name = "FILE")]
    sign_key: PathBuf,
    /// The list to make
    #[arg(long, value_name = "OUT.toml")]
    out: PathBuf,
}

/// Whose signature under the model counts.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Believe {
    /// Public key of the publisher, PEM
    #[arg(long, value_name = "KEY")]
    trust: Option<PathBuf>,
    /// Root certificates of publishers, PEM
    #[arg(long, value_name = "CERT")]
    trust_root: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    model: &'a str,
    signer: &'a str,
    approver: String,
    out: String,
    files: Vec<File<'a>>,
    uncovered: Vec<&'a str>,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    bytes: u64,
    digest: String,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        records::new_only(&self.out)?;
        let key = SigningKey::from_file(&self.sign_key).map_err(|e| in_file(e, &self.sign_key))?;
        let name = self.signature.to_string_lossy();
        let bundle = read(&self.signature, MAX_BUNDLE_BYTES)?;
        let signed = self.trust()?.verify(bundle.as_bytes());
        let signed = signed.map_err(|error| judged(&name, &error))?;
        let root = self.model.to_string_lossy();
        let progress = Progress::start(output, "checking", &root, None);
        let advance = |bytes| progress.advance(bytes);
        let checked = signed.check(&self.model, Some(&self.signature), &advance);
        drop(progress);
        let checked = checked.map_err(|error| judged(&root, &error))?;
        let list = AllowList::issue(&checked, &key, SystemClock::new().now());
        let list = list.map_err(|error| Failure::new(error.to_string()))?;
        replace::nothing(&self.out, &list)?;
        self.report(&checked, &key, output)
    }

    fn trust(&self) -> Result<ModelTrust, Failure> {
        let pem = |path: &Path, take: &dyn Fn(&[u8]) -> Result<ModelTrust, SignedError>| {
            let text = read(path, MAX_PEM_BYTES)?;
            take(text.as_bytes()).map_err(|error| judged(&path.to_string_lossy(), &error))
        };
        let none = ModelTrust::new;
        let trust = match (&self.believe.trust, &self.believe.trust_root) {
            (Some(key), _) => pem(key, &|text| none().key(text))?,
            (None, Some(root)) => pem(root, &|text| none().roots(text))?,
            (None, None) => none(),
        };
        Ok(match &self.identity {
            Some(name) => trust.identity(name),
            None => trust,
        })
    }

    fn report(
        &self,
        checked: &CheckedModel,
        key: &SigningKey,
        output: &Output,
    ) -> Result<(), Failure> {
        let uncovered: Vec<_> = checked.uncovered().iter().map(|n| n.as_str()).collect();
        let out = self.out.to_string_lossy().into_owned();
        let approver = key.public().id().to_string();
        if output.is_json() {
            let files = checked.files().iter().map(|file| File {
                name: file.name.as_str(),
                bytes: file.bytes,
                digest: format!("sha256:{}", file.digest),
            });
            return output.json(&Report {
                schema: "vram-residency/approved/v1",
                model: checked.name(),
                signer: checked.signer().as_str(),
                approver,
                out,
                files: files.collect(),
                uncovered,
            });
        }
        for name in uncovered {
            let name = printable(name);
            output.note(&format!("not covered by the signature, not listed: {name}"));
        }
        let bytes = checked.files().iter().map(|file| file.bytes);
        let bytes = bytes.fold(0_u64, u64::saturating_add);
        let (count, size) = (checked.files().len(), text::size(bytes));
        output.line(format!("signer    {}", checked.signer()))?;
        output.line(format!("approved  {count} files, {bytes} bytes ({size})"))?;
        output.line(format!("list      {} (key {approver})", printable(&out)))
    }
}

/// A model that is not believed is a failed verification; a text that cannot be
/// read is a failure.
fn judged(name: &str, error: &SignedError) -> Failure {
    let failure = if error.is_verdict() {
        Failure::verification(error.to_string())
    } else {
        Failure::new(error.to_string())
    };
    let failure = failure.naming(name);
    match error {
        SignedError::Untrusted { by: "a key" } => {
            failure.hint("name the publisher's key with --trust only if you know whose it is")
        }
        SignedError::Untrusted { .. } => {
            failure.hint("name the root of the publisher's certificate with --trust-root")
        }
        SignedError::Extra { .. } => {
            failure.hint("take it out of the directory, or ask the publisher to sign it")
        }
        SignedError::NotAFile { is_link: true, .. } => failure.hint(
            "only the links of a Hugging Face snapshot into its own blobs are followed; \
                 copy the model with its links resolved: cp -rL",
        ),
        SignedError::Changed { .. } | SignedError::Missing { .. } => {
            failure.hint("get the model again from its publisher")
        }
        _ => failure,
    }
}
