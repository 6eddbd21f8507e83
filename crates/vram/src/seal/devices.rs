//! The same work on several items and devices at once, until one of them fails.

use vram_residency::load::CancelToken;
use vram_residency::sync::{AtOnce, Mutex, PoisonError, each};

use crate::failure::Failure;

/// Does `work` with each item, with so many at the same time; those of one device
/// are begun in their order. The first failure cancels `halt`, for work that is
/// under way, and nothing more is begun.
///
/// # Errors
/// The gravest, and of equal ones the first that happened.
pub(super) fn until_one_fails<T: Sync, R: Send>(
    items: &[T],
    at_once: AtOnce,
    device: impl Fn(&T) -> u32 + Sync,
    halt: &CancelToken,
    work: impl Fn(&T) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let failed_now = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let unless_failed = |item: &T| {
        if failed_now().is_some() {
            return None;
        }
        match work(item) {
            Ok(done) => Some(done),
            Err(failure) => {
                let mut told = failed_now();
                *told = Some(match told.take() {
                    Some(before) => before.graver(failure),
                    None => failure,
                });
                halt.cancel();
                None
            }
        }
    };
    let done = each(items, at_once, device, unless_failed);
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(done.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::failure::Exit;

    #[test]
    fn the_first_failure_is_told_and_nothing_more_is_begun() {
        let (begun, halt) = (Mutex::new(Vec::new()), CancelToken::new());
        let work = |item: &u32| {
            begun.lock().unwrap().push(*item);
            match item {
                2 | 3 => Err(Failure::new(format!("item {item}"))),
                _ => Ok(()),
            }
        };
        let failure =
            until_one_fails(&[1, 2, 3, 4], AtOnce::DEVICES, |_| 0, &halt, work).unwrap_err();
        assert_eq!(failure.message(), "item 2");
        assert_eq!(*begun.lock().unwrap(), [1, 2]);
        assert!(halt.is_cancelled());
    }

    #[test]
    fn a_verdict_is_never_hidden_behind_another_failure() {
        // Both are under way when the first of them fails, either way round.
        for first in [0, 1] {
            let (halt, both) = (CancelToken::new(), Barrier::new(2));
            let work = |item: &u32| {
                both.wait();
                while *item != first && !halt.is_cancelled() {
                    std::thread::yield_now();
                }
                Err::<(), _>(match item {
                    0 => Failure::new("the disk is away"),
                    _ => Failure::verification("the bytes are bad"),
                })
            };
            let failure =
                until_one_fails(&[0, 1], AtOnce::DEVICES, |item| *item, &halt, work).unwrap_err();
            assert_eq!(failure.message(), "the bytes are bad", "{first} first");
            assert_eq!(failure.exit(), Exit::Verification);
        }
    }
}
