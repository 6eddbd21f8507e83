//! Files of keys: sealing secrets, signing keys, public keys.

use vram_residency::device::Uuid;
use vram_residency::key::{KeyContext, KeyProvider, RootKey, Scope, SigningKey, VerifyingKey};

/// What is accepted is what an independent reading of the text says, and gives
/// the key of these digits; a secret never stands in a message.
pub(crate) fn run(data: &[u8]) -> bool {
    let root = root_key(data);
    let signing = signing_key(data);
    let public = std::str::from_utf8(data).is_ok_and(public_key);
    root || signing || public
}

/// The 32 bytes of 64 lower-case digits and at most one newline, if they are as
/// irregular as a secret must be.
fn secret(data: &[u8]) -> Option<[u8; 32]> {
    let text = data.strip_suffix(b"\n").unwrap_or(data);
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let text = std::str::from_utf8(text).ok()?;
    if text.len() != 64 || !text.bytes().all(|byte| lower(&byte)) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() >= 8).then_some(bytes)
}

fn root_key(data: &[u8]) -> bool {
    let read = RootKey::from_reader(data);
    let meant = secret(data);
    assert_eq!(read.is_ok(), meant.is_some(), "{:?}", read.err());
    match (read, meant) {
        (Ok(key), Some(bytes)) => {
            let same = RootKey::from_token(&bytes).expect("a secret");
            assert!(tag(&key) == tag(&same), "another key");
            true
        }
        (Err(error), _) => {
            silent(&error.to_string(), data);
            false
        }
        _ => false,
    }
}

fn tag(key: &RootKey) -> [u8; 32] {
    let context = KeyContext {
        salt: &[1; 32],
        worker: &"worker".parse().expect("a name"),
        device: Uuid::from_bytes([2; 16]),
    };
    let key = key.seal_key(&context).expect("a sealing key");
    *key.tag(b"words").expect("a tag").as_bytes()
}

fn signing_key(data: &[u8]) -> bool {
    let (digits, scope) = if let Some(rest) = data.strip_prefix(b"signing:") {
        (rest, Scope::Production)
    } else if let Some(rest) = data.strip_prefix(b"test-signing:") {
        (rest, Scope::Test)
    } else {
        // A sealing key, or none at all.
        assert!(SigningKey::from_reader(data).is_err());
        return false;
    };
    let read = SigningKey::from_reader(data);
    let meant = secret(digits);
    assert_eq!(read.is_ok(), meant.is_some(), "{:?}", read.err());
    match (read, meant) {
        (Ok(key), Some(bytes)) => {
            assert_eq!(key.scope(), scope);
            let secret = RootKey::from_token(&bytes).expect("a secret");
            let same = SigningKey::scoped(&secret, scope).expect("a key");
            assert_eq!(key.public(), same.public());
            // What is no sealing key's file must not seal.
            assert!(RootKey::from_reader(data).is_err());
            true
        }
        (Err(error), _) => {
            silent(&error.to_string(), digits);
            false
        }
        _ => false,
    }
}

fn public_key(text: &str) -> bool {
    let Ok(key) = VerifyingKey::from_hex(text) else {
        return false;
    };
    assert_eq!(key.to_string(), text.trim_end(), "two spellings of one key");
    assert_eq!(VerifyingKey::from_bytes(key.as_bytes()), Ok(key.clone()));
    assert!(!key.verifies(b"words", &[0; 64]), "anybody can sign");
    true
}

/// Asserts that no eight bytes of what was given stand in a message.
fn silent(message: &str, data: &[u8]) {
    const WORDS: &str = "the key is not 64 lower-case hex digits: wrong length or other \
                         characters it is longer than 1024 bytes the secret repeats itself \
                         too much to be random; make one with 'vram key new'";
    let parts = data
        .windows(8)
        .filter_map(|part| std::str::from_utf8(part).ok());
    for part in parts {
        assert!(!message.contains(part) || WORDS.contains(part), "{message}");
    }
}
