//! The smaller commands, help, completions and manual pages.

mod common;

use common::Session;

#[test]
fn doctor_says_what_it_found_and_what_to_do() {
    let session = Session::new();
    session.vram("key new key").exit(0);
    let outcome = session.vram("doctor --key-file key --json").exit(0);
    let report = outcome.json("vram-residency/doctor/v1");
    let checks = report["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(check("key")["verdict"], "ok");
    assert_eq!(check("key memory")["verdict"], "ok");
    for name in [
        "digests",
        "free memory",
        "huge pages",
        "locked memory",
        "credentials",
        "device files",
        "CUDA driver",
    ] {
        let check = check(name);
        assert_ne!(check["found"], "", "{name}");
        assert_eq!(
            check["verdict"] == "ok",
            check["advice"].is_null(),
            "{name}: {check}"
        );
    }
    session
        .vram("doctor")
        .exit(0)
        .says("digests  ")
        .says("CUDA driver");
    session
        .vram("doctor --key-file missing")
        .exit(1)
        .says("bad   key")
        .tells("1 check(s) are bad");
}

#[test]
fn devices_shows_a_simulated_one_when_it_is_named() {
    let session = Session::new();
    session
        .vram("devices --device sim:3GiB")
        .exit(0)
        .quiet()
        .says("simulated:0, simulated device (host memory), 3.0 GiB, ");
    let outcome = session.vram("devices --json").exit(0);
    let report = outcome.json("vram-residency/devices/v1");
    let none = report["devices"].as_array().unwrap().is_empty();
    assert!(!none || report["unavailable"].is_string() || report["unavailable"].is_null());
    let kinds = report["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| &device["kind"]);
    for kind in kinds {
        assert_eq!(kind, "cuda", "a simulated device is never found");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let session = Session::new();
    session
        .vram("--help")
        .exit(0)
        .quiet()
        .says("Exit codes: 0 fine, 1 failure, 2 usage, 3");
    session.vram("--version").exit(0).quiet().says("vram 0.");
    for command in [
        "devices",
        "doctor",
        "digest",
        "seal",
        "verify",
        "key new",
        "bench",
        "completions",
    ] {
        session
            .vram(&format!("{command} --help"))
            .exit(0)
            .quiet()
            .says("Example");
    }
}

#[test]
fn completions_and_manual_pages_come_from_the_definitions() {
    let session = Session::new();
    for shell in ["bash", "zsh", "fish"] {
        session
            .vram(&format!("completions {shell}"))
            .exit(0)
            .quiet()
            .says("expect-content")
            .says("key-credential");
    }
    session.vram("completions tcsh").exit(2).refuses("tcsh");
    session.vram("man .").exit(0);
    for page in [
        "vram.1",
        "vram-seal.1",
        "vram-verify.1",
        "vram-digest.1",
        "vram-doctor.1",
    ] {
        assert!(session.read(page).contains(".TH"), "{page}");
    }
    assert!(
        session
            .read("vram-verify.1")
            .contains("does not look at VRAM")
    );
    session
        .vram("man missing")
        .exit(1)
        .refuses("cannot write manual pages to missing");
}

#[test]
fn a_key_is_never_printed() {
    let session = Session::new();
    let outcome = session.vram("key new key --json").exit(0);
    assert_eq!(outcome.json("vram-residency/key/v1")["file"], "key");
    let secret = session.read("key");
    assert_eq!(secret.len(), 65);
    assert!(!outcome.out.contains(secret.trim()) && !outcome.err.contains(secret.trim()));
}

#[test]
fn bench_shows_roofs_rates_and_costs() {
    let session = Session::new();
    let outcome = session.vram("bench --size-mib 1 --runs 1 --json").exit(0);
    // What it is compared with need not be here.
    let mut said = outcome.err.lines();
    assert!(said.all(|line| line.starts_with("vram: note: fsverity")));
    let report = outcome.json("vram-residency/bench/v1");
    let names = |list: &str| -> Vec<String> {
        let list = report[list].as_array().unwrap().iter();
        list.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for name in [
        "memory read",
        "memory copy",
        "file read, cached",
        "digest of memory",
        "seal, simulated device",
        "verify, full",
        "unseal, each block checked",
    ] {
        assert!(names("rates").iter().any(|found| found == name), "{name}");
    }
    for name in [
        "tag of a record, checked",
        "capacity read",
        "id check",
        "seal of 1 KiB, simulated device",
    ] {
        assert!(names("costs").iter().any(|found| found == name), "{name}");
    }
    let positive = |one: &serde_json::Value| one["median_bytes_per_second"].as_f64().unwrap() > 0.0;
    assert!(report["rates"].as_array().unwrap().iter().all(positive));
    session.vram("bench --runs 0").exit(2).refuses("--runs");
}

/// What a program asked for as JSON is JSON when it was asked for wrongly, too.
#[test]
fn usage_errors_speak_json_and_quiet_ones_have_no_notes() {
    let session = Session::new();
    let wrong = session.vram("seal --json --nosuch x").exit(2);
    let failure = wrong.json("vram-residency/failure/v1");
    assert_eq!(failure["exit"], 2);
    assert!(failure["message"].as_str().unwrap().contains("--nosuch"));
    assert!(
        failure["hint"]
            .as_str()
            .unwrap()
            .contains("usage: vram seal")
    );

    session.file("model", 5000);
    let words = "seal model --format raw --device sim:4KiB";
    session
        .vram(words)
        .exit(1)
        .tells("vram: note: nothing is left");
    let quiet = session.vram(&format!("--quiet {words}")).exit(1);
    assert_eq!(quiet.err.lines().count(), 1, "{quiet:#?}");
}

#[test]
fn a_dash_is_no_file_for_a_record() {
    let session = Session::new();
    session.file("model", 5000);
    session
        .vram("seal model --format raw --device sim --record -")
        .exit(2)
        .refuses("--record takes a file, not '-'");
    assert!(!session.path("-").exists());
}
