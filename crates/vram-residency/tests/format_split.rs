//! Split GGUF models: their metadata, their names, and parts that contradict
//! each other.
//!
//! requirement: VA-10

mod format_gguf_writer;

use format_gguf_writer::{F32, Writer, text};
use vram_residency::format::gguf::{Split, check_parts};
use vram_residency::format::{FormatError, Limits, TensorTable};

macro_rules! refused {
    ($error:expr, $pattern:pat) => {{
        let error = $error;
        assert!(matches!(error.rule(), $pattern), "{error:?}");
        error.to_string()
    }};
}

/// One part with a tensor of that name.
fn part(number: u16, count: u16, tensors: i32, name: &[u8]) -> TensorTable {
    Writer::new()
        .pair("split.no", 2, &number.to_le_bytes())
        .pair("split.count", 2, &count.to_le_bytes())
        .pair("split.tensors.count", 5, &tensors.to_le_bytes())
        .tensor(name, &[8], F32, 0)
        .data(32)
        .table()
}

#[test]
fn split_metadata_is_whole_and_consistent() {
    let limits = Limits::default();
    let of = |writer: Writer| Split::of(&writer.table(), &limits);
    assert_eq!(of(Writer::new()).unwrap(), None);
    let found = Split::of(&part(1, 3, 9, b"a"), &limits).unwrap().unwrap();
    assert_eq!((found.number, found.count, found.tensors), (1, 3, 9));
    // The only part, and what `llama-gguf-split --merge` leaves in its output.
    for count in [0, 1] {
        let whole = part(0, count, 1, b"a");
        assert_eq!(Split::of(&whole, &limits).unwrap(), None, "{count}");
    }
    let no = Writer::new().pair("split.no", 2, &[0, 0]);
    refused!(
        of(no.clone()).unwrap_err(),
        FormatError::Missing {
            field: "split.count",
            ..
        }
    );
    let no_sum = no.clone().pair("split.count", 2, &[1, 0]);
    refused!(
        of(no_sum).unwrap_err(),
        FormatError::Missing {
            field: "split.tensors.count",
            ..
        }
    );
    refused!(
        of(no.pair("split.count", 8, &text(b"2"))).unwrap_err(),
        FormatError::BadValue { .. }
    );
    let lists = ["split.no", "split.count", "split.tensors.count"]
        .iter()
        .fold(Writer::new(), |w, key| w.array(key, 2, 1, &[1, 0]));
    refused!(of(lists).unwrap_err(), FormatError::BadValue { .. });
    for (number, count) in [(3, 3), (1, 0), (1, 1), (9, 3)] {
        let error = Split::of(&part(number, count, 1, b"a"), &limits).unwrap_err();
        refused!(error, FormatError::BadValue { .. });
    }
    let error = Split::of(&part(0, 2, -1, b"a"), &limits).unwrap_err();
    assert!(error.to_string().contains("is -1"), "{error}");
    refused!(
        Split::of(&part(0, 10_001, 1, b"a"), &limits).unwrap_err(),
        FormatError::TooLarge {
            field: "split.count",
            value: 10_001,
            limit: 10_000,
            ..
        }
    );
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let limits = Limits::default();
    let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let check =
        |a: &TensorTable, b: &TensorTable| check_parts(&[(names[0], a), (names[1], b)], &limits);
    let (a, b) = (part(0, 2, 2, b"a"), part(1, 2, 2, b"b"));
    check(&a, &b).unwrap();
    let set =
        |result: Result<(), FormatError>| refused!(result.unwrap_err(), FormatError::Set { .. });
    assert!(set(check(&b, &a)).contains("m-00001-of-00002.gguf"));
    assert!(set(check(&a, &a)).contains("part 0 of 2"));
    assert!(set(check(&a, &part(1, 3, 2, b"b"))).contains("part 1 of 3"));
    assert!(set(check(&a, &part(1, 2, 3, b"b"))).contains("has 3 tensors"));
    assert!(set(check(&part(0, 2, 3, b"a"), &part(1, 2, 3, b"b"))).contains("hold 2 tensors"));
    refused!(
        check(&a, &part(1, 2, 2, b"a")).unwrap_err(),
        FormatError::Duplicate { .. }
    );
    set(check(&a, &Writer::new().table()));
    set(check_parts(&[(names[0], &a)], &limits));
    set(check_parts(&[(names[0], &a), ("other.gguf", &b)], &limits));
    set(check_parts(
        &[(names[0], &a), ("m-00001-of-00002.gguf", &b)],
        &limits,
    ));
    set(check_parts(
        &[("m-00001-of-00003.gguf", &a), (names[1], &b)],
        &limits,
    ));
    check_parts(&[], &limits).unwrap();
}
