//! `vram key`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vram_residency::clock::{Clock as _, SystemClock, Timestamp};
use vram_residency::key::{KeyError, KeyId, RootKey, Scope, SigningKey};
use vram_residency::random::OsRandom;
use vram_residency::receipt::{Certificate, Revocations};
use vram_residency::shard::WorkerId;

use crate::failure::Failure;
use crate::keys::in_file;
use crate::output::Output;
use crate::signing::{believed, public_key, revocations};
use crate::{folder, records, replace};

const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// Make keys, and say whose they are
///
/// A sealing key seals records and checks them. A signing key signs audit logs,
/// receipts and attestations, which anybody with its public key can check.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key new worker.key
  vram key new --signing worker.sign
  vram key public worker.sign > worker.pub
  vram key id worker.key
  vram key certify worker.pub --operator operator.sign --worker-id w1 --out worker.cert
  vram key revoke 0f1e2d3c4b5a6978 --operator operator.sign --out revoked.json

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    New(New),
    Public(Public),
    Id(Id),
    Certify(Certify),
    Revoke(Revoke),
}

/// Write a new random key to a file that does not exist yet, mode 0600
///
/// Keep it where only the worker reads it; it is never printed. Without --signing
/// it is a sealing key: whoever has it can seal records and check them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key new worker.key
  vram key new --signing worker.sign
  vram seal model.safetensors --key-file worker.key --record model.json
  vram verify model.json model.safetensors --key-file worker.key

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct New {
    /// The file to make
    file: PathBuf,
    /// A key for receipts, attestations and audit logs
    #[arg(long)]
    signing: bool,
    /// A signing key for simulated devices too; never trust it in production
    #[arg(long, requires = "signing")]
    test: bool,
}

/// Print the public key that checks what a key file signs
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key public worker.sign > worker.pub

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct Public {
    /// The key file
    file: PathBuf,
}

/// Print the id by which a sealing key is revoked
///
/// It is that of the key itself; the key_id of a record is that of one start of
/// a worker. It ends the belief in records, which are checked with the key.
/// Receipts and attestations are checked without it and do not name it: revoke
/// the signing key under which they stand ('vram key public --json'), or the key_id
/// of their record.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key id worker.key

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct Id {
    /// The key file
    file: PathBuf,
}

/// Say, as an operator, that a key signs for a worker
///
/// Who trusts the operator's public key then believes that worker's receipts and
/// attestations; answers to a nonce ('vram attest') only until the certificate ends, by
/// the clock of who checks them. When a receipt was signed, its worker alone says: a key
/// that leaked must be revoked ('vram key revoke'). To change a worker's key, certify the new one before the old
/// certificate ends: their times may overlap.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key certify worker.pub --operator operator.sign --worker-id w1 --days 90 --out worker.cert

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct Certify {
    /// Public key of the worker: 64 hex digits or a file with them
    #[arg(value_name = "KEY")]
    public: String,
    /// Signing key of the operator
    #[arg(long, value_name = "FILE")]
    operator: PathBuf,
    /// The worker that it signs for
    #[arg(long, value_name = "ID")]
    worker_id: WorkerId,
    /// How long from now
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..))]
    days: u64,
    /// The file to make
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

/// Say, as an operator, that keys are not to be believed any more
///
/// A revoked key is not believed whatever time it claims to have signed at.
/// Names key ids: of signing keys ('vram key public --json'), of sealing keys ('vram
/// key id'; of records, not of receipts), or the key_id of the records of one start
/// of a worker, in receipts, too. A list in OUT is added to.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram key revoke 0f1e2d3c4b5a6978 --operator operator.sign --out revoked.json

Exit codes: 0 fine, 1 failure, 2 usage.")]
struct Revoke {
    /// Key ids: 16 hex digits
    #[arg(required = true, value_name = "KEY_ID", value_parser = key_id)]
    ids: Vec<KeyId>,
    /// Signing key of the operator
    #[arg(long, value_name = "FILE")]
    operator: PathBuf,
    /// The list
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

fn key_id(text: &str) -> Result<KeyId, String> {
    KeyId::try_from(text.to_owned()).map_err(str::to_owned)
}

#[derive(Serialize)]
struct Made {
    schema: &'static str,
    file: String,
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<PublicKey>,
}

#[derive(Serialize)]
struct KeyName {
    schema: &'static str,
    key_id: String,
}

#[derive(Serialize)]
struct PublicKey {
    schema: &'static str,
    key_id: String,
    public_key: String,
    scope: Scope,
}

impl PublicKey {
    fn of(key: &SigningKey) -> Self {
        Self {
            schema: "vram-residency/public-key/v1",
            key_id: key.public().id().to_string(),
            public_key: key.public().to_string(),
            scope: key.scope(),
        }
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::New(args) => args.run(output),
            Command::Public(args) => args.run(output),
            Command::Id(args) => args.run(output),
            Command::Certify(args) => args.run(output),
            Command::Revoke(args) => args.run(output),
        }
    }
}

impl New {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let name = self.file.to_string_lossy().into_owned();
        let made = self.make().map_err(|error| {
            Failure::new(format!("cannot make {name}: {error}")).hint(
                "an existing file is never overwritten; name a new one, where this user can write",
            )
        })?;
        let (key_id, public) = match &made {
            NewKey::Sealing(key) => (key.id()?.to_string(), None),
            NewKey::Signing(key) => (key.public().id().to_string(), Some(PublicKey::of(key))),
        };
        if output.is_json() {
            let schema = "vram-residency/key/v1";
            return output.json(&Made {
                schema,
                file: name,
                key_id,
                public,
            });
        }
        let Some(public) = public else {
            output.note("keep this file secret; without it records cannot be verified");
            return output.line(format!("new key {key_id} in {name}"));
        };
        output.note("keep this file secret; give others what 'vram key public' prints");
        let scope = public.scope;
        output.line(format!("new {scope} signing key {key_id} in {name}"))
    }

    fn make(&self) -> Result<NewKey, KeyError> {
        if !self.signing {
            return RootKey::create_file(&self.file, &OsRandom).map(NewKey::Sealing);
        }
        let scope = if self.test {
            Scope::Test
        } else {
            Scope::Production
        };
        SigningKey::create_file(&self.file, scope, &OsRandom).map(NewKey::Signing)
    }
}

/// A key that was made.
enum NewKey {
    Sealing(RootKey),
    Signing(SigningKey),
}

impl Id {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let key = RootKey::from_file(&self.file).map_err(|e| in_file(e, &self.file))?;
        let id = key.id()?.to_string();
        let name = KeyName {
            schema: "vram-residency/key-id/v1",
            key_id: id.clone(),
        };
        output.result(&name, &id)
    }
}

impl Public {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let key = SigningKey::from_file(&self.file).map_err(|e| in_file(e, &self.file))?;
        output.result(&PublicKey::of(&key), &key.public().to_string())
    }
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

impl Certify {
    fn run(self, output: &Output) -> Result<(), Failure> {
        records::new_only(&self.out)?;
        let operator =
            SigningKey::from_file(&self.operator).map_err(|e| in_file(e, &self.operator))?;
        let worker = public_key(&self.public)?;
        let from = now();
        let span = self.days.saturating_mul(NANOS_PER_DAY);
        let to = Timestamp::from_nanos(from.nanos().saturating_add(span));
        let made = Certificate::issue(&operator, &worker, self.worker_id.clone(), from, to)?;
        let name = self.out.to_string_lossy();
        let text = made.to_json().map_err(|error| believed(&name, error))?;
        replace::nothing(&self.out, &format!("{text}\n"))?;
        if output.is_json() {
            return output.line(text);
        }
        let (key, worker) = (worker.id(), self.worker_id);
        output.line(format!("key {key} signs for {worker} until {to}: {name}"))
    }
}

impl Revoke {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let operator =
            SigningKey::from_file(&self.operator).map_err(|e| in_file(e, &self.operator))?;
        // From reading the list until the next one is in its place nobody else adds to it.
        let locked = folder::lock(&self.out, output);
        let _locked = locked.map_err(|error| in_folder(&self.out, &error))?;
        let mut revoked: BTreeSet<KeyId> = self.ids.into_iter().collect();
        let mut issued_at = now();
        if std::fs::symlink_metadata(&self.out).is_ok() {
            // Only a list of this operator is added to.
            let list = revocations(&self.out, &[operator.public().clone()])?;
            revoked.extend(list.keys());
            // A clock that was set back makes no list that is refused as an old one.
            issued_at = issued_at.max(list.issued_at());
        }
        refuse_own(&operator, &revoked)?;
        let count = revoked.len();
        let list = Revocations::issue(&operator, issued_at, revoked)?;
        let name = self.out.to_string_lossy();
        let text = list.to_json().map_err(|error| believed(&name, error))?;
        replace::one(&self.out, &format!("{text}\n"))?;
        if output.is_json() {
            return output.line(text);
        }
        output.line(format!("{count} key(s) revoked: {name}"))
    }
}

fn in_folder(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
}

/// A list that revokes who signs it is believed by nobody.
fn refuse_own(operator: &SigningKey, revoked: &BTreeSet<KeyId>) -> Result<(), Failure> {
    if !revoked.contains(&operator.public().id()) {
        return Ok(());
    }
    Err(
        Failure::usage("a key cannot revoke itself: its list would be believed by nobody")
            .hint("have another operator revoke it"),
    )
}
