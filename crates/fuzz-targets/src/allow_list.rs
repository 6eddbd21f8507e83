//! Allow-lists of approved models, and the policies that name them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use toml::Value;
use vram_digest::FileDigest;
use vram_residency::clock::Timestamp;
use vram_residency::key::{SigningKey, VerifyingKey};
use vram_residency::receipt::Revocations;
use vram_residency::signed::{AllowError, AllowList, FileName, ModelPolicy};

use crate::vectors::{SIGNERS, token};

/// The one list that the vectors' operator signed.
const LIST: &str = include_str!("../../../fuzz/corpus/allow_list/issued");

static KNOWN: LazyLock<AllowList> =
    LazyLock::new(|| AllowList::from_toml(LIST, operator(), None).expect("our own list"));

fn operator() -> &'static [VerifyingKey] {
    std::slice::from_ref(&SIGNERS.all[0])
}

/// A list is believed only under who signed it and only as it was signed; what
/// a hostile approver signs lists plain names.
pub(crate) fn list(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    assert!(
        AllowList::from_toml(text, &[], None).is_err(),
        "nobody's word"
    );
    assert!(AllowList::from_toml(text, &SIGNERS.all[1..], None).is_err());
    if let Ok(list) = AllowList::from_toml(text, operator(), None) {
        assert_eq!(list, *KNOWN, "forged");
        let revoked = BTreeSet::from([SIGNERS.all[0].id()]);
        let revoked = Revocations::issue(&SIGNERS.operator, list.approved_at(), revoked);
        let revoked = revoked.expect("a list of revoked keys");
        assert!(AllowList::from_toml(text, operator(), Some(&revoked)).is_err());
        return true;
    }
    hostile(text)
}

/// Signs the input for a hostile approver whom somebody trusts, if it can be a
/// list, by the byte table of lists and not by the library's code.
fn hostile(text: &str) -> bool {
    let key = SigningKey::new(&token()).expect("a signing key");
    let Some((text, names)) = signed(text, &key) else {
        return false;
    };
    assert!(AllowList::from_toml(&text, operator(), None).is_err());
    let Ok(list) = AllowList::from_toml(&text, std::slice::from_ref(key.public()), None) else {
        return false;
    };
    let read: Vec<&str> = list.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(read, names);
    for name in read {
        FileName::new(name).expect("a plain name");
    }
    let policy = ModelPolicy::signed_only(std::slice::from_ref(&list));
    for file in list.files() {
        assert!(policy.admit(&file.digest, file.bytes).is_ok(), "approved");
    }
    assert!(
        policy
            .admit(&FileDigest::from_bytes([0x5A; 32]), 1)
            .is_err()
    );
    true
}

/// The list again, with the key's signature, and the names of its files.
fn signed(text: &str, key: &SigningKey) -> Option<(String, Vec<String>)> {
    let mut list: toml::Table = text.parse().ok()?;
    let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
    let mut message = b"VRAMALLW\x01\x00".to_vec();
    message.extend(key.public().as_bytes());
    message.extend(number(list.get("approved_at")?)?.to_le_bytes());
    put(&mut message, list.get("signer")?.as_str()?)?;
    put(&mut message, list.get("model")?.as_str()?)?;
    message.extend(hex(list.get("bundle_sha256")?.as_str()?)?);
    let files = list.get("file")?.as_array()?;
    message.extend(u32::try_from(files.len()).ok()?.to_le_bytes());
    let mut names = Vec::new();
    for file in files {
        let name = file.get("name")?.as_str()?;
        put(&mut message, name)?;
        message.extend(number(file.get("bytes")?)?.to_le_bytes());
        let digest = file.get("digest")?.as_str()?.strip_prefix("sha256:")?;
        message.extend(hex(digest)?);
        names.push(name.to_owned());
    }
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let signature: String = digits(&key.sign(&message).expect("signed"));
    list.insert("signature".to_owned(), Value::String(signature));
    let approver = Value::String(key.public().to_string());
    list.insert("approver".to_owned(), approver);
    Some((list.to_string(), names))
}

fn put(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
    out.extend(text.as_bytes());
    Some(())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.get(..64).filter(|_| text.len() == 64)?;
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..64).step_by(2).map(byte).collect()
}

/// After every list that is read.
const NOW: Timestamp = Timestamp::from_nanos(u64::MAX);

/// A policy that asks for signed models takes no other, whatever it names; it
/// reads nothing but what it names, and believes no list without a key.
pub(crate) fn policy(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let folder = Path::new("policy.d");
    let read = |path: &Path, limit: usize| {
        assert!(LIST.len() <= limit, "the limit is {limit}");
        match path.strip_prefix(folder).ok().and_then(Path::to_str) {
            Some("allow.toml") => Ok(LIST.to_owned()),
            Some("revoked.json") => Ok(crate::vectors::RECEIPTS["revocations"].to_string()),
            _ => Err(missing(path)),
        }
    };
    let gone = |path: &Path, _: usize| Err(missing(path));
    let Ok(policy) = ModelPolicy::from_toml(text, folder, NOW, &read) else {
        assert!(ModelPolicy::from_toml(text, folder, NOW, &gone).is_err());
        return false;
    };
    let meant: toml::Table = text.parse().expect("accepted, and no TOML");
    let lists = meant.get("allow").and_then(Value::as_array);
    let names_lists = lists.is_some_and(|lists| !lists.is_empty());
    let file = &KNOWN.files()[0];
    let known = policy.admit(&file.digest, file.bytes);
    assert!(known.is_ok() || !names_lists);
    let other = FileDigest::from_bytes([0x5A; 32]);
    let is_strict = meant["require"].as_str() == Some("signed");
    assert_eq!(policy.admit(&other, file.bytes).is_err(), is_strict);
    assert_eq!(
        policy.admit(&file.digest, file.bytes + 1).is_err(),
        is_strict
    );
    if names_lists || meant.contains_key("revoked") {
        let trusted = meant["trust"].as_array().expect("keys");
        let operator = operator()[0].to_string();
        assert!(trusted.iter().any(|key| key.as_str() == Some(&*operator)));
        assert!(ModelPolicy::from_toml(text, folder, NOW, &gone).is_err());
    }
    true
}

fn missing(path: &Path) -> AllowError {
    AllowError::Read {
        reason: format!("{} is not there", path.display()),
    }
}
