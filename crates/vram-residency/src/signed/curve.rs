//! ECDSA over P-256, P-384 and P-521 (FIPS 186-5), from RustCrypto: keys that
//! sign models, and what signs their certificates.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
    alg_id,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::SignedError;
use crate::hex;

/// A public key that models are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// Signs SHA-256.
    P256(p256::ecdsa::VerifyingKey),
    /// Signs SHA-384.
    P384(p384::ecdsa::VerifyingKey),
    /// Signs SHA-512.
    P521(p521::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// From PEM text, `BEGIN PUBLIC KEY`.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, SignedError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| SignedError::Trust {
            reason: "no public key in PEM form (BEGIN PUBLIC KEY)".to_owned(),
        })?;
        Self::from_der(&der)
    }

    /// From a SubjectPublicKeyInfo in DER.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, SignedError> {
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Ok(Self::P256(key));
        }
        if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Ok(Self::P384(key));
        }
        let key = p521::ecdsa::VerifyingKey::from_public_key_der(der);
        key.map(Self::P521).map_err(|_| SignedError::Unsupported {
            what: "a key of this kind",
            instead: "use an EC key on P-256, P-384 or P-521",
        })
    }

    /// Whether `signature`, in DER, is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .and_then(|found| key.verify_prehash(&Sha256::digest(message), &found)),
            Self::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .and_then(|found| key.verify_prehash(&Sha384::digest(message), &found)),
            Self::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .and_then(|found| key.verify_prehash(&Sha512::digest(message), &found)),
        }
        .is_ok()
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo in DER, in hex: what
    /// `openssl pkey -pubin -outform DER | sha256sum` prints.
    pub(super) fn fingerprint(&self) -> String {
        let der = match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
            Self::P521(key) => key.to_public_key_der(),
        };
        // A key that was read can be written; an empty text matches nothing.
        der.map(|der| sha256_hex(der.as_bytes()))
            .unwrap_or_default()
    }

    /// What bundles call the key: SHA-256 of its PEM text, in hex.
    pub(super) fn hint(&self) -> String {
        let pem = match self {
            Self::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.map(|pem| sha256_hex(pem.as_bytes()))
            .unwrap_or_default()
    }
}

/// SHA-256 in hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// What may sign a certificate.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    &Ecdsa(Curve::P256, Hash::Sha256),
    &Ecdsa(Curve::P256, Hash::Sha384),
    &Ecdsa(Curve::P384, Hash::Sha256),
    &Ecdsa(Curve::P256, Hash::Sha512),
    &Ecdsa(Curve::P384, Hash::Sha384),
    &Ecdsa(Curve::P384, Hash::Sha512),
    &Ecdsa(Curve::P521, Hash::Sha256),
    &Ecdsa(Curve::P521, Hash::Sha384),
    &Ecdsa(Curve::P521, Hash::Sha512),
];

#[derive(Debug, Clone, Copy)]
enum Curve {
    P256,
    P384,
    P521,
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// One curve with one hash.
#[derive(Debug)]
struct Ecdsa(Curve, Hash);

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let hash = match self.1 {
            // The same number with a zero in front: P-521 takes no hash below half its width.
            Hash::Sha256 if matches!(self.0, Curve::P521) => {
                [&[0], Sha256::digest(message).as_slice()].concat()
            }
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        };
        let checked = match self.0 {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(public_key).and_then(|key| {
                let found = p256::ecdsa::Signature::from_der(signature)?;
                key.verify_prehash(&hash, &found)
            }),
            Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(public_key).and_then(|key| {
                let found = p384::ecdsa::Signature::from_der(signature)?;
                key.verify_prehash(&hash, &found)
            }),
            Curve::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(public_key).and_then(|key| {
                let found = p521::ecdsa::Signature::from_der(signature)?;
                key.verify_prehash(&hash, &found)
            }),
        };
        checked.map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.0 {
            Curve::P256 => alg_id::ECDSA_P256,
            Curve::P384 => alg_id::ECDSA_P384,
            Curve::P521 => alg_id::ECDSA_P521,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self.1 {
            Hash::Sha256 => alg_id::ECDSA_SHA256,
            Hash::Sha384 => alg_id::ECDSA_SHA384,
            Hash::Sha512 => alg_id::ECDSA_SHA512,
        }
    }
}
