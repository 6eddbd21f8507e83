//! Attestations under the sealing key are believed by who has that key, on any
//! machine, for their nonce, and by nobody else; an implementation of its own
//! makes the same bytes (`receipt`:
//! `an_independent_implementation_makes_the_same_signatures`).
//!
//! requirement: VP-006, API-F22

use serde_json::Value;
use vram_residency::Error;
use vram_residency::error::VerifyError;
use vram_residency::key::RootKey;
use vram_residency::receipt::{Nonce, ReceiptError, Tagged, Trust};

const TRUST: Trust<'_> = Trust {
    keys: &[],
    simulated: true,
    revoked: None,
    now: None,
};

/// A vector: what it says, whose key, and for which nonce.
struct Paper {
    text: String,
    key: RootKey,
    nonce: Option<Nonce>,
    simulated: bool,
}

impl Paper {
    fn check(&self, text: &str) -> Result<(), Error> {
        let nonce = self.nonce.as_ref();
        Tagged::from_json(text)?.check(&self.key, &TRUST, nonce)?;
        Ok(())
    }
}

fn root(hex: &Value) -> RootKey {
    let hex = hex.as_str().unwrap();
    let digits = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    test_listener::plant(&bytes);
    RootKey::from_token(&bytes).unwrap()
}

fn papers() -> Vec<Paper> {
    let file = include_str!("../testdata/receipt_vectors.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let read = |vector: &Value| {
        let facts = &vector["tagged"]["facts"];
        Paper {
            text: vector["tagged"].to_string(),
            key: root(&vector["secret"]),
            nonce: facts["nonce"].as_str().map(|nonce| nonce.parse().unwrap()),
            simulated: facts["device"]["kind"] == "simulated",
        }
    };
    file["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(read)
        .collect()
}

fn receipt_error(answer: Result<(), Error>) -> ReceiptError {
    match answer {
        Err(Error::Receipt(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_vectors_are_believed_under_their_key_for_their_nonce_only() {
    let mut unasked = 0;
    for paper in papers() {
        assert!(paper.check(&paper.text).is_ok());
        let tagged = Tagged::from_json(&paper.text).unwrap();
        let again: Value = serde_json::from_str(&tagged.to_json().unwrap()).unwrap();
        assert_eq!(again.to_string(), paper.text);
        let other = Nonce::new(&[7; 16]).unwrap();
        let others = [Some(&other), paper.nonce.as_ref().and(None)];
        for nonce in others
            .into_iter()
            .filter(|one| *one != paper.nonce.as_ref())
        {
            let replayed = tagged.check(&paper.key, &TRUST, nonce).map(drop);
            assert_eq!(receipt_error(replayed), ReceiptError::Nonce);
        }
        unasked += usize::from(paper.nonce.is_none());
        let stranger = RootKey::from_token(b"fedcba9876543210fedcba9876543210").unwrap();
        let unknown = tagged.check(&stranger, &TRUST, paper.nonce.as_ref());
        assert!(matches!(
            unknown,
            Err(Error::Verify(VerifyError::UnknownKey { .. }))
        ));
        let strict = tagged.check(&paper.key, &Trust::default(), paper.nonce.as_ref());
        match strict {
            Ok(answered) => {
                assert_eq!((answered.facts(), paper.simulated), (tagged.facts(), false))
            }
            Err(error) => {
                assert_eq!(receipt_error(Err(error)), ReceiptError::Simulated);
                assert!(paper.simulated);
            }
        }
    }
    assert!(unasked > 0);
}

#[test]
fn every_changed_character_is_refused() {
    let mut wrong_tags = 0;
    for paper in papers() {
        let good = Tagged::from_json(&paper.text).unwrap();
        for at in 0..paper.text.len() {
            let mut changed = paper.text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap_or_default();
            let Ok(read) = Tagged::from_json(&changed) else {
                continue;
            };
            if read == good {
                continue;
            }
            let error = paper.check(&changed).unwrap_err();
            wrong_tags += usize::from(matches!(error, Error::Receipt(ReceiptError::Tag)));
        }
    }
    assert!(wrong_tags > 1000, "{wrong_tags}");
}

/// The record's own tag is one of the same key over another statement.
#[test]
fn a_seals_tag_is_no_attestation() {
    for paper in papers() {
        let mut forged: Value = serde_json::from_str(&paper.text).unwrap();
        forged["tag"] = forged["facts"]["record"]["tag"].clone();
        let answer = paper.check(&forged.to_string());
        assert_eq!(receipt_error(answer), ReceiptError::Tag);
    }
}
