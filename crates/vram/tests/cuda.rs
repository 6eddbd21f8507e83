//! The command on a CUDA driver that the loader finds by itself: the fake one,
//! put into a folder of the loader's search path as `libcuda.so.1`.

mod common;

use std::error::Error as _;
use std::io::{BufRead as _, BufReader};
use std::process::Command;

use common::{Outcome, Session, finish, interrupt, skipped};
use test_listener::address_in;

/// `$ vram ARGS` where the fake driver is installed; `machine` describes it.
fn driven(session: &Session, machine: &str, args: &str) -> Command {
    let folder = session.path("driver");
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        let built = fake_cuda::library_path().unwrap();
        std::os::unix::fs::symlink(built, folder.join("libcuda.so.1")).unwrap();
    }
    let words: Vec<&str> = args.split_whitespace().collect();
    let mut command = session.command(&words);
    command
        .env("LD_LIBRARY_PATH", &folder)
        .env("FAKE_CUDA", machine)
        .env_remove("CUDA_VISIBLE_DEVICES");
    command
}

/// The same, ended.
fn with_driver(session: &Session, machine: &str, args: &str) -> Outcome {
    let child = driven(session, machine, args).spawn().unwrap();
    let outcome = finish(child, args.to_owned());
    for printed in [&outcome.out, &outcome.err] {
        assert_eq!(address_in(printed), None, "{outcome:#?}");
    }
    outcome
}

#[test]
fn a_model_is_sealed_through_the_driver_with_the_digest_of_its_file() {
    let session = Session::new();
    let bytes = session.file("model", 1_234_567);
    let digest = vram_digest::digest(&bytes);
    let sealed = with_driver(&session, "", "seal model --device cuda:0 --json").exit(0);
    let result: serde_json::Value = serde_json::from_str(&sealed.out).unwrap();
    let text = result.to_string();
    assert!(text.contains(&digest.to_string()), "{text}");
    assert!(text.contains("\"device_kind\":\"simulated\""), "{text}");
    assert!(
        text.contains("libcuda.so.1") || text.contains("libfake_cuda.so"),
        "{text}"
    );
    assert!(text.contains("\"protection\":\"read-only\""), "{text}");
}

#[test]
fn a_load_is_held_against_pinned_copies_and_a_load_without_checks() {
    let session = Session::new();
    session.vram("synth model.safetensors --size 3MiB").exit(0);
    let args = "bench load model.safetensors --runs 2 --device cuda:0 --json";
    let ended = with_driver(&session, "reset vram=1G", args).exit(0);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let rates = report["rates"].as_array().unwrap();
    let rate = |name: &str| {
        let found = rates.iter().find(|rate| rate["name"] == name).unwrap();
        found["median_bytes_per_second"].as_f64().unwrap()
    };
    let sealed = rate("sealed load, cached, named device");
    let roof = rate("copy of pinned memory to the device");
    let plain = rate("load without any check, cached");
    let targets = report["targets"].as_array().unwrap();
    let target = |name: &str| targets.iter().find(|t| t["name"] == name).unwrap();
    let near = |a: &serde_json::Value, b: f64| (a.as_f64().unwrap() / b - 1.0).abs() < 1e-6;
    let share = target("sealed load, share of the pinned copy");
    assert!(near(&share["measured"], sealed / roof), "{share}");
    assert_eq!(share["bound"]["at_least"], 0.95);
    let longer = target("sealed load, time of a load without checks");
    assert!(near(&longer["measured"], plain / sealed), "{longer}");
    assert_eq!(longer["bound"]["at_most"], 1.03);
    // One slot of 3 MiB at least, and the lanes of the device.
    let pinned = target("pinned memory of the sealed load");
    assert!(pinned["measured"].as_f64().unwrap() >= 3.0, "{pinned}");
    assert_eq!(
        (&pinned["bound"]["at_most"], &pinned["met"]),
        (&256.0.into(), &true.into())
    );
    // Text for people says the same.
    let text = with_driver(&session, "reset vram=1G", &args.replace(" --json", "")).exit(0);
    assert!(text.out.contains("target at least 0.95"), "{}", text.out);
}

#[test]
fn a_wrong_digest_seals_nothing() {
    let session = Session::new();
    session.file("model", 50_000);
    let zeros = "0".repeat(64);
    let args = format!("seal model --device cuda:0 --expect sha256:{zeros}");
    with_driver(&session, "", &args).exit(3);
}

// requirement: TY-8
#[test]
fn devices_and_doctor_say_what_the_driver_says() {
    let session = Session::new();
    let devices = with_driver(&session, "", "devices").exit(0);
    assert!(devices.out.contains("fake"), "{}", devices.out);
    let doctor = with_driver(&session, "", "doctor").exit(0);
    for fact in [
        "CUDA 12.",
        "fake_cuda",
        "virtual memory",
        "compute mode",
        "free VRAM",
        "NVML",
        "ECC",
    ] {
        assert!(doctor.out.contains(fact), "{fact}: {}", doctor.out);
    }
}

/// What doctor finds and advises under `name` on a machine so described.
fn told(session: &Session, machine: &str, name: &str) -> (String, String) {
    let ended = with_driver(session, machine, "doctor --json");
    // A failure is a second line.
    let line = ended.out.lines().next().unwrap();
    let report: serde_json::Value = serde_json::from_str(line).unwrap();
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["name"] == name).unwrap();
    let bad = report["checks"].to_string().contains("\"bad\"");
    ended.exit(u8::from(bad).into());
    let word = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (word("verdict"), word("found") + " " + &word("advice"))
}

#[test]
fn doctor_names_what_is_wrong_with_a_driver_or_device() {
    let session = Session::new();
    for (machine, name, verdict, found) in [
        ("", "CUDA driver", "ok", "libfake_cuda.so"),
        ("", "device", "look", "a driver that pretends"),
        ("", "virtual memory", "ok", "fd export"),
        ("reset novmm", "virtual memory", "look", "missing"),
        ("reset nofd", "virtual memory", "look", "no fd export"),
        ("reset compute_mode=2", "compute mode", "bad", "prohibited"),
        (
            "reset compute_mode=3",
            "compute mode",
            "ok",
            "exclusive process",
        ),
        ("reset noecc", "device", "look", "without ECC"),
        ("reset integrated", "device", "look", "memory of its own"),
        (
            "reset cc=5.2",
            "free VRAM",
            "bad",
            "compute capability below 6.0",
        ),
        (
            "fail cuDevicePrimaryCtxRetain 1+ 46",
            "free VRAM",
            "bad",
            "(46)",
        ),
        (
            "reset gpus=0",
            "CUDA driver",
            "look",
            "CUDA_ERROR_NO_DEVICE",
        ),
        ("fail cuInit 1+ 12345", "CUDA driver", "look", "(12345)"),
        ("fail cuDeviceGetName 1 999", "device", "bad", "cuda:0"),
        ("", "NVML", "look", "libnvidia-ml"),
    ] {
        let (is, says) = told(&session, machine, name);
        let right = is == verdict && says.contains(found);
        assert!(right, "{machine}: {name}: {is}: {says}");
    }
}

/// What doctor says under NVML where that library is installed, too.
fn health(machine: &str) -> (String, String) {
    let session = Session::new();
    std::fs::create_dir(session.path("driver")).unwrap();
    let built = fake_cuda::library_path().unwrap();
    for name in ["libcuda.so.1", "libnvidia-ml.so.1"] {
        let link = session.path("driver").join(name);
        std::os::unix::fs::symlink(&built, link).unwrap();
    }
    told(&session, machine, "NVML")
}

// requirement: TY-8
#[test]
fn doctor_says_what_nvml_counts_and_why_it_cannot() {
    for (machine, verdict, found) in [
        (
            "reset",
            "ok",
            "driver 999.00.fake, 0 uncorrected memory errors, 0 remapped rows",
        ),
        // The counters are those of the card, also on a slice of it.
        (
            "reset mig gpus=2 vram=2G",
            "ok",
            "0 uncorrected memory errors",
        ),
        ("reset noecc", "ok", "memory errors are not counted"),
        ("reset uncorrected=3", "bad", "3 uncorrected memory errors"),
        ("reset remapped=1", "look", "1 remapped rows"),
        ("fail nvmlInit_v2 1 9", "look", "(9): Driver Not Loaded"),
        ("fail nvmlDeviceGetEccMode 1 4", "look", "(4): Insufficient"),
        (
            "fail nvmlDeviceGetHandleByPciBusId_v2 1 12345",
            "look",
            "(12345)",
        ),
    ] {
        let (is, says) = health(machine);
        assert!(
            is == verdict && says.contains(found),
            "{machine}: {is}: {says}"
        );
    }
}

// requirement: TY-8
#[test]
fn doctor_knows_a_slice_of_a_divided_card() {
    let session = Session::new();
    let machine = "reset mig gpus=3 vram=2G";
    let doctor = with_driver(&session, machine, "doctor").exit(0);
    assert!(doctor.out.contains("MIG 1g"), "{}", doctor.out);
    assert_eq!(
        doctor.out.matches("compute mode").count(),
        1,
        "{}",
        doctor.out
    );
}

#[test]
fn one_broken_device_hides_no_other() {
    let session = Session::new();
    let machine = "reset gpus=2;fail cuDeviceGetName 1 999";
    let ended = with_driver(&session, machine, "devices --json").exit(0);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["silent"][0]["ordinal"], 0, "{report}");
    assert_eq!(report["devices"][0]["ordinal"], 1, "{report}");
    assert!(report["devices"][0]["free_bytes"].as_u64().unwrap() > 0);
    assert!(ended.err.contains("cuda:0"), "{}", ended.err);
}

#[test]
fn bench_measures_the_device_that_is_named() {
    let session = Session::new();
    let args = "bench --size-mib 1 --runs 1 --device cuda:0 --json";
    let ended = with_driver(&session, "", args).exit(0);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let rates = report["rates"].as_array().unwrap();
    assert!(
        rates
            .iter()
            .any(|rate| rate["name"] == "seal, named device"),
        "{report}"
    );
}

#[test]
fn bench_verify_counts_a_token_by_the_roof_of_the_device() {
    let session = Session::new();
    let args = "bench verify --size-mib 1 --runs 1 --device cuda:0 --json";
    let ended = with_driver(&session, "", args).exit(0);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["roof"], "device read", "{report}");
    let keyed = &report["modes"][1];
    assert_eq!(keyed["mode"], "keyed");
    assert_eq!(keyed["bytes_checked"], 1_048_576.0);
}

/// Names and UUIDs of what `vram devices` lists where the process may see `list`.
fn seen(session: &Session, machine: &str, list: &str) -> Vec<(String, String)> {
    let mut command = driven(session, machine, "devices --json");
    command.env("CUDA_VISIBLE_DEVICES", list);
    let ended = finish(command.spawn().unwrap(), list.to_owned()).exit(0);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let word = |device: &serde_json::Value, key: &str| device[key].as_str().unwrap().to_owned();
    let devices = report["devices"].as_array().unwrap().iter();
    devices
        .map(|device| (word(device, "name"), word(device, "uuid")))
        .collect()
}

// requirement: FF-6
#[test]
fn cuda_visible_devices_selects_and_orders_what_is_seen() {
    let session = Session::new();
    let machine = "reset gpus=3";
    let all = seen(&session, machine, "0,1,2");
    assert_eq!(all.len(), 3);
    let one = |n: usize| all[n].clone();
    assert_eq!(seen(&session, machine, "1"), [one(1)]);
    assert_eq!(seen(&session, machine, "2,0"), [one(2), one(0)]);
    let uuid = |n: usize| format!("GPU-{}", all[n].1.trim_start_matches("GPU-"));
    assert_eq!(seen(&session, machine, &uuid(2)), [one(2)]);
    let listed = format!("{},{}", uuid(1), uuid(0));
    assert_eq!(seen(&session, machine, &listed), [one(1), one(0)]);
    assert_eq!(seen(&session, machine, ""), []);

    for (list, order) in [("0,2", "ok    device order"), ("2,0", "look  device order")] {
        let mut command = driven(&session, machine, "doctor");
        command.env("CUDA_VISIBLE_DEVICES", list);
        let doctor = finish(command.spawn().unwrap(), list.to_owned()).exit(0);
        assert!(doctor.out.contains(order), "{list}: {}", doctor.out);
    }

    session.file("model", 50_000);
    let mut command = driven(&session, machine, "seal model --device cuda:0 --json");
    command.env("CUDA_VISIBLE_DEVICES", "2");
    let sealed = finish(command.spawn().unwrap(), "seal".to_owned()).exit(0);
    assert!(sealed.out.contains(one(2).1.as_str()), "{}", sealed.out);
}

#[test]
fn a_slice_of_a_divided_card_is_named_by_its_own_uuid() {
    let session = Session::new();
    let machine = "reset gpus=3 mig vram=1G";
    let slice = "MIG-66616b65-2d63-7564-612d-6d69672d0001";
    let listed = seen(&session, machine, slice);
    assert_eq!(listed.len(), 1);
    assert!(listed[0].0.contains("MIG 1g"), "{listed:?}");
    let uuid = slice.trim_start_matches("MIG-");
    assert!(listed[0].1.ends_with(uuid), "{listed:?}");
    let devices = with_driver(&session, machine, "devices").exit(0);
    assert!(devices.out.contains("MIG on"), "{}", devices.out);
    assert!(!devices.out.contains("cuda:1"), "{}", devices.out);
    let whole = with_driver(&session, "reset vram=1G", "devices").exit(0);
    assert!(whole.out.contains("MIG off"), "{}", whole.out);
}

#[test]
fn the_command_is_linked_to_no_cuda_library() {
    let program = env!("CARGO_BIN_EXE_vram");
    let listed = std::process::Command::new("ldd")
        .arg(program)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8(listed.stdout).unwrap().to_lowercase();
    assert!(text.contains("libc.so"), "{text}");
    for name in ["cuda", "nvidia", "nvrtc", "cudart"] {
        assert!(!text.contains(name), "{text}");
    }
}

/// Seals on a machine whose loader looks into `folder` first.
fn seal_with(session: &Session, folder: &str) -> Outcome {
    session.file("model", 10);
    let mut command = session.command(&["seal", "model", "--device", "cuda:0"]);
    command.env("LD_LIBRARY_PATH", session.path(folder));
    finish(command.spawn().unwrap(), "seal".to_owned())
}

/// The device hashes one byte wrongly while the model arrives, and never again: no seal
/// states that digest, and neither the file nor the memory is accused.
// requirement: AU-3
#[test]
fn a_checker_that_errs_while_loading_seals_nothing() {
    let session = Session::new();
    let bytes = session.file("model", 50_000);
    let digest = vram_digest::digest(&bytes).to_string();
    let kernel = "exec.launch.vram_sha256_blocks";
    let mut refused = 0;
    for nth in 1..=3 {
        let flip = |when: &str| format!("{when} {kernel} {nth} flip 9 40000 1");
        let (before, after) = (flip("before"), flip("after"));
        let machine = format!("reset gpus=1 vram=256M; {before}; {after}");
        for expect in [String::new(), format!(" --expect {digest}")] {
            let seal = format!("seal model --device cuda:0{expect}");
            let outcome = with_driver(&session, &machine, &seal);
            if outcome.err.is_empty() {
                let _ = outcome.exit(0).says(&digest);
                continue;
            }
            refused += 1;
            let _ = outcome.exit(1).refuses("the digest of what was loaded");
        }
    }
    // Its first answer with and without an expectation, and the second one without.
    assert_eq!(refused, 3);
}

/// The kernel of the keyed tags runs no more after the load: each round a second opinion
/// finds the memory good, and says so.
// requirement: AU-3
#[test]
fn a_hold_tells_that_the_checker_erred() {
    let session = Session::new();
    session.file("model", 50_000);
    let machine = "reset gpus=1 vram=256M; skip exec.launch.vram_nh_tags_2 2+";
    let seal = "seal model --device cuda:0 --hold --every 10ms --scrub-rate 0 --mode keyed";
    let mut child = driven(&session, machine, seal).spawn().unwrap();
    let told = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = told
        .map(Result::unwrap)
        .filter(|line| line.contains("erred"));
    for all in 1..3 {
        let line = told.next().unwrap();
        let counted = format!("the checker erred 1 time(s), {all} in all: ");
        assert!(
            line.starts_with("vram: note: ") && line.contains(&counted),
            "{line}"
        );
    }
    interrupt(&child);
    drop(told);
    let _ = finish(child, seal.to_owned());
}

/// Whether the loader finds a library of this name, whatever it is.
fn is_found(name: &str) -> bool {
    let opened = fake_cuda::Ctl::open(std::path::Path::new(name));
    let why = opened
        .err()
        .and_then(|error| Some(error.source()?.to_string()));
    why.is_none_or(|why| !why.contains("cannot open shared object file"))
}

#[test]
fn without_a_driver_the_error_names_libcuda_and_the_simulator() {
    if is_found("libcuda.so.1") {
        skipped("a missing driver: the loader finds one here");
        return;
    }
    let ended = seal_with(&Session::new(), "nowhere").exit(1);
    assert!(ended.err.contains("libcuda.so.1"), "{}", ended.err);
    assert!(ended.err.contains("sim"), "{}", ended.err);
}

/// As above on every machine: the first driver that the loader meets is no
/// library at all.
#[test]
fn a_driver_that_cannot_be_loaded_is_named() {
    let session = Session::new();
    std::fs::create_dir(session.path("broken")).unwrap();
    std::fs::write(session.path("broken/libcuda.so.1"), "no library").unwrap();
    let ended = seal_with(&session, "broken").exit(1);
    assert!(ended.err.contains("libcuda.so.1"), "{}", ended.err);
    assert!(ended.err.contains("sim"), "{}", ended.err);
}

// requirement: WORKER-4111, MS-001, OB-6
#[test]
fn the_log_of_a_driver_tells_its_calls_and_no_address() {
    let session = Session::new();
    session.file("model", 1_234_567);
    for (form, words, code) in [
        ("text", "seal model --device cuda:0", 0),
        ("json", "seal model --device cuda:0", 0),
        ("json", "seal model --device cuda:0 --expect ZEROS", 3),
        ("text", "devices", 0),
        ("text", "seal model --device cuda:7", 1),
    ] {
        let words = words.replace("ZEROS", &"0".repeat(64));
        let words = format!("{words} --log trace --log-format {form}");
        let ended = with_driver(&session, "", &words).exit(code);
        let ready = ended.err.contains("the CUDA driver is ready");
        assert!(ready || words.starts_with("devices"), "{ended:#?}");
        let opened = ended.err.contains("a CUDA device was opened");
        assert_eq!(opened, !words.contains("cuda:7"), "{ended:#?}");
    }
}
