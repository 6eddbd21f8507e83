//! Runs every scenario and counts as the runner counts.

use std::io::Write;
use std::sync::{Arc, Mutex};

use cucumber::gherkin::Scenario;
use cucumber::writer::{Coloring, Stats as _, Verbosity};
use cucumber::{World as _, WriterExt as _, writer};
use futures::FutureExt as _;

use super::features::{Embedded, all};
use super::stage::{Make, Stage, use_machines};

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

/// Runs the scenarios on machines that `make` makes with up to `devices`
/// devices each, scenarios marked slow only where that is `fast`; true when
/// nothing failed. A step that is missing or ambiguous
/// is a failure. `cargo test NAME` runs those whose name contains NAME, as
/// every test binary does; `--nocapture` prints every step.
pub(crate) fn run(mode: &str, devices: u32, fast: bool, make: Make) -> bool {
    use_machines(make);
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verbose = args.iter().any(|arg| arg == "--nocapture");
    let wanted = args.into_iter().find(|arg| !arg.starts_with('-'));
    let wanted = wanted.unwrap_or_default();
    let pages = Pages::default();
    let raw = writer::Basic::raw(pages.clone(), Coloring::Never, Verbosity::Default);
    let runner = Stage::cucumber::<&str>()
        .with_parser(Embedded(all()))
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
    let may_run = move |tags: &[String]| devices > 1 || !tags.iter().any(|t| t == "two-devices");
    let runs = runner.filter_run("", move |feature, _, scenario: &Scenario| {
        let slow = scenario.tags.iter().any(|tag| tag == "slow");
        scenario.name.contains(&wanted) && may_run(&feature.tags) && (fast || !slow)
    });
    let done = futures::executor::block_on(runs);
    let failed = done.execution_has_failed();
    let text = String::from_utf8_lossy(&pages.0.lock().unwrap()).into_owned();
    let from = if failed || verbose {
        0
    } else {
        text.rfind("[Summary]").unwrap_or(0)
    };
    println!(
        "behaviour on {mode}:\n{}",
        text.get(from..).unwrap_or_default()
    );
    if devices < 2 {
        println!("behaviour on {mode}: scenarios of two devices did NOT run, there is one");
    }
    if !fast {
        println!("behaviour on {mode}: scenarios marked slow did NOT run");
    }
    !failed
}
