//! Certificates of workers' keys, and lists of revoked ones.

use std::sync::LazyLock;

use serde_json::Value;
use vram_residency::clock::Timestamp;
use vram_residency::key::Scope;
use vram_residency::receipt::{Certificate, Receipt, Revocations, Signer, Trust};
use vram_residency::verify::check_record;

use crate::json;
use crate::vectors::{RECEIPTS, SEALED, SIGNERS, all_of};

/// Every certificate that the vectors' operator signed.
static CERTIFICATES: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    let mut all = all_of("/receipt/signed/certificate");
    all.extend(all_of("/attested/signed/certificate"));
    let read = |one: &Value| Certificate::from_json(&one.to_string()).expect("a certificate");
    all.iter().map(read).collect()
});

/// After every list that is read.
const NOW: Timestamp = Timestamp::from_nanos(u64::MAX);

/// What is accepted is written and read back as it was; nothing is believed
/// that the operator did not sign.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    revocations(text) || certificate(text)
}

fn revocations(text: &str) -> bool {
    let operator = std::slice::from_ref(&SIGNERS.all[0]);
    assert!(
        Revocations::from_json(text, &[], NOW).is_err(),
        "no key at all"
    );
    assert!(Revocations::from_json(text, &SIGNERS.all[1..], NOW).is_err());
    let Ok(list) = Revocations::from_json(text, operator, NOW) else {
        return false;
    };
    let again = Revocations::from_json(&list.to_json().expect("written"), operator, NOW);
    assert_eq!(again.as_ref(), Ok(&list));
    let known = RECEIPTS["revocations"].to_string();
    let known = Revocations::from_json(&known, operator, NOW).expect("the vectors' list");
    assert_eq!(list, known, "forged");
    assert!(list.keys().iter().all(|key| list.contains(*key)));
    true
}

fn certificate(text: &str) -> bool {
    let Ok(certificate) = Certificate::from_json(text) else {
        return false;
    };
    json::says_the_same(text, &certificate);
    let again = Certificate::from_json(&certificate.to_json().expect("written"));
    assert_eq!(again.as_ref(), Ok(&certificate));
    let mut believed = false;
    for key in [&SIGNERS.production, &SIGNERS.test] {
        for sealed in SEALED.iter() {
            let record = check_record(&sealed.record, &sealed.key).expect("a vector");
            if key.scope() == Scope::Production && sealed.is_simulated() {
                continue;
            }
            let certificate = Some(&certificate);
            // Refused for another key, worker or time; no signature yet.
            let Ok(receipt) = Receipt::sign(&record, &Signer { key, certificate }) else {
                continue;
            };
            let trust = Trust {
                keys: &SIGNERS.all[..1],
                simulated: true,
                ..Trust::default()
            };
            believed |= receipt.check(&trust).is_ok();
        }
    }
    assert!(!believed || CERTIFICATES.contains(&certificate), "forged");
    believed
}
