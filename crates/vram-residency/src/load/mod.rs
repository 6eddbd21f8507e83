//! From a source of bytes to measured bytes in VRAM.

mod control;
mod error;
mod model;
mod order;
mod pipeline;
mod request;
mod source;

pub(crate) use control::Control;
pub use control::{CancelToken, Progress, ProgressFn};
pub use error::LoadError;
pub use model::{Model, Part};
pub(crate) use pipeline::load;
pub use request::{FormatChoice, SealRequest};
pub use source::{FileSource, PatternSource, Source};
