//! Events.

use cucumber::then;
use serde_json::Value;

use crate::suite::stage::Stage;

#[then(expr = "the event {string} was recorded once")]
fn once(stage: &mut Stage, event_type: String) {
    assert_eq!(
        stage.events(&event_type).len(),
        1,
        "{:?}",
        stage.sink.types()
    );
}

#[then(expr = "the event {string} was recorded {int} times")]
fn times(stage: &mut Stage, event_type: String, count: usize) {
    assert_eq!(stage.events(&event_type).len(), count);
}

#[then(expr = "the critical event {string} was recorded once")]
fn critical_once(stage: &mut Stage, event_type: String) {
    assert_eq!(
        stage.critical(&event_type).len(),
        1,
        "{:?}",
        stage.sink.types()
    );
}

#[then("nothing was recorded")]
fn nothing(stage: &mut Stage) {
    assert_eq!(stage.sink.types(), Vec::<String>::new());
}

#[then(regex = r#"^the event "(.+)" has the fields (.+)$"#)]
fn fields(stage: &mut Stage, event_type: String, names: String) {
    let event = stage.events(&event_type).pop().unwrap();
    let event = serde_json::to_value(event).unwrap();
    for name in names.split(", ") {
        let value = event.get(name).unwrap_or(&Value::Null);
        assert!(!value.is_null() && value != "", "{name} in {event}");
    }
}

fn failure(stage: &Stage) -> Value {
    let event = stage.critical("seal.verification_failed").pop().unwrap();
    serde_json::to_value(event).unwrap()
}

#[then(expr = "its reason is {string}")]
fn gives_reason(stage: &mut Stage, reason: String) {
    assert_eq!(failure(stage)["reason"], reason);
}

#[then("it has the sealed digest and another one measured")]
fn both_digests(stage: &mut Stage) {
    let event = failure(stage);
    let sealed = stage.shard("model").digest().to_string();
    assert_eq!(event["expected_digest"], sealed);
    let actual = event["actual_digest"].as_str().unwrap();
    assert!(actual.len() == 64 && actual != sealed);
}
