//! Signed models for the tests: those that the real tool made, and bundles that
//! a test signs by itself.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use vram_residency::signed::{CheckedModel, ModelTrust, SignedError};

pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A file that the signing tool made.
pub fn fixture(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/signed");
    Path::new(root).join(name)
}

pub fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// Trusts the public key of a fixture.
pub fn trust_key(name: &str) -> ModelTrust {
    ModelTrust::new()
        .key(&read(&format!("{name}.pub")))
        .unwrap()
}

/// A copy of the model, to be changed.
pub fn model_copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture("model"), dir.path());
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The whole check, as a caller does it.
pub fn check(trust: &ModelTrust, bundle: &[u8], root: &Path) -> Result<CheckedModel, SignedError> {
    trust.verify(bundle)?.check(root, None, &|_| {})
}

/// A signer of hostile things whom the tests trust.
pub struct Forger(SigningKey);

impl Forger {
    pub fn new() -> Self {
        Self(SigningKey::from_slice(&[7; 32]).unwrap())
    }

    pub fn trust(&self) -> ModelTrust {
        let pem = self.0.verifying_key().to_public_key_pem(LineEnding::LF);
        ModelTrust::new().key(pem.unwrap().as_bytes()).unwrap()
    }

    /// A bundle over these bytes, truly signed.
    pub fn sign(&self, payload: &[u8]) -> Value {
        let mut message = format!("DSSEv1 28 {PAYLOAD_TYPE} {} ", payload.len()).into_bytes();
        message.extend_from_slice(payload);
        let signature: DerSignature = self.0.sign(&message);
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": { "publicKey": {}, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": Base64::encode_string(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "sig": Base64::encode_string(signature.as_bytes()), "keyid": "" }],
            },
        })
    }

    /// Signs a statement and verifies it as whoever trusts the signer.
    pub fn verify(&self, statement: &Value) -> Result<(), SignedError> {
        self.verify_text(&statement.to_string())
    }

    pub fn verify_text(&self, statement: &str) -> Result<(), SignedError> {
        let bundle = self.sign(statement.as_bytes()).to_string();
        self.trust().verify(bundle.as_bytes()).map(|_| ())
    }
}

/// A statement over named digests, as the tool writes it.
pub fn statement(resources: &[(&str, [u8; 32])]) -> Value {
    let mut root = Sha256::new();
    let list: Vec<_> = resources
        .iter()
        .map(|(name, digest)| {
            root.update(digest);
            json!({ "name": name, "algorithm": "sha256", "digest": hex(digest) })
        })
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "model", "digest": { "sha256": hex(&root.finalize()) } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": list,
            "serialization": { "method": "files", "hash_type": "sha256", "allow_symlinks": false },
        },
    })
}

/// The same over shards of `size` bytes.
pub fn sharded(size: u64, names: &[&str]) -> Value {
    let resources: Vec<_> = names.iter().map(|name| (*name, [3; 32])).collect();
    let mut made = statement(&resources);
    made["predicate"]["serialization"]["method"] = json!("shards");
    made["predicate"]["serialization"]["shard_size"] = json!(size as f64);
    for resource in made["predicate"]["resources"].as_array_mut().unwrap() {
        resource["algorithm"] = json!(format!("sha256-sharded-{size}"));
    }
    made
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
