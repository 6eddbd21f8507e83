//! Looking for a layout where placing the largest part first finds none:
//! every layout is tried, up to a number of steps.

/// Steps after which the search ends without an answer: some milliseconds.
const STEPS: u32 = 100_000;
/// Most parts that are laid out: the search goes one call deeper for each.
const MAX_PARTS: usize = 256;

/// Room of one device while parts are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes left.
    pub(super) left: u64,
    /// Allocations are rounded up to this.
    pub(super) granularity: u64,
    /// Parts that may still come.
    pub(super) parts: usize,
}

impl Room {
    /// What is left once a part of `size` bytes is placed, if it fits.
    fn after(self, size: u64) -> Option<Self> {
        let size = size.checked_next_multiple_of(self.granularity.max(1))?;
        Some(Self {
            left: self.left.checked_sub(size)?,
            parts: self.parts.checked_sub(1)?,
            ..self
        })
    }
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The room of each part.
    Layout(Vec<usize>),
    /// There is none.
    Nothing,
    /// There may be one: not all were tried.
    Unknown,
}

/// Looks for a layout of parts of `sizes` bytes, best the largest first.
pub(super) fn pack(rooms: &[Room], sizes: &[u64]) -> Found {
    let alone = |size: &u64| rooms.iter().any(|room| room.after(*size).is_some());
    let needed = sizes.iter().copied().fold(0, u64::saturating_add);
    let room = rooms.iter().map(|room| room.left);
    if needed > room.fold(0, u64::saturating_add) || !sizes.iter().all(alone) {
        return Found::Nothing;
    }
    if sizes.len() > MAX_PARTS {
        return Found::Unknown;
    }
    let mut search = Search {
        rooms: rooms.to_vec(),
        chosen: Vec::with_capacity(sizes.len()),
        steps: STEPS,
    };
    match search.place(sizes) {
        true => Found::Layout(search.chosen),
        false if search.steps == 0 => Found::Unknown,
        false => Found::Nothing,
    }
}

struct Search {
    rooms: Vec<Room>,
    chosen: Vec<usize>,
    steps: u32,
}

impl Search {
    fn place(&mut self, sizes: &[u64]) -> bool {
        let Some((size, rest)) = sizes.split_first() else {
            return true;
        };
        // Rooms that are alike need one try.
        let mut tried: Vec<Room> = Vec::new();
        for index in 0..self.rooms.len() {
            self.steps = self.steps.saturating_sub(1);
            if self.steps == 0 {
                return false;
            }
            let Some(room) = self.rooms.get(index).copied() else {
                return false;
            };
            let Some(after) = room.after(*size).filter(|_| !tried.contains(&room)) else {
                continue;
            };
            tried.push(room);
            self.put(index, after);
            self.chosen.push(index);
            if self.place(rest) {
                return true;
            }
            let _ = self.chosen.pop();
            self.put(index, room);
        }
        false
    }

    fn put(&mut self, index: usize, room: Room) {
        if let Some(place) = self.rooms.get_mut(index) {
            *place = room;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(left: &[u64]) -> Vec<Room> {
        let room = |left: &u64| Room {
            left: *left,
            granularity: 1,
            parts: usize::MAX,
        };
        left.iter().map(room).collect()
    }

    #[test]
    fn what_the_largest_first_misses_is_found() {
        let found = pack(&rooms(&[10, 10]), &[4, 4, 3, 3, 3, 3]);
        assert_eq!(found, Found::Layout(vec![0, 1, 0, 0, 1, 1]));
    }

    #[test]
    fn what_cannot_be_laid_out_is_known_not_to_be() {
        assert_eq!(pack(&rooms(&[10, 9]), &[10, 10]), Found::Nothing);
        assert_eq!(pack(&rooms(&[5, 5]), &[6]), Found::Nothing);
        assert_eq!(pack(&rooms(&[10, 10]), &[6, 6, 6]), Found::Nothing);
        assert_eq!(pack(&rooms(&[10, 10]), &[7, 7, 4, 2]), Found::Nothing);
        assert_eq!(pack(&[], &[1]), Found::Nothing);
        assert_eq!(pack(&[], &[]), Found::Layout(Vec::new()));
        let one = Room {
            parts: 1,
            ..rooms(&[10])[0]
        };
        assert_eq!(pack(&[one], &[5, 5]), Found::Nothing);
        let coarse = Room {
            granularity: 4,
            ..rooms(&[10])[0]
        };
        assert_eq!(pack(&[coarse], &[5, 5]), Found::Nothing);
        assert_eq!(pack(&[coarse], &[4, 4]), Found::Layout(vec![0, 0]));
    }

    #[test]
    fn a_search_that_takes_too_long_ends_without_an_answer() {
        // Enough bytes in all, but no device takes five of the 49 parts.
        let devices: Vec<u64> = (1000..1012).collect();
        let sizes: Vec<u64> = (0..49).map(|i| 215 - i / 4).collect();
        assert_eq!(pack(&rooms(&devices), &sizes), Found::Unknown);
        let many = vec![1; MAX_PARTS + 1];
        assert_eq!(pack(&rooms(&[1 << 20]), &many), Found::Unknown);
        let most = Found::Layout(vec![0; MAX_PARTS]);
        assert_eq!(pack(&rooms(&[1 << 20]), &many[1..]), most);
    }

    #[test]
    fn what_is_too_much_in_all_is_known_without_a_search() {
        let devices: Vec<u64> = (1000..1012).collect();
        assert_eq!(pack(&rooms(&devices), &[215; 57]), Found::Nothing);
    }
}
