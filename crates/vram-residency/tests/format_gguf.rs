//! The GGUF reader: every rule it enforces.
//!
//! requirement: VA-10, IV-005

#[path = "common/cases.rs"]
mod cases;
mod format_gguf_writer;

use cases::cases;
use format_gguf_writer::{F32, Writer, text};
use proptest::prelude::*;
use vram_residency::format::{
    Dtype, Format, FormatError, Limits, MetaValue, detect, parse, parse_with,
};

const Q4_0: u32 = 2;
const I8: u32 = 24;

/// What the reader says about a file it refuses.
trait Refused {
    fn refused(&self) -> FormatError;
    fn refused_under(&self, limits: &Limits) -> FormatError;
}

impl Refused for Writer {
    fn refused(&self) -> FormatError {
        self.refused_under(&Limits::default())
    }

    fn refused_under(&self, limits: &Limits) -> FormatError {
        parse_with(Format::Gguf, &self.file(), limits).unwrap_err()
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

macro_rules! refused {
    ($error:expr, $pattern:pat) => {{
        let error = $error;
        assert!(matches!(error.rule(), $pattern), "{error:?}");
        error.to_string()
    }};
}

/// Two tensors: 12 bytes, padding, 18 bytes.
fn two() -> Writer {
    Writer::new()
        .pair("general.name", 8, &text(b"two"))
        .tensor(b"a", &[3], F32, 0)
        .tensor(b"b", &[32, 1], Q4_0, 32)
        .data(50)
}

#[test]
fn tensors_lie_in_the_data_section_outermost_dimension_first() {
    let writer = two().tensor(b"c", &[2, 3, 5], I8, 64).data(94);
    let table = writer.table();
    let start = writer.header().len().next_multiple_of(32) as u64;
    assert_eq!(table.data_start(), start);
    let c = table.get("c").unwrap();
    assert_eq!((c.shape.as_slice(), c.dtype), (&[5, 3, 2][..], Dtype::I8));
    assert_eq!((c.offset, c.len), (start + 64, 30));
    let b = table.get("b").unwrap();
    assert_eq!((b.offset, b.len, b.dtype), (start + 32, 18, Dtype::Q4_0));
    // Padding belongs to no tensor.
    assert_eq!(table.which_tensors(start + 12..start + 32).count(), 0);
    // The last tensor may be padded as well, but no further.
    for (data, fits) in [(30, true), (31, true), (32, true), (33, false)] {
        let bytes = writer.clone().data(64 + data).file();
        let result = parse(Format::Gguf, &bytes);
        assert_eq!(result.is_ok(), fits, "{data}: {result:?}");
    }
    let scalar = Writer::new().tensor(b"s", &[], F32, 0).data(4).table();
    assert_eq!(scalar.get("s").unwrap().len, 4);
}

#[test]
fn a_file_without_tensors_may_end_after_its_metadata() {
    let writer = Writer::new().pair("k", 7, &[1]);
    let table = parse(Format::Gguf, &writer.header()).unwrap();
    assert_eq!(table.metadata_value("k"), Some(&MetaValue::Bool(true)));
    assert_eq!(table.data_start(), writer.header().len() as u64);
    assert_eq!(writer.table().data_start() % 32, 0);
    refused!(
        writer.clone().data(1).refused(),
        FormatError::Trailing { .. }
    );
}

#[test]
fn the_start_is_magic_version_and_counts() {
    let good = two().file();
    for cut in [0, 3, 4, 7, 8, 15, 16, 23] {
        let error = parse(Format::Gguf, &good[..cut].to_vec()).unwrap_err();
        refused!(error, FormatError::Truncated { .. });
    }
    let mut other = good.clone();
    other[0] = b'g';
    let error = parse(Format::Gguf, &other).unwrap_err();
    let message = refused!(
        error,
        FormatError::WrongStart {
            expected: Format::Gguf,
            ..
        }
    );
    assert!(message.starts_with("not a GGUF file"), "{message}");
    for version in [0, 1, 4, u32::MAX] {
        let mut writer = two();
        writer.version = version;
        let message = refused!(writer.refused(), FormatError::Version(_));
        assert!(message.contains(&version.to_string()), "{message}");
    }
    for version in [1_u32, 2, 3] {
        let mut writer = two();
        writer.version = version.swap_bytes();
        let message = refused!(writer.refused(), FormatError::BigEndian);
        assert!(message.contains("big-endian"), "{message}");
    }
}

#[test]
fn counts_are_held_against_limit_and_file() {
    let claim = |tensors, pairs| {
        let mut writer = two();
        writer.claim = (tensors, pairs);
        writer.refused()
    };
    refused!(
        claim(Some(10_001), None),
        FormatError::TooLarge {
            field: "number of tensors",
            value: 10_001,
            limit: 10_000,
            ..
        }
    );
    refused!(claim(Some(u64::MAX), None), FormatError::TooLarge { .. });
    refused!(
        claim(None, Some(1_001)),
        FormatError::TooLarge {
            field: "number of metadata entries",
            value: 1_001,
            limit: 1_000,
            ..
        }
    );
    // Within the limits, but the file has no room for so many.
    refused!(
        claim(Some(10_000), None),
        FormatError::Truncated {
            field: "tensor descriptions",
            need: 250_000,
            ..
        }
    );
    refused!(
        claim(None, Some(1_000)),
        FormatError::Truncated {
            field: "metadata pairs",
            need: 13_000,
            ..
        }
    );
    let few = limits(|l| l.gguf_tensors = 2);
    parse_with(Format::Gguf, &two().file(), &few).unwrap();
    let three = two().tensor(b"c", &[1], F32, 64).data(68);
    refused!(
        three.refused_under(&few),
        FormatError::TooLarge {
            value: 3,
            limit: 2,
            ..
        }
    );
}

#[test]
fn strings_and_arrays_cannot_claim_more_than_there_is() {
    let long = vec![b'x'; 65_536];
    Writer::new().pair("k", 8, &text(&long)).table();
    refused!(
        Writer::new()
            .pair("k", 8, &text(&vec![b'x'; 65_537]))
            .refused(),
        FormatError::TooLarge {
            field: "metadata string length",
            value: 65_537,
            limit: 65_536,
            ..
        }
    );
    refused!(
        Writer::new()
            .pair("k", 8, &60_000_u64.to_le_bytes())
            .refused(),
        FormatError::Truncated {
            field: "metadata string length",
            need: 60_000,
            ..
        }
    );
    refused!(
        Writer::new()
            .pair("k", 8, &u64::MAX.to_le_bytes())
            .refused(),
        FormatError::TooLarge {
            value: u64::MAX,
            ..
        }
    );
    let key = "k".repeat(65_537);
    refused!(
        Writer::new().pair(&key, 0, &[0]).refused(),
        FormatError::TooLarge {
            field: "metadata key length",
            ..
        }
    );
    let array = |kind, len, values: &[u8]| Writer::new().array("a", kind, len, values);
    let table = array(8, 2, &[text(b"one"), text(b"")].concat()).table();
    let two_strings = MetaValue::Array {
        element: "string",
        len: 2,
    };
    assert_eq!(table.metadata_value("a"), Some(&two_strings));
    array(12, 3, &[0; 24]).table();
    refused!(
        array(12, 5, &[0; 1]).refused(),
        FormatError::Truncated {
            field: "metadata array",
            need: 40,
            ..
        }
    );
    refused!(
        array(8, 4_000_000, &[]).refused(),
        FormatError::Truncated {
            need: 32_000_000,
            ..
        }
    );
    refused!(
        array(0, 4_194_305, &[]).refused(),
        FormatError::TooLarge {
            field: "metadata array length",
            limit: 4_194_304,
            ..
        }
    );
    refused!(
        array(10, u64::MAX, &[]).refused(),
        FormatError::TooLarge { .. }
    );
    refused!(
        array(8, 2, &text(&vec![b'x'; 65_537])).refused(),
        FormatError::TooLarge {
            field: "array string length",
            ..
        }
    );
    refused!(
        array(8, 1, &50_000_u64.to_le_bytes()).refused(),
        FormatError::Truncated { need: 50_000, .. }
    );
    refused!(
        array(9, 1, &[0; 12]).refused(),
        FormatError::BadValue {
            field: "array element type",
            ..
        }
    );
    refused!(
        array(13, 1, &[0]).refused(),
        FormatError::BadValue {
            field: "value type",
            ..
        }
    );
    // A limit of the caller's beyond what fits 64 bits in bytes.
    let any = limits(|l| l.array_elements = u64::MAX);
    refused!(
        array(10, u64::MAX, &[]).refused_under(&any),
        FormatError::Truncated { .. }
    );
    // Many small pairs, deep nothing: the bomb of nested arrays stops at once.
    let nested = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes()]
        .concat()
        .repeat(10_000);
    refused!(
        Writer::new().pair("n", 9, &nested).refused(),
        FormatError::BadValue { .. }
    );
}

#[test]
fn the_header_limit_counts_everything_before_the_data() {
    let writer = two();
    let len = writer.header().len() as u64;
    let exact = limits(|l| l.gguf_header_bytes = len);
    parse_with(Format::Gguf, &writer.file(), &exact).unwrap();
    for short in [len - 1, 24, 5, 0] {
        let limits = limits(|l| l.gguf_header_bytes = short);
        let error = writer.refused_under(&limits);
        assert!(
            matches!(error.rule(), FormatError::TooLarge { field: "header length", limit, .. } if *limit == short),
            "{short}: {error:?}"
        );
    }
}

#[test]
fn metadata_is_typed_and_unambiguous() {
    for kind in [13, 99, u32::MAX] {
        refused!(
            Writer::new().pair("k", kind, &[0; 8]).refused(),
            FormatError::BadValue {
                field: "value type",
                ..
            }
        );
    }
    for wrong in [2, 255] {
        refused!(
            Writer::new().pair("k", 7, &[wrong]).refused(),
            FormatError::BadValue { field: "bool", .. }
        );
    }
    let twice = Writer::new()
        .pair("k", 0, &[1])
        .pair("j", 0, &[1])
        .pair("k", 0, &[2]);
    refused!(
        twice.refused(),
        FormatError::Duplicate {
            what: "metadata key",
            ..
        }
    );
    refused!(
        Writer::new().pair("", 0, &[1]).refused(),
        FormatError::BadName { .. }
    );
    refused!(
        Writer::new().pair("a\0b", 0, &[1]).refused(),
        FormatError::BadName { .. }
    );
    refused!(
        Writer::new().pair("k", 8, &text(b"\xff\xfe")).refused(),
        FormatError::NotUtf8 {
            field: "metadata string",
            ..
        }
    );
}

#[test]
fn the_alignment_is_a_power_of_two() {
    let with = |kind: u32, value: &[u8]| {
        Writer::new()
            .pair("general.alignment", kind, value)
            .tensor(b"a", &[8], F32, 0)
            .tensor(b"b", &[8], F32, 64)
            .data(96)
    };
    let bytes = with(4, &64_u32.to_le_bytes()).aligned(64);
    let table = parse(Format::Gguf, &bytes).unwrap();
    assert_eq!(table.data_start() % 64, 0);
    assert_eq!(table.get("b").unwrap().offset, table.data_start() + 64);
    for wrong in [0_u32, 3, 33, u32::MAX] {
        let error = with(4, &wrong.to_le_bytes()).refused();
        let message = refused!(error, FormatError::BadValue { .. });
        assert!(message.contains("general.alignment"), "{message}");
    }
    refused!(
        with(5, &32_i32.to_le_bytes()).refused(),
        FormatError::BadValue { .. }
    );
    refused!(
        with(8, &text(b"32")).refused(),
        FormatError::BadValue { .. }
    );
    refused!(
        with(10, &(1_u64 << 40).to_le_bytes()).refused(),
        FormatError::BadValue { .. }
    );
    // With 32 the second tensor leaves a gap, with 128 it is not aligned.
    refused!(
        with(4, &32_u32.to_le_bytes()).refused(),
        FormatError::Gap { .. }
    );
    let message = refused!(
        with(4, &128_u32.to_le_bytes()).refused(),
        FormatError::Unaligned {
            offset: 64,
            alignment: 128,
            ..
        }
    );
    assert!(message.contains("\"b\""), "{message}");
    // A data section that would start past the end of the file.
    refused!(
        with(4, &(1_u32 << 31).to_le_bytes()).refused(),
        FormatError::Unaligned { .. }
    );
    let far = Writer::new()
        .pair("general.alignment", 4, &(1_u32 << 31).to_le_bytes())
        .tensor(b"a", &[8], F32, 0)
        .data(32);
    refused!(far.refused(), FormatError::OutsideFile { .. });
}

#[test]
fn tensor_descriptions_hold_together() {
    let one = |name: &[u8], dims: &[u64], kind, offset| {
        Writer::new().tensor(name, dims, kind, offset).data(64)
    };
    one(&[b'n'; 127], &[16], F32, 0).table();
    refused!(
        one(&[b'n'; 128], &[16], F32, 0).refused(),
        FormatError::TooLarge {
            field: "tensor name length",
            value: 128,
            limit: 127,
            ..
        }
    );
    refused!(
        one(b"", &[16, 1], F32, 0).refused(),
        FormatError::BadName { what: "tensor", .. }
    );
    refused!(
        one(b"a\0", &[16], F32, 0).refused(),
        FormatError::BadName { .. }
    );
    refused!(
        one(b"\xc3", &[16], F32, 0).refused(),
        FormatError::NotUtf8 { .. }
    );
    refused!(
        one(b"a", &[2, 2, 2, 2, 1], F32, 0).refused(),
        FormatError::TooLarge {
            field: "number of dimensions",
            value: 5,
            limit: 4,
            ..
        }
    );
    one(b"a", &[2, 2, 2, 2], F32, 0).table();
    for kind in [4, 5, 31, 36, 43, u32::MAX] {
        refused!(
            one(b"a", &[16], kind, 0).refused(),
            FormatError::BadValue { field: "type", .. }
        );
    }
    refused!(
        one(b"a", &[33], Q4_0, 0).refused(),
        FormatError::PartialBlock { elements: 33, .. }
    );
    // The whole is a multiple of the block, the rows are not.
    refused!(
        one(b"a", &[16, 4], Q4_0, 0).refused(),
        FormatError::PartialBlock { elements: 16, .. }
    );
    refused!(
        one(b"a", &[u64::MAX, 2], F32, 0).refused(),
        FormatError::Overflow { .. }
    );
    refused!(
        one(b"a", &[1 << 62], F32, 0).refused(),
        FormatError::Overflow { .. }
    );
    refused!(
        one(b"a", &[16], F32, 1).refused(),
        FormatError::Unaligned { .. }
    );
    refused!(
        one(b"a", &[16], F32, u64::MAX - 31).refused(),
        FormatError::Overflow { .. }
    );
    refused!(
        one(b"a", &[17], F32, 0).refused(),
        FormatError::OutsideFile { .. }
    );
    refused!(one(b"a", &[16], F32, 32).refused(), FormatError::Gap { .. });
    let dims = limits(|l| l.dims = 1);
    refused!(
        one(b"a", &[4, 4], F32, 0).refused_under(&dims),
        FormatError::TooLarge { limit: 1, .. }
    );
}

#[test]
fn tensors_neither_overlap_nor_leave_gaps_nor_share_names() {
    let with = |offset| {
        two()
            .tensor(b"c", &[8], F32, offset)
            .data(usize::try_from(offset).unwrap() + 32)
    };
    with(64).table();
    refused!(with(32).refused(), FormatError::Overlap { .. });
    refused!(with(0).refused(), FormatError::Overlap { .. });
    refused!(with(96).refused(), FormatError::Gap { .. });
    refused!(
        two().tensor(b"a", &[8], F32, 64).data(96).refused(),
        FormatError::Duplicate { what: "tensor", .. }
    );
    refused!(two().data(49).refused(), FormatError::OutsideFile { .. });
    refused!(two().data(65).refused(), FormatError::Trailing { .. });
    // Any order in the header, the file order in the table.
    let table = Writer::new()
        .tensor(b"late", &[8], F32, 32)
        .tensor(b"early", &[8], F32, 0)
        .data(64)
        .table();
    let names: Vec<_> = table.tensors().iter().map(|t| &*t.name).collect();
    assert_eq!(names, ["early", "late"]);
}

#[test]
fn content_and_extension_recognise_gguf() {
    let bytes = two().file();
    for ext in [Some("gguf"), Some("GGUF"), Some("bin"), None] {
        assert_eq!(detect(ext, &bytes).unwrap(), Format::Gguf);
    }
    refused!(
        detect(Some("safetensors"), &bytes).unwrap_err(),
        FormatError::OtherFormat {
            found: Format::Gguf,
            ..
        }
    );
    refused!(
        detect(Some("gguf"), &b"plain bytes".to_vec()).unwrap_err(),
        FormatError::WrongStart { .. }
    );
    refused!(
        detect(None, &b"GGUF".to_vec()).unwrap_err(),
        FormatError::Truncated { .. }
    );
    let small = limits(|l| l.file_bytes = 10);
    refused!(
        two().refused_under(&small),
        FormatError::TooLarge {
            field: "file length",
            ..
        }
    );
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn mutated_files_never_panic_and_never_leave_the_file(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = two()
            .pair("general.alignment", 4, &32_u32.to_le_bytes())
            .array("tokens", 8, 2, &[text(b"one"), text(b"three")].concat())
            .array("scores", 6, 3, &[0; 12])
            .file();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(table) = parse(Format::Gguf, &bytes) {
            let len = bytes.len() as u64;
            prop_assert!(table.tensors().iter().all(|t| t.range().end <= len));
            prop_assert!(table.data_start() <= len);
            prop_assert!(table.tensor_bytes() <= len);
        }
    }
}
