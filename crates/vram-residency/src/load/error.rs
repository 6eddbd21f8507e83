//! What can go wrong while reading a model. Every message names the source, with
//! what cannot be seen in its name escaped.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

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
        source: io::Error,
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
        source: io::Error,
    },
    /// Writing exported bytes failed.
    #[error("cannot write the exported bytes: {source}")]
    Write {
        /// The system's words.
        source: io::Error,
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
        /// `size`, `modification time`, `change time`, `identity`; `header` where
        /// other bytes were loaded than its tensors were read from; `number of
        /// files` where it became one of several.
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
    /// An index, or one part of a split model, that is to be taken for a model.
    #[error(
        "{} {what}, not a whole model; open that with all its files (Model::open), or choose the raw format for the bytes of this file alone",
        Shown(name)
    )]
    NotWhole {
        /// The file.
        name: String,
        /// What it is.
        what: String,
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
    /// What `path` leads to cannot be opened, or not even found.
    pub(super) fn not_opened(path: &Path, source: io::Error) -> Self {
        let name = path.display().to_string();
        Self::Open { name, source }
    }

    /// True when the same load may succeed later: reading failed, or took too
    /// long, or the file was being written. What stays true of a name, the
    /// rights to it or the contents is not retriable.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Open { source, .. } => !stays(source),
            Self::Format { source, .. } => match source.rule() {
                FormatError::Io { .. } => true,
                FormatError::Path { source, .. } => !stays(source),
                _ => false,
            },
            Self::Read { .. }
            | Self::Short { .. }
            | Self::Changed { .. }
            | Self::Deadline { .. } => true,
            _ => false,
        }
    }

    /// The source that it is about; `None` where it is about none.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        match self {
            Self::Open { name, .. }
            | Self::NotRegular { name }
            | Self::Read { name, .. }
            | Self::Short { name, .. }
            | Self::Changed { name, .. }
            | Self::Format { name, .. }
            | Self::NoModel { name }
            | Self::Ambiguous { name, .. }
            | Self::SplitName { name, .. }
            | Self::NotWhole { name, .. }
            | Self::Cancelled { name }
            | Self::Deadline { name } => Some(name),
            Self::Write { .. } => None,
        }
    }
}

/// Whether a failure to open or to follow a name says something about the name, the rights or the
/// limits of this process, which waiting does not change.
fn stays(error: &io::Error) -> bool {
    use Errno as E;
    let names = [
        E::NOENT,
        E::NOTDIR,
        E::ISDIR,
        E::NAMETOOLONG,
        E::LOOP,
        E::INVAL,
    ];
    let rights = [E::ACCESS, E::PERM, E::MFILE];
    let told = Errno::from_io_error(error);
    let kind = error.kind();
    told.is_some_and(|told| names.contains(&told) || rights.contains(&told))
        || kind == ErrorKind::NotFound
        || kind == ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_does_not_change_is_not_tried_again() {
        let open = |source: io::Error| LoadError::Open {
            name: "model".to_owned(),
            source,
        };
        for (error, may_pass) in [
            (Errno::IO, true),
            (Errno::STALE, true),
            (Errno::TIMEDOUT, true),
            (Errno::NFILE, true),
            (Errno::NOENT, false),
            (Errno::ACCESS, false),
            (Errno::PERM, false),
            (Errno::LOOP, false),
            (Errno::NOTDIR, false),
            (Errno::NAMETOOLONG, false),
            (Errno::MFILE, false),
        ] {
            assert_eq!(open(error.into()).is_retriable(), may_pass, "{error}");
        }
        let told = io::Error::new(ErrorKind::NotFound, "no /proc");
        assert!(!open(told).is_retriable());
        let format = |source| LoadError::Format {
            name: "model".to_owned(),
            source,
        };
        let read = FormatError::Io {
            offset: 0,
            len: 8,
            source: Errno::IO.into(),
        };
        let read = FormatError::In {
            place: "header".to_owned(),
            source: Box::new(read),
        };
        assert!(format(read).is_retriable());
        for (errno, may_pass) in [
            (Errno::IO, true),
            (Errno::STALE, true),
            (Errno::NOENT, false),
            (Errno::LOOP, false),
        ] {
            let path = FormatError::Path {
                path: "part".into(),
                source: errno.into(),
            };
            assert_eq!(format(path).is_retriable(), may_pass, "{errno}");
        }
        assert!(!format(FormatError::BigEndian).is_retriable());
    }
}
