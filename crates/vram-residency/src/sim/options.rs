//! How a simulated device is set up, in code or as the command's text form.

use std::num::NonZeroUsize;
use std::str::FromStr;

use super::fault::{Flip, Moment};
use crate::device::{DeviceInfo, DeviceKind, Uuid};

/// Settings of a [`super::SimDevice`]; equal settings give equal devices.
#[derive(Debug, Clone)]
pub struct SimOptions {
    pub(super) capacity: u64,
    pub(super) granularity: u64,
    pub(super) ordinal: u32,
    pub(super) seed: u64,
    pub(super) discard: bool,
    pub(super) keep: bool,
    pub(super) hash_trees: bool,
    pub(super) threads: NonZeroUsize,
    pub(super) flips: Vec<Flip>,
}

/// Capacity when the text form names none.
const DEFAULT_CAPACITY: u64 = 8 << 30;

impl SimOptions {
    /// `capacity` bytes, granularity 1, ordinal 0, seed 0, all cores.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            capacity,
            granularity: 1,
            ordinal: 0,
            seed: 0,
            discard: false,
            keep: false,
            hash_trees: false,
            threads,
            flips: Vec::new(),
        }
    }

    /// Bytes to which every allocation is rounded up; 0 counts as 1.
    #[must_use]
    pub fn granularity(mut self, bytes: u64) -> Self {
        self.granularity = bytes.max(1);
        self
    }

    /// Position among the application's devices.
    #[must_use]
    pub const fn ordinal(mut self, ordinal: u32) -> Self {
        self.ordinal = ordinal;
        self
    }

    /// Seed of the device's UUID.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps measurements and drops contents, for models larger than memory.
    /// Such a device cannot verify: it says so instead of pretending.
    #[must_use]
    pub const fn discard_contents(mut self) -> Self {
        self.discard = true;
        self
    }

    /// Keeps the host memory of freed buffers until the device goes, as VRAM
    /// stays where it is. The default gives it back to the system, and the next
    /// buffer pays for the first touch of every page again.
    #[must_use]
    pub const fn keep_memory(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Hashes whole trees itself, as CUDA devices do
    /// ([`crate::device::Device::tree_root`]).
    #[must_use]
    pub const fn hash_trees(mut self) -> Self {
        self.hash_trees = true;
        self
    }

    /// Threads that play the device's parallelism.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Adds a scripted bit flip.
    #[must_use]
    pub fn flip(mut self, flip: Flip) -> Self {
        self.flips.push(flip);
        self
    }

    /// The scripted flips.
    #[must_use]
    pub fn flips(&self) -> &[Flip] {
        &self.flips
    }

    /// Whether contents are dropped after they were measured.
    #[must_use]
    pub const fn discards(&self) -> bool {
        self.discard
    }

    pub(super) fn info(&self) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Simulated,
            ordinal: self.ordinal,
            uuid: self.uuid(),
            name: "simulated device (host memory)".to_owned(),
            compute_capability: None,
            total_bytes: self.capacity,
            granularity: self.granularity,
            integrated: false,
            ecc: None,
            mig: None,
            pci: None,
            driver: None,
        }
    }

    fn uuid(&self) -> Uuid {
        let mut bytes = *b"sim-\0\0\0\0\0\0\0\0\0\0\0\0";
        let tail = self
            .ordinal
            .to_be_bytes()
            .into_iter()
            .chain(self.seed.to_be_bytes());
        for (byte, value) in bytes.iter_mut().skip(4).zip(tail) {
            *byte = value;
        }
        Uuid::from_bytes(bytes)
    }
}

/// Why a text form was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimOptionsError {
    /// It does not start with `sim`.
    #[error(
        "'{0}' does not name a simulated device; write sim, sim:8GiB or sim:2GiB,flip=OFFSET:BIT"
    )]
    NotSimulated(String),
    /// A size is not a number with an optional unit.
    #[error("'{0}' is not a size; write bytes or a number with KiB, MiB, GiB or TiB")]
    Size(String),
    /// An unknown option.
    #[error(
        "unknown option '{0}'; known: flip=OFFSET:BIT, granularity=SIZE, seed=N, ordinal=N, discard"
    )]
    Option(String),
    /// An option's value cannot be read.
    #[error("cannot read the value in '{0}'")]
    Value(String),
}

impl FromStr for SimOptions {
    type Err = SimOptionsError;

    /// `sim[:SIZE][,flip=OFFSET:BIT][,granularity=SIZE][,seed=N][,ordinal=N][,discard]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || SimOptionsError::NotSimulated(text.to_owned());
        let rest = text.strip_prefix("sim").ok_or_else(refused)?;
        let mut options = Self::new(DEFAULT_CAPACITY);
        if rest.is_empty() {
            return Ok(options);
        }
        let rest = rest.strip_prefix(':').ok_or_else(refused)?;
        for (i, part) in rest.split(',').enumerate() {
            options = match part.split_once('=') {
                None if part == "discard" => options.discard_contents(),
                None if i == 0 => Self {
                    capacity: parse_size(part)?,
                    ..options
                },
                None => return Err(SimOptionsError::Option(part.to_owned())),
                Some((name, value)) => options.set(name, value, part)?,
            };
        }
        Ok(options)
    }
}

impl SimOptions {
    fn set(self, name: &str, value: &str, part: &str) -> Result<Self, SimOptionsError> {
        let bad = || SimOptionsError::Value(part.to_owned());
        match name {
            "flip" => {
                let (offset, bit) = value.split_once(':').ok_or_else(bad)?;
                let bit = bit.parse().ok().filter(|bit| *bit < 8).ok_or_else(bad)?;
                let offset = offset.parse().map_err(|_| bad())?;
                Ok(self.flip(Flip {
                    moment: Moment::AfterSeal,
                    offset,
                    bit,
                }))
            }
            "granularity" => Ok(self.granularity(parse_size(value)?)),
            "seed" => Ok(self.seed(value.parse().map_err(|_| bad())?)),
            "ordinal" => Ok(self.ordinal(value.parse().map_err(|_| bad())?)),
            _ => Err(SimOptionsError::Option(part.to_owned())),
        }
    }
}

fn parse_size(text: &str) -> Result<u64, SimOptionsError> {
    let bad = || SimOptionsError::Size(text.to_owned());
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number
        .checked_mul(scale)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let options: SimOptions = "sim".parse().unwrap();
        assert_eq!(options.capacity, DEFAULT_CAPACITY);
        let options: SimOptions = "sim:2GiB,flip=4097:3,granularity=2MiB,seed=7,ordinal=2,discard"
            .parse()
            .unwrap();
        assert_eq!(options.capacity, 2 << 30);
        assert_eq!(options.granularity, 2 << 20);
        assert_eq!(
            (options.seed, options.ordinal, options.discard),
            (7, 2, true)
        );
        let flip = Flip {
            moment: Moment::AfterSeal,
            offset: 4097,
            bit: 3,
        };
        assert_eq!(options.flips, [flip]);
    }

    #[test]
    fn bad_text_forms_name_the_part() {
        type Why = fn(String) -> SimOptionsError;
        let cases: [(&str, Why, &str); 7] = [
            ("simulated", SimOptionsError::NotSimulated, "simulated"),
            ("gpu", SimOptionsError::NotSimulated, "gpu"),
            ("sim:", SimOptionsError::Size, ""),
            ("sim:0", SimOptionsError::Size, "0"),
            ("sim:2XB", SimOptionsError::Size, "2XB"),
            ("sim:1,flip=9:8", SimOptionsError::Value, "flip=9:8"),
            ("sim:1,slow", SimOptionsError::Option, "slow"),
        ];
        for (text, why, part) in cases {
            let error = text.parse::<SimOptions>().unwrap_err();
            assert_eq!(error, why(part.to_owned()), "{text}");
        }
        let error = "sim:1GiB,colour=red".parse::<SimOptions>().unwrap_err();
        assert!(error.to_string().contains("colour=red"), "{error}");
        let error = "sim:99999999999TiB".parse::<SimOptions>().unwrap_err();
        assert!(error.to_string().contains("99999999999TiB"), "{error}");
    }

    #[test]
    fn equal_options_give_equal_identity_and_ordinals_differ() {
        let a = SimOptions::new(1).ordinal(1).seed(5).info();
        assert_eq!(a, SimOptions::new(1).ordinal(1).seed(5).info());
        assert_ne!(a.uuid, SimOptions::new(1).ordinal(2).seed(5).info().uuid);
    }
}
