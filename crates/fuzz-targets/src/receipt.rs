//! Receipts and attestations.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;
use vram_residency::clock::Timestamp;
use vram_residency::key::VerifyingKey;
use vram_residency::receipt::{Attested, Facts, Receipt, Revocations, Tagged, Trust};
use vram_residency::seal::Record;

use crate::json;
use crate::vectors::{SEALED, SIGNERS, all_of};

/// What the vectors' keys signed: records with their tags, and facts.
static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let read = |record: &Value| Record::from_json(&record.to_string()).expect("a record");
    all_of("/receipt/record").iter().map(read).collect()
});
static FACTS: LazyLock<Vec<Facts>> = LazyLock::new(|| facts("/attested/facts"));
/// What was tagged under the sealing keys of the vectors.
static TAGGED: LazyLock<Vec<Facts>> = LazyLock::new(|| facts("/tagged/facts"));
/// A list of everybody.
static REVOKED: LazyLock<Revocations> = LazyLock::new(|| {
    let ids: BTreeSet<_> = SIGNERS.all.iter().map(VerifyingKey::id).collect();
    Revocations::issue(&SIGNERS.operator, Timestamp::from_nanos(0), ids).expect("a list")
});

fn facts(path: &str) -> Vec<Facts> {
    let read = |facts| serde_json::from_value(facts).expect("facts");
    all_of(path).into_iter().map(read).collect()
}

/// What is accepted is written and read back as it was; it is believed only
/// under the keys that signed it, and only if they signed this.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    receipt(text) || attested(text) || tagged(text)
}

fn receipt(text: &str) -> bool {
    let Ok(receipt) = Receipt::from_json(text) else {
        return false;
    };
    json::says_the_same(text, &receipt);
    let again = Receipt::from_json(&receipt.to_json().expect("written"));
    assert_eq!(again.as_ref(), Ok(&receipt));
    for distrust in &distrust() {
        assert!(
            receipt.check(distrust).is_err(),
            "believed by nobody's word"
        );
    }
    let checked = receipt.check(&trust(&SIGNERS.all));
    if let Ok(checked) = &checked {
        assert!(RECORDS.contains(checked.record()), "forged");
    }
    checked.is_ok()
}

fn attested(text: &str) -> bool {
    let Ok(attested) = Attested::from_json(text) else {
        return false;
    };
    json::says_the_same(text, &attested);
    let again = Attested::from_json(&attested.to_json().expect("written"));
    assert_eq!(again.as_ref(), Ok(&attested));
    let mut believed = false;
    for nonce in FACTS.iter().filter_map(|facts| facts.nonce.as_ref()) {
        for distrust in &distrust() {
            assert!(attested.check(distrust, nonce).is_err(), "nobody's word");
        }
        if let Ok(answered) = attested.check(&trust(&SIGNERS.all), nonce) {
            let facts = answered.facts();
            let asked = facts.nonce.as_ref() == Some(nonce);
            assert!(asked, "an answer to another question");
            assert!(FACTS.contains(facts), "forged");
            believed = true;
        }
    }
    believed
}

fn tagged(text: &str) -> bool {
    let Ok(tagged) = Tagged::from_json(text) else {
        return false;
    };
    json::says_the_same(text, &tagged);
    let again = Tagged::from_json(&tagged.to_json().expect("written"));
    assert_eq!(again.as_ref(), Ok(&tagged));
    let nonce = tagged.facts().nonce.clone();
    let mut believed = false;
    for sealed in SEALED.iter() {
        if let Ok(answered) = tagged.check(&sealed.key, &trust(&[]), nonce.as_ref()) {
            assert!(TAGGED.contains(answered.facts()), "forged");
            believed = true;
        }
    }
    believed
}

fn trust(keys: &[VerifyingKey]) -> Trust<'_> {
    Trust {
        keys,
        simulated: true,
        ..Trust::default()
    }
}

/// No key, somebody else's key, and keys that were all revoked.
fn distrust() -> [Trust<'static>; 3] {
    let revoked = Trust {
        revoked: Some(&REVOKED),
        ..trust(&SIGNERS.all)
    };
    let stranger = std::slice::from_ref(&SIGNERS.stranger);
    [trust(&[]), trust(stranger), revoked]
}
