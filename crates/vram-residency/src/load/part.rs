//! One file of a model, or one that is named by itself: opened, and its header
//! read.

use std::path::Path;
use std::time::Duration;

use super::place::Place;
use super::{
    FileIdentity, FileSource, FormatChoice, Header, LoadError, Noted, Opening, SealRequest, Watched,
};
use crate::capacity::plan::{PlanPart, padding};
use crate::format::{Format, ReadAt, TensorTable};
use crate::text::is_hidden;

/// One file, open, with its table.
pub struct Part {
    source: FileSource,
    format: Format,
    table: TensorTable,
    /// What the table was made of.
    header: Header,
    /// Time that opening it took.
    took: Duration,
}

impl Part {
    /// Opens a file and reads its header. `before` is what the tables of other
    /// files take.
    pub(super) fn open(
        called: &Path,
        before: u64,
        (choice, opening): (FormatChoice, &Opening),
        open: impl FnOnce() -> Result<FileSource, LoadError>,
    ) -> Result<Self, LoadError> {
        let (part, took) = opening.timed(called, |control| {
            let source = open()?;
            let extension = source.path().extension();
            let extension = extension.and_then(|extension| extension.to_str());
            let watched = Watched(&source, control);
            let noted = Noted::new(&watched);
            let found = choice.found_beside(&noted, extension, opening.bounds(), before);
            let (format, table) = found.map_err(|error| LoadError::Format {
                name: called.display().to_string(),
                source: error,
            })?;
            let header = noted.into_header();
            Ok((source, format, table, header))
        })?;
        let (source, format, table, header) = part;
        Ok(Self {
            source,
            format,
            table,
            header,
            took,
        })
    }

    /// It has taken so much more time.
    pub(super) fn also_took(&mut self, time: Duration) {
        self.took = self.took.saturating_add(time);
    }

    /// The file as the model calls it: links are not followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.source.len()
    }

    /// How its bytes are read.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Its tensors; empty for plain bytes.
    #[must_use]
    pub const fn tensors(&self) -> &TensorTable {
        &self.table
    }

    /// The file, as it was when it was opened.
    #[must_use]
    pub const fn identity(&self) -> FileIdentity {
        self.source.opened()
    }

    /// Whether its name still leads to the file that was opened.
    pub(super) fn is_current(&self) -> bool {
        let now = FileIdentity::at(self.path());
        now.is_ok_and(|now| self.identity().difference(&now).is_none())
    }

    pub(super) fn lies_within(&self, place: &Place) -> Result<(), LoadError> {
        self.source.lies_within(|lies| place.holds(lies))
    }

    /// The request to seal it, for [`crate::VramManager::seal`] or
    /// [`crate::VramManager::seal_group`]. It brings the open file, its table and
    /// the time that they took.
    pub fn into_request(self) -> SealRequest<'static> {
        let name = self.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let shown = |c: char| if is_hidden(c) { '?' } else { c };
        let name: String = name.chars().map(shown).collect();
        SealRequest::parsed(self.source, self.table, self.header)
            .spent(self.took)
            .model_ref(&name)
    }
}

impl From<&Part> for PlanPart {
    fn from(part: &Part) -> Self {
        Self {
            name: part.path().display().to_string(),
            bytes: part.bytes(),
            padding: padding(part.table.data_start()),
        }
    }
}
