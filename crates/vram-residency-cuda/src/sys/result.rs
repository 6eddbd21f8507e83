//! Result codes as numbers.

/// What every driver call returns: a number, so that a code from a newer driver
/// is as harmless as a known one.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CuResult(pub u32);

impl CuResult {
    /// The call did its work.
    pub const SUCCESS: Self = Self(0);
    /// An argument is out of its range.
    pub const INVALID_VALUE: Self = Self(1);
    /// No room, on the device or on the host, depending on the call.
    pub const OUT_OF_MEMORY: Self = Self(2);
    /// `libcuda` is a toolkit's stub without a driver behind it.
    pub const STUB_LIBRARY: Self = Self(34);
    /// No GPU.
    pub const NO_DEVICE: Self = Self(100);
    /// No GPU with that ordinal.
    pub const INVALID_DEVICE: Self = Self(101);
    /// An ECC error that could not be corrected. Sticky.
    pub const ECC_UNCORRECTABLE: Self = Self(214);
    /// The devices do not reach each other.
    pub const PEER_ACCESS_UNSUPPORTED: Self = Self(217);
    /// The driver cannot read this version of PTX.
    pub const UNSUPPORTED_PTX: Self = Self(222);
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self(500);
    /// Work is still running.
    pub const NOT_READY: Self = Self(600);
    /// A kernel used an address without the right to do so. Sticky.
    pub const ILLEGAL_ADDRESS: Self = Self(700);
    /// A kernel used a misaligned address. Sticky.
    pub const MISALIGNED_ADDRESS: Self = Self(716);
    /// This process may not do that.
    pub const NOT_PERMITTED: Self = Self(800);
    /// The device or the driver does not offer this.
    pub const NOT_SUPPORTED: Self = Self(801);

    /// True for success.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }

    /// True for a fault that leaves the context unusable: the driver repeats it
    /// from every later call until the process ends.
    ///
    /// The documented set: uncorrectable ECC (214) and NVLink (220) errors,
    /// an exception that the GPU contained (226: what data centre GPUs make of
    /// a memory error in one process), 700, launch timeout (702), destroyed
    /// context (709), assert (710), the kernel faults 714..=719, tensor memory
    /// that a kernel kept (721), and bad data of an external device (911).
    #[must_use]
    pub const fn is_sticky(self) -> bool {
        matches!(
            self.0,
            214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 911
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documented_context_killers_are_sticky() {
        for code in [214, 220, 226, 700, 702, 709, 710, 714, 716, 719, 721, 911] {
            assert!(CuResult(code).is_sticky(), "{code}");
        }
        for code in [
            0, 1, 2, 34, 100, 217, 222, 600, 701, 704, 711, 713, 720, 801, 912, 999, 12345,
        ] {
            assert!(!CuResult(code).is_sticky(), "{code}");
        }
    }
}
