//! A model on disk: one file, an index with its files, a split GGUF, or a
//! directory that holds one of these.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::{Candidates, Place, is_directory};
use super::{Control, FileSource, FormatChoice, LoadError, Opening, Part, SealRequest, Watched};
use crate::format::gguf::{PartName, Split, check_parts};
use crate::format::index::{self, Index};
use crate::format::{Format, FormatError, Limits};

/// Name that Hugging Face gives the index of a model in several files.
pub(super) const INDEX_NAME: &str = "model.safetensors.index.json";
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

impl Model {
    /// Opens a file, a `*.safetensors.index.json`, any part of a split GGUF, or
    /// a directory. What is found in a directory, and files that an index or a
    /// split names, must lie in the same directory, links followed (the loader
    /// rules of the sources, adopted in design 8); a Hugging Face cache may keep
    /// them in its `blobs`. The directory is held open, and what is found is asked
    /// where it lies before it is opened (Linux: through `/proc`), so no link and no
    /// other directory can take a place in between.
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

    pub(super) fn open_as(path: &Path, opening: &mut Opening) -> Result<Self, LoadError> {
        let (is_dir, asked) = opening.timed(path, |_| is_directory(path))?;
        if is_dir {
            let (path, place) = find(path, opening)?;
            return Self::of_file(&path, Some(place), asked, opening);
        }
        Self::of_file(path, None, asked, opening)
    }

    /// The model that a file is, or stands for. A link that the caller names is
    /// the caller's choice; one that was found in the directory `found` is not.
    fn of_file(
        path: &Path,
        found: Option<Place>,
        asked: Duration,
        opening: &mut Opening,
    ) -> Result<Self, LoadError> {
        let is_found = found.is_some();
        let place = found.map_or_else(|| Place::of(path), Ok)?;
        let open = || match is_found {
            true => place.found(path),
            false => place.named(path),
        };
        let parts = if Self::is_index(path) {
            indexed(path, &place, open, opening)?
        } else {
            let choice = match is_found {
                true => FormatChoice::Auto,
                false => opening.choice(),
            };
            let mut first = opening.one(path, choice, open)?;
            first.also_took(asked);
            match split_of(&first, opening)? {
                Some(split) => split_parts(first, split, &place, opening)?,
                None => vec![first],
            }
        };
        Ok(Self {
            name: file_name(path),
            parts,
        })
    }

    /// Whether `path` stands for several files, whatever they hold: an index, by
    /// its name, or a directory.
    ///
    /// # Errors
    /// [`LoadError::Open`] where the system cannot say.
    pub fn is_several(path: &Path) -> Result<bool, LoadError> {
        Ok(Self::is_index(path) || is_directory(path)?)
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

    /// Its files in order, to seal them one by one.
    #[must_use]
    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// One request a file, for [`crate::VramManager::seal`] or
    /// [`crate::VramManager::seal_group`].
    #[must_use]
    pub fn into_requests(self) -> Vec<SealRequest<'static>> {
        self.parts.into_iter().map(Part::into_request).collect()
    }
}

pub(super) fn file_name(path: impl AsRef<Path>) -> String {
    let name = path.as_ref().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn refused(path: &Path, source: FormatError) -> LoadError {
    LoadError::Format {
        name: path.display().to_string(),
        source,
    }
}

/// The one model in a directory, and where its files lie.
fn find(dir: &Path, opening: &Opening) -> Result<(PathBuf, Place), LoadError> {
    let ((mut found, place), _) = opening.timed(dir, |control| {
        let place = Place::of(&dir.join(INDEX_NAME))?;
        let most = opening.bounds().index_files;
        let found = Candidates::of(dir, &place, most, control)?;
        Ok((found, place))
    })?;
    let mut models = found.files;
    // The parts of an indexed model are no models of their own. More indices than
    // are shown are several models, whatever they name.
    if !models.is_empty() && found.indices.len() <= SHOWN {
        for path in &found.indices {
            let named = read_index(path, || place.found(path), opening)?;
            models.retain(|path| named.tensors_in(&file_name(path)).next().is_none());
        }
    }
    models.append(&mut found.indices);
    models.sort();
    let name = || dir.display().to_string();
    match models.as_slice() {
        [only] => Ok((only.clone(), place)),
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
pub(super) fn is_index_name(file: &str) -> bool {
    let rest = file.rsplit_once(INDEX_MIDDLE).map(|(_, rest)| rest);
    let variant = rest.and_then(|rest| rest.strip_suffix("json"));
    variant.is_some_and(|variant| {
        variant.is_empty() || (variant.ends_with('.') && variant.matches('.').count() == 1)
    })
}

fn read_index(
    path: &Path,
    open: impl FnOnce() -> Result<FileSource, LoadError>,
    opening: &Opening,
) -> Result<Index, LoadError> {
    let read = |control: &Control| {
        let source = open()?;
        let parsed = index::parse(&Watched(&source, control), opening.bounds());
        parsed.map_err(|error| refused(path, error))
    };
    Ok(opening.timed(path, read)?.0)
}

fn indexed(
    path: &Path,
    place: &Place,
    open: impl FnOnce() -> Result<FileSource, LoadError>,
    opening: &mut Opening,
) -> Result<Vec<Part>, LoadError> {
    let index = read_index(path, open, opening)?;
    let files = index.files().iter();
    let files: Vec<PathBuf> = files.map(|file| path.with_file_name(file)).collect();
    let parts = opening.parts(&files, FormatChoice::Auto, |file| place.part(file, path))?;
    let tables = index.files().iter().zip(&parts);
    let tables: Vec<_> = tables.map(|(f, p)| (f.as_str(), p.tensors())).collect();
    index.check_files(&tables).map_err(|e| refused(path, e))?;
    Ok(parts)
}

/// What a file says about the split of which it is a part.
fn split_of(part: &Part, opening: &Opening) -> Result<Option<Split>, LoadError> {
    if part.format() != Format::Gguf {
        return Ok(None);
    }
    let split = Split::of(part.tensors(), opening.bounds());
    split.map_err(|error| refused(part.path(), error))
}

/// All parts of the model that `first` is one of.
fn split_parts(
    first: Part,
    split: Split,
    place: &Place,
    opening: &mut Opening,
) -> Result<Vec<Part>, LoadError> {
    let path = first.path().to_owned();
    let pattern = PartName::parse(&file_name(&path));
    let pattern = pattern.filter(|pattern| pattern.count == split.count);
    let pattern = pattern.ok_or_else(|| LoadError::SplitName {
        name: path.display().to_string(),
        count: split.count,
    })?;
    let lies = first.lies_within(place);
    // It comes again as one of the parts.
    opening.keep(first);
    lies?;
    let names = (1..=split.count).map(|number| pattern.sibling(number));
    let files: Vec<PathBuf> = names.map(|name| path.with_file_name(name)).collect();
    let parts = opening.parts(&files, FormatChoice::Auto, |file| place.part(file, &path))?;
    let named: Vec<String> = files.iter().map(file_name).collect();
    let tables = named.iter().zip(&parts);
    let tables: Vec<_> = tables.map(|(f, p)| (f.as_str(), p.tensors())).collect();
    check_parts(&tables, opening.bounds()).map_err(|e| refused(&path, e))?;
    Ok(parts)
}
