//! Queued work runs late; order holds where it is promised, and only there.
#![allow(clippy::macro_metavars_in_unsafe, reason = "test code")]

mod common;

use common::{BLOCKING, MIB, Machine, NON_BLOCKING};

const NOT_READY: u32 = 600;

#[test]
fn work_of_one_stream_runs_in_order() {
    let m = Machine::new("seed=7");
    let stream = m.stream(NON_BLOCKING);
    let buffer = m.alloc(512);
    let increment = m.function("increment");
    assert_eq!(cu!(m, cuMemsetD32Async(buffer, 40, 128, stream)), 0);
    for _ in 0..2 {
        assert_eq!(m.launch(increment, 128, stream, &[buffer, 128]), 0);
    }
    let host = m.pinned(512);
    assert_eq!(
        cu!(m, cuMemcpyDtoHAsync_v2(host.cast(), buffer, 512, stream)),
        0
    );
    assert_eq!(cu!(m, cuStreamSynchronize(stream)), 0);
    // SAFETY: 512 pinned bytes, and the copy is done.
    let words = unsafe { std::slice::from_raw_parts(host.cast::<u32>(), 128) };
    assert_eq!(words, [42; 128]);
}

#[test]
fn pinned_sources_are_read_when_the_copy_runs_and_pageable_ones_when_it_is_queued() {
    let m = Machine::new("schedule=lazy");
    let stream = m.stream(NON_BLOCKING);
    let (early, late) = (m.alloc(1), m.alloc(1));
    let pinned = m.pinned(1);
    let mut pageable = [1_u8];
    // SAFETY: one pinned byte of the test's.
    unsafe { pinned.write(1) };
    assert_eq!(
        cu!(
            m,
            cuMemcpyHtoDAsync_v2(early, pageable.as_ptr().cast(), 1, stream)
        ),
        0
    );
    assert_eq!(
        cu!(m, cuMemcpyHtoDAsync_v2(late, pinned.cast(), 1, stream)),
        0
    );
    pageable[0] = 2;
    // SAFETY: as above.
    unsafe { pinned.write(2) };
    assert_eq!(cu!(m, cuStreamQuery(stream)), NOT_READY, "{pageable:?}");
    assert_eq!(cu!(m, cuStreamSynchronize(stream)), 0);
    assert_eq!((m.get(early, 1)[0], m.get(late, 1)[0]), (1, 2));
}

#[test]
fn streams_overtake_each_other_unless_an_event_forbids_it() {
    let mut m = Machine::new("");
    let mut race = |seed: u32, wait: bool| {
        m.restart(&format!("seed={seed}"));
        let (one, two) = (m.stream(NON_BLOCKING), m.stream(NON_BLOCKING));
        let buffer = m.alloc(1);
        let event = m.event();
        for _ in 0..3 {
            assert_eq!(cu!(m, cuMemsetD8Async(buffer, 1, 1, one)), 0);
        }
        assert_eq!(cu!(m, cuEventRecord(event, one)), 0);
        if wait {
            assert_eq!(cu!(m, cuStreamWaitEvent(two, event, 0)), 0);
        }
        assert_eq!(cu!(m, cuMemsetD8Async(buffer, 2, 1, two)), 0);
        assert_eq!(m.sync(), 0);
        m.get(buffer, 1)[0]
    };
    let free: Vec<u8> = (0..50).map(|seed| race(seed, false)).collect();
    assert!(free.contains(&1) && free.contains(&2), "{free:?}");
    assert!((0..50).all(|seed| race(seed, true) == 2));
    // The order is a function of the seed.
    assert_eq!(
        (0..50).map(|seed| race(seed, false)).collect::<Vec<_>>(),
        free
    );
}

#[test]
fn the_legacy_stream_orders_blocking_streams_only() {
    let mut m = Machine::new("");
    let mut last = |flags: u32, seed: u32| {
        m.restart(&format!("seed={seed}"));
        let stream = m.stream(flags);
        let buffer = m.alloc(1);
        for _ in 0..3 {
            assert_eq!(cu!(m, cuMemsetD8Async(buffer, 1, 1, stream)), 0);
        }
        assert_eq!(cu!(m, cuMemsetD8_v2(buffer, 2, 1)), 0);
        assert_eq!(cu!(m, cuMemsetD8Async(buffer, 3, 1, stream)), 0);
        assert_eq!(m.sync(), 0);
        m.get(buffer, 1)[0]
    };
    assert!((0..50).all(|seed| last(BLOCKING, seed) == 3));
    assert!((0..50).any(|seed| last(NON_BLOCKING, seed) == 2));
}

#[test]
fn polling_an_event_makes_progress() {
    let m = Machine::new("schedule=lazy");
    let stream = m.stream(NON_BLOCKING);
    let buffer = m.alloc(MIB);
    let (start, end) = (m.event(), m.event());
    assert_eq!(
        cu!(m, cuEventQuery(start)),
        0,
        "an event without a record is done"
    );
    assert_eq!(cu!(m, cuEventRecord(start, stream)), 0);
    assert_eq!(cu!(m, cuMemsetD8Async(buffer, 1, MIB, stream)), 0);
    assert_eq!(cu!(m, cuEventRecord(end, stream)), 0);
    let mut milliseconds = 0.0;
    assert_eq!(
        cu!(m, cuEventElapsedTime(&raw mut milliseconds, start, end)),
        NOT_READY
    );
    let polls = (0..10)
        .take_while(|_| cu!(m, cuEventQuery(end)) == NOT_READY)
        .count();
    assert!((1..10).contains(&polls), "{polls}");
    assert_eq!(
        cu!(m, cuEventElapsedTime(&raw mut milliseconds, start, end)),
        0
    );
    assert!(milliseconds > 0.0);
}

#[test]
fn eager_machines_do_everything_at_once() {
    let m = Machine::new("schedule=eager");
    let stream = m.stream(NON_BLOCKING);
    let buffer = m.alloc(8);
    assert_eq!(cu!(m, cuMemsetD8Async(buffer, 9, 8, stream)), 0);
    assert_eq!(m.count("pending"), 0);
    assert_eq!(m.get(buffer, 8), [9; 8]);
}
