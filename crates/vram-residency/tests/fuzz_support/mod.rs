//! What every fuzz target does with its input, shared by the fuzzer
//! (`fuzz/fuzz_targets`) and the replay of its seeds (`fuzz_smoke.rs`).

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use vram_residency::audit::note::{Checkpoint, Origin};
use vram_residency::format::gguf::{PartName, Split, check_parts};
use vram_residency::format::index::{check_file_name, parse as parse_index};
use vram_residency::format::{Format, FormatError, Limits, TensorTable, detect, lfs, parse};
use vram_residency::key::{RootKey, SigningKey};
use vram_residency::seal::Record;
use vram_residency::verify::check_record;

/// Safetensors: no panic, nothing outside the file, and whatever is accepted the
/// reference crate accepts with the same table.
pub fn safetensors_header(data: &[u8]) {
    if let Ok(table) = parse(Format::Safetensors, &data) {
        agree_with_reference(data, &table);
    }
    // The input as a header of its own, which mutations reach more often.
    let mut file = (data.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(data);
    for padding in [0, 24] {
        file.resize(8 + data.len() + padding, 0);
        if let Ok(table) = parse(Format::Safetensors, &file) {
            agree_with_reference(&file, &table);
        }
    }
}

fn agree_with_reference(file: &[u8], table: &TensorTable) {
    let (header, reference) = safetensors::SafeTensors::read_metadata(file)
        .unwrap_or_else(|e| panic!("only we accept this: {e}"));
    assert_eq!(table.data_start(), 8 + header as u64);
    let theirs = reference.tensors();
    assert_eq!(theirs.len(), table.tensors().len());
    for ours in table.tensors() {
        let theirs = theirs[&ours.name];
        let (from, to) = theirs.data_offsets;
        let start = 8 + header as u64 + from as u64;
        assert_eq!(ours.offset, start);
        assert_eq!(ours.len, (to - from) as u64);
        assert!(ours.range().end <= file.len() as u64);
        let shape: Vec<u64> = theirs.shape.iter().map(|dim| *dim as u64).collect();
        assert_eq!(ours.shape, shape);
        assert_eq!(ours.dtype.to_string(), theirs.dtype.to_string());
        assert_eq!(table.get(&ours.name), Some(ours));
        if ours.len > 0 {
            let hit: Vec<_> = table.which_tensors(ours.range()).collect();
            assert_eq!(hit, [ours]);
        }
    }
}

/// Index files: no panic, only plain file names, each tensor in one file.
pub fn index(data: &[u8]) {
    let Ok(index) = parse_index(&data, &Limits::default()) else {
        return;
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
}

/// GGUF: no panic, nothing outside the file, tensors apart and aligned.
pub fn gguf(data: &[u8]) {
    let limits = Limits::default();
    let Ok(table) = parse(Format::Gguf, &data) else {
        return;
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
}

/// git-LFS pointers: no panic, and what is accepted is spelled in one way only.
pub fn lfs_pointer(data: &[u8]) {
    if let Ok(pointer) = lfs::parse(&data) {
        let text = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            pointer.oid, pointer.size
        );
        assert_eq!(text.as_bytes(), data);
        let error = detect(Some("safetensors"), &data);
        assert!(matches!(error, Err(FormatError::LfsPointer(found)) if found == pointer));
    }
    // Pointer or not, recognition itself must hold and never claim plain
    // bytes for what an extension calls a model.
    for extension in [None, Some("safetensors"), Some("gguf")] {
        if let Ok(format) = detect(extension, &data) {
            assert!(extension.is_none() || format != Format::Raw);
        }
    }
}

/// Records: no panic; what is accepted is written and read back as it was, and
/// its tag holds only for what was sealed.
pub fn record(data: &[u8]) {
    let Ok(record) =
        std::str::from_utf8(data).map_or(Err(()), |text| Record::from_json(text).map_err(drop))
    else {
        return;
    };
    let again = Record::from_json(&record.to_json().unwrap()).unwrap();
    assert_eq!(again.statement(), record.statement());
    for (key, sealed) in sealed() {
        if check_record(&record, key).is_ok() {
            assert!(sealed.iter().any(|s| *s == record.statement()), "forged");
        }
    }
}

/// The keys of the checked-in vectors, and what each of them sealed.
fn sealed() -> &'static [(RootKey, Vec<Vec<u8>>)] {
    static SEALED: OnceLock<Vec<(RootKey, Vec<Vec<u8>>)>> = OnceLock::new();
    SEALED.get_or_init(|| {
        let file: Value =
            serde_json::from_str(include_str!("../../testdata/seal_vectors.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        let mut secrets: Vec<&str> = vectors
            .iter()
            .map(|v| v["secret"].as_str().unwrap())
            .collect();
        secrets.sort_unstable();
        secrets.dedup();
        let of = |secret: &str| {
            let by_it = vectors
                .iter()
                .filter(|v| v["secret"].as_str() == Some(secret));
            let statements = by_it
                .map(|v| hex(v["statement"].as_str().unwrap()))
                .collect();
            (RootKey::from_token(&hex(secret)).unwrap(), statements)
        };
        secrets.into_iter().map(of).collect()
    })
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// Checkpoints: no panic, and nothing is believed but what the key signed.
pub fn checkpoint(data: &[u8]) {
    let (key, known, _) = signed();
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(found) = Checkpoint::open(text, &[key.public().clone()]) {
        assert_eq!(found, *known);
    }
    assert!(
        Checkpoint::open(text, &[]).is_err(),
        "believed without a key"
    );
}

/// The one note that the fuzzer's key signed.
pub fn signed_note() -> &'static str {
    &signed().2
}

fn signed() -> &'static (SigningKey, Checkpoint, String) {
    static SIGNED: OnceLock<(SigningKey, Checkpoint, String)> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let root = RootKey::from_token(b"0123456789abcdef0123456789abcdef").unwrap();
        let key = SigningKey::new(&root).unwrap();
        let checkpoint = Checkpoint {
            origin: Origin::new("example.org/worker-1").unwrap(),
            size: 26,
            root: [7; 32],
        };
        let note = checkpoint.sign(&key).unwrap();
        (key, checkpoint, note)
    })
}
