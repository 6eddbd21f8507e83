//! Where the files of a model lie, and what a directory holds.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::model::{INDEX_NAME, file_name, is_index_name};
use super::retry::asked;
use super::{FileSource, LoadError};
use crate::format::gguf::PartName;
use crate::format::index;

/// What a name leads to; `None` where there is nothing. That nobody could say is
/// an error, and never an answer.
fn found(path: &Path) -> Result<Option<Metadata>, LoadError> {
    match asked(|| std::fs::metadata(path)) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if is_nothing(&error) => Ok(None),
        Err(error) => Err(LoadError::not_opened(path, error)),
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

pub(super) fn is_directory(path: &Path) -> Result<bool, LoadError> {
    Ok(found(path)?.is_some_and(|meta| meta.is_dir()))
}

/// Whether there is something under that name that is no file.
fn is_no_file(path: &Path) -> Result<bool, LoadError> {
    Ok(found(path)?.is_some_and(|meta| !meta.is_file()))
}

/// Where the files of a model lie, settled once: both are real paths.
pub(super) struct Place {
    dir: PathBuf,
    root: PathBuf,
}

impl Place {
    /// The place of the model that `path` is a file of.
    pub(super) fn of(path: &Path) -> Result<Self, LoadError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let dir = asked(|| dir.canonicalize());
        let dir = dir.map_err(|error| LoadError::not_opened(path, error))?;
        let root = root_of(&dir)?;
        Ok(Self { dir, root })
    }

    /// The directory that the files may not leave.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens what was found in the directory.
    pub(super) fn found(&self, path: &Path) -> Result<FileSource, LoadError> {
        FileSource::open_within(&self.root, path, path)
    }

    /// Opens a file of the model that `by` names.
    pub(super) fn part(&self, called: &Path, by: &Path) -> Result<FileSource, LoadError> {
        let name = file_name(called);
        let real = asked(|| index::resolve(&self.root, &self.dir, &name));
        let real = real.map_err(|source| LoadError::Format {
            name: by.display().to_string(),
            source,
        })?;
        FileSource::open_within(&self.root, &real, called)
    }
}

/// The directory that the files of a model may not leave: its own, or that of
/// the Hugging Face cache that it is a snapshot of.
fn root_of(dir: &Path) -> Result<PathBuf, LoadError> {
    let cache = dir.parent().filter(|parent| parent.ends_with("snapshots"));
    match cache.and_then(Path::parent) {
        Some(cache) if is_directory(&cache.join("blobs"))? => Ok(cache.to_owned()),
        _ => Ok(dir.to_owned()),
    }
}

/// What may be a model in a directory, by name.
#[derive(Default)]
pub(super) struct Candidates {
    pub(super) indices: Vec<PathBuf>,
    /// Files of their own, and first parts.
    pub(super) files: Vec<PathBuf>,
}

impl Candidates {
    /// Those of `dir`. What is called like a model and is no file, as a directory
    /// is not, is passed over; a link that leads nowhere is not.
    pub(super) fn of(dir: &Path) -> Result<Self, LoadError> {
        let index = dir.join(INDEX_NAME);
        if found(&index)?.is_some_and(|meta| meta.is_file()) {
            return Ok(Self {
                indices: vec![index],
                files: Vec::new(),
            });
        }
        let unreadable = |error| LoadError::not_opened(dir, error);
        let mut all = Self::default();
        for entry in asked(|| std::fs::read_dir(dir)).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let file = file_name(&path);
            let model = file.ends_with(".safetensors") || file.ends_with(".gguf");
            let later_part = PartName::parse(&file).is_some_and(|part| part.number > 1);
            let list = match (is_index_name(&file), model && !later_part) {
                (true, _) => &mut all.indices,
                (false, true) => &mut all.files,
                (false, false) => continue,
            };
            if !is_no_file(&path)? {
                list.push(path);
            }
        }
        Ok(all)
    }
}
