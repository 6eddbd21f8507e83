//! A number of bytes in a step.

use std::str::FromStr;

/// `20 MiB`, `1 byte`.
#[derive(cucumber::Parameter, Clone, Copy, Debug)]
#[param(name = "size", regex = r"\d+ (?:bytes?|KiB|MiB|GiB)")]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once(' ').ok_or("a number and a unit")?;
        let number: u64 = number.parse().map_err(|_| "not a number")?;
        let unit = match unit {
            "byte" | "bytes" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            other => return Err(format!("no unit: {other}")),
        };
        Ok(Self(number * unit))
    }
}
