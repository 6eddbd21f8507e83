//! Offering models.

use std::io;

use cucumber::{given, then, when};
use vram_residency::SealRequest;
use vram_residency::format::ReadAt;
use vram_residency::load::Source;

use super::size::Size;
use crate::suite::stage::{Stage, weights};

#[given(expr = "{size} of weights sealed as {string}")]
fn sealed(stage: &mut Stage, len: Size, name: String) {
    stage.seal(&name, len.0, 0);
    stage.shard(&name);
}

#[given(expr = "{size} of weights sealed as {string} on device {int}")]
fn sealed_on(stage: &mut Stage, len: Size, name: String, ordinal: u32) {
    stage.seal(&name, len.0, ordinal);
    stage.shard(&name);
}

#[when(expr = "{size} of weights are sealed as {string}")]
#[then(expr = "{size} of weights are sealed as {string}")]
fn seal(stage: &mut Stage, len: Size, name: String) {
    stage.seal(&name, len.0, 0);
}

#[when(expr = "{size} of weights are offered under the name {string}")]
fn offer(stage: &mut Stage, len: Size, name: String) {
    let name = name.replace("[NUL]", "\0").replace("[U+00E8]", "\u{e8}");
    stage.seal(&name, len.0, 0);
}

#[when(expr = "{size} of weights are sealed under a name of {int} letters")]
fn seal_long_name(stage: &mut Stage, len: Size, letters: usize) {
    stage.seal(&"n".repeat(letters), len.0, 0);
}

#[when(expr = "{size} of weights are offered as a model with another digest")]
fn offer_as_other(stage: &mut Stage, len: Size) {
    let bytes = weights("offered", len.0);
    let other = vram_digest::digest(&weights("other", len.0)).to_string();
    stage.try_seal("offered", SealRequest::bytes(&bytes).expect(&other));
}

#[when(regex = r"^(\d+) MiB of bytes 0x(00|FF) are sealed as .(\w+).$")]
fn seal_constant(stage: &mut Stage, mib: usize, byte: String, name: String) {
    let byte = u8::from_str_radix(&byte, 16).unwrap();
    let bytes = vec![byte; mib << 20];
    assert!(stage.try_seal(&name, SealRequest::bytes(&bytes).id(&name)));
}

/// Says a length and must not be asked for anything else.
struct Claim(u64);

impl ReadAt for Claim {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("nothing may be read of what is refused"))
    }
}

impl Source for Claim {
    fn name(&self) -> String {
        "claim".to_owned()
    }
}

#[when(expr = "a source that says it has {size} is offered")]
fn offer_claim(stage: &mut Stage, len: Size) {
    stage.try_seal("claim", SealRequest::source(Claim(len.0)));
}

#[then(expr = "shard {string} has {size} on device {int}")]
fn is_on(stage: &mut Stage, name: String, len: Size, ordinal: u32) {
    let record = stage.record(&name);
    assert_eq!((record.vram_bytes, record.gpu_device), (len.0, ordinal));
    assert!(record.sealed && stage.shard(&name).is_sealed());
    assert_eq!(record.device_kind, stage.taps[ordinal as usize].info.kind);
}

#[then(expr = "the digest of {string} is that of its weights, 64 lower-case hex digits")]
fn digest_is_right(stage: &mut Stage, name: String) {
    let digest = stage.shard(&name).digest();
    assert_eq!(digest, vram_digest::digest(&stage.models[&name]));
    let text = digest.to_string();
    let lower_hex = |c| matches!(c, '0'..='9' | 'a'..='f');
    assert!(text.len() == 64 && text.chars().all(lower_hex), "{text}");
}

#[then(expr = "{string} and {string} have different digests")]
fn digests_differ(stage: &mut Stage, one: String, other: String) {
    assert_ne!(stage.shard(&one).digest(), stage.shard(&other).digest());
}
