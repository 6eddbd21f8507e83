//! Which lines of the shipped sources ran, from the data of all processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tools::Tools;
use crate::exec;
use crate::modules::Sources;
use crate::programs::Program;
use crate::tree::Tree;

/// For each file, by its path from the root: how often each line ran that holds code.
pub(super) type Lines = BTreeMap<String, BTreeMap<usize, u64>>;

/// Puts the data of all processes together in `merged`.
pub(super) fn merge(tools: &Tools, raw: &Path, merged: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", raw.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(raw).map_err(say)? {
        files.push(entry.map_err(say)?.path());
    }
    if files.is_empty() {
        return Err("the tests left no data".to_owned());
    }
    // What a killed process half wrote is named and left out; a floor notices if it mattered.
    exec::run(
        Command::new(&tools.profdata)
            .args(["merge", "--sparse", "--failure-mode=all", "-o"])
            .arg(merged)
            .args(files),
    )
}

/// The lines of all binaries together, those of test code left out.
pub(super) fn read(tools: &Tools, merged: &Path, programs: &[Program]) -> Result<Lines, String> {
    let mut command = Command::new(&tools.cov);
    command
        .args([
            "export",
            "--format=lcov",
            "--skip-functions",
            "--instr-profile",
        ])
        .arg(merged)
        .stderr(Stdio::inherit());
    for program in programs {
        command.arg("--object").arg(&program.path);
    }
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", tools.cov.display()))?;
    if !output.status.success() {
        return Err(format!("llvm-cov ended with {}", output.status));
    }
    let sources = Sources::read(&Tree::read(&exec::root())?);
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(shipped(&text, &exec::root(), |path, line| {
        sources.is_test(path, line)
    }))
}

/// Reads LCOV's `SF:` and `DA:` lines; keeps what stands in some crate's `src` and is no test.
fn shipped(lcov: &str, root: &Path, is_test: impl Fn(&str, usize) -> bool) -> Lines {
    let mut lines = Lines::new();
    let mut file: Option<String> = None;
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = Path::new(path)
                .strip_prefix(root)
                .unwrap_or(Path::new(path));
            let path = path.to_string_lossy().into_owned();
            file = (path.starts_with("crates/") && path.contains("/src/")).then_some(path);
        } else if let (Some(path), Some(data)) = (&file, line.strip_prefix("DA:")) {
            let mut numbers = data.split(',').map(str::parse::<u64>);
            let (Some(Ok(number)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
                continue;
            };
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            if !is_test(path, number) {
                *lines
                    .entry(path.clone())
                    .or_default()
                    .entry(number)
                    .or_default() += count;
            }
        }
    }
    lines
}

/// The lines of a file that never ran, as ranges such as `3-5`.
pub(super) fn missed(lines: &BTreeMap<usize, u64>) -> Vec<String> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut open = false;
    for (number, count) in lines {
        match ranges.last_mut() {
            Some((_, last)) if open && *count == 0 => *last = *number,
            _ if *count == 0 => ranges.push((*number, *number)),
            _ => {}
        }
        open = *count == 0;
    }
    let show = |(first, last): (usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LCOV: &str = "\
SF:/tree/crates/a/src/lib.rs
DA:1,5
DA:2,0
DA:9,7
end_of_record
SF:/tree/crates/a/tests/t.rs
DA:1,1
end_of_record
SF:/elsewhere/src/other.rs
DA:1,1
end_of_record
SF:/tree/crates/a/src/lib.rs
DA:2,3
DA:x,3
";

    #[test]
    fn only_shipped_lines_count_and_twins_are_added() {
        let lines = shipped(LCOV, Path::new("/tree"), |_, line| line == 9);
        let file = BTreeMap::from([(1, 5), (2, 3)]);
        assert_eq!(
            lines,
            Lines::from([("crates/a/src/lib.rs".to_owned(), file)])
        );
    }

    #[test]
    fn lines_that_never_ran_are_given_as_ranges() {
        let lines = BTreeMap::from([(1, 0), (2, 1), (4, 0), (5, 0), (7, 0), (8, 2), (9, 0)]);
        assert_eq!(missed(&lines), ["1", "4-7", "9"]);
        assert!(missed(&BTreeMap::from([(1, 1)])).is_empty());
    }
}
