//! How much a header may claim before it is refused.

/// Upper bounds of what the parsers accept; every field is inclusive.
///
/// The defaults admit every public model known to us and refuse headers that
/// only an attacker writes. A caller of the parsers raises the one field that
/// it needs; sealing and [`crate::load::Model`] keep to the defaults. Below these bounds each count is also held against the bytes that the file
/// really has, so a short file can never make the parsers allocate much.
///
/// requirement: VA-10 (GGUF counts, strings and file size)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one file with a tensor table. Default 100 GB: VA-10. Plain
    /// bytes are not parsed and have no bound here (that one is IV-001).
    pub file_bytes: u64,
    /// Bytes of a header: the safetensors JSON, or all of a GGUF file before
    /// its tensor data. Default 100,000,000: `MAX_HEADER_SIZE` of safetensors.
    pub header_bytes: u64,
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
    /// Bytes of one GGUF string (key, value, array element). Default 65,536:
    /// VA-10. Values of safetensors metadata are bounded by `header_bytes`:
    /// training tools keep whole JSON documents there.
    pub string_bytes: u64,
    /// Elements of one GGUF metadata array. Default 4,194,304: eight times the
    /// longest vocabulary lists in use (about 515,000 merges).
    pub array_elements: u64,
    /// Bytes of a `model.safetensors.index.json`. Default 100,000,000.
    pub index_bytes: u64,
    /// Tensors listed in an index. Default 1,000,000: five times the largest
    /// public checkpoints (about 200,000).
    pub index_entries: u64,
    /// Files named by an index, or parts of a split GGUF. Default 10,000.
    pub index_files: u64,
    /// Arrays and objects in each other, in values that an index may hold
    /// besides its own. Default 64; from 126 on, JSON's own bound comes first.
    pub json_depth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 100_000_000_000,
            header_bytes: 100_000_000,
            tensors: 100_000,
            gguf_tensors: 10_000,
            name_bytes: 1_024,
            gguf_name_bytes: 127,
            dims: 16,
            metadata_entries: 1_000,
            string_bytes: 65_536,
            array_elements: 4_194_304,
            index_bytes: 100_000_000,
            index_entries: 1_000_000,
            index_files: 10_000,
            json_depth: 64,
        }
    }
}
