//! Files that say whose signature under a model is believed: a publisher's public key,
//! and roots of certificates.

use std::sync::LazyLock;

use base64ct::{Base64, Encoding};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use vram_residency::signed::ModelTrust;

/// A bundle that the signing tool made, and the only file by which it is believed.
struct Known {
    bundle: &'static [u8],
    /// What is made of that file.
    shown: String,
}

macro_rules! known {
    ($how:ident, $bundle:literal, $file:literal) => {{
        let bundle = include_bytes!(concat!("../../../testdata/signed/", $bundle));
        let file = include_bytes!(concat!("../../../testdata/signed/", $file));
        let trust = ModelTrust::new().$how(file).expect("a trusted signer");
        trust.verify(bundle).expect("believed");
        Known {
            bundle,
            shown: format!("{trust:?}"),
        }
    }};
}

static KEYS: LazyLock<[Known; 4]> = LazyLock::new(|| {
    [
        known!(key, "p256.sig", "p256.pub"),
        known!(key, "p384.sig", "p384.pub"),
        known!(key, "p521.sig", "p521.pub"),
        known!(key, "shards.sig", "shards.pub"),
    ]
});

static ROOTS: LazyLock<[Known; 2]> = LazyLock::new(|| {
    [
        known!(roots, "chain.sig", "chain-root.pem"),
        known!(roots, "wide.sig", "wide-root.pem"),
    ]
});

/// What is read as a key believes what that key signed and nothing else, what is read
/// as roots what their keys certify; both read back as they are.
pub(crate) fn run(data: &[u8]) -> bool {
    let key = ModelTrust::new().key(data);
    let roots = ModelTrust::new().roots(data);
    if let Ok(trust) = &key {
        one_key(data, trust);
    }
    if let Ok(trust) = &roots {
        some_roots(trust);
    }
    key.is_ok() || roots.is_ok()
}

fn one_key(data: &[u8], trust: &ModelTrust) {
    let shown = format!("{trust:?}");
    for known in KEYS.iter() {
        let believed = trust.verify(known.bundle).is_ok();
        assert_eq!(believed, shown == known.shown, "another key's word");
    }
    for known in ROOTS.iter() {
        assert!(trust.verify(known.bundle).is_err(), "a key is no root");
    }
    // A reader of another make, which takes less for PEM.
    let text = str::from_utf8(data).unwrap_or_default();
    if let Ok(key) = p256::PublicKey::from_public_key_pem(text) {
        let pem = key.to_public_key_pem(LineEnding::LF).expect("PEM");
        let again = ModelTrust::new().key(pem.as_bytes()).expect("a key");
        assert_eq!(format!("{again:?}"), shown);
    }
}

fn some_roots(trust: &ModelTrust) {
    let shown = format!("{trust:?}");
    let found = certificates(&shown);
    assert!(!found.is_empty(), "nobody");
    let pem: String = found.iter().map(|der| as_pem(der)).collect();
    let again = ModelTrust::new().roots(pem.as_bytes()).expect("roots");
    assert_eq!(format!("{again:?}"), shown);
    for known in ROOTS.iter() {
        let root = certificates(&known.shown).concat();
        let key = public_key(&root);
        let believed = trust.verify(known.bundle).is_ok();
        let named = found.iter().any(|der| contains(der, key));
        assert!(!believed || named, "another root's word");
        assert!(believed || !found.contains(&root), "not its own root's");
    }
    for known in KEYS.iter() {
        assert!(trust.verify(known.bundle).is_err(), "a root is no key");
    }
}

/// The certificates of a trust, in DER, as it shows them: numbers in hex.
fn certificates(shown: &str) -> Vec<Vec<u8>> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.chars().map_while(digit).collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    };
    shown.split("0x").skip(1).map(bytes).collect()
}

fn as_pem(der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    let lines = text.as_bytes().chunks(64);
    let lines = lines.map(|line| String::from_utf8_lossy(line) + "\n");
    let body: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

/// How the public key of a root begins, a bit string, and its bytes: on P-384 and P-521.
const POINTS: [(&[u8], usize); 2] = [
    (&[0x03, 0x62, 0x00, 0x04], 96),
    (&[0x03, 0x81, 0x86, 0x00, 0x04], 132),
];

/// The public key in a root's certificate.
fn public_key(der: &[u8]) -> &[u8] {
    let key = POINTS.iter().find_map(|(begin, len)| {
        let at = der.windows(begin.len()).position(|bytes| bytes == *begin)?;
        der.get(at..at + begin.len() + len)
    });
    key.expect("a key on P-384 or P-521")
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}
