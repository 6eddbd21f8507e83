//! An error names the tensor, the metadata key or the offset that it is about.

mod format_gguf_writer;

use format_gguf_writer::{F32, Writer, text};
use vram_residency::format::{Format, FormatError, Limits, TensorTable, index, parse_with};

fn gguf(writer: &Writer) -> String {
    gguf_under(writer, |_| ())
}

fn gguf_under(writer: &Writer, change: fn(&mut Limits)) -> String {
    let mut limits = Limits::default();
    change(&mut limits);
    let error = parse_with(Format::Gguf, &writer.file(), &limits).unwrap_err();
    let FormatError::In { place, source } = &error else {
        return error.to_string();
    };
    assert_eq!(error.to_string(), format!("{place}: {source}"));
    assert_eq!(error.rule().to_string(), source.to_string());
    error.to_string()
}

#[test]
fn limits_of_gguf_name_the_key_or_the_tensor() {
    let good = || Writer::new().pair("general.name", 8, &text(b"two"));
    let told = gguf(&good().pair("a.text", 8, &text(&[b'x'; 65_537])));
    let limit = "metadata string length is 65537, over the limit of 65536 (string_bytes)";
    assert_eq!(told, format!("metadata key \"a.text\": {limit}"));
    let told = gguf(&good().array("a.list", 0, 4_194_305, &[]));
    assert!(told.starts_with("metadata key \"a.list\": metadata array length is 4194305"));
    let told = gguf(&good().array("a.list", 8, 1, &text(&[b'x'; 65_537])));
    assert!(told.starts_with("metadata key \"a.list\": array string length is 65537"));
    let told = gguf(&good().pair("a.text", 8, &text(b"\xff")));
    assert!(told.starts_with("metadata key \"a.text\": metadata string at offset "));
    let told = gguf(&good().pair("a.text", 8, &4096_u64.to_le_bytes()));
    assert!(told.starts_with("metadata key \"a.text\": metadata string length at offset "));
    // A key that cannot be read has a number.
    let told = gguf(&good().pair(&"k".repeat(65_537), 8, &text(b"")));
    assert!(told.starts_with("metadata entry 2: metadata key length is 65537"));

    let told = gguf(&good().tensor(b"a.weight", &[1, 1, 1, 1, 1], F32, 0));
    let limit = "number of dimensions is 5, over the limit of 4";
    assert_eq!(told, format!("tensor \"a.weight\": {limit}"));
    let one = good().tensor(b"a.weight", &[1], F32, 0);
    let told = gguf(&one.tensor(&[b'x'; 128], &[1], F32, 32));
    assert!(told.starts_with("tensor 2: tensor name length is 128"));
}

// requirement: VA-10, PF-11
#[test]
fn texts_of_metadata_have_a_limit_together() {
    let two = || {
        Writer::new()
            .pair("a", 8, &text(&[b'x'; 9]))
            .pair("b", 8, &text(&[b'x'; 9]))
    };
    assert_eq!(two().table().metadata().len(), 2);
    parse_with(Format::Gguf, &two().file(), &limit(20)).unwrap();
    let error = parse_with(Format::Gguf, &two().file(), &limit(19)).unwrap_err();
    let told =
        "metadata key \"b\": bytes of metadata text is 20, over the limit of 19 (metadata_bytes)";
    assert_eq!(error.to_string(), told);
    let header = r#"{"__metadata__":{"a":"xxxxxxxxx","b":"xxxxxxxxx"}}"#;
    safetensors_under(header, &limit(20)).unwrap();
    let error = safetensors_under(header, &limit(19)).unwrap_err();
    assert_eq!(error.to_string(), told);
}

fn limit(metadata_bytes: u64) -> Limits {
    let mut limits = Limits::default();
    limits.metadata_bytes = metadata_bytes;
    limits
}

fn safetensors(header: &str) -> String {
    safetensors_under(header, &Limits::default())
        .unwrap_err()
        .to_string()
}

fn safetensors_under(header: &str, limits: &Limits) -> Result<TensorTable, FormatError> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    parse_with(Format::Safetensors, &bytes, limits)
}

#[test]
fn json_that_is_wrong_inside_a_tensor_names_it() {
    let described = |value: &str| safetensors(&format!(r#"{{"a.weight":{value}}}"#));
    for value in [
        "5",
        r#"{"dtype":5}"#,
        r#"{"dtype":"U8","shape":{}}"#,
        r#"{"dtype":"U8","shape":[-1]}"#,
        r#"{"dtype":"U8","data_offsets":[0,1,2]}"#,
        r#"{"dtype":"U8";"#,
    ] {
        let told = described(value);
        assert!(
            told.starts_with("tensor \"a.weight\": JSON, line 1, column "),
            "{told}"
        );
    }
    let shape = format!(r#"{{"shape":[{}]}}"#, ["1"; 17].join(","));
    let told = described(&shape);
    assert_eq!(
        told,
        "tensor \"a.weight\": number of dimensions is 17, over the limit of 16 (dims)"
    );
    // What names the tensor already says so once.
    let told = described(r#"{"dtype":"U7"}"#);
    assert_eq!(told.matches("a.weight").count(), 1, "{told}");
    let told = safetensors(r#"{"__metadata__":{"made by":5}}"#);
    assert!(
        told.starts_with("metadata key \"made by\": JSON, "),
        "{told}"
    );
    // Behind the last tensor nothing is named that is not to blame.
    let told = safetensors(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]};"#);
    assert!(told.starts_with("JSON, "), "{told}");

    let index = r#"{"weight_map":{"a.weight":7}}"#;
    let told = index::parse(&index.as_bytes(), &Limits::default()).unwrap_err();
    assert!(
        told.to_string().starts_with("tensor \"a.weight\": JSON, "),
        "{told}"
    );
}

#[test]
fn a_name_that_is_too_long_is_named_in_part() {
    let long = "x".repeat(2000);
    let told = safetensors(&format!(r#"{{"{long}":{{}}}}"#));
    let expected = format!("tensor \"{}...\": tensor name length is 2000", &long[..80]);
    assert!(told.starts_with(&expected), "{told}");
}

#[test]
fn what_overflows_is_told_with_its_value() {
    let max = u64::MAX;
    let of = |shape: &str, start: u64| {
        let offsets = format!("[{start},{max}]");
        safetensors(&format!(
            r#"{{"a":{{"dtype":"F64","shape":{shape},"data_offsets":{offsets}}}}}"#
        ))
    };
    assert_eq!(
        of("[0]", max),
        format!("data_offsets of tensor \"a\" overflows 64 bits: [{max}, {max}]")
    );
    assert_eq!(
        of(&format!("[{max},2]"), 0),
        format!("shape of tensor \"a\" overflows 64 bits: [{max}, 2]")
    );
    assert_eq!(
        of(&format!("[{max}]"), 0),
        format!("length of tensor \"a\" overflows 64 bits: {max} elements of F64")
    );
    let offset = max - 31;
    let told = gguf(&Writer::new().tensor(b"a", &[16], F32, offset).data(64));
    assert_eq!(
        told,
        format!("offset of tensor \"a\" overflows 64 bits: {offset}")
    );
    let long = (1 << 62) - 1;
    let told = gguf(&Writer::new().tensor(b"a", &[long], F32, 0).data(64));
    assert!(
        told.starts_with("end of tensor \"a\" overflows 64 bits: "),
        "{told}"
    );
    assert!(told.ends_with(" + 18446744073709551612"), "{told}");
}
