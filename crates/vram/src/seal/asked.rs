//! What is to be sealed: the FILEs as they are named, or the files of the one
//! model that a FILE stands for. Each is opened once, and stays open until it is
//! loaded.

use std::path::{Path, PathBuf};

use vram_residency::capacity::plan::PlanPart;
use vram_residency::error::Error;
use vram_residency::format::gguf::{PartName, Split};
use vram_residency::format::{Format, Limits};
use vram_residency::load::{CancelToken, FileIdentity, LoadError, Model, Opening, Part};

use super::Args;
use super::again::Patience;
use super::args::FormatArg;
use crate::failure::Failure;

/// What is to be sealed, open.
pub(super) struct Asked {
    /// The one FILE stands for these, which are one model.
    pub(super) of_model: bool,
    pub(super) parts: Vec<Part>,
}

/// What stays known of a file while it is loaded: enough to open it again, and
/// to tell whether it is still the same.
pub(super) struct Known {
    pub(super) plan: PlanPart,
    pub(super) path: PathBuf,
    pub(super) identity: FileIdentity,
    /// Memory of its table.
    pub(super) tables: u64,
}

impl From<&Part> for Known {
    fn from(part: &Part) -> Self {
        Self {
            plan: part.into(),
            path: part.path().to_owned(),
            identity: part.identity(),
            tables: part.tensors().memory(),
        }
    }
}

impl Known {
    /// Says what of the file differs by `now`, if anything does.
    pub(super) fn same_as(&self, now: Option<FileIdentity>) -> Result<(), LoadError> {
        let differs = match now {
            Some(now) => self.identity.difference(&now),
            None => Some("identity"),
        };
        differs.map_or(Ok(()), |what| {
            let name = self.plan.name.clone();
            Err(LoadError::Changed { name, what })
        })
    }
}

impl Asked {
    /// Opens it; `told` records what cannot be opened.
    pub(super) fn of(
        args: &Args,
        opening: &mut Opening,
        patience: &mut Patience<'_>,
        told: impl Fn(LoadError) -> Error,
    ) -> Result<Self, Failure> {
        let told = |error| match error {
            Error::Load(error) => told(error),
            other => other,
        };
        let [path] = args.files.as_slice() else {
            let parts = patience.patiently(|| Ok(opening.files(&args.files)?));
            let parts = parts.map_err(|error| Failure::to_seal("the files", told(error)))?;
            let limits = args.worker.limits.limits();
            match args.group {
                true => check_split(&parts, &limits)?,
                false => check_alone(&parts, &limits)?,
            }
            return Ok(Self {
                of_model: false,
                parts,
            });
        };
        let name = path.display().to_string();
        let several = patience.patiently(|| Ok(Model::is_several(path)?));
        let several = several.map_err(|error| Failure::about(&name, told(error)))?;
        if several && !matches!(args.format, FormatArg::Auto) {
            return Err(Failure::usage(
                "--format is about one file; an index or a directory stands for several",
            ));
        }
        let model = patience.patiently(|| Ok(opening.open(path)?));
        let model = model.map_err(|error| match (several, told(error)) {
            (true, error) => Failure::about(&name, error),
            (false, error) if is_of_split(path, &error) => Failure::to_seal_part(&name, error),
            (false, error) => Failure::to_seal(&name, error),
        })?;
        let parts = model.into_parts();
        let asked = Self {
            of_model: several || parts.len() > 1,
            parts,
        };
        asked.check(args)?;
        Ok(asked)
    }

    /// What is about one file is said about no model of several.
    fn check(&self, args: &Args) -> Result<(), Failure> {
        for (option, given) in args.one_only() {
            if given && self.parts.len() > 1 {
                return Err(Failure::usage(format!(
                    "{option} is about one file, this model has several"
                )));
            }
        }
        Ok(())
    }
}

/// How what is to be sealed is opened.
pub(super) fn opening(args: &Args, token: &CancelToken) -> Opening {
    let opening = Opening::new().limits(args.worker.limits.limits());
    let opening = opening.format(args.format.choice()).cancel(token);
    match args.timeout {
        Some(timeout) => opening.timeout(timeout),
        None => opening,
    }
}

/// Parts of a split GGUF that are named one by one as one model: all of them, each
/// once, in their order. Other files may be beside them.
fn check_split(parts: &[Part], limits: &Limits) -> Result<(), Failure> {
    let split = parts.iter().filter_map(|part| {
        let (number, count) = split_of(part, limits)?;
        (count > 1).then_some((part, number, count))
    });
    let split: Vec<_> = split.collect();
    let named = u64::try_from(split.len()).unwrap_or(u64::MAX);
    for ((part, number, count), position) in split.into_iter().zip(0_u64..) {
        if (number, count) == (position, named) {
            continue;
        }
        let (name, number) = (part.path().display(), number.saturating_add(1));
        let place = position.saturating_add(1);
        return Err(Failure::new(format!(
            "{name} is part {number} of {count}, and named as part {place} of {named}"
        ))
        .hint("name all parts of one split model in their order, or the first one and nothing else, without --group"));
    }
    Ok(())
}

/// The number from 0 that a part of a split GGUF gives itself, and how many there are.
fn split_of(part: &Part, limits: &Limits) -> Option<(u64, u64)> {
    let Format::Gguf = part.format() else {
        return None;
    };
    let split = Split::of(part.tensors(), limits).ok().flatten()?;
    Some((split.number, split.count))
}

/// Files that are sealed each by itself: none is a part of a model.
fn check_alone(parts: &[Part], limits: &Limits) -> Result<(), Failure> {
    let mut found = parts.iter().map(|part| (part, split_of(part, limits)));
    let Some((part, (number, count))) =
        found.find_map(|(part, split)| Some((part, split.filter(|(_, count)| *count > 1)?)))
    else {
        return Ok(());
    };
    let (name, number) = (part.path().display(), number.saturating_add(1));
    Err(
        Failure::new(format!("{name} is part {number} of {count} of a model"))
            .hint("name the first part and nothing else, or all parts in their order with --group"),
    )
}

/// Whether a file that cannot be opened with all that belongs to it is one of
/// several parts, by its name or by what it says.
fn is_of_split(path: &Path, error: &Error) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A file that is not there is no part.
    let there = match error {
        Error::Load(LoadError::Open { name, .. } | LoadError::NotRegular { name }) => {
            *name != path.display().to_string()
        }
        _ => true,
    };
    let named = PartName::parse(&name).is_some_and(|part| part.count > 1);
    (named && there) || matches!(error, Error::Load(LoadError::SplitName { .. }))
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
            let mut patience = Patience::of_group(9, &wait);
            let mut opening = opening(&words.args, &token);
            let ended = Asked::of(&words.args, &mut opening, &mut patience, Error::from);
            let ended = ended.err().unwrap();
            assert!(ended.message().contains("cancelled"), "{}", ended.message());
            assert_eq!(ended.advice(), None);
        }
    }
}
