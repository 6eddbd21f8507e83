//! Models in several files: the index and its names.
//!
//! requirement: VA-10, IV-005, CO-6

#[path = "common/cases.rs"]
mod cases;

use cases::cases;
use proptest::prelude::*;
use std::collections::BTreeMap;
use vram_residency::format::index::{Index, check_file_name, parse};
use vram_residency::format::{Format, FormatError, Limits, TensorTable, parse as parse_model};

fn read(text: &str) -> Result<Index, FormatError> {
    parse(&text.as_bytes(), &Limits::default())
}

fn refuse(text: &str) -> FormatError {
    read(text).unwrap_err()
}

macro_rules! refused {
    ($error:expr, $pattern:pat) => {{
        let error = $error;
        assert!(matches!(error.rule(), $pattern), "{error:?}");
        error.to_string()
    }};
}

/// A safetensors file with one byte per name.
fn model(names: &[&str]) -> TensorTable {
    let entry = |(i, name): (usize, &&str)| {
        format!(
            r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#,
            i + 1
        )
    };
    let entries: Vec<_> = names.iter().enumerate().map(entry).collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + names.len(), 0);
    parse_model(Format::Safetensors, &bytes).unwrap()
}

const TWO: &str = r#"{"metadata":{"total_size":3},"weight_map":{"c":"z.safetensors","a":"z.safetensors","b":"a.safetensors"}}"#;

#[test]
fn an_index_maps_tensors_to_files() {
    let index = read(TWO).unwrap();
    assert_eq!(index.files(), ["a.safetensors", "z.safetensors"]);
    assert_eq!(index.total_size(), Some(3));
    let map: Vec<_> = index.weight_map().collect();
    assert_eq!(
        map,
        [
            ("a", "z.safetensors"),
            ("b", "a.safetensors"),
            ("c", "z.safetensors")
        ]
    );
    assert_eq!(index.file_of("b"), Some("a.safetensors"));
    assert_eq!(index.file_of("d"), None);
    let within = |file| index.tensors_in(file).collect::<Vec<_>>();
    assert_eq!(within("a.safetensors"), ["b"]);
    assert_eq!(within("z.safetensors"), ["a", "c"]);
    assert!(within("").is_empty() && within("b.safetensors").is_empty());
}

#[test]
fn tables_are_held_against_the_index() {
    let index = read(TWO).unwrap();
    assert!(
        index
            .check_file("z.safetensors", &model(&["a", "c"]))
            .unwrap()
            .is_empty()
    );
    assert!(
        index
            .check_file("a.safetensors", &model(&["b"]))
            .unwrap()
            .is_empty()
    );
    let more = model(&["b", "x", "d"]);
    assert_eq!(
        index.check_file("a.safetensors", &more).unwrap(),
        ["d", "x"]
    );
    let missing = index
        .check_file("z.safetensors", &model(&["a"]))
        .unwrap_err();
    let message = refused!(missing, FormatError::Set { .. });
    assert!(message.contains("\"c\""), "{message}");
    let stray = index
        .check_file("a.safetensors", &model(&["b", "a"]))
        .unwrap_err();
    let message = refused!(stray, FormatError::Set { .. });
    assert!(
        message.contains("\"a\"") && message.contains("z.safetensors"),
        "{message}"
    );
}

#[test]
fn what_other_tools_add_is_passed_over() {
    let index = read(concat!(
        r#"{"version":[1,{"x":null}],"metadata":{"total_parameters":5,"total_size":12.0,"by":{"a":[]}},"#,
        r#""weight_map":{"a":"f"},"trailer":"x"}"#
    ));
    assert_eq!(index.unwrap().total_size(), Some(12));
    let bare = read(r#"{"weight_map":{"a":"f"}}"#).unwrap();
    assert_eq!((bare.total_size(), bare.files().len()), (None, 1));
}

#[test]
fn structure_and_duplicates() {
    refused!(
        refuse(r#"{"metadata":{}}"#),
        FormatError::Missing {
            field: "weight_map",
            ..
        }
    );
    let empty = refused!(refuse(r#"{"weight_map":{}}"#), FormatError::Missing { .. });
    assert!(empty.contains("no tensor"), "{empty}");
    for text in [
        "",
        "[]",
        "{",
        "{}x",
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
        r#"{"weight_map":{"a":null}}"#,
        r#"{"metadata":3,"weight_map":{}}"#,
    ] {
        refused!(refuse(text), FormatError::Json { .. });
    }
    let twice = r#"{"weight_map":{"a":"f","b":"f","a":"g"}}"#;
    refused!(refuse(twice), FormatError::Duplicate { what: "tensor", .. });
    refused!(
        refuse(r#"{"weight_map":{"a":"f","\u0061":"f"}}"#),
        FormatError::Duplicate { what: "tensor", .. }
    );
    refused!(
        refuse(r#"{"weight_map":{},"weight_map":{}}"#),
        FormatError::Duplicate { what: "key", .. }
    );
    refused!(
        refuse(r#"{"metadata":{},"metadata":{},"weight_map":{}}"#),
        FormatError::Duplicate { what: "key", .. }
    );
    refused!(
        refuse(r#"{"metadata":{"total_size":1,"total_size":1},"weight_map":{}}"#),
        FormatError::Duplicate { what: "key", .. }
    );
    for size in ["-1", "1.5", "-0.5", "1e300", "18446744073709551616"] {
        let text = format!(r#"{{"metadata":{{"total_size":{size}}},"weight_map":{{}}}}"#);
        refused!(
            refuse(&text),
            FormatError::BadValue {
                field: "total_size",
                ..
            }
        );
    }
    let bomb = format!(r#"{{"weight_map":{}"#, r#"{"a":"#.repeat(1_000_000));
    refused!(refuse(&bomb), FormatError::Json { .. });
}

#[test]
fn a_pointer_in_place_of_the_index_is_named() {
    let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let error = refuse(&format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 9\n"
    ));
    assert!(refused!(error, FormatError::LfsPointer(_)).contains(oid));
}

#[test]
fn every_limit_is_exact() {
    let with = |change: fn(&mut Limits), text: &str| {
        let mut limits = Limits::default();
        change(&mut limits);
        parse(&text.as_bytes(), &limits)
    };
    let two = r#"{"weight_map":{"a":"f","b":"g"}}"#;
    with(|l| l.index_bytes = 32, two).unwrap();
    refused!(
        with(|l| l.index_bytes = 31, two).unwrap_err(),
        FormatError::TooLarge {
            field: "index length",
            value: 32,
            limit: 31,
            ..
        }
    );
    with(|l| l.index_entries = 2, two).unwrap();
    refused!(
        with(|l| l.index_entries = 1, two).unwrap_err(),
        FormatError::TooLarge {
            field: "number of index entries",
            value: 2,
            limit: 1,
            ..
        }
    );
    with(|l| l.index_files = 2, two).unwrap();
    refused!(
        with(|l| l.index_files = 1, two).unwrap_err(),
        FormatError::TooLarge {
            field: "number of files",
            value: 2,
            limit: 1,
            ..
        }
    );
    // Two tensors of one byte, 16 bytes each besides, and two files.
    with(|l| l.index_table_bytes = 2 * 17 + 2 * 65, two).unwrap();
    refused!(
        with(|l| l.index_table_bytes = 2 * 17 + 2 * 65 - 1, two).unwrap_err(),
        FormatError::TooLarge {
            field: "memory for the index",
            value: 164,
            limit: 163,
            setting: Some("index_table_bytes"),
        }
    );
    let name = |n: usize| format!(r#"{{"weight_map":{{"{}":"f"}}}}"#, "n".repeat(n));
    read(&name(1_024)).unwrap();
    refused!(
        refuse(&name(1_025)),
        FormatError::TooLarge {
            field: "tensor name length",
            ..
        }
    );
    let file = |n: usize| format!(r#"{{"weight_map":{{"a":"{}"}}}}"#, "f".repeat(n));
    read(&file(255)).unwrap();
    refused!(
        refuse(&file(256)),
        FormatError::TooLarge {
            field: "file name length",
            value: 256,
            limit: 255,
            ..
        }
    );
}

/// An index of one tensor with `value` under a key that nobody knows, at the
/// top or in the metadata.
fn with_unknown(value: &str) -> [String; 2] {
    let map = r#""weight_map":{"a":"f"}"#;
    [
        format!(r#"{{"x":{value},{map}}}"#),
        format!(r#"{{"metadata":{{"x":{value}}},{map}}}"#),
    ]
}

// requirement: VA-10
#[test]
fn unknown_keys_may_hold_anything_but_not_at_any_depth() {
    let nested = |depth: usize| {
        let lists = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", r#"{"k":"#.repeat(depth), "}".repeat(depth));
        [lists, objects]
    };
    let plain = r#"[null,true,-1,2,3.5,"s",[],{},{"a":[{"b":1}],"c":2}]"#;
    for text in nested(64).iter().chain([&plain.to_owned()]) {
        for index in with_unknown(text) {
            read(&index).unwrap();
        }
    }
    for depth in [65, 100_000] {
        for index in nested(depth).iter().flat_map(|text| with_unknown(text)) {
            refused!(
                refuse(&index),
                FormatError::TooLarge {
                    field: "nesting in an unknown key",
                    value: 65,
                    limit: 64,
                    ..
                }
            );
        }
    }
    // Never closed: the limit comes first.
    let bomb = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
    refused!(refuse(&bomb), FormatError::TooLarge { limit: 64, .. });
    for broken in ["[1", "{\"k\":}", "tru", "[1,]"] {
        for index in with_unknown(broken) {
            refused!(refuse(&index), FormatError::Json { .. });
        }
    }
}

#[test]
fn file_names_are_plain() {
    for good in [
        "model.safetensors",
        "..model",
        "a..b",
        "model 1.safetensors",
        "m\u{f6}del",
    ] {
        check_file_name(good).unwrap();
    }
    for bad in [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/b",
        "a\\b",
        "..\\x",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
    ] {
        refused!(
            check_file_name(bad).unwrap_err(),
            FormatError::BadName {
                what: "file name",
                ..
            }
        );
        let json = serde_json::json!({"weight_map": {"a": bad}}).to_string();
        refused!(
            refuse(&json),
            FormatError::BadName {
                what: "file name",
                ..
            }
        );
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_plain_map_comes_back(map in prop::collection::btree_map("[a-z.]{1,8}", "[a-z]{1,3}\\.st", 1..20)) {
        let text = serde_json::json!({"weight_map": map}).to_string();
        let index = read(&text).unwrap();
        let found: BTreeMap<_, _> = index
            .weight_map()
            .map(|(tensor, file)| (tensor.to_owned(), file.to_owned()))
            .collect();
        prop_assert_eq!(&found, &map);
        for file in index.files() {
            let here: Vec<_> = map.iter().filter(|e| e.1 == file).map(|e| e.0).collect();
            prop_assert_eq!(index.tensors_in(file).collect::<Vec<_>>(), here);
        }
        let mut files: Vec<_> = map.values().cloned().collect();
        files.sort();
        files.dedup();
        prop_assert_eq!(index.files(), files.as_slice());
    }

    #[test]
    fn mutated_indices_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = TWO.as_bytes().to_vec();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(index) = parse(&bytes, &Limits::default()) {
            prop_assert!(index.files().iter().all(|f| check_file_name(f).is_ok()));
            prop_assert_eq!(index.weight_map().count(), 3);
        }
    }
}
