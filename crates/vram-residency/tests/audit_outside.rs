//! Errors of files and papers: those that a manager meets leave their events, and
//! every other public error of the library has a reason why it leaves none.
//!
//! requirement: AU-7, AU-8, AU-14, TP-1

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use common::source::Ends;
use common::{Rig, root_key};
use vram_residency::audit::{Body, MemorySink, Severity};
use vram_residency::clock::Timestamp;
use vram_residency::error::Error;
use vram_residency::format::lfs::Pointer;
use vram_residency::format::{Dtype, Format, FormatError};
use vram_residency::key::{Scope, SigningKey};
use vram_residency::load::LoadError;
use vram_residency::receipt::{Certificate, Nonce, Signer};
use vram_residency::signed::AllowError;
use vram_residency::sim::SimOptions;
use vram_residency::{Policy, SealRequest, VramManager};

/// Enums that are walked here; `audit_variants.rs` walks the others.
const WALKED: [&str; 2] = ["FormatError", "ReceiptError"];

/// Enums of which no manager knows, and why they leave no event.
const REASONS: [(&str, &str); 10] = [
    (
        "Error",
        "the kinds of all the others, each walked as itself",
    ),
    (
        "OpenError",
        "there is no log to say it in: the start fails and names the directory",
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
    (
        "SignedError",
        "models are approved on the CPU before there is a manager",
    ),
    (
        "AllowError",
        "read before there is a manager: who starts one records the start that it blocks",
    ),
    ("SynthError", "test models are written without a manager"),
    (
        "SimOptionsError",
        "options of a simulated device are read before there is one",
    ),
];

/// Variants of `ReceiptError` that a manager does not meet: it signs papers, and
/// whoever receives one checks it, without a manager.
const CHECKING: [&str; 10] = [
    "Format",
    "Untrusted",
    "Signature",
    "Certificate",
    "Revoked",
    "Stale",
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
fn a_list_that_blocks_a_start_is_a_critical_event_before_there_is_a_manager() {
    let sink = std::sync::Arc::new(MemorySink::new());
    let builder = VramManager::builder().sink(sink.clone());
    let blocked = Body::start_blocked("signed_models", &AllowError::Signature.to_string());
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
    assert!(
        violation.as_str().contains("signature is wrong"),
        "{violation}"
    );
    assert_eq!(action_taken.as_str(), "worker_startup_blocked");
}
