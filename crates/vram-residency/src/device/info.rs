//! Facts about a device (requirement: TY-8).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a device is made of. It is part of the seal statement, so a simulated
/// seal can never verify as a seal on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeviceKind {
    /// A GPU reached through the CUDA driver.
    Cuda,
    /// Host memory playing a device, named by the caller.
    Simulated,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "cuda",
            Self::Simulated => "simulated",
        })
    }
}

/// 16-byte device identity, shown as the usual 8-4-4-4-12 hex groups.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Wraps the driver's bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes, as bound into keys and seals.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Uuid {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "a UUID is 8-4-4-4-12 lower-case hex digits";
        let dashes = s.char_indices().filter(|(_, c)| *c == '-').map(|(i, _)| i);
        if s.len() != 36 || !dashes.eq([8, 13, 18, 23]) {
            return Err(SHAPE);
        }
        let mut out = [0_u8; 16];
        let mut digits = s.bytes().filter(|b| *b != b'-').map(|b| match b {
            b'0'..=b'9' => Some(b.wrapping_sub(b'0')),
            b'a'..=b'f' => Some(b.wrapping_sub(b'a').wrapping_add(10)),
            _ => None,
        });
        for byte in &mut out {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Err(SHAPE);
            };
            *byte = high << 4 | low;
        }
        Ok(Self(out))
    }
}

impl Serialize for Uuid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The driver behind a device, as found at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverInfo {
    /// The driver's own version number, for example `12040`.
    pub version: u32,
    /// Path of the library that the loader really opened.
    pub library: String,
}

/// Facts that hold while a device is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// GPU or simulator.
    pub kind: DeviceKind,
    /// Position as the application sees it, from 0.
    pub ordinal: u32,
    /// Identity that survives reordering.
    pub uuid: Uuid,
    /// The driver's name for it.
    pub name: String,
    /// Compute capability (major, minor); `None` on the simulator.
    pub compute_capability: Option<(u32, u32)>,
    /// Bytes of device memory.
    pub total_bytes: u64,
    /// Allocation granularity in bytes, at least 1.
    pub granularity: u64,
    /// Shares memory with the CPU. Never acceptable for residency.
    pub integrated: bool,
    /// ECC memory, when the driver tells.
    pub ecc: Option<bool>,
    /// A MIG slice, when the driver tells.
    pub mig: Option<bool>,
    /// PCI address, when there is one.
    pub pci: Option<String>,
    /// The driver; `None` on the simulator.
    pub driver: Option<DriverInfo>,
}

/// Device memory as the driver reports it now, other processes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryInfo {
    /// Bytes nobody uses.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}
