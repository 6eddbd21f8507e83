//! The fuzz targets, one for every decoder of what others wrote, and two that drive
//! a manager. Each takes any bytes, panics when a claim about them does not hold, and returns whether
//! something was accepted. None only looks for crashes.
//!
//! Two programs run them: the fuzzer (`fuzz/`, nightly, `cargo xtask fuzz`) and
//! the replay of the checked-in seeds with seeded changes (`tests/replay.rs`,
//! stable, part of every test run).
//! requirement: TP-5
#![forbid(unsafe_code)]

mod allow_list;
mod audit_log;
mod audit_proof;
mod audit_reopen;
mod certificate;
mod checkpoint;
mod device_options;
mod formats;
mod json;
mod keys;
mod manager;
mod model_sig;
mod model_trust;
mod ptx;
mod receipt;
mod record;
mod seal_verification;
mod statement;
mod vectors;
mod vram_allocation;

pub use audit_log::{NEXT_TOKEN, join as join_files, split as split_files};
pub use audit_proof::seeds as audit_proofs;
pub use seal_verification::seeds as presented_records;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its seeds' folder, of the fuzzer's program and of its
    /// dictionary, if it has one.
    pub name: &'static str,
    /// Judges one input; true when something accepted it.
    pub run: fn(&[u8]) -> bool,
}

/// Every target; those that read the largest files of strangers first.
pub const TARGETS: [Target; 21] = [
    target("safetensors_header", formats::safetensors_header),
    target("index", formats::index),
    target("gguf", formats::gguf),
    target("lfs_pointer", formats::lfs_pointer),
    target("record", record::run),
    target("statement", statement::run),
    target("receipt", receipt::run),
    target("certificate", certificate::run),
    target("keys", keys::run),
    target("model_sig", model_sig::run),
    target("model_trust", model_trust::run),
    target("allow_list", allow_list::list),
    target("model_policy", allow_list::policy),
    target("checkpoint", checkpoint::run),
    target("audit_log", audit_log::run),
    target("audit_proof", audit_proof::run),
    target("audit_reopen", audit_reopen::run),
    target("device_options", device_options::run),
    target("ptx", ptx::run),
    target("seal_verification", seal_verification::run),
    target("vram_allocation", vram_allocation::run),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run }
}

/// Runs the target `name`.
///
/// # Panics
/// When a claim does not hold for `data`, or no target has this name.
pub fn run(name: &str, data: &[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(data)
}
