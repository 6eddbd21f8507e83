//! Keys: every source and every way it can be bad, and the derivation against
//! an independent implementation.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{Seeded, skipped};
use serde_json::Value;
use vram_residency::device::Uuid;
use vram_residency::error::{Code, Error};
use vram_residency::key::{
    KeyContext, KeyError, KeyId, KeyProvider, RootKey, Scope, SealKey, SealTag, SigningKey,
};
use vram_residency::random::{Random, RandomError};
use vram_residency::shard::WorkerId;

const VECTORS: &str = include_str!("../testdata/key_vectors.json");
const GOOD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap(), 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// A file of this text and mode.
fn key_file(dir: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write_all(text).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&path, permissions).unwrap();
    path
}

fn refused(answer: Result<RootKey, KeyError>) -> KeyError {
    answer.err().expect("this key source must be refused")
}

/// What a key does: its id and a tag, for a fixed context.
fn effect(key: &RootKey) -> (String, [u8; 32]) {
    let worker: WorkerId = "worker".parse().unwrap();
    let context = KeyContext {
        salt: &[0; 32],
        worker: &worker,
        device: Uuid::from_bytes([0; 16]),
    };
    let derived = key.derive(&context).unwrap();
    (
        derived.id().to_string(),
        *derived.tag(b"").unwrap().as_bytes(),
    )
}

// requirement: KD-1, KD-2, CI-001, CI-005
#[test]
fn key_derivation() {
    // Keys match the checked-in vectors.
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 6);
    let mut seen = std::collections::BTreeSet::new();
    for vector in vectors {
        let field = |name: &str| vector[name].as_str().unwrap();
        let worker: WorkerId = field("worker").parse().unwrap();
        let context = KeyContext {
            salt: &bytes(field("salt")).try_into().unwrap(),
            worker: &worker,
            device: field("device").parse().unwrap(),
        };
        let root = RootKey::from_token(&bytes(field("secret"))).unwrap();
        let key = root.seal_key(&context).unwrap();
        assert_eq!(key.id().to_string(), field("key_id"), "{}", field("name"));
        let tag = key.tag(&bytes(field("message"))).unwrap();
        assert_eq!(tag.as_bytes()[..], bytes(field("tag")), "{}", field("name"));
        assert!(key.check(&bytes(field("message")), &tag).unwrap());
        assert!(!key.check(b"another message", &tag).unwrap());
        assert!(
            seen.insert(field("key_id").to_owned()),
            "every context has its own key"
        );
    }
}

// requirement: KD-6, KD-7, EV-9, OP-2
#[test]
fn a_key_file_must_be_private_regular_and_ours() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{GOOD}\n");
    for mode in [0o600, 0o400] {
        let path = key_file(dir.path(), &format!("good{mode:o}"), text.as_bytes(), mode);
        let expected = effect(&RootKey::from_token(&bytes(GOOD)).unwrap());
        assert_eq!(effect(&RootKey::from_file(&path).unwrap()), expected);
    }
    for mode in [
        0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777,
    ] {
        let path = key_file(dir.path(), &format!("open{mode:o}"), text.as_bytes(), mode);
        let error = refused(RootKey::from_file(&path));
        assert!(
            matches!(error, KeyError::PermissionsTooOpen { mode: m, .. } if m == mode),
            "{error}"
        );
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let link = dir.path().join("link");
    symlink(dir.path().join("good600"), &link).unwrap();
    let looped = dir.path().join("loop");
    symlink(&looped, &looped).unwrap();
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for path in [
        link.as_path(),
        &looped,
        &fifo,
        dir.path(),
        Path::new("/dev/null"),
    ] {
        let error = refused(RootKey::from_file(path));
        assert!(
            matches!(error, KeyError::NotRegular { .. }),
            "{}: {error}",
            path.display()
        );
    }
    let error = refused(RootKey::from_file(&dir.path().join("missing")));
    assert!(matches!(error, KeyError::Open { .. }), "{error}");
    let error: Error = error.into();
    assert_eq!(error.code(), Code::AuthFailed);
}

// requirement: KD-6
#[test]
fn a_key_file_of_another_user_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = key_file(dir.path(), "theirs", GOOD.as_bytes(), 0o600);
    if !rustix::process::geteuid().is_root() {
        skipped("a key file of another user: giving a file away needs root");
        return;
    }
    std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
    let error = refused(RootKey::from_file(&path));
    assert!(
        matches!(error, KeyError::Owner { owner: 4242, .. }),
        "{error}"
    );
}

// requirement: KD-6
#[test]
fn an_ordinary_user_may_use_a_key_file_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        // Then every other test here reads such files.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), everybody).unwrap();
    let path = key_file(dir.path(), "ours", GOOD.as_bytes(), 0o600);
    std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
    // Linux gives each thread a user of its own.
    let answer = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(4242)).unwrap();
        RootKey::from_file(&path).map(|key| effect(&key))
    });
    let expected = effect(&RootKey::from_token(&bytes(GOOD)).unwrap());
    assert_eq!(answer.join().unwrap(), Ok(expected));
}

// requirement: KD-6, EV-10
#[test]
fn only_a_credential_of_root_may_be_shared_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = key_file(dir.path(), "shared", GOOD.as_bytes(), 0o440);
    let error = refused(RootKey::from_file(&path));
    assert!(
        matches!(error, KeyError::PermissionsTooOpen { mode: 0o440, .. }),
        "{error}"
    );
    if !rustix::process::geteuid().is_root() {
        skipped("a credential of root that its group may read: making one needs root");
        return;
    }
    RootKey::from_credential(dir.path(), "shared").unwrap();
    let too_open = |name: &str| {
        let error = refused(RootKey::from_credential(dir.path(), name));
        assert!(
            matches!(error, KeyError::PermissionsTooOpen { .. }),
            "{error}"
        );
    };
    for mode in [0o444, 0o460, 0o450] {
        key_file(dir.path(), "open", GOOD.as_bytes(), mode);
        too_open("open");
    }
    std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
    too_open("shared");
}

// requirement: KD-6, KD-7, SG-3
#[test]
fn key_text_must_be_exactly_64_lower_case_hex_digits() {
    let digits = |text: &[u8]| RootKey::from_reader(text);
    assert!(digits(GOOD.as_bytes()).is_ok());
    assert!(
        digits(format!("{GOOD}\n").as_bytes()).is_ok(),
        "one newline may follow"
    );
    let upper = GOOD.to_uppercase();
    let bad: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\n".to_vec(),
        GOOD.as_bytes()[1..].to_vec(),
        format!("{GOOD}0").into_bytes(),
        format!("{GOOD}\n\n").into_bytes(),
        format!("{GOOD}\r\n").into_bytes(),
        format!(" {GOOD}").into_bytes(),
        GOOD.replacen("00", "0x", 1).into_bytes(),
        upper.into_bytes(),
        GOOD.replace('f', "g").into_bytes(),
        GOOD.replace('0', "\0").into_bytes(),
        vec![0xFF; 64],
        vec![b'0'; 1024],
        vec![b'0'; 1025],
        vec![b'0'; 100_000],
    ];
    for text in bad {
        let error = refused(digits(&text));
        assert!(
            matches!(error, KeyError::Format { .. }),
            "{text:?}: {error}"
        );
    }
    let endless = refused(RootKey::from_reader(std::io::repeat(b'0')));
    let longest = refused(digits(&[b'0'; 1024]));
    for (error, words) in [
        (endless, "longer than 1024 bytes"),
        (longest, "wrong length"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

// requirement: KD-2, SG-5, SG-3
#[test]
fn tokens_need_length_and_entropy() {
    let varied: Vec<u8> = (0..=255).cycle().take(1025).collect();
    for len in [0, 1, 16, 31, 1025] {
        let error = refused(RootKey::from_token(&varied[..len]));
        assert_eq!(error, KeyError::TokenLength { len });
    }
    for len in [32, 1024] {
        RootKey::from_token(&varied[..len]).unwrap();
    }
    for token in [[0_u8; 32], [0xFF; 32], *b"abcabcabcabcabcabcabcabcabcabcab"] {
        assert_eq!(refused(RootKey::from_token(&token)), KeyError::Entropy);
    }
    assert_eq!(
        refused(RootKey::from_reader("00".repeat(32).as_bytes())),
        KeyError::Entropy
    );
    // Eight different bytes are the fewest.
    let of = |kinds: u8| -> Vec<u8> { (0..kinds).cycle().take(32).collect() };
    assert_eq!(refused(RootKey::from_token(&of(7))), KeyError::Entropy);
    RootKey::from_token(&of(8)).unwrap();
    struct Broken;
    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError::new("no entropy today"))
        }
    }
    let error = refused(RootKey::generate(&Broken));
    assert!(error.to_string().contains("no entropy today"), "{error}");
}

// requirement: KD-6, KD-7, EV-10
#[test]
fn systemd_credentials_have_plain_names() {
    let dir = tempfile::tempdir().unwrap();
    key_file(dir.path(), "seal_key", GOOD.as_bytes(), 0o400);
    let key = RootKey::from_credential(dir.path(), "seal_key").unwrap();
    assert_eq!(
        effect(&key),
        effect(&RootKey::from_token(&bytes(GOOD)).unwrap())
    );
    let long = "x".repeat(200);
    for name in [
        "",
        ".",
        "..",
        "../seal_key",
        "a/b",
        "/etc/shadow",
        "a\0b",
        "a b",
        ".hidden",
        &long,
    ] {
        let error = refused(RootKey::from_credential(dir.path(), name));
        assert!(
            matches!(error, KeyError::Credential { .. }),
            "{name:?}: {error}"
        );
        assert!(!error.to_string().chars().any(char::is_control));
    }
    symlink(dir.path().join("seal_key"), dir.path().join("linked")).unwrap();
    let error = refused(RootKey::from_credential(dir.path(), "linked"));
    assert!(matches!(error, KeyError::NotRegular { .. }), "{error}");
}

// requirement: KD-6
#[test]
fn an_inherited_descriptor_and_a_made_file_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made");
    let made = RootKey::create_file(&path, &Seeded::new(5)).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(effect(&RootKey::from_file(&path).unwrap()), effect(&made));
    assert_eq!(
        effect(&RootKey::from_reader(File::open(&path).unwrap()).unwrap()),
        effect(&made)
    );
    // It never writes over anything, not even through a dangling link.
    assert!(matches!(
        refused(RootKey::create_file(&path, &Seeded::new(6))),
        KeyError::Open { .. }
    ));
    let link = dir.path().join("dangling");
    symlink(dir.path().join("nowhere"), &link).unwrap();
    assert!(RootKey::create_file(&link, &Seeded::new(6)).is_err());
    assert!(!dir.path().join("nowhere").exists());
    // A descriptor that is not readable is an error, not an empty key.
    let write_only = OpenOptions::new()
        .append(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    assert!(matches!(
        refused(RootKey::from_reader(write_only)),
        KeyError::Io { .. }
    ));
}

// requirement: KD-6, KD-7
#[test]
fn a_signing_key_stands_in_a_file_with_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    for (scope, mark) in [
        (Scope::Production, "signing:"),
        (Scope::Test, "test-signing:"),
    ] {
        let path = dir.path().join(scope.to_string());
        let made = SigningKey::create_file(&path, scope, &Seeded::new(7)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let digits = text.strip_prefix(mark).unwrap();
        assert_eq!((digits.len(), made.scope()), (65, scope));
        let read = SigningKey::from_file(&path).unwrap();
        assert_eq!((read.public(), read.scope()), (made.public(), scope));
        assert!(
            matches!(refused(RootKey::from_file(&path)), KeyError::Format { .. }),
            "it seals nothing"
        );
        let open = key_file(dir.path(), "open", text.as_bytes(), 0o644);
        assert!(matches!(
            SigningKey::from_file(&open).err(),
            Some(KeyError::PermissionsTooOpen { .. })
        ));
    }
}

// requirement: KD-6, KD-7
#[test]
fn the_mark_of_a_signing_key_says_what_it_speaks_for() {
    let read = |text: &str| SigningKey::from_reader(text.as_bytes()).unwrap();
    let marked = read(&format!("signing:{GOOD}\n"));
    let test = read(&format!("test-signing:{GOOD}"));
    assert_eq!(marked.scope(), Scope::Production);
    assert_eq!(test.scope(), Scope::Test);
    // A file that seals does not sign.
    let bare = SigningKey::from_reader(GOOD.as_bytes());
    assert_eq!(bare.err(), Some(KeyError::NotSigning));
    // The two keys of one secret share nothing.
    assert_ne!(test.public().as_bytes(), marked.public().as_bytes());
    let signature = test.sign(b"words").unwrap();
    assert!(test.public().verifies(b"words", &signature));
    assert!(!marked.public().verifies(b"words", &signature));
    let other = SigningKey::from_reader(format!("signing :{GOOD}").as_bytes());
    assert!(matches!(other.err(), Some(KeyError::Format { .. })));
}

/// The expected value is HKDF-SHA256 of Python's `hmac` and `hashlib`.
// requirement: KD-10
#[test]
fn a_secret_has_an_id_of_its_own_that_no_start_changes() {
    let key = |text: &str| RootKey::from_reader(text.as_bytes()).unwrap();
    let id = key(GOOD).id().unwrap();
    assert_eq!(id.to_string(), "e826a87c59a9d599");
    assert_ne!(id.to_string(), effect(&key(GOOD)).0, "that of one start");
    let other = GOOD.replace("00", "01");
    assert_ne!(key(&other).id().unwrap(), id);
}

/// As records and events hold them; a log gets nothing of a tag.
// requirement: CI-006
#[test]
fn key_ids_and_tags_stand_as_hex_digits_and_a_tag_is_not_shown() {
    let id = KeyId::from_bytes([1, 2, 3, 4, 5, 6, 7, 0xef]);
    assert_eq!(String::from(id), "01020304050607ef");
    assert_eq!(KeyId::try_from("01020304050607ef".to_owned()), Ok(id));
    let tag = SealTag::from_bytes([0xa5; 32]);
    assert_eq!(String::from(tag.clone()), "a5".repeat(32));
    assert_eq!(SealTag::try_from("a5".repeat(32)).as_ref(), Ok(&tag));
    assert_eq!(format!("{tag:?}"), "SealTag(..)");
}
