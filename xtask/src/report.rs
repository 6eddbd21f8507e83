//! `cargo xtask report`: one page from what the last runs left for programs. Nothing is typed in
//! by hand, and what was not run is said to be missing.

mod parts;
mod table;

use std::fs;
use std::path::Path;

use crate::{Task, exec, only_options};

pub(crate) const TASK: Task = Task {
    usage: "report",
    summary: "Write target/report.md: checks, tests, coverage, mutants, fuzzing, faults, benches, GPU",
    help: "\
Reads what the last runs left under target/ and docs/results/, runs nothing itself, and names the
command that makes each missing part.
example: cargo xtask report",
    run,
};

/// Where tasks leave their results, from the root.
const FOLDER: &str = "target/xtask";

/// Leaves a task's result for the report, as `NAME.json`.
pub(crate) fn leave(name: &str, value: &serde_json::Value) -> Result<(), String> {
    let folder = exec::root().join(FOLDER);
    let path = folder.join(format!("{name}.json"));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, format!("{value:#}\n")))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn run(args: &[String]) -> Result<(), String> {
    only_options(args, &[])?;
    let root = exec::root();
    let (page, missing) = page(&root, &commit(&root));
    let path = root.join("target/report.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    if !missing.is_empty() {
        println!("missing: {}", missing.join(", "));
    }
    Ok(())
}

/// The page, and the titles of the parts that are missing from it.
fn page(root: &Path, commit: &str) -> (String, Vec<&'static str>) {
    let mut text = format!(
        "# What the last runs showed\n\nMade by `cargo xtask report` at commit {commit}. Each part \
         names the file that it comes from and when that was written.\n"
    );
    let mut missing = Vec::new();
    for part in parts::PARTS {
        text += &format!("\n## {}\n\n", part.title);
        match (part.read)(root) {
            Ok(body) if !body.is_empty() => text += &body,
            Ok(_) => {
                text += &format!("Missing. `{}` makes it.\n", part.command);
                missing.push(part.title);
            }
            Err(why) => {
                text += &format!("Unreadable: {why}. `{}` makes it again.\n", part.command);
                missing.push(part.title);
            }
        }
    }
    (text, missing)
}

fn commit(root: &Path) -> String {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .current_dir(root)
        .output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok()
        .filter(|said| !said.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests;
