//! The safetensors reader: every rule it enforces.
//!
//! requirement: VA-10, IV-005

use vram_residency::format::{Dtype, Format, FormatError, Limits, detect, parse, parse_with};

/// A file with this header and `data` zero bytes after it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refuse(header: &str, data: usize) -> FormatError {
    refuse_under(&Limits::default(), header, data)
}

fn refuse_under(limits: &Limits, header: &str, data: usize) -> FormatError {
    match parse_with(Format::Safetensors, &file(header, data), limits) {
        Ok(table) => panic!("accepted {header}: {table:?}"),
        Err(error) => error,
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// One well-formed entry of `len` U8 elements at `start`.
fn entry(name: &str, start: usize, len: usize) -> String {
    let end = start + len;
    format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{start},{end}]}}"#)
}

macro_rules! refused {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $error;
        assert!(matches!(error.rule(), $pattern $(if $guard)?), "{error:?}");
        error.to_string()
    }};
}

#[test]
fn a_table_is_read_with_offsets_into_the_file() {
    let header = concat!(
        r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"#,
        r#""__metadata__":{"format":"pt","a":"x"},"#,
        r#""s":{"data_offsets":[0,8],"shape":[],"dtype":"I64"},"#,
        r#""none":{"dtype":"F32","shape":[0,4],"data_offsets":[20,20]}}  "#
    );
    let bytes = file(header, 20);
    let start = 8 + header.len() as u64;
    let table = parse(Format::Safetensors, &bytes).unwrap();
    assert_eq!(table.data_start(), start);
    let names: Vec<_> = table.tensors().iter().map(|t| &*t.name).collect();
    assert_eq!(names, ["s", "b", "none"]);
    let b = table.get("b").unwrap();
    assert_eq!((b.dtype, b.shape.as_slice()), (Dtype::Bf16, &[2, 3][..]));
    assert_eq!((b.offset, b.len), (start + 8, 12));
    let scalar = table.get("s").unwrap();
    assert_eq!((scalar.shape.len(), scalar.len), (0, 8));
    assert_eq!(table.get("none").unwrap().len, 0);
    let keys: Vec<_> = table.metadata().iter().map(|m| m.0.as_str()).collect();
    assert_eq!(keys, ["a", "format"]);
}

#[test]
fn an_empty_model_has_an_empty_table() {
    let table = parse(Format::Safetensors, &file("{}", 0)).unwrap();
    assert!(table.tensors().is_empty());
    refused!(refuse("{}", 1), FormatError::Trailing { from: 10, to: 11 });
}

#[test]
fn the_header_length_is_held_against_file_and_limit() {
    for len in 0..8 {
        let error = parse(Format::Safetensors, &vec![0; len]).unwrap_err();
        refused!(
            error,
            FormatError::Truncated {
                field: "header length",
                need: 8,
                ..
            }
        );
    }
    let claim = |n: u64| {
        let mut bytes = n.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        parse(Format::Safetensors, &bytes)
    };
    claim(2).unwrap();
    refused!(
        claim(3).unwrap_err(),
        FormatError::Truncated {
            field: "header",
            offset: 8,
            need: 3,
            have: 2
        }
    );
    refused!(claim(8 << 20).unwrap_err(), FormatError::Truncated { .. });
    for n in [(8 << 20) + 1, u64::MAX] {
        let text = refused!(
            claim(n).unwrap_err(),
            FormatError::TooLarge {
                limit: 8_388_608,
                ..
            }
        );
        assert!(text.contains(&n.to_string()), "{text}");
    }
    let small = limits(|l| l.header_bytes = 2);
    parse_with(Format::Safetensors, &file("{}", 0), &small).unwrap();
    refused!(
        refuse_under(&small, "{} ", 0),
        FormatError::TooLarge {
            value: 3,
            limit: 2,
            ..
        }
    );
}

#[test]
fn the_file_length_has_a_limit() {
    let small = limits(|l| l.file_bytes = 10);
    parse_with(Format::Safetensors, &file("{}", 0), &small).unwrap();
    refused!(
        refuse_under(&small, "{} ", 0),
        FormatError::TooLarge {
            field: "file length",
            value: 11,
            limit: 10,
            ..
        }
    );
    // Plain bytes are not parsed, so no header bounds them.
    parse_with(Format::Raw, &vec![0; 11], &small).unwrap();
}

#[test]
fn the_header_starts_with_a_brace_and_is_one_object() {
    for header in ["", " {}", "[]", "\u{feff}{}"] {
        refused!(refuse(header, 0), FormatError::WrongStart { .. });
    }
    for header in [
        "{",
        "{}{}",
        "{}x",
        "{\"a\"}",
        "{a:1}",
        "{\"a\":1}",
        "{,}",
        "{\"\\ud800\":1}",
    ] {
        refused!(refuse(header, 0), FormatError::Json { line: 1, .. });
    }
    let text = refuse(r#"{"a":1}"#, 0).to_string();
    assert!(text.contains("expected a tensor's dtype, shape"), "{text}");
    let text = refuse(r#"{"__metadata__":[]}"#, 0).to_string();
    assert!(text.contains("expected an object of text values"), "{text}");
    let mut not_utf8 = file("{\"a\":1}", 0);
    not_utf8[10] = 0xff;
    let error = parse(Format::Safetensors, &not_utf8).unwrap_err();
    refused!(error, FormatError::Json { .. });
}

#[test]
fn json_bombs_stop_early() {
    let deep = format!("{{\"a\":{}", "[".repeat(1_000_000));
    refused!(refuse(&deep, 0), FormatError::Json { .. });
    let deep = format!(r#"{{"a":{{"shape":{}"#, "[".repeat(1_000_000));
    refused!(refuse(&deep, 0), FormatError::Json { .. });
    let deep = "{\"a\":".repeat(200_000);
    refused!(refuse(&deep, 0), FormatError::BadValue { .. });
    let wide = format!(
        r#"{{"a":{{"dtype":"U8","shape":[{}1]"#,
        "1,".repeat(1_000_000)
    );
    refused!(
        refuse(&wide, 0),
        FormatError::TooLarge {
            field: "number of dimensions",
            value: 17,
            limit: 16,
            ..
        }
    );
    let metadata: Vec<_> = (0..2000).map(|i| format!(r#""{i}":"""#)).collect();
    let many = format!(r#"{{"__metadata__":{{{}}}}}"#, metadata.join(","));
    refused!(
        refuse(&many, 0),
        FormatError::TooLarge {
            field: "number of metadata entries",
            value: 1001,
            limit: 1000,
            ..
        }
    );
}

#[test]
fn keys_that_stand_twice_are_refused() {
    let a = entry("a", 0, 4);
    let twice = format!("{{{a},{a}}}");
    refused!(
        refuse(&twice, 4),
        FormatError::Duplicate { what: "tensor", .. }
    );
    // Written differently, the same name.
    let escaped = format!("{{{a},{}}}", entry(r"\u0061", 4, 4));
    refused!(
        refuse(&escaped, 8),
        FormatError::Duplicate { what: "tensor", .. }
    );
    // Empty tensors share an offset, so only the name gives them away.
    let empty = format!("{{{e},{e}}}", e = entry("e", 0, 0));
    refused!(
        refuse(&empty, 0),
        FormatError::Duplicate { what: "tensor", .. }
    );
    let meta = r#"{"__metadata__":{},"__metadata__":{}}"#;
    refused!(refuse(meta, 0), FormatError::Duplicate { what: "key", .. });
    let meta = r#"{"__metadata__":{"k":"1","k":"2"}}"#;
    refused!(
        refuse(meta, 0),
        FormatError::Duplicate {
            what: "metadata key",
            ..
        }
    );
    for field in [
        r#""dtype":"U8""#,
        r#""shape":[4]"#,
        r#""data_offsets":[0,4]"#,
    ] {
        let header =
            format!(r#"{{"a":{{{field},"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}}"#);
        refused!(
            refuse(&header, 4),
            FormatError::Duplicate { what: "field", .. }
        );
    }
}

#[test]
fn an_entry_has_exactly_its_three_fields() {
    let of = |fields: &str| refuse(&format!(r#"{{"a":{{{fields}}}}}"#), 4);
    let (dtype, shape, offsets) = (
        r#""dtype":"U8""#,
        r#""shape":[4]"#,
        r#""data_offsets":[0,4]"#,
    );
    refused!(
        of(&format!("{shape},{offsets}")),
        FormatError::Missing { field: "dtype", .. }
    );
    refused!(
        of(&format!("{dtype},{offsets}")),
        FormatError::Missing { field: "shape", .. }
    );
    refused!(
        of(&format!("{dtype},{shape}")),
        FormatError::Missing {
            field: "data_offsets",
            ..
        }
    );
    let text = refused!(
        of(&format!("{dtype},{shape},{offsets},\"strides\":[1]")),
        FormatError::BadValue { .. }
    );
    assert!(text.contains("strides"), "{text}");
    for bad in [
        r#""dtype":5,"shape":[4],"data_offsets":[0,4]"#,
        r#""dtype":"U8","shape":4,"data_offsets":[0,4]"#,
        r#""dtype":"U8","shape":[-4],"data_offsets":[0,4]"#,
        r#""dtype":"U8","shape":[4.0],"data_offsets":[0,4]"#,
        r#""dtype":"U8","shape":["4"],"data_offsets":[0,4]"#,
        r#""dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4]"#,
        r#""dtype":"U8","shape":[4],"data_offsets":[0]"#,
        r#""dtype":"U8","shape":[4],"data_offsets":[0,4,8]"#,
        r#""dtype":"U8","shape":[4],"data_offsets":[0,null]"#,
        r#""dtype":"U8","shape":[4],"data_offsets":{}"#,
    ] {
        refused!(of(bad), FormatError::Json { .. });
    }
    refused!(
        refuse(r#"{"__metadata__":{"n":1}}"#, 0),
        FormatError::Json { .. }
    );
    for dtype in ["u8", "Q4_0", "U128", "", "F32 "] {
        let error = of(&format!(r#""dtype":"{dtype}",{shape},{offsets}"#));
        refused!(error, FormatError::BadValue { field: "dtype", .. });
    }
}

#[test]
fn sizes_agree_or_the_file_is_refused() {
    let of = |dtype: &str, shape: &str, from: u64, to: u64| {
        let fields = format!(r#""dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]"#);
        refuse(&format!(r#"{{"a":{{{fields}}}}}"#), 4)
    };
    refused!(
        of("U8", "[5]", 0, 4),
        FormatError::SizeMismatch {
            need: 5,
            have: 4,
            ..
        }
    );
    refused!(
        of("F32", "[4]", 0, 4),
        FormatError::SizeMismatch {
            need: 16,
            have: 4,
            ..
        }
    );
    refused!(
        of("F32", "[0]", 0, 4),
        FormatError::SizeMismatch {
            need: 0,
            have: 4,
            ..
        }
    );
    refused!(
        of("F4", "[7]", 0, 4),
        FormatError::PartialBlock { elements: 7, .. }
    );
    refused!(
        of("F6_E2M3", "[6]", 0, 4),
        FormatError::PartialBlock { elements: 6, .. }
    );
    refused!(
        of("U8", "[4]", 4, 0),
        FormatError::BadValue {
            field: "data_offsets",
            ..
        }
    );
    let max = u64::MAX;
    refused!(
        of("U8", &format!("[{max},2]"), 0, 4),
        FormatError::Overflow { .. }
    );
    refused!(
        of("F64", &format!("[{max}]"), 0, 4),
        FormatError::Overflow { .. }
    );
    refused!(of("U8", "[0]", max, max), FormatError::Overflow { .. });
    refused!(
        of("U8", &format!("[{}]", max - 1), 1, max),
        FormatError::Gap { .. }
    );
}

#[test]
fn the_data_section_is_covered_exactly_once() {
    let two = |start, len| format!("{{{},{}}}", entry("a", 0, 4), entry("b", start, len));
    parse(Format::Safetensors, &file(&two(4, 4), 8)).unwrap();
    refused!(refuse(&two(3, 4), 7), FormatError::Overlap { .. });
    refused!(refuse(&two(0, 4), 4), FormatError::Overlap { .. });
    refused!(refuse(&two(2, 0), 4), FormatError::Overlap { .. });
    refused!(refuse(&two(5, 4), 9), FormatError::Gap { .. });
    refused!(refuse(&two(4, 4), 9), FormatError::Trailing { .. });
    let text = refused!(refuse(&two(4, 4), 7), FormatError::OutsideFile { .. });
    assert!(text.contains("\"b\""), "{text}");
    refused!(
        refuse(&format!("{{{}}}", entry("a", 1, 4)), 5),
        FormatError::Gap { .. }
    );
}

#[test]
fn names_have_length_and_content_limits() {
    let named = |name: &str| format!("{{{}}}", entry(name, 0, 4));
    let longest = "n".repeat(1024);
    parse(Format::Safetensors, &file(&named(&longest), 4)).unwrap();
    refused!(
        refuse(&named(&"n".repeat(1025)), 4),
        FormatError::TooLarge {
            field: "tensor name length",
            value: 1025,
            limit: 1024,
            ..
        }
    );
    for bad in ["", r"a\u0000", r"\u001b[2J", r"a\n"] {
        let text = refused!(
            refuse(&named(bad), 4),
            FormatError::BadName { what: "tensor", .. }
        );
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    refused!(
        refuse(r#"{"__metadata__":{"a\u0000":""}}"#, 0),
        FormatError::BadName { .. }
    );
    let few = limits(|l| l.tensors = 2);
    let names = |n: usize| {
        let all: Vec<_> = (0..n).map(|i| entry(&format!("t{i}"), i, 1)).collect();
        format!("{{{}}}", all.join(","))
    };
    parse_with(Format::Safetensors, &file(&names(2), 2), &few).unwrap();
    refused!(
        refuse_under(&few, &names(3), 3),
        FormatError::TooLarge {
            field: "number of tensors",
            value: 3,
            limit: 2,
            ..
        }
    );
    let short = limits(|l| l.string_bytes = 3);
    refused!(
        refuse_under(&short, r#"{"__metadata__":{"four":""}}"#, 0),
        FormatError::TooLarge {
            field: "metadata key length",
            value: 4,
            limit: 3,
            ..
        }
    );
}

#[test]
fn a_claimed_extension_must_hold_and_content_speaks_otherwise() {
    let good = file(&format!("{{{}}}", entry("a", 0, 4)), 4);
    for ext in [Some("safetensors"), Some("SafeTensors"), Some("bin"), None] {
        assert_eq!(detect(ext, &good).unwrap(), Format::Safetensors);
    }
    let raw = b"just some bytes, nothing to parse".to_vec();
    assert_eq!(detect(Some("bin"), &raw).unwrap(), Format::Raw);
    assert_eq!(detect(None, &Vec::new()).unwrap(), Format::Raw);
    // Cut inside the header: no plain bytes, whatever the name says.
    for cut in [9, 10, good.len() - 5] {
        for extension in [None, Some("bin")] {
            refused!(
                detect(extension, &good[..cut].to_vec()).unwrap_err(),
                FormatError::Truncated { .. }
            );
        }
    }
    assert_eq!(detect(None, &good[..8].to_vec()).unwrap(), Format::Raw);
    // No header is that long.
    let mut long = 100_000_001_u64.to_le_bytes().to_vec();
    long.extend_from_slice(b"{}");
    assert_eq!(detect(None, &long).unwrap(), Format::Raw);
    assert_eq!(
        detect(None, &b"\0\0\0\0\0\0\0\0{}".to_vec()).unwrap(),
        Format::Raw
    );
    refused!(
        detect(Some("safetensors"), &raw).unwrap_err(),
        FormatError::TooLarge { .. }
    );
    // Starts like safetensors, so it must be: a cut file is never plain bytes.
    let cut = good[..good.len() - 1].to_vec();
    refused!(
        detect(None, &cut).unwrap_err(),
        FormatError::OutsideFile { .. }
    );

    let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 90\n");
    for ext in [Some("safetensors"), Some("bin"), None] {
        let error = detect(ext, &pointer.clone().into_bytes()).unwrap_err();
        let text = refused!(error, FormatError::LfsPointer(_));
        assert!(text.contains(oid) && text.contains("90 bytes"), "{text}");
    }
    // Called plain bytes by name, a pointer is that.
    let bytes = pointer.clone().into_bytes();
    let empty = parse(Format::Raw, &bytes).unwrap();
    assert!(empty.tensors().is_empty() && empty.data_start() == 0);
    refused!(
        parse(Format::Safetensors, &bytes).unwrap_err(),
        FormatError::LfsPointer(_)
    );
    let broken = pointer.replace("size", "siez").into_bytes();
    refused!(
        detect(None, &broken).unwrap_err(),
        FormatError::LfsMalformed { line: 3, .. }
    );
}
