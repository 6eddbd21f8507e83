//! What may be in nothing that is printed.

use cucumber::{then, when};
use vram_residency::Mode;
use vram_residency::verify::check_record;

use super::keys::other_key;
use crate::suite::stage::Stage;

#[when(expr = "everything about the worker and {string} is printed")]
fn print(stage: &mut Stage, name: String) {
    let manager = stage.manager();
    let lease = manager.lease(stage.shard(&name), Mode::Full).unwrap();
    let address = lease.address().map(|address| address.raw());
    let shard = stage.shard(&name);
    // The record's JSON, whose tag is there to be checked, is looked at apart.
    stage.notes = vec![
        format!(
            "{shard:?} {lease:?} {:?} {:?}",
            shard.record(),
            manager.devices()
        ),
        serde_json::to_string(&manager.metrics()).unwrap(),
        serde_json::to_string(&stage.sink.events()).unwrap(),
        format!("{:?}", manager.deallocate(shard).unwrap_err()),
    ];
    stage.answers = vec![address.is_none()];
    if let Some(address) = address {
        for form in [address.to_string(), format!("{address:x}")] {
            assert!(
                stage.notes.iter().all(|note| !note.contains(&form)),
                "an address"
            );
        }
    }
}

fn assert_without(stage: &Stage, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let text = String::from_utf8_lossy(bytes).into_owned();
    for form in [hex.to_uppercase(), hex, list, text] {
        assert!(
            stage.notes.iter().all(|note| !note.contains(&form)),
            "{form}"
        );
    }
}

#[then("neither the token nor the tag is in it")]
fn no_secret(stage: &mut Stage) {
    assert_without(stage, &stage.token.clone());
    assert_without(stage, stage.record("model").tag.as_bytes());
}

#[then("the token is not in it")]
fn no_token(stage: &mut Stage) {
    assert_without(stage, &stage.token.clone());
}

#[then(expr = "no address of {string} is in it")]
fn no_address(stage: &mut Stage, name: String) {
    // The figures themselves were looked for while the lease had them; here, that
    // a device with addresses gave one, so that there was something to look for.
    let has_addresses = stage.record(&name).driver.is_some();
    assert_eq!(stage.answers, [!has_addresses]);
    assert!(stage.notes.iter().all(|note| !note.contains("0x")));
}

#[then("no field of its JSON is called a pointer or an address")]
fn no_field(stage: &mut Stage) {
    let mut json = stage.record("model").to_json().unwrap();
    // What the driver was asked, not an address: a fact of its own name.
    json = json.replace("\"host_pointer\":false", "");
    for word in ["pointer", "address", "ptr"] {
        assert!(!json.contains(word), "{json}");
    }
}

#[then("the key is named by 16 hex digits")]
fn key_id(stage: &mut Stage) {
    let id = stage.record("model").key_id.to_string();
    assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(stage.manager().key_id(0).unwrap().unwrap().to_string(), id);
}

#[then(expr = "the record of {string} is authentic under that token and under no other")]
fn authentic(stage: &mut Stage, name: String) {
    let record = stage.record(&name);
    assert!(check_record(&record, &stage.root_key()).is_ok());
    assert!(check_record(&record, &other_key()).is_err());
}
