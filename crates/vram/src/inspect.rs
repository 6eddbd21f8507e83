//! `vram inspect`.

use std::path::PathBuf;

use serde::Serialize;
use vram_residency::format::{MetaValue, TensorInfo};
use vram_residency::load::{Model, Part};

use crate::failure::Failure;
use crate::limits::LimitArgs;
use crate::output::Output;
use crate::text;

/// Show the tensors of a model: names, types, shapes and places in the file
///
/// Reads headers only. Takes a safetensors or GGUF file, an index with its
/// files, the first part of a split GGUF, or a directory that holds one of
/// these.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram inspect model.safetensors
  vram inspect model.safetensors.index.json
  vram inspect model.gguf --json

Exit codes: 0 fine, 1 failure, 2 usage.")]
pub(crate) struct Args {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    model: &'a str,
    bytes: u64,
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct File<'a> {
    file: String,
    format: String,
    bytes: u64,
    data_start: u64,
    metadata: Vec<Meta<'a>>,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Meta<'a> {
    key: &'a str,
    value: String,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [u64],
    offset: u64,
    bytes: u64,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let model = Model::open_with(&self.model, &self.limits.limits())?;
        if output.is_json() {
            return output.json(&Report {
                schema: "vram-residency/inspect/v1",
                model: model.name(),
                bytes: model.bytes(),
                files: model.parts().iter().map(file).collect(),
            });
        }
        model
            .parts()
            .iter()
            .try_for_each(|part| print(part, output))
    }
}

fn file(part: &Part) -> File<'_> {
    let table = part.tensors();
    File {
        file: part.path().to_string_lossy().into_owned(),
        format: part.format().to_string(),
        bytes: part.bytes(),
        data_start: table.data_start(),
        metadata: table
            .metadata()
            .iter()
            .map(|(key, value)| Meta {
                key,
                value: shown(value),
            })
            .collect(),
        tensors: table.tensors().iter().map(tensor).collect(),
    }
}

fn tensor(info: &TensorInfo) -> Tensor<'_> {
    Tensor {
        name: &info.name,
        dtype: info.dtype.to_string(),
        shape: &info.shape,
        offset: info.offset,
        bytes: info.len,
    }
}

fn shown(value: &MetaValue) -> String {
    match value {
        MetaValue::Text(text) => text.clone(),
        MetaValue::Unsigned(number) => number.to_string(),
        MetaValue::Signed(number) => number.to_string(),
        MetaValue::Float(number) => number.to_string(),
        MetaValue::Bool(truth) => truth.to_string(),
        MetaValue::Array { element, len } => format!("{len} x {element}"),
        _ => "a kind that this command does not know".to_owned(),
    }
}

fn print(part: &Part, output: &Output) -> Result<(), Failure> {
    let table = part.tensors();
    output.line(format!(
        "{}: {}, {} bytes ({}), {}, data from byte {}",
        text::printable(&part.path().to_string_lossy()),
        part.format(),
        part.bytes(),
        text::size(part.bytes()),
        text::count(table.tensors().len(), "tensor"),
        table.data_start(),
    ))?;
    for (key, value) in table.metadata() {
        let line = format!("  {key} = {}", shown(value));
        output.line(text::printable(&line))?;
    }
    for info in table.tensors() {
        let line = format!(
            "  {:<12} {:>12} at {:<14} {:<20} {}",
            info.dtype.to_string(),
            info.len,
            info.offset,
            format!("{:?}", info.shape),
            info.name,
        );
        output.line(text::printable(&line))?;
    }
    Ok(())
}
