//! Memory that the parsers take is bounded by the file that is really there,
//! whatever its header claims. One test: the allocator counts the process.
//!
//! requirement: VA-10

#[path = "common/cases.rs"]
mod cases;

use cases::cases;
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use vram_residency::format::synth::{Like, MIN_BYTES, Spec, write};
use vram_residency::format::{Format, Limits, ReadAt, TensorInfo, index, parse, parse_with};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What may be taken beyond a multiple of the file: the reading window, and
/// metadata pairs, of which there are at most 1,000.
const FIXED: usize = 256 * 1024;

/// Bytes per byte of file that is accepted, or of many entries: those of the
/// shortest entries, and the room that is kept for them.
const FACTOR: usize = 6;

/// The shortest entry of a tensor in a safetensors header, and of an index: room
/// is kept for as many as fit. The latter takes 12 bytes, beside the names.
const SHORTEST: usize = 49;
const SHORTEST_LISTED: usize = 8;

/// Runs `parse` and holds its peak against the bound; gives what it returned.
fn bounded<T>(what: &str, len: usize, parse: impl FnOnce() -> T) -> T {
    within(what, FACTOR * len + FIXED, parse)
}

fn within<T>(what: &str, bound: usize, parse: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = parse();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    assert!(peak <= bound, "{what}: {peak} bytes, bound {bound}");
    result
}

fn both_formats(what: &str, bytes: &[u8]) {
    for format in [Format::Safetensors, Format::Gguf] {
        let _ = bounded(what, bytes.len(), || parse(format, &bytes));
    }
}

/// A file that claims a length it does not have: only the front can be read.
struct Sparse<'b>(&'b [u8], u64);

impl ReadAt for Sparse<'_> {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(offset, out)
    }
}

fn safetensors(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// A GGUF front: counts, then what follows them.
fn gguf(tensors: u64, pairs: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend_from_slice(&tensors.to_le_bytes());
    bytes.extend_from_slice(&pairs.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn claims() {
    both_formats("header length", &99_999_999_u64.to_le_bytes());
    both_formats("tensor count", &gguf(10_000, 0, &[]));
    both_formats("pair count", &gguf(0, 1_000, &[]));
    both_formats(
        "key length",
        &gguf(0, 1, &[60_000_u64.to_le_bytes(), [0; 8]].concat()),
    );
    let array = |kind: u32, len: u64| {
        let mut rest = 1_u64.to_le_bytes().to_vec();
        rest.extend_from_slice(b"k\x09\0\0\0");
        rest.extend_from_slice(&kind.to_le_bytes());
        rest.extend_from_slice(&len.to_le_bytes());
        rest.resize(rest.len() + 64, 0);
        gguf(0, 1, &rest)
    };
    both_formats("string array", &array(8, 4_000_000));
    both_formats("number array", &array(12, 4_000_000));
    // Limits raised as far as they go change nothing for a short file.
    let mut open = Limits::default();
    open.header_bytes = u64::MAX;
    open.gguf_tensors = u64::MAX;
    open.metadata_entries = u64::MAX;
    open.string_bytes = u64::MAX;
    open.array_elements = u64::MAX;
    for bytes in [
        gguf(u64::MAX, 0, &[]),
        gguf(0, u64::MAX, &[0xff; 64]),
        array(8, u64::MAX),
        vec![0xff; 64],
    ] {
        for format in [Format::Safetensors, Format::Gguf] {
            bounded("no limits", bytes.len(), || {
                parse_with(format, &bytes, &open)
            })
            .unwrap_err();
        }
    }
    // A length that cannot be had is an error, not an abort.
    let sparse = Sparse(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], u64::MAX);
    open.file_bytes = u64::MAX;
    bounded("absurd length", 8, || {
        parse_with(Format::Safetensors, &sparse, &open)
    })
    .unwrap_err();
}

fn bombs() {
    let deep = "[".repeat(500_000);
    let wide = "1,".repeat(250_000);
    for header in [
        format!("{{\"a\":{deep}"),
        format!("{{\"a\":{{\"shape\":{deep}"),
        format!("{{\"a\":{{\"shape\":[{wide}"),
        format!("{{\"a\":{{\"dtype\":\"{deep}\""),
        format!("{{\"{deep}\":1}}"),
        format!("{{\"__metadata__\":{{\"a\":\"{deep}\"}}}}"),
        "{\"a\":".repeat(100_000),
    ] {
        both_formats("bomb", &safetensors(&header));
        let limits = Limits::default();
        let _ = bounded("index bomb", header.len(), || {
            index::parse(&header.as_bytes(), &limits)
        });
        let listed = format!("{{\"x\":{header}");
        let _ = bounded("skipped bomb", listed.len(), || {
            index::parse(&listed.as_bytes(), &limits)
        });
    }
}

/// One text that fills the file, in every place where a text or anything else is
/// wanted: of DEL, which messages of serde escape to six times its length, and
/// after an escape, so that it is no slice of the file. It is unescaped once, and
/// nothing of it is copied. (The file itself lies in pages of its own, which the
/// allocator does not count.)
fn texts() {
    const LEN: usize = 4 << 20;
    let plain = "\u{7f}".repeat(LEN);
    let escaped = format!("\\n{}", "a".repeat(LEN));
    let mut open = Limits::default();
    open.metadata_bytes = 1000;
    for text in [plain, escaped] {
        let bound = text.len() + FIXED;
        let room = text.len() / SHORTEST * size_of::<TensorInfo>();
        for (before, after) in [
            ("", ""),
            ("{", ":1}"),
            ("{\"__metadata__\":", "}"),
            ("{\"__metadata__\":{", ":\"b\"}}"),
            ("{\"__metadata__\":{\"a\":", "}}"),
            ("{\"a\":", "}"),
            ("{\"a\":{", ":1}}"),
            ("{\"a\":{\"dtype\":", "}}"),
            ("{\"a\":{\"shape\":", "}}"),
            ("{\"a\":{\"shape\":[", "]}}"),
            ("{\"a\":{\"data_offsets\":", "}}"),
            ("{\"a\":{\"data_offsets\":[", "]}}"),
        ] {
            let bytes = safetensors(&format!("{before}\"{text}\"{after}"));
            let parsed = within(before, bound + room, || {
                parse_with(Format::Safetensors, &bytes, &open)
            });
            parsed.unwrap_err();
        }
        for (before, after) in [
            ("", ""),
            ("{", ":1}"),
            ("{\"metadata\":", "}"),
            ("{\"metadata\":{", ":1}}"),
            ("{\"metadata\":{\"total_size\":", "}}"),
            ("{\"x\":{\"y\":", "}}"),
        ] {
            let index = format!("{before}\"{text}\"{after}");
            let parsed = within(before, bound, || index::parse(&index.as_bytes(), &open));
            parsed.unwrap_err();
        }
        let entries = (text.len() / SHORTEST_LISTED).min(300_000);
        let room = text.len() + 12 * entries;
        for (before, after) in [
            ("{\"weight_map\":", "}"),
            ("{\"weight_map\":{", ":\"b\"}}"),
            ("{\"weight_map\":{\"a\":", "}}"),
        ] {
            let index = format!("{before}\"{text}\"{after}");
            let parsed = within(before, bound + room, || {
                index::parse(&index.as_bytes(), &open)
            });
            parsed.unwrap_err();
        }
    }
}

/// Files of the shortest entries there are: most table per byte of file.
fn dense() {
    let entry = |i: u32| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let entries: Vec<_> = (0..50_000).map(entry).collect();
    let bytes = safetensors(&format!("{{{}}}", entries.join(",")));
    drop(entries);
    let table = bounded("dense safetensors", bytes.len(), || {
        parse(Format::Safetensors, &bytes)
    });
    assert_eq!(table.unwrap().tensors().len(), 50_000);

    let mut rest = Vec::new();
    for i in 0..10_000_u32 {
        let name = format!("{i:x}");
        rest.extend_from_slice(&(name.len() as u64).to_le_bytes());
        rest.extend_from_slice(name.as_bytes());
        rest.extend_from_slice(&1_u32.to_le_bytes());
        rest.extend_from_slice(&[0; 20]);
    }
    let bytes = gguf(10_000, 0, &rest);
    let table = bounded("dense GGUF", bytes.len(), || parse(Format::Gguf, &bytes));
    let error = table.map(|t| t.tensors().len()).unwrap_err();
    assert!(error.to_string().contains("ends at"), "{error}");

    let entries: Vec<_> = (0..200_000)
        .map(|i| format!("\"{i:x}\":\"{:x}\"", i % 5_000))
        .collect();
    let text = format!("{{\"weight_map\":{{{}}}}}", entries.join(","));
    drop(entries);
    let limits = Limits::default();
    let found = bounded("dense index", text.len(), || {
        index::parse(&text.as_bytes(), &limits)
    });
    assert_eq!(found.unwrap().files().len(), 5_000);
}

/// Real headers with a few bytes changed.
fn mutated() {
    let fronts = [Format::Safetensors, Format::Gguf].map(|format| {
        let mut bytes = Vec::new();
        let like = Like::Llama;
        write(
            &Spec {
                format,
                like,
                size: MIN_BYTES,
                seed: 1,
            },
            &mut bytes,
        )
        .unwrap();
        bytes
    });
    let edits = prop::collection::vec((0_usize..2_000, any::<u8>()), 1..6);
    proptest!(cases(1000), |(edits in edits, which in 0_usize..2)| {
        let mut bytes = fronts[which].clone();
        for (at, value) in edits {
            bytes[at] = value;
        }
        both_formats("mutated", &bytes);
    });
}

#[test]
fn memory_is_bounded_by_the_file() {
    claims();
    bombs();
    texts();
    dense();
    mutated();
}
