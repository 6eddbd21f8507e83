//! Memory for keys: locked against swapping, left out of core dumps, wiped.

use memmap2::{Advice, MmapMut};
use zeroize::Zeroize;

use super::KeyError;

/// Up to one page of secret bytes. No `Debug`, `Clone` or `Serialize`
/// (requirement: TY-6, CI-006).
pub(super) struct Secret {
    map: MmapMut,
}

impl Secret {
    /// Moves `bytes` into protected memory and wipes the original.
    pub(super) fn new(bytes: &mut [u8]) -> Result<Self, KeyError> {
        let moved = Self::protected(bytes);
        bytes.zeroize();
        moved
    }

    fn protected(bytes: &[u8]) -> Result<Self, KeyError> {
        let memory = |source: std::io::Error| KeyError::Memory {
            reason: source.to_string(),
        };
        let mut map = MmapMut::map_anon(bytes.len().max(1)).map_err(memory)?;
        map.lock().map_err(memory)?;
        #[cfg(target_os = "linux")]
        map.advise(Advice::DontDump).map_err(memory)?;
        map.copy_from_slice(bytes);
        Ok(Self { map })
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.map.zeroize();
    }
}
