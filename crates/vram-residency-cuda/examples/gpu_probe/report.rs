//! The rows of a run, as JSON and as a table, kept on disk after every row.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use vram_residency_cuda::nvml::Nvml;

use crate::Machine;
use crate::options::Options;
use crate::times::Times;

const SCHEMA: &str = "vram-residency/gpu-suite/v1";

/// One section's share of the results.
pub(crate) struct Report {
    folder: PathBuf,
    section: String,
    whole: Value,
    failures: u64,
    /// Bars bind on a GPU only.
    judged: bool,
}

impl Report {
    /// Goes on with the results in the folder; rows of an earlier run of the
    /// same section make room.
    pub(crate) fn open(options: &Options, section: &str) -> Self {
        let text = fs::read_to_string(options.out.join("results.json")).unwrap_or_default();
        let mut whole: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if whole["schema"] != SCHEMA {
            whole = json!({ "schema": SCHEMA, "sections": [], "rows": [] });
        }
        for (key, value) in [("commit", &options.commit), ("date", &options.date)] {
            if !value.is_empty() {
                whole[key] = json!(value);
            }
        }
        if let Some(rows) = whole["rows"].as_array_mut() {
            rows.retain(|row| row["section"] != section);
        }
        Self {
            folder: options.out.clone(),
            section: section.to_owned(),
            whole,
            failures: 0,
            judged: false,
        }
    }

    /// Whether a figure below its bar counts.
    pub(crate) fn judge(&mut self, judged: bool) {
        self.judged = judged;
    }

    /// Which device and driver the rows are from.
    pub(crate) fn facts(&mut self, machine: &Machine<'_>) {
        let info = &machine.info;
        let pci = info.pci.clone().unwrap_or_default();
        let nvml = Nvml::open().and_then(|nvml| nvml.facts(&pci));
        self.whole["gpu"] = json!(info.name);
        self.whole["driver"] = match nvml {
            Ok(facts) => json!(facts.driver_version),
            Err(why) => json!(format!("unknown: {why}")),
        };
        self.whole["device"] = serde_json::to_value(info).unwrap_or(Value::Null);
        let (major, minor) = info.compute_capability.unwrap_or_default();
        let text = format!("{}, compute capability {major}.{minor}", info.name);
        self.finding("device", Ok(text));
        let library = machine.cuda.driver().library().to_owned();
        self.finding("driver library", Ok(library));
    }

    /// How a section of the suite ended.
    pub(crate) fn section(&mut self, name: &str, status: &str, seconds: u64) {
        if let Some(sections) = self.whole["sections"].as_array_mut() {
            sections.retain(|section| section["name"] != name);
            sections.push(json!({ "name": name, "status": status, "seconds": seconds }));
        }
        self.write();
    }

    /// A rate over `bytes` (bytes read, or payload copied); in GB/s.
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

    /// A time alone; in seconds.
    pub(crate) fn time(&mut self, name: &str, times: Result<Times, String>) -> f64 {
        match times {
            Ok(times) => {
                let (low, high) = times.spread();
                self.push(json!({
                    "name": name, "median_s": times.median(), "min_s": low, "max_s": high,
                }));
                times.median()
            }
            Err(why) => {
                self.failure(name, &why);
                f64::INFINITY
            }
        }
    }

    /// A figure that should be at least `bar`.
    pub(crate) fn at_least(&mut self, name: &str, (value, unit): (f64, &str), bar: f64) {
        self.bar(name, (value, unit), bar, "at least", value >= bar);
    }

    /// A figure that should be at most `bar`.
    pub(crate) fn at_most(&mut self, name: &str, (value, unit): (f64, &str), bar: f64) {
        self.bar(name, (value, unit), bar, "at most", value <= bar);
    }

    fn bar(&mut self, name: &str, (value, unit): (f64, &str), bar: f64, sense: &str, meets: bool) {
        let meets = if self.judged {
            json!(meets)
        } else {
            Value::Null
        };
        self.push(json!({
            "name": name, "value": value, "unit": unit, "bar": bar, "sense": sense, "meets": meets,
        }));
    }

    /// A finding in words.
    pub(crate) fn finding(&mut self, name: &str, text: Result<String, String>) {
        match text {
            Ok(text) => self.push(json!({ "name": name, "finding": text })),
            Err(why) => self.failure(name, &why),
        }
    }

    /// Something that this machine has no room for.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        self.push(json!({ "name": name, "skipped": why }));
    }

    pub(crate) fn failure(&mut self, name: &str, why: &str) {
        self.failures += 1;
        self.push(json!({ "name": name, "error": why }));
    }

    fn push(&mut self, mut row: Value) {
        println!("{}", line(&row));
        row["section"] = json!(self.section);
        if let Some(rows) = self.whole["rows"].as_array_mut() {
            rows.push(row);
        }
        self.write();
    }

    pub(crate) fn failed(&self) -> bool {
        self.failures > 0
    }

    fn write(&mut self) {
        let named = |key: &str| -> Vec<Value> {
            let rows = self.whole["rows"].as_array().into_iter().flatten();
            let found = rows.filter(|row| match key {
                "meets" => row["meets"] == json!(false),
                _ => !row[key].is_null(),
            });
            found.map(|row| row["name"].clone()).collect()
        };
        let summary = json!({
            "bars_missed": named("meets"),
            "rows_failed": named("error"),
            "rows_skipped": named("skipped"),
        });
        self.whole["summary"] = summary;
        for (file, text) in [
            ("results.json", format!("{:#}\n", self.whole)),
            ("results.txt", table(&self.whole)),
        ] {
            // A reader, or whoever stops us, never sees half a file.
            let fresh = self.folder.join("results.new");
            fs::write(&fresh, text).expect("results can be written");
            fs::rename(&fresh, self.folder.join(file)).expect("results can be kept");
        }
    }
}

/// The whole as people read it.
fn table(whole: &Value) -> String {
    let text = |key: &str| whole[key].as_str().unwrap_or("unknown").to_owned();
    let mut out = format!(
        "GPU     {}\ndriver  {}\ncommit  {}\ndate    {}\n",
        text("gpu"),
        text("driver"),
        text("commit"),
        text("date")
    );
    let mut section = "";
    for row in whole["rows"].as_array().into_iter().flatten() {
        let of = row["section"].as_str().unwrap_or_default();
        if of != section {
            section = of;
            let _ = writeln!(out, "\n{section}");
        }
        let _ = writeln!(out, "  {}", line(row));
    }
    out += "\nsections of the suite\n";
    for section in whole["sections"].as_array().into_iter().flatten() {
        let word = |key: &str| section[key].as_str().unwrap_or_default().to_owned();
        let _ = writeln!(
            out,
            "  {:<44} {:>4} s  {}",
            word("name"),
            section["seconds"],
            word("status")
        );
    }
    for (key, what) in [
        ("bars_missed", "bars missed"),
        ("rows_failed", "rows failed"),
        ("rows_skipped", "rows skipped"),
    ] {
        let names = whole["summary"][key]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let _ = writeln!(out, "\n{what}: {}", names.len());
        for name in names {
            let _ = writeln!(out, "  {}", name.as_str().unwrap_or_default());
        }
    }
    out
}

fn line(row: &Value) -> String {
    let name = row["name"].as_str().unwrap_or_default();
    let number = |key: &str| row[key].as_f64();
    let text = if let Some(error) = row["error"].as_str() {
        format!("FAILED: {error}")
    } else if let Some(why) = row["skipped"].as_str() {
        format!("SKIPPED: {why}")
    } else if let Some(finding) = row["finding"].as_str() {
        finding.to_owned()
    } else if let (Some(value), Some(bar)) = (number("value"), number("bar")) {
        let (unit, sense) = (row["unit"].as_str(), row["sense"].as_str());
        let (unit, sense) = (unit.unwrap_or_default(), sense.unwrap_or_default());
        let verdict = match row["meets"].as_bool() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged here",
        };
        format!("{value:10.3} {unit}, bar {sense} {bar:.3}: {verdict}")
    } else if let Some(rate) = number("gb_per_s") {
        let ms = number("median_s").unwrap_or_default() * 1e3;
        format!("{rate:10.1} GB/s {ms:12.3} ms")
    } else {
        format!("{:28.3} ms", number("median_s").unwrap_or_default() * 1e3)
    };
    format!("{name:<58} {text}")
}
