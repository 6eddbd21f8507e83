//! A model on disk: one file, an index with its files, a split GGUF, or a
//! directory that holds one of these.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Control, FileSource, LoadError, Opening, SealRequest, Source, Watched};
use crate::capacity::plan::{PlanPart, padding};
use crate::format::gguf::{PartName, Split, check_parts};
use crate::format::index::{self, Index};
use crate::format::{self, Format, FormatError, Limits, ReadAt, TensorTable};
use crate::text::is_hidden;

/// Name that Hugging Face gives the index of a model in several files.
const INDEX_NAME: &str = "model.safetensors.index.json";
/// What comes before `json` or a variant and `json` in every index's name.
const INDEX_MIDDLE: &str = ".safetensors.index.";
/// Models of a directory with several that the refusal names.
const SHOWN: usize = 5;

/// A model's files, opened and checked against each other, in order. Reading
/// starts when the parts are sealed.
///
/// The files stay open until then, so that what is sealed is what was checked,
/// whatever happens to their names: a model of more files than the process may
/// open is refused (`RLIMIT_NOFILE`, often 1024 at first; `ulimit -n`). A load
/// takes two more for each file that it reads. Their tables stay in memory: a
/// name and about 80 bytes a tensor, some 30 MB for 200,000 tensors, which
/// [`Limits::table_bytes`] bounds for all files together; an index takes half as
/// much while a model is opened.
pub struct Model {
    name: String,
    parts: Vec<Part>,
}

/// One file of a model.
pub struct Part {
    source: FileSource,
    format: Format,
    table: TensorTable,
    /// Time that opening it took.
    took: Duration,
}

impl Part {
    /// Opens a file and reads its header; the name decides the format. `before`
    /// is what the tables of other files of the model take.
    fn open(
        path: &Path,
        before: u64,
        opening: &Opening,
        open: impl FnOnce() -> Result<FileSource, LoadError>,
    ) -> Result<Self, LoadError> {
        let (part, took) = opening.file(path, |control| {
            let source = open()?;
            let extension = source.path().extension();
            let extension = extension.and_then(|extension| extension.to_str());
            let header = Watched(&source, control);
            let found = format::detect_beside(extension, &header, &opening.limits, before);
            let (format, table) = found.map_err(|error| refused(&source.name(), error))?;
            Ok((source, format, table))
        })?;
        let (source, format, table) = part;
        Ok(Self {
            source,
            format,
            table,
            took,
        })
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

    fn file_name(&self) -> String {
        file_name(self.path())
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

impl Model {
    /// Opens a file, a `*.safetensors.index.json`, any part of a split GGUF, or
    /// a directory. What is found in a directory, and files that an index or a
    /// split names, must lie in the same directory, links followed (the loader
    /// rules of the sources, adopted in design 8); a Hugging Face cache may keep
    /// them in its `blobs`. The open files are asked where they lie (Linux:
    /// through `/proc`), so no link can take a file's place in between.
    ///
    /// # Errors
    /// [`LoadError`] naming the file and the rule it breaks.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::open_with(path, &Limits::default())
    }

    /// Like [`Model::open`] under the caller's limits.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: &Path, limits: &Limits) -> Result<Self, LoadError> {
        Opening::new().limits(limits.clone()).open(path)
    }

    pub(super) fn open_as(path: &Path, opening: &Opening) -> Result<Self, LoadError> {
        // A link that the caller names is the caller's choice; a link found
        // inside a directory is not.
        let is_dir = path.is_dir();
        let path = if is_dir {
            find(path, opening)?
        } else {
            path.to_owned()
        };
        let place = Place::of(&path, opening);
        let open = || match is_dir {
            true => FileSource::open_within(&place.root, &path, &path),
            false => FileSource::open(&path),
        };
        let parts = if Self::is_index(&path) {
            indexed(&path, open, &place)?
        } else {
            let first = Part::open(&path, 0, opening, open)?;
            match Split::of(&first.table, &opening.limits) {
                Ok(Some(split)) => {
                    // It comes again as one of the parts.
                    drop(first);
                    split_parts(&path, split, &place)?
                }
                Ok(None) => vec![first],
                Err(error) => return Err(refused(&path.display().to_string(), error)),
            }
        };
        Ok(Self {
            name: file_name(&path),
            parts,
        })
    }

    /// Whether `path` is named like an index (`NAME.safetensors.index.json`, or
    /// with a variant before `json`), which stands for several files.
    #[must_use]
    pub fn is_index(path: &Path) -> bool {
        is_index_name(&file_name(path))
    }

    /// What the model is called: the name of the file that was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Length of all files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts
            .iter()
            .map(Part::bytes)
            .fold(0, u64::saturating_add)
    }

    /// One request a file, for [`crate::VramManager::seal`] or
    /// [`crate::VramManager::seal_group`].
    #[must_use]
    pub fn into_requests(self) -> Vec<SealRequest<'static>> {
        let request = |part: Part| {
            let name = part.file_name();
            SealRequest::parsed(part.source, part.table)
                .spent(part.took)
                .model_ref(&printable(&name))
        };
        self.parts.into_iter().map(request).collect()
    }
}

fn file_name(path: impl AsRef<Path>) -> String {
    let name = path.as_ref().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if is_hidden(c) { '?' } else { c })
        .collect()
}

fn refused(name: &str, source: FormatError) -> LoadError {
    LoadError::Format {
        name: name.to_owned(),
        source,
    }
}

/// The one model in a directory.
fn find(dir: &Path, opening: &Opening) -> Result<PathBuf, LoadError> {
    let index = dir.join(INDEX_NAME);
    if index.is_file() {
        return Ok(index);
    }
    let name = || dir.display().to_string();
    let unreadable = |source| LoadError::Open {
        name: name(),
        source,
    };
    let (mut indices, mut found) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let file = file_name(&path);
        let model = file.ends_with(".safetensors") || file.ends_with(".gguf");
        let later_part = PartName::parse(&file).is_some_and(|part| part.number > 1);
        if is_index_name(&file) {
            indices.push(path);
        } else if model && !later_part {
            found.push(path);
        }
    }
    // The parts of an indexed model are no models of their own.
    let place = Place::of(&index, opening);
    for path in &indices {
        let named = place.index(path, || FileSource::open_within(&place.root, path, path))?;
        found.retain(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            named.tensors_in(&file).next().is_none()
        });
    }
    found.append(&mut indices);
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(LoadError::NoModel { name: name() }),
        several => Err(LoadError::Ambiguous {
            name: name(),
            count: several.len(),
            some: several.iter().take(SHOWN).map(file_name).collect(),
        }),
    }
}

/// Whether a file of this name is an index: Hugging Face's own name and others
/// that end like it, with the name of a variant (`fp16`) in between or not.
fn is_index_name(file: &str) -> bool {
    let rest = file.rsplit_once(INDEX_MIDDLE).map(|(_, rest)| rest);
    let variant = rest.and_then(|rest| rest.strip_suffix("json"));
    variant.is_some_and(|variant| {
        variant.is_empty() || (variant.ends_with('.') && variant.matches('.').count() == 1)
    })
}

/// The directory that the files of a model may not leave.
fn root_of(dir: &Path) -> PathBuf {
    let cache = dir.parent().filter(|parent| parent.ends_with("snapshots"));
    let cache = cache
        .and_then(Path::parent)
        .filter(|cache| cache.join("blobs").is_dir());
    cache.unwrap_or(dir).to_owned()
}

/// Where the files of a model lie, settled once: both are real paths.
struct Place<'o> {
    dir: PathBuf,
    root: PathBuf,
    opening: &'o Opening,
}

impl<'o> Place<'o> {
    /// The place of the model that `path` is a file of.
    fn of(path: &Path, opening: &'o Opening) -> Self {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let root = root_of(&dir);
        Self { dir, root, opening }
    }

    /// The file `name` of the model that `path` is a file of; `by` names it.
    fn part(&self, path: &Path, name: &str, by: &str, before: u64) -> Result<Part, LoadError> {
        let called = path.with_file_name(name);
        Part::open(&called, before, self.opening, || {
            let real = index::resolve(&self.root, &self.dir, name).map_err(|e| refused(by, e))?;
            FileSource::open_within(&self.root, &real, &called)
        })
    }

    /// An index of it.
    fn index(
        &self,
        path: &Path,
        open: impl FnOnce() -> Result<FileSource, LoadError>,
    ) -> Result<Index, LoadError> {
        let read = |control: &Control| {
            let source = open()?;
            let parsed = index::parse(&Watched(&source, control), &self.opening.limits);
            parsed.map_err(|error| refused(&source.name(), error))
        };
        Ok(self.opening.file(path, read)?.0)
    }
}

fn indexed(
    path: &Path,
    open: impl FnOnce() -> Result<FileSource, LoadError>,
    place: &Place<'_>,
) -> Result<Vec<Part>, LoadError> {
    let name = path.display().to_string();
    let index = place.index(path, open)?;
    let (mut parts, mut taken) = (Vec::new(), 0_u64);
    for file in index.files() {
        let part = place.part(path, file, &name, taken)?;
        taken = taken.saturating_add(part.table.memory());
        parts.push(part);
    }
    let tables = index.files().iter().zip(&parts);
    let tables: Vec<_> = tables.map(|(f, p)| (f.as_str(), &p.table)).collect();
    index.check_files(&tables).map_err(|e| refused(&name, e))?;
    Ok(parts)
}

fn split_parts(path: &Path, split: Split, place: &Place<'_>) -> Result<Vec<Part>, LoadError> {
    let whole = path.display().to_string();
    let pattern = PartName::parse(&file_name(path));
    let pattern = pattern.filter(|pattern| pattern.count == split.count);
    let pattern = pattern.ok_or_else(|| LoadError::SplitName {
        name: whole.clone(),
        count: split.count,
    })?;
    let (mut parts, mut taken) = (Vec::new(), 0_u64);
    for number in 1..=split.count {
        let sibling = pattern.sibling(number);
        let part = place.part(path, &sibling, &whole, taken)?;
        taken = taken.saturating_add(part.table.memory());
        parts.push((sibling, part));
    }
    let tables: Vec<_> = parts
        .iter()
        .map(|(name, part)| (name.as_str(), &part.table))
        .collect();
    check_parts(&tables, &place.opening.limits).map_err(|e| refused(&whole, e))?;
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}
