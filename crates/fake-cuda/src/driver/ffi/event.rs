//! Events.

use std::ffi::c_uint;

use super::call;
use crate::driver::codes::CuError;
use crate::driver::queue::{Event, Work};
use crate::driver::raw::{need, put};
use crate::driver::state::Driver;

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;
/// `CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING`; `INTERPROCESS` is refused.
const KNOWN_FLAGS: c_uint = 3;

fn find(d: &Driver, event: u64) -> Result<Event, CuError> {
    let event = d
        .queues
        .events
        .get(&event)
        .copied()
        .ok_or(CuError::INVALID_HANDLE)?;
    d.check(event.context)?;
    Ok(event)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(out: *mut u64, flags: c_uint) -> u32 {
    call("cuEventCreate", |d| {
        need(out)?;
        let context = d.healthy()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let id = d.handle();
        let timing = flags & DISABLE_TIMING == 0;
        d.queues.events.insert(
            id,
            Event {
                context,
                timing,
                recorded: 0,
                reached: 0,
                time: 0,
            },
        );
        // SAFETY: cuda.h: `out` points to a CUevent of the caller's.
        unsafe { put(out, id) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventDestroy_v2(event: u64) -> u32 {
    call("cuEventDestroy_v2", |d| {
        let removed = d
            .queues
            .events
            .remove(&event)
            .ok_or(CuError::INVALID_HANDLE)?;
        d.check(removed.context)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventRecord(event: u64, stream: u64) -> u32 {
    call("cuEventRecord", |d| {
        let stream = d.stream(stream)?;
        let context = find(d, event)?.context;
        if d.queues
            .streams
            .get(&stream)
            .is_none_or(|s| s.context != context)
        {
            return Err(CuError::INVALID_HANDLE);
        }
        let ticket = d.queues.order();
        if let Some(found) = d.queues.events.get_mut(&event) {
            found.recorded = ticket;
        }
        d.queue(stream, Work::Record { event, ticket })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventQuery(event: u64) -> u32 {
    call("cuEventQuery", |d| {
        find(d, event)?;
        d.run_one();
        if find(d, event)?.done() {
            Ok(())
        } else {
            Err(CuError::NOT_READY)
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventSynchronize(event: u64) -> u32 {
    call("cuEventSynchronize", |d| {
        find(d, event)?;
        d.run_until(|d| d.queues.events.get(&event).is_none_or(Event::done));
        find(d, event).map(|_| ())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: u64, end: u64) -> u32 {
    call("cuEventElapsedTime", |d| {
        let (start, end) = (find(d, start)?, find(d, end)?);
        if !start.timing || !end.timing || start.recorded == 0 || end.recorded == 0 {
            return Err(CuError::INVALID_HANDLE);
        }
        if !start.done() || !end.done() {
            return Err(CuError::NOT_READY);
        }
        let nanos = i128::from(end.time).saturating_sub(i128::from(start.time));
        #[expect(
            clippy::cast_precision_loss,
            reason = "a pretended time in a float, as cuda.h has it"
        )]
        let value = nanos as f32 / 1.0e6;
        // SAFETY: cuda.h: `milliseconds` points to a float of the caller's.
        unsafe { put(milliseconds, value) }
    })
}
