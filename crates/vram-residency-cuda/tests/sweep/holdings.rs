//! What the fake driver says that a process still holds.

use serde_json::Value;

use crate::common::fake::Fake;

/// Devices that the managers of the sweep use.
pub const WORKERS: usize = 2;

/// Everything that could leak, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Retains of primary contexts.
    pub retained: u64,
    pub streams: u64,
    pub events: u64,
    pub modules: u64,
    /// Plain device allocations: scratch memory, and weights without virtual memory.
    pub plain: u64,
    pub pinned: u64,
    pub reservations: u64,
    /// Descriptors beyond those that the driver keeps for live memory.
    pub descriptors: u64,
    /// Bytes of each working device that hold or held weights.
    pub weights: [u64; WORKERS],
    /// All bytes in use of each working device.
    pub used: [u64; WORKERS],
}

impl Holdings {
    /// Asks the driver; weights without virtual memory are the plain
    /// allocations of whole granules, which scratch memory never is.
    pub fn of(fake: &Fake, granule: u64) -> Self {
        let report = fake.report();
        let count = |what: &str| report[what].as_u64().unwrap();
        let on = |device: usize| {
            let rows = report["physical"].as_array().unwrap().iter();
            let ours = rows.filter(|row| row["device"] == device && is_weights(row, granule));
            ours.map(|row| row["bytes"].as_u64().unwrap()).sum()
        };
        Self {
            retained: count("retained"),
            streams: count("streams"),
            events: count("events"),
            modules: count("modules"),
            plain: count("device_allocations"),
            pinned: count("pinned_blocks"),
            reservations: count("reservations"),
            descriptors: count("open_descriptors") - count("driver_descriptors"),
            weights: std::array::from_fn(on),
            used: std::array::from_fn(|device| report["used"][device].as_u64().unwrap()),
        }
    }
}

fn is_weights(row: &Value, granule: u64) -> bool {
    let kind = |kind: &str| {
        let places = row["places"].as_array().unwrap();
        places.iter().any(|place| place["kind"] == kind)
    };
    let whole = row["bytes"].as_u64().unwrap().is_multiple_of(granule);
    row["handles"] != 0 || kind("mapped") || (granule >= 2 << 20 && whole && kind("device"))
}

/// Devices whose context is broken.
pub fn broken(fake: &Fake) -> Vec<u64> {
    numbers(&fake.report()["broken"])
}

/// The calling thread's stack of contexts.
pub fn stack(fake: &Fake) -> Vec<u64> {
    numbers(&fake.report()["stack"])
}

fn numbers(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap().iter();
    list.map(|number| number.as_u64().unwrap()).collect()
}
