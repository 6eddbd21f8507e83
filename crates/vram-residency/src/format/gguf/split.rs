//! Split GGUF models: one model in several files, as llama.cpp's tools cut it.

use crate::format::error::FormatError;
use crate::format::limits::{Limits, bound};
use crate::format::table::{MetaValue, TensorTable};

/// What a part's metadata says about the split (`split.no`, `split.count`,
/// `split.tensors.count`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    /// This part, from 0.
    pub number: u64,
    /// Parts in all.
    pub count: u64,
    /// Tensors of all parts together.
    pub tensors: u64,
}

impl Split {
    /// Reads the split keys; `None` for a file that is a whole model: one
    /// without them, the only part there is, or a merged file, in which
    /// llama.cpp's tool leaves the keys with a count of 0.
    ///
    /// # Errors
    /// [`FormatError::Missing`] or [`FormatError::BadValue`] where some of the
    /// three keys are absent, no whole numbers, or contradict each other;
    /// [`FormatError::TooLarge`] for more parts than `limits.index_files`.
    pub fn of(table: &TensorTable, limits: &Limits) -> Result<Option<Self>, FormatError> {
        const KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];
        let values = KEYS.map(|key| table.metadata_value(key));
        if values.iter().all(Option::is_none) {
            return Ok(None);
        }
        let [number, count, tensors] = values;
        let found = Self {
            number: whole(KEYS[0], number)?,
            count: whole(KEYS[1], count)?,
            tensors: whole(KEYS[2], tensors)?,
        };
        bound!(limits.index_files).check("split.count", found.count)?;
        if found.number == 0 && found.count <= 1 {
            return Ok(None);
        }
        if found.number >= found.count {
            return Err(FormatError::BadValue {
                of: KEYS[0].into(),
                field: "value",
                value: found.number.to_string().as_str().into(),
                reason: "must be below split.count",
            });
        }
        Ok(Some(found))
    }
}

/// A non-negative integer of any width.
fn whole(key: &'static str, value: Option<&MetaValue>) -> Result<u64, FormatError> {
    let number = match value {
        None => {
            return Err(FormatError::Missing {
                of: "split metadata".into(),
                field: key,
            });
        }
        Some(MetaValue::Unsigned(n)) => Some(*n),
        Some(MetaValue::Signed(n)) => u64::try_from(*n).ok(),
        Some(_) => None,
    };
    let shown = match value {
        Some(MetaValue::Signed(n)) => n.to_string(),
        _ => "no whole number".to_owned(),
    };
    number.ok_or_else(|| FormatError::BadValue {
        of: key.into(),
        field: "value",
        value: shown.as_str().into(),
        reason: "must be a whole number, not negative",
    })
}

/// The name of a part: `PREFIX-00001-of-00003.gguf`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartName {
    /// What all parts have in common.
    pub prefix: String,
    /// This part, from 1.
    pub number: u64,
    /// Parts in all.
    pub count: u64,
}

impl PartName {
    /// Takes a file name (no directory) apart; `None` where it is not of that
    /// pattern.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        let fits = (1..=count).contains(&number) && !prefix.is_empty();
        fits.then(|| Self {
            prefix: prefix.to_owned(),
            number,
            count,
        })
    }

    /// The file name of part `number` of the same model.
    #[must_use]
    pub fn sibling(&self, number: u64) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

/// Exactly five digits, as `%05d` prints every part number in use.
fn five_digits(text: &str) -> Option<u64> {
    let plain = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Holds the parts of a split model, in order, against each other: each says
/// its number, count and the tensors of all, file names agree, the tensors
/// add up, and no name occurs in two parts.
///
/// # Errors
/// [`FormatError::Set`] naming the part and the contradiction,
/// [`FormatError::Duplicate`] for a tensor in two parts, and what
/// [`Split::of`] says.
pub fn check_parts(parts: &[(&str, &TensorTable)], limits: &Limits) -> Result<(), FormatError> {
    let given = count(parts.len());
    let mut names: Vec<&str> = Vec::new();
    let mut expected_tensors = None;
    for ((file, table), position) in parts.iter().zip(0_u64..) {
        let wrong = |reason: String| FormatError::Set {
            part: (*file).into(),
            reason,
        };
        let split =
            Split::of(table, limits)?.ok_or_else(|| wrong("has no split metadata".to_owned()))?;
        if (split.number, split.count) != (position, given) {
            return Err(wrong(format!(
                "says it is part {} of {}, expected part {position} of {given} (from 0)",
                split.number, split.count
            )));
        }
        let name = PartName::parse(file)
            .ok_or_else(|| wrong("is not named PREFIX-00001-of-0000N.gguf".to_owned()))?;
        if name.number.checked_sub(1) != Some(position) || name.count != given {
            return Err(wrong(format!(
                "its name says part {} of {}, its metadata part {} of {given}",
                name.number,
                name.count,
                position.saturating_add(1)
            )));
        }
        let first = *expected_tensors.get_or_insert(split.tensors);
        if split.tensors != first {
            return Err(wrong(format!(
                "says the model has {} tensors, the first part says {first}",
                split.tensors
            )));
        }
        names.extend(table.tensors().iter().map(|t| &*t.name));
    }
    let expected = expected_tensors.unwrap_or_default();
    if count(names.len()) != expected {
        let last = parts.last().map_or("", |part| part.0);
        return Err(FormatError::Set {
            part: last.into(),
            reason: format!(
                "the parts hold {} tensors in all, their metadata says {expected}",
                names.len()
            ),
        });
    }
    unique(names)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn unique(mut names: Vec<&str>) -> Result<(), FormatError> {
    names.sort_unstable();
    let twin = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b);
    match twin {
        Some((name, _)) => Err(FormatError::Duplicate {
            what: "tensor",
            name: (*name).into(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_lead_to_their_siblings() {
        let name = PartName::parse("llama-70b-00002-of-00010.gguf").unwrap();
        assert_eq!(
            (name.prefix.as_str(), name.number, name.count),
            ("llama-70b", 2, 10)
        );
        assert_eq!(name.sibling(10), "llama-70b-00010-of-00010.gguf");
        assert_eq!(name.sibling(name.number), "llama-70b-00002-of-00010.gguf");
        for other in [
            "model.gguf",
            "m-0001-of-0002.gguf",
            "m-00001-of-00002.bin",
            "m-00000-of-00002.gguf",
            "m-00003-of-00002.gguf",
            "m-+0001-of-00002.gguf",
            "-00001-of-00002.gguf",
            "m-00001-of-00002.gguf.gguf",
            "m-000001-of-000002.gguf",
        ] {
            assert_eq!(PartName::parse(other), None, "{other}");
        }
    }
}
