//! Lower-case hexadecimal, the only spelling that records and statements use.

/// Lower-case hex of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    encode_to(bytes, &mut out);
    out
}

/// Appends lower-case hex of `bytes`; with enough capacity nothing moves, so
/// that no copy of a secret is left behind.
pub(crate) fn encode_to(bytes: &[u8], out: &mut String) {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]),
    );
}

/// Exactly `N` bytes from `2 * N` lower-case hex digits. For secrets there is
/// [`decode_to`].
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0_u8; N];
    decode_to(text.as_bytes(), &mut out)?;
    Some(out)
}

/// Fills `out` from exactly twice as many lower-case hex digits: the bytes are
/// written in place and nowhere else. After `None`, `out` holds a part of them.
pub(crate) fn decode_to(text: &[u8], out: &mut [u8]) -> Option<()> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(())
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_strictness() {
        assert_eq!(encode(&[0x00, 0xff, 0x1a]), "00ff1a");
        assert_eq!(decode::<3>("00ff1a"), Some([0x00, 0xff, 0x1a]));
        for bad in ["00FF1a", "00ff1", "00ff1a00", "00ff1g", "", "00ff\u{e9}"] {
            assert_eq!(decode::<3>(bad), None, "{bad}");
        }
        let mut place = [9; 3];
        assert_eq!(decode_to(b"00ff1a", &mut place), Some(()));
        assert_eq!(place, [0x00, 0xff, 0x1a]);
        assert_eq!(decode_to(b"00ff", &mut place), None);
    }
}
