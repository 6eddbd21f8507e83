//! What came of what was tried.

use cucumber::then;
use vram_residency::device::DeviceError;
use vram_residency::error::{InputError, Misuse, VerifyError};
use vram_residency::policy::PolicyError;
use vram_residency::{Error, Mode};

use super::size::Size;
use crate::suite::stage::Stage;

/// An error in the words of the features.
pub(super) fn words(error: &Error) -> &'static str {
    match error {
        Error::InsufficientVram(_) => "not enough VRAM",
        Error::Policy(error) => policy(error),
        Error::Audit(_) => "audit",
        Error::Free(_) => "memory stranded",
        Error::Device(DeviceError::Lost { .. }) => "device lost",
        Error::Input(error) => input(error),
        Error::Misuse(Misuse::NotSealed) => "not sealed",
        Error::Misuse(Misuse::Busy { .. }) => "busy",
        Error::Misuse(Misuse::Stopped { .. }) => "stopped",
        Error::Verify(error) => verify(error),
        _ => "for a reason that no scenario names",
    }
}

fn policy(error: &PolicyError) -> &'static str {
    match error {
        PolicyError::Device { .. } => "policy: not on this device",
        PolicyError::Memory { reason } => reason,
        PolicyError::RepairOff => "policy: repair is off",
        PolicyError::SealAge { .. } => "policy: the seal is too old",
        _ => "a rule of the policy that no scenario names",
    }
}

fn input(error: &InputError) -> &'static str {
    match error {
        InputError::PathTraversal { .. } => "path traversal",
        InputError::NullByte { .. } => "NUL byte",
        InputError::Characters { .. } => "bad characters",
        InputError::TooLong { .. } => "name too long",
        InputError::ModelSize { .. } | InputError::SourceSize { .. } => "model size",
        InputError::Record(_) => "unreadable record",
        _ => "bad input that no scenario names",
    }
}

fn verify(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::Tag { .. } => "the record does not match its tag",
        VerifyError::UnknownKey { .. } => "sealed under another key",
        VerifyError::NotHeld { .. } => "nothing held is recorded so",
        VerifyError::Contents { .. } => "the contents changed",
        VerifyError::Witness { .. } => "the driver's witness changed",
        VerifyError::Quarantined { .. } => "quarantined",
        VerifyError::RepairSource { .. } => "not the sealed bytes",
        VerifyError::Unexpected { .. } => "not the expected model",
        _ => "a verification that no scenario names",
    }
}

#[then("it succeeds")]
fn succeeds(stage: &mut Stage) {
    let outcome = stage.outcome.as_ref().expect("something was tried");
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[then(regex = "^it is refused: (.+)$")]
fn refused(stage: &mut Stage, why: String) {
    let error = stage.error();
    assert_eq!(words(error), why, "{error}");
}

#[then("the refusal may be retried")]
fn retriable(stage: &mut Stage) {
    assert!(stage.error().is_retriable() && !stage.error().is_fatal());
}

#[then("the refusal is fatal")]
fn fatal(stage: &mut Stage) {
    assert!(stage.error().is_fatal() && !stage.error().is_retriable());
}

#[then(expr = "the refusal says {string}")]
fn says(stage: &mut Stage, text: String) {
    let error = stage.error().to_string();
    assert!(error.contains(&text), "{error}");
}

#[then(expr = "the refusal needed {size} and found {size}")]
fn needed_and_found(stage: &mut Stage, needed: Size, available: Size) {
    let Error::InsufficientVram(error) = stage.error() else {
        panic!("{}", stage.error());
    };
    assert_eq!((error.needed, error.available), (needed.0, available.0));
}

#[then(expr = "shard {string} passes a full verification")]
fn passes(stage: &mut Stage, name: String) {
    let answer = stage
        .manager()
        .verify_sealed(stage.shard(&name), Mode::Full);
    let verified = answer.unwrap().into_verification();
    assert_eq!(verified.bytes_checked, stage.record(&name).vram_bytes);
    assert!(!verified.reused);
}

#[then(expr = "shard {string} fails a full verification")]
fn fails(stage: &mut Stage, name: String) {
    let error = stage.verify(&name).unwrap_err();
    assert_eq!(words(&error), "the contents changed");
}

#[then("every shard passes a full verification")]
fn all_pass(stage: &mut Stage) {
    let manager = stage.manager();
    assert!(!stage.held().is_empty());
    for shard in stage.held() {
        let _ = manager.verify_sealed(shard, Mode::Full).unwrap();
    }
}

#[then(expr = "{string} can still be leased")]
fn can_be_leased(stage: &mut Stage, name: String) {
    stage
        .manager()
        .lease(stage.shard(&name), Mode::Full)
        .unwrap()
        .finish();
}

#[then(regex = r"^.(\w+). cannot be leased: (.+)$")]
fn cannot_be_leased(stage: &mut Stage, name: String, why: String) {
    let error = stage
        .manager()
        .lease(stage.shard(&name), Mode::Full)
        .unwrap_err();
    assert_eq!(words(&error), why, "{error}");
}

#[then(regex = r"^.(\w+). cannot be freed: (.+)$")]
fn cannot_be_freed(stage: &mut Stage, name: String, why: String) {
    let error = stage.manager().deallocate(stage.shard(&name)).unwrap_err();
    assert_eq!(words(&error), why, "{error}");
    assert!(stage.shard(&name).is_sealed());
}
