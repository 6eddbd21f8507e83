//! What to seal, and how.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vram_digest::FileDigest;

use super::source::ReaderSource;
use super::{
    CancelToken, FileIdentity, FileSource, Header, LoadError, Model, Progress, ProgressFn, Source,
    Staging,
};
use crate::audit::Text;
use crate::error::InputError;
use crate::format::gguf::Split;
use crate::format::{self, Format, FormatError, Limits, ReadAt, TensorTable};
use crate::hex;
use crate::seal::ShardPosition;
use crate::shard::{ModelRef, ShardId};
use crate::text::is_hidden;

/// How the format of a model is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FormatChoice {
    /// By contents and extension; an extension that lies is an error.
    #[default]
    Auto,
    /// As the caller says.
    Exactly(Format),
}

impl FormatChoice {
    /// The format and the tensors of a source; a file's extension has a say where
    /// nothing is chosen (requirement: CO-6). The tables of other files of the
    /// group take `before` bytes.
    pub(crate) fn found_beside(
        self,
        header: &dyn ReadAt,
        extension: Option<&str>,
        limits: &Limits,
        before: u64,
    ) -> Result<(Format, TensorTable), FormatError> {
        match self {
            Self::Exactly(Format::Raw) => Ok((Format::Raw, TensorTable::default())),
            Self::Exactly(format) => {
                let table = format::parse_beside(format, header, limits, before)?;
                Ok((format, table))
            }
            Self::Auto => format::detect_beside(extension, header, limits, before),
        }
    }

    /// Refuses to recognise an index: it would be plain bytes, and no weights.
    pub(crate) fn refuse_index(self, name: &str) -> Result<(), LoadError> {
        if self == Self::Auto && Model::is_index(Path::new(name)) {
            return Err(LoadError::NotWhole {
                name: name.to_owned(),
                what: "is an index of the files of a model".to_owned(),
            });
        }
        Ok(())
    }
}

/// Refuses one part of a split model.
pub(crate) fn refuse_part(
    name: &str,
    (format, table): (Format, &TensorTable),
    limits: &Limits,
) -> Result<(), LoadError> {
    let split = match format {
        Format::Gguf => Split::of(table, limits),
        _ => Ok(None),
    };
    let split = split.map_err(|source| LoadError::Format {
        name: name.to_owned(),
        source,
    })?;
    split.map_or(Ok(()), |Split { number, count, .. }| {
        Err(LoadError::NotWhole {
            name: name.to_owned(),
            what: format!("is part {} of {count} of a model", number.saturating_add(1)),
        })
    })
}

/// A request to seal one shard. Everything but the source has a default.
#[must_use = "a request does nothing until it is passed to VramManager::seal"]
pub struct SealRequest<'a> {
    pub(crate) source: Result<Box<dyn Source + 'a>, LoadError>,
    pub(crate) extension: Option<String>,
    pub(crate) format: FormatChoice,
    pub(crate) limits: Limits,
    /// Memory that the tables of other members of the group take.
    pub(crate) tables_before: u64,
    /// Tensors that were already read from this very source, and of what.
    pub(crate) tensors: Option<(TensorTable, Header)>,
    pub(crate) ordinal: Option<u32>,
    pub(crate) id: Option<Result<ShardId, InputError>>,
    /// The caller chose the id.
    pub(crate) named: bool,
    pub(crate) model_ref: Option<Result<ModelRef, InputError>>,
    pub(crate) position: Option<Result<ShardPosition, InputError>>,
    pub(crate) expect: Option<Result<FileDigest, InputError>>,
    pub(crate) expect_content: Option<Result<[u8; 32], InputError>>,
    pub(crate) content: bool,
    pub(crate) dedupe: bool,
    pub(crate) progress: Option<ProgressFn>,
    pub(crate) cancel: CancelToken,
    pub(crate) timeout: Option<Duration>,
    pub(crate) spent: Duration,
    pub(crate) staging: Staging,
    pub(crate) correlation_id: Option<Text>,
}

impl<'a> SealRequest<'a> {
    fn new(source: Result<Box<dyn Source + 'a>, LoadError>) -> Self {
        Self {
            source,
            extension: None,
            format: FormatChoice::Exactly(Format::Raw),
            limits: Limits::default(),
            tables_before: 0,
            tensors: None,
            ordinal: None,
            id: None,
            named: false,
            model_ref: None,
            position: None,
            expect: None,
            expect_content: None,
            content: false,
            dedupe: false,
            progress: None,
            cancel: CancelToken::new(),
            timeout: None,
            spent: Duration::ZERO,
            staging: Staging::default(),
            correlation_id: None,
        }
    }

    /// Bytes in memory, sealed as they are.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self::new(Ok(Box::new(bytes)))
    }

    /// A file that is a whole model; its format is recognised. A failure to open
    /// it is reported by `seal`, and so is an index, which leads to a model
    /// ([`super::Model`]), unless a format is chosen. One part of a split GGUF is
    /// refused as well unless it is a member of a group, has a
    /// [`SealRequest::position`], or is to be raw bytes.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let source = FileSource::open(path);
        let mut request = Self::new(source.map(|source| Box::new(source) as Box<dyn Source>));
        request.format = FormatChoice::Auto;
        request.extension = path.extension().map(|e| e.to_string_lossy().into_owned());
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        request.model_ref = name.map(|name| {
            let printable = |c: char| if is_hidden(c) { '?' } else { c };
            ModelRef::try_from(name.chars().map(printable).collect::<String>())
        });
        request
    }

    /// A reader of exactly `len` bytes, such as a pipe. Raw bytes: a pipe
    /// cannot be searched for tensors before it is loaded.
    ///
    /// It must end after these bytes, which is asked of it: a pipe whose other end
    /// stays open does not; pass [`Read::take`] of one that is to be left open. A
    /// read that blocks is waited for: timeout and token count again when it comes
    /// back.
    pub fn reader(reader: impl Read + Send + 'a, len: u64) -> Self {
        Self::new(Ok(Box::new(ReaderSource::new(reader, len))))
    }

    /// A file of a [`super::Model`], opened and parsed.
    pub(super) fn parsed(source: FileSource, tensors: TensorTable, header: Header) -> Self {
        let mut request = Self::new(Ok(Box::new(source)));
        request.tensors = Some((tensors, header));
        request
    }

    /// A source of one's own.
    pub fn source(source: impl Source + 'a) -> Self {
        Self::new(Ok(Box::new(source)))
    }

    /// The file that it reads, as it was when it was opened; `None` where it is
    /// no file or could not be opened. Who opens the files of one model again
    /// tells by it whether they are still those of before.
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        self.source.as_ref().ok()?.identity()
    }

    /// The device; the manager's first one by default.
    pub fn device(mut self, ordinal: u32) -> Self {
        self.ordinal = Some(ordinal);
        self
    }

    /// The shard's name; random by default.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.parse());
        self.named = true;
        self
    }

    /// What the model is called; a file's name by default.
    pub fn model_ref(mut self, name: &str) -> Self {
        self.model_ref = Some(name.parse());
        self
    }

    /// Position in a model of several shards (requirement: API-F17, VA-6).
    pub fn position(mut self, index: u32, total: u32) -> Self {
        self.position = Some(ShardPosition::new(index, total));
        self
    }

    /// How to find the format.
    pub fn format(mut self, format: FormatChoice) -> Self {
        self.format = format;
        self
    }

    /// What a header may claim (requirement: VA-10). A file of a
    /// [`super::Model`] was parsed when that was opened.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The fs-verity digest that the bytes in VRAM must have, 64 lower-case
    /// hex digits; anything else seals nothing (requirement: DG-4, WORKER-4223).
    pub fn expect(mut self, digest: &str) -> Self {
        let parsed = digest.parse::<FileDigest>();
        self.expect = Some(parsed.map_err(|error| InputError::Digest {
            field: "expected digest",
            reason: error.to_string(),
        }));
        self
    }

    /// The plain SHA-256 (`sha256sum`) that the source must have. One chain at
    /// about 1.4 GB/s: asked for, never default.
    pub fn expect_content(mut self, sha256: &str) -> Self {
        let parsed = hex::decode(sha256).ok_or_else(|| InputError::Digest {
            field: "expected content digest",
            reason: "expected 64 lower-case hex digits".to_owned(),
        });
        self.expect_content = Some(parsed);
        self.content = true;
        self
    }

    /// Records the plain SHA-256 of the source as well.
    pub fn with_content_digest(mut self) -> Self {
        self.content = true;
        self
    }

    /// Returns the shard that already holds these bytes on that device as the same
    /// tensors, if there is one, instead of a second copy (requirement: API-F18). Needs
    /// [`SealRequest::expect`], which is believed: the source is not read then.
    /// An id, a position or a content digest cannot be asked for as well.
    pub fn dedupe(mut self) -> Self {
        self.dedupe = true;
        self
    }

    /// Called as bytes reach the device, from several threads.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Lets others cancel the load.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// Gives up when it takes longer to read the header and to load all of the
    /// file; a load that ends later has failed. A member of a group does not pay
    /// for those before it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Time that this file has taken already, for opening it say: it counts
    /// against the timeout. A file of a [`super::Model`] brings its own.
    pub fn spent(mut self, time: Duration) -> Self {
        self.spent = self.spent.saturating_add(time);
        self
    }

    /// The staging memory that this load shares with others at the same time. The
    /// members of a group share one of their own.
    pub fn staging(mut self, staging: &Staging) -> Self {
        self.staging = staging.clone();
        self
    }

    /// Ties the events of this request together (requirement: AU-17).
    pub fn correlation_id(mut self, id: &str) -> Self {
        self.correlation_id = Some(Text::new(id));
        self
    }
}
