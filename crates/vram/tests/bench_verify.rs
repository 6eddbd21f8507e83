//! `vram bench verify`, and what `vram bench` says of targets.

mod common;

use common::Session;
use serde_json::Value;

fn near(a: f64, b: f64) -> bool {
    ((a - b) / b).abs() < 1e-3
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn every_mode_stands_beside_the_roof_and_covers_everything() {
    let session = Session::new();
    let outcome = session
        .vram("bench verify --device sim --size-mib 6 --runs 2 --json")
        .exit(0)
        .quiet();
    let report = outcome.json("vram-residency/bench-verify/v1");
    let bytes = 6.0 * f64::from(1 << 20);
    assert_eq!(number(&report["bytes"]), bytes);
    assert_eq!(report["device"]["kind"], "simulated");
    let roofs = report["roofs"].as_array().unwrap();
    let names: Vec<_> = roofs.iter().map(|roof| &roof["name"]).collect();
    assert_eq!(names, ["memory read", "memory copy"]);
    assert_eq!(report["roof"], "memory read");
    let roof = number(&roofs[0]["median_bytes_per_second"]);
    let token = number(&report["token_nanos"]);
    assert!(near(token, bytes / roof * 1e9), "{token}");
    let modes = report["modes"].as_array().unwrap();
    let named: Vec<_> = modes
        .iter()
        .map(|row| {
            (
                row["mode"].as_str().unwrap(),
                row["budget_percent"].as_u64(),
            )
        })
        .collect();
    let sweep = |percent| ("sweep", Some(percent));
    assert_eq!(
        named,
        [
            ("full", None),
            ("keyed", None),
            sweep(1),
            sweep(5),
            sweep(10),
            ("tag-only", None)
        ]
    );
    for row in modes {
        let share = number(&row["token_share"]);
        assert!(near(share, number(&row["median_nanos"]) / token), "{row}");
        let read = number(&row["bytes_checked"]);
        if row["mode"] == "tag-only" {
            assert_eq!(read, 0.0);
            assert!(row["calls_to_cover"].is_null() && row["cover_nanos"].is_null());
            assert!(row["found_within_nanos"].is_null() && row["calls_to_find"].is_null());
            continue;
        }
        assert!(near(number(&row["calls_to_cover"]) * read, bytes), "{row}");
        assert!(near(
            number(&row["roof_share"]),
            number(&row["bytes_per_second"]) / number(&row["roof_bytes_per_second"])
        ));
        let mean = number(&row["cover_nanos"]) / number(&row["calls_to_cover"]);
        let calls = number(&row["calls_to_find"]);
        let found = number(&row["found_within_nanos"]);
        if row["mode"] == "sweep" {
            // Every call lies in a token, which takes its time as well.
            assert!(mean > token, "{row}");
            assert!(near(found, mean - token + calls * mean), "{row}");
            assert!(calls >= number(&row["calls_to_cover"]).floor(), "{row}");
        } else {
            // A change right after it was looked for: two calls and the token between.
            assert_eq!(calls, 1.0, "{row}");
            assert!(near(found, 2.0 * mean + token), "{row}");
            assert_eq!(read, bytes, "{row}");
        }
    }
}

#[test]
fn people_read_the_assumption_and_a_line_for_every_mode() {
    let session = Session::new();
    let outcome = session
        .vram("bench verify --device sim --size-mib 2 --runs 1")
        .exit(0)
        .quiet()
        .says("a token is taken to read all 2.0 MiB once, at the roof 'memory read': ")
        .says("target at least 60 %");
    for start in [
        "full ",
        "keyed ",
        "sweep, 1 % ",
        "sweep, 5 % ",
        "sweep, 10 % ",
        "tag-only ",
    ] {
        let line = outcome.out.lines().find(|line| line.starts_with(start));
        assert!(
            line.unwrap().contains("of a token"),
            "{start}: {outcome:#?}"
        );
    }
    assert!(outcome.out.contains("no byte read"), "{outcome:#?}");
    session.vram("bench verify --help").exit(0).says("Example");
    session
        .vram("bench verify --device sim:1MiB --size-mib 2 --runs 1")
        .exit(1)
        .tells("not enough VRAM on device 0");
}

// requirement: PF-10
#[test]
fn targets_and_scaling_are_said_and_fail_nothing() {
    let session = Session::new();
    let outcome = session.vram("bench --size-mib 4 --runs 1 --json").exit(0);
    let report = outcome.json("vram-residency/bench/v1");
    let targets = report["targets"].as_array().unwrap();
    let target = |name: &str| targets.iter().find(|target| target["name"] == name);
    let peak = target("peak memory of vram seal FILE, simulated").unwrap();
    // 4 MiB, a 128th of it, and 64 MiB.
    assert_eq!(peak["bound"]["at_most"], 68.0);
    assert!(number(&peak["measured"]) >= 4.0, "{peak}");
    assert_eq!(peak["met"], number(&peak["measured"]) <= 68.0);
    let compared = target("vram digest to fsverity digest");
    match compared {
        Some(compared) => assert_eq!(compared["bound"]["at_least"], 4.0),
        None => assert!(outcome.err.contains("fsverity"), "{outcome:#?}"),
    }
    let cores = report["cores"].as_u64().unwrap();
    let scaling = report["scaling"].as_array().unwrap();
    assert_eq!(cores > 1, !scaling.is_empty());
    assert_eq!(
        cores > 1,
        target("digest of a file, all cores to one").is_some()
    );
    let rates = report["rates"].as_array().unwrap();
    let median = |name: &Value, alone: bool| {
        let row = rates
            .iter()
            .find(|row| row["name"] == *name && (row["cores"] == 1) == alone);
        number(&row.unwrap()["median_bytes_per_second"])
    };
    for row in scaling {
        let ratio = |name| median(name, false) / median(name, true);
        assert!(near(number(&row["ratio"]), ratio(&row["name"])), "{row}");
        if !row["roof"].is_null() {
            assert!(
                near(number(&row["roof_ratio"]), ratio(&row["roof"])),
                "{row}"
            );
        }
    }
}
