//! Which implementation runs, chosen from what this CPU can do.
//!
//! All paths give the same answers; only their speed differs.
//!
//! ```
//! let path = vram_digest::path::active();
//! assert!(path <= vram_digest::path::detected());
//! println!("digests by {path}");
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// One implementation of block hash and keyed tag, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Path {
    /// The `sha2` crate (which uses the CPU's SHA instructions where it has any), one block after
    /// the other; tags in plain Rust.
    Portable,
    /// Eight blocks at once; tags in 256-bit vectors.
    Avx2,
    /// Two blocks at once with SHA instructions; tags in 256-bit vectors where the CPU has them.
    ShaNi,
    /// Sixteen blocks at once; tags in 512-bit vectors.
    Avx512,
}

impl Path {
    /// All paths, slowest first, whether this CPU has them or not.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::ShaNi, Self::Avx512];

    /// True when this CPU can take it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => crate::cpu::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => crate::cpu::ShaNi::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => crate::cpu::Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2, 8 lanes",
            Self::ShaNi => "SHA-NI, 2 streams",
            Self::Avx512 => "AVX-512, 16 lanes",
        })
    }
}

/// The fastest path of this CPU, found once.
#[must_use]
pub fn detected() -> Path {
    static DETECTED: OnceLock<Path> = OnceLock::new();
    *DETECTED.get_or_init(|| fastest(Path::Avx512))
}

/// The fastest available path that is not above `limit`.
fn fastest(limit: Path) -> Path {
    let available = |path: &Path| *path <= limit && path.is_available();
    Path::ALL
        .into_iter()
        .rfind(available)
        .unwrap_or(Path::Portable)
}

/// What [`cap_for_tests`] set; the fastest path when nothing is capped.
static LIMIT: AtomicU8 = AtomicU8::new(Path::Avx512 as u8);

/// The path that runs now: [`detected`], unless a test capped it.
#[must_use]
pub fn active() -> Path {
    let limit = LIMIT.load(Ordering::Relaxed);
    if limit >= Path::Avx512 as u8 {
        return detected();
    }
    let capped = Path::ALL.into_iter().rfind(|path| *path as u8 <= limit);
    fastest(capped.unwrap_or(Path::Portable))
}

/// Test hook: lets the whole process use nothing faster than `limit` until the guard is dropped.
///
/// Answers do not change, only which code gives them. Guards exclude each other: a second call
/// waits, and on the same thread would wait for ever.
#[doc(hidden)]
#[must_use]
pub fn cap_for_tests(limit: Path) -> CapGuard {
    static ONE: Mutex<()> = Mutex::new(());
    let lock = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    LIMIT.store(limit as u8, Ordering::Relaxed);
    CapGuard { _lock: lock }
}

/// Lifts the cap when dropped.
#[doc(hidden)]
pub struct CapGuard {
    _lock: MutexGuard<'static, ()>,
}

impl Drop for CapGuard {
    fn drop(&mut self) {
        LIMIT.store(Path::Avx512 as u8, Ordering::Relaxed);
    }
}
