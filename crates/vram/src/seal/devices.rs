//! The same work on several devices at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::failure::Failure;

/// Does `work` with each item: with those of one device in their order, with
/// those of several devices at the same time.
///
/// # Errors
/// The first failure in the order of the items; after one nothing more is begun.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    device: impl Fn(&T) -> u32 + Sync,
    work: impl Fn(&T) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let answers: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
    let failed = AtomicBool::new(false);
    let on_device = |ordinal: u32| {
        let here = items.iter().zip(&answers);
        for (item, answer) in here.filter(|(item, _)| device(item) == ordinal) {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let done = work(item);
            failed.fetch_or(done.is_err(), Ordering::Relaxed);
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }
    };
    let on_device = &on_device;
    let mut ordinals: Vec<u32> = items.iter().map(&device).collect();
    ordinals.sort_unstable();
    ordinals.dedup();
    thread::scope(|scope| {
        let first = ordinals.pop();
        for ordinal in ordinals {
            let work = move || on_device(ordinal);
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                // Without another thread this one does its work.
                on_device(ordinal);
            }
        }
        first.into_iter().for_each(on_device);
    });
    // Those that were not begun are missing where one failed, and only there.
    let answers = answers.into_iter();
    answers
        .filter_map(|answer| answer.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        let items = [(1, 'a'), (0, 'b'), (1, 'c'), (2, 'd')];
        let done = each(&items, |item| item.0, |item| Ok(item.1)).unwrap();
        assert_eq!(done, ['a', 'b', 'c', 'd']);
        let none: [u32; 0] = [];
        assert_eq!(each(&none, |n| *n, |n| Ok(*n)).unwrap(), [0; 0]);
    }

    #[test]
    fn devices_work_at_the_same_time() {
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
            let heard = from.recv_timeout(Duration::from_secs(600));
            heard.map_err(|error| Failure::new(error.to_string()))
        };
        let device = |ordinal: &usize| u32::try_from(*ordinal).unwrap();
        assert_eq!(each(&[0, 1], device, meet).unwrap(), [(), ()]);
    }

    #[test]
    fn the_first_failure_is_told_and_nothing_more_is_begun() {
        let begun = Mutex::new(Vec::new());
        let work = |item: &u32| {
            begun.lock().unwrap().push(*item);
            match item {
                2 | 3 => Err(Failure::new(format!("item {item}"))),
                _ => Ok(()),
            }
        };
        let failure = each(&[1, 2, 3, 4], |_| 0, work).unwrap_err();
        assert_eq!(failure.message(), "item 2");
        assert_eq!(*begun.lock().unwrap(), [1, 2]);
    }
}
