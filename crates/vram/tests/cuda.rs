//! The command on a CUDA driver that the loader finds by itself: the fake one,
//! put into a folder of the loader's search path as `libcuda.so.1`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod common;

use common::{Outcome, Session, finish};

/// `$ vram ARGS` where the fake driver is installed; `machine` describes it.
fn with_driver(session: &Session, machine: &str, args: &str) -> Outcome {
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
        .env("FAKE_CUDA", machine);
    finish(command.spawn().unwrap(), args.to_owned())
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

#[test]
fn without_a_driver_the_error_names_libcuda_and_the_simulator() {
    let session = Session::new();
    session.file("model", 10);
    let mut command = session.command(&["seal", "model", "--device", "cuda:0"]);
    command.env("LD_LIBRARY_PATH", session.path("nowhere"));
    let ended = finish(command.spawn().unwrap(), "seal".to_owned());
    // On a machine with a GPU the driver is found after all.
    if std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("a GPU is here: the missing driver was NOT tested");
        return;
    }
    let ended = ended.exit(1);
    assert!(ended.err.contains("libcuda"), "{}", ended.err);
    assert!(ended.err.contains("sim"), "{}", ended.err);
}
