//! The fake driver of one test: a machine of its own, and its controls.

use std::collections::BTreeMap;

use fake_cuda::Ctl;
use serde_json::Value;
use vram_residency_cuda::Cuda;

/// Controls of one pretended machine.
pub struct Fake {
    ctl: Ctl,
}

impl Fake {
    /// A fresh machine with these options (`vram=1G gpus=2 ...`).
    pub fn start(options: &str) -> (Self, Cuda) {
        Self::from(Ctl::open_private().unwrap(), options)
    }

    /// A fresh machine whose driver is too old to have these symbols.
    pub fn start_without(symbols: &[&str], options: &str) -> (Self, Cuda) {
        Self::from(Ctl::open_without(symbols).unwrap(), options)
    }

    fn from(ctl: Ctl, options: &str) -> (Self, Cuda) {
        let fake = Self { ctl };
        fake.tell(&format!("reset {options}"));
        let cuda = Cuda::open_library(fake.ctl.path()).unwrap();
        // Open libraries need no file; hundreds of copies would fill the disk.
        std::fs::remove_file(fake.ctl.path()).unwrap();
        (fake, cuda)
    }

    /// Carries out one command of the fake driver.
    pub fn tell(&self, command: &str) {
        self.ctl.run(command).unwrap();
    }

    /// How often each call was made since the reset; `_v2` is no part of a name,
    /// as in the fake driver's own commands.
    pub fn trace(&self) -> Vec<(String, u64)> {
        let trace: Value = serde_json::from_str(&self.ctl.trace().unwrap()).unwrap();
        let mut uses = BTreeMap::new();
        for (name, count) in trace.as_object().unwrap() {
            let stem = name.strip_suffix("_v2").unwrap_or(name).to_owned();
            *uses.entry(stem).or_insert(0) += count.as_u64().unwrap();
        }
        uses.into_iter().collect()
    }

    /// How often the bytes lie in memory of devices, and in pinned memory.
    pub fn find(&self, needle: &[u8]) -> (usize, usize) {
        self.ctl.find(needle).unwrap()
    }

    /// What the driver said about faults.
    pub fn log(&self) -> String {
        self.ctl.log().unwrap()
    }

    pub fn report(&self) -> Value {
        serde_json::from_str(&self.ctl.report().unwrap()).unwrap()
    }

    /// One number of the report.
    pub fn count(&self, what: &str) -> u64 {
        self.report()[what].as_u64().unwrap()
    }

    /// Allocations of virtual memory that are still mapped or owned.
    pub fn weights_held(&self) -> u64 {
        let report = self.report();
        let rows = report["physical"].as_array().unwrap().iter();
        let ours = rows.filter(|row| {
            let mut places = row["places"].as_array().unwrap().iter();
            row["handles"] != 0 || places.any(|place| place["kind"] == "mapped")
        });
        ours.count() as u64
    }

    /// Everything that the machine holds for us, by name; empty when nothing is.
    pub fn held(&self) -> Vec<(&'static str, u64)> {
        const NAMES: [&str; 11] = [
            "retained",
            "streams",
            "events",
            "modules",
            "pending",
            "device_bytes",
            "managed_bytes",
            "pinned_bytes",
            "mapped_bytes",
            "reserved_bytes",
            "handles",
        ];
        let report = self.report();
        let value = |name: &'static str| (name, report[name].as_u64().unwrap());
        NAMES
            .into_iter()
            .map(value)
            .filter(|(_, held)| *held > 0)
            .collect()
    }
}
