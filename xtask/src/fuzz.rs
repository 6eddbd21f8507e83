//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, or the replay of their seeds where
//! the fuzzer is not installed.
//! requirement: TP-5

mod log;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};

use crate::{Task, exec, report};
use log::Run;

pub(crate) const TASK: Task = Task {
    usage: "fuzz [TARGET ..] [--seconds N] [--jobs N] [--seed N]",
    summary: "Build the fuzz targets with the fuzzer and run each of them",
    help: "\
--seconds N   seconds for each target (default 30)
--jobs N      targets at a time, one worker each (default: the cores, at most 2)
--seed N      what the fuzzer's choices follow from; the checks take 1 (default 0: other ones
              in every run)

Needs rustup's nightly, cargo-fuzz and a C++ compiler; without them the seeds of every target are
replayed with seeded changes, by `cargo test -p fuzz-targets`. Inputs that were found stay in
target/fuzz/corpus for the next run, crashes in target/fuzz/crashes. The counts of the last run
of each target go to target/xtask/fuzz.json. Fails when an input broke a claim.

example: cargo xtask fuzz
example: cargo xtask fuzz gguf ptx --seconds 600 --jobs 1",
    run,
};

/// Most memory that one decoder may ask for at once, in MiB: a header claims more than it is.
const LARGEST_REQUEST: &str = "-malloc_limit_mb=64";
/// Seconds that one input may take, on a machine that does other things as well.
const SLOWEST_INPUT: &str = "-timeout=25";

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    targets: Vec<String>,
    seconds: u64,
    jobs: usize,
    seed: u64,
}

fn run(args: &[String]) -> Result<(), String> {
    let root = exec::root();
    let plan = plan(args, &targets(&root)?, cores())?;
    match missing() {
        None => fuzz(&root, &plan),
        Some(what) => {
            println!("*** NOT FUZZED: {what}.");
            println!("*** The checked-in seeds are replayed with seeded changes instead.");
            replay()
        }
    }
}

/// What the fuzzer needs and this machine lacks.
pub(crate) fn missing() -> Option<String> {
    if !exec::answers(&mut nightly(&["fuzz", "--version"])) {
        let how = "rustup toolchain install nightly; cargo install --locked cargo-fuzz";
        return Some(format!("`cargo +nightly fuzz` is not here ({how})"));
    }
    let compiler = exec::answers(Command::new("c++").arg("--version"));
    (!compiler).then(|| "there is no C++ compiler for the fuzzing engine (g++)".to_owned())
}

/// Half a minute of every target, two at a time, as every run of the checks makes them: the same
/// inputs each time, as far as the machine gets.
pub(crate) fn smoke() -> Result<(), String> {
    run(&["--seed", "1"].map(str::to_owned))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The names of the programs in `fuzz/fuzz_targets`, sorted.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("fuzz/fuzz_targets");
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(say)? {
        let path = entry.map_err(say)?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

fn plan(args: &[String], known: &[String], cores: usize) -> Result<Plan, String> {
    let mut plan = Plan {
        targets: Vec::new(),
        seconds: 30,
        jobs: cores.min(2),
        seed: 0,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().and_then(|value| value.parse::<u64>().ok());
            let value = value.filter(|value| *value > 0);
            value.ok_or_else(|| format!("`{arg}` wants a number above 0"))
        };
        match arg.as_str() {
            "--seconds" => plan.seconds = number()?,
            "--seed" => plan.seed = number()?,
            "--jobs" => plan.jobs = usize::try_from(number()?).unwrap_or(usize::MAX),
            name if known.iter().any(|known| known == name) => plan.targets.push(arg.clone()),
            other => {
                let known = known.join(" ");
                return Err(format!(
                    "`{other}` is no target and no option; targets: {known}"
                ));
            }
        }
    }
    if plan.targets.is_empty() {
        plan.targets = known.to_vec();
    }
    Ok(plan)
}

/// Cargo of the nightly toolchain, which only rustup's cargo can choose.
fn nightly(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").args(args).current_dir(exec::root());
    command.stdin(Stdio::null());
    command
}

fn fuzz(root: &Path, plan: &Plan) -> Result<(), String> {
    let build = ["fuzz", "build", "--target-dir", "target/fuzz/build"];
    match plan.targets.as_slice() {
        [one] => exec::run(nightly(&build).arg(one)),
        _ => exec::run(&mut nightly(&build)),
    }
    .map_err(|end| format!("the targets do not build: cargo fuzz {end}"))?;
    let (count, seconds) = (plan.targets.len(), plan.seconds);
    println!("{count} targets, {seconds} s each, {} at a time", plan.jobs);
    let queue = Mutex::new(plan.targets.iter());
    let results = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(name) = next(&queue) {
            let run = one(root, name, plan);
            match &run {
                Ok(run) => println!("{name}: {run}"),
                Err(why) => println!("{name}: {why}"),
            }
            let mut results = results.lock().unwrap_or_else(|lock| lock.into_inner());
            results.insert(name.clone(), run);
        }
    };
    thread::scope(|scope| {
        for _ in 0..plan.jobs.min(count) {
            scope.spawn(work);
        }
    });
    let results = results
        .into_inner()
        .unwrap_or_else(|lock| lock.into_inner());
    report::leave_rows("fuzz", "targets", rows(seconds, &results))?;
    verdict(&results)
}

fn next<'n>(queue: &Mutex<std::slice::Iter<'n, String>>) -> Option<&'n String> {
    queue.lock().unwrap_or_else(|lock| lock.into_inner()).next()
}

/// Runs one target to its time limit or its first crash.
fn one(root: &Path, name: &str, plan: &Plan) -> Result<Run, String> {
    let home = root.join("target/fuzz");
    let (corpus, crashes) = (
        home.join("corpus").join(name),
        home.join("crashes").join(name),
    );
    let path = home.join(format!("{name}.log"));
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(&corpus).map_err(say)?;
    fs::create_dir_all(&crashes).map_err(say)?;
    let before = files(&crashes);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let program = home.join("build").join(triple).join("release").join(name);
    let mut command = Command::new(&program);
    // Looking for leaks stops a process that may not trace itself.
    command.args([
        LARGEST_REQUEST,
        SLOWEST_INPUT,
        "-detect_leaks=0",
        "-print_final_stats=1",
    ]);
    command.args([
        format!("-max_total_time={}", plan.seconds),
        format!("-seed={}", plan.seed),
        format!("-artifact_prefix={}/", crashes.display()),
    ]);
    let dictionary = root.join(format!("fuzz/dict/{name}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // New inputs go to the first folder.
    command
        .arg(&corpus)
        .arg(root.join("fuzz/corpus").join(name));
    let output = File::create(&path).map_err(say)?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(output).status();
    let status = status.map_err(|error| format!("{}: {error}", program.display()))?;
    let mut found = files(&crashes);
    found.retain(|file| !before.contains(file));
    let text = fs::read(&path).map_err(say)?;
    Ok(Run::read(
        &String::from_utf8_lossy(&text),
        status.success(),
        found,
    ))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// What came of each target, for the report.
fn rows(seconds: u64, results: &BTreeMap<String, Result<Run, String>>) -> Vec<Value> {
    let row = |(name, result): (&String, &Result<Run, String>)| match result {
        Ok(run) => run.as_json(name, seconds),
        Err(why) => json!({ "name": name, "ended": why }),
    };
    results.iter().map(row).collect()
}

fn verdict(results: &BTreeMap<String, Result<Run, String>>) -> Result<(), String> {
    let bad = results.iter().filter_map(|(name, result)| match result {
        Ok(run) if run.held() => None,
        Ok(run) => Some(format!("{name}: {}", run.ended())),
        Err(why) => Some(format!("{name}: {why}")),
    });
    let bad: Vec<String> = bad.collect();
    if bad.is_empty() {
        return Ok(());
    }
    let how = "make each crash a seed in fuzz/corpus, where the replay fails on it, then mend it";
    Err(format!("{}\n{how}", bad.join("\n")))
}

/// The replay on stable.
fn replay() -> Result<(), String> {
    let mut command = exec::cargo(&["test", "--package", "fuzz-targets", "--test", "replay"]);
    exec::run(&mut command).map_err(|end| format!("the replay of the seeds {end}"))?;
    let row = json!({ "name": "all seeds", "ended": "replayed, no fuzzer" });
    report::leave_rows("fuzz", "targets", vec![row])
}

#[cfg(test)]
mod tests;
