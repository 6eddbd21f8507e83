//! The bundle: a DSSE envelope and what its signature is checked with.

use base64ct::{Base64, Encoding as _};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::{self, Object, malformed};
use super::{MAX_BUNDLE_BYTES, SignedError};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The type of what model-signing signs.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Longest chain that is looked at.
const MAX_CERTIFICATES: usize = 16;

/// A bundle whose signature was not looked at yet.
pub(super) struct Bundle {
    /// What was signed.
    pub(super) payload: Vec<u8>,
    /// ECDSA, in DER.
    pub(super) signature: Vec<u8>,
    /// Who claims to have signed.
    pub(super) claim: Claim,
}

/// How a bundle says who signed it. Believed only as far as it leads to a key.
pub(super) enum Claim {
    /// A key that the checker has; SHA-256 of its PEM text, if it is named.
    Key { hint: Option<String> },
    /// Certificates in DER, the signer's first.
    Chain(Vec<Vec<u8>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Outer {
    media_type: String,
    verification_material: Object<Material>,
    dsse_envelope: Object<Envelope>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: Option<Object<PublicKey>>,
    x509_certificate_chain: Option<Object<Chain>>,
    certificate: Option<IgnoredAny>,
    // Proofs of a public log: nothing here rests on them.
    #[serde(rename = "tlogEntries")]
    _log: Option<IgnoredAny>,
    #[serde(rename = "timestampVerificationData")]
    _timestamps: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PublicKey {
    hint: Option<String>,
    // Early versions of the tool carried the key; ours is what counts.
    #[serde(rename = "rawBytes")]
    _raw_bytes: Option<IgnoredAny>,
    #[serde(rename = "keyDetails")]
    _key_details: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    certificates: Vec<Object<Certificate>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Object<Signature>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
    #[serde(rename = "keyid")]
    _key_id: Option<IgnoredAny>,
}

impl Bundle {
    /// Reads a bundle; nothing in it is believed yet.
    pub(super) fn read(text: &[u8]) -> Result<Self, SignedError> {
        if text.len() > MAX_BUNDLE_BYTES {
            let len = text.len();
            return Err(malformed(format!(
                "{len} bytes, the limit is {MAX_BUNDLE_BYTES}"
            )));
        }
        let outer: Outer = json::read(text).map_err(malformed)?;
        if outer.media_type != MEDIA_TYPE {
            return Err(malformed(format!("its mediaType is not {MEDIA_TYPE}")));
        }
        let envelope = outer.dsse_envelope.0;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(malformed(format!("its payloadType is not {PAYLOAD_TYPE}")));
        }
        let [signature] = envelope.signatures.as_slice() else {
            let count = envelope.signatures.len();
            return Err(malformed(format!("{count} signatures, one is meant")));
        };
        Ok(Self {
            payload: base64(&envelope.payload, "payload")?,
            signature: base64(&signature.0.sig, "sig")?,
            claim: outer.verification_material.0.claim()?,
        })
    }

    /// The bytes under the signature: DSSE's pre-authentication encoding.
    pub(super) fn message(&self) -> Vec<u8> {
        let (kind, len) = (PAYLOAD_TYPE, self.payload.len());
        let mut message = format!("DSSEv1 {} {kind} {len} ", kind.len()).into_bytes();
        message.extend_from_slice(&self.payload);
        message
    }
}

impl Material {
    fn claim(self) -> Result<Claim, SignedError> {
        match (self.public_key, self.x509_certificate_chain) {
            (Some(Object(key)), None) => Ok(Claim::Key {
                hint: key.hint.filter(|hint| !hint.is_empty()),
            }),
            (None, Some(Object(chain))) => {
                let count = chain.certificates.len();
                if count == 0 || count > MAX_CERTIFICATES {
                    return Err(malformed(format!(
                        "{count} certificates, 1 to {MAX_CERTIFICATES} are meant"
                    )));
                }
                let der = |one: &Object<Certificate>| base64(&one.0.raw_bytes, "rawBytes");
                let certificates = chain.certificates.iter().map(der);
                Ok(Claim::Chain(certificates.collect::<Result<_, _>>()?))
            }
            (None, None) if self.certificate.is_some() => Err(SignedError::Unsupported {
                what: "a keyless signature",
                instead: "sign with a key or a certificate",
            }),
            _ => Err(malformed(
                "verificationMaterial is not either a publicKey or an x509CertificateChain",
            )),
        }
    }
}

fn base64(text: &str, field: &str) -> Result<Vec<u8>, SignedError> {
    Base64::decode_vec(text).map_err(|_| malformed(format!("{field} is not base64")))
}
