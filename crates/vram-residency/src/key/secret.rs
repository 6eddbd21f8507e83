//! Memory for keys: locked against swapping, left out of core dumps, wiped.

use memmap2::{Advice, MmapMut};
use zeroize::{Zeroize, Zeroizing, zeroize_stack};

use super::KeyError;

/// Stack that is wiped after a secret was lent, in bytes. Tags, derivations and
/// signatures were measured at less than 4 KiB in a release build and 7 KiB in a
/// debug one.
const STACK_BYTES: usize = 8 << 10;

/// Up to one page of secret bytes. No `Debug`, `Clone` or `Serialize`
/// (requirement: TY-6, CI-006).
pub(super) struct Secret {
    bytes: Zeroizing<Protected>,
}

impl Secret {
    /// Moves `bytes` into protected memory and wipes the original.
    pub(super) fn new(bytes: &mut [u8]) -> Result<Self, KeyError> {
        let moved = Protected::holding(bytes);
        bytes.zeroize();
        moved.map(|moved| Self {
            bytes: Zeroizing::new(moved),
        })
    }

    /// Lends the bytes to `work`, then wipes the stack that it used: the
    /// libraries pad keys and hand results over in frames that nobody wipes.
    pub(super) fn lend<R>(&self, work: impl FnOnce(&[u8]) -> R) -> R {
        let answer = apart(&self.bytes.0, work);
        zeroize_stack::<STACK_BYTES>();
        answer
    }
}

/// A frame of its own for `work`, below that of the caller.
#[inline(never)]
fn apart<R>(bytes: &[u8], work: impl FnOnce(&[u8]) -> R) -> R {
    work(bytes)
}

/// A locked mapping. `Zeroizing` around it wipes it before it is given back.
struct Protected(MmapMut);

impl Protected {
    fn holding(bytes: &[u8]) -> Result<Self, KeyError> {
        let memory = |source: std::io::Error| KeyError::Memory {
            reason: source.to_string(),
        };
        let mut map = MmapMut::map_anon(bytes.len().max(1)).map_err(memory)?;
        map.lock().map_err(memory)?;
        #[cfg(target_os = "linux")]
        map.advise(Advice::DontDump).map_err(memory)?;
        map.copy_from_slice(bytes);
        Ok(Self(map))
    }
}

impl Zeroize for Protected {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::FileExt;

    const SECRET: &[u8; 32] = b"no-word-of-this-may-stay-behind!";

    /// Fills a frame with the secret and leaves it.
    #[inline(never)]
    fn forget(secret: &[u8]) {
        let mut frame = [[0_u8; 32]; 128];
        for copy in &mut frame {
            copy.copy_from_slice(secret);
        }
        black_box(&frame);
    }

    /// Whether the secret stands in what this thread's stack held below here.
    #[cfg(target_os = "linux")]
    #[inline(never)]
    fn left_behind() -> bool {
        let mut below = vec![0; 16 << 10];
        let here = std::ptr::from_ref(&below).addr();
        let here = here.checked_sub(below.len()).unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut below, here as u64).unwrap();
        below.windows(SECRET.len()).any(|window| window == SECRET)
    }

    // requirement: TY-6, CI-006
    #[cfg(target_os = "linux")]
    #[test]
    fn the_stack_that_used_a_secret_is_wiped() {
        let secret = Secret::new(&mut SECRET.to_owned()).unwrap();
        apart(&secret.bytes.0, forget);
        assert!(left_behind(), "without the wipe it can be seen");
        secret.lend(forget);
        assert!(!left_behind());
    }

    /// `Zeroizing` calls this when a secret is dropped.
    // requirement: TY-6, CI-006
    #[test]
    fn protected_memory_is_wiped_as_a_whole() {
        let mut protected = Protected::holding(SECRET).unwrap();
        assert_eq!(protected.0[..], SECRET[..]);
        protected.zeroize();
        assert_eq!(protected.0[..], [0; 32]);
    }

    // requirement: TY-6, CI-006
    #[test]
    fn the_original_is_wiped_and_the_copy_is_what_is_lent() {
        let mut original = [7; 40];
        let secret = Secret::new(&mut original).unwrap();
        assert_eq!(original, [0; 40]);
        assert_eq!(secret.lend(<[u8]>::to_vec), [7; 40]);
        assert_eq!(secret.lend(<[u8]>::len), 40, "as often as it is needed");
    }
}
