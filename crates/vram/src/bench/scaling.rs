//! What all cores make of each row, beside what they make of its roof.

use serde::Serialize;

use super::ratios::{CACHED, READ_AGAIN};
use super::sample::Rate;

/// One row on all cores, as a multiple of the same row on one.
#[derive(Debug, Serialize)]
pub(super) struct Scaling {
    name: &'static str,
    cores: usize,
    ratio: f64,
    /// The row that nothing like this one can be faster than.
    roof: Option<&'static str>,
    roof_ratio: Option<f64>,
}

/// The roof of a row; roofs have none.
fn roof_of(name: &str) -> Option<&'static str> {
    match name {
        "digest of memory" | "digest of a file, cached" | "verify, full" => Some(CACHED),
        "verify, keyed" | "unseal, each block checked" => Some(READ_AGAIN),
        "seal, simulated device" => Some("memory copy"),
        _ => None,
    }
}

/// Of every row that was measured on one core and on all.
pub(super) fn of(rates: &[Rate]) -> Vec<Scaling> {
    let ratio = |name: &str| -> Option<(f64, usize)> {
        let of_name = || rates.iter().filter(|rate| rate.name() == name);
        let one = of_name().find(|rate| rate.cores() == 1)?;
        let all = of_name().find(|rate| rate.cores() > 1)?;
        Some((all.median() / one.median(), all.cores()))
    };
    let alone = rates.iter().filter(|rate| rate.cores() == 1);
    let scalings = alone.filter_map(|rate| {
        let (on_all, cores) = ratio(rate.name())?;
        let roof = roof_of(rate.name());
        Some(Scaling {
            name: rate.name(),
            cores,
            ratio: on_all,
            roof,
            roof_ratio: roof.and_then(|roof| Some(ratio(roof)?.0)),
        })
    });
    scalings.collect()
}

impl Scaling {
    pub(super) fn line(&self) -> String {
        let beside = match (self.roof, self.roof_ratio) {
            (Some(roof), Some(ratio)) => format!("   ({roof}: {ratio:.2} x)"),
            _ => "   (a roof itself)".to_owned(),
        };
        format!(
            "{:<34}{:>3} to 1 core {:>8.2} x{beside}",
            self.name, self.cores, self.ratio
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::rate;
    use std::time::Duration;

    #[test]
    fn ratios_stand_beside_those_of_their_roofs() {
        let measured = |name, cores, millis| {
            let work = || Ok(Duration::from_millis(millis));
            rate(name, cores, 1 << 20, 1, work).unwrap()
        };
        let rates = [
            measured(CACHED, 1, 100),
            measured(CACHED, 4, 25),
            measured("digest of a file, cached", 1, 300),
            measured("digest of a file, cached", 4, 100),
            measured("seal, named device", 4, 100),
        ];
        let scalings = of(&rates);
        assert_eq!(scalings.len(), 2, "one core is needed to compare with");
        let line = scalings[1].line();
        assert!(line.contains(" 3.00 x"), "{line}");
        assert!(
            line.contains("(digest in the cores' caches: 4.00 x)"),
            "{line}"
        );
    }
}
