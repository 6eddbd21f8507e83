//! The feature files, built in so that the test binary runs anywhere, and what
//! makes a scenario one: it does something, and it looks at the outcome.

use std::path::Path;

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
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../vram-residency/tests/behaviour/features"
    );
    let unlisted = unlisted(Path::new(folder));
    assert!(unlisted.is_empty(), "not in the list: {unlisted:?}");
    let features = FEATURES.iter().map(|(name, text)| read(name, text));
    features
        .map(|feature| feature.unwrap_or_else(|why| panic!("{why}")))
        .collect()
}

/// Reads a feature, every scenario of which can fail.
pub(super) fn read(name: &str, text: &str) -> Result<Feature, String> {
    let feature = Feature::parse(text, GherkinEnv::default());
    let feature = feature.map_err(|error| format!("{name}.feature: {error}"))?;
    let expanded = feature.expand_examples();
    let mut feature = expanded.map_err(|error| format!("{name}.feature: {error}"))?;
    feature.path = Some(format!("{name}.feature").into());
    if feature.scenarios.is_empty() {
        return Err(format!("{name}: no scenario"));
    }
    if !feature.rules.is_empty() {
        return Err(format!("{name}: rules are not looked into"));
    }
    for scenario in &feature.scenarios {
        let given = feature.background.iter().flat_map(|b| &b.steps);
        let has = |ty| scenario.steps.iter().any(|step| step.ty == ty);
        if !has(StepType::Then) {
            return Err(format!("{name}: '{}' looks at nothing", scenario.name));
        }
        let mut steps = given.chain(&scenario.steps);
        if steps.any(|step| step.value.trim().is_empty()) {
            return Err(format!("{name}: an empty step"));
        }
    }
    Ok(feature)
}

/// Feature files of a folder that are not in the list above, and would never run.
pub(super) fn unlisted(folder: &Path) -> Vec<String> {
    // Absent where the binary was carried to another machine.
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let listed = |file: &String| {
        let name = file.strip_suffix(".feature").unwrap_or_default();
        FEATURES.iter().any(|(listed, _)| *listed == name)
    };
    files.filter(|file| !listed(file)).collect()
}
