//! `model.safetensors.index.json`: one model in several safetensors files.
//!
//! The file maps each tensor to the file that holds it and gives the bytes of
//! all tensors. Its file names come from outside, so each must be one plain
//! name; where links lead is the business of who opens the files.
//!
//! requirement: VA-10, CO-6

use super::error::{Excerpt, FormatError, named};
use super::json::{AnyNumber, Fields, Json, Object, Reader, Skipped, Text};
use super::limits::{Bound, Limits, bound};
use super::source::{ReadAt, read_pages};
use super::table::{TensorTable, check_name};
use serde::de::{DeserializeSeed, Error, MapAccess};
use std::collections::BTreeMap;

/// Longest file name taken from an index: `NAME_MAX` of Linux.
const MAX_FILE_NAME: u64 = 255;

/// Shortest entry of the map: `"a":"b",`.
const MIN_ENTRY_BYTES: usize = 8;

/// Memory of a tensor besides its name: its entry, and its place by file.
const ENTRY_MEMORY: usize = size_of::<Entry>() + size_of::<u32>();

/// Memory of a file besides its name: its place among the others, and what
/// the allocator keeps.
const FILE_MEMORY: usize = 64;

/// Integers up to here are exact in JSON numbers written as floats.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A parsed index.
///
/// All names lie in one text: one by one they would take twice the memory.
#[derive(Clone, Debug, Default)]
pub struct Index {
    total_size: Option<u64>,
    files: Vec<String>,
    /// The names of all tensors, one after the other.
    names: String,
    /// In the order of names.
    weight_map: Vec<Entry>,
    /// Positions in `weight_map` in the order of files.
    by_file: Vec<u32>,
}

/// A tensor's name, and the position in `files` of its file.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the name starts in the text of all names.
    start: u32,
    /// Bytes of the name.
    len: u32,
    file: u32,
}

impl Entry {
    /// The name in the text of all names.
    fn name(self, names: &str) -> &str {
        let start = usize::try_from(self.start).unwrap_or(usize::MAX);
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let rest = names.get(start..).unwrap_or_default();
        rest.get(..len).unwrap_or_default()
    }
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
            .filter_map(|entry| Some((entry.name(&self.names), self.file(entry.file)?)))
    }

    /// The file that holds `tensor`.
    #[must_use]
    pub fn file_of(&self, tensor: &str) -> Option<&str> {
        let found = self
            .weight_map
            .binary_search_by(|entry| entry.name(&self.names).cmp(tensor));
        self.file(self.weight_map.get(found.ok()?)?.file)
    }

    /// The tensors that the index places in `file`, in the order of names.
    pub fn tensors_in(&self, file: &str) -> impl Iterator<Item = &str> {
        let entry = |i: &u32| self.weight_map.get(usize::try_from(*i).ok()?);
        let number = self.files.binary_search_by(|f| f.as_str().cmp(file));
        let number = number.ok().and_then(|n| u32::try_from(n).ok());
        let start = self
            .by_file
            .partition_point(|i| entry(i).map(|e| e.file) < number);
        let rest = self.by_file.get(start..).unwrap_or_default();
        rest.iter()
            .filter_map(entry)
            .take_while(move |e| Some(e.file) == number)
            .map(|e| e.name(&self.names))
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
                None => unlisted.push(&*tensor.name),
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
        let mut unlisted: Vec<(&str, u32)> = Vec::new();
        for ((file, table), number) in files.iter().zip(0_u32..) {
            let found = self.check_file(file, table)?;
            unlisted.extend(found.into_iter().map(|tensor| (tensor, number)));
        }
        unlisted.sort_unstable();
        let mut pairs = unlisted.iter().zip(unlisted.iter().skip(1));
        let Some(((tensor, first), (_, second))) = pairs.find(|(a, b)| a.0 == b.0) else {
            return Ok(());
        };
        let called = |number: &u32| {
            let file = usize::try_from(*number).ok().and_then(|n| files.get(n));
            Excerpt::new(file.map_or("", |(file, _)| file))
        };
        Err(FormatError::Set {
            part: called(second),
            reason: format!(
                "has tensor \"{}\", and so has \"{}\"; the index lists it for neither",
                Excerpt::new(tensor),
                called(first)
            ),
        })
    }
}

/// Reads an index.
///
/// # Errors
/// Every variant of [`FormatError`] that is about JSON, names or counts, and
/// [`FormatError::LfsPointer`] where git-LFS left a pointer in its place.
pub fn parse(src: &dyn ReadAt, limits: &Limits) -> Result<Index, FormatError> {
    super::lfs::refuse_pointer(src)?;
    bound!(limits.index_bytes).check("index length", src.len())?;
    let text = read_pages(src, 0, src.len(), "index")?;
    Reader::run(limits, &text, |reader, json: &mut Json<'_>| {
        let empty = Document {
            reader,
            text_bytes: text.len(),
            metadata: None,
            weight_map: None,
        };
        Object(empty).deserialize(json).map(Document::finish)
    })?
}

/// The whole document; keys that other tools add are passed over.
struct Document<'r> {
    reader: &'r Reader<'r>,
    text_bytes: usize,
    metadata: Option<Option<u64>>,
    weight_map: Option<WeightMap<'r>>,
}

impl<'de> Fields<'de> for Document<'_> {
    const EXPECTING: &'static str = "an object with metadata and weight_map";

    type Key = Field;

    fn key<E: Error>(&self, key: &str) -> Result<Field, E> {
        Ok(match key {
            "metadata" => Field::Metadata,
            "weight_map" => Field::WeightMap,
            _ => Field::Other,
        })
    }

    fn field<A: MapAccess<'de>>(&mut self, key: Field, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        match key {
            Field::Metadata => {
                reader.once(&self.metadata, "key", || "metadata".to_owned())?;
                let empty = Metadata {
                    reader,
                    total_size: None,
                };
                self.metadata = Some(map.next_value_seed(Object(empty))?.total_size);
            }
            Field::WeightMap => {
                reader.once(&self.weight_map, "key", || "weight_map".to_owned())?;
                let empty = WeightMap::with_room(reader, self.text_bytes);
                self.weight_map = Some(map.next_value_seed(Object(empty))?);
            }
            Field::Other => map.next_value_seed(Skipped::new(reader))?,
        }
        Ok(())
    }
}

/// What stands in a document.
enum Field {
    Metadata,
    WeightMap,
    Other,
}

impl Document<'_> {
    /// The index, of which the map of tensors is required and names some.
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
        found.finish(self.metadata.flatten())
    }
}

/// What the metadata tells that is read.
const TOTAL_SIZE: &str = "total_size";

struct Metadata<'r> {
    reader: &'r Reader<'r>,
    total_size: Option<u64>,
}

impl<'de> Fields<'de> for Metadata<'_> {
    const EXPECTING: &'static str = "an object with total_size";

    /// Whether it is the one that is read.
    type Key = bool;

    fn key<E: Error>(&self, key: &str) -> Result<bool, E> {
        Ok(key == TOTAL_SIZE)
    }

    fn field<A: MapAccess<'de>>(&mut self, is_size: bool, map: &mut A) -> Result<(), A::Error> {
        if !is_size {
            return map.next_value_seed(Skipped::new(self.reader));
        }
        self.reader
            .once(&self.total_size, "key", || TOTAL_SIZE.to_owned())?;
        let number = map.next_value_seed(AnyNumber)?;
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
        field: TOTAL_SIZE,
        value: number.to_string().as_str().into(),
        reason: "must be a whole number of bytes",
    })
}

struct WeightMap<'r> {
    reader: &'r Reader<'r>,
    files: BTreeMap<String, u32>,
    names: String,
    entries: Vec<Entry>,
    /// Bytes that the index will take.
    memory: u64,
}

impl<'r> WeightMap<'r> {
    /// With room for what a text of so many bytes lists at most: a list that
    /// grows leaves holes of its former sizes, and room is touched as far as
    /// it is used.
    fn with_room(reader: &'r Reader<'r>, text_bytes: usize) -> Self {
        let most = usize::try_from(reader.limits.index_entries).unwrap_or(usize::MAX);
        let most = text_bytes.div_ceil(MIN_ENTRY_BYTES).min(most);
        let (mut names, mut entries) = (String::new(), Vec::new());
        // Where there is no such room they grow after all.
        let _ = names.try_reserve(text_bytes);
        let _ = entries.try_reserve(most);
        Self {
            reader,
            files: BTreeMap::new(),
            names,
            entries,
            memory: 0,
        }
    }

    /// The number of a file, in the order in which they came.
    fn number(&mut self, file: &str) -> Result<u32, FormatError> {
        if let Some(number) = self.files.get(file) {
            return Ok(*number);
        }
        let limits = self.reader.limits;
        check_file_name(file)?;
        let next = self.files.len().saturating_add(1);
        bound!(limits.index_files).check_count("number of files", next)?;
        self.take(FILE_MEMORY.saturating_add(file.len()))?;
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.insert(file.to_owned(), number);
        Ok(number)
    }

    /// Takes memory that the index will keep.
    fn take(&mut self, bytes: usize) -> Result<(), FormatError> {
        let limits = self.reader.limits;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.memory = self.memory.saturating_add(bytes);
        bound!(limits.index_table_bytes).check("memory for the index", self.memory)
    }

    /// Adds a tensor.
    fn push(&mut self, name: &str, file: u32) -> Result<(), FormatError> {
        self.take(ENTRY_MEMORY.saturating_add(name.len()))?;
        let start = self.names.len();
        let end = start.saturating_add(name.len());
        let most = Bound::fixed(u64::from(u32::MAX));
        most.check_count("bytes of tensor names", end)?;
        let narrow = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        self.names.push_str(name);
        self.entries.push(Entry {
            start: narrow(start),
            len: narrow(name.len()),
            file,
        });
        Ok(())
    }

    /// Gives the files their final order and refuses tensors listed twice.
    fn finish(self, total_size: Option<u64>) -> Result<Index, FormatError> {
        let (mut names, mut weight_map) = (self.names, self.entries);
        names.shrink_to_fit();
        weight_map.shrink_to_fit();
        // Files are numbered as they came; the index wants them by name.
        let order = self.files.values().copied().zip(0_u32..);
        let rank: BTreeMap<u32, u32> = order.collect();
        for entry in &mut weight_map {
            entry.file = rank.get(&entry.file).copied().unwrap_or(u32::MAX);
        }
        weight_map.sort_unstable_by(|a, b| a.name(&names).cmp(b.name(&names)));
        let mut pairs = weight_map.iter().zip(weight_map.iter().skip(1));
        if let Some((twin, _)) = pairs.find(|(a, b)| a.name(&names) == b.name(&names)) {
            return Err(FormatError::Duplicate {
                what: "tensor",
                name: twin.name(&names).into(),
            });
        }
        let file_of = |i: &u32| {
            let entry = usize::try_from(*i).ok().and_then(|i| weight_map.get(i));
            entry.map_or(u32::MAX, |entry| entry.file)
        };
        let count = u32::try_from(weight_map.len()).unwrap_or(u32::MAX);
        let mut by_file: Vec<u32> = (0..count).collect();
        by_file.sort_unstable_by_key(|i| (file_of(i), *i));
        Ok(Index {
            total_size,
            files: self.files.into_keys().collect(),
            names,
            weight_map,
            by_file,
        })
    }
}

impl<'de> Fields<'de> for WeightMap<'_> {
    const EXPECTING: &'static str = "an object from tensor names to file names";

    type Key = String;

    fn key<E: Error>(&self, key: &str) -> Result<String, E> {
        let limits = self.reader.limits;
        let longest = bound!(limits.name_bytes);
        let checked = check_name("tensor", "tensor name length", key, longest);
        self.reader.check(checked.map(|()| key.to_owned()))
    }

    fn field<A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        let reader = self.reader;
        let limits = reader.limits;
        let next = self.entries.len().saturating_add(1);
        reader.count(
            "number of index entries",
            next,
            bound!(limits.index_entries),
        )?;
        let take = |file: &str| self.number(file);
        let file = map.next_value_seed(Text { reader, take });
        let number = reader.within(|| named("tensor", &key), file)?;
        reader.check(self.push(&key, number))
    }
}

/// Whether `name` is one plain file name: no directory, nothing hidden in it.
///
/// # Errors
/// [`FormatError::BadName`] with the rule, [`FormatError::TooLarge`] for more
/// than 255 bytes.
pub fn check_file_name(name: &str) -> Result<(), FormatError> {
    let longest = Bound::fixed(MAX_FILE_NAME);
    check_name("file name", "file name length", name, longest)?;
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
