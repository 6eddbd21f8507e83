//! What tests say about the mode that they run in.

use cucumber::{then, when};

use crate::suite::stage::{Stage, without_gpu};

#[when(expr = "tests ask for a GPU and the answer is {string}")]
fn ask(stage: &mut Stage, answer: String) {
    let say = without_gpu().expect("these tests ask for GPUs");
    stage.notes = say(&answer).lines().map(str::to_owned).collect();
}

#[then(expr = "a banner says {string}")]
fn banner(stage: &mut Stage, words: String) {
    let line = |line: &String| line.len() > 40 && line.chars().all(|c| c == '=');
    assert!(stage.notes.first().is_some_and(line), "{:?}", stage.notes);
    assert!(stage.notes.last().is_some_and(line), "{:?}", stage.notes);
    says(stage, words);
}

#[then(expr = "the banner also says {string}")]
fn says(stage: &mut Stage, words: String) {
    let said = stage.notes.iter().any(|line| line.contains(&words));
    assert!(said, "{:?}", stage.notes);
}
