//! Streams.

use std::collections::VecDeque;
use std::ffi::c_uint;

use super::call;
use crate::driver::codes::CuError;
use crate::driver::queue::{Stream, Work};
use crate::driver::raw::{need, put};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: c_uint = 1;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(out: *mut u64, flags: c_uint) -> u32 {
    call("cuStreamCreate", |d| {
        need(out)?;
        let context = d.healthy()?;
        if flags > NON_BLOCKING {
            return Err(CuError::INVALID_VALUE);
        }
        let id = d.handle();
        d.queues.streams.insert(
            id,
            Stream {
                context,
                blocking: flags != NON_BLOCKING,
                legacy: false,
                queue: VecDeque::new(),
            },
        );
        // SAFETY: cuda.h: `out` points to a CUstream of the caller's.
        unsafe { put(out, id) }
    })
}

/// Work that is still queued is carried out first; real hardware does it later.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamDestroy_v2(stream: u64) -> u32 {
    call("cuStreamDestroy_v2", |d| {
        let found = d.queues.streams.get(&stream).filter(|s| !s.legacy);
        found.ok_or(CuError::INVALID_HANDLE)?;
        let health = d.wait_stream(stream);
        d.queues.streams.remove(&stream);
        health
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamSynchronize(stream: u64) -> u32 {
    call("cuStreamSynchronize", |d| {
        let stream = d.stream(stream)?;
        d.wait_stream(stream)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamQuery(stream: u64) -> u32 {
    call("cuStreamQuery", |d| {
        let id = d.stream(stream)?;
        d.run_one();
        // The work that ran may have broken the context.
        d.stream(stream)?;
        let idle = d
            .queues
            .streams
            .get(&id)
            .is_some_and(|s| s.queue.is_empty());
        if idle {
            Ok(())
        } else {
            Err(CuError::NOT_READY)
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamWaitEvent(stream: u64, event: u64, flags: c_uint) -> u32 {
    call("cuStreamWaitEvent", |d| {
        let stream = d.stream(stream)?;
        let found = d
            .queues
            .events
            .get(&event)
            .copied()
            .ok_or(CuError::INVALID_HANDLE)?;
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        d.queue(
            stream,
            Work::Wait {
                event,
                ticket: found.recorded,
            },
        )
    })
}
