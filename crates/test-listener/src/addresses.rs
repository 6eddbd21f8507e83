//! Addresses of this machine's memory, found in text.

/// A number in `text` that could be an address of mapped memory: the fake
/// device's lies there, and so does what a real driver maps for a process.
#[must_use]
pub fn address_in(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_address = |word: &&str| {
        let hex = word.strip_prefix("0x").unwrap_or(word);
        let numbers = [u64::from_str_radix(hex, 16), word.parse()];
        let mapped = 0x7000_0000_0000..0x8000_0000_0000;
        numbers
            .iter()
            .flatten()
            .any(|number| mapped.contains(number))
    };
    words.into_iter().find(is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: WORKER-4111, OB-6
    #[test]
    fn addresses_are_found_in_both_notations() {
        let here = 0x7f12_3456_7800_u64;
        for form in [
            format!("at={here}"),
            format!("at={here:#x}, len=4"),
            format!("\"at\":\"{here:x}\""),
        ] {
            assert!(address_in(&form).is_some(), "{form}");
        }
        for form in ["at=8589934592", "0x7000", "1700000000000000000", "-"] {
            assert_eq!(address_in(form), None);
        }
    }
}
