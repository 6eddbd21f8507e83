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
    for options in [
        "--device sim:63KiB",
        "--device sim:1MiB --reserve 1000KiB",
        "--device sim:1MiB --headroom 1000KiB",
    ] {
        plan(&session, options)
            .exit(1)
            .says("fits on no device")
            .tells("does not fit on these devices");
    }
    let report = plan(&session, "--device sim:63KiB --json").exit(1);
    assert_eq!(report.json("vram-residency/plan/v1")["fits"], false);
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
