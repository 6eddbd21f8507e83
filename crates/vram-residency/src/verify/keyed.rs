//! Keyed checks: NHPoly1305 with rolling keys, every 1 MiB segment in a secret
//! order (design 4.2).
//!
//! One pass over a segment feeds two hashes: the current key, whose tag must be
//! the reference, and the next key, whose tag becomes the reference if it was.
//! So a key is on the device in two passes over a segment, the one that makes
//! its reference and the one that compares with it, and in none after them: who
//! learns it later can forge nothing. Who looks while a pass runs also learns
//! the key that the next one compares, and can forge contents from then on, for
//! every later reference is made of them, until a tree pass, which needs no
//! secret, makes new references.

use std::time::Duration;

use vram_digest::{BLOCK_BYTES, nh};
use zeroize::Zeroizing;

use super::{Contents, Pace};
use crate::device::{Device, DeviceError, Extent, UPLOAD_ALIGN};
use crate::error::{Answer, Checker, Error};
use crate::random::{Random, RandomError, bytes};

/// A fresh key for keyed tags.
pub(crate) fn fresh_key(random: &dyn Random) -> Result<nh::Key, RandomError> {
    let bytes = Zeroizing::new(bytes::<{ nh::KEY_BYTES }>(random)?);
    Ok(nh::Key::from_bytes(&bytes))
}

/// A key and the tags of all segments under it.
pub(crate) struct Reference {
    key: nh::Key,
    tags: Vec<nh::Tag>,
}

/// What came of making references.
pub(crate) enum Made {
    /// Two of them, to be vouched for by the tree pass that follows.
    Pair(Reference, Reference),
    /// None: for some segments the device left no tags, or other ones than the CPU has.
    Doubted(Answer),
}

impl Reference {
    pub(crate) const fn new(key: nh::Key, tags: Vec<nh::Tag>) -> Self {
        Self { key, tags }
    }

    /// Two references from one pass over the extent; `read` grows by what the
    /// device read for it.
    pub(crate) fn measure_pair(
        device: &dyn Device,
        extent: Extent,
        random: &dyn Random,
        read: &mut u64,
    ) -> Result<Made, Error> {
        let (one, two) = (fresh_key(random)?, fresh_key(random)?);
        let segments: Vec<u64> = (0..extent.len.div_ceil(UPLOAD_ALIGN)).collect();
        let tags = device.keyed_tags(extent, &segments, &[&one, &two])?;
        *read = read.saturating_add(extent.len);
        let pairs = in_pairs(&tags, segments.len())?;
        let unwritten = segments.iter().zip(pairs);
        let unwritten = unwritten.filter(|(_, pair)| pair.contains(&nh::Tag::ZERO));
        let unwritten = unwritten.map(|(segment, _)| run_of(extent, *segment));
        let all = extent.len.div_ceil(BLOCK_BYTES as u64);
        let answer = Answer::new(Checker::References, all, unwritten);
        if answer.bad > 0 {
            return Ok(Made::Doubted(answer));
        }
        let spot = spot_check(device, extent, (&one, &two), pairs, random)?;
        *read = read.saturating_add(bytes_of(extent, spot.segment));
        if !spot.agrees {
            let (first, blocks) = run_of(extent, spot.segment);
            let answer = Answer::new(Checker::References, blocks, [(first, blocks)]);
            return Ok(Made::Doubted(answer));
        }
        let firsts = pairs.iter().map(|[first, _]| *first).collect();
        let seconds = pairs.iter().map(|[_, second]| *second).collect();
        Ok(Made::Pair(Self::new(one, firsts), Self::new(two, seconds)))
    }
}

/// The rolling state of one shard.
pub(crate) struct Rolling {
    /// Key of the segments that this epoch has not visited yet.
    current: nh::Key,
    /// Key of those that it has.
    next: nh::Key,
    /// Reference of each segment, under `current` or `next`.
    tags: Vec<nh::Tag>,
    /// This epoch's secret order; the first `visited` are done.
    order: Vec<u64>,
    visited: usize,
    /// A second reference that the last tree pass vouched for, in case a pass
    /// fails half way: its references are then partly of one key and partly of
    /// the next.
    spare: Option<Reference>,
    /// Segments visited since the last tree pass.
    pub(crate) since_anchor: u64,
    /// Monotonic time of the last tree pass, or of a full verification since.
    pub(crate) anchored_at: u64,
    /// Bytes that the device read for its visits.
    pub(crate) read: u64,
    /// What timed passes told.
    pub(crate) pace: Pace,
}

/// What a keyed pass found.
#[derive(Default)]
pub(crate) struct Pass {
    /// Bytes that were read and checked.
    pub(crate) bytes: u64,
    /// Blocks of the segments whose tag was not the reference, or was not written, as
    /// runs in the order of the visits.
    suspects: Vec<(u64, u64)>,
}

impl Pass {
    /// Proof that what was read is intact; `None` when something was not, or
    /// nothing was read.
    pub(crate) const fn intact(&self) -> Option<Contents> {
        if self.suspects.is_empty() && self.bytes > 0 {
            Some(Contents(()))
        } else {
            None
        }
    }

    /// Whether a segment did not match.
    pub(crate) const fn is_suspect(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// What the tags said: the blocks of the segments that did not match.
    pub(crate) fn answer(&self) -> Answer {
        let mut suspects = self.suspects.clone();
        suspects.sort_unstable();
        let looked_at = self.bytes.div_ceil(BLOCK_BYTES as u64);
        Answer::new(Checker::Tags, looked_at, suspects)
    }

    /// Adds what a later part of the same pass found.
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.suspects.extend(other.suspects);
    }
}

impl Rolling {
    pub(crate) fn new(
        reference: Reference,
        spare: Option<Reference>,
        now: u64,
        random: &dyn Random,
    ) -> Result<Self, RandomError> {
        let order = shuffled(reference.tags.len(), random)?;
        Ok(Self {
            current: reference.key,
            next: fresh_key(random)?,
            tags: reference.tags,
            order,
            visited: 0,
            spare,
            since_anchor: 0,
            anchored_at: now,
            read: 0,
            pace: Pace::default(),
        })
    }

    /// After a pass that visited `count` segments in `budget`, or after a tree
    /// pass, which says nothing about that: how many sweeps of that budget, from
    /// now on, visit every segment whatever the secret order is. What this epoch
    /// has visited already may come last in the next.
    pub(crate) fn passes_to_cover(&self, budget: Duration, count: Option<u64>) -> u64 {
        let sustained = self.pace.sustained(budget);
        // At the end of an epoch fewer were left than there was time for.
        let count = match self.visited {
            0 => sustained.or(count),
            _ => count.into_iter().chain(sustained).min(),
        };
        let count = count.unwrap_or(1).max(1);
        let epoch = self.segments().div_ceil(count);
        match self.visited {
            0 => epoch,
            _ => epoch.saturating_add(self.left().div_ceil(count)),
        }
    }

    /// Segments in all.
    pub(crate) fn segments(&self) -> u64 {
        self.tags.len() as u64
    }

    /// Segments that this epoch has not visited yet.
    pub(crate) fn left(&self) -> u64 {
        self.order.len().saturating_sub(self.visited) as u64
    }

    /// What stays after a pass that failed half way.
    pub(crate) fn fall_back(self, random: &dyn Random) -> Result<Option<Self>, RandomError> {
        let Some(spare) = self.spare else {
            return Ok(None);
        };
        Ok(Some(Self {
            since_anchor: self.since_anchor,
            pace: self.pace,
            ..Self::new(spare, None, self.anchored_at, random)?
        }))
    }

    /// Visits the next `count` segments of the secret order. At the end of an
    /// epoch keys move on and a new order is drawn.
    pub(crate) fn visit(
        &mut self,
        device: &dyn Device,
        extent: Extent,
        count: u64,
        random: &dyn Random,
    ) -> Result<Pass, Error> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let end = self.visited.saturating_add(count).min(self.order.len());
        let batch = self.order.get(self.visited..end).unwrap_or_default();
        let len = |segment: &u64| bytes_of(extent, *segment);
        let mut pass = Pass {
            bytes: batch.iter().map(len).fold(0, u64::saturating_add),
            suspects: Vec::new(),
        };
        let tags = device.keyed_tags(extent, batch, &[&self.current, &self.next])?;
        self.read = self.read.saturating_add(pass.bytes);
        let pairs = in_pairs(&tags, batch.len())?;
        for (segment, [now, then]) in batch.iter().zip(pairs) {
            let index = usize::try_from(*segment).unwrap_or(usize::MAX);
            match self.tags.get_mut(index) {
                // Each is judged by itself: one that nobody wrote is a doubt about
                // its segment and hides nothing of another.
                Some(reference) if reference == now && *then != nh::Tag::ZERO => {
                    *reference = *then;
                }
                _ => pass.suspects.push(run_of(extent, *segment)),
            }
        }
        self.since_anchor = self.since_anchor.saturating_add(batch.len() as u64);
        self.visited = end;
        // What was found must not be lost for want of a new key.
        if end == self.order.len() && !pass.is_suspect() {
            self.turn(random)?;
        }
        Ok(pass)
    }

    /// Visits every segment once: the rest of this epoch, then those of it that
    /// were visited before this pass, as the first of the next epoch.
    pub(crate) fn visit_all(
        &mut self,
        device: &dyn Device,
        extent: Extent,
        random: &dyn Random,
    ) -> Result<Pass, Error> {
        let again: Vec<u64> = self.order.get(..self.visited).unwrap_or_default().to_vec();
        let mut pass = self.visit(device, extent, self.left(), random)?;
        if again.is_empty() || pass.is_suspect() {
            return Ok(pass);
        }
        let mut order = again;
        let first = order.len() as u64;
        let seen: std::collections::HashSet<u64> = order.iter().copied().collect();
        let rest = self.order.iter().filter(|segment| !seen.contains(segment));
        order.extend(rest.copied().collect::<Vec<_>>());
        self.order = order;
        pass.add(self.visit(device, extent, first, random)?);
        Ok(pass)
    }

    /// The next epoch: the next key is the current one now.
    fn turn(&mut self, random: &dyn Random) -> Result<(), RandomError> {
        self.order = shuffled(self.tags.len(), random)?;
        self.current = std::mem::replace(&mut self.next, fresh_key(random)?);
        self.visited = 0;
        Ok(())
    }
}

/// One pair of tags a segment. A tag of zeros is one that the device did not write.
fn in_pairs(tags: &[nh::Tag], segments: usize) -> Result<&[[nh::Tag; 2]], DeviceError> {
    let (pairs, rest) = tags.as_chunks::<2>();
    match pairs.len() == segments && rest.is_empty() {
        true => Ok(pairs),
        false => Err(DeviceError::NoResult { op: "keyed tags" }),
    }
}

/// Bytes of a segment.
fn bytes_of(extent: Extent, segment: u64) -> u64 {
    let start = segment.saturating_mul(UPLOAD_ALIGN);
    extent.len.saturating_sub(start).min(UPLOAD_ALIGN)
}

/// Blocks of a segment: the first, and how many.
fn run_of(extent: Extent, segment: u64) -> (u64, u64) {
    let first = segment.saturating_mul(UPLOAD_ALIGN.div_ceil(BLOCK_BYTES as u64));
    (
        first,
        bytes_of(extent, segment).div_ceil(BLOCK_BYTES as u64),
    )
}

/// What the CPU says of a segment.
struct Spot {
    segment: u64,
    agrees: bool,
}

/// Reads one random segment back and tags it on the CPU: the tree vouches for
/// the memory, this for the computation that makes references of it.
fn spot_check(
    device: &dyn Device,
    extent: Extent,
    (one, two): (&nh::Key, &nh::Key),
    pairs: &[[nh::Tag; 2]],
    random: &dyn Random,
) -> Result<Spot, Error> {
    let segment = Draws::new(random, 1).below((pairs.len() as u64).max(1))?;
    let offset = segment.saturating_mul(UPLOAD_ALIGN);
    let len = bytes_of(extent, segment);
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(len).unwrap_or(0)]);
    device.read(extent, offset, &mut bytes)?;
    let expected = [nh::tag(one, &bytes), nh::tag(two, &bytes)];
    let index = usize::try_from(segment).unwrap_or(usize::MAX);
    Ok(Spot {
        segment,
        agrees: pairs.get(index) == Some(&expected),
    })
}

/// A secret order of `0..count`: Fisher-Yates with unbiased draws.
fn shuffled(count: usize, random: &dyn Random) -> Result<Vec<u64>, RandomError> {
    let mut order: Vec<u64> = (0..count as u64).collect();
    let mut draws = Draws::new(random, count);
    for last in (1..count).rev() {
        let bound = (last as u64).saturating_add(1);
        let other = usize::try_from(draws.below(bound)?).unwrap_or(0);
        order.swap(last, other);
    }
    Ok(order)
}

/// Random numbers, taken from their source many at a time: a call of the
/// operating system for each would cost more than checking its segment.
struct Draws<'r> {
    random: &'r dyn Random,
    bytes: Zeroizing<Vec<u8>>,
    used: usize,
}

impl<'r> Draws<'r> {
    /// Most bytes that are taken at once.
    const MOST: usize = 64 << 10;

    /// Draws for one number. Fewer than half of all are to be rejected, so that
    /// only a broken source needs more.
    const TRIES: usize = 128;

    /// For about `count` numbers.
    fn new(random: &'r dyn Random, count: usize) -> Self {
        let len = count.saturating_mul(8).clamp(8, Self::MOST);
        let bytes = Zeroizing::new(vec![0; len]);
        let used = len;
        Self {
            random,
            bytes,
            used,
        }
    }

    fn next(&mut self) -> Result<u64, RandomError> {
        if self.used >= self.bytes.len() {
            self.random.fill(&mut self.bytes)?;
            self.used = 0;
        }
        let left = self.bytes.get(self.used..).unwrap_or_default();
        let number = left.first_chunk::<8>().copied().map(u64::from_le_bytes);
        self.used = self.used.saturating_add(8);
        number.ok_or_else(|| RandomError::new("an empty buffer of random bytes"))
    }

    /// A uniform number below `bound`, by rejection.
    fn below(&mut self, bound: u64) -> Result<u64, RandomError> {
        // The largest multiple of `bound` that fits.
        let zone = u64::MAX.saturating_sub(u64::MAX.checked_rem(bound).unwrap_or(0));
        for _ in 0..Self::TRIES {
            let draw = self.next()?;
            if draw < zone {
                return Ok(draw.checked_rem(bound).unwrap_or(0));
            }
        }
        Err(RandomError::new("only numbers that must be rejected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::random::OsRandom;
    use crate::sim::SimDevice;
    use crate::verify::forward::forward;

    #[test]
    fn orders_are_permutations_and_differ() {
        for count in [0, 1, 2, 100] {
            let mut order = shuffled(count, &OsRandom).unwrap();
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..count as u64), "{count}");
        }
        assert_ne!(
            shuffled(100, &OsRandom).unwrap(),
            shuffled(100, &OsRandom).unwrap()
        );
    }

    fn ten_segments(pace: Pace) -> Rolling {
        let key = fresh_key(&OsRandom).unwrap();
        let tags = vec![nh::Tag::from_bytes([1; 16]); 10];
        let rolling = Rolling::new(Reference { key, tags }, None, 0, &OsRandom);
        Rolling {
            pace,
            ..rolling.unwrap()
        }
    }

    const fn pace(segments: u64, nanos: u64, before: u64) -> Pace {
        Pace {
            segments,
            nanos,
            before,
            kept: true,
        }
    }

    /// Ten segments, four of which a pass visits in five nanoseconds after a first one.
    // requirement: PM-8, VA-5
    #[test]
    fn only_a_pass_that_the_end_of_an_epoch_cut_short_counts_as_those_before_it() {
        let mut rolling = ten_segments(pace(4, 5, 1));
        for (visited, nanos, count, expected) in [
            // What is left of the epoch, four at a time, and a whole one.
            (4, 6, 4, 2 + 3),
            (8, 6, 4, 1 + 3),
            // Two were left: no fewer are expected of the next pass than before.
            (0, 6, 2, 3),
            // A slow pass that nothing cut short counts as it is.
            (1, 6, 1, 9 + 10),
            // What came before it is in the time, too.
            (0, 5, 4, 4),
            (0, 1, 4, 10),
        ] {
            rolling.visited = visited;
            let passes = rolling.passes_to_cover(Duration::from_nanos(nanos), Some(count));
            assert_eq!(passes, expected, "{visited} visited, {count} in {nanos} ns");
        }
    }

    /// Nobody knows how many segments a sweep after a tree pass will visit: as many
    /// as its time was enough for before, and one where nothing is known.
    // requirement: PM-8, VA-5
    #[test]
    fn after_a_tree_pass_the_pace_before_it_says_how_many_passes_cover_everything() {
        for (each, nanos, expected) in [(0, 0, 10), (0, 1000, 10), (1, 5, 3), (4, 3, 10)] {
            let rolling = ten_segments(pace(1, each, 0));
            let passes = rolling.passes_to_cover(Duration::from_nanos(nanos), None);
            assert_eq!(passes, expected, "{nanos} ns at {each} ns each");
        }
    }

    #[test]
    fn a_pass_that_read_nothing_proves_nothing() {
        let pass = |bytes, suspects: &[(u64, u64)]| Pass {
            bytes,
            suspects: suspects.to_vec(),
        };
        assert!(pass(0, &[]).intact().is_none());
        assert!(pass(1, &[]).intact().is_some());
        assert!(pass(1, &[(0, 1)]).intact().is_none());
        // The order of the visits is secret, and is not told.
        let mut whole = pass(3 * 4096, &[(7, 3)]);
        whole.add(pass(1, &[(3, 4)]));
        let answer = whole.answer();
        assert_eq!((answer.looked_at, answer.bad), (4, 7));
        assert_eq!(answer.runs, [(3, 7)]);
    }

    /// Gives these numbers, one after the other.
    struct Scripted(std::sync::Mutex<Vec<u64>>);

    impl Random for Scripted {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            let next = self.0.lock().unwrap().pop();
            let next = next.ok_or_else(|| RandomError::new("the script is over"))?;
            out.copy_from_slice(&next.to_le_bytes());
            Ok(())
        }
    }

    /// A round that ends with a mismatch asks for no key, so it cannot lack one.
    #[test]
    fn what_a_round_found_is_not_lost_for_want_of_a_new_key() {
        let device = SimDevice::new(1 << 20);
        let buffer = device.allocate(100).unwrap().id;
        let extent = Extent {
            buffer,
            start: 0,
            len: 100,
        };
        let key = || nh::Key::from_bytes(&[3; nh::KEY_BYTES]);
        let tags = device.keyed_tags(extent, &[0], &[&key()]).unwrap();
        let visit = |tags| {
            let key = key();
            let mut rolling = Rolling::new(Reference { key, tags }, None, 0, &OsRandom).unwrap();
            rolling.visit(&device, extent, 1, &Scripted(Vec::new().into()))
        };
        let found = visit(vec![nh::Tag::from_bytes([1; 16])]).unwrap();
        assert_eq!(found.answer().bad, 1);
        assert!(matches!(visit(tags), Err(Error::Random(_))));
    }

    /// How fast the memory is and how long ago the anchor was do not change with the key.
    // requirement: PM-8, VA-5
    #[test]
    fn what_a_failed_pass_falls_back_to_keeps_its_pace_and_its_age() {
        let spare = Reference {
            key: fresh_key(&OsRandom).unwrap(),
            tags: vec![nh::Tag::from_bytes([2; 16]); 10],
        };
        let known = pace(4, 5, 1);
        let rolling = Rolling {
            spare: Some(spare),
            since_anchor: 3,
            anchored_at: 8,
            ..ten_segments(known)
        };
        let back = rolling.fall_back(&OsRandom).unwrap().unwrap();
        assert_eq!((back.pace, back.since_anchor), (known, 3));
        assert_eq!((back.anchored_at, back.segments()), (8, 10));
        assert!(back.fall_back(&OsRandom).unwrap().is_none(), "no spare");
    }

    /// Leaves the tags of some segments unwritten.
    struct Forgetful {
        sim: SimDevice,
        /// Which tag of which segment: 0 of the current key, 1 of the next.
        forgets: Vec<(u64, usize)>,
    }

    impl Device for Forgetful {
        fn info(&self) -> &device::DeviceInfo {
            self.sim.info()
        }

        fn keyed_tags(
            &self,
            extent: Extent,
            segments: &[u64],
            keys: &[&nh::Key],
        ) -> Result<Vec<nh::Tag>, DeviceError> {
            let mut tags = self.sim.keyed_tags(extent, segments, keys)?;
            let (pairs, _) = tags.as_chunks_mut::<2>();
            for (pair, segment) in pairs.iter_mut().zip(segments) {
                for (which, tag) in pair.iter_mut().enumerate() {
                    if self.forgets.contains(&(*segment, which)) {
                        *tag = nh::Tag::ZERO;
                    }
                }
            }
            Ok(tags)
        }

        forward!(sim: facts memory allocate free protect witness address upload read write fill);
        forward!(sim: block_digests copy_to as_any close);
    }

    /// A shard of three segments, the last a part of one.
    fn three_segments() -> (SimDevice, Extent) {
        let sim = SimDevice::new(4 << 20);
        let len = 2 * UPLOAD_ALIGN + 100;
        let buffer = sim.allocate(len).unwrap().id;
        let extent = Extent {
            buffer,
            start: 0,
            len,
        };
        (sim, extent)
    }

    /// What a pass over them finds, of which the first is damaged or not.
    fn found(forgets: &[(u64, usize)], damaged: bool) -> u64 {
        let (sim, extent) = three_segments();
        let made = Reference::measure_pair(&sim, extent, &OsRandom, &mut 0).unwrap();
        let Made::Pair(reference, spare) = made else {
            panic!("the CPU has other tags")
        };
        let mut rolling = Rolling::new(reference, Some(spare), 0, &OsRandom).unwrap();
        if damaged {
            sim.flip_bit(extent.buffer, 5, 1).unwrap();
        }
        let forgets = forgets.to_vec();
        let device = Forgetful { sim, forgets };
        let pass = rolling.visit(&device, extent, 3, &OsRandom).unwrap();
        let bad = pass.answer().bad;
        assert_eq!(pass.intact().is_some(), bad == 0);
        bad
    }

    /// One that was not written is a doubt about its own segment, the damage of another
    /// counts beside it.
    // requirement: DG-2
    #[test]
    fn every_tag_is_judged_by_itself() {
        for which in 0..2 {
            assert_eq!(found(&[(1, which)], false), 256);
            assert_eq!(found(&[(2, which)], false), 1);
            assert_eq!(found(&[(1, which)], true), 512);
            assert_eq!(found(&[(1, which), (2, which)], true), 513);
            // A mismatch is one whatever was not written of its segment.
            assert_eq!(found(&[(0, which)], true), 256);
        }
        assert_eq!(
            found(&[(1, 0), (1, 1)], false),
            256,
            "a segment counts once"
        );
        assert_eq!(
            found(&[(0, 0), (1, 0), (2, 0)], true),
            513,
            "it did not run"
        );
        assert_eq!(found(&[], true), 256);
        assert_eq!(found(&[], false), 0);
    }

    #[test]
    fn no_reference_is_made_of_a_tag_that_was_not_written() {
        for (forgets, expected) in [
            (vec![], None),
            (vec![(0, 0)], Some(256)),
            (vec![(2, 1)], Some(1)),
            (vec![(0, 1), (0, 0), (2, 0)], Some(257)),
        ] {
            let (sim, extent) = three_segments();
            let device = Forgetful { sim, forgets };
            let doubted = match Reference::measure_pair(&device, extent, &OsRandom, &mut 0) {
                Ok(Made::Pair(..)) => None,
                Ok(Made::Doubted(answer)) => Some(answer.bad),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(doubted, expected);
        }
    }

    #[test]
    fn draws_that_would_favour_small_numbers_are_rejected() {
        // The largest multiple of 10 that fits is `u64::MAX - 5`.
        let zone = u64::MAX - 5;
        for (script, expected) in [
            (vec![7], 7),
            (vec![zone - 1], 9),
            (vec![3, zone], 3),
            (vec![4, u64::MAX, zone + 1], 4),
        ] {
            let random = Scripted(script.clone().into());
            let draw = Draws::new(&random, 1).below(10);
            assert_eq!(draw.unwrap(), expected, "{script:?}");
            assert!(random.0.lock().unwrap().is_empty(), "{script:?}");
        }
    }

    #[test]
    fn a_source_that_only_gives_numbers_to_reject_is_given_up() {
        let random = Scripted(vec![u64::MAX; 200].into());
        let error = Draws::new(&random, 1).below(10).unwrap_err();
        assert!(error.to_string().contains("rejected"), "{error}");
        assert_eq!(random.0.lock().unwrap().len(), 200 - Draws::TRIES);
    }

    #[test]
    fn too_few_and_too_many_tags_are_refused() {
        let tag = |byte| nh::Tag::from_bytes([byte; 16]);
        let four = [tag(1), tag(2), tag(3), tag(4)];
        assert_eq!(
            in_pairs(&four, 2).unwrap(),
            [[tag(1), tag(2)], [tag(3), tag(4)]]
        );
        assert!(in_pairs(&[], 0).unwrap().is_empty());
        for (tags, segments) in [
            (&four[..], 1),
            (&four[..], 3),
            (&four[..3], 1),
            (&four[..2], 2),
        ] {
            assert!(in_pairs(tags, segments).is_err(), "{segments}");
        }
    }
}
