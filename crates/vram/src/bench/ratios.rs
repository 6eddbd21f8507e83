//! Targets that hold one row against another of the same run.

use super::sample::Rate;
use super::target::{Bound, Target};

/// SHA-256 of the same bytes as one stream, by the crate that every loader uses.
pub(super) const SHA2: &str = "SHA-256 by the sha2 crate";
/// The digest's work without its memory traffic: the roof of its scaling.
pub(super) const CACHED: &str = "digest in the cores' caches";
/// The roof of reading, in turn with what is held against it.
pub(super) const READ_AGAIN: &str = "memory read, again";

/// Which cores a row was measured on.
#[derive(Clone, Copy)]
enum Cores {
    One,
    All,
}

/// A row, the row that it is measured by, and the least ratio.
struct Ratio {
    name: &'static str,
    row: (&'static str, Cores),
    by: (&'static str, Cores),
    least: f64,
}

const RATIOS: &[Ratio] = &[
    Ratio {
        name: "digest of a file, all cores to one",
        row: ("digest of a file, cached", Cores::All),
        by: ("digest of a file, cached", Cores::One),
        least: 1.9,
    },
    Ratio {
        name: "digest of memory to the sha2 crate, one core",
        row: ("digest of memory", Cores::One),
        by: (SHA2, Cores::One),
        least: 2.0,
    },
    Ratio {
        name: "verify, keyed to memory read, all cores",
        row: ("verify, keyed", Cores::All),
        by: (READ_AGAIN, Cores::All),
        least: 0.6,
    },
];

/// The targets of which both rows were measured; all cores are two or more.
pub(super) fn targets(rates: &[Rate]) -> Vec<Target> {
    let median = |(name, cores): (&str, Cores)| {
        let is_team = |rate: &&Rate| match cores {
            Cores::One => rate.cores() == 1,
            Cores::All => rate.cores() > 1,
        };
        let named = rates.iter().filter(|rate| rate.name() == name);
        named.filter(is_team).map(Rate::median).next()
    };
    let target = |ratio: &Ratio| {
        let measured = median(ratio.row)? / median(ratio.by)?;
        let least = Bound::AtLeast(ratio.least);
        Some(Target::new(ratio.name, measured, "x", least))
    };
    RATIOS.iter().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::rate;
    use std::time::Duration;

    #[test]
    fn rows_are_held_against_rows_of_the_right_cores() {
        let measured = |name, cores, millis| {
            let work = || Ok(Duration::from_millis(millis));
            rate(name, cores, 1 << 20, 1, work).unwrap()
        };
        let rates = [
            measured("digest of a file, cached", 1, 300),
            measured("digest of a file, cached", 4, 100),
            measured("digest of memory", 1, 100),
            measured("digest of memory", 4, 1),
            measured(SHA2, 1, 150),
            measured(READ_AGAIN, 1, 100),
            measured("verify, keyed", 4, 100),
        ];
        let lines: Vec<String> = targets(&rates).iter().map(Target::line).collect();
        assert_eq!(lines.len(), 2, "no roof on all cores: {lines:#?}");
        assert!(lines[0].contains(" 3.00 x") && lines[0].ends_with("1.9 x: met"));
        assert!(lines[1].contains(" 1.50 x") && lines[1].ends_with("2 x: MISSED"));
    }
}
