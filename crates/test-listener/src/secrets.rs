//! Secrets that a test planted, found in text whatever way they were written.

use std::collections::HashSet;

/// Bytes of a secret that give it away.
const WINDOW: usize = 8;
/// How much of the beginning of a long secret is looked for. Weights are long,
/// and whoever tells them tells their beginning.
const PREFIX: usize = 4096;
/// Bits of the hash that tells most windows apart without the set.
const HINT_BITS: u32 = 22;

/// Windows of every planted secret.
#[derive(Debug, Default)]
pub struct Secrets {
    windows: HashSet<u64>,
    /// A bit for each hash, set where a window has it. Empty until one has.
    hints: Vec<u64>,
}

impl Secrets {
    /// Looks for this from now on, unless it is as plain as zeros are.
    pub fn plant(&mut self, secret: &[u8]) {
        self.hints.resize(1 << (HINT_BITS - 6), 0);
        for window in secret[..secret.len().min(PREFIX)].as_chunks::<WINDOW>().0 {
            let mut kinds = *window;
            kinds.sort_unstable();
            let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]);
            if changes.count() >= WINDOW / 2 {
                let window = u64::from_be_bytes(*window);
                let (word, bit) = hint(window);
                self.hints[word] |= bit;
                self.windows.insert(window);
            }
        }
    }

    /// How a secret was written in `text`, if one was: any eight bytes of it that
    /// begin at a multiple of eight. One pass, for this is run for every line.
    #[must_use]
    pub fn found_in(&self, text: &[u8]) -> Option<&'static str> {
        if self.windows.is_empty() {
            return None;
        }
        let (mut plain, mut hex) = (Run::default(), Run::default());
        let (mut base64, mut numbers) = (Run::default(), Numbers::default());
        for byte in text {
            plain.push(8, Some(u32::from(*byte)));
            // Pairs are read from the first digit and from the second.
            hex.push(4, (*byte as char).to_digit(16));
            base64.push(6, base64_digit(*byte));
            if self.knows(plain.window(0)) {
                return Some("as it is");
            } else if self.knows(hex.window(0)) {
                return Some("in hex");
            } else if [0, 2, 4]
                .iter()
                .any(|bits| self.knows(base64.window(*bits)))
            {
                // Wherever a group of four digits began, a byte ends there.
                return Some("in base64");
            } else if numbers.read(*byte) && self.knows(numbers.run.window(0)) {
                return Some("as numbers");
            }
        }
        let last = numbers.read(b' ') && self.knows(numbers.run.window(0));
        last.then_some("as numbers")
    }

    fn knows(&self, window: Option<u64>) -> bool {
        window.is_some_and(|window| {
            let (word, bit) = hint(window);
            self.hints[word] & bit != 0 && self.windows.contains(&window)
        })
    }
}

/// The word and the bit for a window.
fn hint(window: u64) -> (usize, u64) {
    let hash = window.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - HINT_BITS);
    ((hash / 64) as usize, 1 << (hash % 64))
}

/// What the last digits of one kind spell, without a sign between them.
#[derive(Default)]
struct Run {
    bits: u128,
    count: u32,
}

impl Run {
    /// Takes a digit of so many bits; what is none ends the run.
    fn push(&mut self, bits: u32, digit: Option<u32>) {
        if let Some(digit) = digit {
            self.bits = self.bits << bits | u128::from(digit);
            self.count = self.count.saturating_add(bits);
        } else {
            self.count = 0;
        }
    }

    /// Eight bytes, before so many bits at the end.
    fn window(&self, before: u32) -> Option<u64> {
        (self.count >= 64 + before).then_some((self.bits >> before) as u64)
    }
}

/// A list of decimal numbers below 256, as `Debug` writes bytes.
#[derive(Default)]
struct Numbers {
    run: Run,
    number: Option<u32>,
    /// Another sign stood after the last number.
    is_over: bool,
}

impl Numbers {
    /// Whether this sign ended a number of the list.
    fn read(&mut self, sign: u8) -> bool {
        if sign.is_ascii_digit() {
            let number = self.number.unwrap_or(0);
            self.number = Some((10 * number + u32::from(sign - b'0')).min(256));
            return false;
        }
        let number = self.number.take();
        if let Some(number) = number {
            if std::mem::take(&mut self.is_over) {
                self.run.push(8, None);
            }
            self.run
                .push(8, Some(number).filter(|number| *number < 256));
        }
        self.is_over |= !b", ".contains(&sign);
        number.is_some()
    }
}

/// Of either alphabet.
fn base64_digit(byte: u8) -> Option<u32> {
    match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = *b"\x9e\x37\x79\xb9\x7f\x4a\x7c\x15\xf3\x9c\xc0\x60\x5c\xed\xc8\x34\x10\x82\x27\x6b\xf3\xa2\x72\x51\xf8\x6c\x6a\x11\xd0\xc1\x8e\x95";

    fn planted(secret: &[u8]) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.plant(secret);
        secrets
    }

    // requirement: AU-11, CI-006
    #[test]
    fn a_secret_is_found_in_hex_and_as_numbers() {
        let secrets = planted(&SECRET);
        let hex: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
        for (how, text) in [
            ("in hex", format!("key=0{hex}")),
            ("in hex", format!("key={}", hex.to_uppercase())),
            ("in hex", format!("{} 1", &hex[14..32])),
            ("as numbers", format!("{SECRET:?}")),
            ("as numbers", format!("{:?}", &SECRET[8..20])),
            ("as numbers", format!("999, {:?}", SECRET).replace('[', "")),
        ] {
            assert_eq!(secrets.found_in(text.as_bytes()), Some(how), "{text}");
        }
        for text in [
            "in hex 00112233445566778899aabbccddeeff".to_owned(),
            format!("seven bytes {}", &hex[16..30]),
            format!("seven bytes {:?}", &SECRET[8..15]),
        ] {
            assert_eq!(secrets.found_in(text.as_bytes()), None, "{text}");
        }
    }

    /// At each place in a group of three bytes.
    // requirement: AU-11, CI-006
    #[test]
    fn a_secret_is_found_as_it_is_and_in_base64() {
        let plain = b"in clear, and not random";
        let secrets = planted(plain);
        for text in [
            "aW4gY2xlYXIsIGFuZCBub3QgcmFuZG9t",
            "eGluIGNsZWFyLCBhbmQgbm90IHJhbmRvbQ",
            "eHlpbiBjbGVhciwgYW5kIG5vdCByYW5kb20=",
        ] {
            let line = format!("\"note\":\"{text}\"");
            let found = secrets.found_in(line.as_bytes());
            assert_eq!(found, Some("in base64"), "{text}");
        }
        assert_eq!(secrets.found_in(plain), Some("as it is"));
        assert_eq!(secrets.found_in(&plain[..8]), Some("as it is"));
        assert_eq!(secrets.found_in(&plain[1..15]), None);
    }

    #[test]
    fn every_secret_of_many_is_found_and_zeros_are_none() {
        let mut secrets = planted(&[0; 64]);
        assert_eq!(secrets.found_in(&[0; 64]), None);
        let nth = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        let all: Vec<u64> = (1..200_000).collect();
        all.iter().for_each(|n| secrets.plant(&nth(*n)));
        for n in all.into_iter().step_by(1009) {
            let text = format!("{:?}", nth(n));
            let kinds: HashSet<u8> = nth(n).into_iter().collect();
            let found = secrets.found_in(text.as_bytes());
            assert_eq!(found.is_some(), kinds.len() > WINDOW / 2, "{n}: {text}");
        }
    }
}
