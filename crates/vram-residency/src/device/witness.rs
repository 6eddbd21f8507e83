//! What the driver itself says about an allocation: the evidence of residency.

use serde::{Deserialize, Serialize};

/// Where the driver says the bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MemoryKind {
    /// Memory on the card.
    Device,
    /// Host memory, mapped or registered for the device.
    Host,
    /// Memory that migrates between host and card.
    Managed,
    /// Host memory of the simulated device.
    Simulated,
    /// The driver gave an answer we do not know.
    Unknown,
}

/// Access rights of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// While filling.
    ReadWrite,
    /// Since sealing: a stray write faults.
    ReadOnly,
}

/// Measured facts about one allocation, stored in the seal and re-taken at
/// every verification (requirement: M0-W-1010, POL-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Where the driver says the memory lies.
    pub memory: MemoryKind,
    /// Managed (migrating) memory.
    pub managed: bool,
    /// The driver knows a host pointer to the same bytes.
    pub host_pointer: bool,
    /// Ordinal of the device that holds the bytes.
    pub ordinal: u32,
    /// Allocation properties say "pinned on the device" (virtual memory
    /// management). `false` is a weaker witness: a plain allocation.
    pub pinned_on_device: bool,
    /// Rights of the mapping, as the driver reports them.
    pub protection: Protection,
}

impl Witness {
    /// Whether the memory is a device's own, and that of this ordinal.
    pub(crate) fn is_on(&self, ordinal: u32) -> bool {
        let own = self.memory == MemoryKind::Device && !self.managed && !self.host_pointer;
        own && self.ordinal == ordinal
    }
}
