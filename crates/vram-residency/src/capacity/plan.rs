//! Whether a model fits before a byte of it is read: pure arithmetic over what
//! the caller says about devices, parts and what is resident
//! (requirement: CAP-3, CAP-8, CAP-10).
//!
//! Parts go to devices whole, the largest first, each to the device where it
//! leaves the least room; where that fails other layouts are tried, up to a
//! limit. A part is a file of the model, or what one rank of a
//! tensor-parallel model holds ([`super::ranks`]): ranks lie on devices of their
//! own. Sealing cuts no file, so the ranks need files made for them. A layout
//! that is found does fit, if nobody takes room in the meantime.

use serde::Serialize;

use super::pack::{Found, Room, pack};
use super::victims::victims;

/// Tensor data begins at a multiple of this in device memory (design 8).
const TENSOR_ALIGN: u64 = 256;

/// Most that the alignment of tensor data adds to a file, in bytes.
pub const MAX_PADDING: u64 = TENSOR_ALIGN - 1;

/// Bytes that the alignment of tensor data adds before a file whose tensor data
/// begins at byte `data_start`: 0 for plain bytes.
#[must_use]
pub const fn padding(data_start: u64) -> u64 {
    match data_start.checked_next_multiple_of(TENSOR_ALIGN) {
        Some(aligned) => aligned.saturating_sub(data_start),
        // In its last bytes; no file is as long.
        None => MAX_PADDING,
    }
}

/// A device as the plan sees it. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanDevice {
    /// Device ordinal.
    pub ordinal: u32,
    /// Room that may be handed out now, headroom already taken off:
    /// [`super::Capacity::available`].
    pub available: u64,
    /// Allocations are rounded up to this.
    pub granularity: u64,
    /// Set aside for the context of the runtime, activations and the KV cache.
    pub reserve: u64,
    /// What is resident and could go.
    pub resident: Vec<PlanResident>,
}

impl PlanDevice {
    /// Room if everything resident went.
    fn emptied(&self) -> u64 {
        let resident = self.resident.iter().map(|shard| shard.bytes);
        resident.fold(self.available, u64::saturating_add)
    }
}

/// A shard that is resident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanResident {
    /// Its name.
    pub shard_id: String,
    /// Bytes that freeing it gives back.
    pub bytes: u64,
    /// When it was sealed: of two that would do, the older goes first.
    pub sealed_at: crate::clock::Timestamp,
}

/// One file to place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanPart {
    /// Its name.
    pub name: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that alignment adds to it: [`padding`] of where its tensor data
    /// begins, [`MAX_PADDING`] where that is not known.
    pub padding: u64,
}

impl PlanPart {
    /// Bytes with what alignment adds.
    fn size(&self) -> u64 {
        self.bytes.saturating_add(self.padding)
    }

    fn nowhere(&self) -> Placement {
        Placement {
            part: self.name.clone(),
            bytes: self.bytes,
            ordinal: None,
            missing: 0,
        }
    }
}

/// Where one part goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// Its name.
    pub part: String,
    /// Bytes it takes there, rounded up.
    pub bytes: u64,
    /// The device; `None` where it fits nowhere.
    pub ordinal: Option<u32>,
    /// Bytes that are missing where the fewest are; 0 where it fits, and where
    /// bytes are not what it lacks.
    pub missing: u64,
}

/// What a device looks like once the plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DevicePlan {
    /// Device ordinal.
    pub ordinal: u32,
    /// Whether the reserve and everything placed here fit as things are, and
    /// no part that fits nowhere lacks the fewest bytes here.
    pub fits: bool,
    /// Bytes of the parts placed here.
    pub placed: u64,
    /// Bytes set aside.
    pub reserve: u64,
    /// Bytes that stay available; 0 where it does not fit.
    pub left: u64,
    /// Bytes that are missing, for parts that fit nowhere as well; 0 where it
    /// fits.
    pub missing: u64,
    /// Shards that would have to go for what is placed here, in the order they
    /// would: as few as can be, and of so few those with the fewest bytes.
    pub would_free: Vec<PlanResident>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Everything fits as things are.
    pub fits: bool,
    /// It fits, now or once the named shards are gone. They are the least for
    /// this placement; another placement may need others.
    pub fits_after_freeing: bool,
    /// Where it does not fit, no layout does: as things are, and once everything
    /// that may go is gone. Otherwise not all were tried, and another one may fit.
    pub certain: bool,
    /// Parts in the order given.
    pub placements: Vec<Placement>,
    /// Devices in the order given.
    pub devices: Vec<DevicePlan>,
}

/// A device while parts are being placed.
struct Bin<'d> {
    device: &'d PlanDevice,
    /// Bytes taken.
    placed: u64,
    /// Bytes to load.
    bytes: u64,
    parts: usize,
    /// Bytes of parts that fit nowhere and lack the fewest bytes here.
    unplaced: u64,
}

impl Bin<'_> {
    /// Bytes a part takes here.
    fn rounded(&self, bytes: u64) -> u64 {
        let granularity = self.device.granularity.max(1);
        bytes
            .checked_next_multiple_of(granularity)
            .unwrap_or(u64::MAX)
    }

    fn needed(&self) -> u64 {
        self.device.reserve.saturating_add(self.placed)
    }

    /// What is needed, and what would be for parts that fit nowhere.
    fn wanted(&self) -> u64 {
        self.needed().saturating_add(self.unplaced)
    }

    /// Places a part here.
    fn take(&mut self, part: &PlanPart) -> Placement {
        let bytes = self.rounded(part.size());
        self.placed = self.placed.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(part.bytes);
        self.parts = self.parts.saturating_add(1);
        Placement {
            part: part.name.clone(),
            bytes,
            ordinal: Some(self.device.ordinal),
            missing: 0,
        }
    }

    /// Room left of `room` once `more` is placed too.
    fn left(&self, room: u64, more: u64) -> Option<u64> {
        room.checked_sub(self.needed().checked_add(more)?)
    }
}

/// Answers where `parts` go.
///
/// Parts that fit nowhere now are placed where they would fit if shards went;
/// the plan then names those. It frees nothing.
#[must_use]
pub fn plan(devices: &[PlanDevice], parts: &[PlanPart]) -> Plan {
    lay_out(devices, parts, usize::MAX)
}

/// The same for the ranks of a tensor-parallel model: no two of them share a
/// device (requirement: PM-1).
#[must_use]
pub fn plan_ranks(devices: &[PlanDevice], ranks: &[PlanPart]) -> Plan {
    lay_out(devices, ranks, 1)
}

/// The same, but the parts are spread: the largest first, each to the device
/// with room that has to load the least so far, so that as many as can be are
/// loaded at the same time. Where that fails they lie as [`plan`] says.
#[must_use]
pub fn plan_spread(devices: &[PlanDevice], parts: &[PlanPart]) -> Plan {
    let mut order: Vec<(usize, &PlanPart)> = parts.iter().enumerate().collect();
    order.sort_by_key(|(index, part)| (std::cmp::Reverse(part.bytes), *index));
    let spread = answer(devices, &order, usize::MAX, |bins, part| {
        let load = |bin: &Bin<'_>| {
            let size = bin.rounded(part.size());
            bin.left(bin.device.available, size).map(|_| bin.bytes)
        };
        let bin = tightest(bins, load).and_then(|index| bins.get_mut(index));
        bin.map_or_else(|| part.nowhere(), |bin| bin.take(part))
    });
    match spread.fits {
        true => spread,
        false => plan(devices, parts),
    }
}

/// With at most `each` parts on one device.
fn lay_out(devices: &[PlanDevice], parts: &[PlanPart], each: usize) -> Plan {
    let mut order: Vec<(usize, &PlanPart)> = parts.iter().enumerate().collect();
    order.sort_by_key(|(index, part)| (std::cmp::Reverse(part.size()), *index));
    let first = answer(devices, &order, each, |bins, part| place(bins, part, each));
    if first.fits {
        return first;
    }
    let laid_out = |layout: Vec<usize>| {
        let mut layout = layout.into_iter();
        answer(devices, &order, each, |bins, part| {
            let bin = layout.next().and_then(|index| bins.get_mut(index));
            bin.map_or_else(|| part.nowhere(), |bin| bin.take(part))
        })
    };
    let mut certain = match other_layout(devices, &order, each, |device| device.available) {
        Found::Layout(layout) => return laid_out(layout),
        Found::Nothing => true,
        Found::Unknown => false,
    };
    let mut best = first;
    if !best.fits_after_freeing {
        match other_layout(devices, &order, each, PlanDevice::emptied) {
            Found::Layout(layout) => best = laid_out(layout),
            Found::Nothing => {}
            Found::Unknown => certain = false,
        }
    }
    Plan { certain, ..best }
}

/// Looks for a layout that fits the room that each device has.
fn other_layout(
    devices: &[PlanDevice],
    order: &[(usize, &PlanPart)],
    each: usize,
    room_of: impl Fn(&PlanDevice) -> u64,
) -> Found {
    let room = |device: &PlanDevice| {
        Some(Room {
            left: room_of(device).checked_sub(device.reserve)?,
            granularity: device.granularity,
            parts: each,
        })
    };
    let sizes: Vec<u64> = order.iter().map(|(_, part)| part.size()).collect();
    // A reserve that does not fit fits in no layout.
    let rooms: Option<Vec<Room>> = devices.iter().map(room).collect();
    rooms.map_or(Found::Nothing, |rooms| pack(&rooms, &sizes))
}

/// The plan in which `place` puts each part, in this order.
fn answer<'d>(
    devices: &'d [PlanDevice],
    order: &[(usize, &PlanPart)],
    each: usize,
    mut place: impl FnMut(&mut [Bin<'d>], &PlanPart) -> Placement,
) -> Plan {
    let empty = |device| Bin {
        device,
        placed: 0,
        bytes: 0,
        parts: 0,
        unplaced: 0,
    };
    let mut bins: Vec<Bin<'d>> = devices.iter().map(empty).collect();
    let mut placements = Vec::with_capacity(order.len());
    for (index, part) in order {
        placements.push((*index, *part, place(&mut bins, part)));
    }
    let lost = placements
        .iter_mut()
        .filter(|(_, _, p)| p.ordinal.is_none());
    lost.for_each(|(_, part, placement)| placement.missing = lack(&mut bins, part, each));
    placements.sort_by_key(|(index, _, _)| *index);
    let placements: Vec<Placement> = placements.into_iter().map(|(_, _, p)| p).collect();
    let devices: Vec<DevicePlan> = bins.iter().map(device_plan).collect();
    let placed = placements.iter().all(|p| p.ordinal.is_some());
    let enough = |device: &DevicePlan| {
        let freed = device.would_free.iter().map(|shard| shard.bytes);
        freed.fold(0, u64::saturating_add) >= device.missing
    };
    Plan {
        fits: placed && devices.iter().all(|device| device.fits),
        fits_after_freeing: placed && devices.iter().all(enough),
        certain: true,
        placements,
        devices,
    }
}

/// The tightest device that has room; failing that, the one where the fewest
/// bytes would have to go.
fn place(bins: &mut [Bin<'_>], part: &PlanPart, each: usize) -> Placement {
    let size = |bin: &Bin<'_>| bin.rounded(part.size());
    let now = |bin: &Bin<'_>| match bin.parts < each {
        true => bin.left(bin.device.available, size(bin)),
        false => None,
    };
    let short = |bin: &Bin<'_>| {
        if bin.parts >= each {
            return None;
        }
        let _room = bin.left(bin.device.emptied(), size(bin))?;
        let needed = bin.needed().saturating_add(size(bin));
        Some(needed.saturating_sub(bin.device.available))
    };
    let chosen = tightest(bins, now).or_else(|| tightest(bins, short));
    match chosen.and_then(|index| bins.get_mut(index)) {
        Some(bin) => bin.take(part),
        None => part.nowhere(),
    }
}

/// Bytes that a part lacks that fits nowhere, where they are the fewest. Parts
/// before it that fit nowhere count as if they were there.
fn lack(bins: &mut [Bin<'_>], part: &PlanPart, each: usize) -> u64 {
    let lacks = |bin: &Bin<'_>| {
        let wanted = bin.wanted().saturating_add(bin.rounded(part.size()));
        let missing = wanted.saturating_sub(bin.device.available.max(bin.wanted()));
        (bin.parts < each).then_some(missing)
    };
    let Some(index) = tightest(bins, lacks) else {
        return 0;
    };
    let missing = bins.get(index).and_then(lacks).unwrap_or(0);
    if let Some(bin) = bins.get_mut(index) {
        bin.unplaced = bin.unplaced.saturating_add(bin.rounded(part.size()));
        bin.parts = bin.parts.saturating_add(1);
    }
    missing
}

/// The bin with the smallest measure; of equal ones the first.
fn tightest(bins: &[Bin<'_>], measure: impl Fn(&Bin<'_>) -> Option<u64>) -> Option<usize> {
    let measured = bins.iter().enumerate();
    let measured = measured.filter_map(|(index, bin)| Some((measure(bin)?, index)));
    measured.min().map(|(_, index)| index)
}

fn device_plan(bin: &Bin<'_>) -> DevicePlan {
    let available = bin.device.available;
    let left = available.checked_sub(bin.wanted());
    DevicePlan {
        ordinal: bin.device.ordinal,
        fits: left.is_some(),
        placed: bin.placed,
        reserve: bin.device.reserve,
        left: left.unwrap_or(0),
        missing: bin.wanted().saturating_sub(available),
        // For what is placed: freeing is no use to a part that fits nowhere.
        would_free: victims(&bin.device.resident, bin.needed().saturating_sub(available)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn device(ordinal: u32, available: u64) -> PlanDevice {
        PlanDevice {
            ordinal,
            available,
            granularity: 1,
            reserve: 0,
            resident: Vec::new(),
        }
    }

    fn parts(sizes: &[u64]) -> Vec<PlanPart> {
        let part = |(i, bytes): (usize, &u64)| PlanPart {
            name: format!("part-{i}"),
            bytes: *bytes,
            padding: 0,
        };
        sizes.iter().enumerate().map(part).collect()
    }

    fn resident(shards: &[(&str, u64, u64)]) -> Vec<PlanResident> {
        let shard = |(name, bytes, sealed): &(&str, u64, u64)| PlanResident {
            shard_id: (*name).to_owned(),
            bytes: *bytes,
            sealed_at: Timestamp::from_nanos(*sealed),
        };
        shards.iter().map(shard).collect()
    }

    fn where_to(plan: &Plan) -> Vec<Option<u32>> {
        plan.placements.iter().map(|p| p.ordinal).collect()
    }

    fn would_free(plan: &Plan) -> Vec<&str> {
        let shards = plan.devices.iter().flat_map(|d| &d.would_free);
        shards.map(|shard| shard.shard_id.as_str()).collect()
    }

    // requirement: CAP-3
    #[test]
    fn an_exact_fit_fits_and_one_byte_more_does_not() {
        assert!(plan(&[device(0, 10)], &parts(&[10])).fits);
        let plan = plan(&[device(0, 10)], &parts(&[11]));
        assert!(!plan.fits && !plan.fits_after_freeing);
        assert_eq!(where_to(&plan), [None]);
    }

    #[test]
    fn granularity_padding_and_reserve_count() {
        let mut one = device(0, 100);
        one.granularity = 32;
        assert_eq!(plan(&[one.clone()], &parts(&[64])).devices[0].left, 36);
        let mut padded = parts(&[64]);
        padded[0].padding = 1;
        assert_eq!(plan(&[one.clone()], &padded).devices[0].left, 4);
        one.reserve = 36;
        assert!(plan(&[one.clone()], &parts(&[64])).fits);
        one.reserve = 37;
        assert!(!plan(&[one], &parts(&[64])).fits);
        let mut reserved_away = device(0, 100);
        reserved_away.reserve = 101;
        let plan = plan(&[reserved_away], &[]);
        assert!(!plan.fits, "a reserve that does not fit is not ignored");
        assert_eq!(plan.devices[0].missing, 1);
    }

    #[test]
    fn padding_ends_where_tensor_data_is_aligned() {
        for (start, expected) in [(0, 0), (1, 255), (255, 1), (256, 0), (257, 255)] {
            assert_eq!(padding(start), expected, "{start}");
        }
        assert_eq!((padding(u64::MAX), MAX_PADDING), (255, 255));
    }

    #[test]
    fn what_fits_nowhere_says_how_many_bytes_are_missing() {
        let two = plan(&[device(0, 5), device(1, 7)], &parts(&[8, 9, 6]));
        let missing: Vec<u64> = two.placements.iter().map(|p| p.missing).collect();
        assert_eq!(where_to(&two), [None, None, Some(1)]);
        assert_eq!(missing, [7, 4, 0], "the fewest, the largest part first");
        let devices = two.devices.iter().map(|d| (d.fits, d.left, d.missing));
        assert_eq!(devices.collect::<Vec<_>>(), [(false, 0, 4), (false, 0, 7)]);
        let one = plan(&[device(0, 5)], &parts(&[4, 4, 4]));
        assert_eq!(one.devices[0].missing, 7);
        let ranks = plan_ranks(&[device(0, 5)], &parts(&[8, 8]));
        let missing: Vec<u64> = ranks.placements.iter().map(|p| p.missing).collect();
        assert_eq!(missing, [3, 0], "the second rank lacks a device");
    }

    #[test]
    fn another_layout_is_found_where_the_largest_first_has_none() {
        let devices = [device(0, 10), device(1, 10)];
        let plan = plan(&devices, &parts(&[3, 4, 3, 4, 3, 3]));
        assert!(plan.fits && plan.certain, "{plan:?}");
        assert_eq!((plan.devices[0].left, plan.devices[1].left), (0, 0));
        let placed = |ordinal| {
            let here = |p: &&Placement| p.ordinal == Some(ordinal);
            let bytes = plan.placements.iter().filter(here).map(|p| p.bytes);
            bytes.sum::<u64>()
        };
        assert_eq!((placed(0), placed(1)), (10, 10));
        // Too many to try: it says so.
        let devices: Vec<PlanDevice> = (0..12).map(|i| device(i, 1000 + u64::from(i))).collect();
        let sizes: Vec<u64> = (0..49).map(|i| 215 - i / 4).collect();
        let unknown = super::plan(&devices, &parts(&sizes));
        assert!(!unknown.fits && !unknown.certain);
        // Nor is it known when something would have to go only perhaps.
        let mut devices = devices;
        devices[11].resident = resident(&[("a", 500, 1)]);
        let unknown = super::plan(&devices, &parts(&sizes));
        assert!(unknown.fits_after_freeing && !unknown.certain);
        assert_eq!(would_free(&unknown), ["a"]);
    }

    #[test]
    fn parts_go_largest_first_to_the_tightest_device() {
        let devices = [device(0, 100), device(1, 60)];
        let plan = plan(&devices, &parts(&[40, 60, 60]));
        assert!(plan.fits, "{plan:?}");
        assert_eq!(where_to(&plan), [Some(0), Some(1), Some(0)]);
        assert_eq!((plan.devices[0].left, plan.devices[1].left), (0, 0));
    }

    // requirement: PM-1
    #[test]
    fn parts_are_spread_where_there_is_room() {
        let places = |rooms: &[u64], sizes: &[u64]| {
            let devices = rooms.iter().zip(3..).map(|(room, ordinal)| PlanDevice {
                granularity: 4,
                ..device(ordinal, *room)
            });
            let mut parts = parts(sizes);
            parts.iter_mut().for_each(|part| part.padding = 1);
            where_to(&plan_spread(&devices.collect::<Vec<_>>(), &parts))
        };
        let some = |ordinals: &[u32]| ordinals.iter().copied().map(Some).collect::<Vec<_>>();
        // As many parts as devices: one each, in order.
        assert_eq!(places(&[100, 100], &[7, 7]), some(&[3, 4]));
        assert_eq!(places(&[100, 100], &[3, 40, 9, 30]), some(&[4, 3, 4, 4]));
        // With padding and in whole granules 7 takes 8, and 8 takes 12.
        assert_eq!(places(&[8, 100], &[7, 7, 7]), some(&[3, 4, 4]));
        assert_eq!(places(&[8, 100], &[8, 7]), some(&[4, 3]));
        // Spread evenly these would not fit; as a plan says they do.
        assert_eq!(places(&[1000, 700], &[699, 499, 499]), some(&[4, 3, 3]));
        assert_eq!(places(&[8, 8], &[8]), [None]);
        assert_eq!(places(&[8, 8], &[u64::MAX]), [None]);
        assert_eq!(places(&[8, 8], &[]), []);
    }

    #[test]
    fn a_part_is_never_split() {
        let plan = plan(&[device(0, 60), device(1, 60)], &parts(&[100]));
        assert_eq!(where_to(&plan), [None]);
    }

    #[test]
    fn the_dry_run_names_the_least_that_would_have_to_go() {
        let mut full = device(3, 5);
        full.resident = resident(&[("big", 50, 1), ("young", 20, 9), ("old", 20, 2)]);
        for (size, expected) in [
            (5, &[][..]),
            (25, &["old"]),
            (26, &["big"]),
            (60, &["big", "old"]),
            (95, &["big", "old", "young"]),
        ] {
            let plan = plan(&[full.clone()], &parts(&[size]));
            assert_eq!(would_free(&plan), expected, "{size}");
            assert_eq!(plan.fits, expected.is_empty(), "{size}");
            assert!(plan.fits_after_freeing, "{size}");
        }
        let plan = plan(&[full], &parts(&[96]));
        assert!(!plan.fits_after_freeing, "not even all of it is enough");
        assert_eq!(would_free(&plan), [""; 0], "nothing goes for nothing");
    }

    #[test]
    fn a_layout_that_needs_room_made_is_found_where_the_largest_first_has_none() {
        let full = |ordinal| {
            let mut device = device(ordinal, 0);
            device.resident = resident(&[("a", 4, 1), ("b", 2, 2)]);
            device
        };
        let plan = plan(&[full(0), full(1)], &parts(&[3, 3, 2, 2, 2]));
        assert!(!plan.fits && plan.fits_after_freeing && plan.certain);
        assert!(plan.placements.iter().all(|p| p.ordinal.is_some()));
        assert_eq!(would_free(&plan), ["a", "b", "a", "b"]);
        // Too many layouts to try: it says so.
        let devices = (0..12).map(|ordinal| {
            let mut device = device(ordinal, 0);
            device.resident = resident(&[("a", 1000 + u64::from(ordinal), 1)]);
            device
        });
        let sizes: Vec<u64> = (0..49).map(|i| 215 - i / 4).collect();
        let unknown = super::plan(&devices.collect::<Vec<_>>(), &parts(&sizes));
        assert!(!unknown.fits_after_freeing && !unknown.certain);
    }

    #[test]
    fn room_elsewhere_is_taken_before_anything_goes() {
        let mut full = device(0, 0);
        full.resident = resident(&[("a", 50, 1)]);
        let plan = plan(&[full, device(1, 50)], &parts(&[50]));
        assert!(plan.fits);
        assert_eq!(where_to(&plan), [Some(1)]);
    }

    // requirement: PM-1
    #[test]
    fn ranks_lie_on_devices_of_their_own() {
        let devices = [device(0, 100), device(1, 60), device(2, 50)];
        let two = plan_ranks(&devices, &parts(&[50, 50]));
        assert_eq!(where_to(&two), [Some(2), Some(1)]);
        assert!(two.fits);
        let roomy = plan_ranks(&devices[..1], &parts(&[50, 50]));
        assert_eq!(
            where_to(&roomy),
            [Some(0), None],
            "room alone is not enough"
        );
        assert!(!roomy.fits && !roomy.fits_after_freeing);
        assert!(plan(&devices[..1], &parts(&[50, 50])).fits);
        let mut full = device(3, 0);
        full.resident = resident(&[("old", 50, 1)]);
        let freed = plan_ranks(&[device(0, 200), full], &parts(&[50, 50]));
        assert_eq!(where_to(&freed), [Some(0), Some(3)]);
        assert!(!freed.fits && freed.fits_after_freeing);
        assert_eq!(would_free(&freed), ["old"]);
    }

    // requirement: CAP-10
    #[test]
    fn nothing_overflows() {
        let mut huge = device(0, u64::MAX);
        huge.granularity = 1 << 40;
        huge.reserve = u64::MAX;
        huge.resident = resident(&[("a", u64::MAX, 1), ("b", u64::MAX, 2)]);
        let mut endless = parts(&[u64::MAX, u64::MAX]);
        endless[0].padding = u64::MAX;
        let plan = plan(&[huge], &endless);
        assert!(!plan.fits);
    }

    #[test]
    fn without_devices_nothing_fits() {
        assert!(!plan(&[], &parts(&[1])).fits);
        assert!(plan(&[], &[]).fits);
    }
}
