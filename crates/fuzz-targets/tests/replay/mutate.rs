//! Changes of an input, as a fuzzer makes them, from a seed.

/// Numbers that lengths, counts and offsets break at.
const EDGES: [u64; 8] = [
    0,
    1,
    0x7F,
    0xFFFF,
    u32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// splitmix64: small and seeded.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % (limit as u64).max(1)) as usize
    }
}

/// One to four changes of `seed`.
pub(crate) fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len());
        let end = (at + 1 + random.below(16)).min(data.len());
        match random.below(8) {
            0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            1 if !data.is_empty() => data[at] = b"\"{}[],:\n-9/.\0\xFF"[random.below(14)],
            2 => drop(data.drain(at.min(end)..end)),
            3 => {
                let copy = data[at.min(end)..end].to_vec();
                data.splice(at..at, copy);
            }
            4 => data.truncate(at),
            5 => {
                data.truncate(at);
                data.extend_from_slice(&other[random.below(other.len())..]);
            }
            6 => repeat_member(&mut data, random),
            _ => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                data.iter_mut()
                    .skip(at)
                    .zip(edge)
                    .for_each(|(byte, new)| *byte = new);
            }
        }
    }
    data
}

/// Sets a part between two separators once more, further on: in JSON often a
/// name twice in one object, in options an option twice.
fn repeat_member(data: &mut Vec<u8>, random: &mut Random) {
    let separator = |byte: &u8| b",;\n".contains(byte);
    let places: Vec<usize> = (0..data.len()).filter(|at| separator(&data[*at])).collect();
    let from = random.below(places.len());
    let (Some(start), Some(end)) = (places.get(from), places.get(from + 1)) else {
        return;
    };
    let part = data[*start..*end].to_vec();
    let to = places[from + random.below(places.len() - from)];
    data.splice(to..to, part);
}
