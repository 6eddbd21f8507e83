//! The same work on several items and devices at once.

use std::collections::{BTreeMap, VecDeque};

use tracing::Span;

use super::{Mutex, MutexGuard, PoisonError, one_more, thread};

/// How many items are worked on at the same time.
#[derive(Debug, Clone, Copy)]
pub struct AtOnce {
    /// Of all.
    pub all: usize,
    /// Of those of one device.
    pub of_device: usize,
}

impl AtOnce {
    /// One of each device.
    pub const DEVICES: Self = Self {
        all: usize::MAX,
        of_device: 1,
    };
}

/// Does `work` with each item, with so many at the same time; those of one device
/// are begun in their order. The answers come in the order of the items. Whether
/// an item is still worth work when its turn comes is for `work` to say.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    at_once: AtOnce,
    device: impl Fn(&T) -> u32 + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let mut turns = Turns {
        waiting: BTreeMap::new(),
        of_device: at_once.of_device.max(1),
    };
    for (at, item) in items.iter().enumerate() {
        let here = turns.waiting.entry(device(item)).or_default();
        here.items.push_back((at, item));
    }
    let devices = turns.waiting.values();
    let threads = devices.map(|here| here.items.len().min(turns.of_device));
    let threads = threads.sum::<usize>().min(at_once.all);
    let turns = Mutex::new(turns);
    let answers = Mutex::new(Vec::with_capacity(items.len()));
    let item_after_item = &|| {
        // The lock is not held while an item is worked on.
        let next = || lock(&turns).next();
        while let Some((ordinal, (at, item))) = next() {
            let answer = work(item);
            lock(&turns).done(ordinal);
            lock(&answers).push((at, answer));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread the ones there are do its work.
            let span = Span::current();
            let _ = one_more(scope, move || span.in_scope(item_after_item));
        }
        item_after_item();
    });
    let mut answers: Vec<(usize, R)> = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_unstable_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// What is still to be done.
struct Turns<'t, T> {
    waiting: BTreeMap<u32, Here<'t, T>>,
    of_device: usize,
}

/// The items of one device, and how many are worked on.
struct Here<'t, T> {
    items: VecDeque<(usize, &'t T)>,
    busy: usize,
}

impl<T> Default for Here<'_, T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            busy: 0,
        }
    }
}

impl<'t, T> Turns<'t, T> {
    /// The next item of the device that has least to do. Where none is free, those
    /// who work on them go on with what waits.
    fn next(&mut self) -> Option<(u32, (usize, &'t T))> {
        let of_device = self.of_device;
        let free = |here: &Here<'_, T>| here.busy < of_device && !here.items.is_empty();
        let devices = self.waiting.iter_mut().filter(|(_, here)| free(here));
        let (ordinal, here) = devices.min_by_key(|(_, here)| here.busy)?;
        here.busy = here.busy.saturating_add(1);
        Some((*ordinal, here.items.pop_front()?))
    }

    fn done(&mut self, ordinal: u32) {
        if let Some(here) = self.waiting.get_mut(&ordinal) {
            here.busy = here.busy.saturating_sub(1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::sync::meeting::Meeting;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const fn at_once(all: usize, of_device: usize) -> AtOnce {
        AtOnce { all, of_device }
    }

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        let items = [(1, 'a'), (0, 'b'), (1, 'c'), (2, 'd')];
        for all in [0, 1, 2, 9] {
            for of_device in [0, 1, 2] {
                let at_once = at_once(all, of_device);
                let done = each(&items, at_once, |item| item.0, |item| item.1);
                assert_eq!(done, ['a', 'b', 'c', 'd'], "{at_once:?}");
            }
        }
        assert_eq!(each(&[], AtOnce::DEVICES, |n| *n, |n| *n), [0_u32; 0]);
    }

    #[test]
    fn devices_work_at_the_same_time_and_the_items_of_one_in_their_order() {
        // Each waits for the other: one after the other they would not end.
        let both = Meeting::of(2);
        let meet = |_: &u32| both.wait();
        let met = each(&[0, 1], AtOnce::DEVICES, |item| *item, meet);
        assert_ne!(met[0], met[1]);
        let begun = Mutex::new(Vec::new());
        let note = |item: &u32| lock(&begun).push(*item);
        each(&[4, 2, 3], AtOnce::DEVICES, |_| 7, note);
        assert_eq!(*lock(&begun), [4, 2, 3]);
    }

    #[test]
    fn items_of_one_device_are_worked_on_together_and_idle_devices_come_first() {
        let both = Meeting::of(2);
        let meet = |_: &u32| both.wait();
        for items in [[0, 0, 0, 0], [0, 0, 1, 1]] {
            let met = each(&items, at_once(2, 2), |item| *item, meet);
            assert_eq!(met.iter().filter(|leads| **leads).count(), 2);
        }
        // Three of the first device are there before the only one of the second.
        let devices = Mutex::new(Vec::new());
        let work = |item: &u32| {
            lock(&devices).push(*item);
            both.wait();
        };
        each(&[0, 0, 0, 1], at_once(2, 3), |item| *item, work);
        let mut first = lock(&devices)[..2].to_vec();
        first.sort_unstable();
        assert_eq!(first, [0, 1]);
    }

    #[test]
    fn no_more_work_at_once_than_may() {
        for (all, of_device, devices, bound) in [(3, 1, 12, 3), (9, 1, 2, 2), (9, 2, 2, 4)] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let work = |_: &u32| {
                let at_once = now.fetch_add(1, Ordering::SeqCst).saturating_add(1);
                most.fetch_max(at_once, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            };
            let items: Vec<u32> = (0..24).collect();
            each(&items, at_once(all, of_device), |item| item % devices, work);
            let most = most.into_inner();
            assert!((1..=bound).contains(&most), "{most} of {bound}");
        }
    }
}
