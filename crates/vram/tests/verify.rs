//! `vram verify`: what it accepts and what it sees through.

mod common;

use common::Session;

fn sealed() -> Session {
    let session = Session::new();
    session.file("model", 20_000);
    session.vram("key new key").exit(0);
    session
        .vram("seal model --device sim --key-file key --record record.json")
        .exit(0);
    session
}

#[test]
fn tag_and_file_are_checked_and_the_rest_is_named() {
    let session = sealed();
    session
        .vram("verify record.json model --key-file key")
        .exit(0)
        .quiet()
        .says("tag          ok (key ")
        .says("contents     ok (model, 20000 bytes)")
        .says("not checked  VRAM: ")
        .says("not checked  a GPU: this was sealed on a simulated device");
    session
        .vram("verify record.json --tag-only --key-file key")
        .exit(0)
        .says("not checked  contents: no file was read (--tag-only)");
    let outcome = session
        .vram("verify record.json model --key-file key --json")
        .exit(0);
    let report = outcome.json("vram-residency/verify/v1");
    assert_eq!(report["checked"][0]["tag"], "ok");
    assert_eq!(report["checked"][0]["contents"], "ok");
    assert_eq!(report["not_checked"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_or_tag_only_must_be_said() {
    let session = sealed();
    session
        .vram("verify record.json --key-file key")
        .exit(2)
        .refuses("FILE");
    session
        .vram("verify record.json model --tag-only --key-file key")
        .exit(2)
        .refuses("--tag-only");
}

#[test]
fn another_file_fails() {
    let session = sealed();
    let mut bytes = std::fs::read(session.path("model")).unwrap();
    bytes[12_345] ^= 1;
    std::fs::write(session.path("same-length"), &bytes).unwrap();
    session
        .vram("verify record.json same-length --key-file key")
        .exit(3)
        .refuses("same-length is not the sealed file: it has the sealed length and other contents")
        .tells("vram: note: sealed sha256:")
        .tells("vram: note: found  sha256:");
    std::fs::write(session.path("short"), &bytes[..19_999]).unwrap();
    session
        .vram("verify record.json short --key-file key")
        .exit(3)
        .refuses("20000 bytes were sealed, it has 19999");
}

#[test]
fn keys_are_needed_and_must_be_the_right_ones() {
    let session = sealed();
    session
        .vram("verify record.json model")
        .exit(1)
        .refuses("no key")
        .tells("--key-file FILE");
    session
        .vram("verify record.json model --key-file missing")
        .exit(1)
        .refuses("cannot open key file missing");
    session.vram("key new other").exit(0);
    session
        .vram("verify record.json model --key-file other")
        .exit(3)
        .refuses("which is not accepted here");
}

#[test]
fn keys_come_from_credentials_and_descriptors() {
    let session = sealed();
    let words = ["verify", "record.json", "model", "--key-credential", "key"];
    let child = session
        .command(&words)
        .env("CREDENTIALS_DIRECTORY", session.path(""))
        .spawn()
        .unwrap();
    common::finish(child, words.join(" ")).exit(0);
    session
        .vram("verify record.json model --key-credential key")
        .exit(1)
        .refuses("CREDENTIALS_DIRECTORY is not set");
    let words = ["verify", "record.json", "model", "--key-fd", "0"];
    let key = std::fs::File::open(session.path("key")).unwrap();
    let child = session.command(&words).stdin(key).spawn().unwrap();
    common::finish(child, words.join(" ")).exit(0);
    session
        .vram("verify record.json model --key-fd 987654")
        .exit(1)
        .refuses("cannot read file descriptor 987654");
    session
        .vram("verify record.json model --key-fd 0 --key-file key")
        .exit(2)
        .refuses("cannot be used with");
}

/// Every field is under the tag: any change is found, none is believed.
#[test]
fn a_forged_record_fails() {
    let session = sealed();
    let record: serde_json::Value = serde_json::from_str(&session.read("record.json")).unwrap();
    let forge = |field: &str, value: serde_json::Value| {
        let mut forged = record.clone();
        assert_ne!(forged[field], value, "{field}");
        forged[field] = value;
        session.write("forged.json", &forged.to_string());
        session
            .vram("verify forged.json model --key-file key")
            .exit(3)
            .refuses("forged.json: ")
    };
    let other = "1".repeat(64);
    forge("shard_id", "another".into());
    forge("model_ref", "another".into());
    forge("vram_bytes", 19_999.into());
    forge("digest", other.clone().into());
    forge("content_sha256", other.clone().into());
    forge("device_kind", "cuda".into());
    forge("gpu_device", 1.into());
    forge("sealed_at", 1.into());
    forge("sequence", 2.into());
    forge("worker_id", "mallory".into());
    forge("key_salt", other.clone().into());
    forge("tag", other.into());
    forge("sealed", false.into()).tells("the record says that nothing was sealed");
}
