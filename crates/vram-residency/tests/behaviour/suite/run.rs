//! Runs every scenario and counts as the runner counts.

use std::io::Write;
use std::sync::{Arc, Mutex};

use cucumber::gherkin::{Feature, Scenario};
use cucumber::writer::{Coloring, Stats as _, Verbosity};
use cucumber::{World as _, WriterExt as _, writer};
use futures::FutureExt as _;

use super::features::{Embedded, all};
use super::stage::{Setting, Stage, run_in};

/// What the runner prints, kept until it is known whether anybody wants it.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<Vec<u8>>>);

impl Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the scenarios; true when nothing failed. A step that is missing or
/// ambiguous is a failure. `cargo test NAME` runs those whose name contains
/// NAME, as every test binary does; `--nocapture` prints every step.
pub(crate) fn run(setting: Setting) -> bool {
    run_in(setting);
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verbose = args.iter().any(|arg| arg == "--nocapture");
    let wanted = args.into_iter().find(|arg| !arg.starts_with('-'));
    let wanted = wanted.unwrap_or_default();
    let unseen = unseen(&all(), setting);
    let (failed, mut text) = play(all(), setting, wanted);
    let failed = failed || unseen.is_some();
    text.extend(unseen);
    let from = if failed || verbose {
        0
    } else {
        text.rfind("[Summary]").unwrap_or(0)
    };
    let name = setting.name;
    println!(
        "behaviour on {name}:\n{}",
        text.get(from..).unwrap_or_default()
    );
    if setting.devices < 2 {
        println!("behaviour on {name}: scenarios of two devices did NOT run, there is one");
    }
    if !setting.reuses {
        println!("behaviour on {name}: scenarios of reused memory did NOT run, it is never reused");
    }
    if !setting.fast {
        println!("behaviour on {name}: scenarios marked slow did NOT run");
    }
    !failed
}

/// How many scenarios do not run where there is one device, where they are slow, where memory is
/// never reused, and where nobody asks for a GPU.
const LEFT_OUT: [usize; 4] = [8, 2, 1, 1];

/// What is said when a setting leaves out more scenarios, or fewer, than it may.
fn unseen(features: &[Feature], setting: Setting) -> Option<String> {
    let lacks = [
        setting.devices < 2,
        !setting.fast,
        !setting.reuses,
        setting.without_gpu.is_none(),
    ];
    let lacking = lacks.into_iter().zip(LEFT_OUT).filter(|(lacks, _)| *lacks);
    let expected: usize = lacking.map(|(_, scenarios)| scenarios).sum();
    let runs = |feature: &Feature, scenario: &Scenario| {
        let mut tags = feature.tags.iter().chain(&scenario.tags);
        tags.all(|tag| setting.runs(tag))
    };
    let left_out = features.iter().flat_map(|feature| {
        let scenarios = feature.scenarios.iter();
        scenarios.filter(|scenario| !runs(feature, scenario))
    });
    let left_out = left_out.count();
    let text = format!("{left_out} scenarios are left out here, not {expected}\n");
    (left_out != expected).then_some(text)
}

/// Plays the scenarios whose name contains `wanted`; whether one failed, or any of
/// their steps did not run, and what the runner says.
pub(super) fn play(features: Vec<Feature>, setting: Setting, wanted: String) -> (bool, String) {
    let selects = move |feature: &Feature, scenario: &Scenario| {
        let mut tags = feature.tags.iter().chain(&scenario.tags);
        scenario.name.contains(&wanted) && tags.all(|tag| setting.runs(tag))
    };
    let expected: usize = features
        .iter()
        .map(|feature| steps(feature, &selects))
        .sum();
    let pages = Pages::default();
    let raw = writer::Basic::raw(pages.clone(), Coloring::Never, Verbosity::Default);
    let runner = Stage::cucumber::<&str>()
        .with_parser(Embedded(features))
        .with_writer(raw.normalized().summarized())
        .with_default_cli()
        .max_concurrent_scenarios(1)
        .fail_on_skipped()
        .after(|_, _, _, _, stage| {
            async move {
                if let Some(stage) = stage {
                    stage.leave();
                }
            }
            .boxed_local()
        });
    let runs = runner.filter_run("", move |feature, _, scenario| selects(feature, scenario));
    let done = futures::executor::block_on(runs);
    let mut text = String::from_utf8_lossy(&pages.0.lock().unwrap()).into_owned();
    let passed = done.passed_steps();
    if passed != expected {
        text += &format!("{passed} of {expected} steps passed\n");
    }
    (done.execution_has_failed() || passed != expected, text)
}

/// How many steps the selected scenarios of a feature have.
fn steps(feature: &Feature, selects: impl Fn(&Feature, &Scenario) -> bool) -> usize {
    let given = feature.background.as_ref().map_or(0, |b| b.steps.len());
    let selected = feature
        .scenarios
        .iter()
        .filter(|scenario| selects(feature, scenario));
    selected.map(|scenario| given + scenario.steps.len()).sum()
}
