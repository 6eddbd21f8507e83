//! Which file goes to which device.

use std::cmp::Reverse;

use vram_residency::VramManager;
use vram_residency::capacity::plan::{Plan, PlanPart};

use crate::failure::Failure;
use crate::text;

/// Room of one device while files are placed.
struct Room {
    ordinal: u32,
    left: u64,
    granularity: u64,
    taken: u64,
}

impl Room {
    fn of(manager: &VramManager, (ordinal, granularity): (u32, u64)) -> Result<Self, Failure> {
        let free = manager.driver_memory(ordinal)?.free;
        Ok(Self {
            ordinal,
            left: manager.capacity(ordinal)?.available.min(free),
            granularity,
            taken: 0,
        })
    }

    /// What is left once a file is here, if it fits.
    fn after(&self, file: &PlanPart) -> Option<u64> {
        let size = file.bytes.checked_add(file.padding)?;
        let size = size.checked_next_multiple_of(self.granularity.max(1))?;
        self.left.checked_sub(size)
    }
}

/// The device of each file. Files of a model on several devices are spread, so
/// that as many as can be are loaded at the same time; where one has no room
/// left then, they lie as `vram plan` says.
pub(super) fn place(manager: &VramManager, files: &[PlanPart]) -> Result<Vec<u32>, Failure> {
    let devices = manager.devices();
    // Of the one device that is full the load tells.
    if let [only] = devices.as_slice() {
        return Ok(vec![only.ordinal; files.len()]);
    }
    let devices = devices.iter().map(|info| (info.ordinal, info.granularity));
    let rooms = devices.map(|device| Room::of(manager, device));
    let rooms = rooms.collect::<Result<Vec<_>, _>>()?;
    if let Some(places) = spread(rooms, files) {
        return Ok(places);
    }
    // Of what cannot be read the load tells; it has no size to plan with.
    let known: Vec<PlanPart> = files.iter().filter(|f| f.bytes > 0).cloned().collect();
    let plan = manager.plan(&known, 0)?;
    let mut planned = plan.placements.iter().map(|placement| placement.ordinal);
    let place = |file: &PlanPart| match file.bytes {
        0 => manager.devices().first().map(|first| first.ordinal),
        _ => planned.next().flatten(),
    };
    let places = files.iter().map(place).collect::<Option<Vec<u32>>>();
    places.filter(|_| plan.fits).ok_or_else(|| full(&plan))
}

/// The largest file first, each to the device that has to load the least so far.
fn spread(mut rooms: Vec<Room>, files: &[PlanPart]) -> Option<Vec<u32>> {
    let mut order: Vec<(usize, &PlanPart)> = files.iter().enumerate().collect();
    order.sort_by_key(|(_, file)| Reverse(file.bytes));
    let mut places = vec![0; files.len()];
    for (index, file) in order {
        let fitting = rooms.iter_mut().filter(|room| room.after(file).is_some());
        let room = fitting.min_by_key(|room| room.taken)?;
        room.left = room.after(file)?;
        room.taken = room.taken.saturating_add(file.bytes);
        *places.get_mut(index)? = room.ordinal;
    }
    Some(places)
}

fn full(plan: &Plan) -> Failure {
    let lost = plan.placements.iter().filter(|one| one.ordinal.is_none());
    let failure = Failure::new("the model does not fit on these devices");
    let failure = failure.hint("'vram plan' says what is missing where; nothing was loaded");
    lost.fold(failure, |failure, one| {
        let (file, size) = (text::printable(&one.part), text::size(one.bytes));
        failure.with_note(format!("{file}: {size}, {} bytes missing", one.missing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(left: &[u64]) -> Vec<Room> {
        let room = |(left, ordinal): (&u64, u32)| Room {
            ordinal,
            left: *left,
            granularity: 4,
            taken: 0,
        };
        left.iter().zip(3..).map(room).collect()
    }

    fn files(sizes: &[u64]) -> Vec<PlanPart> {
        let file = |bytes: &u64| PlanPart {
            name: "file".to_owned(),
            bytes: *bytes,
            padding: 1,
        };
        sizes.iter().map(file).collect()
    }

    #[test]
    fn files_are_spread_over_devices() {
        let places = |left: &[u64], sizes: &[u64]| spread(rooms(left), &files(sizes));
        // As many files as devices: one each, in order.
        assert_eq!(places(&[100, 100], &[7, 7]), Some(vec![3, 4]));
        assert_eq!(places(&[100, 100], &[3, 40, 9, 30]), Some(vec![4, 3, 4, 4]));
        // With padding and in whole granules 7 takes 8, and 8 takes 12.
        assert_eq!(places(&[8, 100], &[7, 7, 7]), Some(vec![3, 4, 4]));
        assert_eq!(places(&[8, 100], &[8, 7]), Some(vec![4, 3]));
        assert_eq!(places(&[8, 8], &[8]), None);
        assert_eq!(places(&[8, 8], &[u64::MAX]), None);
        assert_eq!(places(&[8, 8], &[]), Some(Vec::new()));
    }
}
