//! What must be covered, and whether it is.

use serde_json::{Value, json};

use super::lines::{Counts, Lines, missed};

/// A part of the sources and the least share of its lines that must run.
#[derive(Debug)]
pub(super) struct Part {
    name: &'static str,
    /// Per cent.
    floor: u32,
    /// What the paths of its files begin with.
    paths: &'static [&'static str],
}

const fn part(name: &'static str, floor: u32, paths: &'static [&'static str]) -> Part {
    Part { name, floor, paths }
}

/// requirement: TP-1, TP-2, DM-7
pub(super) const PARTS: &[Part] = &[
    part("all shipped crates", 90, &["crates/"]),
    part(
        "on the simulated device",
        95,
        &["crates/vram-residency/", "crates/vram-digest/"],
    ),
    part(
        "CUDA on the test driver",
        90,
        &["crates/vram-residency-cuda/"],
    ),
    part("command", 90, &["crates/vram/"]),
    part(
        "seal",
        95,
        &[
            "crates/vram-residency/src/seal/",
            "crates/vram-residency/src/manager/seal.rs",
            "crates/vram-residency/src/shard/filling.rs",
        ],
    ),
    part(
        "key",
        95,
        &[
            "crates/vram-residency/src/key/",
            "crates/vram-residency/src/manager/keys.rs",
        ],
    ),
    part(
        "policy",
        95,
        &[
            "crates/vram-residency/src/policy.rs",
            "crates/vram-residency/src/manager/failure.rs",
        ],
    ),
    part("capacity", 95, &["crates/vram-residency/src/capacity/"]),
    part(
        "verify",
        95,
        &[
            "crates/vram-residency/src/verify/",
            "crates/vram-residency/src/manager/verify.rs",
            "crates/vram-residency/src/manager/keyed.rs",
            "crates/vram-residency/src/manager/hashes.rs",
        ],
    ),
    part("audit", 95, &["crates/vram-residency/src/audit/"]),
];

#[cfg(test)]
pub(super) fn paths_of(name: &str) -> &'static [&'static str] {
    let part = PARTS.iter().find(|part| part.name == name);
    part.map_or(&[], |part| part.paths)
}

/// A part with what was counted.
#[derive(Debug)]
pub(super) struct Row {
    part: &'static Part,
    lines: usize,
    run: usize,
    /// Paths of it that have no lines: their files have moved.
    gone: Vec<&'static str>,
}

impl Row {
    /// Hundredths of a per cent, rounded down, so that a floor is never rounded up to.
    fn share(&self) -> usize {
        self.run * 10_000 / self.lines.max(1)
    }

    fn holds(&self) -> bool {
        self.gone.is_empty() && self.run * 100 >= self.lines * self.part.floor as usize
    }
}

/// Counts every part.
pub(super) fn rows<K>(parts: &'static [Part], lines: &Counts<K>) -> Vec<Row> {
    let count = |part: &'static Part| {
        let ours = |path: &&String| part.paths.iter().any(|start| path.starts_with(start));
        let files = lines.iter().filter(|(path, _)| ours(path));
        let counts: Vec<u64> = files.flat_map(|(_, file)| file.values().copied()).collect();
        let gone = part.paths.iter().copied();
        Row {
            part,
            gone: gone
                .filter(|start| !lines.keys().any(|path| path.starts_with(start)))
                .collect(),
            lines: counts.len(),
            run: counts.iter().filter(|count| **count > 0).count(),
        }
    };
    parts.iter().map(count).collect()
}

/// The table for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<26}{:>8}{:>8}{:>9}{:>7}\n",
        "part", "lines", "run", "%", "floor"
    );
    for row in rows {
        let (whole, rest) = (row.share() / 100, row.share() % 100);
        text += &format!(
            "{:<26}{:>8}{:>8}{:>6}.{:02}{:>7}{}\n",
            row.part.name,
            row.lines,
            row.run,
            whole,
            rest,
            row.part.floor,
            if row.holds() { "" } else { "  BELOW" }
        );
    }
    text
}

/// The same of branches, which have no floor.
pub(super) fn branch_table(rows: &[Row]) -> String {
    let mut text = format!("{:<26}{:>8}{:>8}{:>9}\n", "part", "branches", "taken", "%");
    for row in rows {
        let (whole, rest) = (row.share() / 100, row.share() % 100);
        let (name, all, taken) = (row.part.name, row.lines, row.run);
        text += &format!("{name:<26}{all:>8}{taken:>8}{whole:>6}.{rest:02}\n");
    }
    text
}

/// The same for programs.
pub(super) fn branches_as_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let percent = row.share() as f64 / 100.0;
        json!({ "name": row.part.name, "branches": row.lines, "taken": row.run, "percent": percent })
    };
    json!({ "parts": rows.iter().map(row).collect::<Vec<_>>() })
}

/// Fails when a floor is broken, and names it.
pub(super) fn judge(rows: &[Row]) -> Result<(), String> {
    let broken: Vec<String> = rows
        .iter()
        .filter(|row| !row.holds())
        .map(|row| match row.gone.as_slice() {
            [] => format!("{}: below {} %", row.part.name, row.part.floor),
            gone => format!("{}: no lines at {}", row.part.name, gone.join(", ")),
        })
        .collect();
    if broken.is_empty() {
        Ok(())
    } else {
        Err(broken.join("; "))
    }
}

/// The same for programs, with every line that never ran.
pub(super) fn as_json(rows: &[Row], lines: &Lines) -> Value {
    let parts: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.part.name,
                "lines": row.lines,
                "run": row.run,
                "floor_percent": row.part.floor,
                "holds": row.holds(),
            })
        })
        .collect();
    let files: serde_json::Map<String, Value> = lines
        .iter()
        .map(|(path, file)| {
            let value = json!({ "lines": file.len(), "missed": missed(file) });
            (path.clone(), value)
        })
        .collect();
    json!({ "parts": parts, "files": files })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    static SAMPLE: [Part; 2] = [
        part("whole", 75, &["crates/"]),
        part("half", 95, &["crates/b/src/", "crates/c/src/x.rs"]),
    ];

    fn lines(unrun: usize) -> Lines {
        let file = |unrun: usize| (1..=8).map(|n| (n, u64::from(n > unrun))).collect();
        Lines::from([
            ("crates/a/src/lib.rs".to_owned(), file(0)),
            ("crates/b/src/lib.rs".to_owned(), file(unrun)),
            ("crates/c/src/x.rs".to_owned(), file(0)),
            ("crates/c/src/y.rs".to_owned(), BTreeMap::from([(1, 0)])),
        ])
    }

    // requirement: TP-1, TP-2, CI-JOB-6
    #[test]
    fn a_part_below_its_floor_fails_by_name() {
        let good = rows(&SAMPLE, &lines(0));
        assert_eq!((good[0].lines, good[0].run), (25, 24));
        assert_eq!((good[1].lines, good[1].run), (16, 16));
        assert_eq!(judge(&good), Ok(()));
        let bad = rows(&SAMPLE, &lines(1));
        assert_eq!(judge(&bad), Err("half: below 95 %".to_owned()));
        let table = table(&bad);
        assert!(table.contains("93.75     95  BELOW"), "{table}");
        assert!(table.contains("92.00     75\n"), "rounded down: {table}");
    }

    #[test]
    fn a_part_whose_files_have_moved_fails() {
        let error = judge(&rows(&SAMPLE, &Lines::new())).unwrap_err();
        assert!(error.contains("half: no lines at crates/b/src/"), "{error}");
        let mut moved = lines(0);
        let file = moved.remove("crates/c/src/x.rs").unwrap();
        moved.insert("crates/c/src/x/mod.rs".to_owned(), file);
        let error = judge(&rows(&SAMPLE, &moved)).unwrap_err();
        assert_eq!(error, "half: no lines at crates/c/src/x.rs");
    }

    #[test]
    fn programs_get_the_lines_that_never_ran() {
        let lines = lines(2);
        let json = as_json(&rows(&SAMPLE, &lines), &lines);
        assert_eq!(json["files"]["crates/b/src/lib.rs"]["missed"][0], "1-2");
        assert_eq!(json["parts"][1]["holds"], false);
        assert!(json["branches"].is_null());
    }

    // requirement: TP-2, DM-7
    #[test]
    fn the_floors_are_those_of_the_requirements() {
        let floor = |name: &str| PARTS.iter().find(|part| part.name == name).unwrap().floor;
        assert!(floor("all shipped crates") >= 90);
        for name in ["seal", "key", "policy", "capacity", "verify", "audit"] {
            assert!(floor(name) >= 95, "{name}");
        }
        assert!(floor("on the simulated device") >= 95);
    }
}
