//! Host memory that may be refused.

use crate::device::DeviceError;

/// `len` times `value`; an error where the system has no room, not an abort.
pub(super) fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>, DeviceError> {
    let mut out = Vec::new();
    out.try_reserve_exact(len)
        .map_err(|_| DeviceError::HostOutOfMemory {
            requested: (len as u64).saturating_mul(size_of::<T>() as u64),
        })?;
    out.resize(len, value);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert_eq!(filled(3, 7_u8), Ok(vec![7; 3]));
        let refused = filled(usize::MAX / 64, [0_u64; 8]).unwrap_err();
        assert!(matches!(refused, DeviceError::HostOutOfMemory { .. }));
    }
}
