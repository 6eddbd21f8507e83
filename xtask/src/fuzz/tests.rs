//! Tests of the plan, of reading libFuzzer's words, and of the results.

use super::*;

const GOOD: &str = "\
#13\tINITED cov: 512 ft: 600 corp: 4/1200b exec/s: 0 rss: 40Mb
#4096\tNEW    cov: 530 ft: 640 corp: 9/1300b lim: 4096 exec/s: 2048 rss: 44Mb L: 12/300 MS: 1 CrossOver-
#8192\tDONE   cov: 530 ft: 640 corp: 9/1300b lim: 4096 exec/s: 2048 rss: 44Mb
Done 8192 runs in 4 second(s)
stat::number_of_executed_units: 8192
stat::average_exec_per_sec:     2048
stat::new_units_added:          5
stat::slowest_unit_time_sec:    0
stat::peak_rss_mb:              44
";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

// requirement: TP-5
#[test]
fn every_target_has_seeds_and_is_run_by_default() {
    let all = targets(&exec::root()).unwrap();
    assert!(all.len() >= 13, "{all:?}");
    for name in &all {
        let seeds = files(&exec::root().join("fuzz/corpus").join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
    }
    let plan = plan(&[], &all, 8).unwrap();
    assert_eq!(
        (plan.targets, plan.seconds, plan.jobs, plan.seed),
        (all, 30, 2, 0)
    );
}

#[test]
fn targets_and_options_are_taken_in_any_order_and_others_refused() {
    let known = words("gguf index");
    let some = plan(&words("--seconds 600 gguf --jobs 1 --seed 7"), &known, 8).unwrap();
    assert_eq!(
        (some.targets, some.seconds, some.jobs, some.seed),
        (words("gguf"), 600, 1, 7)
    );
    for bad in ["ggufs", "--seconds", "--seconds 0", "--jobs x", "--fast"] {
        let error = plan(&words(bad), &known, 8).unwrap_err();
        assert!(error.contains(words(bad)[0].as_str()), "{error}");
    }
}

#[test]
fn the_counts_are_those_of_the_log() {
    let run = Run::read(GOOD, true, Vec::new());
    assert!(run.held());
    let row = run.as_json("gguf", 4);
    assert_eq!(row["executions"], 8192);
    assert_eq!((&row["edges"], &row["peak_mib"]), (&json!(530), &json!(44)));
    assert_eq!(
        (&row["corpus_before"], &row["corpus_after"]),
        (&json!(4), &json!(9))
    );
    assert_eq!(
        (&row["crashes"], &row["ended"]),
        (&json!(0), &json!("no crash"))
    );
}

#[test]
fn a_crash_an_early_end_and_a_run_of_nothing_are_failures() {
    let panic = "thread '<unnamed>' panicked at src/record.rs:30:9:\nforged\n";
    let crash = vec![PathBuf::from("crashes/crash-1")];
    let runs = [
        Run::read(panic, false, crash.clone()),
        // A leftover artifact counts even where the program says that all is well.
        Run::read(GOOD, true, crash),
        Run::read(GOOD, false, Vec::new()),
        Run::read("", true, Vec::new()),
    ];
    for run in &runs {
        assert!(!run.held(), "{run}");
    }
    assert!(runs[0].ended().contains("record.rs:30") && runs[0].ended().contains("crash-1"));
    let results = [("record".to_owned(), Ok(runs[0].clone()))].into();
    let error = verdict(&results).unwrap_err();
    assert!(
        error.starts_with("record: ") && error.contains("fuzz/corpus"),
        "{error}"
    );
    let lost = [("gguf".to_owned(), Err("it is not there".to_owned()))].into();
    assert!(verdict(&lost).is_err());
    let good = [("gguf".to_owned(), Ok(Run::read(GOOD, true, Vec::new())))].into();
    assert_eq!(verdict(&good), Ok(()));
}

#[test]
fn every_target_leaves_a_row_with_what_came_of_it() {
    let run = Ok(Run::read(GOOD, true, Vec::new()));
    let lost = Err("it is not there".to_owned());
    let results = [("gguf".to_owned(), run), ("index".to_owned(), lost)].into();
    let rows = rows(4, &results);
    assert_eq!(rows[0]["executions"], 8192);
    assert_eq!(
        rows[1],
        json!({ "name": "index", "ended": "it is not there" })
    );
    assert_eq!(rows.len(), 2);
}
