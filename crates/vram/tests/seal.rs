//! `vram seal` on the simulated device.

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Session, finish, interrupt, small};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_device_that_drops_contents_measures_and_says_that_nothing_was_verified() {
    let session = Session::new();
    let bytes = session.file("model", 3_000_001);
    let digest = vram_digest::digest(&bytes);
    session
        .vram("seal model --format raw --device sim:4MiB,discard --record r.json")
        .exit(1)
        .refuses("nothing was verified: the simulated device was told to discard contents")
        .tells(&format!(
            "vram: note: measured while loading: sha256:{digest} model, 3000001 bytes\n"
        ))
        .tells("vram: note: loaded 3000001 bytes in ")
        .tells("nothing is left on the device: 0 of 4194304 bytes in use");
    assert!(!session.path("r.json").exists());
    // What the option does is told where the device is chosen.
    let help = session.vram("seal --help").exit(0);
    for option in ["flip=", "granularity=", "ordinal=", "seed=", "discard "] {
        assert!(help.out.contains(option), "{option}: {}", help.out);
    }
}

#[test]
fn the_readmes_first_command_prints_digest_and_record() {
    let session = Session::new();
    let model = small();
    let bytes = std::fs::read(&model).unwrap();
    let digest = vram_digest::digest(&bytes);
    session
        .vram_words(&["seal", model.to_str().unwrap(), "--device", "sim"])
        .exit(0)
        .quiet()
        .says(&format!("digest    sha256:{digest}\n"))
        .says(&format!(
            "full: {0} of {0} bytes in device memory",
            bytes.len()
        ))
        .says("record    {\"schema\":\"vram-residency/record/v1\"")
        .says("the record cannot be verified later")
        .says("freed     wiped; 0 of 8589934592 bytes in use\n");
}

#[test]
fn the_record_is_a_file_for_everyone_to_read() {
    let session = Session::new();
    session.file("model", 10_000);
    session.vram("key new key").exit(0);
    let sealed = session
        .vram("seal model --device sim --key-file key --record out.json --id shard-1 --json")
        .exit(0)
        .quiet();
    let report = sealed.json("vram-residency/seal/v1");
    assert_eq!(report["ephemeral_key"], false);
    assert_eq!(report["used_bytes"], 0);
    assert_eq!(report["shards"][0]["verification"]["mode"], "full");
    assert_eq!(report["shards"][0]["verification"]["bytes_checked"], 10_000);
    let record: serde_json::Value = serde_json::from_str(&session.read("out.json")).unwrap();
    assert_eq!(record, report["shards"][0]["record"]);
    assert_eq!(record["shard_id"], "shard-1");
    assert_eq!(record["model_ref"], "model");
    let mode = std::fs::metadata(session.path("out.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777 & !0o644, 0, "{mode:o}");
    let names = std::fs::read_dir(session.path("")).unwrap().count();
    assert_eq!(names, 3, "no temporary file stays");
}

#[test]
fn the_right_digests_are_accepted() {
    let session = Session::new();
    let bytes = session.file("model", 9000);
    let digest = vram_digest::digest(&bytes);
    session
        .vram(&format!("seal model --device sim --expect sha256:{digest}"))
        .exit(0);
    session
        .vram(&format!("seal model --device sim --expect {digest}"))
        .exit(0);
    let content = session.vram("digest --content --json model").exit(0);
    let content = content.json("vram-residency/digest/v1")["files"][0]["content_sha256"].clone();
    let content = content.as_str().unwrap();
    session
        .vram(&format!(
            "seal model --device sim --expect-content {content}"
        ))
        .exit(0)
        .says(&format!("content   {content}"));
}

// requirement: DG-4
#[test]
fn another_digest_seals_nothing() {
    let session = Session::new();
    session.file("model", 9000);
    session
        .vram(&format!(
            "seal model --device sim:1MiB --expect sha256:{ZEROS} --record out.json"
        ))
        .exit(3)
        .refuses("model: the model is not the expected one: expected fs-verity 000")
        .tells("vram: note: nothing is left on the device: 0 of 1048576 bytes in use")
        .tells("use --expect-content");
    session
        .vram(&format!(
            "seal model --device sim --expect-content {ZEROS} --record out.json"
        ))
        .exit(3)
        .refuses("expected sha256 000");
    assert!(!session.path("out.json").exists());
}

// requirement: WORKER-4122
#[test]
fn a_flipped_bit_is_named_with_block_offset_and_tensor() {
    let session = Session::new();
    let model = small();
    let model = model.to_str().unwrap();
    let words = [
        "seal",
        model,
        "--device",
        "sim:1GiB,flip=4100:2",
        "--record",
        "out.json",
    ];
    session
        .vram_words(&words)
        .exit(3)
        .refuses("has 1 bad 4 KiB block(s), the first at file offset 4096, in tensor ")
        .tells("vram: note: bad 4 KiB block 1 at file offset 4096\n")
        .tells("vram: note: nothing is left on the device: 0 of 1073741824 bytes in use");
    assert!(!session.path("out.json").exists());
    let failed = session
        .vram_words(&[&words[..], &["--json"]].concat())
        .exit(3);
    let report = failed.json("vram-residency/failure/v1");
    assert_eq!(report["code"], "SEAL_VERIFICATION_FAILED");
    assert_eq!(report["damage"]["runs"], serde_json::json!([[1, 1]]));
}

#[test]
fn without_a_driver_the_reason_and_a_way_out_are_given() {
    let session = Session::new();
    session.file("model", 10);
    // No search path can make this driver appear: the ordinal does not exist.
    session
        .vram("seal model --device cuda:4000")
        .exit(1)
        .refuses("no usable device: ")
        .tells("vram: hint: without a GPU name the simulated device: --device sim");
}

#[test]
fn a_device_that_is_too_small_says_what_was_needed() {
    let session = Session::new();
    session.file("model", 70_000);
    session
        .vram("seal model --device sim:64KiB")
        .exit(1)
        .refuses("not enough VRAM on device 0: 70000 bytes needed, 65536 available");
}

#[test]
fn shards_are_sealed_alone_or_as_a_group() {
    let session = Session::new();
    session.file("a", 5000);
    session.file("b", 6000);
    session.vram("key new key").exit(0);
    session
        .vram("seal a b --device sim --key-file key --record alone.jsonl")
        .exit(0);
    assert_eq!(session.read("alone.jsonl").lines().count(), 2);
    session
        .vram("seal a b --device sim --key-file key --group --record group.json")
        .exit(0)
        .says(" of 2 shards\n");
    session
        .vram("verify alone.jsonl a b --key-file key")
        .exit(0);
    session
        .vram("verify group.json a b --key-file key")
        .exit(0)
        .says("group        complete, 2 members in order\n");
    session
        .vram("verify group.json b a --key-file key")
        .exit(3)
        .refuses("is not the sealed file");
    session
        .vram("verify group.json a --key-file key")
        .exit(2)
        .refuses("holds 2 record(s), and 1 file(s) are named");
    let text = session.read("group.json");
    let mut group: serde_json::Value = serde_json::from_str(&text).unwrap();
    group["members"].as_array_mut().unwrap().swap(0, 1);
    session.write("swapped.json", &group.to_string());
    session
        .vram("verify swapped.json b a --key-file key")
        .exit(3)
        .refuses("member 0 of the group does not say that it is shard 0 of 2");
}

#[test]
fn a_bad_member_leaves_no_group() {
    let session = Session::new();
    session.file("a", 5000);
    session
        .vram("seal a missing --group --device sim:1MiB")
        .exit(1)
        .refuses("cannot open missing")
        .tells("nothing is left on the device: 0 of 1048576 bytes in use");
}

#[test]
fn a_deadline_ends_a_load_and_leaves_nothing() {
    let session = Session::new();
    let file = std::fs::File::create(session.path("model")).unwrap();
    file.set_len(4 << 30).unwrap();
    session
        .vram("seal model --format raw --device sim:8GiB,discard --timeout 20ms")
        .exit(1)
        .refuses("loading model did not finish before its deadline")
        .tells("nothing is left on the device: 0 of 8589934592 bytes in use");
}

#[test]
fn an_interrupt_cancels_a_load_and_leaves_nothing() {
    let session = Session::new();
    let file = std::fs::File::create(session.path("model")).unwrap();
    file.set_len(64 << 30).unwrap();
    let words = [
        "seal",
        "model",
        "--format",
        "raw",
        "--device",
        "sim:65GiB,discard",
    ];
    let child = session.command(&words).spawn().unwrap();
    interrupt(&child);
    finish(child, words.join(" "))
        .exit(1)
        .refuses("loading model was cancelled")
        .tells("nothing is left on the device: 0 of 69793218560 bytes in use");
}
