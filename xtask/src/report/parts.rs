//! Where each part of the page comes from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Place, table};

/// One part. `read` gives Markdown, nothing when the part is missing, an error when it is there
/// and cannot be read.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) command: &'static str,
    pub(super) read: fn(&Place<'_>) -> Result<String, String>,
}

pub(super) const PARTS: &[Part] = &[
    Part {
        title: "Checks",
        command: "cargo xtask ci",
        read: |place| lists(place, "target/xtask/ci.json", &["steps"]),
    },
    Part {
        title: "Tests",
        command: "cargo xtask ci",
        read: |place| lists(place, "target/xtask/tests.json", &["left_out"]),
    },
    Part {
        title: "Coverage",
        command: "cargo xtask coverage",
        read: coverage,
    },
    Part {
        title: "Mutants",
        command: "cargo xtask mutants --check",
        read: mutants,
    },
    Part {
        title: "Planted faults",
        command: "cargo xtask planted",
        read: |place| lists(place, "target/xtask/planted.json", &["faults"]),
    },
    Part {
        title: "Fuzzing",
        command: "cargo xtask fuzz",
        read: |place| lists(place, "target/xtask/fuzz.json", &["targets"]),
    },
    Part {
        title: "Properties",
        command: "cargo xtask properties",
        read: |place| lists(place, "target/xtask/properties.json", &["programs"]),
    },
    Part {
        title: "Kills",
        command: "cargo xtask kills",
        read: |place| lists(place, "target/xtask/kills.json", &["victims"]),
    },
    Part {
        title: "Races",
        command: "cargo xtask races",
        read: |place| lists(place, "target/xtask/races.json", &["parts"]),
    },
    Part {
        title: "Faults",
        command: "cargo xtask faults --json target/xtask/faults.json",
        read: |place| lists(place, "target/xtask/faults.json", &["classes"]),
    },
    Part {
        title: "Benches",
        command: "vram bench --json > target/xtask/bench.json",
        read: benches,
    },
    Part {
        title: "Real GPU",
        // Its script runs on the GPU machine; the results are kept by hand.
        command: "cargo xtask gpu-suite",
        read: gpu,
    },
];

/// The file's JSON with a line that names it; none when it is not there.
fn read(place: &Place<'_>, path: &Path) -> Result<Option<(String, Value)>, String> {
    let shown = path.strip_prefix(place.root).unwrap_or(path).display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    let mut value: Value =
        serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
    let age = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let age = age.and_then(|then| then.elapsed().ok());
    let age = age.map_or_else(String::new, |age| {
        format!(", {} h old", age.as_secs() / 3600)
    });
    let made_at = value
        .as_object_mut()
        .and_then(|value| value.remove("commit"));
    let made_at = match made_at.as_ref().and_then(Value::as_str) {
        Some(commit) if commit == place.commit => String::new(),
        Some(commit) => format!(", OF ANOTHER COMMIT: {commit}"),
        None => ", of a commit that it does not tell".to_owned(),
    };
    Ok(Some((format!("From `{shown}`{age}{made_at}.\n\n"), value)))
}

/// The file's plain values, then each of the named lists, as tables.
fn lists(place: &Place<'_>, path: &str, names: &[&str]) -> Result<String, String> {
    let Some((mut text, value)) = read(place, &place.root.join(path))? else {
        return Ok(String::new());
    };
    text += &tables(&value, names);
    Ok(text)
}

fn tables(value: &Value, names: &[&str]) -> String {
    let mut parts = vec![table::of_one(value)];
    parts.extend(names.iter().filter_map(|name| {
        let rows = value.get(name)?.as_array()?;
        Some(table::of(rows))
    }));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn coverage(place: &Place<'_>) -> Result<String, String> {
    let path = place.root.join(crate::coverage::RESULT);
    let Some((text, value)) = read(place, &path)? else {
        return Ok(String::new());
    };
    let rows = value["parts"].as_array().ok_or("no parts in it")?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let count = |key: &str| row[key].as_f64().unwrap_or(0.0);
            let share = 100.0 * count("run") / count("lines").max(1.0);
            let mut row = row.clone();
            row["percent"] = json!(share);
            row
        })
        .collect();
    let branches = lists(place, "target/xtask/branches.json", &["parts"])?;
    let branches = match branches.as_str() {
        "" => "Branches are missing. `cargo xtask coverage --branches` measures them.\n",
        measured => measured,
    };
    Ok(format!("{text}{}\n{branches}", table::of(&rows)))
}

/// The counts of `cargo xtask mutants`, and where it fails.
fn mutants(place: &Place<'_>) -> Result<String, String> {
    let path = place.root.join("target/xtask/mutants.json");
    let Some((mut text, value)) = read(place, &path)? else {
        return Ok(String::new());
    };
    text += &tables(&value, &["modules"]);
    for why in value["wrong"].as_array().into_iter().flatten() {
        text += &format!("\n- {}", why.as_str().unwrap_or_default());
    }
    Ok(text + "\n")
}

/// What `vram bench` printed, and the medians of criterion.
fn benches(place: &Place<'_>) -> Result<String, String> {
    let mut text = String::new();
    let mut files = found(&place.root.join("target/xtask"), "bench", ".json");
    files.sort();
    for path in files {
        if let Some((from, value)) = read(place, &path)? {
            let lists = ["rates", "roofs", "scaling", "costs", "modes", "targets"];
            text += &format!("{from}{}\n", tables(&value, &lists));
        }
    }
    let criterion = place.root.join("target/criterion");
    let mut files = found(&criterion, "", "new/estimates.json");
    files.sort();
    let mut rows = Vec::new();
    for path in files {
        let Some((_, value)) = read(place, &path)? else {
            continue;
        };
        let name = path.strip_prefix(&criterion).unwrap_or(&path);
        let name = name.to_string_lossy().replace("/new/estimates.json", "");
        rows.push(json!({ "name": name, "median_ns": value["median"]["point_estimate"] }));
    }
    if !rows.is_empty() {
        text += &format!("From `target/criterion`.\n\n{}", table::of(&rows));
    }
    Ok(text)
}

/// The results that were kept from GPU machines.
fn gpu(place: &Place<'_>) -> Result<String, String> {
    let mut text = String::new();
    let mut files = found(&place.root.join("docs/results"), "", ".json");
    files.sort();
    for path in files {
        if let Some((from, value)) = read(place, &path)? {
            let lists = ["sections", "rows"];
            text += &format!("{from}{}\n", tables(&value, &lists));
        }
    }
    Ok(text)
}

/// The files under `folder` whose path below it begins and ends so.
fn found(folder: &Path, begin: &str, end: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy();
            if !below.starts_with(begin) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if below.ends_with(end) {
                files.push(path);
            }
        }
    }
    files
}
