//! From a source of bytes to measured bytes in VRAM.

mod control;
mod direct;
mod error;
mod file;
mod header;
mod model;
mod opening;
mod order;
mod part;
mod pipeline;
mod place;
mod request;
mod retry;
mod source;
mod staging;

pub use control::{CancelToken, Progress, ProgressFn};
pub(crate) use control::{Control, Overall, Together};
pub use error::LoadError;
pub use file::{FileIdentity, FileReads, FileSource};
pub(crate) use header::{Header, Noted};
pub use model::Model;
pub use opening::Opening;
#[cfg(all(test, shuttle))]
pub(crate) use order::OrderedSha256;
pub use part::Part;
pub(crate) use pipeline::{cores, load};
pub(crate) use request::refuse_part;
pub use request::{FormatChoice, SealRequest};
pub use retry::Retried;
pub(crate) use retry::Watched;
pub use source::{PatternSource, Source};
pub use staging::{KEPT_BY_CUDA, MAX_AT_ONCE, Staging};
