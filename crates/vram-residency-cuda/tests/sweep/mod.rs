//! The parts of the fault sweep: what is done, and how its end is judged.
#![allow(unreachable_pub, reason = "test code")]

pub mod holdings;
pub mod house;
pub mod judge;

pub const OUT_OF_MEMORY: u32 = 2;
pub const STICKY: u32 = 700;
pub const UNKNOWN: u32 = 12345;
pub const CODES: [u32; 3] = [OUT_OF_MEMORY, STICKY, UNKNOWN];

/// One machine and one thing to do on it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Beyond two devices for the work and one for the host application.
    pub options: &'static str,
    /// Symbols that the driver lacks.
    pub hidden: &'static [&'static str],
    /// Device whose primary context the host application has current.
    pub application: i32,
    /// Bytes of the shard.
    pub bytes: usize,
    /// Verifies, leases and migrates too, rather than seal and free only.
    pub whole_life: bool,
    /// Bytes in which the device gives memory.
    pub granule: u64,
    /// How the names of calls begin whose every use fails with each code; uses of
    /// the others fail with one code, taken in turn.
    pub anew: &'static [&'static str],
    /// Least number of cases with each code, lest the scenario become empty.
    pub least: usize,
}

/// One case of the sweep.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'n> {
    pub name: &'n str,
    pub nth: u64,
    pub code: u32,
}
