//! Model files: safetensors, index, GGUF, git-LFS pointers.

use std::path::Path;

use vram_residency::format::gguf::{PartName, Split, check_parts};
use vram_residency::format::index::{check_file_name, parse as parse_index};
use vram_residency::format::{Format, FormatError, Limits, TensorTable, detect, lfs, parse};

/// Safetensors: nothing outside the file, and whatever is accepted the
/// reference crate accepts with the same table.
pub(crate) fn safetensors_header(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(table) = parse(Format::Safetensors, &data) {
        agree_with_reference(data, &table);
        accepted = true;
    }
    // The input as a header of its own, which mutations reach more often.
    let mut file = (data.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(data);
    for padding in [0, 24] {
        file.resize(8 + data.len() + padding, 0);
        if let Ok(table) = parse(Format::Safetensors, &file) {
            agree_with_reference(&file, &table);
            accepted = true;
        }
    }
    accepted
}

fn agree_with_reference(file: &[u8], table: &TensorTable) {
    let (header, reference) = safetensors::SafeTensors::read_metadata(file)
        .unwrap_or_else(|e| panic!("only we accept this: {e}"));
    assert_eq!(table.data_start(), 8 + header as u64);
    let theirs = reference.tensors();
    assert_eq!(theirs.len(), table.tensors().len());
    for ours in table.tensors() {
        let theirs = theirs[&*ours.name];
        let (from, to) = theirs.data_offsets;
        let start = 8 + header as u64 + from as u64;
        assert_eq!(ours.offset, start);
        assert_eq!(ours.len, (to - from) as u64);
        assert!(ours.range().end <= file.len() as u64);
        let shape: Vec<u64> = theirs.shape.iter().map(|dim| *dim as u64).collect();
        assert_eq!(ours.shape.as_slice(), shape);
        assert_eq!(ours.dtype.to_string(), theirs.dtype.to_string());
        assert_eq!(table.get(&ours.name), Some(ours));
        if ours.len > 0 {
            let hit: Vec<_> = table.which_tensors(ours.range()).collect();
            assert_eq!(hit, [ours]);
        }
    }
}

/// Index files: only plain file names, each tensor in one file.
pub(crate) fn index(data: &[u8]) -> bool {
    let Ok(index) = parse_index(&data, &Limits::default()) else {
        return false;
    };
    for file in index.files() {
        assert!(check_file_name(file).is_ok());
        // The standard library agrees that it is one name, not a path.
        assert_eq!(Path::new(file).file_name(), Some(file.as_ref()));
        assert_eq!(Path::new(file).components().count(), 1);
    }
    let mut previous = None;
    for (tensor, file) in index.weight_map() {
        assert!(previous < Some(tensor));
        previous = Some(tensor);
        assert_eq!(index.file_of(tensor), Some(file));
        assert!(index.files().iter().any(|f| f == file));
    }
    true
}

/// GGUF: nothing outside the file, tensors apart and aligned.
pub(crate) fn gguf(data: &[u8]) -> bool {
    let limits = Limits::default();
    let Ok(table) = parse(Format::Gguf, &data) else {
        return false;
    };
    let len = data.len() as u64;
    assert!(table.data_start() <= len);
    let mut end = table.data_start();
    for tensor in table.tensors() {
        assert!(tensor.offset >= end && tensor.range().end <= len);
        let elements: u64 = tensor.shape.iter().product();
        assert_eq!(tensor.dtype.bytes(elements), Some(tensor.len));
        assert_eq!(table.get(&tensor.name), Some(tensor));
        end = tensor.range().end;
    }
    if let Ok(Some(split)) = Split::of(&table, &limits) {
        let name = PartName {
            prefix: "m".into(),
            number: split.number + 1,
            count: split.count,
        };
        let file = name.sibling(name.number);
        let alone = check_parts(&[(&file, &table)], &limits);
        let whole = split.count == 1 && split.tensors == table.tensors().len() as u64;
        assert_eq!(alone.is_ok(), whole);
    }
    true
}

/// git-LFS pointers: what is accepted is spelled in one way only.
pub(crate) fn lfs_pointer(data: &[u8]) -> bool {
    let pointer = lfs::parse(&data);
    if let Ok(pointer) = &pointer {
        let text = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            pointer.oid, pointer.size
        );
        assert_eq!(text.as_bytes(), data);
        let error = detect(Some("safetensors"), &data);
        assert!(matches!(error, Err(FormatError::LfsPointer(found)) if found == *pointer));
    }
    // Pointer or not, recognition itself must hold and never claim plain
    // bytes for what an extension calls a model.
    for extension in [None, Some("safetensors"), Some("gguf")] {
        if let Ok(format) = detect(extension, &data) {
            assert!(extension.is_none() || format != Format::Raw);
        }
    }
    pointer.is_ok()
}
