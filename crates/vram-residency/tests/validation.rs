//! What comes from outside is checked in one layer, before anything happens.
//!
//! requirement: IV-002, IV-003, IV-004, IV-005

mod common;

use common::{Rig, cases, rig, rig_of};
use proptest::prelude::*;
use vram_digest::FileDigest;
use vram_residency::error::{Error, InputError};
use vram_residency::seal::Record;
use vram_residency::shard::{ModelRef, ShardId, WorkerId};
use vram_residency::{Policy, SealRequest, SealedShard, VramManager};

/// Must be refused as input, and must have done nothing.
fn refused(rig: &Rig, request: SealRequest<'_>) -> InputError {
    let before = rig.sink.events().len();
    let error = rig.manager.seal(request).unwrap_err();
    let Error::Input(error) = error else {
        panic!("{error}");
    };
    assert_eq!(rig.sink.events().len(), before, "refused input is no event");
    error
}

// requirement: IV-002, VA-2, API-F39
#[test]
fn gpu_device_validation() {
    let rig = rig_of(3, 1 << 20, Policy::default());
    for ordinal in 0..3 {
        let request = SealRequest::bytes(b"weights").device(ordinal);
        let shard = rig.manager.seal(request).unwrap();
        assert_eq!(shard.record().gpu_device, ordinal);
    }
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    for ordinal in [3, 4, 64, 65_536, u32::MAX] {
        let error = refused(&rig, SealRequest::bytes(b"weights").device(ordinal));
        let known = "0, 1, 2".to_owned();
        assert_eq!(error, InputError::NoSuchDevice { ordinal, known });
        let manager = &rig.manager;
        // Every call that takes an index, not only the seal.
        for answer in [
            manager.capacity(ordinal).map(drop),
            manager.driver_memory(ordinal).map(drop),
            manager.can_admit(ordinal, 1).map(drop),
            manager.reserve(ordinal, 1).map(drop),
            manager.is_policy_enforced(ordinal).map(drop),
            manager.key_id(ordinal).map(drop),
            manager.migrate_shard(&shard, ordinal).map(drop),
        ] {
            assert!(matches!(answer, Err(Error::Input(_))), "{answer:?}");
        }
    }
    assert!(shard.is_sealed(), "where it was");
}

// requirement: IV-002, API-F10, API-F8
#[test]
fn correct_gpu_chosen() {
    let rig = rig_of(3, 1 << 20, Policy::default());
    let held = |rig: &Rig| -> Vec<usize> {
        rig.devices
            .iter()
            .map(|device| device.buffers().len())
            .collect()
    };
    let on = |ordinal| {
        let request = SealRequest::bytes(b"weights").device(ordinal);
        rig.manager.seal(request).unwrap()
    };
    let third: SealedShard = on(2);
    assert_eq!(held(&rig), [0, 0, 1]);
    assert_eq!(third.record().device_uuid, rig.manager.devices()[2].uuid);
    let second = on(1);
    assert_eq!(held(&rig), [0, 1, 1]);
    let unnamed = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    assert_eq!(held(&rig), [1, 1, 1], "the first one, when none is named");
    assert_eq!(unnamed.record().gpu_device, 0);
    let moved = rig.manager.migrate_shard(&third, 1).unwrap();
    assert_eq!(held(&rig), [1, 2, 0]);
    drop((second, moved));
    assert_eq!(held(&rig), [1, 0, 0]);
}

/// Whether an error is the expected one.
type IsError = fn(&InputError) -> bool;

// requirement: IV-003, VA-1, VA-7, AU-14
#[test]
fn shard_id_validation() {
    let rig = rig(1 << 20);
    let longest = "x".repeat(256);
    for good in ["a", "A-b_9", "-", "_", longest.as_str()] {
        let shard = rig.manager.seal(SealRequest::bytes(b"w").id(good)).unwrap();
        assert_eq!(shard.id().as_str(), good);
    }
    let longer = "x".repeat(257);
    let is: [(&str, IsError); 14] = [
        ("", |e| matches!(e, InputError::Empty { .. })),
        (&longer, |e| {
            matches!(
                e,
                InputError::TooLong {
                    len: 257,
                    max: 256,
                    ..
                }
            )
        }),
        ("../etc/passwd", |e| {
            e.to_string().contains("path traversal")
        }),
        ("..", |e| matches!(e, InputError::PathTraversal { .. })),
        ("a/b", |e| matches!(e, InputError::PathTraversal { .. })),
        ("a\\b", |e| matches!(e, InputError::PathTraversal { .. })),
        ("shard\0null", |e| matches!(e, InputError::NullByte { .. })),
        ("@#$%", |e| {
            matches!(e, InputError::Characters { position: 0, .. })
        }),
        ("a b", |e| {
            matches!(e, InputError::Characters { position: 1, .. })
        }),
        ("a:b", |e| matches!(e, InputError::Characters { .. })),
        ("ab\n", |e| {
            matches!(e, InputError::Characters { position: 2, .. })
        }),
        ("\u{1b}[31m", |e| matches!(e, InputError::Characters { .. })),
        ("sch\u{e4}rd", |e| {
            matches!(e, InputError::Characters { .. })
        }),
        ("\u{1f980}", |e| matches!(e, InputError::Characters { .. })),
    ];
    for (bad, expected) in is {
        let error = refused(&rig, SealRequest::bytes(b"w").id(bad));
        assert!(expected(&error), "{bad:?}: {error}");
        assert!(error.to_string().is_ascii(), "echoed raw: {error}");
        assert!(bad.parse::<WorkerId>().is_err(), "{bad:?}");
    }
    rig.assert_empty();
}

// requirement: IV-004, VA-5, DG-4
#[test]
fn digest_validation() {
    let rig = rig(1 << 20);
    let right = vram_digest::digest(b"weights").to_string();
    let expect = |text: &str| {
        rig.manager
            .seal(SealRequest::bytes(b"weights").expect(text))
    };
    assert!(expect(&right).is_ok());
    let is_digest = |error: &InputError| matches!(error, InputError::Digest { .. });
    let mut short = right.clone();
    short.pop();
    let with_nul = format!("{short}\0");
    for bad in [
        "",
        &short,
        &format!("{right}0"),
        &right.to_uppercase(),
        &format!("sha256:{right}"),
        &format!(" {short}"),
        &"g".repeat(64),
        &"\u{e9}".repeat(32),
        &with_nul,
    ] {
        let request = || SealRequest::bytes(b"weights");
        assert!(is_digest(&refused(&rig, request().expect(bad))), "{bad:?}");
        let content = refused(&rig, request().expect_content(bad));
        assert!(is_digest(&content), "{bad:?}");
        assert!(bad.parse::<FileDigest>().is_err(), "{bad:?}");
    }
    proptest!(cases(1000), |(text in "[0-9a-fA-F]{60,68}")| {
        let good = text.len() == 64 && !text.contains(|c: char| c.is_ascii_uppercase());
        prop_assert_eq!(text.parse::<FileDigest>().is_ok(), good);
    });
    rig.assert_empty();
}

// requirement: IV-005, VA-4
#[test]
fn null_byte_rejection() {
    let rig = rig(1 << 20);
    let ok = || SealRequest::bytes(b"weights");
    let nul = |error: InputError| assert!(matches!(error, InputError::NullByte { .. }), "{error}");
    for text in ["\0", "a\0", "\0a", "a\0b", "../\0"] {
        nul(refused(&rig, ok().id(text)));
        nul(refused(&rig, ok().model_ref(text)));
        nul(text.parse::<ShardId>().unwrap_err());
        nul(text.parse::<ModelRef>().unwrap_err());
        let built = VramManager::builder().worker_id(text).build();
        let Some(Error::Input(error)) = built.err() else {
            panic!("a worker id with a NUL was accepted");
        };
        nul(error);
    }
    // In a record every string is refused, wherever the NUL stands.
    let shard = rig.manager.seal(ok().model_ref("model")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&shard.record().to_json().unwrap()).unwrap();
    let mut strings = 0;
    for (field, value) in json.as_object().unwrap() {
        let Some(text) = value.as_str() else { continue };
        let mut edited = json.clone();
        edited[field] = format!("{text}\0").into();
        let refused = Record::from_json(&edited.to_string());
        assert!(refused.is_err(), "{field} with a NUL was accepted");
        strings += 1;
    }
    assert!(strings >= 10, "only {strings} strings in a record");
    // Free text is cleaned instead: it is the caller's own, for the log.
    drop(rig.manager.seal(ok().correlation_id("a\0b")).unwrap());
    let clean = |event: &vram_residency::audit::Event| {
        let line = serde_json::to_string(event).unwrap();
        !line.contains("\\u0000")
    };
    assert!(rig.sink.events().iter().all(clean));
}
