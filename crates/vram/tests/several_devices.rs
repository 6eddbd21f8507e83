//! `vram seal` on several devices, and again after reads that failed.

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use common::{Outcome, Session, finish, interrupt, small};

/// The devices of the shards in a report, in their order.
fn places(outcome: &Outcome) -> Vec<u64> {
    let report = outcome.json("vram-residency/seal/v1");
    let shards = report["shards"].as_array().unwrap().clone();
    let device = |shard: &serde_json::Value| shard["record"]["gpu_device"].as_u64().unwrap();
    shards.iter().map(device).collect()
}

// requirement: PM-1
#[test]
fn the_files_of_a_model_are_spread_over_devices() {
    let session = Session::new();
    session.vram("key new key").exit(0);
    let sharded = small().with_file_name("sharded");
    let two = "--device sim:1MiB,ordinal=4 --device sim:1MiB,ordinal=7 --key-file key";
    let model = sharded.to_str().unwrap();
    let sealed = session
        .vram(&format!("seal {model} {two} --record group.json --json"))
        .exit(0)
        .quiet();
    let mut found = places(&sealed);
    found.sort_unstable();
    assert_eq!(found, [4, 7]);
    let report = sealed.json("vram-residency/seal/v1");
    assert_eq!(report["devices"].as_array().unwrap().len(), 2);
    assert_eq!(report["used_bytes"], 0);
    let parts = [1, 2].map(|part| format!("{model}/model-0000{part}-of-00002.safetensors"));
    session
        .vram(&format!(
            "verify group.json {} --key-file key",
            parts.join(" ")
        ))
        .exit(0);
    session
        .vram(&format!("seal {model} {two}"))
        .exit(0)
        .says("placed    on device 4\n")
        .says("placed    on device 7\n")
        .says("freed     wiped; 0 of 2097152 bytes in use\n");
}

#[test]
fn files_go_where_they_have_room() {
    let session = Session::new();
    for (name, len) in [("a", 3000), ("b", 40_000), ("c", 9000), ("d", 30_000)] {
        session.file(name, len);
    }
    let on = |devices: &str, more: &str| {
        let devices = devices.split(' ').zip(0..);
        let devices = devices.map(|(size, n)| format!(" --device sim:{size},ordinal={n}"));
        let devices: String = devices.collect();
        session.vram(&format!("seal a b c d --format raw{devices} {more}"))
    };
    assert_eq!(
        places(&on("1MiB 1MiB", "--json --group").exit(0)),
        [1, 0, 1, 1]
    );
    assert_eq!(places(&on("1MiB 1MiB", "--json").exit(0)), [1, 0, 1, 1]);
    // Spread evenly they would not fit.
    assert_eq!(places(&on("1MiB 4096", "--json").exit(0)), [1, 0, 0, 0]);
    on("41000 30500", "--group")
        .exit(1)
        .refuses("the files do not fit on these devices")
        .tells("bytes missing")
        .tells("fewer files at a time");
    let refused = on("41000 30500", "--json").exit(1);
    assert_eq!(
        refused.json("vram-residency/failure/v1")["code"],
        "VRAM_OOM"
    );
    // Plain bytes take no more than they are.
    session.file("whole.bin", 8192);
    let two = "--device sim:4096,ordinal=0 --device sim:8192,ordinal=1 --json";
    for format in ["raw", "auto"] {
        let sealed = session.vram(&format!("seal whole.bin --format {format} {two}"));
        assert_eq!(places(&sealed.exit(0)), [1]);
    }
    session
        .vram("seal a --device sim --device sim")
        .exit(1)
        .refuses("two devices have the same ordinal");
}

/// The first would take minutes; the second is found bad in the meantime.
// requirement: PM-1
#[test]
fn files_are_loaded_on_several_devices_at_the_same_time() {
    let session = Session::new();
    let endless = std::fs::File::create(session.path("endless")).unwrap();
    endless.set_len(90 << 30).unwrap();
    session.file("bad", 8 << 20);
    let on = |n| format!("--device sim:100GiB,discard,ordinal={n}");
    let (zero, one) = (on(0), on(1));
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| disturb(&session.path("bad"), &stop));
        let outcome = session.vram(&format!(
            "seal endless bad --format raw {zero} {one} --timeout 100s"
        ));
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    outcome
        .exit(1)
        .refuses("bad changed while it was read")
        .tells("nothing is left on the device");
}

// requirement: AU-5
#[test]
fn files_that_do_not_fit_on_one_device_are_refused_before_any_is_loaded() {
    let session = Session::new();
    session.vram("key new --signing a.sign").exit(0);
    let log = "--audit log --audit-key a.sign";
    for name in ["a", "b"] {
        session.file(name, 40_000);
    }
    for group in ["", "--group"] {
        session
            .vram(&format!("seal a b --device sim:64KiB {group} {log}"))
            .exit(1)
            .refuses("the files do not fit on these devices")
            .tells("b: 39.1 KiB, 14464 bytes missing");
    }
    let shown = session.vram("audit show log").exit(0).out;
    let refusals = shown.matches("vram.allocation_failed").count();
    assert_eq!(refusals, 2, "{shown}");
    assert!(!shown.contains("load"), "{shown}");
    session.vram("seal a b --device sim:80000").exit(0);
    let sharded = small().with_file_name("sharded");
    session
        .vram(&format!("seal {} --device sim:4KiB", sharded.display()))
        .exit(1)
        .refuses("the model does not fit on these devices");
}

#[test]
fn a_scripted_flip_that_would_never_strike_is_refused() {
    let session = Session::new();
    for (name, len) in [("a", 9000), ("b", 5000)] {
        session.file(name, len);
    }
    let on = |files: &str, zero: &str, one: &str| {
        session.vram(&format!(
            "seal {files} --format raw --device sim:1MiB,ordinal=0{zero} --device sim:1MiB,ordinal=1{one}"
        ))
    };
    on("a b", "", ",flip=5000:0")
        .exit(2)
        .refuses("the flip at offset 5000 of sim:1MiB,ordinal=1,flip=5000:0 lies behind")
        .tells("the longest has 5000 bytes");
    on("a", "", ",flip=0:0")
        .exit(2)
        .refuses("never strikes: no file goes to that device");
    on("a b", ",flip=8999:0", ",flip=4999:7").exit(3);
    on("a b", "", ",flip=4999:7").exit(3);
}

/// Reads what a command says until it tries again.
fn tries_again(err: &mut impl std::io::BufRead) -> String {
    let mut note = String::new();
    while !note.contains("trying again") {
        note.clear();
        assert!(err.read_line(&mut note).unwrap() > 0, "it ended");
    }
    note
}

/// Starts a command for which `part` cannot be opened until it tries again.
fn while_away(session: &Session, words: &[&str], part: &str) -> Outcome {
    // A socket cannot be opened, and no name or right says that it never can.
    let (path, aside) = (session.path(part), session.path("aside"));
    std::fs::rename(&path, &aside).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut child = session.command(words).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let note = tries_again(&mut err);
    assert!(note.contains(&format!("cannot open {part}")), "{note}");
    assert!(note.contains("retry 1 of 30"), "{note}");
    std::fs::rename(&aside, &path).unwrap();
    std::io::copy(&mut err, &mut std::io::sink()).unwrap();
    drop(socket);
    finish(child, words.join(" "))
}

// requirement: PM-1
#[test]
fn a_model_that_cannot_be_opened_for_a_moment_is_opened_again() {
    let (index, one, two) = (
        "model.safetensors.index.json",
        "small-00001-of-00002.gguf",
        "small-00002-of-00002.gguf",
    );
    let sets = [
        ("sharded", index, "model-00002-of-00002.safetensors"),
        ("sharded", index, index),
        ("split", one, two),
        // What cannot be read is not taken for a file of its own.
        ("split", one, one),
        ("split", two, two),
    ];
    for (dir, named, part) in sets {
        let session = Session::new();
        for entry in std::fs::read_dir(small().with_file_name(dir)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            std::fs::copy(&path, session.path(name)).unwrap();
        }
        let words = ["seal", named, "--device", "sim", "--retries", "30"];
        while_away(&session, &words, part)
            .exit(0)
            .says(" of 2 shards\n");
        // What is not there is not waited for.
        std::fs::remove_file(session.path(part)).unwrap();
        let gone = session.vram(&words.join(" ")).exit(1);
        gone.refuses(part).tells("No such file");
    }
}

#[test]
fn files_that_cannot_be_opened_for_a_moment_are_opened_again() {
    let session = Session::new();
    session.file("a", 5000);
    session.file("b", 6000);
    for files in [&["b"][..], &["a", "b"], &["a", "b", "--group"]] {
        let words = ["--device", "sim", "--format", "raw", "--retries", "30"];
        let words = [&["seal"], files, &words].concat();
        while_away(&session, &words, "b").exit(0);
    }
}

/// Changes a file's time until it is told to stop.
fn disturb(path: &Path, stop: &AtomicBool) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    while !stop.load(Ordering::Relaxed) {
        file.set_modified(SystemTime::now()).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Bytes that a process read.
fn read_by(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_file_that_failed_is_read_again_and_a_good_one_is_not() {
    const GOOD: usize = 48 << 20;
    const BAD: usize = 8 << 20;
    let session = Session::new();
    session.file("good", GOOD);
    session.file("bad", BAD);
    let words =
        "seal good bad --format raw --device sim:64MiB --retries 9 --hold --every 1h --json";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut child = session.command(&words).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| disturb(&session.path("bad"), &stop));
        let note = err.find(|line| line.as_ref().unwrap().contains("trying again"));
        stop.store(true, Ordering::Relaxed);
        let note = note.unwrap().unwrap();
        assert!(note.contains("bad changed while it was read"), "{note}");
        assert!(note.ends_with("trying again, retry 1 of 9"), "{note}");
    });
    let mut report = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let _ = out.read_line(&mut report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["shards"].as_array().unwrap().len(), 2);
    let (read, twice) = (read_by(&child), 2 * GOOD as u64);
    assert!(read < twice, "{read} bytes read");
    assert!(read > (GOOD + 2 * BAD) as u64, "{read} bytes read");
    interrupt(&child);
    finish(child, words.join(" ")).exit(0);
    // Nothing is tried again unless it may be over, nor without being asked.
    session
        .vram("seal good missing --format raw --device sim:64MiB --retries 9")
        .exit(1)
        .refuses("cannot open missing");
}

// requirement: PM-1
#[test]
fn a_group_that_is_read_again_is_of_one_revision() {
    let session = Session::new();
    session.file("small", 5000);
    let large = std::fs::File::create(session.path("large")).unwrap();
    large.set_len(90 << 30).unwrap();
    // The large one is never read in time, and the small one is loaded by then.
    let words = "seal small large --group --format raw --device sim:100GiB,discard --timeout 100ms --retries 30";
    for name in ["small", "large"] {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut child = session.command(&words).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut note = String::new();
        while !note.contains("large did not finish") {
            note.clear();
            assert!(err.read_line(&mut note).unwrap() > 0, "it ended");
        }
        let file = std::fs::File::options()
            .write(true)
            .open(session.path(name));
        file.unwrap().set_modified(SystemTime::now()).unwrap();
        let rest: Vec<String> = err.lines().map(Result::unwrap).collect();
        finish(child, words.join(" ")).exit(1);
        let says = format!("{name} changed while it was read");
        assert!(rest.iter().any(|line| line.contains(&says)), "{rest:?}");
    }
}

#[test]
fn files_beside_one_that_cannot_be_read_are_spread_as_well() {
    let session = Session::new();
    for name in ["a", "b"] {
        session.file(name, 700 << 10);
    }
    let two = "--format raw --device sim:1MiB,ordinal=0 --device sim:1MiB,ordinal=1";
    session
        .vram(&format!("seal a b missing {two}"))
        .exit(1)
        .refuses("cannot open missing");
    // Spread evenly these would not fit; as the plan says they do.
    for (name, kib) in [("c", 700), ("d", 500), ("e", 500)] {
        session.file(name, kib << 10);
    }
    let two = "--format raw --device sim:1004KiB,ordinal=0 --device sim:704KiB,ordinal=1";
    assert_eq!(
        places(&session.vram(&format!("seal c d e {two} --json")).exit(0)),
        [1, 0, 0]
    );
    session
        .vram(&format!("seal c d e missing {two}"))
        .exit(1)
        .refuses("cannot open missing");
}
