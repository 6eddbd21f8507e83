//! Where the files of a model lie, and what a directory holds.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::file::{find, handle_of, place_of};
use super::model::{INDEX_NAME, file_name, is_index_name};
use super::retry::asked;
use super::{Control, FileSource, LoadError};
use crate::cache;
use crate::format::gguf::PartName;
use crate::format::{Excerpt, FormatError, index};

/// What `path` leads to; `None` where there is nothing. That nobody could say is
/// an error, and never an answer.
fn found(path: &Path, called: &Path) -> Result<Option<Metadata>, LoadError> {
    match asked(|| std::fs::metadata(path)) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if is_nothing(&error) => Ok(None),
        Err(error) => Err(LoadError::not_opened(called, error)),
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

pub(super) fn is_directory(path: &Path) -> Result<bool, LoadError> {
    Ok(found(path, path)?.is_some_and(|meta| meta.is_dir()))
}

/// Where the files of a model lie: their directory, held from before the first is
/// opened, so that all are of the same one, whatever takes its name meanwhile.
pub(super) struct Place {
    dir: File,
}

impl Place {
    /// The place of the model that `path` is a file of.
    pub(super) fn of(path: &Path) -> Result<Self, LoadError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = find(dir.unwrap_or(Path::new(".")), OFlags::DIRECTORY);
        let dir = dir.map_err(|error| LoadError::not_opened(path, error))?;
        Ok(Self { dir })
    }

    /// The file of that name in it.
    fn at(&self, called: &Path) -> PathBuf {
        let dir = handle_of(&self.dir);
        // Without /proc there are names only. They do for a file that is named; where
        // one of a directory lies nobody can tell then, and it is refused.
        match dir.is_dir() {
            true => dir.join(called.file_name().unwrap_or_default()),
            false => called.to_owned(),
        }
    }

    /// Whether what lies at `place`, links followed, may be a file of the model:
    /// it lies in the directory, or among the blobs of the Hugging Face cache that
    /// the directory is a snapshot of, or a folder in one.
    pub(super) fn holds(&self, place: &Path) -> io::Result<bool> {
        let dir = place_of(&self.dir)?;
        let blobs = cache::blobs_of(&dir);
        Ok(place.starts_with(&dir) || blobs.is_some_and(|blobs| place.starts_with(blobs)))
    }

    /// Opens what the caller named, wherever it leads.
    pub(super) fn named(&self, called: &Path) -> Result<FileSource, LoadError> {
        FileSource::open_as(&self.at(called), called)
    }

    /// Opens what was found in the directory.
    pub(super) fn found(&self, called: &Path) -> Result<FileSource, LoadError> {
        FileSource::open_within(&self.at(called), called, |place| self.holds(place))
    }

    /// Opens a file of the model that `by` names.
    pub(super) fn part(&self, called: &Path, by: &Path) -> Result<FileSource, LoadError> {
        let refused = |source| LoadError::Format {
            name: by.display().to_string(),
            source,
        };
        index::check_file_name(&file_name(called)).map_err(refused)?;
        // What the name leads to is to be told of who gave it.
        if let Err(source) = asked(|| std::fs::metadata(self.at(called))) {
            let path = Excerpt::new(&called.display().to_string());
            return Err(refused(FormatError::Path { path, source }));
        }
        self.found(called)
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
    /// Those of `dir`, which `place` is, while `control` lets it go on. What is
    /// called like a model and is no file, as a directory is not, is passed over;
    /// a link that leads nowhere is not. More than `most` are refused: nobody
    /// could load them.
    pub(super) fn of(
        dir: &Path,
        place: &Place,
        most: u64,
        control: &Control,
    ) -> Result<Self, LoadError> {
        let index = dir.join(INDEX_NAME);
        if found(&place.at(&index), &index)?.is_some_and(|meta| meta.is_file()) {
            return Ok(Self {
                indices: vec![index],
                files: Vec::new(),
            });
        }
        let name = dir.display().to_string();
        let unreadable = |error| LoadError::not_opened(dir, error);
        let (mut all, mut count) = (Self::default(), 0_u64);
        let listed = handle_of(&place.dir);
        for entry in asked(|| std::fs::read_dir(&listed)).map_err(unreadable)? {
            control.check(&name)?;
            let path = dir.join(entry.map_err(unreadable)?.file_name());
            let file = file_name(&path);
            let model = file.ends_with(".safetensors") || file.ends_with(".gguf");
            let later_part = PartName::parse(&file).is_some_and(|part| part.number > 1);
            let list = match (is_index_name(&file), model && !later_part) {
                (true, _) => &mut all.indices,
                (false, true) => &mut all.files,
                (false, false) => continue,
            };
            // Something that is there and no file.
            if found(&place.at(&path), &path)?.is_some_and(|meta| !meta.is_file()) {
                continue;
            }
            list.push(path);
            count = count.saturating_add(1);
            if count > most {
                let source = FormatError::TooLarge {
                    field: "number of model files in the directory",
                    value: count,
                    limit: most,
                    setting: Some("index_files"),
                };
                return Err(LoadError::Format { name, source });
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;
    use crate::format::ReadAt;

    fn text(source: &FileSource) -> String {
        let mut out = vec![0; usize::try_from(source.len()).unwrap()];
        source.read_exact_at(0, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn escapes(answer: Result<FileSource, LoadError>) -> bool {
        let Err(LoadError::Format { source, .. }) = answer else {
            return false;
        };
        matches!(source, FormatError::Escapes { .. })
    }

    // requirement: VA-10
    #[test]
    fn all_files_are_of_the_directory_that_was_there_first() {
        let top = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| top.path().join(name));
        for (dir, text) in [(&one, "old"), (&two, "new")] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("part"), text).unwrap();
        }
        let part = one.join("part");
        let place = Place::of(&part).unwrap();
        let exchange = || renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
        for _ in 0..2 {
            for source in [
                place.named(&part),
                place.found(&part),
                place.part(&part, &part),
            ] {
                let source = source.unwrap();
                assert_eq!((source.path(), text(&source).as_str()), (&*part, "old"));
            }
            exchange();
        }
        // What the model is does not change with its name, either.
        let link = one.join("link");
        symlink(two.join("part"), &link).unwrap();
        assert!(escapes(place.found(&link)));
        exchange();
        assert_eq!(text(&place.found(&link).unwrap()), "old");
    }

    // requirement: VA-10
    #[test]
    fn links_lead_into_the_directory_or_the_blobs_of_its_cache() {
        let cache = tempfile::tempdir().unwrap();
        let names = ["snapshots/r1", "snapshots/r2", "snapshots/r1twin", "blobs"];
        let [dir, other, twin, blobs] = names.map(|name| cache.path().join(name));
        for dir in [&dir, &other, &twin, &blobs] {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("part"), "text").unwrap();
        }
        fs::write(cache.path().join("part"), "text").unwrap();
        let place = Place::of(&dir.join("part")).unwrap();
        for (name, target, holds) in [
            ("inside", "part", true),
            ("blob", "../../blobs/part", true),
            ("revision", "../r2/part", false),
            ("cache", "../../part", false),
            ("twin", "../r1twin/part", false),
        ] {
            symlink(target, dir.join(name)).unwrap();
            let link = dir.join(name);
            for answer in [place.found(&link), place.part(&link, &link)] {
                assert_eq!(answer.is_ok(), holds, "{name}");
                assert_eq!(escapes(answer), !holds, "{name}");
            }
        }
        // A repository may keep each of its models in a folder.
        let folder = dir.join("Q4");
        fs::create_dir(&folder).unwrap();
        for (name, target, holds) in [
            ("blob", "../../../blobs/part", true),
            ("inside", "blob", true),
            ("above", "../part", false),
            ("revision", "../../r2/part", false),
        ] {
            let link = folder.join(name);
            symlink(target, &link).unwrap();
            let found = Place::of(&link).unwrap().found(&link);
            assert_eq!(found.is_ok(), holds, "{name}");
            assert_eq!(escapes(found), !holds, "{name}");
        }
        // Only a snapshot has blobs.
        let place = Place::of(&other.parent().unwrap().join("part")).unwrap();
        assert!(!place.holds(&blobs.join("part")).unwrap());
        for name in ["loop", "nowhere"] {
            symlink(name, dir.join("loop")).ok();
            let place = Place::of(&dir.join(name)).unwrap();
            let Err(LoadError::Format { name: by, source }) = place.part(&dir.join(name), &dir)
            else {
                panic!("{name} was opened");
            };
            assert_eq!(by, dir.display().to_string());
            assert!(matches!(source, FormatError::Path { .. }), "{source}");
        }
    }

    /// A socket cannot be opened at all: who tries is told so by the system.
    // requirement: VA-10
    #[test]
    fn what_is_refused_was_not_opened() {
        let top = tempfile::tempdir().unwrap();
        let socket = top.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let dir = top.path().join("model");
        fs::create_dir(&dir).unwrap();
        symlink("../socket", dir.join("link")).unwrap();
        let place = Place::of(&dir.join("link")).unwrap();
        assert!(escapes(place.found(&dir.join("link"))));
        let opened = place.named(&dir.join("link")).err().unwrap();
        assert!(matches!(opened, LoadError::Open { .. }), "{opened}");
    }
}
