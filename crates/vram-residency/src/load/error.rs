//! What can go wrong while reading a model. Every message names the source, with
//! what cannot be seen in its name escaped.

use crate::format::FormatError;
use crate::text::Shown;

/// Reading a source failed; nothing is left on the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", Shown(name))]
    Open {
        /// The source.
        name: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// A directory, FIFO, socket or device.
    #[error("{} is not a regular file", Shown(name))]
    NotRegular {
        /// The source.
        name: String,
    },
    /// Reading failed.
    #[error("cannot read {} at offset {offset}: {source}", Shown(name))]
    Read {
        /// The source.
        name: String,
        /// Where.
        offset: u64,
        /// The system's words.
        source: std::io::Error,
    },
    /// Writing exported bytes failed.
    #[error("cannot write the exported bytes: {source}")]
    Write {
        /// The system's words.
        source: std::io::Error,
    },
    /// It ended early.
    #[error(
        "{} ended early: {expected} bytes expected at offset {offset}; was it truncated while being read?",
        Shown(name)
    )]
    Short {
        /// The source.
        name: String,
        /// Where it ended, or the piece of the load that came short where
        /// nothing can tell.
        offset: u64,
        /// Bytes that were still expected.
        expected: u64,
    },
    /// It is not the file it was when reading began.
    #[error(
        "{} changed while it was read ({what} differs); load it again when nobody writes to it",
        Shown(name)
    )]
    Changed {
        /// The source.
        name: String,
        /// `size`, `modification time`, `change time` or `identity`.
        what: &'static str,
    },
    /// Its contents are not what its name or the caller claims.
    #[error("{}: {source}", Shown(name))]
    Format {
        /// The source.
        name: String,
        /// The field and the limit.
        source: FormatError,
    },
    /// A directory without a model.
    #[error(
        "{} holds no model; expected a .safetensors or .gguf file or a .safetensors.index.json",
        Shown(name)
    )]
    NoModel {
        /// The directory.
        name: String,
    },
    /// A directory with several models.
    #[error("{} holds {count} models ({}); name the file", Shown(name), listed(some, *count))]
    Ambiguous {
        /// The directory.
        name: String,
        /// How many.
        count: usize,
        /// File names of the first few.
        some: Vec<String>,
    },
    /// A part of a split model whose name does not lead to the others.
    #[error(
        "{} is one of {count} parts of a model and is not named NAME-00001-of-{count:05}.gguf, so the others cannot be found",
        Shown(name)
    )]
    SplitName {
        /// The file.
        name: String,
        /// Parts in all.
        count: u64,
    },
    /// The caller cancelled.
    #[error("loading {} was cancelled", Shown(name))]
    Cancelled {
        /// The source.
        name: String,
    },
    /// The deadline passed.
    #[error("loading {} did not finish before its deadline", Shown(name))]
    Deadline {
        /// The source.
        name: String,
    },
}

/// The names given of `count`, and how many more there are.
fn listed(names: &[String], count: usize) -> String {
    let shown: Vec<_> = names.iter().map(|n| Shown(n).to_string()).collect();
    let text = shown.join(", ");
    match count.saturating_sub(names.len()) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

impl LoadError {
    /// True when the same load may succeed later.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Deadline { .. })
    }
}
