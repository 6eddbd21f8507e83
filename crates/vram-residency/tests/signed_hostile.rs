//! Bundles and statements that are made to mislead, some of them truly signed
//! by somebody who is trusted.

mod signed_support;

use serde_json::{Value, json};
use signed_support::*;
use vram_residency::signed::{MAX_BUNDLE_BYTES, ModelTrust, SignedError};

fn bundle(name: &str) -> Value {
    serde_json::from_slice(&read(name)).unwrap()
}

fn verify(trust: &str, bundle: &Value) -> Result<(), SignedError> {
    let text = bundle.to_string();
    trust_key(trust).verify(text.as_bytes()).map(|_| ())
}

// requirement: PM-15
#[test]
fn every_changed_byte_of_payload_and_signature_is_refused() {
    let good = read("p256.sig");
    assert!(trust_key("p256").verify(&good).is_ok());
    let trust = trust_key("p256");
    let step = 7; // every position of the text in seven of its bits
    for at in (0..good.len()).step_by(step) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at / step % 7);
        let Ok(signed) = trust.verify(&bad) else {
            continue;
        };
        // What is not signed may change: names of unread parts, spaces, keyid.
        let signed = signed.check(&fixture("model"), None, &|_| {}).unwrap();
        assert_eq!(signed.files().len(), 5, "byte {at}");
        let (before, after) = (bundle("p256.sig"), serde_json::from_slice::<Value>(&bad));
        let after = after.unwrap();
        assert_eq!(
            before["dsseEnvelope"]["payload"],
            after["dsseEnvelope"]["payload"]
        );
        let sig = |one: &Value| one["dsseEnvelope"]["signatures"][0]["sig"].clone();
        assert_eq!(sig(&before), sig(&after), "byte {at}");
    }
}

// requirement: PM-15
#[test]
fn signatures_and_payloads_are_not_exchanged() {
    let (mut one, other) = (bundle("p256.sig"), bundle("shards.sig"));
    one["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
    assert_eq!(verify("p256", &one), Err(SignedError::Signature));
    let mut one = bundle("p256.sig");
    one["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone();
    assert_eq!(verify("p256", &one), Err(SignedError::Signature));
    // The hint is not signed; a wrong one does not lead to another key.
    let mut one = bundle("p256.sig");
    let hint = other["verificationMaterial"]["publicKey"]["hint"].clone();
    one["verificationMaterial"]["publicKey"]["hint"] = hint;
    assert!(matches!(
        verify("p256", &one),
        Err(SignedError::Untrusted { .. })
    ));
    assert_eq!(verify("shards", &one), Err(SignedError::Signature));
    // Bundles of the tool's first versions have none.
    one["verificationMaterial"]["publicKey"] = json!({});
    assert_eq!(verify("p256", &one), Ok(()));
    assert_eq!(verify("shards", &one), Err(SignedError::Signature));
}

#[test]
fn a_chain_does_not_vouch_for_another_signer() {
    let trust = vram_residency::signed::ModelTrust::new();
    let trust = trust.roots(&read("chain-root.pem")).unwrap();
    let check = |bundle: &Value| trust.verify(bundle.to_string().as_bytes()).map(|_| ());
    assert_eq!(check(&bundle("chain.sig")), Ok(()));
    // The chain of one over the signature of another.
    let mut mixed = bundle("chain.sig");
    mixed["dsseEnvelope"] = bundle("p256.sig")["dsseEnvelope"].clone();
    assert_eq!(check(&mixed), Err(SignedError::Signature));
    // Without the middle, in the wrong order, empty, too long, not base64.
    let path = "/verificationMaterial/x509CertificateChain/certificates";
    let edit = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut made = bundle("chain.sig");
        change(made.pointer_mut(path).unwrap().as_array_mut().unwrap());
        check(&made).unwrap_err()
    };
    let certificate = |error: SignedError| matches!(error, SignedError::Certificate { .. });
    assert!(certificate(edit(&|chain| drop(chain.pop()))));
    assert!(certificate(edit(&|chain| chain.reverse())));
    let format = |error: SignedError| matches!(error, SignedError::Bundle { .. });
    assert!(format(edit(&|chain| chain.clear())));
    assert!(format(edit(
        &|chain| chain.extend(vec![chain[0].clone(); 16])
    )));
    assert!(format(edit(&|chain| chain[0] = json!({ "rawBytes": "?" }))));
    // Any byte of the signer's certificate: it is signed as a whole.
    let der = bundle("chain.sig").pointer(path).unwrap()[0]["rawBytes"].clone();
    let der = der.as_str().unwrap().to_owned();
    for at in (0..der.len() - 2).step_by(11) {
        let mut text = der.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(text).unwrap();
        let error = edit(&|chain| chain[0] = json!({ "rawBytes": text }));
        assert!(error.is_verdict() || format(error), "character {at}");
    }
}

// requirement: PM-15
#[test]
fn envelopes_of_another_kind_are_refused() {
    let edits: [(&str, Value, &str); 11] = [
        (
            "/dsseEnvelope/payloadType",
            json!("application/json"),
            "payloadType",
        ),
        (
            "/mediaType",
            json!("application/vnd.dev.sigstore.bundle+json;version=0.2"),
            "mediaType",
        ),
        ("/dsseEnvelope/signatures", json!([]), "0 signatures"),
        (
            "/dsseEnvelope/signatures",
            json!([{"sig": ""}, {"sig": ""}]),
            "2 signatures",
        ),
        ("/dsseEnvelope/signatures/0/sig", json!("A"), "base64"),
        ("/dsseEnvelope/payload", json!("A==="), "base64"),
        ("/dsseEnvelope/payload", json!(7), "string"),
        ("/dsseEnvelope", json!(["", "", []]), "object"),
        ("/verificationMaterial", json!({}), "verificationMaterial"),
        (
            "/verificationMaterial",
            json!({"certificate": {"rawBytes": ""}}),
            "keyless",
        ),
        ("/verificationMaterial/more", json!(1), "more"),
    ];
    for (path, value, expected) in edits {
        let mut made = bundle("p256.sig");
        match made.pointer_mut(path) {
            Some(place) => *place = value,
            None => made["verificationMaterial"]["more"] = value,
        }
        let error = verify("p256", &made).unwrap_err();
        assert!(error.to_string().contains(expected), "{path}: {error}");
        assert!(!error.is_verdict(), "{path}: {error}");
    }
}

// requirement: PM-15
#[test]
fn hostile_json_is_bounded() {
    let refused = |text: &[u8]| trust_key("p256").verify(text).unwrap_err();
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let nested = format!("{{\"mediaType\":{deep}}}");
    let ignored = format!("{{\"verificationMaterial\":{{\"tlogEntries\":{deep}}}}}");
    for text in [
        "",
        "{",
        "null",
        "[]",
        "7",
        "\u{feff}{}",
        &deep,
        &nested,
        &ignored,
    ] {
        let error = refused(text.as_bytes());
        assert!(matches!(error, SignedError::Bundle { .. }), "{error}");
        assert!(error.to_string().len() < 2000);
    }
    let long = vec![b' '; MAX_BUNDLE_BYTES + 1];
    assert!(refused(&long).to_string().contains("limit"));
    // The same name twice, where one reader takes the first and another the last.
    let text = String::from_utf8(read("p256.sig")).unwrap();
    let twice = text.replacen('{', "{\"mediaType\":\"x\",", 1);
    assert!(refused(twice.as_bytes()).to_string().contains("duplicate"));
    let trailing = format!("{text} {{}}");
    assert!(
        refused(trailing.as_bytes())
            .to_string()
            .contains("trailing")
    );
    // Escapes of a terminal in what the message quotes.
    let error = refused(b"{\"\\u001b[31m\": 1}").to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

// requirement: PM-15
#[test]
fn names_that_leave_the_model_or_stand_twice_are_refused() {
    let forger = Forger::new();
    assert_eq!(
        forger.verify(&statement(&[("a", [1; 32]), ("b/c", [2; 32])])),
        Ok(())
    );
    for name in [
        "../a",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "",
        "a\0",
        "a/",
        "..",
    ] {
        let error = forger.verify(&statement(&[(name, [1; 32])])).unwrap_err();
        assert!(
            matches!(error, SignedError::Name { .. }),
            "{name:?}: {error}"
        );
    }
    let twice = forger.verify(&statement(&[("a", [1; 32]), ("a", [1; 32])]));
    assert!(twice.unwrap_err().to_string().contains("a stands twice"));
    let beside = forger.verify(&statement(&[(".", [1; 32]), ("a", [1; 32])]));
    assert!(beside.unwrap_err().to_string().contains("beside"));
    for (path, fine) in [
        ("..", false),
        (".", false),
        ("a/../b", false),
        ("../x", true),
        ("/x", true),
    ] {
        let mut made = statement(&[("a", [1; 32])]);
        made["predicate"]["serialization"]["ignore_paths"] = json!([path]);
        assert_eq!(forger.verify(&made).is_ok(), fine, "{path}");
    }
}

/// In what is read and in what is skipped, however the second one is spelled.
// requirement: PM-15, TP-9
#[test]
fn a_name_that_stands_twice_in_a_signed_statement_is_refused() {
    let forger = Forger::new();
    let mut made = statement(&[("a", [1; 32])]);
    made["predicate"]["note"] = json!({ "by": [{ "x": 1.5, "y": null }] });
    let good = made.to_string();
    assert_eq!(forger.verify_text(&good), Ok(()));
    for (once, twice) in [
        ("{\"sha256\":", "{\"sha256\":\"00\",\"sha256\":"),
        ("\"x\":", "\"x\":2,\"x\":"),
        ("\"x\":", "\"\\u0078\":1.5,\"x\":"),
        ("\"note\":", "\"note\":-1,\"note\":"),
        ("\"method\":", "\"method\":\"files\",\"method\":"),
    ] {
        assert!(good.contains(once), "{once}: {good}");
        let error = forger.verify_text(&good.replacen(once, twice, 1));
        let error = error.expect_err(twice);
        assert!(
            matches!(error, SignedError::Statement { .. }),
            "{twice}: {error}"
        );
    }
}

// requirement: PM-15
#[test]
fn statements_that_do_not_hang_together_are_refused() {
    let edits: [(&str, Value, &str); 16] = [
        (
            "/_type",
            json!("https://in-toto.io/Statement/v0.1"),
            "_type",
        ),
        (
            "/predicateType",
            json!("https://slsa.dev/provenance/v1"),
            "predicateType",
        ),
        (
            "/predicateType",
            json!("https://model_signing/Digests/v0.1"),
            "0.x",
        ),
        ("/subject", json!([]), "one subject"),
        ("/subject/0/digest/sha256", json!("00"), "subject's digest"),
        ("/subject/0/digest", json!({}), "subject's digest"),
        ("/predicate/resources", json!([]), "0 resources"),
        (
            "/predicate/resources/0/digest",
            json!("0".repeat(64)),
            "subject's digest",
        ),
        (
            "/predicate/resources/0/digest",
            json!("AB".repeat(32)),
            "lower-case",
        ),
        (
            "/predicate/resources/0/algorithm",
            json!("md5"),
            "algorithm",
        ),
        (
            "/predicate/resources/0",
            json!(["a", "sha256", "00"]),
            "object",
        ),
        (
            "/predicate/serialization/hash_type",
            json!("blake2b"),
            "SHA-256",
        ),
        (
            "/predicate/serialization/method",
            json!("tensors"),
            "neither",
        ),
        (
            "/predicate/serialization/method",
            json!("shards"),
            "neither",
        ),
        (
            "/predicate/serialization/allow_symlinks",
            json!("yes"),
            "invalid type",
        ),
        ("/predicate", json!([]), "object"),
    ];
    let forger = Forger::new();
    for (path, value, expected) in edits {
        let mut made = statement(&[("a", [1; 32])]);
        *made.pointer_mut(path).unwrap() = value;
        let error = forger.verify(&made).unwrap_err();
        assert!(error.to_string().contains(expected), "{path}: {error}");
    }
    // Fields to come mean nothing to this version, by the predicate's rules.
    let mut made = statement(&[("a", [1; 32])]);
    made["predicate"]["model_card"] = json!("later");
    assert_eq!(forger.verify(&made), Ok(()));
    assert!(forger.verify_text("{\"_type\":1,\"_type\":1}").is_err());
}

// requirement: PM-15
#[test]
fn shards_must_be_the_whole_file() {
    let forger = Forger::new();
    let fine: [&[&str]; 3] = [
        &["a:0:10", "a:10:20", "a:20:21"],
        &["a:10:20", "b:0:3", "a:0:10"],
        &["a:0:1"],
    ];
    for names in fine {
        assert_eq!(forger.verify(&sharded(10, names)), Ok(()), "{names:?}");
    }
    let bad: [&[&str]; 14] = [
        &["a:0:10", "a:20:30"],
        &["a:10:20"],
        &["a:0:10", "a:0:10"],
        &["a:0:10", "a:5:15"],
        &["a:0:5", "a:5:10"],
        &["a:0:11"],
        &["a:0:0"],
        &["a:5:0"],
        &["a:0:+9"],
        &["a:0:09"],
        &["a:0: 9"],
        &["a:0:18446744073709551616"],
        &["a:0"],
        &["../a:0:9"],
    ];
    for names in bad {
        assert!(forger.verify(&sharded(10, names)).is_err(), "{names:?}");
    }
    for size in [json!(0), json!(-1), json!(0.5), json!(1e300), json!("10")] {
        let mut made = sharded(10, &["a:0:10"]);
        made["predicate"]["serialization"]["shard_size"] = size.clone();
        assert!(forger.verify(&made).is_err(), "{size}");
    }
}

// requirement: TP-1
#[test]
fn each_kind_of_refusal_is_an_error_of_its_own() {
    let mut keyless = bundle("p256.sig");
    keyless["verificationMaterial"] = json!({ "certificate": { "rawBytes": "" } });
    let error = verify("p256", &keyless).unwrap_err();
    assert!(matches!(error, SignedError::Unsupported { .. }), "{error}");
    let error = ModelTrust::new().key(b"no key").err().unwrap();
    assert!(matches!(error, SignedError::Trust { .. }), "{error}");
    let error = Forger::new().verify(&json!({})).unwrap_err();
    assert!(matches!(error, SignedError::Statement { .. }), "{error}");

    let (trust, good) = (trust_key("p256"), read("p256.sig"));
    let model = model_copy();
    let weights = model.path().join("weights.bin");
    std::fs::write(&weights, b"others").unwrap();
    let error = check(&trust, &good, model.path()).err().unwrap();
    assert!(matches!(error, SignedError::Changed { .. }), "{error}");
    std::fs::remove_file(&weights).unwrap();
    std::os::unix::fs::symlink("config.json", &weights).unwrap();
    let error = check(&trust, &good, model.path()).err().unwrap();
    assert!(
        matches!(error, SignedError::NotAFile { is_link: true, .. }),
        "{error}"
    );
    // Not met here: it takes a million files.
    let error = SignedError::TooManyFiles { limit: 7 };
    assert_eq!(error.to_string(), "the model has more than 7 files");
    assert!(!error.is_verdict());
}
