//! What is to be sealed: the FILEs as they are named, or the files of the one
//! model that a FILE stands for.

use std::path::Path;

use vram_residency::capacity::plan::{MAX_PADDING, PlanPart, padding};
use vram_residency::error::Error;
use vram_residency::format::gguf::Split;
use vram_residency::format::{self, Limits};
use vram_residency::load::{CancelToken, FileSource, LoadError, Model, Opening, Retried};

use super::again::Patience;
use super::args::FormatArg;
use super::{Args, run};
use crate::failure::Failure;

/// What is to be sealed.
pub(super) struct Asked {
    /// The one FILE, where it stands for a model of several files.
    pub(super) model: Option<Model>,
    /// 0 bytes for what cannot be read, of which the seal tells.
    pub(super) files: Vec<PlanPart>,
}

impl Asked {
    pub(super) fn of(
        args: &Args,
        token: &CancelToken,
        patience: &mut Patience<'_>,
    ) -> Result<Self, Failure> {
        let model = model(args, token, patience)?;
        let files = match &model {
            Some(model) => model.parts().iter().map(PlanPart::from).collect(),
            None => {
                let files = args.files.iter().map(|path| {
                    run::go_on(token, "the files were read")?;
                    Ok(file(args, path))
                });
                files.collect::<Result<_, Failure>>()?
            }
        };
        Ok(Self { model, files })
    }
}

/// How a model of several files is opened.
pub(super) fn opening(args: &Args, token: &CancelToken) -> Opening {
    let opening = Opening::new().limits(args.worker.limits.limits());
    let opening = opening.cancel(token);
    match args.timeout {
        Some(timeout) => opening.timeout(timeout),
        None => opening,
    }
}

/// The one FILE as a model of several files, if it is one: an index, a
/// directory, or any part of a split GGUF, as the first part is one for
/// llama.cpp. What a file holds decides, whatever its name says.
fn model(
    args: &Args,
    token: &CancelToken,
    patience: &mut Patience<'_>,
) -> Result<Option<Model>, Failure> {
    let [path] = args.files.as_slice() else {
        return Ok(None);
    };
    let by_name = Model::is_index(path) || path.is_dir();
    match (args.format, by_name) {
        (FormatArg::Auto, _) | (FormatArg::Gguf, false) => {}
        (_, false) => return Ok(None),
        (_, true) => {
            return Err(Failure::usage(
                "--format is about one file; an index or a directory stands for several",
            ));
        }
    }
    let limits = args.worker.limits.limits();
    let opening = opening(args, token);
    let opened = patience.patiently(|| match opening.open(path) {
        Ok(model) => Ok(Some(model)),
        Err(error) if by_name || was_ended(&error) => Err(error.into()),
        // Of a file of its own the seal tells.
        Err(_) if is_alone(path, &limits) => Ok(None),
        Err(error) => Err(error.into()),
    });
    let of_split = |error: &Error| !by_name && !matches!(error, Error::Load(e) if was_ended(e));
    let opened = opened.map_err(|error| {
        let advised = of_split(&error);
        let failure = Failure::about(&path.to_string_lossy(), error);
        match advised {
            true => failure.hint("--format raw seals this part alone"),
            false => failure,
        }
    })?;
    let model = opened.filter(|model| by_name || model.parts().len() > 1);
    let several = model.as_ref().is_some_and(|model| model.parts().len() > 1);
    for (option, given) in args.one_only() {
        if given && several {
            return Err(Failure::usage(format!(
                "{option} is about one file, this model has several"
            )));
        }
    }
    Ok(model)
}

/// Whether a load was ended from outside; that says nothing about the file.
const fn was_ended(error: &LoadError) -> bool {
    matches!(
        error,
        LoadError::Cancelled { .. } | LoadError::Deadline { .. }
    )
}

/// Whether a file that could not be opened as a model is one of its own, as one
/// is whose header cannot be read. What is there and says that it is a part of a
/// split is none.
fn is_alone(path: &Path, limits: &Limits) -> bool {
    let Ok(source) = FileSource::open(path) else {
        return true;
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    let Ok((_, table)) = format::detect_with(extension, &Retried(&source), limits) else {
        return true;
    };
    matches!(Split::of(&table, limits), Ok(None))
}

/// A file that is sealed as it is.
fn file(args: &Args, path: &Path) -> PlanPart {
    let meta = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file);
    // One device takes all files: nothing is laid out.
    let laid_out = args.device.len() > 1 && meta.is_some();
    let padding = laid_out.then(|| padding_of(args, path)).flatten();
    PlanPart {
        name: path.display().to_string(),
        bytes: meta.map_or(0, |meta| meta.len()),
        padding: padding.unwrap_or(MAX_PADDING),
    }
}

/// What the alignment of a file's tensors adds to it, where its header can be
/// read.
fn padding_of(args: &Args, path: &Path) -> Option<u64> {
    let source = FileSource::open(path).ok()?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let (choice, limits) = (args.format.choice(), args.worker.limits.limits());
    let tensors = choice.tensors(&Retried(&source), extension, &limits).ok()?;
    Some(padding(tensors.data_start()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_signal_ends_the_reading_of_headers() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let token = CancelToken::new();
        token.cancel();
        let wait = |note: &str| panic!("{note}");
        for names in [
            &["split/small-00001-of-00002.gguf"][..],
            &["sharded"],
            &["small.gguf"],
            &["small.gguf", "small.safetensors"],
        ] {
            let files = names.iter().map(|name| data.join(name).into_os_string());
            let words = Words::parse_from(["seal".into()].into_iter().chain(files));
            let mut patience = Patience::new(9, &wait);
            let ended = Asked::of(&words.args, &token, &mut patience).err().unwrap();
            assert!(ended.message().contains("cancelled"), "{}", ended.message());
            assert_eq!(ended.advice(), None);
        }
    }

    #[test]
    fn a_failure_of_a_moment_makes_no_part_of_a_file() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let alone = |name: &str| is_alone(&data.join(name), &Limits::default());
        for name in ["small.safetensors", "small.gguf", "missing.gguf"] {
            assert!(alone(name), "{name}");
        }
        for number in [1, 2] {
            let part = format!("split/small-0000{number}-of-00002.gguf");
            assert!(!alone(&part), "{part}");
        }
    }
}
