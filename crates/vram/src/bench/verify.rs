//! `vram bench verify`: every mode of verification beside the roofs, and what
//! it costs a token.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use vram_residency::capacity::Sharing;
use vram_residency::device::{Device, DeviceInfo};
use vram_residency::key::RootKey;
use vram_residency::random::OsRandom;
use vram_residency::{Mode, SealRequest, SealedShard, VramManager};

use super::sample::{Rate, Spread, rate, timed};
use super::target::{Bound, Target};
use super::{Plan, ours, roofs};
use crate::device::{self, DeviceSpec};
use crate::failure::Failure;
use crate::output::Output;
use crate::{devices, text};

/// Sweeps are measured at these shares of a token, in percent.
const BUDGETS: [u32; 3] = [1, 5, 10];
/// What a sweep reads at least.
const SEGMENT: f64 = (1 << 20) as f64;
/// Percent of the memory-read roof that keyed checks should reach on a CPU.
const KEYED: f64 = 60.0;

/// Measure every mode of verification beside the roofs of this machine
///
/// Reading and copying memory first, and reading device memory where the device
/// is a GPU: no check that reads the bytes can be faster. Then a shard is sealed
/// and verified in every mode, in turn with more such reads, which its share of
/// the roof is told by. A sweep's budget is a share of a token: decoding
/// is taken to read all weights once a token, at the roof of reading.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vram bench verify --device sim
  vram bench verify --device cuda:0 --size-mib 16384 --json

Each line is the median with the fastest and the slowest. 'of a token' is what
the check adds to a token if it is made once a token; 'everything in' is how
long it then takes until every byte was checked, the tokens in between counted;
'found within' is the longest that a change can stay unseen by one check a token,
at this pace: it may come right after it was looked for, so that the rest of that
check, a token and as many checks as the verifications state go by.

Exit codes: 0 fine, 1 failure, 2 usage, 3 a verification found damage.
A missed target is no failure.")]
pub(super) struct Args {
    /// cuda:N; or the simulated device: sim or sim:SIZE
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: DeviceSpec,
    /// Size of the shard, in MiB; the roof takes as much again
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(super::MIN_MIB..=super::MAX_MIB))]
    size_mib: u64,
    /// Runs of each measurement; a run of a sweep reads everything once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    device: DeviceInfo,
    digest_path: String,
    cores: usize,
    bytes: u64,
    runs: u32,
    roofs: Vec<Rate>,
    /// The roof that a token and the shares are counted by.
    roof: &'static str,
    token_nanos: f64,
    modes: Vec<Row>,
    targets: Vec<Target>,
}

/// One mode.
#[derive(Debug, Serialize)]
struct Row {
    mode: String,
    /// What a sweep may take of a token.
    budget_percent: Option<u32>,
    median_nanos: f64,
    fastest_nanos: f64,
    slowest_nanos: f64,
    /// Of one call, on average.
    bytes_checked: f64,
    bytes_per_second: f64,
    /// The roof, read in turn with the runs of this mode.
    roof_bytes_per_second: f64,
    /// Of that.
    roof_share: f64,
    /// What one call adds to a token.
    token_share: f64,
    /// Calls until every byte was checked; absent when none is read.
    calls_to_cover: Option<f64>,
    cover_nanos: Option<f64>,
    /// Calls after a change until one of them finds it, as the verifications
    /// stated at worst: 1 where each reads everything, nearly two rounds of a
    /// sweep's secret order.
    calls_to_find: Option<u64>,
    /// How old a change can be at most when it is found: it may come at the
    /// start of a call that looked there already.
    found_within_nanos: Option<f64>,
}

impl Args {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let plan = Plan::new(self.size_mib, self.runs)?;
        let device = device::open(&self.device)?;
        let people = |line: String| {
            if output.is_json() {
                return Ok(());
            }
            output.line(line)
        };
        people(plan.line())?;
        people(devices::line(device.info()))?;
        let mut roofs = Vec::new();
        let mut show = |rate: Rate| {
            people(rate.line())?;
            roofs.push(rate);
            Ok(())
        };
        roofs::memory_on(&plan, plan.cores, &mut show)?;
        let gpu = Arc::clone(&device);
        let reader = device::Reader::of(gpu.as_ref(), plan.bytes as u64)?;
        if let Some(reader) = &reader {
            let read = || timed(|| Ok(reader.read()?));
            show(rate("device read", 1, plan.bytes, plan.runs, read)?)?;
        }
        let (source, cores) = (roofs::words(&plan), plan.cores);
        let read = || match &reader {
            Some(reader) => timed(|| Ok(reader.read()?)),
            None => roofs::read_all(&source, cores),
        };
        let bench = Bench::seal(plan, device, &roofs, &read)?;
        people(bench.assumption())?;
        let mut modes = Vec::new();
        for (mode, percent) in bench.modes() {
            let row = bench.measure(mode, percent)?;
            people(row.line())?;
            modes.push(row);
        }
        let targets = bench.targets(&modes);
        if !output.is_json() {
            return targets.iter().try_for_each(|row| output.line(row.line()));
        }
        output.json(&bench.report(roofs, modes, targets))
    }
}

/// Reads memory of the plan's size and says how long that took.
type Read<'r> = &'r dyn Fn() -> Result<Duration, Failure>;

/// A sealed shard and what it is held against.
struct Bench<'r> {
    plan: Plan,
    device: DeviceInfo,
    manager: VramManager,
    shard: SealedShard,
    roof: Rate,
    /// Reads as much at the roof once more: what runs beside it is held against it.
    read: Read<'r>,
}

impl<'r> Bench<'r> {
    fn seal(
        plan: Plan,
        device: Arc<dyn Device>,
        roofs: &[Rate],
        read: Read<'r>,
    ) -> Result<Self, Failure> {
        let of_name = |name: &str| roofs.iter().find(|rate| rate.name() == name);
        let roof = of_name("device read").or_else(|| of_name("memory read"));
        let roof = roof.ok_or_else(|| Failure::new("no roof was measured"))?;
        let info = device.info().clone();
        let manager = VramManager::builder()
            .device_with(device, None, Sharing::Dedicated)
            .key(RootKey::generate(&OsRandom)?)
            .build()?;
        let shard = manager.seal(SealRequest::bytes(&ours::pattern(&plan)))?;
        Ok(Self {
            roof: roof.clone(),
            device: info,
            plan,
            manager,
            shard,
            read,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "times for people")]
    fn token(&self) -> Duration {
        Duration::from_secs_f64(self.plan.bytes as f64 * self.roof.time_per_byte())
    }

    fn assumption(&self) -> String {
        format!(
            "a token is taken to read all {} once, at the roof '{}': {}",
            text::size(self.plan.bytes as u64),
            self.roof.name(),
            text::time(self.token()),
        )
    }

    fn modes(&self) -> Vec<(Mode, Option<u32>)> {
        let sweep = |percent: u32| {
            let budget = self.token().mul_f64(f64::from(percent) / 100.0);
            (Mode::Sweep { budget }, Some(percent))
        };
        let mut modes = vec![(Mode::Full, None), (Mode::Keyed, None)];
        modes.extend(BUDGETS.map(sweep));
        modes.push((Mode::TagOnly, None));
        modes
    }

    /// The plan's runs of one mode. A run of a sweep is as many calls as it
    /// takes to read everything once.
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    fn measure(&self, mode: Mode, percent: Option<u32>) -> Result<Row, Failure> {
        let total = self.plan.bytes as u64;
        // Makes what the mode needs: the first keyed check takes references.
        let _ = self.manager.verify_sealed(&self.shard, mode)?;
        let (mut times, mut read, mut stated) = (Vec::new(), 0_u64, Vec::new());
        let mut roof = Vec::new();
        for _ in 0..self.plan.runs {
            roof.push((self.read)()?.as_secs_f64());
            let mut covered = 0_u64;
            loop {
                let mut checked = 0;
                let time = timed(|| {
                    let verified = self.manager.verify_sealed(&self.shard, mode)?;
                    checked = verified.verification().bytes_checked;
                    stated.push(verified.verification().passes_to_cover);
                    Ok(())
                })?;
                times.push(time.as_secs_f64());
                covered = covered.saturating_add(checked);
                if checked == 0 || covered >= total {
                    break;
                }
            }
            read = read.saturating_add(covered);
        }
        let calls = times.len() as f64;
        let sum: f64 = times.iter().sum();
        let spread = Spread::of(times);
        let roof = total as f64 / Spread::of(roof).median;
        let (bytes, mean) = (read as f64 / calls, sum / calls);
        let row = self.row((mode, percent), &spread, (bytes, mean), roof);
        // 0 says that no number of calls would do.
        let worst = stated.iter().copied().max();
        let worst = worst.filter(|_| !stated.contains(&0));
        Ok(row.found(worst, sum / calls, self.token().as_secs_f64()))
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    fn row(
        &self,
        (mode, percent): (Mode, Option<u32>),
        spread: &Spread,
        (bytes, mean): (f64, f64),
        roof: f64,
    ) -> Row {
        let token = self.token().as_secs_f64();
        let calls = (bytes > 0.0).then(|| (self.plan.bytes as f64 / bytes).max(1.0));
        // Between two sweeps lies a token; what reads everything is done at once.
        let between = if percent.is_some() { token } else { 0.0 };
        // One call of a mode that reads everything: its median says the rate.
        let rate = bytes
            / if percent.is_some() {
                mean
            } else {
                spread.median
            };
        Row {
            mode: mode.to_string(),
            budget_percent: percent,
            median_nanos: spread.median * 1e9,
            fastest_nanos: spread.fastest * 1e9,
            slowest_nanos: spread.slowest * 1e9,
            bytes_checked: bytes,
            bytes_per_second: rate,
            roof_bytes_per_second: roof,
            roof_share: rate / roof,
            token_share: spread.median / token,
            calls_to_cover: calls,
            cover_nanos: calls.map(|calls| calls * (between + mean) * 1e9),
            calls_to_find: None,
            found_within_nanos: None,
        }
    }

    /// What the project states: for keyed checks on CPUs, as GPUs have their own suite,
    /// and for sweeps anywhere.
    fn targets(&self, modes: &[Row]) -> Vec<Target> {
        let keyed = modes.iter().find(|row| row.mode == "keyed");
        let keyed = keyed.filter(|_| self.roof.name() == "memory read");
        let name = "keyed, share of the memory-read roof";
        let target =
            |row: &Row| Target::new(name, row.roof_share * 100.0, "%", Bound::AtLeast(KEYED));
        let mut targets: Vec<Target> = keyed.map(target).into_iter().collect();
        let token = self.token().as_secs_f64() * 1e9;
        targets.extend(modes.iter().filter_map(|row| row.within_budget(token)));
        targets
    }

    fn report(&self, roofs: Vec<Rate>, modes: Vec<Row>, targets: Vec<Target>) -> Report {
        Report {
            schema: "vram-residency/bench-verify/v1",
            device: self.device.clone(),
            digest_path: vram_digest::path::active().to_string(),
            cores: self.plan.cores.get(),
            bytes: self.plan.bytes as u64,
            runs: self.plan.runs,
            roofs,
            roof: self.roof.name(),
            token_nanos: self.token().as_secs_f64() * 1e9,
            modes,
            targets,
        }
    }
}

impl Row {
    /// A change that comes right after a call of `mean` seconds looked there
    /// waits for the rest of it, and for so many calls, each after a token.
    #[expect(clippy::cast_precision_loss, reason = "times for people")]
    fn found(self, calls: Option<u64>, mean: f64, token: f64) -> Self {
        let later = |calls: u64| calls as f64 * (token + mean);
        Self {
            calls_to_find: calls,
            found_within_nanos: calls.map(|calls| (mean + later(calls)) * 1e9),
            ..self
        }
    }

    /// A sweep keeps to its budget: the median does, as other work on the machine may
    /// hold up any call. Where no more than a segment fits, the budget is not what
    /// bounds it.
    fn within_budget(&self, token_nanos: f64) -> Option<Target> {
        let percent = self
            .budget_percent
            .filter(|_| self.bytes_checked > SEGMENT)?;
        let share = self.median_nanos * 100.0 / token_nanos;
        let name = format!("sweep, median share of a token at {percent} %");
        Some(Target::new(
            name,
            share,
            "%",
            Bound::AtMost(f64::from(percent)),
        ))
    }

    fn line(&self) -> String {
        let time = |nanos: f64| text::time(Duration::from_secs_f64(nanos / 1e9));
        let name = match self.budget_percent {
            Some(percent) => format!("{}, {percent} % of a token", self.mode),
            None => self.mode.clone(),
        };
        let found = match self.found_within_nanos {
            Some(nanos) => format!("within {}", time(nanos)),
            None => "at no stated time".to_owned(),
        };
        let reads = match (self.calls_to_cover, self.cover_nanos) {
            (Some(calls), Some(cover)) => format!(
                "{:.2} GB/s, {:.0} % of the roof; everything in {calls:.0} call(s), {}; \
                 a change found {found}",
                self.bytes_per_second / 1e9,
                self.roof_share * 100.0,
                time(cover),
            ),
            _ => "no byte read".to_owned(),
        };
        format!(
            "{name:<24}{:>9} ({} to {})   {:.1} % of a token   {reads}",
            time(self.median_nanos),
            time(self.fastest_nanos),
            time(self.slowest_nanos),
            self.token_share * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(budget_percent: Option<u32>, median_nanos: f64, bytes_checked: f64) -> Row {
        Row {
            mode: "sweep".to_owned(),
            budget_percent,
            median_nanos,
            fastest_nanos: 0.0,
            slowest_nanos: 0.0,
            bytes_checked,
            bytes_per_second: 0.0,
            roof_bytes_per_second: 0.0,
            roof_share: 0.0,
            token_share: 0.0,
            calls_to_cover: None,
            cover_nanos: None,
            calls_to_find: None,
            found_within_nanos: None,
        }
    }

    #[test]
    fn a_sweep_has_a_target_where_more_than_a_segment_fits() {
        let target = |row: &Row| row.within_budget(1000.0).map(|target| target.line());
        assert_eq!(target(&row(None, 90.0, 9e9)), None, "not a sweep");
        assert_eq!(target(&row(Some(5), 90.0, SEGMENT)), None);
        for (median, verdict) in [(50.0, "at most 5 %: met"), (51.0, "at most 5 %: MISSED")] {
            let line = target(&row(Some(5), median, 2.0 * SEGMENT)).unwrap();
            assert!(line.ends_with(verdict), "{line}");
        }
    }
}
