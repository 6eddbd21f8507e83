//! `cargo xtask races`: what only another order of events, or a stricter machine, shows.
//! requirement: TP-6, TP-9

use crate::exec;
use crate::programs::{self, Program};
use crate::{Task, report};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(crate) const TASK: Task = Task {
    usage: "races [--models] [--miri] [--tsan] [--schedules N] [--seed N] [--only TEXT] [--no-skips]",
    summary: "Look for races: models under a scheduler, Miri, ThreadSanitizer; all of it by default",
    help: "\
--models        ledger, leases, quarantine, loads, keys, audit queue and staging ring under
                a scheduler
--miri          the unsafe code of vram-digest under Miri (nightly with miri and rust-src)
--tsan          the concurrent suite under ThreadSanitizer (nightly with rust-src)
--schedules N   schedules of each model (default 2000)
--seed N        seed of the schedules (default 1); printed
--only TEXT     only models whose name holds TEXT
--no-skips      a part whose tools are missing is a failure, not a skip
example: cargo xtask races
example: cargo xtask races --models --schedules 100000 --seed 7
example: cargo xtask races --miri --tsan --no-skips",
    run,
};

/// Schedules of each model in every run of the checks, and by hand.
const FEW: &str = "60";
const MANY: &str = "2000";
/// Instruction sets that Miri knows, so that every kernel of the digests runs.
const MIRI_FEATURES: &str = "-Ctarget-feature=+sse4.1,+ssse3,+sha,+avx,+avx2,+avx512f,+avx512bw";
/// Without `--target`, the sanitizer's flags would go into build scripts as well.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// The packages that have models, and the targets that hold them.
const MODELS: &[(&str, &str)] = &[
    ("vram-residency", "--lib"),
    ("vram-residency-cuda", "--test=races"),
];
/// Integration tests with many threads on one manager.
const CONCURRENT: &[&str] = &[
    "concurrent",
    "capacity",
    "lease",
    "scrub",
    "interleavings",
    "load",
    "load_groups",
    "load_opening",
];
/// Cases of each property under ThreadSanitizer: it asks for races, and is slow.
const FEW_CASES: &str = "8";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    models: bool,
    miri: bool,
    tsan: bool,
    no_skips: bool,
    schedules: String,
    seed: String,
    only: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self {
            models: false,
            miri: false,
            tsan: false,
            no_skips: false,
            schedules: MANY.to_owned(),
            seed: "1".to_owned(),
            only: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("`{arg}` needs a value")).cloned();
            match arg.as_str() {
                "--models" => options.models = true,
                "--miri" => options.miri = true,
                "--tsan" => options.tsan = true,
                "--no-skips" => options.no_skips = true,
                "--schedules" => options.schedules = number(arg, value()?)?,
                "--seed" => options.seed = number(arg, value()?)?,
                "--only" => options.only = Some(value()?),
                _ => return Err(format!("unknown argument `{arg}`; see --help")),
            }
        }
        if !(options.models || options.miri || options.tsan) {
            (options.models, options.miri, options.tsan) = (true, true, true);
        }
        Ok(options)
    }
}

fn number(arg: &str, value: String) -> Result<String, String> {
    match value.parse::<u64>() {
        Ok(n) if n > 0 || arg == "--seed" => Ok(value),
        _ => Err(format!(
            "`{arg}` needs a whole number above zero, not `{value}`"
        )),
    }
}

/// A part that a machine may lack the tools for.
pub(crate) struct Part {
    name: &'static str,
    needs: Needs,
    tests: fn() -> Result<(), String>,
}

pub(crate) const MIRI: Part = Part {
    name: "miri",
    needs: &["miri", "rust-src"],
    tests: miri,
};
pub(crate) const TSAN: Part = Part {
    name: "tsan",
    needs: &["rust-src"],
    tests: tsan,
};

impl Part {
    /// What it needs and this machine lacks, with the remedy.
    pub(crate) fn missing(&self) -> Option<String> {
        missing(self.needs)
    }

    pub(crate) fn run(&self) -> Result<(), String> {
        noted(self.name, "all its tests", (self.tests)())
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let options = Options::parse(args)?;
    let mut skipped = Vec::new();
    if options.models {
        models(&options)?;
    }
    for (chosen, part) in [(options.miri, MIRI), (options.tsan, TSAN)] {
        if !chosen {
            continue;
        }
        match part.missing() {
            None => part.run()?,
            Some(what) => {
                println!("SKIPPED: {}: {what}", part.name);
                skipped.push(format!("{}: {what}", part.name));
            }
        }
    }
    if options.no_skips && !skipped.is_empty() {
        return Err(format!("not run: {}", skipped.join("; ")));
    }
    Ok(())
}

/// A few schedules of every model, as every run of the checks makes them.
pub(crate) fn check() -> Result<(), String> {
    run(&["--models", "--schedules", FEW].map(str::to_owned))
}

/// Each part is built with flags of its own, and so in a folder of its own.
fn folder(part: &str) -> PathBuf {
    exec::root().join("target/races").join(part)
}

fn models(options: &Options) -> Result<(), String> {
    let result = explore(options);
    let (schedules, seed) = (&options.schedules, &options.seed);
    let mut what = format!("{schedules} schedules of each, seed {seed}");
    if let Some(only) = &options.only {
        what += &format!(", of models named `{only}`");
    }
    noted("models", &what, result)
}

/// Leaves what came of a part for the report, over what came of it before.
fn noted(part: &str, what: &str, result: Result<(), String>) -> Result<(), String> {
    let outcome = result.as_ref().err().map_or("passed", String::as_str);
    let row = json!({ "name": part, "what": what, "outcome": outcome });
    let left = report::leave_rows("races", "parts", vec![row]);
    result.and(left)
}

/// Builds the programs that hold models and runs those that are asked for.
fn explore(options: &Options) -> Result<(), String> {
    let mut found = Vec::new();
    for (package, target) in MODELS {
        let programs = programs::build(&mut modelled(package, target))?;
        for program in programs.into_iter().filter(|program| program.is_test) {
            let models = models_of(&program)?;
            found.push((program, models));
        }
    }
    for (program, models) in chosen(found, options.only.as_deref())? {
        let mut command = Command::new(&program.path);
        command
            .args(["--show-output", "--exact"])
            .args(models)
            .current_dir(&program.folder)
            .env("VRAM_RACES_SCHEDULES", &options.schedules)
            .env("VRAM_RACES_SEED", &options.seed);
        let package = &program.package;
        exec::run(&mut command).map_err(|end| format!("the models of {package}: {end}"))?;
    }
    Ok(())
}

/// Cargo's build of a package's models.
fn modelled(package: &str, target: &str) -> Command {
    let mut command = exec::cargo(&["test", "--no-run", "--package", package, target]);
    // What the models run on is optimised, what they model builds fast.
    command
        .args(["--config", "profile.dev.package.\"*\".opt-level=1"])
        .env("CARGO_TARGET_DIR", folder("models"))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("RUSTFLAGS", "--cfg shuttle");
    command
}

/// The models among the tests of a program, by their full names.
fn models_of(program: &Program) -> Result<Vec<String>, String> {
    let mut list = Command::new(&program.path);
    let said = list.args(["--list", "--format=terse"]).output();
    let said = said.map_err(|error| format!("{}: {error}", program.path.display()))?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr).into_owned();
        let (name, status) = (&program.name, said.status);
        return Err(format!("{name} does not list its tests ({status}): {why}"));
    }
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let tests = said.lines().filter_map(|line| line.strip_suffix(": test"));
    let is_model = |test: &&str| program.name == "races" || test.contains("races::");
    Ok(tests.filter(is_model).map(str::to_owned).collect())
}

/// Those whose names hold `only`. None at all is an error that names what there is: a run of
/// nothing would pass.
fn chosen<P>(
    mut found: Vec<(P, Vec<String>)>,
    only: Option<&str>,
) -> Result<Vec<(P, Vec<String>)>, String> {
    let only = only.unwrap_or_default();
    let names: Vec<String> = found
        .iter()
        .flat_map(|(_, models)| models.clone())
        .collect();
    if only.is_empty() && found.iter().any(|(_, models)| models.is_empty()) {
        return Err(format!(
            "a program has no model; those of the others: {names:?}"
        ));
    }
    for (_, models) in &mut found {
        models.retain(|model| model.contains(only));
    }
    found.retain(|(_, models)| !models.is_empty());
    if found.is_empty() {
        let names = names.join("\n  ");
        return Err(format!(
            "no model is named `{only}`; the models:\n  {names}"
        ));
    }
    Ok(found)
}

fn miri() -> Result<(), String> {
    let mut command = nightly("miri", &["miri", "test", "--package", "vram-digest"]);
    command
        .args(["--test", "undefined", "--", "--nocapture"])
        .env("RUSTFLAGS", MIRI_FEATURES);
    exec::run(&mut command).map_err(|end| format!("Miri on vram-digest: {end}"))
}

fn tsan() -> Result<(), String> {
    let mut command = nightly("tsan", &["test", "-Zbuild-std", "--target", HOST]);
    for test in CONCURRENT {
        command.args(["--test", test]);
    }
    command
        .args(["--package", "vram-residency"])
        .env("CARGO_INCREMENTAL", "0")
        .env("PROPTEST_CASES", FEW_CASES)
        .env("RUSTFLAGS", "-Zsanitizer=thread --cfg tsan");
    exec::run(&mut command).map_err(|end| format!("ThreadSanitizer on vram-residency: {end}"))
}

/// The nightly cargo; the one that started us would ignore `+nightly`.
fn nightly(part: &str, args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo"])
        .args(args)
        .current_dir(exec::root())
        .env("CARGO_TARGET_DIR", folder(part));
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

/// Words that must all occur in what `rustup component list` says is installed.
type Needs = &'static [&'static str];

/// What of `needs` is not installed for nightly. Asked once: a command whose output was
/// thrown away the first time says nothing the second time.
fn missing(needs: Needs) -> Option<String> {
    let mut list = Command::new("rustup");
    list.args(["component", "list", "--installed", "--toolchain", "nightly"])
        .stdin(Stdio::null());
    match list.output() {
        Ok(told) if told.status.success() => lacking(needs, &String::from_utf8_lossy(&told.stdout)),
        _ => Some("there is no nightly toolchain (rustup toolchain install nightly)".to_owned()),
    }
}

fn lacking(needs: Needs, installed: &str) -> Option<String> {
    let there = |need: &&&str| !installed.lines().any(|line| line.starts_with(**need));
    let lacks: Vec<&str> = needs.iter().filter(there).copied().collect();
    (!lacks.is_empty()).then(|| {
        let lacks = lacks.join(" ");
        format!("nightly lacks {lacks} (rustup component add --toolchain nightly {lacks})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn without_a_choice_every_part_runs() {
        let all = parse(&["--seed", "0"]).unwrap();
        assert!(all.models && all.miri && all.tsan && !all.no_skips);
        let one = parse(&["--miri", "--no-skips"]).unwrap();
        assert!(one.miri && one.no_skips && !one.models && !one.tsan);
    }

    #[test]
    fn nothing_is_run_for_a_slip() {
        for bad in [
            &["--mri"][..],
            &["--schedules"],
            &["--schedules", "0"],
            &["--seed", "x"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_models_that_are_asked_for_run_and_a_slip_is_refused() {
        let found = || {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            vec![
                ("core", names(&["races::lease::one", "races::ledger::two"])),
                ("cuda", names(&["three"])),
            ]
        };
        assert_eq!(chosen(found(), None), Ok(found()));
        let one = chosen(found(), Some("lease")).unwrap();
        assert_eq!(one, [("core", vec!["races::lease::one".to_owned()])]);
        let error = chosen(found(), Some("leese")).unwrap_err();
        for named in ["`leese`", "races::ledger::two", "three"] {
            assert!(error.contains(named), "{error}");
        }
        assert!(chosen(Vec::<((), _)>::new(), None).is_err(), "no models");
        let mut one_has_none = found();
        one_has_none[1].1.clear();
        assert!(chosen(one_has_none, None).is_err(), "none in one program");
    }

    #[test]
    fn what_is_installed_is_not_missing() {
        // Without a nightly toolchain it says that, and not that parts of one lack.
        match missing(&["cargo", "rustc"]) {
            None => {}
            Some(why) => assert!(why.starts_with("there is no nightly"), "{why}"),
        }
    }

    #[test]
    fn a_missing_tool_is_named_with_its_remedy() {
        let installed = "cargo-x86_64-unknown-linux-gnu\nrust-src\n";
        assert_eq!(lacking(TSAN.needs, installed), None);
        let lacks = lacking(MIRI.needs, installed).unwrap();
        assert!(
            lacks.contains("rustup component add --toolchain nightly miri"),
            "{lacks}"
        );
    }
}
