//! Medians with their spread.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::failure::Failure;

/// A measured rate in bytes a second.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rate {
    name: &'static str,
    cores: usize,
    median_bytes_per_second: f64,
    slowest_bytes_per_second: f64,
    fastest_bytes_per_second: f64,
}

/// A measured cost of one call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cost {
    name: &'static str,
    median_nanos: f64,
    slowest_nanos: f64,
    fastest_nanos: f64,
    /// What this class of machine should stay below.
    target_nanos: Option<f64>,
}

/// Fastest, median and slowest of several times.
#[derive(Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) fastest: f64,
    pub(super) median: f64,
    pub(super) slowest: f64,
}

impl Spread {
    pub(super) fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |index: usize| seconds.get(index).copied().unwrap_or(f64::NAN);
        Self {
            fastest: at(0),
            median: at(seconds.len() / 2),
            slowest: at(seconds.len().saturating_sub(1)),
        }
    }
}

/// Runs `work` once for warmth and `runs` times for the record.
pub(super) fn times(
    runs: u32,
    mut work: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Spread, Failure> {
    let _ = work()?;
    let seconds = (0..runs).map(|_| work().map(|time| time.as_secs_f64()));
    Ok(Spread::of(seconds.collect::<Result<_, _>>()?))
}

/// The rate of `work`, which handles `bytes` and says how long it took.
pub(super) fn rate(
    name: &'static str,
    cores: usize,
    bytes: usize,
    runs: u32,
    work: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Rate, Failure> {
    Ok(Rate::of(name, cores, bytes, &times(runs, work)?))
}

/// One of several measurements that are made in turn.
pub(super) struct Turn<'t> {
    pub(super) name: &'static str,
    pub(super) cores: usize,
    pub(super) bytes: usize,
    pub(super) work: Box<dyn FnMut() -> Result<Duration, Failure> + 't>,
}

/// Their rates. Every round makes each of them once, so that other work on the
/// machine hits all alike; the first round is for warmth.
pub(super) fn in_turn(runs: u32, mut turns: Vec<Turn<'_>>) -> Result<Vec<Rate>, Failure> {
    let mut times = vec![Vec::new(); turns.len()];
    for round in 0..=runs {
        for (turn, times) in turns.iter_mut().zip(&mut times) {
            let time = (turn.work)()?;
            if round > 0 {
                times.push(time.as_secs_f64());
            }
        }
    }
    let spreads = times.into_iter().map(Spread::of);
    let rate =
        |(turn, spread): (&Turn<'_>, Spread)| Rate::of(turn.name, turn.cores, turn.bytes, &spread);
    Ok(turns.iter().zip(spreads).map(rate).collect())
}

/// The cost of one of `calls` calls that `work` makes and times together.
pub(super) fn cost(
    name: &'static str,
    target_nanos: Option<f64>,
    calls: u32,
    runs: u32,
    work: impl FnMut() -> Result<Duration, Failure>,
) -> Result<Cost, Failure> {
    let spread = times(runs, work)?;
    let each = |seconds: f64| seconds * 1e9 / f64::from(calls);
    Ok(Cost {
        name,
        median_nanos: each(spread.median),
        slowest_nanos: each(spread.slowest),
        fastest_nanos: each(spread.fastest),
        target_nanos,
    })
}

/// How long `work` takes.
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<Duration, Failure> {
    let started = Instant::now();
    let answer = work()?;
    let elapsed = started.elapsed();
    std::hint::black_box(answer);
    Ok(elapsed)
}

impl Rate {
    /// The rates of `bytes` in each of these times.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn of(name: &'static str, cores: usize, bytes: usize, spread: &Spread) -> Self {
        let per_second = |seconds: f64| bytes as f64 / seconds;
        Self {
            name,
            cores,
            median_bytes_per_second: per_second(spread.median),
            slowest_bytes_per_second: per_second(spread.slowest),
            fastest_bytes_per_second: per_second(spread.fastest),
        }
    }

    /// What was measured.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// On how many cores.
    pub(super) const fn cores(&self) -> usize {
        self.cores
    }

    /// Bytes a second.
    pub(super) const fn median(&self) -> f64 {
        self.median_bytes_per_second
    }

    /// Seconds for one byte, at the median.
    pub(super) fn time_per_byte(&self) -> f64 {
        1.0 / self.median_bytes_per_second
    }

    pub(super) fn line(&self) -> String {
        let giga = |rate: f64| rate / 1e9;
        format!(
            "{:<34}{:>3} core(s) {:>8.2} GB/s   ({:.2} to {:.2})",
            self.name,
            self.cores,
            giga(self.median_bytes_per_second),
            giga(self.slowest_bytes_per_second),
            giga(self.fastest_bytes_per_second),
        )
    }
}

impl Cost {
    pub(super) fn line(&self) -> String {
        let target = self.target_nanos.map(|target| {
            let verdict = if self.median_nanos < target {
                "below"
            } else {
                "ABOVE"
            };
            format!(", {verdict} the target of {target:.0} ns")
        });
        format!(
            "{:<44} {:>10.0} ns     ({:.0} to {:.0}){}",
            self.name,
            self.median_nanos,
            self.fastest_nanos,
            self.slowest_nanos,
            target.unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_extremes() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0, 9.0, 2.5]);
        let expected = Spread {
            fastest: 1.0,
            median: 2.5,
            slowest: 9.0,
        };
        assert_eq!(spread, expected);
    }

    #[test]
    fn rounds_go_through_all_in_turn_and_the_first_counts_for_nothing() {
        let calls = &std::cell::RefCell::new(Vec::new());
        let turn = |name| Turn {
            name,
            cores: 1,
            bytes: 1000,
            work: Box::new(move || {
                calls.borrow_mut().push(name);
                let first = calls.borrow().len() <= 2;
                Ok(Duration::from_secs(if first { 9 } else { 1 }))
            }),
        };
        let rates = in_turn(2, vec![turn("a"), turn("b")]).unwrap();
        assert_eq!(*calls.borrow(), ["a", "b", "a", "b", "a", "b"]);
        let medians: Vec<_> = rates.iter().map(|rate| rate.median().round()).collect();
        assert!(medians == [1000.0, 1000.0], "{medians:?}");
    }

    #[test]
    fn rates_and_costs_are_per_second_and_per_call() {
        let second = || Ok(Duration::from_secs(2));
        let rate = rate("r", 1, 4_000_000_000, 3, second).unwrap();
        assert!(rate.line().contains("2.00 GB/s"), "{}", rate.line());
        let cost = cost("c", Some(100.0), 1_000_000, 3, || {
            Ok(Duration::from_millis(50))
        })
        .unwrap();
        assert!(cost.line().contains(" 50 ns "), "{}", cost.line());
        assert!(cost.line().ends_with("below the target of 100 ns"));
    }
}
