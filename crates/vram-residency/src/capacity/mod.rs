//! The ledger: one owner of the answer to "how much room is there"
//! (requirement: CAP-1..CAP-11, RP-001, RP-002).
//!
//! `used + free + stranded == total`, always. The driver's own figure is asked
//! at every admission and shown beside the budget, never mixed into it.

mod allocation;
mod ledger;
mod pack;
pub mod plan;
pub mod ranks;
mod victims;

use serde::Serialize;

pub(crate) use allocation::Allocation;
pub(crate) use ledger::Ledger;
pub use ledger::Reservation;

/// Bytes that are never handed out on a device (requirement: CAP-8, GC-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sharing {
    /// The device is ours: no headroom.
    #[default]
    Dedicated,
    /// Others use it too: the larger of 2 GiB and 10 % stays free.
    Shared,
    /// That many bytes stay free.
    Headroom(u64),
}

impl Sharing {
    /// Headroom in bytes on a device of `total` bytes.
    #[must_use]
    pub fn headroom(self, total: u64) -> u64 {
        match self {
            Self::Dedicated => 0,
            Self::Shared => (total / 10).max(2 << 30),
            Self::Headroom(bytes) => bytes,
        }
    }
}

/// The managed budget of one device now. Reading it never waits for I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Device ordinal.
    pub ordinal: u32,
    /// Managed budget in bytes.
    pub total: u64,
    /// Bytes held by shards and reservations.
    pub used: u64,
    /// Of these, bytes reserved and not yet taken from the device.
    pub reserved: u64,
    /// Bytes that could not be given back.
    pub stranded: u64,
    /// `total - used - stranded`.
    pub free: u64,
    /// Bytes kept free for others.
    pub headroom: u64,
    /// Free bytes that a reservation may take: `free - headroom`, not below 0.
    pub available: u64,
    /// Shards and reservations that hold the used bytes.
    pub holders: u64,
}
