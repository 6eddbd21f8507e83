//! What must never count as a scenario that passed, tried before any is believed.

use super::features::{read, unlisted};
use super::run::play;
use super::stage::{Setting, run_in};

/// Features that are refused before anything runs, and why.
const UNREAD: &[(&str, &str)] = &[
    ("Feature: none\n", "no scenario"),
    (
        "Feature: f\n  Scenario: s\n    Given a worker with 10 MiB of VRAM\n",
        "looks at nothing",
    ),
    ("Feature: f\n  Scenario: s\n", "f"),
    ("Feature: f\n  Scenario: s\n    Then \n", "f"),
    ("Scenario: without a feature\n", "f.feature: "),
    (
        "Feature: f\n  Scenario: s\n    Then it succeeds\n  Rule: r\n    Scenario: t\n      Then it succeeds\n",
        "rules",
    ),
];

/// Steps after a good one, and whether the scenario passes with them.
const STEPS: &[(&str, bool)] = &[
    ("Then 0 bytes of VRAM are in use", true),
    ("Then no VRAM is available", false),
    ("Then nobody has written this step", false),
    (
        "When nobody has written this step\n    Then 0 bytes of VRAM are in use",
        false,
    ),
    // Every step passes; only what looks after the last one can tell.
    (
        "And an allocation that nobody frees\n    Then 0 bytes of VRAM are in use",
        false,
    ),
];

/// Panics when one of these would pass.
pub(crate) fn bad_features_fail(setting: Setting) {
    run_in(setting);
    for (text, words) in UNREAD {
        let why = read("f", text).map(|feature| feature.scenarios.len());
        let why = why.expect_err(text);
        assert!(why.contains(words), "{why}");
    }
    for (steps, passes) in STEPS {
        let text = format!(
            "Feature: f\n  Scenario: s\n    Given a worker with 10 MiB of VRAM\n    {steps}\n"
        );
        let feature = read("f", &text).unwrap();
        let (failed, said) = play(vec![feature], setting, String::new());
        assert_eq!(!failed, *passes, "{steps}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    for file in ["groups.feature", "forgotten.feature"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    assert_eq!(unlisted(folder.path()), ["forgotten.feature"]);
}
