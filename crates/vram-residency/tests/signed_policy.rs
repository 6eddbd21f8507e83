//! Only signed models: the list of what was approved, the rule that asks for it,
//! and the manager that cannot forget the rule.

mod common;
mod signed_support;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Rig, root_key, weights};
use signed_support::*;
use vram_residency::audit::{Body, Severity};
use vram_residency::clock::Timestamp;
use vram_residency::key::{KeyError, Scope, SigningKey};
use vram_residency::policy::PolicyError;
use vram_residency::receipt::{ReceiptError, Revocations};
use vram_residency::seal::SIGNED_RECORD_SCHEMA;
use vram_residency::signed::{AllowError, AllowList, ModelPolicy};
use vram_residency::sim::SimOptions;
use vram_residency::{Error, Mode, Policy, SealRequest};

const AT: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

fn approver(seed: u64) -> SigningKey {
    SigningKey::scoped(&root_key(seed), Scope::Production).unwrap()
}

/// The list of the real tool's model.
fn list(key: &SigningKey) -> String {
    let model = check(&trust_key("p256"), &read("p256.sig"), &fixture("model")).unwrap();
    AllowList::issue(&model, key, AT).unwrap()
}

fn believed(text: &str, key: &SigningKey) -> Result<AllowList, AllowError> {
    AllowList::from_toml(text, std::slice::from_ref(key.public()), None)
}

fn signed_only() -> Policy {
    let list = believed(&list(&approver(1)), &approver(1)).unwrap();
    Policy {
        models: ModelPolicy::signed_only(&[list]),
        ..Policy::default()
    }
}

fn rig(policy: Policy) -> Rig {
    let options = [0, 1].map(|at| SimOptions::new(4 << 20).ordinal(at));
    Rig::build(&options, policy, |builder| builder)
}

// requirement: PM-15
#[test]
fn a_list_says_what_was_checked_under_the_approvers_key() {
    let key = approver(1);
    let list = believed(&list(&key), &key).unwrap();
    assert_eq!(list.model(), "model");
    assert_eq!(list.approved_at(), AT);
    assert_eq!(list.approver(), key.public());
    assert!(list.signer().as_str().starts_with("key:sha256:"));
    assert_eq!(list.files().len(), 5);
    for file in list.files() {
        let bytes = std::fs::read(fixture("model").join(file.name.as_str())).unwrap();
        assert_eq!(
            (file.bytes, file.digest),
            (bytes.len() as u64, vram_digest::digest(&bytes))
        );
    }
}

// requirement: PM-15
#[test]
fn every_changed_character_of_a_list_is_refused() {
    let key = approver(1);
    let good = list(&key);
    let meant = believed(&good, &key).unwrap();
    for at in 0..good.len() {
        for bit in [0, 4] {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1 << bit;
            let Ok(text) = String::from_utf8(bad) else {
                continue;
            };
            // A line that became a comment, or blanks, may mean the same.
            if let Ok(list) = believed(&text, &key) {
                assert_eq!(list, meant, "byte {at}, bit {bit}: {text}");
            }
        }
    }
}

// requirement: PM-15
#[test]
fn strangers_revoked_keys_and_strange_texts_are_not_believed() {
    let (key, other) = (approver(1), approver(2));
    let good = list(&key);
    let error = believed(&good, &other).unwrap_err();
    assert!(
        matches!(error, AllowError::Untrusted { .. }) && error.is_verdict(),
        "{error}"
    );
    let revoked = Revocations::issue(&other, AT, BTreeSet::from([key.public().id()])).unwrap();
    let error = AllowList::from_toml(&good, &[key.public().clone()], Some(&revoked));
    assert!(matches!(error.unwrap_err(), AllowError::Revoked { .. }));
    let line = |text: &str| believed(text, &key).unwrap_err().to_string();
    assert!(line("").contains("missing field `schema`"));
    assert!(line(&format!("more = 1\n{good}")).contains("line 1: unknown field `more`"));
    assert!(line(&good.replace("allow-list/v1", "allow-list/v2")).contains("schema"));
    assert!(line(&good.replace("sha256:", "sha512:")).contains("signer is"));
    assert!(line(&good.replacen("name = \"config.json\"", "name = \"../x\"", 1)).contains("'..'"));
    assert!(line(&good.replacen("digest = \"sha256:", "digest = \"md5:", 1)).contains("digest"));
    assert!(line(&good.replacen("bytes = ", "bytes = -", 1)).contains("line "));
    assert!(line(&format!("{good}\n{}", "[".repeat(100_000))).contains("line "));
    let escape = line("\"\\u001b[31m\" = 1");
    assert!(!escape.chars().any(char::is_control), "{escape:?}");
    // A list of bare values has no names to be checked.
    let bare = good.split("[[file]]").next().unwrap().to_owned() + "file = [['a', 1, 'b']]\n";
    assert!(line(&bare).contains("an object"));
}

// requirement: PM-15
#[test]
fn only_what_was_approved_is_sealed_and_the_seal_says_who_signed() {
    let rig = rig(signed_only());
    let bytes = std::fs::read(fixture("model/weights.bin")).unwrap();
    let shard = rig.manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let record = shard.record();
    assert_eq!(record.schema, SIGNED_RECORD_SCHEMA);
    let signer = record.signer.clone().unwrap();
    assert!(rig.manager.verify_sealed(&shard, Mode::Full).is_ok());
    let sealed = rig
        .sink
        .events()
        .into_iter()
        .find_map(|event| match event.body {
            Body::VramSealed { signer, .. } => signer,
            _ => None,
        });
    assert_eq!(sealed, Some(signer.clone()));
    // A move is another seal, and asks again.
    let moved = rig.manager.migrate_shard(&shard, 1).unwrap();
    assert_eq!(moved.record().signer, Some(signer));
    drop(moved);
    // One bit, one byte more, one less, something else.
    let mut flipped = bytes.clone();
    flipped[19_999] ^= 0x80;
    let longer = [&bytes[..], &[0]].concat();
    for bad in [
        &flipped,
        &longer,
        &bytes[..19_999].to_vec(),
        &weights(20_000, 3),
    ] {
        let began = rig.sink.events().len();
        let request = SealRequest::bytes(bad).id("refused");
        let request = request.correlation_id("req-9");
        let error = rig.manager.seal(request).unwrap_err();
        let found = matches!(&error, Error::Policy(PolicyError::NotSigned { len, .. })
            if *len == bad.len() as u64);
        assert!(found && !error.is_refusal(), "{error}");
        let events = rig.sink.events();
        let violation = events.iter().rev().find(|event| {
            matches!(&event.body, Body::PolicyViolation { policy, action_taken, .. }
                if policy.as_str() == "signed_models" && action_taken.as_str() == "seal_refused")
        });
        assert_eq!(violation.unwrap().severity, Severity::Critical);
        // Whoever looks for the shard or for the request finds all of it.
        for event in &events[began..] {
            let event = serde_json::to_value(event).unwrap();
            let about = [&event["shard_id"], &event["correlation_id"]];
            assert_eq!(about, ["refused", "req-9"], "{event}");
        }
        assert!(events.len() > began + 3, "{events:?}");
        assert!(matches!(
            events.last().unwrap().body,
            Body::VramSealFailed { .. }
        ));
        assert_eq!(rig.manager.used_vram(), 0);
    }
}

// requirement: PM-15
#[test]
fn a_group_with_one_unsigned_member_is_not_sealed() {
    let rig = rig(signed_only());
    let bytes = std::fs::read(fixture("model/weights.bin")).unwrap();
    let other = std::fs::read(fixture("model/config.json")).unwrap();
    let both = || vec![SealRequest::bytes(&bytes), SealRequest::bytes(&other)];
    let group = rig.manager.seal_group(both()).unwrap();
    let signed = |shard: &vram_residency::SealedShard| shard.record().signer.is_some();
    assert!(group.shards().iter().all(signed));
    drop(group);
    let stranger = weights(100, 9);
    let mut more = both();
    more.push(SealRequest::bytes(&stranger));
    let error = rig.manager.seal_group(more).unwrap_err();
    assert!(
        matches!(error, Error::Policy(PolicyError::NotSigned { .. })),
        "{error}"
    );
    assert_eq!(rig.manager.used_vram(), 0);
}

#[test]
fn without_a_rule_records_are_as_they_were() {
    let rig = rig(Policy::default());
    let shard = rig.manager.seal(SealRequest::bytes(b"anything")).unwrap();
    assert_eq!(shard.record().schema, "vram-residency/record/v1");
    assert_eq!(shard.record().signer, None);
    assert!(!shard.record().to_json().unwrap().contains("signer"));
}

fn policy_in(dir: &Path, text: &str) -> Result<ModelPolicy, AllowError> {
    let path = dir.join("policy.toml");
    let key = approver(1).public().to_string();
    std::fs::write(&path, text.replace("KEY", &key)).unwrap();
    ModelPolicy::from_file(&path, AT)
}

// requirement: PM-15
#[test]
fn a_policy_file_finds_its_lists_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let key = approver(1);
    std::fs::write(dir.path().join("allow.toml"), list(&key)).unwrap();
    let lists = "allow = ['allow.toml']\ntrust = ['KEY']\n";
    let signed = policy_in(dir.path(), &format!("require = 'signed'\n{lists}")).unwrap();
    let weights = std::fs::read(fixture("model/weights.bin")).unwrap();
    let digest = vram_digest::digest(&weights);
    assert!(signed.admit(&digest, 20_000).is_ok());
    assert!(signed.admit(&digest, 20_001).is_err());
    assert!(signed.admit(&vram_digest::digest(b"x"), 1).is_err());
    let lax = policy_in(dir.path(), &format!("require = 'nothing'\n{lists}")).unwrap();
    assert!(lax.admit(&vram_digest::digest(b"x"), 1).is_ok());
    assert!(policy_in(dir.path(), "require = 'nothing'").is_ok());
    // Whatever is wrong is said with the file it is wrong in.
    let stranger = list(&approver(2));
    std::fs::write(dir.path().join("stranger.toml"), stranger).unwrap();
    let text = "require = 'signed'\nallow = ['allow.toml', 'stranger.toml']\ntrust = ['KEY']";
    let error = policy_in(dir.path(), text).unwrap_err();
    assert!(
        error.to_string().contains("stranger.toml: ") && error.is_verdict(),
        "{error}"
    );
    // A list of revoked keys that revokes who signed it is judged, too.
    let own = Revocations::issue(&key, AT, BTreeSet::from([key.public().id()])).unwrap();
    std::fs::write(dir.path().join("own.json"), own.to_json().unwrap()).unwrap();
    let text = format!("require = 'signed'\nrevoked = 'own.json'\n{lists}");
    let error = policy_in(dir.path(), &text).unwrap_err();
    assert!(
        error.to_string().contains("was revoked") && error.is_verdict(),
        "{error}"
    );
    for (text, what) in [
        (
            "require = 'signed'\nallow = ['.']\ntrust = ['KEY']",
            "not a regular file",
        ),
        (
            "require = 'signed'\nallow = ['gone']\ntrust = ['KEY']",
            "gone: ",
        ),
        (
            "require = 'signed'\nallow = []\ntrust = ['KEY']",
            "names no allow-list",
        ),
        (
            "require = 'signed'\nallow = ['allow.toml']\ntrust = []",
            "no key to trust",
        ),
        ("\n\nrequire = 1", "line 3: "),
        ("require = 'signed'\n[more]", "line 2: "),
    ] {
        let error = policy_in(dir.path(), text).unwrap_err();
        assert!(
            error.to_string().contains(what) && !error.is_verdict(),
            "{text}: {error}"
        );
    }
}

/// As 'vram verify --revoked-seen': the list that was believed last is held against
/// the one that is named now.
// requirement: PM-15, KD-10
#[test]
fn a_policy_refuses_a_list_of_revoked_keys_that_brings_a_key_back() {
    let dir = tempfile::tempdir().unwrap();
    let key = approver(1);
    std::fs::write(dir.path().join("allow.toml"), list(&key)).unwrap();
    let [one, two] = [5, 6].map(|seed| approver(seed).public().id());
    for (name, nanos, ids) in [
        ("seen", 20, vec![one, two]),
        ("more", 30, vec![one, two, approver(7).public().id()]),
        ("older", 10, vec![one, two]),
        ("less", 30, vec![two]),
    ] {
        let at = Timestamp::from_nanos(nanos);
        let list = Revocations::issue(&key, at, ids.into_iter().collect()).unwrap();
        std::fs::write(dir.path().join(name), list.to_json().unwrap()).unwrap();
    }
    let rule = "require = 'signed'\nallow = ['allow.toml']\ntrust = ['KEY']\n";
    let with = |now: &str, seen: &str| {
        let lists = format!("revoked = '{now}'\nrevoked_seen = '{seen}'\n");
        policy_in(dir.path(), &format!("{rule}{lists}"))
    };
    for good in ["seen", "more"] {
        with(good, "seen").unwrap();
    }
    for (bad, words) in [
        ("older", "was believed already".to_owned()),
        ("less", format!("leaves out key {one}")),
    ] {
        let error = with(bad, "seen").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("{bad}: ")) && text.contains(&words),
            "{text}"
        );
        assert!(error.is_verdict(), "{text}");
        // Without a record of the last one nothing tells.
        policy_in(dir.path(), &format!("{rule}revoked = '{bad}'\n")).unwrap();
    }
    // By an operator who is not trusted any more: what it revokes stays revoked.
    let ids = [one, two].into_iter().collect();
    let former = Revocations::issue(&approver(9), Timestamp::from_nanos(20), ids).unwrap();
    std::fs::write(dir.path().join("former"), former.to_json().unwrap()).unwrap();
    with("more", "former").unwrap();
    let error = with("less", "former").unwrap_err().to_string();
    assert!(error.contains(&format!("leaves out key {one}")), "{error}");
    for (lists, what) in [
        ("revoked_seen = 'seen'\n", "no list in revoked"),
        ("revoked_by = ['KEY']\n", "no list in revoked"),
        ("revoked = 'more'\nrevoked_seen = 'gone'\n", "gone: "),
    ] {
        let error = policy_in(dir.path(), &format!("{rule}{lists}")).unwrap_err();
        assert!(
            error.to_string().contains(what) && !error.is_verdict(),
            "{error}"
        );
    }
}

// requirement: PM-15, KD-10
#[test]
fn a_policy_refuses_a_list_of_revoked_keys_from_a_time_that_has_not_come() {
    let dir = tempfile::tempdir().unwrap();
    let key = approver(1);
    std::fs::write(dir.path().join("allow.toml"), list(&key)).unwrap();
    let text = "require = 'signed'\nallow = ['allow.toml']\ntrust = ['KEY']\nrevoked = 'list'\n";
    for (ahead, good) in [(0, true), (3_600_000_000_000, false)] {
        let at = Timestamp::from_nanos(AT.nanos() + ahead);
        let list = Revocations::issue(&key, at, BTreeSet::new()).unwrap();
        std::fs::write(dir.path().join("list"), list.to_json().unwrap()).unwrap();
        let read = policy_in(dir.path(), text);
        assert_eq!(read.is_ok(), good, "{ahead}: {read:?}");
        assert!(read.err().is_none_or(|error| error.is_verdict()));
    }
}

/// Who approves models need not be who revokes keys.
// requirement: PM-15, KD-10
#[test]
fn a_policy_may_name_who_signs_the_list_of_revoked_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (key, operator) = (approver(1), approver(2));
    std::fs::write(dir.path().join("allow.toml"), list(&key)).unwrap();
    for (name, by) in [("theirs", &key), ("ours", &operator)] {
        let list = Revocations::issue(by, AT, BTreeSet::new()).unwrap();
        std::fs::write(dir.path().join(name), list.to_json().unwrap()).unwrap();
    }
    let rule = "require = 'signed'\nallow = ['allow.toml']\ntrust = ['KEY']\n";
    let by = format!("revoked_by = ['{}']\n", operator.public());
    for (name, by, good) in [
        ("theirs", "", true),
        ("ours", "", false),
        ("theirs", &by, false),
        ("ours", &by, true),
    ] {
        let text = format!("{rule}revoked = '{name}'\n{by}");
        let read = policy_in(dir.path(), &text);
        assert_eq!(read.is_ok(), good, "{name} {by}: {read:?}");
        assert!(read.err().is_none_or(|error| error.is_verdict()));
    }
}

// requirement: TP-1
#[test]
fn each_kind_of_refusal_is_an_error_of_its_own() {
    let key = approver(1);
    let good = list(&key);
    assert!(matches!(believed("", &key), Err(AllowError::Format { .. })));
    let longer = good.replacen("bytes = ", "bytes = 1", 1);
    let error = believed(&longer, &key).unwrap_err();
    assert!(error == AllowError::Signature && error.is_verdict());

    let dir = tempfile::tempdir().unwrap();
    let of_file = |text: &str| match policy_in(dir.path(), text) {
        Err(AllowError::File { source, .. }) => *source,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{text}: believed"),
    };
    assert!(matches!(of_file("require = 1"), AllowError::Policy { .. }));
    let gone = "require = 'signed'\nallow = ['gone']\ntrust = ['KEY']";
    assert!(matches!(of_file(gone), AllowError::Read { .. }));

    // What others say is kept, and so is whether it is a verdict.
    let revocations = AllowError::Revocations(ReceiptError::Signature);
    assert!(revocations.is_verdict());
    assert!(
        revocations
            .to_string()
            .starts_with("the list of revoked keys: ")
    );
    let of_key = AllowError::from(KeyError::Entropy);
    assert!(matches!(of_key, AllowError::Key(_)) && !of_key.is_verdict());
    assert_eq!(of_key.to_string(), KeyError::Entropy.to_string());
}
