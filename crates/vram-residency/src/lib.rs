//! Seal model weights in VRAM and keep proving that they are the file that was
//! signed off.
//!
//! Sealing gives **integrity, not secrecy**: a seal is an authenticated
//! statement about bytes that were measured in device memory.
//!
//! ```
//! use vram_residency::key::RootKey;
//! use vram_residency::random::OsRandom;
//! use vram_residency::sim::SimDevice;
//! use vram_residency::{Mode, SealRequest, VramManager};
//!
//! # fn main() -> vram_residency::Result<()> {
//! # let weights = [7_u8; 10_000];
//! let manager = VramManager::builder()
//!     .device(SimDevice::new(64 << 20)) // a simulated device, named as such
//!     .key(RootKey::generate(&OsRandom)?)
//!     .build()?;
//! let shard = manager.seal(SealRequest::bytes(&weights))?; // or SealRequest::file(path)
//! let lease = manager.lease(&shard, Mode::Full)?; // verified now, for one execution
//! assert_eq!(lease.verification().bytes_checked, 10_000);
//! lease.finish();
//! manager.unseal_and_free(&shard)?;
//! # Ok(())
//! # }
//! ```
//!
//! **Logs.** Operations and their results are spans and events of `tracing`; a
//! listener of the caller's choice hears them (requirement: OB-1, OB-6).
//!
//! **Shared GPUs.** A device counts as ours alone unless it is added with
//! [`capacity::Sharing::Shared`]. Memory that other programs take is seen at the
//! next admission, which then refuses and says so; nobody is evicted
//! (requirement: GC-12, GC-1).
//!
//! The library reads no environment, terminal or network, and asks for time,
//! randomness, keys and sinks through traits. It never picks a simulator by
//! itself. `docs/design.md` has the reasons.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_ptr_alignment,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::string_slice,
    clippy::missing_panics_doc
)]

pub mod audit;
mod cache;
pub mod capacity;
pub mod clock;
pub mod compat;
pub mod device;
pub mod error;
pub mod format;
mod hex;
pub mod key;
pub mod load;
pub mod manager;
pub mod policy;
#[cfg(all(test, shuttle))]
mod races;
pub mod random;
pub mod receipt;
pub mod seal;
pub mod shard;
pub mod signed;
pub mod sim;
#[doc(hidden)]
pub mod sync;
pub mod text;
mod trace;
pub mod verify;

pub use error::{Code, Error, Result};
pub use load::SealRequest;
pub use manager::VramManager;
pub use policy::Policy;
pub use seal::Record;
pub use shard::{Lease, SealedGroup, SealedShard};
pub use verify::Mode;

/// The README's example runs as a test (requirement: DOC-3).
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
