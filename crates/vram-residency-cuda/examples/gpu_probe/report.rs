//! The rows of a run, as JSON and as a table.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vram_residency_cuda::Cuda;

/// Times of one thing, run several times.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Runs `work` once to warm up and `runs` times to measure.
    pub(crate) fn of<E: ToString>(
        runs: usize,
        mut work: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, String> {
        work().map_err(|error| error.to_string())?;
        Self::cold(runs, work)
    }

    /// Without a warm-up.
    pub(crate) fn cold<E: ToString>(
        runs: usize,
        mut work: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, String> {
        let mut times = Vec::new();
        for _ in 0..runs {
            let started = Instant::now();
            work().map_err(|error| error.to_string())?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2].as_secs_f64()
    }

    fn spread(&self) -> (f64, f64) {
        (
            self.0[0].as_secs_f64(),
            self.0[self.0.len() - 1].as_secs_f64(),
        )
    }
}

pub(crate) struct Report {
    facts: Value,
    rows: Vec<Value>,
    failures: u64,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            facts: Value::Null,
            rows: Vec::new(),
            failures: 0,
        }
    }

    pub(crate) fn facts(&mut self, cuda: &Cuda, ordinal: u32) {
        self.facts = match cuda.info(ordinal) {
            Ok(info) => serde_json::to_value(info).unwrap_or(Value::Null),
            Err(error) => json!({ "error": error.to_string() }),
        };
    }

    /// A rate over `bytes` (bytes read, or payload copied).
    pub(crate) fn rate(&mut self, name: &str, bytes: u64, times: Result<Times, String>) -> f64 {
        match times {
            Ok(times) => {
                let rate = bytes as f64 / times.median() / 1e9;
                let (low, high) = times.spread();
                self.push(json!({
                    "name": name, "bytes": bytes, "gb_per_s": rate,
                    "median_s": times.median(), "min_s": low, "max_s": high,
                }));
                rate
            }
            Err(why) => {
                self.failure(name, &why);
                0.0
            }
        }
    }

    /// A time alone.
    pub(crate) fn time(&mut self, name: &str, times: Result<Times, String>) {
        match times {
            Ok(times) => {
                let (low, high) = times.spread();
                self.push(json!({
                    "name": name, "median_s": times.median(), "min_s": low, "max_s": high,
                }));
            }
            Err(why) => self.failure(name, &why),
        }
    }

    /// A ratio against a roof of the same run, with the bar it is held against.
    pub(crate) fn ratio(&mut self, name: &str, value: f64, roof: f64, bar: f64) {
        let ratio = if roof > 0.0 { value / roof } else { 0.0 };
        self.push(json!({ "name": name, "ratio": ratio, "bar": bar, "meets": ratio >= bar }));
    }

    /// A finding in words.
    pub(crate) fn finding(&mut self, name: &str, text: Result<String, String>) {
        match text {
            Ok(text) => self.push(json!({ "name": name, "finding": text })),
            Err(why) => self.failure(name, &why),
        }
    }

    pub(crate) fn failure(&mut self, name: &str, why: &str) {
        self.failures += 1;
        self.push(json!({ "name": name, "error": why }));
    }

    fn push(&mut self, row: Value) {
        println!("{}", line(&row));
        self.rows.push(row);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failures > 0
    }

    pub(crate) fn write(&self, out: &Path) {
        let whole = json!({
            "schema": "vram-residency/gpu-probe/v1",
            "device": self.facts,
            "rows": self.rows,
        });
        let mut table = format!("{}\n\n", self.facts);
        for row in &self.rows {
            let _ = writeln!(table, "{}", line(row));
        }
        std::fs::write(out.join("probe.json"), format!("{whole:#}\n")).expect("probe.json");
        std::fs::write(out.join("probe.txt"), table).expect("probe.txt");
    }
}

fn line(row: &Value) -> String {
    let name = row["name"].as_str().unwrap_or_default();
    let number = |key: &str| row[key].as_f64();
    let text = if let Some(error) = row["error"].as_str() {
        format!("FAILED: {error}")
    } else if let Some(finding) = row["finding"].as_str() {
        finding.to_owned()
    } else if let (Some(ratio), Some(bar)) = (number("ratio"), number("bar")) {
        format!("{ratio:10.3} of the roof, bar {bar:.2}")
    } else if let Some(rate) = number("gb_per_s") {
        let ms = number("median_s").unwrap_or_default() * 1e3;
        format!("{rate:10.1} GB/s {ms:12.3} ms")
    } else {
        format!("{:28.3} ms", number("median_s").unwrap_or_default() * 1e3)
    };
    format!("{name:<52} {text}")
}
