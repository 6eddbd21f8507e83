//! The simulated device's parallelism: a few threads that take work in turn.

use std::num::NonZeroUsize;

use super::lock;
use crate::sync::{Mutex, one_more, thread};

/// Runs `task` on every item with up to `threads` threads and stops at the
/// first error. Each thread owns one `scratch` value.
pub(super) fn for_each<T: Send, S: Default, E: Send>(
    threads: NonZeroUsize,
    items: impl ExactSizeIterator<Item = T> + Send,
    task: impl Fn(T, &mut S) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let threads = threads.get().min(items.len()).max(1);
    let queue = Mutex::new(items);
    let failed = Mutex::new(None);
    let work = || {
        let mut scratch = S::default();
        while lock(&failed).is_none() {
            let Some(item) = lock(&queue).next() else {
                break;
            };
            if let Err(error) = task(item, &mut scratch) {
                lock(&failed).get_or_insert(error);
            }
        }
    };
    if threads == 1 {
        work();
    } else {
        thread::scope(|scope| {
            for _ in 1..threads {
                // Without another thread the ones there are do its work.
                let _ = one_more(scope, work);
            }
            work();
        });
    }
    lock(&failed).take().map_or(Ok(()), Err)
}
