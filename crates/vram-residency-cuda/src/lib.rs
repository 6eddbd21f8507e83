//! The CUDA backend of `vram-residency`, in three levels.
//!
//! * [`sys`]: the driver's own symbols, found with `dlopen` when the program
//!   runs. No toolkit, header or stub library is needed to build.
//! * [`driver`]: one thin function per driver call. Failures are values with
//!   the driver's own name and text; a code that this crate does not know
//!   survives as its number.
//! * [`device`]: safe. [`Cuda`] finds the driver, [`CudaDevice`] implements
//!   [`vram_residency::device::Device`].
//!
//! ```no_run
//! use vram_residency_cuda::Cuda;
//!
//! # fn main() -> Result<(), vram_residency::device::DeviceError> {
//! let cuda = Cuda::open()?; // an error value where there is no driver
//! for device in cuda.devices()? {
//!     println!("{} {} {}", device.ordinal, device.name, device.uuid);
//! }
//! let gpu = cuda.device(0)?;
//! # drop(gpu);
//! # Ok(())
//! # }
//! ```
//!
//! [`nvml`] adds facts for reports where the machine has that library.
//!
//! All `unsafe` code of the backend is in this crate.
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

pub mod device;
pub mod driver;
mod ext;
pub mod nvml;
pub mod sys;

pub use device::{Cuda, CudaDevice};
pub use ext::{FinishAfter, FinishError, HardwareConstructors};
