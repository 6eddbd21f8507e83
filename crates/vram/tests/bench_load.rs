//! `vram bench load`.

mod common;

use common::Session;

#[test]
fn a_load_is_held_against_the_roofs_of_the_same_run() {
    let session = Session::new();
    session.vram("synth model.safetensors --size 3MiB").exit(0);
    let outcome = session
        .vram("bench load model.safetensors --runs 1 --json")
        .exit(0)
        .quiet();
    let report = outcome.json("vram-residency/bench-load/v1");
    let rates = report["rates"].as_array().unwrap();
    let rate = |name: &str| {
        let found = rates.iter().find(|rate| rate["name"] == name);
        found.unwrap()["median_bytes_per_second"].as_f64().unwrap()
    };
    for name in [
        "file read, cold",
        "file read, cached",
        "sealed load, cold",
        "first touch of device memory",
    ] {
        assert!(rate(name) > 0.0, "{name}");
    }
    let allowed = 1.0
        / (1.0 / rate("digest of memory")
            + 1.0 / rate("keyed hash of memory")
            + 2.0 / rate("memory copy"));
    let near = |a: f64, b: f64| ((a - b) / b).abs() < 1e-6;
    assert!(near(
        report["allowed_bytes_per_second"].as_f64().unwrap(),
        allowed
    ));
    let ratio = rate("sealed load, cached") / allowed;
    assert!(near(report["ratio"].as_f64().unwrap(), ratio));
    let [target] = report["targets"].as_array().unwrap().as_slice() else {
        panic!("{report}");
    };
    assert!(
        near(target["measured"].as_f64().unwrap(), ratio),
        "{target}"
    );
    assert_eq!(target["met"], ratio >= 0.9);
}

#[test]
fn a_load_onto_a_named_device_is_one_more_line() {
    let session = Session::new();
    session.vram("synth model.safetensors --size 3MiB").exit(0);
    let load = "bench load model.safetensors --runs 1 --device";
    let outcome = session.vram(&format!("{load} sim:8MiB")).exit(0);
    outcome.says("sealed load, cached, named device");
    // A device that is too small is an error that says so.
    session.vram(&format!("{load} sim:2MiB")).exit(1);
    // One that is not there is refused before anything is measured.
    session
        .vram(&format!("{load} cuda:4000"))
        .exit(1)
        .refuses("");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let session = Session::new();
    session
        .vram("bench load nothing")
        .exit(1)
        .refuses("cannot read nothing");
    session.file("small", 100);
    session
        .vram("bench load small")
        .exit(1)
        .refuses("not a file of at least 1 MiB");
    session.vram("bench load --help").exit(0).says("Example");
    session.vram("bench --runs 3 load small").exit(2);
}

/// The first of two parts of a GGUF, with one tensor of `values` numbers.
fn part(values: u64) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([1_u64, 3].map(u64::to_le_bytes).concat());
    // u16, u16 and i32.
    for (key, kind, value) in [
        ("split.no", 2_u32, &[0, 0][..]),
        ("split.count", 2, &[2, 0]),
        ("split.tensors.count", 5, &[2, 0, 0, 0]),
    ] {
        file.extend([&text(key), &kind.to_le_bytes()[..], value].concat());
    }
    file.extend(text("weights"));
    file.extend([&[1, 0, 0, 0], &values.to_le_bytes()[..], &[0; 12]].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file.resize(file.len() + usize::try_from(4 * values).unwrap(), 7);
    file
}

/// Nothing is claimed of a model here: what loads is the bytes of one file.
#[test]
fn a_part_of_a_split_model_is_measured_by_itself() {
    let session = Session::new();
    let name = "model-00001-of-00002.gguf";
    std::fs::write(session.path(name), part(400_000)).unwrap();
    // It is what it says, and no whole model.
    session
        .vram(&format!("inspect {name}"))
        .exit(1)
        .refuses("model-00002-of-00002.gguf");
    session
        .vram(&format!("bench load {name} --runs 1"))
        .exit(0)
        .says("sealed load, cached");
}
