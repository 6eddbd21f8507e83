//! The same work on several devices at once.

use tracing::Span;

use super::{Mutex, MutexGuard, PoisonError, one_more, thread};

/// Does `work` with each item: with those of one device in their order, with
/// those of at most `at_once` devices at the same time. The answers come in the
/// order of the items. Whether an item is still worth work when its turn comes
/// is for `work` to say.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    device: impl Fn(&T) -> u32 + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let mut ordinals: Vec<u32> = items.iter().map(&device).collect();
    ordinals.sort_unstable();
    ordinals.dedup();
    // Taken from the end: the first device's turn comes first.
    ordinals.reverse();
    let threads = ordinals.len().min(at_once);
    let turns = Mutex::new(ordinals);
    let answers = Mutex::new(Vec::with_capacity(items.len()));
    let device_after_device = &|| {
        while let Some(ordinal) = next(&turns) {
            let here = items.iter().enumerate();
            for (at, item) in here.filter(|(_, item)| device(item) == ordinal) {
                let answer = work(item);
                lock(&answers).push((at, answer));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread the ones there are do its work.
            let span = Span::current();
            let _ = one_more(scope, move || span.in_scope(device_after_device));
        }
        device_after_device();
    });
    let mut answers: Vec<(usize, R)> = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_unstable_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn next(turns: &Mutex<Vec<u32>>) -> Option<u32> {
    lock(turns).pop()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        let items = [(1, 'a'), (0, 'b'), (1, 'c'), (2, 'd')];
        for at_once in [0, 1, 2, 9] {
            let done = each(&items, at_once, |item| item.0, |item| item.1);
            assert_eq!(done, ['a', 'b', 'c', 'd'], "{at_once}");
        }
        assert_eq!(each(&[], 9, |n| *n, |n| *n), [0_u32; 0]);
    }

    #[test]
    fn devices_work_at_the_same_time_and_the_items_of_one_in_their_order() {
        // Each waits for the other: one after the other they would not end well.
        let (to_one, from_zero) = channel();
        let (to_zero, from_one) = channel();
        let ends = [
            Mutex::new((to_one, from_one)),
            Mutex::new((to_zero, from_zero)),
        ];
        let meet = |ordinal: &usize| {
            let (to, from) = &*ends[*ordinal].lock().unwrap();
            to.send(()).unwrap();
            from.recv_timeout(Duration::from_secs(600))
        };
        let device = |ordinal: &usize| u32::try_from(*ordinal).unwrap();
        assert_eq!(each(&[0, 1], 2, device, meet), [Ok(()), Ok(())]);
        let begun = Mutex::new(Vec::new());
        each(&[4, 2, 3], 9, |_| 7, |item| lock(&begun).push(*item));
        assert_eq!(*lock(&begun), [4, 2, 3]);
    }

    #[test]
    fn no_more_devices_work_at_once_than_may() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_: &u32| {
            let at_once = now.fetch_add(1, Ordering::SeqCst).saturating_add(1);
            most.fetch_max(at_once, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            now.fetch_sub(1, Ordering::SeqCst);
        };
        let items: Vec<u32> = (0..12).collect();
        each(&items, 3, |item| *item, work);
        let most = most.into_inner();
        assert!((1..=3).contains(&most), "{most}");
    }
}
