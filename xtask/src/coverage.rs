//! `cargo xtask coverage`: which lines, and if asked which branches, of the shipped crates the
//! tests run, and whether that is enough. requirement: TP-1, TP-2, CI-JOB-6, DM-7
//!
//! The instrumented build lies in `target/coverage`, its data and the tools in `target/xtask`.
//! For `cargo xtask ci --long` this run is the run of the tests that are measured; the step `test`
//! then runs the [`rest`] of the same build.

mod floors;
mod lines;
mod suite;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use crate::tally::{self, Tally};
use crate::{Task, exec, report};
use exec::both;
pub(crate) use suite::Build;

pub(crate) const TASK: Task = Task {
    usage: "coverage [--last] [--branches] [--missed PATH]",
    summary: "Measure which lines the tests run, and fail below the floors",
    help: "\
--last          judge the data of the last run again, without running the tests
--branches      count branches as well, which have no floor: another build, in target/branches
--missed PATH   also list the lines that never ran, of files whose path begins so
The counts are also in target/xtask/coverage.json and branches.json. Test code does not count.
example: cargo xtask coverage
example: cargo xtask coverage --branches
example: cargo xtask coverage --last --missed crates/vram-residency/src/key",
    run,
};

/// The crates whose lines count; `rustc.sh` instruments the same.
const SHIPPED: &[&str] = &[
    "vram",
    "vram-digest",
    "vram-residency",
    "vram-residency-cuda",
];

/// Where the result lies, from the root.
pub(crate) const RESULT: &str = "target/xtask/coverage.json";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    last: bool,
    branches: bool,
    missed: Option<String>,
}

impl Options {
    fn read(args: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--last" => options.last = true,
                "--branches" => options.branches = true,
                "--missed" => {
                    let path = args.next().ok_or("--missed needs a path")?;
                    options.missed = Some(path.clone());
                }
                _ => {
                    return Err(format!(
                        "unknown argument `{arg}`; known: --last --branches --missed"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// What the paths of a part's files begin with.
#[cfg(test)]
pub(crate) fn paths_of(part: &str) -> &'static [&'static str] {
    floors::paths_of(part)
}

fn run(args: &[String]) -> Result<(), String> {
    let options = Options::read(args)?;
    let (tools, build) = (tools()?, suite::build(options.branches)?);
    measure(&tools, &options, &build).0
}

/// What the run needs and a machine may lack.
pub(crate) fn tools() -> Result<tools::Tools, String> {
    tools::Tools::find(&exec::root().join("target/xtask"))
}

/// Builds everything that is tested, instrumented.
pub(crate) fn build() -> Result<Build, String> {
    suite::build(false)
}

/// Runs and judges what is measured; what the tests came to is told either way.
pub(crate) fn check(tools: &tools::Tools, build: &Build) -> (Result<(), String>, Tally) {
    measure(tools, &Options::default(), build)
}

/// Runs the tests of the same build that are not measured.
pub(crate) fn rest(build: &Build) -> (Result<(), String>, Tally) {
    let log = folder(&Options::default()).join("rest.log");
    let (programs, mut tally) = suite::run(build.rest(), Path::new("/dev/null"), &log);
    let (docs, told) = tally::run(suite::doc_tests());
    tally.add(told);
    (both(programs, docs), tally)
}

/// Each kind of build keeps its data by itself: `--last` reads what its own run left.
fn folder(options: &Options) -> PathBuf {
    let name = if options.branches {
        "branches"
    } else {
        "coverage"
    };
    exec::root().join("target/xtask").join(name)
}

fn measure(tools: &tools::Tools, options: &Options, build: &Build) -> (Result<(), String>, Tally) {
    let folder = folder(options);
    let (raw, merged) = (folder.join("raw"), folder.join("merged.profdata"));
    let (mut tests, mut tally) = (Ok(()), Tally::default());
    if !options.last {
        if let Err(why) = fresh(&raw) {
            return (Err(why), tally);
        }
        let data = raw.join("%8m.profraw");
        (tests, tally) = suite::run(build.measured(), &data, &folder.join("raw.log"));
    }
    // A failing test hides no floor, and a floor no failing test.
    let floors = judge(tools, options, build, &raw, &merged);
    (both(tests, floors), tally)
}

fn judge(
    tools: &tools::Tools,
    options: &Options,
    build: &Build,
    raw: &Path,
    merged: &Path,
) -> Result<(), String> {
    if !options.last {
        lines::merge(tools, raw, merged)?;
        // 60 MB that nobody reads again.
        fs::remove_dir_all(raw).map_err(|error| format!("{}: {error}", raw.display()))?;
    }
    let (lines, branches) = lines::read(tools, merged, build.shipped())?;
    if let Some(start) = &options.missed {
        for (path, file) in lines.iter().filter(|(path, _)| path.starts_with(start)) {
            println!("{path}: {}", lines::missed(file).join(" "));
        }
    }
    let rows = floors::rows(floors::PARTS, &lines);
    print!("{}", floors::table(&rows));
    if options.branches {
        let rows = floors::rows(floors::PARTS, &branches);
        print!("\n{}", floors::branch_table(&rows));
        report::leave("branches", &floors::branches_as_json(&rows))?;
    } else {
        println!("branches: not measured (`cargo xtask coverage --branches` does)");
    }
    report::leave("coverage", &floors::as_json(&rows, &lines))?;
    floors::judge(&rows)
}

fn fresh(folder: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapper_instruments_what_ships_and_nothing_else() {
        let wrapper = include_str!("coverage/rustc.sh");
        let instrumented = wrapper.lines().find_map(|line| {
            let names = line.trim().strip_suffix(')')?;
            names
                .contains(" | ")
                .then(|| names.split(" | ").collect::<Vec<_>>())
        });
        assert_eq!(instrumented.unwrap(), SHIPPED);
    }

    #[test]
    fn a_count_of_branches_leaves_the_data_of_lines_alone() {
        let branches = Options {
            branches: true,
            ..Options::default()
        };
        assert_ne!(folder(&branches), folder(&Options::default()));
    }

    #[test]
    fn options_are_read_and_others_refused() {
        let args = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let options = Options::read(&args("--last --branches --missed crates/a")).unwrap();
        assert!(options.last && options.branches);
        assert_eq!(options.missed.as_deref(), Some("crates/a"));
        assert!(Options::read(&args("--missed")).is_err());
        assert!(
            Options::read(&args("--lost"))
                .unwrap_err()
                .contains("--lost")
        );
    }
}
