//! Bundles that sign a model, and the statements in them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64ct::{Base64, Encoding};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use serde_json::{Value, json};
use vram_residency::signed::{FileName, ModelTrust, SignedModel};

/// Where a statement stands in a bundle.
const PAYLOAD: &str = "/dsseEnvelope/payload";

/// A bundle that the signing tool made, and who believes it.
struct Known {
    trust: ModelTrust,
    payload: Value,
    signer: String,
    files: usize,
}

macro_rules! known {
    ($name:literal, $how:ident, $trusted:literal) => {
        Known::new(
            include_bytes!(concat!("../../../testdata/signed/", $name, ".sig")),
            ModelTrust::new().$how(include_bytes!(concat!(
                "../../../testdata/signed/",
                $trusted
            ))),
        )
    };
}

static KNOWN: LazyLock<[Known; 6]> = LazyLock::new(|| {
    [
        known!("p256", key, "p256.pub"),
        known!("p384", key, "p384.pub"),
        known!("p521", key, "p521.pub"),
        known!("shards", key, "shards.pub"),
        known!("chain", roots, "chain-root.pem"),
        known!("wide", roots, "wide-root.pem"),
    ]
});

/// A signer of hostile things whom somebody trusts.
static HOSTILE: LazyLock<(SigningKey, ModelTrust)> = LazyLock::new(|| {
    let key = SigningKey::from_slice(&[7; 32]).expect("a key");
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF);
    let trust = ModelTrust::new().key(pem.expect("PEM").as_bytes());
    (key, trust.expect("a trusted key"))
});

impl Known {
    fn new(bundle: &[u8], trust: Result<ModelTrust, vram_residency::signed::SignedError>) -> Self {
        let trust = trust.expect("a trusted signer");
        let signed = trust.verify(bundle).expect("believed");
        Self {
            payload: payload(bundle).expect("a payload"),
            signer: signed.signer().to_string(),
            files: signed.file_count(),
            trust,
        }
    }
}

fn payload(bundle: &[u8]) -> Option<Value> {
    let bundle: Value = serde_json::from_slice(bundle).ok()?;
    bundle.pointer(PAYLOAD).cloned()
}

/// A bundle is believed only under who signed it and only with the statement
/// that was signed; a statement of a hostile signer lists plain names, each of
/// them once.
pub(crate) fn run(data: &[u8]) -> bool {
    assert!(ModelTrust::new().verify(data).is_err(), "nobody's word");
    let mut believed = false;
    for known in KNOWN.iter() {
        if let Ok(signed) = known.trust.verify(data) {
            assert_eq!(payload(data).as_ref(), Some(&known.payload), "forged");
            assert_eq!(signed.signer().as_str(), known.signer);
            assert_eq!(signed.file_count(), known.files);
            believed = true;
        }
    }
    believed || hostile(data)
}

/// Signs the input as a statement, if it can be one.
fn hostile(data: &[u8]) -> bool {
    let Ok(statement) = serde_json::from_slice::<Value>(data) else {
        return false;
    };
    if !statement.is_object() || statement.pointer(PAYLOAD).is_some() {
        return false;
    }
    let (key, trust) = &*HOSTILE;
    let kind = "application/vnd.in-toto+json";
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), data.len());
    let signature: DerSignature = key.sign(&[head.as_bytes(), data].concat());
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": {} },
        "dsseEnvelope": {
            "payload": Base64::encode_string(data),
            "payloadType": kind,
            "signatures": [{ "sig": Base64::encode_string(signature.as_bytes()) }],
        },
    });
    let bundle = bundle.to_string();
    let other = &KNOWN[0].trust;
    assert!(other.verify(bundle.as_bytes()).is_err(), "another's word");
    let signed = trust.verify(bundle.as_bytes());
    if let Ok(signed) = &signed {
        plain(&statement, signed);
    }
    signed.is_ok()
}

/// Asserts what an accepted statement's list promises.
fn plain(statement: &Value, signed: &SignedModel) {
    let resources = statement["predicate"]["resources"].as_array();
    let resources = resources.expect("a list of files");
    assert!((1..=resources.len()).contains(&signed.file_count()));
    if statement["predicate"]["serialization"]["method"] == "files" {
        let names = resources
            .iter()
            .map(|one| one["name"].as_str().expect("a name"));
        let names: BTreeSet<&str> = names.collect();
        assert_eq!(names.len(), resources.len(), "a file stands twice");
        assert_eq!(names.len(), signed.file_count());
        for name in names {
            FileName::new(name).expect("a plain name");
        }
    }
}
