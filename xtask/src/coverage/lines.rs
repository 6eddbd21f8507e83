//! Which lines and branches of the shipped sources ran, from the data of all processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tools::Tools;
use crate::exec;
use crate::modules::Sources;
use crate::programs::Program;
use crate::tree::Tree;

/// For each file, by its path from the root: how often each thing in it ran.
pub(super) type Counts<K> = BTreeMap<String, BTreeMap<K, u64>>;

/// By the number of the line; those that hold code.
pub(super) type Lines = Counts<usize>;

/// By line, block and number of the branch.
pub(super) type Branches = Counts<[usize; 3]>;

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

/// Lines and branches of all binaries together, those of test code left out; no branches where
/// the binaries were not built to count them.
pub(super) fn read<'p>(
    tools: &Tools,
    merged: &Path,
    programs: impl Iterator<Item = &'p Program>,
) -> Result<(Lines, Branches), String> {
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
    let root = exec::root();
    let is_test = |path: &str, line| sources.is_test(path, line);
    let lines = shipped::<1>(&text, &root, "DA:", is_test);
    let branches = shipped::<3>(&text, &root, "BRDA:", is_test);
    let lines = lines.into_iter().map(|(path, counts)| {
        let counts = counts.into_iter().map(|([line], count)| (line, count));
        (path, counts.collect())
    });
    Ok((lines.collect(), branches))
}

/// Reads LCOV's `SF:` lines and those of `kind`: numbers that tell a place, the line first, and
/// how often it ran.
/// Keeps what stands in some crate's `src` and is no test.
fn shipped<const N: usize>(
    lcov: &str,
    root: &Path,
    kind: &str,
    is_test: impl Fn(&str, usize) -> bool,
) -> Counts<[usize; N]> {
    let mut found = Counts::new();
    let mut file: Option<String> = None;
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = Path::new(path)
                .strip_prefix(root)
                .unwrap_or(Path::new(path));
            let path = path.to_string_lossy().into_owned();
            file = (path.starts_with("crates/") && path.contains("/src/")).then_some(path);
        } else if let (Some(path), Some(data)) = (&file, line.strip_prefix(kind)) {
            let Some((place, count)) = numbers(data) else {
                continue;
            };
            let line = place.first().copied().unwrap_or_default();
            if !is_test(path, line) {
                let counts: &mut BTreeMap<_, _> = found.entry(path.clone()).or_default();
                *counts.entry(place).or_default() += count;
            }
        }
    }
    found
}

/// The numbers of a place and the count behind them; a branch that was never reached has `-`.
fn numbers<const N: usize>(data: &str) -> Option<([usize; N], u64)> {
    let (place, count) = data.rsplit_once(',')?;
    let place: Result<Vec<usize>, _> = place.split(',').map(str::parse).collect();
    let count = if count == "-" { Ok(0) } else { count.parse() };
    Some((place.ok()?.try_into().ok()?, count.ok()?))
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
BRDA:2,0,0,3
BRDA:2,0,1,-
BRDA:9,0,0,1
";

    #[test]
    fn only_shipped_lines_count_and_twins_are_added() {
        let (root, is_test) = (Path::new("/tree"), |_: &str, line| line == 9);
        let name = || "crates/a/src/lib.rs".to_owned();
        let lines = shipped::<1>(LCOV, root, "DA:", is_test);
        let file = BTreeMap::from([([1], 5), ([2], 3)]);
        assert_eq!(lines, Counts::from([(name(), file)]));
        let branches = shipped::<3>(LCOV, root, "BRDA:", is_test);
        let file = BTreeMap::from([([2, 0, 0], 3), ([2, 0, 1], 0)]);
        assert_eq!(branches, Branches::from([(name(), file)]));
    }

    #[test]
    fn lines_that_never_ran_are_given_as_ranges() {
        let lines = BTreeMap::from([(1, 0), (2, 1), (4, 0), (5, 0), (7, 0), (8, 2), (9, 0)]);
        assert_eq!(missed(&lines), ["1", "4-7", "9"]);
        assert!(missed(&BTreeMap::from([(1, 1)])).is_empty());
    }
}
