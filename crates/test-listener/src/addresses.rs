//! Addresses of this machine's memory, found in text.

/// A number in `text` that could be an address of mapped memory: the fake
/// device's lies there, and so does what a real driver maps for a process.
#[must_use]
pub fn address_in(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c));
    // The digits of a fraction are no number of their own.
    let is_fraction = |word: &&str| word.contains('.') && word.parse::<f64>().is_ok();
    let words = words.map(|word| word.trim_matches('.'));
    let words = words.filter(|word| !is_fraction(word));
    words.flat_map(|word| word.split('.')).find(is_address)
}

fn is_address(word: &&str) -> bool {
    let hex = word.strip_prefix("0x").unwrap_or(word);
    let numbers = [u64::from_str_radix(hex, 16), word.parse()];
    let mapped = 0x7000_0000_0000..0x8000_0000_0000;
    numbers
        .iter()
        .flatten()
        .any(|number| mapped.contains(number))
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
            format!("it lies at {here:#x}."),
            format!("device.{here}.part"),
        ] {
            assert!(address_in(&form).is_some(), "{form}");
        }
        for form in [
            "at=8589934592",
            "0x7000",
            "1700000000000000000",
            "-",
            "0.134567890123456",
            "1.5e-7",
        ] {
            assert_eq!(address_in(form), None);
        }
    }
}
