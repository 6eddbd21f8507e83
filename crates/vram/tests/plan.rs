//! `vram plan`.

mod common;

use common::{Session, small};

fn plan(session: &Session, options: &str) -> common::Outcome {
    let model = small();
    let mut words = vec!["plan", model.to_str().unwrap()];
    words.extend(options.split_whitespace());
    session.vram_words(&words)
}

#[test]
fn a_model_that_fits_is_placed() {
    let session = Session::new();
    plan(&session, "--device sim:1MiB")
        .exit(0)
        .quiet()
        .says("on device 0")
        .says("left");
    let report = plan(
        &session,
        "--device sim:1MiB --device sim:70KiB,ordinal=1 --json",
    )
    .exit(0);
    let report = report.json("vram-residency/plan/v1");
    assert_eq!(report["fits"], true);
    assert_eq!(report["bytes"], 65_249);
    assert_eq!(report["placements"][0]["ordinal"], 1, "the tightest device");
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_missing_bytes() {
    let session = Session::new();
    for (options, missing) in [
        ("--device sim:63KiB", 65_249 + 48 - (63 << 10)),
        (
            "--device sim:1MiB --reserve 1000KiB",
            65_249 + 48 - (24 << 10),
        ),
        (
            "--device sim:1MiB --headroom 1000KiB",
            65_249 + 48 - (24 << 10),
        ),
    ] {
        plan(&session, options)
            .exit(1)
            .says(&format!("fits on no device, {missing} bytes missing\n"))
            .says(&format!(" headroom, {missing} bytes missing\n"))
            .tells("does not fit on these devices");
    }
    let report = plan(&session, "--device sim:63KiB --json").exit(1);
    let report = report.json("vram-residency/plan/v1");
    assert_eq!(report["fits"], false);
    assert_eq!(report["certain"], true);
    let device = &report["devices"][0];
    assert_eq!(device["fits"], false);
    assert_eq!(device["missing"], report["placements"][0]["missing"]);
    plan(&session, "--device sim:1MiB --headroom 4KiB")
        .exit(0)
        .says(", 4.0 KiB headroom, ");
}

#[test]
fn the_plan_and_the_seal_agree_on_small_and_on_huge_files() {
    let session = Session::new();
    let json = r#"{"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}"#;
    let mut file = 112_u64.to_le_bytes().to_vec();
    file.extend(format!("{json:<112}").bytes());
    file.extend(0..64);
    std::fs::write(session.path("a.safetensors"), file).unwrap();
    for (room, code) in [(319, 1), (320, 0), (438, 0)] {
        for command in ["plan", "seal"] {
            session
                .vram(&format!("{command} a.safetensors --device sim:{room}"))
                .exit(code);
        }
    }
    // Sparse, and more than the policy lets seal.
    let huge = std::fs::File::create(session.path("huge.bin")).unwrap();
    huge.set_len(200_000_000_000).unwrap();
    for command in ["plan", "seal"] {
        session
            .vram(&format!("{command} huge.bin --device sim:300GiB"))
            .exit(1)
            .refuses("huge.bin: the model has 200000000000 bytes; the limits are 1 and ");
    }
}

#[test]
fn files_are_placed_where_the_largest_first_finds_no_layout() {
    let session = Session::new();
    let mib = 1 << 20;
    std::fs::create_dir(session.path("m")).unwrap();
    let mut map = Vec::new();
    for (i, size) in [4, 4, 3, 3, 3, 3].into_iter().enumerate() {
        let len = size * mib - 8 - 248;
        let json =
            format!(r#"{{"t{i}":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
        let mut file = 248_u64.to_le_bytes().to_vec();
        file.extend(format!("{json:<248}").bytes());
        file.resize(size * mib, 0);
        std::fs::write(session.path(&format!("m/{i}.safetensors")), file).unwrap();
        map.push(format!(r#""t{i}":"{i}.safetensors""#));
    }
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
    session.write("m/model.safetensors.index.json", &index);
    let words = "plan m --device sim:10244KiB --device sim:10244KiB,ordinal=1";
    session.vram(words).exit(0).quiet().says("4.0 KiB left");
}

// requirement: PM-1
#[test]
fn a_model_can_be_cut_for_several_devices() {
    let session = Session::new();
    let two = "--device sim:40KiB --device sim:40KiB,ordinal=1";
    plan(&session, two).exit(1).says("fits on no device");
    let cut = format!("{two} --tensor-parallel 2");
    plan(&session, &cut)
        .exit(0)
        .quiet()
        .says("rank 0 of 2: ")
        .says("rank 1 of 2: ");
    let report = plan(&session, &format!("{cut} --json")).exit(0);
    let report = report.json("vram-residency/plan/v1");
    assert_eq!(report["tensor_parallel"], 2);
    let ranks = report["placements"].as_array().unwrap();
    let ordinals: Vec<_> = ranks.iter().map(|rank| rank["ordinal"].as_u64()).collect();
    assert_eq!(ordinals, [Some(0), Some(1)]);
    // More than half of the file: the header and the vectors are on both.
    let bytes = ranks[0]["bytes"].as_u64().unwrap();
    assert!((65_249 / 2..40 << 10).contains(&bytes), "{bytes}");
    plan(&session, &format!("{two} --tensor-parallel 3"))
        .exit(2)
        .refuses("--tensor-parallel 3 needs as many devices, 2 named");
    plan(&session, &format!("{two} --tensor-parallel 0")).exit(2);
}

#[test]
fn what_cannot_be_planned_is_said() {
    let session = Session::new();
    session
        .vram("plan missing.gguf --device sim")
        .exit(1)
        .refuses("cannot open");
    plan(&session, "").exit(2).refuses("--device");
    plan(&session, "--device sim --reserve 1MB")
        .exit(2)
        .refuses("is not a size");
    plan(&session, "--device sim --device sim").exit(1);
}
