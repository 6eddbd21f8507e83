//! `model.safetensors.index.json`: one model in several safetensors files.
//!
//! The file maps each tensor to the file that holds it and gives the bytes of
//! all tensors. Its file names come from outside, so each must be one plain
//! name, and [`resolve`] follows symbolic links before it lets a file count as
//! part of the model.
//!
//! requirement: VA-10, CO-6

use super::error::{Excerpt, FormatError, named};
use super::json::{Fields, Json, Object, Reader, Skipped};
use super::limits::Limits;
use super::source::{ReadAt, read_pages};
use super::table::{TensorTable, check_name};
use serde::de::{DeserializeSeed, MapAccess};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest file name taken from an index: `NAME_MAX` of Linux.
const MAX_FILE_NAME: u64 = 255;

/// Integers up to here are exact in JSON numbers written as floats.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A parsed index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    total_size: Option<u64>,
    files: Vec<String>,
    /// Tensor name and position in `files`, in the order of names.
    weight_map: Vec<(String, u32)>,
    /// Positions in `weight_map` in the order of files.
    by_file: Vec<u32>,
}

impl Index {
    /// Bytes of all tensors, as the index claims; many public indices are
    /// wrong here, so it is information, not a bound.
    #[must_use]
    pub fn total_size(&self) -> Option<u64> {
        self.total_size
    }

    /// The files of the model in the order of their names, each once.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Tensors and their files, in the order of tensor names.
    pub fn weight_map(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map
            .iter()
            .filter_map(|(tensor, file)| Some((tensor.as_str(), self.file(*file)?)))
    }

    /// The file that holds `tensor`.
    #[must_use]
    pub fn file_of(&self, tensor: &str) -> Option<&str> {
        let found = self
            .weight_map
            .binary_search_by(|entry| entry.0.as_str().cmp(tensor));
        let (_, file) = self.weight_map.get(found.ok()?)?;
        self.file(*file)
    }

    /// The tensors that the index places in `file`, in the order of names.
    pub fn tensors_in(&self, file: &str) -> impl Iterator<Item = &str> {
        let entry = |i: &u32| self.weight_map.get(usize::try_from(*i).ok()?);
        let number = self.files.binary_search_by(|f| f.as_str().cmp(file));
        let number = number.ok().and_then(|n| u32::try_from(n).ok());
        let start = self
            .by_file
            .partition_point(|i| entry(i).map(|e| e.1) < number);
        let rest = self.by_file.get(start..).unwrap_or_default();
        rest.iter()
            .filter_map(entry)
            .take_while(move |e| Some(e.1) == number)
            .map(|e| e.0.as_str())
    }

    fn file(&self, position: u32) -> Option<&str> {
        let file = self.files.get(usize::try_from(position).ok()?)?;
        Some(file)
    }

    /// Holds the table of `file` against the index: every tensor mapped to the
    /// file must be in it, and none that is mapped elsewhere. Gives the
    /// tensors that the index does not list at all; loaders take them too.
    ///
    /// # Errors
    /// [`FormatError::Set`] naming the file and the tensor.
    pub fn check_file<'t>(
        &self,
        file: &str,
        table: &'t TensorTable,
    ) -> Result<Vec<&'t str>, FormatError> {
        let wrong = |reason: String| FormatError::Set {
            part: file.into(),
            reason,
        };
        let absent = self
            .tensors_in(file)
            .find(|tensor| table.get(tensor).is_none());
        if let Some(tensor) = absent {
            let tensor = Excerpt::new(tensor);
            return Err(wrong(format!(
                "has no tensor \"{tensor}\", which the index places there"
            )));
        }
        let mut unlisted = Vec::new();
        for tensor in table.iter_by_name() {
            match self.file_of(&tensor.name) {
                None => unlisted.push(tensor.name.as_str()),
                Some(place) if place == file => {}
                Some(place) => {
                    return Err(wrong(format!(
                        "has tensor \"{}\", which the index places in \"{}\"",
                        Excerpt::new(&tensor.name),
                        Excerpt::new(place)
                    )));
                }
            }
        }
        Ok(unlisted)
    }

    /// Holds the tables of all files against the index, each as
    /// [`Index::check_file`] does, and against each other: a tensor that the
    /// index does not list may be in one file only.
    ///
    /// # Errors
    /// [`FormatError::Set`] naming the tensor and its file, or both files.
    pub fn check_files(&self, files: &[(&str, &TensorTable)]) -> Result<(), FormatError> {
        let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
        for (file, table) in files {
            for tensor in self.check_file(file, table)? {
                if let Some(other) = holders.insert(tensor, file) {
                    return Err(FormatError::Set {
                        part: (*file).into(),
                        reason: format!(
                            "has tensor \"{}\", and so has \"{}\"; the index lists it for neither",
                            Excerpt::new(tensor),
                            Excerpt::new(other)
                        ),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Reads an index.
///
/// # Errors
/// Every variant of [`FormatError`] that is about JSON, names or counts, and
/// [`FormatError::LfsPointer`] where git-LFS left a pointer in its place.
pub fn parse(src: &dyn ReadAt, limits: &Limits) -> Result<Index, FormatError> {
    super::lfs::refuse_pointer(src)?;
    if src.len() > limits.index_bytes {
        return Err(FormatError::TooLarge {
            field: "index length",
            value: src.len(),
            limit: limits.index_bytes,
        });
    }
    let text = read_pages(src, 0, src.len(), "index")?;
    Reader::run(limits, &text, |reader, json: &mut Json<'_>| {
        let empty = Document {
            reader,
            metadata: None,
            weight_map: None,
        };
        Object(empty).deserialize(json).map(Document::finish)
    })?
}

/// The whole document; keys that other tools add are passed over.
struct Document<'r> {
    reader: &'r Reader<'r>,
    metadata: Option<Option<u64>>,
    weight_map: Option<WeightMap<'r>>,
}

impl<'de> Fields<'de> for Document<'_> {
    const EXPECTING: &'static str = "an object with metadata and weight_map";

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        match key.as_str() {
            "metadata" => {
                reader.once(&self.metadata, "key", &key)?;
                let empty = Metadata {
                    reader,
                    total_size: None,
                };
                self.metadata = Some(map.next_value_seed(Object(empty))?.total_size);
            }
            "weight_map" => {
                reader.once(&self.weight_map, "key", &key)?;
                let empty = WeightMap {
                    reader,
                    files: BTreeMap::new(),
                    entries: Vec::new(),
                };
                self.weight_map = Some(map.next_value_seed(Object(empty))?);
            }
            _ => {
                map.next_value_seed(Skipped::new(reader))?;
            }
        }
        Ok(())
    }
}

impl Document<'_> {
    /// Gives the files their final order and refuses tensors listed twice.
    fn finish(self) -> Result<Index, FormatError> {
        let missing = || FormatError::Missing {
            of: "index".into(),
            field: "weight_map",
        };
        let found = self.weight_map.ok_or_else(missing)?;
        if found.entries.is_empty() {
            return Err(FormatError::Missing {
                of: "weight_map".into(),
                field: "tensor, so the index stands for no file",
            });
        }
        // Files are numbered as they came; the index wants them by name.
        let order = found.files.values().copied().zip(0_u32..);
        let rank: BTreeMap<u32, u32> = order.collect();
        let mut weight_map = found.entries;
        for entry in &mut weight_map {
            entry.1 = rank.get(&entry.1).copied().unwrap_or(u32::MAX);
        }
        weight_map.sort_unstable();
        let mut pairs = weight_map.iter().zip(weight_map.iter().skip(1));
        if let Some((twin, _)) = pairs.find(|(a, b)| a.0 == b.0) {
            return Err(FormatError::Duplicate {
                what: "tensor",
                name: twin.0.as_str().into(),
            });
        }
        let mut by_file: Vec<(u32, u32)> = weight_map.iter().map(|e| e.1).zip(0..).collect();
        by_file.sort_unstable();
        Ok(Index {
            total_size: self.metadata.flatten(),
            files: found.files.into_keys().collect(),
            by_file: by_file.into_iter().map(|(_, entry)| entry).collect(),
            weight_map,
        })
    }
}

struct Metadata<'r> {
    reader: &'r Reader<'r>,
    total_size: Option<u64>,
}

impl<'de> Fields<'de> for Metadata<'_> {
    const EXPECTING: &'static str = "an object with total_size";

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        if key != "total_size" {
            return map.next_value_seed(Skipped::new(self.reader));
        }
        self.reader.once(&self.total_size, "key", &key)?;
        let number = map.next_value::<serde_json::Number>()?;
        self.total_size = Some(self.reader.check(byte_count(&number))?);
        Ok(())
    }
}

/// A whole number of bytes; some exporters write it as a float.
fn byte_count(number: &serde_json::Number) -> Result<u64, FormatError> {
    let whole = number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        let exact = (0.0..=MAX_EXACT_FLOAT).contains(&float) && float.fract() == 0.0;
        // The decimal text of a whole float has no point: "123".
        exact.then(|| format!("{float:.0}").parse().ok()).flatten()
    });
    whole.ok_or_else(|| FormatError::BadValue {
        of: "metadata".into(),
        field: "total_size",
        value: number.to_string().as_str().into(),
        reason: "must be a whole number of bytes",
    })
}

struct WeightMap<'r> {
    reader: &'r Reader<'r>,
    files: BTreeMap<String, u32>,
    entries: Vec<(String, u32)>,
}

impl<'de> Fields<'de> for WeightMap<'_> {
    const EXPECTING: &'static str = "an object from tensor names to file names";

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        let limits = reader.limits;
        reader.check(check_name(
            "tensor",
            "tensor name length",
            &key,
            limits.name_bytes,
        ))?;
        let next = self.entries.len().saturating_add(1);
        reader.count("number of index entries", next, limits.index_entries)?;
        let file = map.next_value::<String>();
        let file = reader.within(|| named("tensor", &key), file)?;
        let number = match self.files.get(&file) {
            Some(number) => *number,
            None => {
                reader.check(check_file_name(&file))?;
                let next = self.files.len().saturating_add(1);
                reader.count("number of files", next, limits.index_files)?;
                let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
                self.files.insert(file, number);
                number
            }
        };
        self.entries.push((key, number));
        Ok(())
    }
}

/// Whether `name` is one plain file name: no directory, nothing hidden in it.
///
/// # Errors
/// [`FormatError::BadName`] with the rule, [`FormatError::TooLarge`] for more
/// than 255 bytes.
pub fn check_file_name(name: &str) -> Result<(), FormatError> {
    check_name("file name", "file name length", name, MAX_FILE_NAME)?;
    let reason = if name.contains(['/', '\\']) {
        "holds a path separator; the files of a model lie beside its index"
    } else if name == "." || name == ".." {
        "is a directory"
    } else {
        return Ok(());
    };
    Err(FormatError::BadName {
        what: "file name",
        name: name.into(),
        reason,
    })
}

/// The real path of `name` in `dir`, with all symbolic links followed, provided
/// that it lies under `root`. Pass `dir` itself as `root` unless its files are
/// known to be links out of it (a Hugging Face cache keeps them in `../../blobs`).
///
/// The caller opens the path given back, not the name.
///
/// # Errors
/// [`FormatError::BadName`] as [`check_file_name`]; [`FormatError::Escapes`]
/// where a link leads out of `root`.
/// [`FormatError::Path`] where a path does not exist or links form a loop.
pub fn resolve(root: &Path, dir: &Path, name: &str) -> Result<PathBuf, FormatError> {
    check_file_name(name)?;
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| FormatError::Path {
            path: Excerpt::new(&path.to_string_lossy()),
            source: error,
        })
    };
    let root = real(root)?;
    let file = real(&dir.join(name))?;
    if !file.starts_with(&root) {
        return Err(FormatError::Escapes { name: name.into() });
    }
    Ok(file)
}
