//! Receipts and attestations.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;
use vram_residency::clock::Timestamp;
use vram_residency::key::VerifyingKey;
use vram_residency::receipt::{Attested, Facts, Receipt, Revocations, Trust};
use vram_residency::seal::Record;

use crate::json;
use crate::vectors::{SIGNERS, all_of};

/// What the vectors' keys signed: records with their tags, and facts.
static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let read = |record: &Value| Record::from_json(&record.to_string()).expect("a record");
    all_of("/receipt/record").iter().map(read).collect()
});
static FACTS: LazyLock<Vec<Facts>> = LazyLock::new(|| {
    let facts = all_of("/attested/facts").into_iter();
    let read = |facts| serde_json::from_value(facts).expect("facts");
    facts.map(read).collect()
});
/// A list of everybody.
static REVOKED: LazyLock<Revocations> = LazyLock::new(|| {
    let ids: BTreeSet<_> = SIGNERS.all.iter().map(VerifyingKey::id).collect();
    Revocations::issue(&SIGNERS.operator, Timestamp::from_nanos(0), ids).expect("a list")
});

/// What is accepted is written and read back as it was; it is believed only
/// under the keys that signed it, and only if they signed this.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    receipt(text) || attested(text)
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
    for nonce in FACTS.iter().map(|facts| &facts.nonce) {
        for distrust in &distrust() {
            assert!(attested.check(distrust, nonce).is_err(), "nobody's word");
        }
        if let Ok(facts) = attested.check(&trust(&SIGNERS.all), nonce) {
            assert_eq!(facts.nonce, *nonce, "an answer to another question");
            assert!(FACTS.contains(facts), "forged");
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
