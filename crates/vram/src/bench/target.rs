//! Stated targets beside what was measured. A miss is said and fails nothing:
//! other work on the machine is enough to cause one.

use std::borrow::Cow;

use serde::Serialize;

/// Which side of a target is good.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure and what it should be on this class of machine.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    name: Cow<'static, str>,
    measured: f64,
    unit: &'static str,
    bound: Bound,
    met: bool,
}

impl Target {
    pub(super) fn new(
        name: impl Into<Cow<'static, str>>,
        measured: f64,
        unit: &'static str,
        bound: Bound,
    ) -> Self {
        let met = match bound {
            Bound::AtLeast(limit) => measured >= limit,
            Bound::AtMost(limit) => measured <= limit,
        };
        Self {
            name: name.into(),
            measured,
            unit,
            bound,
            met,
        }
    }

    pub(super) fn line(&self) -> String {
        let (words, limit) = match self.bound {
            Bound::AtLeast(limit) => ("at least", limit),
            Bound::AtMost(limit) => ("at most", limit),
        };
        let verdict = if self.met { "met" } else { "MISSED" };
        let (unit, measured) = (self.unit, self.measured);
        let limit = format!("{limit} {unit}");
        format!(
            "{:<44} {measured:>10.2} {unit:<4} target {words} {}: {verdict}",
            self.name,
            limit.trim_end(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_or_missed() {
        let line = |measured, bound| Target::new("a", measured, "x", bound).line();
        assert!(line(1.9, Bound::AtLeast(1.9)).ends_with("target at least 1.9 x: met"));
        assert!(line(1.8, Bound::AtLeast(1.9)).ends_with("MISSED"));
        assert!(line(2.0, Bound::AtMost(1.9)).ends_with("target at most 1.9 x: MISSED"));
        // A figure that could not be had meets nothing.
        assert!(line(f64::NAN, Bound::AtMost(1.9)).ends_with("MISSED"));
    }
}
