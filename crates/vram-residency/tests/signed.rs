//! Models signed by the real tool (`testdata/signed/make.py`), whole and
//! tampered with.

mod signed_support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use signed_support::*;
use vram_residency::signed::{CheckedModel, ModelTrust, SignedError};

const NAMES: [&str; 5] = [
    "config.json",
    "empty.txt",
    "tokenizer-2.json",
    "tokenizer/vocab.txt",
    "weights.bin",
];

fn roots(name: &str) -> ModelTrust {
    ModelTrust::new().roots(&read(name)).unwrap()
}

fn names(model: &CheckedModel) -> Vec<&str> {
    model
        .files()
        .iter()
        .map(|file| file.name.as_str())
        .collect()
}

fn refusal(found: Result<CheckedModel, SignedError>) -> SignedError {
    let error = found.unwrap_err();
    assert!(error.is_verdict(), "{error}");
    error
}

// requirement: PM-15
#[test]
fn what_the_tool_signed_is_believed_and_measured() {
    let model = fixture("model");
    for key in ["p256", "p384", "p521"] {
        let checked = check(&trust_key(key), &read(&format!("{key}.sig")), &model).unwrap();
        assert_eq!(names(&checked), NAMES, "{key}");
        assert_eq!(checked.name(), "model");
        assert!(checked.signer().as_str().starts_with("key:sha256:"));
        let uncovered = checked.uncovered().iter().map(ToString::to_string);
        assert_eq!(uncovered.collect::<Vec<_>>(), ["notes"]);
        for file in checked.files() {
            let bytes = std::fs::read(model.join(file.name.as_str())).unwrap();
            assert_eq!(file.bytes, bytes.len() as u64);
            assert_eq!(file.digest, vram_digest::digest(&bytes), "{}", file.name);
        }
    }
}

// requirement: PM-15
#[test]
fn shards_and_single_files_are_read_as_the_tool_cuts_them() {
    let model = fixture("model");
    let checked = check(&trust_key("shards"), &read("shards.sig"), &model).unwrap();
    // The tool lists no empty file when it cuts files.
    let listed: Vec<_> = NAMES
        .into_iter()
        .filter(|name| *name != "empty.txt")
        .collect();
    assert_eq!(names(&checked), listed);
    let uncovered: Vec<_> = checked
        .uncovered()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(uncovered.contains(&"empty.txt".to_owned()), "{uncovered:?}");
    let weights = model.join("weights.bin");
    let single = check(&trust_key("single"), &read("single.sig"), &weights).unwrap();
    assert_eq!(names(&single), ["."]);
    assert_eq!(single.files()[0].bytes, 20_000);
    // A directory is no such model, and a file is not the directory's.
    let single = check(&trust_key("single"), &read("single.sig"), &model);
    assert!(matches!(
        refusal(single),
        SignedError::Extra { .. } | SignedError::Missing { .. }
    ));
    let other = check(&trust_key("p256"), &read("p256.sig"), &weights);
    assert!(matches!(refusal(other), SignedError::Extra { .. }));
}

// requirement: PM-15
#[test]
fn certificates_are_followed_to_the_root_and_name_the_signer() {
    let model = fixture("model");
    let wide = check(&roots("wide-root.pem"), &read("wide.sig"), &model).unwrap();
    assert!(wide.signer().as_str().ends_with(":models@example.com"));
    let bundle = read("chain.sig");
    let checked = check(&roots("chain-root.pem"), &bundle, &model).unwrap();
    assert_eq!(names(&checked), NAMES);
    let signer = checked.signer().as_str();
    assert!(signer.starts_with("cert:sha256:"), "{signer}");
    assert!(signer.ends_with(":models@example.com"), "{signer}");
    for name in ["models@example.com", "https://example.com/ci"] {
        let trust = roots("chain-root.pem").identity(name);
        let checked = check(&trust, &bundle, &model).unwrap();
        assert!(checked.signer().as_str().ends_with(&format!(":{name}")));
    }
    // The last one is the certificate's common name, which is not looked at beside others.
    for name in ["other@example.com", "Signer"] {
        let other = roots("chain-root.pem").identity(name);
        let error = refusal(check(&other, &bundle, &model));
        assert!(matches!(error, SignedError::Identity { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("models@example.com"), "{text}");
        assert!(!text.contains("Signer"), "{text}");
    }
}

/// Limits on the names that an authority may certify bind no common name.
// requirement: PM-15
#[test]
fn a_common_name_counts_where_it_is_the_only_name_and_names_are_not_limited() {
    let model = fixture("model");
    let asked = |name: &str, identity: Option<&str>| {
        let trust = roots(&format!("{name}-root.pem"));
        let trust = identity.map_or(trust.clone(), |identity| trust.identity(identity));
        check(&trust, &read(&format!("{name}.sig")), &model)
    };
    for identity in [None, Some("Signer")] {
        let checked = asked("common", identity).unwrap();
        assert!(checked.signer().as_str().ends_with(":Signer"));
        let error = refusal(asked("limited", identity));
        assert!(error.to_string().contains("it names nobody"), "{error}");
    }
}

// requirement: PM-15
#[test]
fn nobody_else_is_believed() {
    let model = fixture("model");
    let refused = |trust: &ModelTrust, bundle: &str| refusal(check(trust, &read(bundle), &model));
    // Nobody at all, another key, a key where a certificate is, and the reverse.
    let error = refused(&ModelTrust::new(), "p256.sig");
    assert!(matches!(error, SignedError::Untrusted { .. }), "{error}");
    let error = refused(&trust_key("p384"), "p256.sig");
    assert!(matches!(error, SignedError::Untrusted { .. }), "{error}");
    let error = refused(&trust_key("p256"), "chain.sig");
    assert!(matches!(error, SignedError::Untrusted { .. }), "{error}");
    let error = refused(&roots("chain-root.pem"), "p256.sig");
    assert!(matches!(error, SignedError::Untrusted { .. }), "{error}");
    // A root that did not issue it, though it has the same name.
    let error = refused(&roots("authority-root.pem"), "chain.sig");
    assert!(matches!(error, SignedError::Certificate { .. }), "{error}");
    // A certificate of an authority signs certificates, not models.
    let error = refused(&roots("authority-root.pem"), "authority.sig");
    assert!(matches!(error, SignedError::Certificate { .. }), "{error}");
    // A key that agrees on keys and signs nothing.
    let error = refused(&roots("unfit-root.pem"), "unfit.sig");
    assert!(
        error.to_string().contains("not meant for signatures"),
        "{error}"
    );
    // A name is asked for, and a key has none.
    let error = refused(
        &trust_key("p256").identity("models@example.com"),
        "p256.sig",
    );
    assert!(matches!(error, SignedError::Identity { .. }), "{error}");
}

/// Public keys whose private halves nobody kept.
const RSA: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAs2jOaAWBdFE1WjLf2Otc
Vo2TwW/+g10ijJxUzbD0Nk+BJ7//s84kPxKrWOzSZ0WOayWygGhW622Qs7SFuVUx
JfTfp1Go7LR7YtJcpfK32Ep3nhcEGs7lof3rPocMOKWGXck7glu73dXh15rU2x8X
WUkoqe98G8ar0UbIvfUxLNxbsKG3Mp6RnE9gJ0Cc7TkCwmFUuCNcJYmZXTN4d/Kl
I/ytl9YiVG4GRK/ZSjbnu3sHSdCKeex0d4U8eE0Ds8Fhukf4g/qaKp/FtXjon92x
L7AhWnHItc8GdkzLqdwCK63T9eIiRoPGLm8oVzjSRAbFTs9i1pibnjHMil97Qkvj
wQIDAQAB
-----END PUBLIC KEY-----
";
const ED25519: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAgIyNz4jO5IyBWonUbWElgBQePZc7uv2eZsO9RUjoTAI=
-----END PUBLIC KEY-----
";

#[test]
fn what_is_not_read_is_named() {
    let model = fixture("model");
    for key in [RSA, ED25519] {
        let error = ModelTrust::new().key(key.as_bytes()).unwrap_err();
        assert!(matches!(error, SignedError::Unsupported { .. }), "{error}");
        assert!(
            error.to_string().contains("P-256, P-384 or P-521"),
            "{error}"
        );
    }
    // A signature that cannot be checked is neither good nor wrong.
    let error = check(&roots("rsa-root.pem"), &read("rsa.sig"), &model).unwrap_err();
    assert!(matches!(error, SignedError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("else than ECDSA"), "{error}");
    let error = check(&trust_key("blake3"), &read("blake3.sig"), &model).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    for text in [
        "",
        "no key",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(ModelTrust::new().key(text.as_bytes()).is_err(), "{text}");
        assert!(ModelTrust::new().roots(text.as_bytes()).is_err(), "{text}");
    }
}

/// What happens to a model, and how the refusal must begin.
type Change = (&'static str, fn(&Path), &'static str);

// requirement: PM-15
#[test]
fn every_change_of_a_model_is_named() {
    let changes: [Change; 12] = [
        (
            "first byte",
            |at| flip(&at.join("weights.bin"), 0),
            "weights.bin is not as it was",
        ),
        (
            "last byte",
            |at| flip(&at.join("weights.bin"), 19_999),
            "weights.bin is not as it was",
        ),
        (
            "shard border",
            |at| flip(&at.join("weights.bin"), 8_192),
            "weights.bin is not as it was",
        ),
        (
            "longer",
            |at| append(&at.join("weights.bin")),
            "weights.bin is not as it was",
        ),
        (
            "shorter",
            |at| cut(&at.join("weights.bin")),
            "weights.bin is not as it was",
        ),
        (
            "added",
            |at| std::fs::write(at.join("more.bin"), "x").unwrap(),
            "more.bin was not signed",
        ),
        (
            "added below",
            |at| std::fs::write(at.join("tokenizer/.hidden"), "x").unwrap(),
            "tokenizer/.hidden was not signed",
        ),
        (
            "removed",
            |at| std::fs::remove_file(at.join("config.json")).unwrap(),
            "config.json was signed",
        ),
        (
            "renamed",
            |at| std::fs::rename(at.join("config.json"), at.join("Config.json")).unwrap(),
            "C",
        ),
        ("swapped", swap, ""),
        (
            "linked out",
            |at| link(at, Path::new("/etc/passwd")),
            "config.json is a symbolic link",
        ),
        (
            "a directory",
            |at| link(at, Path::new("tokenizer")),
            "config.json is a symbolic link",
        ),
    ];
    for (name, change, expected) in changes {
        let dir = model_copy();
        change(dir.path());
        for bundle in ["p256", "shards"] {
            let bytes = read(&format!("{bundle}.sig"));
            let error = refusal(check(&trust_key(bundle), &bytes, dir.path()));
            let text = error.to_string();
            assert!(
                text.to_lowercase().starts_with(&expected.to_lowercase()),
                "{name}: {text}"
            );
        }
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn append(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.push(0);
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..16_384]).unwrap();
}

/// Two signed files under each other's names.
fn swap(at: &Path) {
    let (one, other) = (at.join("config.json"), at.join("tokenizer-2.json"));
    let contents = std::fs::read(&one).unwrap();
    std::fs::copy(&other, &one).unwrap();
    std::fs::write(&other, contents).unwrap();
}

/// The same bytes or others, through a link that no cache made.
fn link(at: &Path, target: &Path) {
    let place = at.join("config.json");
    std::fs::remove_file(&place).unwrap();
    symlink(target, place).unwrap();
}

/// The model as a Hugging Face cache keeps it; the snapshot's path.
fn cache() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let snapshot = home.path().join("models--a--b/snapshots/0123abc");
    let blobs = home.path().join("models--a--b/blobs");
    std::fs::create_dir_all(snapshot.join("tokenizer")).unwrap();
    std::fs::create_dir(&blobs).unwrap();
    for (at, name) in NAMES.iter().enumerate() {
        std::fs::copy(fixture("model").join(name), blobs.join(at.to_string())).unwrap();
        let up = if name.contains('/') { "../" } else { "" };
        let target = format!("{up}../../blobs/{at}");
        symlink(target, snapshot.join(name)).unwrap();
    }
    (home, snapshot)
}

// requirement: PM-15
#[test]
fn a_snapshot_of_a_cache_is_its_files() {
    let (_home, snapshot) = cache();
    for bundle in ["p256", "shards"] {
        let bytes = read(&format!("{bundle}.sig"));
        let model = check(&trust_key(bundle), &bytes, &snapshot).unwrap();
        let plain = check(&trust_key(bundle), &bytes, &fixture("model")).unwrap();
        assert_eq!(model.files(), plain.files());
    }
}

// requirement: PM-15
#[test]
fn links_lead_into_the_caches_own_blobs_or_nowhere() {
    let changes: [Change; 7] = [
        (
            "a blob",
            |at| std::fs::write(at.join("../../blobs/0"), "{}").unwrap(),
            "is not as",
        ),
        (
            "out",
            |at| link(at, Path::new("/etc/passwd")),
            "is a symbolic link",
        ),
        (
            "beside the cache",
            |at| {
                std::fs::copy(at.join("config.json"), at.join("../../../same")).unwrap();
                link(at, Path::new("../../../same"));
            },
            "is a symbolic link",
        ),
        (
            "out by two steps",
            |at| {
                symlink("/etc/passwd", at.join("../../blobs/9")).unwrap();
                link(at, Path::new("../../blobs/9"));
            },
            "is a symbolic link",
        ),
        (
            "all blobs",
            |at| link(at, Path::new("../../blobs")),
            "is a symbolic link",
        ),
        (
            "nothing",
            |at| link(at, Path::new("../../blobs/10")),
            "is a symbolic link",
        ),
        (
            "blobs that lie elsewhere",
            |at| {
                std::fs::rename(at.join("../../blobs"), at.join("../../../blobs")).unwrap();
                symlink("../blobs", at.join("../../blobs")).unwrap();
            },
            "is a symbolic link",
        ),
    ];
    for (name, change, expected) in changes {
        let (_home, snapshot) = cache();
        change(&snapshot);
        let error = refusal(check(&trust_key("p256"), &read("p256.sig"), &snapshot));
        let text = error.to_string();
        assert!(text.contains(expected), "{name}: {text}");
    }
    let (home, snapshot) = cache();
    let other = home.path().join("models--a--b/others");
    std::fs::rename(snapshot.parent().unwrap(), &other).unwrap();
    let error = refusal(check(
        &trust_key("p256"),
        &read("p256.sig"),
        &other.join("0123abc"),
    ));
    assert!(
        matches!(error, SignedError::NotAFile { is_link: true, .. }),
        "{error}"
    );
}

#[test]
fn special_files_and_odd_names_end_the_check_without_waiting() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = model_copy();
    let fifo = dir.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = refusal(check(&trust_key("p256"), &read("p256.sig"), dir.path()));
    assert_eq!(
        error.to_string(),
        "pipe is a special file; a signed model is of regular files"
    );
    std::fs::remove_file(fifo).unwrap();
    for odd in [&b"a\xff"[..], b"a\nb"] {
        let odd = dir.path().join(OsStr::from_bytes(odd));
        std::fs::write(&odd, "x").unwrap();
        let error = refusal(check(&trust_key("p256"), &read("p256.sig"), dir.path()));
        assert!(matches!(error, SignedError::Name { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        std::fs::remove_file(odd).unwrap();
    }
    let missing = check(&trust_key("p256"), &read("p256.sig"), Path::new("/nowhere"));
    assert!(matches!(missing.unwrap_err(), SignedError::Io { .. }));
}

#[test]
fn only_the_signature_itself_may_lie_among_the_files() {
    let dir = model_copy();
    let place = dir.path().join("model.sig");
    std::fs::copy(fixture("p256.sig"), &place).unwrap();
    let verify = || trust_key("p256").verify(&read("p256.sig")).unwrap();
    let checked = verify().check(dir.path(), Some(&place), &|_| {}).unwrap();
    assert_eq!(names(&checked), NAMES);
    // Told by what it is: a copy elsewhere is another file.
    let error = verify().check(dir.path(), Some(&fixture("p256.sig")), &|_| {});
    assert_eq!(refusal(error).to_string(), "model.sig was not signed");
    // Naming a signed file as the signature does not take it out.
    std::fs::remove_file(&place).unwrap();
    let weights = dir.path().join("weights.bin");
    flip(&weights, 7);
    let error = refusal(verify().check(dir.path(), Some(&weights), &|_| {}));
    assert_eq!(error.to_string(), "weights.bin is not as it was signed");
}

#[test]
fn the_caller_hears_of_every_byte() {
    let read_bytes = std::cell::Cell::new(0);
    let verified = trust_key("p256").verify(&read("p256.sig")).unwrap();
    let advance = |bytes: u64| read_bytes.set(read_bytes.get() + bytes);
    let checked = verified.check(&fixture("model"), None, &advance).unwrap();
    let total: u64 = checked.files().iter().map(|file| file.bytes).sum();
    assert_eq!(read_bytes.get(), total);
}
