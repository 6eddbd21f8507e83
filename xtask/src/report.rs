//! `cargo xtask report`: one page from what the last runs left for programs. Nothing is typed in
//! by hand, and what was not run is said to be missing.

mod parts;
mod table;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::{Task, exec, only_options};

pub(crate) const TASK: Task = Task {
    usage: "report",
    summary: "Write target/report.md: checks, tests, coverage, mutants, fuzzing, properties, kills, races, faults, benches, GPU",
    help: "\
Reads what the last runs left under target/ and docs/results/, runs nothing itself, and names the
command that makes each missing part.
example: cargo xtask report",
    run,
};

/// Where tasks leave their results, from the root.
const FOLDER: &str = "target/xtask";

/// Leaves a task's result for the report, as `NAME.json`, with the commit that it is of.
pub(crate) fn leave(name: &str, value: &Value) -> Result<(), String> {
    let folder = exec::root().join(FOLDER);
    let path = folder.join(format!("{name}.json"));
    let text = format!("{:#}\n", stamped(value, &commit(&exec::root())));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Leaves rows of the list `list` in `NAME.json`. Each takes the place of an earlier row of its
/// name, tells its own commit, and leaves the others as they are.
pub(crate) fn leave_rows(name: &str, list: &str, rows: Vec<Value>) -> Result<(), String> {
    // Two steps that run beside each other would forget each other's rows.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|lock| lock.into_inner());
    let path = exec::root().join(FOLDER).join(format!("{name}.json"));
    let earlier = fs::read(&path).ok();
    let earlier = earlier.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let earlier = earlier
        .as_ref()
        .and_then(|earlier| earlier[list].as_array());
    let commit = commit(&exec::root());
    let rows = rows.iter().map(|row| stamped(row, &commit)).collect();
    leave(name, &json!({ list: merged(earlier, rows) }))
}

/// By name.
fn merged(earlier: Option<&Vec<Value>>, mut rows: Vec<Value>) -> Vec<Value> {
    let named = |row: &Value| rows.iter().any(|new| new["name"] == row["name"]);
    let kept: Vec<Value> = earlier
        .into_iter()
        .flatten()
        .filter(|row| !named(row))
        .cloned()
        .collect();
    rows.extend(kept);
    rows.sort_by_key(|row| row["name"].as_str().unwrap_or_default().to_owned());
    rows
}

/// The value with the commit in it.
fn stamped(value: &Value, commit: &str) -> Value {
    let mut value = value.clone();
    value["commit"] = json!(commit);
    value
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

/// Where results are read, and the commit that the page is of.
#[derive(Clone, Copy)]
struct Place<'p> {
    root: &'p Path,
    commit: &'p str,
}

/// The page, and the titles of the parts that are missing from it.
fn page(root: &Path, commit: &str) -> (String, Vec<&'static str>) {
    let mut text = format!(
        "# What the last runs showed\n\nMade by `cargo xtask report` at commit {commit}. Each part \
         names the file that it comes from, when that was written, and its commit where that is \
         another.\n"
    );
    let mut missing = Vec::new();
    for part in parts::PARTS {
        text += &format!("\n## {}\n\n", part.title);
        match (part.read)(&Place { root, commit }) {
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
