//! Which NH runs.

use super::key::NhKey;
use super::{PASSES, portable};

/// An implementation of NH that this CPU can run.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(crate::cpu::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(crate::cpu::Avx512),
}

impl Kernel {
    /// The fastest one that the active path allows.
    pub(super) fn active() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use crate::path::{self, Path};

            let path = path::active();
            if path >= Path::Avx512
                && let Some(cpu) = crate::cpu::Avx512::detect()
            {
                return Self::Avx512(cpu);
            }
            if path >= Path::Avx2
                && let Some(cpu) = crate::cpu::Avx2::detect()
            {
                return Self::Avx2(cpu);
            }
        }
        Self::Portable
    }

    /// The four sums of a unit; short ones are few and go the portable way.
    #[inline]
    pub(super) fn nh(self, key: &NhKey, unit: &[u8]) -> [u64; PASSES] {
        #[cfg(target_arch = "x86_64")]
        match (self, unit.try_into()) {
            (Self::Avx2(cpu), Ok(whole)) => return super::avx2::nh(cpu, key, whole),
            (Self::Avx512(cpu), Ok(whole)) => return super::avx512::nh(cpu, key, whole),
            _ => {}
        }
        portable::nh(key, unit)
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::path::{Path, cap_for_tests};

    #[test]
    fn a_cap_decides_which_one_runs() {
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let _cap = cap_for_tests(path);
            let avx2 = crate::cpu::Avx2::detect().is_some();
            let fits = match Kernel::active() {
                Kernel::Avx512(_) => path == Path::Avx512,
                Kernel::Avx2(_) => (Path::Avx2..Path::Avx512).contains(&path),
                Kernel::Portable => path == Path::Portable || !avx2,
            };
            assert!(fits, "{path}");
        }
    }
}
