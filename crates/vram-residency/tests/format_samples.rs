//! The samples in `testdata/`, made by the formats' own Python packages: every
//! tensor is read back bit for bit as those packages read it.

mod format_support;

use format_support::{Expected, FileSource, sample};
use vram_residency::format::{
    Dtype, Format, Limits, MetaValue, TensorTable, detect_with, gguf, index, lfs, parse,
};

fn check(name: &str, format: Format) -> TensorTable {
    let path = sample(name);
    let src = FileSource::open(&path);
    let extension = path.extension().unwrap().to_str();
    let (found, table) = detect_with(extension, &src, &Limits::default()).unwrap();
    assert_eq!(found, format);
    // Content alone leads to the same answer.
    let (by_content, same) = detect_with(None, &src, &Limits::default()).unwrap();
    assert_eq!((by_content, &same), (format, &table));
    Expected::read(&sample(&format!("{name}.txt"))).hold_against(&src, &table);
    table
}

#[test]
fn small_safetensors_reads_as_in_python() {
    let table = check("small.safetensors", Format::Safetensors);
    let mut dtypes: Vec<_> = table.tensors().iter().map(|t| t.dtype).collect();
    dtypes.sort();
    dtypes.dedup();
    assert!(dtypes.len() >= 10, "{dtypes:?}");
    assert_eq!(
        table.metadata_value("format"),
        Some(&MetaValue::Text("pt".into()))
    );
    let mask = table.get("model.causal_mask").unwrap();
    assert_eq!(mask.dtype, Dtype::Bool);
    // A corrupt byte leads back to the tensor.
    let hit = table.which_tensors(mask.offset..mask.offset + 1);
    assert_eq!(hit.collect::<Vec<_>>(), [mask]);
}

#[test]
fn small_gguf_reads_as_in_python() {
    let table = check("small.gguf", Format::Gguf);
    let value = |key| table.metadata_value(key).unwrap().clone();
    assert_eq!(
        value("general.architecture"),
        MetaValue::Text("llama".into())
    );
    assert_eq!(value("test.u8"), MetaValue::Unsigned(200));
    assert_eq!(value("test.i8"), MetaValue::Signed(-100));
    assert_eq!(value("test.u16"), MetaValue::Unsigned(60_000));
    assert_eq!(value("test.i16"), MetaValue::Signed(-30_000));
    assert_eq!(value("llama.block_count"), MetaValue::Unsigned(1));
    assert_eq!(value("test.i32"), MetaValue::Signed(-2_000_000_000));
    assert_eq!(value("test.u64"), MetaValue::Unsigned((1 << 63) + 1));
    assert_eq!(value("test.i64"), MetaValue::Signed(-(1 << 62)));
    assert_eq!(value("test.f64"), MetaValue::Float(0.1));
    let eps = MetaValue::Float(f64::from(1e-5_f32));
    assert_eq!(value("llama.attention.layer_norm_rms_epsilon"), eps);
    assert_eq!(value("test.no"), MetaValue::Bool(false));
    assert_eq!(value("tokenizer.ggml.add_bos_token"), MetaValue::Bool(true));
    for (key, element) in [
        ("tokenizer.ggml.tokens", "string"),
        ("tokenizer.ggml.scores", "float32"),
        ("tokenizer.ggml.token_type", "int32"),
    ] {
        assert_eq!(value(key), MetaValue::Array { element, len: 64 });
    }
    assert_eq!(gguf::Split::of(&table, &Limits::default()).unwrap(), None);
}

#[test]
fn gguf_version_2_reads_alike() {
    let mut bytes = std::fs::read(sample("small.gguf")).unwrap();
    let v3 = parse(Format::Gguf, &bytes).unwrap();
    assert_eq!(bytes[4], 3);
    bytes[4] = 2;
    assert_eq!(parse(Format::Gguf, &bytes).unwrap(), v3);
}

#[test]
fn split_gguf_parts_agree() {
    let names = ["small-00001-of-00002.gguf", "small-00002-of-00002.gguf"];
    let tables = names.map(|name| check(&format!("split/{name}"), Format::Gguf));
    let limits = Limits::default();
    let split = gguf::Split::of(&tables[1], &limits).unwrap().unwrap();
    assert_eq!((split.number, split.count, split.tensors), (1, 2, 3));
    let part = gguf::PartName::parse(names[0]).unwrap();
    assert_eq!(part.sibling(2), names[1]);
    gguf::check_parts(&[(names[0], &tables[0]), (names[1], &tables[1])], &limits).unwrap();
    gguf::check_parts(&[(names[1], &tables[1]), (names[0], &tables[0])], &limits).unwrap_err();
}

#[test]
fn a_sharded_model_reads_as_in_python() {
    let dir = sample("sharded");
    let src = FileSource::open(&dir.join("model.safetensors.index.json"));
    let index = index::parse(&src, &Limits::default()).unwrap();
    let mut bytes = 0;
    let mut tensors = 0;
    for file in index.files() {
        let table = check(&format!("sharded/{file}"), Format::Safetensors);
        assert!(index.check_file(file, &table).unwrap().is_empty());
        bytes += table.tensor_bytes();
        tensors += table.tensors().len();
    }
    assert_eq!(index.files().len(), 2);
    assert_eq!(index.total_size(), Some(bytes));
    assert_eq!(index.weight_map().count(), tensors);
}

/// The table of types against ggml's own Python package.
#[test]
fn ggml_types_have_the_sizes_that_python_says() {
    let text = std::fs::read_to_string(sample("ggml_types.txt")).unwrap();
    let mut seen = Vec::new();
    for line in text.lines() {
        let (name, numbers) = line.split_once(' ').unwrap();
        let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
        let [code, elements, bytes] = numbers.try_into().unwrap();
        let dtype = Dtype::from_gguf(u32::try_from(code).unwrap()).unwrap();
        assert_eq!(dtype.name(), name);
        assert_eq!(dtype.block_elements(), elements, "{name}");
        if dtype != Dtype::Q8_1 {
            assert_eq!(dtype.block_bytes(), bytes, "{name}");
        }
        seen.push(dtype);
    }
    let ours = Dtype::ALL.iter().filter(|d| d.gguf_code().is_some());
    let newer: Vec<_> = ours.filter(|d| !seen.contains(d)).collect();
    assert_eq!(newer, [&Dtype::Q2_0]);
}

/// The seeds of the fuzz targets start on the right side of the border.
#[test]
fn fuzz_seeds_are_what_their_names_say() {
    let seed = |name: &str| {
        let path = format_support::root().join("fuzz/corpus").join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    for name in ["empty", "two", "packed", "escapes"] {
        parse(
            Format::Safetensors,
            &seed(&format!("safetensors_header/{name}")),
        )
        .unwrap();
    }
    for name in ["two", "types", "aligned", "split"] {
        parse(Format::Gguf, &seed(&format!("gguf/{name}"))).unwrap();
    }
    let big_endian = parse(Format::Gguf, &seed("gguf/big_endian")).unwrap_err();
    assert!(
        big_endian.to_string().contains("big-endian"),
        "{big_endian}"
    );
    let limits = Limits::default();
    for name in ["two", "float"] {
        index::parse(&seed(&format!("index/{name}")), &limits).unwrap();
    }
    index::parse(&seed("index/bad_names"), &limits).unwrap_err();
    lfs::parse(&seed("lfs_pointer/pointer")).unwrap();
    lfs::parse(&seed("lfs_pointer/zero")).unwrap();
    lfs::parse(&seed("lfs_pointer/extra")).unwrap_err();
}

#[test]
fn a_file_of_the_other_format_is_called_what_it_is() {
    let file = |name: &str| std::fs::read(sample(name)).unwrap();
    for (name, extension, told) in [
        (
            "small.gguf",
            "safetensors",
            "a GGUF file, not a safetensors file",
        ),
        (
            "small.safetensors",
            "gguf",
            "a safetensors file, not a GGUF file",
        ),
    ] {
        let bytes = file(name);
        let claimed = Format::of_extension(extension).unwrap();
        let limits = Limits::default();
        for refused in [
            detect_with(Some(extension), &bytes, &limits).map(|_| ()),
            parse(claimed, &bytes).map(|_| ()),
            // Cut short it is still the other one.
            parse(claimed, &bytes[..32].to_vec()).map(|_| ()),
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }
}
