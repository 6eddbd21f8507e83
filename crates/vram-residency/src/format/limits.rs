//! How much a header may claim before it is refused.

use super::error::FormatError;

/// Upper bounds of what the parsers accept; every field is inclusive.
///
/// The defaults admit every public model known to us and refuse headers that
/// only an attacker writes. Who needs more raises the one field that it takes:
/// for the parsers, for sealing ([`crate::SealRequest::limits`]) or for a model
/// ([`crate::load::Model::open_with`]). Below these bounds each count is also
/// held against the bytes that the file really has, so a short file can never
/// make the parsers allocate much.
///
/// What a model makes the parsers take, and what they keep of it, fits within
/// the defaults in the 64 MiB that a load on the simulated device takes beyond
/// the model: 20 MiB of an index, 30 MiB of tables and 8 MiB of a header while
/// it is opened, and the tables beside 32 MiB of staging while it is loaded.
///
/// requirement: VA-10 (GGUF counts, strings and file size), PF-11
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one file with a tensor table. Default 100 GB: VA-10. Plain
    /// bytes are not parsed and have no bound here (that one is IV-001).
    pub file_bytes: u64,
    /// Bytes of the JSON header of a safetensors file, which is held in memory
    /// while it is read. Default 8 MiB: three times the largest known (19,000
    /// tensors). The format itself ends at 100,000,000 (`MAX_HEADER_SIZE`).
    pub header_bytes: u64,
    /// Bytes of a GGUF file before its tensor data, vocabulary included, which
    /// is walked over in a small window. Default 100,000,000.
    pub gguf_header_bytes: u64,
    /// Tensors in one safetensors file. Default 100,000: five times the
    /// largest single-file mixture-of-experts models (about 19,000).
    pub tensors: u64,
    /// Tensors in one GGUF file. Default 10,000: VA-10.
    pub gguf_tensors: u64,
    /// Bytes of a tensor name in safetensors and index files. Default 1,024.
    pub name_bytes: u64,
    /// Bytes of a tensor name in GGUF. Default 127: the format page says 64,
    /// and image models are built with room for 127 (`GGML_MAX_NAME` 128).
    pub gguf_name_bytes: u64,
    /// Dimensions of a tensor in safetensors. Default 16. GGUF has at most 4
    /// (`GGML_MAX_DIMS`) whatever is set here.
    pub dims: u64,
    /// Key-value pairs of metadata, in both formats. Default 1,000: VA-10.
    pub metadata_entries: u64,
    /// Bytes of all keys and texts of the metadata, in both formats; arrays of
    /// GGUF are not kept and do not count. Default 4 MiB.
    pub metadata_bytes: u64,
    /// Bytes of one GGUF string (key, value, array element). Default 65,536:
    /// VA-10. Values of safetensors metadata have no bound but `metadata_bytes`:
    /// training tools keep whole JSON documents there.
    pub string_bytes: u64,
    /// Elements of one GGUF metadata array. Default 4,194,304: eight times the
    /// longest vocabulary lists in use (about 515,000 merges).
    pub array_elements: u64,
    /// Memory that the tables of all files of a model take, as long as it is
    /// loaded: names, shapes, places and metadata. Default 30 MiB: the tables of
    /// the largest public checkpoints (about 210,000 tensors) just fit.
    pub table_bytes: u64,
    /// Bytes of a `model.safetensors.index.json`, which is held in memory while
    /// it is read. Default 24 MiB: the largest known has about 20.
    pub index_bytes: u64,
    /// Memory that an index takes while the files it names are opened. Default
    /// 20 MiB: the largest known takes about 17.
    pub index_table_bytes: u64,
    /// Tensors listed in an index. Default 300,000: the largest public
    /// checkpoints have about 210,000.
    pub index_entries: u64,
    /// Files named by an index, parts of a split GGUF, or models that a directory
    /// holds. Default 10,000.
    pub index_files: u64,
    /// Arrays and objects in each other, in values that an index may hold
    /// besides its own. Default 64; from 126 on, JSON's own bound comes first.
    pub json_depth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 100_000_000_000,
            header_bytes: 8 << 20,
            gguf_header_bytes: 100_000_000,
            tensors: 100_000,
            gguf_tensors: 10_000,
            name_bytes: 1_024,
            gguf_name_bytes: 127,
            dims: 16,
            metadata_entries: 1_000,
            metadata_bytes: 4 << 20,
            string_bytes: 65_536,
            array_elements: 4_194_304,
            table_bytes: 30 << 20,
            index_bytes: 24 << 20,
            index_table_bytes: 20 << 20,
            index_entries: 300_000,
            index_files: 10_000,
            json_depth: 64,
        }
    }
}

impl Limits {
    /// Sets the field of that name; false where there is none.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let found = self.fields().into_iter().find(|(field, _)| *field == name);
        found.is_some_and(|(_, limit)| {
            *limit = value;
            true
        })
    }

    /// The fields by name.
    pub fn fields(&mut self) -> [(&'static str, &mut u64); 18] {
        [
            ("file_bytes", &mut self.file_bytes),
            ("header_bytes", &mut self.header_bytes),
            ("gguf_header_bytes", &mut self.gguf_header_bytes),
            ("tensors", &mut self.tensors),
            ("gguf_tensors", &mut self.gguf_tensors),
            ("name_bytes", &mut self.name_bytes),
            ("gguf_name_bytes", &mut self.gguf_name_bytes),
            ("dims", &mut self.dims),
            ("metadata_entries", &mut self.metadata_entries),
            ("metadata_bytes", &mut self.metadata_bytes),
            ("string_bytes", &mut self.string_bytes),
            ("array_elements", &mut self.array_elements),
            ("table_bytes", &mut self.table_bytes),
            ("index_bytes", &mut self.index_bytes),
            ("index_table_bytes", &mut self.index_table_bytes),
            ("index_entries", &mut self.index_entries),
            ("index_files", &mut self.index_files),
            ("json_depth", &mut self.json_depth),
        ]
    }
}

/// One bound, and the field of [`Limits`] that moves it.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    limit: u64,
    /// `None` where the format or this crate sets it for good.
    setting: Option<&'static str>,
}

impl Bound {
    /// A bound that nobody moves.
    pub(super) const fn fixed(limit: u64) -> Self {
        Self {
            limit,
            setting: None,
        }
    }

    /// The value of the field `setting`; by [`bound!`], which cannot confuse
    /// them.
    pub(super) const fn of(setting: &'static str, limit: u64) -> Self {
        Self {
            limit,
            setting: Some(setting),
        }
    }

    /// The lower of two.
    pub(super) const fn or_less(self, other: Self) -> Self {
        if other.limit < self.limit {
            other
        } else {
            self
        }
    }

    /// The largest value it lets pass.
    pub(super) const fn limit(self) -> u64 {
        self.limit
    }

    /// Refuses what `field` has over it.
    pub(super) const fn check(self, field: &'static str, value: u64) -> Result<(), FormatError> {
        if value > self.limit {
            return Err(FormatError::TooLarge {
                field,
                value,
                limit: self.limit,
                setting: self.setting,
            });
        }
        Ok(())
    }

    /// The same for so many of something in memory.
    pub(super) fn check_count(self, field: &'static str, count: usize) -> Result<(), FormatError> {
        self.check(field, u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// The bound that a field of limits sets, with the field's name.
macro_rules! bound {
    ($limits:ident.$field:ident) => {
        $crate::format::limits::Bound::of(stringify!($field), $limits.$field)
    };
}
pub(super) use bound;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_set_by_its_name() {
        let mut limits = Limits::default();
        let names = limits.fields().map(|(name, _)| name);
        for (name, value) in names.into_iter().zip(1..) {
            assert!(limits.set(name, value), "{name}");
        }
        // As the derived text has it: no field is left out or mixed up.
        let fields = names.into_iter().zip(1..).map(|(n, v)| format!("{n}: {v}"));
        let fields: Vec<_> = fields.collect();
        let text = format!("Limits {{ {} }}", fields.join(", "));
        assert_eq!(format!("{limits:?}"), text);
        assert!(!limits.set("none", 1));
    }
}
