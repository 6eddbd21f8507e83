//! The page from samples of what each run leaves.

use std::path::PathBuf;

use super::*;

/// A root with sample results, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let name = format!("report-{name}-{}", std::process::id());
        let root = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&root.0);
        for (path, text) in files {
            let path = root.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SAMPLES: &[(&str, &str)] = &[
    (
        "target/xtask/ci.json",
        r#"{"passed":1,"steps":[{"name":"tidy","outcome":"passed","seconds":0.25},
           {"name":"fuzz","outcome":"failed","why":"a | b","seconds":3.0}]}"#,
    ),
    (
        "target/xtask/tests.json",
        r#"{"programs":90,"passed":1234,"failed":0,"ignored":2,"scenarios":31,"left_out":[{"left out":"no tmux"}]}"#,
    ),
    (
        "target/xtask/coverage.json",
        r#"{"parts":[{"name":"seal","lines":200,"run":193,"floor_percent":95,"holds":true}],
           "files":{}}"#,
    ),
    (
        "target/xtask/branches.json",
        r#"{"parts":[{"name":"seal","branches":40,"taken":33,"percent":82.5}]}"#,
    ),
    (
        "target/xtask/mutants.json",
        r#"{"modules":[{"name":"seal","generated":51,"caught":50}],
           "wrong":["no test notices: seal.rs: replace f with ()"]}"#,
    ),
    (
        "target/xtask/planted.json",
        r#"{"commit":"abc123","faults":[{"name":"tag not compared","caught":true}]}"#,
    ),
    (
        "target/xtask/fuzz.json",
        r#"{"commit":"def456","targets":[{"name":"gguf","runs":5000,"crashes":0}]}"#,
    ),
    (
        "target/xtask/properties.json",
        r#"{"programs":[{"name":"bounds","cases":10000,"seed":null,"outcome":"passed"}]}"#,
    ),
    (
        "target/xtask/kills.json",
        r#"{"victims":[{"name":"vram seal --hold","kills":1000,"outcome":"passed"}]}"#,
    ),
    (
        "target/xtask/races.json",
        r#"{"parts":[{"name":"models","what":"60 schedules","outcome":"passed"}]}"#,
    ),
    (
        "target/xtask/faults.json",
        r#"{"schema":"s","seed":1,"classes":[{"class":"flip","trials":10,"noticed":10,"holds":true}]}"#,
    ),
    (
        "target/xtask/bench.json",
        r#"{"cores":2,"rates":[{"name":"memory read","median_bytes_per_second":1.5e9}]}"#,
    ),
    (
        "target/criterion/digest/1MiB/new/estimates.json",
        r#"{"median":{"point_estimate":1234.5}}"#,
    ),
    (
        "docs/results/h200.json",
        r#"{"gpu":"H200","sections":[{"name":"tests","status":"passed"}],"rows":[]}"#,
    ),
];

#[test]
fn every_part_is_shown_from_what_its_run_left() {
    let root = Root::new("whole", SAMPLES);
    let (page, missing) = page(&root.0, "abc123");
    assert_eq!(missing, Vec::<&str>::new(), "{page}");
    for expected in [
        "at commit abc123",
        "| tidy | passed | 0.25 |",
        r"a \| b",
        "| 1234 |",
        "| no tmux |",
        "| seal |",
        "96.50",
        "82.50",
        "| 51 |",
        "- no test notices: seal.rs: replace f with ()",
        "tag not compared",
        "| gguf |",
        "| bounds |",
        "vram seal --hold",
        "| models | 60 schedules | passed |",
        "| flip |",
        "memory read",
        "digest/1MiB",
        "1234.50",
        "H200",
    ] {
        assert!(page.contains(expected), "no `{expected}` in:\n{page}");
    }
    let elsewhere: Vec<&str> = page
        .lines()
        .filter(|l| l.contains("OTHER COMMIT"))
        .collect();
    assert_eq!(elsewhere.len(), 1, "{page}");
    assert!(elsewhere[0].contains("fuzz.json") && elsewhere[0].contains("def456"));
}

#[test]
fn a_new_row_takes_the_place_of_the_one_of_its_name() {
    let earlier = vec![json!({"name": "b", "n": 1}), json!({"name": "c", "n": 1})];
    let rows = merged(Some(&earlier), vec![stamped(&json!({"name": "b"}), "x")]);
    let expected = [
        json!({"name": "b", "commit": "x"}),
        json!({"name": "c", "n": 1}),
    ];
    assert_eq!(rows, expected);
    assert_eq!(merged(None, rows.clone()), rows);
}

#[test]
fn what_is_missing_is_named_with_its_command() {
    let root = Root::new("empty", &[("target/xtask/keep", "")]);
    let (page, missing) = page(&root.0, "abc123");
    assert_eq!(missing.len(), parts::PARTS.len());
    for part in parts::PARTS {
        assert!(
            page.contains(&format!("`{}` makes it", part.command)),
            "{page}"
        );
    }
}

#[test]
fn a_broken_file_is_said_to_be_unreadable() {
    let root = Root::new("broken", &[("target/xtask/ci.json", "{")]);
    let (page, missing) = page(&root.0, "abc123");
    assert!(page.contains("Unreadable: target/xtask/ci.json"), "{page}");
    assert!(missing.contains(&"Checks"));
}
