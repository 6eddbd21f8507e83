//! The feature files, built in so that the test binary runs anywhere, and what
//! makes a scenario one: it does something, and it looks at the outcome.

use cucumber::feature::Ext as _;
use cucumber::gherkin::{Feature, GherkinEnv, StepType};
use cucumber::parser::Parser;

macro_rules! features {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every feature.
        const FEATURES: &[(&str, &str)] = &[$((
            $name,
            include_str!(concat!("../features/", $name, ".feature")),
        )),*];
    };
}

features![
    "dual_mode",
    "seal_model",
    "verify_seal",
    "vram_policy",
    "multi_shard",
    "error_recovery",
    "concurrent_access",
    "seal_verification_extended",
    "security",
    "shared_crate_integration",
    "stress_test",
    "signature_robustness",
    "shared_gpu",
    "worker_life",
    "receipts",
    "audit",
    "repair",
    "migration",
    "groups",
];

/// Hands the features to the runner.
pub(super) struct Embedded(pub(super) Vec<Feature>);

impl<I> Parser<I> for Embedded {
    type Cli = cucumber::cli::Empty;
    type Output = futures::stream::Iter<std::vec::IntoIter<cucumber::parser::Result<Feature>>>;

    fn parse(self, _: I, _: Self::Cli) -> Self::Output {
        let features: Vec<_> = self.0.into_iter().map(Ok).collect();
        futures::stream::iter(features)
    }
}

/// Every feature, outlines expanded. Panics on one that cannot be read, is not
/// listed, or has a scenario that could not fail.
pub(super) fn all() -> Vec<Feature> {
    all_are_listed();
    FEATURES
        .iter()
        .map(|(name, text)| read(name, text))
        .collect()
}

fn read(name: &str, text: &str) -> Feature {
    let feature = Feature::parse(text, GherkinEnv::default());
    let feature = feature.unwrap_or_else(|error| panic!("{name}.feature: {error}"));
    let mut feature = feature.expand_examples().expect("examples can be expanded");
    feature.path = Some(format!("{name}.feature").into());
    assert!(!feature.scenarios.is_empty(), "{name}: no scenario");
    assert!(
        feature.rules.is_empty(),
        "{name}: rules are not looked into"
    );
    for scenario in &feature.scenarios {
        let given = feature.background.iter().flat_map(|b| &b.steps);
        let has = |ty| scenario.steps.iter().any(|step| step.ty == ty);
        assert!(
            has(StepType::Then),
            "{name}: '{}' looks at nothing",
            scenario.name
        );
        for step in given.chain(&scenario.steps) {
            assert!(!step.value.trim().is_empty(), "{name}: an empty step");
        }
    }
    feature
}

/// A feature file that is not in the list above would never run.
fn all_are_listed() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../vram-residency/tests/behaviour/features"
    );
    // Absent where the binary was carried to another machine.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".feature").unwrap_or_default();
        let listed = FEATURES.iter().any(|(listed, _)| *listed == name);
        assert!(listed, "{file} is not in the list of features");
    }
}
