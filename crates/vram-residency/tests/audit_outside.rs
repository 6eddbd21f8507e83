//! Errors of files and papers: those that a manager meets leave their events, and
//! every other public error of the library has a reason why it leaves none.
//!
//! requirement: AU-7, AU-8, AU-14, TP-1

mod audit_log_support;
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use audit_log_support as support;
use common::source::Ends;
use common::{Rig, root_key, skipped};
use vram_residency::audit::log::{LogSink, change_key};
use vram_residency::audit::note::Origin;
use vram_residency::audit::{Body, MemorySink, Severity, Sink as _};
use vram_residency::clock::{SystemClock, Timestamp};
use vram_residency::error::{Code, Error};
use vram_residency::format::lfs::Pointer;
use vram_residency::format::{Dtype, Format, FormatError};
use vram_residency::key::{KeyError, Scope, SigningKey};
use vram_residency::load::LoadError;
use vram_residency::receipt::{Certificate, Nonce, ReceiptError, Signer};
use vram_residency::signed::AllowError;
use vram_residency::sim::SimOptions;
use vram_residency::{Policy, SealRequest, VramManager};

/// Enums that are walked here; `audit_variants.rs` walks the others.
const WALKED: [&str; 5] = [
    "AllowError",
    "FormatError",
    "OpenError",
    "ReceiptError",
    "SignedError",
];

/// Enums of which no manager knows, and why they leave no event.
const REASONS: [(&str, &str); 7] = [
    (
        "Error",
        "the kinds of all the others, each walked as itself",
    ),
    (
        "CheckError",
        "who checks a log reads it and changes nothing",
    ),
    (
        "ProofError",
        "who proves something of a log reads it and changes nothing",
    ),
    ("NoteError", "who reads a checkpoint changes nothing"),
    (
        "SetFault",
        "who receives receipts checks them, and has no manager",
    ),
    ("SynthError", "test models are written without a manager"),
    (
        "SimOptionsError",
        "options of a simulated device are read before there is one",
    ),
];

/// Variants of `ReceiptError` that a manager does not meet: it signs papers, and
/// whoever receives one checks it, without a manager.
const CHECKING: [&str; 13] = [
    "Format",
    "Untrusted",
    "Signature",
    "Tag",
    "Certificate",
    "Revoked",
    "Unrevoked",
    "Stale",
    "Early",
    "Set",
    "Contradiction",
    "Nonce",
    "Simulated",
];

/// Signing fails with a key that is gone; keys in memory are not. Recorded where
/// `Production` is, by the same line.
const BY_THE_SAME_LINE: &str = "Key";

/// The public enums that are errors, with the names of their variants.
fn declared() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found
}

fn collect(folder: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("\npub enum ") {
            let attributes = text[..at].rsplit("\n\n").next().unwrap();
            if attributes.contains("thiserror::Error") {
                let (head, body) = text[at + 10..].split_once(" {").unwrap();
                let (body, _) = body.split_once("\n}").unwrap();
                found.insert(head.to_owned(), variants(body));
            }
        }
    }
}

fn variants(body: &str) -> Vec<String> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let word = |line: &str| line.chars().take_while(|c| c.is_alphanumeric()).collect();
    names.map(word).collect()
}

/// The variant of an error, as its `Debug` begins.
fn variant(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

#[test]
fn every_public_error_is_walked_or_has_a_reason() {
    let walked = include_str!("audit_variants.rs");
    let found = declared();
    assert!(found.len() >= 17, "{found:?}");
    for name in found.keys() {
        let there = walked.contains(&format!("\"{name}\"")) || WALKED.contains(&name.as_str());
        let excused = REASONS.iter().any(|(excused, _)| excused == name);
        assert!(
            there != excused,
            "{name}: walked {there}, excused {excused}"
        );
    }
    for (excused, _) in REASONS {
        assert!(found.contains_key(excused), "an excuse for {excused}");
    }
}

/// Every variant of [`FormatError`].
fn format_errors() -> Vec<FormatError> {
    let io = || io::Error::other("test");
    let (name, field) = (|| "t".into(), "field");
    vec![
        FormatError::Io {
            offset: 0,
            len: 1,
            source: io(),
        },
        FormatError::Path {
            path: name(),
            source: io(),
        },
        FormatError::Truncated {
            field,
            offset: 0,
            need: 2,
            have: 1,
        },
        FormatError::TooLarge {
            field,
            value: 2,
            limit: 1,
            setting: None,
        },
        FormatError::OtherFormat {
            expected: Format::Gguf,
            found: Format::Safetensors,
        },
        FormatError::LfsPointer(Pointer {
            oid: "0".repeat(64),
            size: 1,
        }),
        FormatError::LfsMalformed {
            line: 1,
            reason: "test",
        },
        FormatError::WrongStart {
            expected: Format::Gguf,
            reason: "test",
        },
        FormatError::Version(9),
        FormatError::BigEndian,
        FormatError::Json {
            line: 1,
            column: 1,
            reason: name(),
        },
        FormatError::Duplicate {
            what: "name",
            name: name(),
        },
        FormatError::BadName {
            what: "name",
            name: name(),
            reason: "test",
        },
        FormatError::NotUtf8 { field, offset: 0 },
        FormatError::Missing { of: name(), field },
        FormatError::BadValue {
            of: name(),
            field,
            value: name(),
            reason: "test",
        },
        FormatError::Overflow {
            name: name(),
            field,
            value: name(),
        },
        FormatError::PartialBlock {
            name: name(),
            dtype: Dtype::F32,
            elements: 1,
        },
        FormatError::SizeMismatch {
            name: name(),
            need: 1,
            have: 2,
        },
        FormatError::Unaligned {
            name: name(),
            offset: 1,
            alignment: 2,
        },
        FormatError::Overlap {
            first: name(),
            second: name(),
            offset: 1,
        },
        FormatError::Gap {
            name: name(),
            from: 1,
            to: 2,
        },
        FormatError::Trailing { from: 1, to: 2 },
        FormatError::OutsideFile {
            name: name(),
            end: 2,
            file_len: 1,
        },
        FormatError::Set {
            part: name(),
            reason: "test".to_owned(),
        },
        FormatError::In {
            place: "there".to_owned(),
            source: Box::new(FormatError::BigEndian),
        },
        FormatError::Escapes { name: name() },
    ]
}

fn rig() -> Rig {
    Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |b| b)
}

// requirement: AU-8, AU-14
#[test]
fn every_fault_of_a_models_format_leaves_the_events_of_a_seal_that_failed() {
    let rig = rig();
    let mut walked = BTreeSet::new();
    for (at, error) in format_errors().into_iter().enumerate() {
        let (name, words) = (variant(&error), error.to_string());
        walked.insert(name.clone());
        let before = rig.sink.types().len();
        let make = move || LoadError::Format {
            name: "ends".to_owned(),
            source: format_errors().remove(at),
        };
        let refused = rig.manager.seal(SealRequest::source(Ends(Box::new(make))));
        assert!(
            matches!(refused, Err(Error::Load(LoadError::Format { .. }))),
            "{name}"
        );
        let expected = [
            "vram.allocated",
            "model.load_started",
            "vram.deallocated",
            "vram.seal_failed",
        ];
        assert_eq!(rig.sink.types()[before..], expected, "{name}");
        let last = rig.sink.events().pop().unwrap();
        let Body::VramSealFailed { reason, .. } = &last.body else {
            panic!("{name}")
        };
        assert!(reason.as_str().contains(&words), "{name}: {reason}");
    }
    let declared: BTreeSet<_> = declared()
        .remove("FormatError")
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(walked, declared);
}

// requirement: AU-7, AU-14
#[test]
fn every_paper_that_is_refused_a_signature_leaves_an_event() {
    let rig = rig();
    let shard = rig.manager.seal(SealRequest::bytes(&[7; 9000])).unwrap();
    let test = SigningKey::scoped(&root_key(3), Scope::Test).unwrap();
    let production = SigningKey::scoped(&root_key(3), Scope::Production).unwrap();
    let (from, to) = (Timestamp::from_nanos(0), Timestamp::from_nanos(u64::MAX));
    let other = Certificate::issue(
        &production,
        test.public(),
        "other".parse().unwrap(),
        from,
        to,
    );
    let other = other.unwrap();
    let signers = [
        (
            "Production",
            Signer {
                key: &production,
                certificate: None,
            },
        ),
        (
            "Scope",
            Signer {
                key: &test,
                certificate: Some(&other),
            },
        ),
    ];
    let mut met = BTreeSet::from([BY_THE_SAME_LINE.to_owned()]);
    let nonce = Nonce::new(&[1; 16]).unwrap();
    for (expected, signer) in &signers {
        let answers = [
            rig.manager.issue_receipt(&shard, signer).map(drop),
            rig.manager.answer(&shard, &nonce, signer).map(drop),
        ];
        for answer in answers {
            let Err(Error::Receipt(error)) = answer else {
                panic!("{expected}: {answer:?}")
            };
            assert_eq!(variant(&error), *expected);
            let failed = |body: &Body| matches!(body, Body::OperationFailed { reason, .. } if reason.as_str() == error.to_string());
            assert!(
                rig.sink.events().iter().any(|event| failed(&event.body)),
                "{error}"
            );
        }
        met.insert((*expected).to_owned());
    }
    assert_eq!(rig.count("operation.failed"), 2 * signers.len());
    met.extend(CHECKING.map(str::to_owned));
    let declared: BTreeSet<_> = declared()
        .remove("ReceiptError")
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(met, declared);
}

// requirement: AU-7
#[test]
fn every_list_that_blocks_a_start_is_a_critical_event_before_there_is_a_manager() {
    let mut walked = BTreeSet::new();
    for error in allow_errors() {
        let sink = std::sync::Arc::new(MemorySink::new());
        let builder = VramManager::builder().sink(sink.clone());
        let blocked = Body::start_blocked("signed_models", &error.to_string());
        builder.record(blocked).unwrap();
        let events = sink.events();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].severity, Severity::Critical);
        let Body::PolicyViolation {
            violation,
            action_taken,
            ..
        } = &events[0].body
        else {
            panic!("{events:?}")
        };
        assert_eq!(violation.as_str(), error.to_string());
        assert_eq!(action_taken.as_str(), "worker_startup_blocked");
        walked.insert(variant(&error));
    }
    assert_eq!(walked, variants_of("AllowError"));
}

/// Every variant of [`AllowError`].
fn allow_errors() -> Vec<AllowError> {
    let reason = || "line 3: test".to_owned();
    let key_id = SigningKey::new(&root_key(3)).unwrap().public().id();
    vec![
        AllowError::Format { reason: reason() },
        AllowError::Policy { reason: reason() },
        AllowError::Untrusted { key_id },
        AllowError::Revoked { key_id },
        AllowError::Signature,
        AllowError::Revocations(ReceiptError::Signature),
        AllowError::Read { reason: reason() },
        AllowError::File {
            path: "allow.toml".to_owned(),
            source: Box::new(AllowError::Signature),
        },
        AllowError::Key(KeyError::Entropy),
    ]
}

fn variants_of(name: &str) -> BTreeSet<String> {
    declared().remove(name).unwrap().into_iter().collect()
}

/// Models are approved on the CPU, where no manager is and no log; every refusal is
/// brought about by the tests of that.
#[test]
fn every_refusal_of_a_signed_model_is_walked_by_its_own_tests() {
    let tests = [
        include_str!("signed.rs"),
        include_str!("signed_hostile.rs"),
        include_str!("signed_support/mod.rs"),
    ];
    let declared = variants_of("SignedError");
    assert!(declared.len() >= 15, "{declared:?}");
    let met = tests.iter().flat_map(|text| text.split("SignedError::"));
    let met: BTreeSet<String> = met
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect())
        .collect();
    let silent: Vec<_> = declared.difference(&met).collect();
    assert!(silent.is_empty(), "no test brings about {silent:?}");
}

/// A log that cannot be opened is left as it is, and the start that fails for it is
/// told to whoever else listens.
// requirement: AU-7, AU-10
#[test]
fn every_log_that_cannot_be_opened_is_named_left_alone_and_told() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let mut walked = BTreeSet::new();
    for (name, spoil) in spoilt() {
        drop(support::open(&dir, support::options()).unwrap());
        let held = spoil(&dir);
        let before = support::read_all(&dir);
        let opened = support::open(&dir, support::options()).err();
        if opened.is_none() && name == "Owner" && !rustix::process::geteuid().is_root() {
            skipped("what is told of a log of another user: giving a directory away needs root");
            walked.insert(name.to_owned());
            continue;
        }
        let error = opened.unwrap();
        assert_eq!(variant(&error), name, "{error}");
        let words = error.to_string();
        assert!(words.contains(dir.to_str().unwrap()), "{words}");
        assert_eq!(support::read_all(&dir), before, "{name}");
        let sink = std::sync::Arc::new(MemorySink::new());
        let failed = Body::start_failed(Code::Internal, &words);
        let builder = VramManager::builder().sink(sink.clone());
        builder.record(failed).unwrap();
        let told = sink.events().pop().unwrap().body;
        assert!(
            matches!(&told, Body::OperationFailed { reason, .. } if reason.as_str() == words),
            "{told:?}"
        );
        walked.insert(name.to_owned());
        drop(held);
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert_eq!(walked, variants_of("OpenError"));
}

/// Does something to a log for which it cannot be opened; what must live meanwhile.
type Spoil = fn(&Path) -> Option<LogSink>;

/// The variants of `OpenError`, and what brings each about.
fn spoilt() -> [(&'static str, Spoil); 8] {
    use std::os::unix::fs::PermissionsExt;
    [
        ("Io", |dir| {
            std::fs::remove_file(dir.join("lock")).unwrap();
            std::fs::create_dir(dir.join("lock")).unwrap();
            None
        }),
        ("PermissionsTooOpen", |dir| {
            let mode = std::fs::Permissions::from_mode(0o750);
            std::fs::set_permissions(dir, mode).unwrap();
            None
        }),
        ("Owner", |dir| {
            let _ = std::os::unix::fs::chown(dir, Some(4242), None);
            None
        }),
        ("Locked", |dir| {
            let log = support::open(dir, support::options()).unwrap();
            log.flush().unwrap();
            Some(log)
        }),
        ("Damaged", |dir| {
            std::fs::remove_file(dir.join("checkpoint")).unwrap();
            None
        }),
        ("Replaced", |dir| {
            let clock = std::sync::Arc::new(SystemClock::new());
            let next = SigningKey::new(&root_key(9)).unwrap();
            change_key(dir, &support::options(), support::key(), next, clock).unwrap();
            None
        }),
        ("OtherKey", |dir| {
            std::fs::remove_dir_all(dir).unwrap();
            support::write_as(dir, SigningKey::new(&root_key(9)).unwrap(), 1..2);
            None
        }),
        ("Origin", |dir| {
            std::fs::remove_dir_all(dir).unwrap();
            let mut other = support::options();
            other.origin = Origin::new("other").unwrap();
            drop(support::open(dir, other).unwrap());
            None
        }),
    ]
}
