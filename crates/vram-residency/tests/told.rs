//! Programs that tell a secret, run as programs of their own: each fails, and
//! says what was told and how, wherever it was told.

mod common;

use std::process::{Command, Output};

use common::{known, rig, secret_of};
use vram_residency::SealRequest;
use vram_residency::key::KeyContext;

const SECRET: [u8; 8] = [3, 1, 4, 1, 5, 9, 2, 6];

fn told(how: &str) {
    test_listener::plant(&SECRET);
    tracing::info!(tag = how, "careful");
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn nothing() {
    told("none");
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn late() {
    for n in 0..100_000 {
        told(&format!("{n}"));
    }
    tracing::trace!(tag = ?SECRET, "careless late");
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn in_a_span() {
    told("none");
    let span = tracing::trace_span!("careless", tag = "0x0301040105090206");
    span.in_scope(|| tracing::trace!("in a span"));
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn on_a_thread() {
    told("none");
    let teller = || tracing::error!(tag = "AwEEAQUJAgY=", "careless on a thread");
    let thread = std::thread::Builder::new().name("aside".to_owned());
    let _ = thread.spawn(teller).unwrap().join();
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn while_panicking() {
    struct Careless;
    impl Drop for Careless {
        fn drop(&mut self) {
            tracing::warn!("careless while panicking: {SECRET:?}");
        }
    }
    told("none");
    let caught = std::panic::catch_unwind(|| {
        let _careless = Careless;
        panic!("and caught");
    });
    assert!(caught.is_err());
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn a_derived_key() {
    let rig = rig(1 << 20);
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    let record = shard.record();
    let context = KeyContext {
        salt: &record.key_salt,
        worker: &record.worker_id,
        device: record.device_uuid,
    };
    let key = known::derived_key(&secret_of(1), &context);
    tracing::info!(key = ?key, "careless with a derived key");
}

#[test]
#[ignore = "a program of its own, run by the tests below"]
fn an_address() {
    test_listener::listen_for_addresses();
    tracing::trace!(at = 0x7f12_3456_7800_u64, "careless with an address");
}

fn run(program: &str) -> Output {
    let itself = std::env::current_exe().unwrap();
    let args = [program, "--exact", "--ignored"];
    Command::new(itself).args(args).output().unwrap()
}

// requirement: AU-11, CI-006
#[test]
fn a_program_that_tells_a_secret_fails() {
    for (program, told) in [
        ("late", "late: a secret was told as numbers"),
        ("late", "careless late"),
        ("in_a_span", "in_a_span: a secret was told in hex"),
        ("on_a_thread", "aside: a secret was told in base64"),
        ("on_a_thread", "careless on a thread"),
        ("while_panicking", "careless while panicking"),
        ("a_derived_key", "careless with a derived key"),
        ("an_address", "a secret was told as an address"),
    ] {
        let output = run(program);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(test_listener::LEAKED), "{said}");
        assert!(said.contains(told), "{program}: {told}\n{said}");
    }
}

#[test]
fn a_program_that_tells_none_passes() {
    let output = run("nothing");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("1 passed"), "{said}");
}
