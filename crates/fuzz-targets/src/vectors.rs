//! The checked-in vectors: keys, and all that was ever sealed or signed with
//! them. Whatever else is believed under one of these keys is a forgery.

use std::sync::LazyLock;

use serde_json::Value;
use vram_residency::device::DeviceKind;
use vram_residency::key::{RootKey, Scope, SigningKey, VerifyingKey};
use vram_residency::seal::Record;

static SEALS: LazyLock<Value> = LazyLock::new(|| {
    json(include_str!(
        "../../vram-residency/testdata/seal_vectors.json"
    ))
});

/// The vectors of receipts, attestations, certificates and revocations.
pub(crate) static RECEIPTS: LazyLock<Value> = LazyLock::new(|| {
    json(include_str!(
        "../../vram-residency/testdata/receipt_vectors.json"
    ))
});

/// A record, what its tag covers, and the key that made it.
pub(crate) struct Sealed {
    pub(crate) record: Record,
    pub(crate) statement: Vec<u8>,
    pub(crate) key: RootKey,
}

impl Sealed {
    /// Whether it lies on a simulated device, for which no production key signs.
    pub(crate) fn is_simulated(&self) -> bool {
        self.record.device_kind == DeviceKind::Simulated
    }
}

/// Every vector of a seal.
pub(crate) static SEALED: LazyLock<Vec<Sealed>> = LazyLock::new(|| {
    let vectors = SEALS["vectors"].as_array().expect("a list of vectors");
    let sealed = |vector: &Value| Sealed {
        record: Record::from_json(&vector["record"].to_string()).expect("a vector's record"),
        statement: hex(&vector["statement"]),
        key: root(&vector["secret"]),
    };
    vectors.iter().map(sealed).collect()
});

/// Keys of the vectors' operator and worker.
pub(crate) struct Signers {
    pub(crate) operator: SigningKey,
    pub(crate) production: SigningKey,
    pub(crate) test: SigningKey,
    /// Their public halves.
    pub(crate) all: [VerifyingKey; 3],
    /// One that signed nothing.
    pub(crate) stranger: VerifyingKey,
}

pub(crate) static SIGNERS: LazyLock<Signers> = LazyLock::new(|| {
    let scoped = |name: &str, scope| {
        let secret = root(&RECEIPTS[name]);
        SigningKey::scoped(&secret, scope).expect("a signing key")
    };
    let operator = scoped("operator_secret", Scope::Production);
    let production = scoped("worker_secret", Scope::Production);
    let test = scoped("worker_secret", Scope::Test);
    let stranger = RootKey::from_token(b"fedcba9876543210fedcba9876543210").expect("a token");
    let stranger = SigningKey::new(&stranger).expect("a signing key");
    Signers {
        all: [&operator, &production, &test].map(|key| key.public().clone()),
        stranger: stranger.public().clone(),
        operator,
        production,
        test,
    }
});

/// The secret behind the fuzzer's own log and checkpoint.
pub(crate) fn token() -> RootKey {
    RootKey::from_token(b"0123456789abcdef0123456789abcdef").expect("a token")
}

/// What stands under `path` in every receipt vector that has it.
pub(crate) fn all_of(path: &str) -> Vec<Value> {
    let vectors = RECEIPTS["vectors"].as_array().expect("a list of vectors");
    let found = vectors.iter().filter_map(|vector| vector.pointer(path));
    found.cloned().collect()
}

/// The secret of a vector, in hex.
pub(crate) fn root(secret: &Value) -> RootKey {
    RootKey::from_token(&hex(secret)).expect("a vector's secret")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("hex");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}
