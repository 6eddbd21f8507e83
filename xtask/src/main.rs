//! Repository chores: `cargo xtask TASK`. One file per task; each exports a [`Task`] that is
//! listed once in [`TASKS`], so adding a task takes a `mod` line and a list line.
#![forbid(unsafe_code)]

mod ci;
mod coverage;
mod exec;
mod faults;
mod fuzz;
mod gpu_suite;
mod hook;
mod kernels;
mod kills;
mod modules;
mod mutants;
mod planted;
mod programs;
mod properties;
mod races;
mod report;
mod rust;
mod tally;
mod test_names;
mod tidy;
mod trace;
mod tree;
mod twin;
mod variants;
mod wheel;

use std::process::ExitCode;

/// One chore: how it is called, what it does, and the function that does it.
struct Task {
    /// The word after `cargo xtask`, and its options.
    usage: &'static str,
    /// One line for the list of tasks.
    summary: &'static str,
    /// What `cargo xtask TASK --help` prints below the summary: options and examples.
    help: &'static str,
    /// Runs the task; the error is what a person reads, one or more lines.
    run: fn(&[String]) -> Result<(), String>,
}

impl Task {
    fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }
}

const TASKS: &[Task] = &[
    ci::TASK,
    tidy::TASK,
    trace::TASK,
    kernels::TASK,
    faults::TASK,
    planted::TASK,
    mutants::TASK,
    coverage::TASK,
    properties::TASK,
    kills::TASK,
    fuzz::TASK,
    races::TASK,
    gpu_suite::TASK,
    hook::TASK,
    report::TASK,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        print!("{}", overview());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", overview());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name() == name) else {
        eprintln!("xtask: error: there is no task `{name}`\n\n{}", overview());
        return ExitCode::from(2);
    };
    if rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!(
            "cargo xtask {}\n\n{}\n\n{}",
            task.usage, task.summary, task.help
        );
        return ExitCode::SUCCESS;
    }
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {}: error: {message}", task.name());
            ExitCode::FAILURE
        }
    }
}

/// The list of all tasks with their examples.
fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask TASK [OPTIONS]\n");
    for task in TASKS {
        text += &format!("\n  {}\n      {}\n", task.usage, task.summary);
        for line in task.help.lines() {
            text += &format!("      {line}\n");
        }
    }
    text
}

/// Refuses every argument that is not in `known`.
fn only_options(args: &[String], known: &[&str]) -> Result<(), String> {
    match args.iter().find(|arg| !known.contains(&arg.as_str())) {
        None => Ok(()),
        Some(arg) => Err(format!(
            "unknown argument `{arg}`; known: {}",
            known.join(" ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_listed_once_with_its_examples() {
        let text = overview();
        for task in TASKS {
            assert_eq!(text.matches(&format!("\n  {}\n", task.usage)).count(), 1);
            let example = format!("cargo xtask {}", task.name());
            assert!(
                task.help.contains(&example),
                "{} has no example",
                task.name()
            );
        }
    }

    #[test]
    fn options_that_nobody_reads_are_refused() {
        let args = ["--strict".to_owned(), "--strickt".to_owned()];
        assert!(only_options(&args[..1], &["--strict"]).is_ok());
        let error = only_options(&args, &["--strict"]).unwrap_err();
        assert!(error.contains("--strickt"), "{error}");
    }
}
