//! Secrets that a test planted, found in text whatever way they were written.

use std::collections::HashSet;

/// Bytes of a secret that give it away.
const WINDOW: usize = 8;
/// How much of the beginning of a long secret is looked for.
const PREFIX: usize = 4096;
/// Windows that are kept; later secrets are not looked for.
const MOST: usize = 1 << 16;

/// Windows of every planted secret.
#[derive(Default)]
pub(crate) struct Secrets(HashSet<[u8; WINDOW]>);

impl Secrets {
    /// Looks for this from now on, unless it is as plain as zeros are.
    pub(crate) fn plant(&mut self, secret: &[u8]) {
        for window in secret[..secret.len().min(PREFIX)].as_chunks::<WINDOW>().0 {
            let kinds: HashSet<&u8> = window.iter().collect();
            if kinds.len() > WINDOW / 2 && self.0.len() < MOST {
                self.0.insert(*window);
            }
        }
    }

    /// How a secret was written in `text`, if one was: any eight bytes of it that
    /// begin at a multiple of eight.
    pub(crate) fn found_in(&self, text: &[u8]) -> Option<&'static str> {
        let spelled = [
            ("as it is", vec![text.to_vec()]),
            ("in hex", hex(text)),
            ("in base64", base64(text)),
            ("as numbers", numbers(text)),
        ];
        let hit = |bytes: &Vec<u8>| {
            let mut windows = bytes.windows(WINDOW);
            windows.any(|window| self.0.contains(window))
        };
        let found = spelled.iter().find(|(_, texts)| texts.iter().any(hit));
        found.map(|(how, _)| *how)
    }
}

/// Every run of hex digits, read from its first and from its second digit.
fn hex(text: &[u8]) -> Vec<Vec<u8>> {
    let runs = text.split(|byte| !byte.is_ascii_hexdigit());
    let runs = runs.filter(|run| run.len() >= 2 * WINDOW);
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    let read = |run: &[u8]| {
        let (pairs, _) = run.as_chunks::<2>();
        pairs
            .iter()
            .map(|[a, b]| digit(*a) << 4 | digit(*b))
            .collect()
    };
    runs.flat_map(|run| [read(run), read(&run[1..])]).collect()
}

/// Every run of base64 digits of either alphabet, read from each of the four
/// places where a group can begin.
fn base64(text: &[u8]) -> Vec<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let runs = text.split(|byte| digit(*byte).is_none());
    let runs = runs.filter(|run| run.len() >= 4 * WINDOW / 3);
    let read = |run: &[u8]| -> Vec<u8> {
        let groups = run.chunks(4).filter(|group| group.len() > 1);
        let bytes = groups.flat_map(|group| {
            let digits = group.iter().map(|byte| digit(*byte).unwrap());
            let bits = digits.fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
            bits.to_be_bytes()[1..group.len()].to_vec()
        });
        bytes.collect()
    };
    let starts = |run: &[u8]| (0..4).map(|at| read(&run[at..])).collect::<Vec<_>>();
    runs.flat_map(starts).collect()
}

/// Every list of decimal numbers below 256, as `Debug` writes bytes.
fn numbers(text: &[u8]) -> Vec<Vec<u8>> {
    let runs = text.split(|byte| !byte.is_ascii_digit() && !b", ".contains(byte));
    let read = |run: &[u8]| -> Option<Vec<u8>> {
        let run = std::str::from_utf8(run).ok()?;
        let words = run.split([',', ' ']).filter(|word| !word.is_empty());
        words.map(|word| word.parse().ok()).collect()
    };
    runs.filter_map(read).collect()
}
