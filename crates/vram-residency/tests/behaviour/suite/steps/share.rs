//! Other applications on the same GPU.

use cucumber::{given, then, when};
use vram_residency::device::Extent;

use super::size::Size;
use crate::suite::stage::Stage;

const THEIRS: u8 = 0x5A;
const THEIR_BYTES: u64 = 2 << 20;

fn theirs(stage: &Stage) -> Extent {
    let buffer = stage.other.unwrap().id;
    Extent {
        buffer,
        start: 0,
        len: THEIR_BYTES,
    }
}

#[given(expr = "another application leaves {size} of the device free")]
fn others(stage: &mut Stage, left: Size) {
    stage.plug_in();
    stage.other = Some(stage.taps[0].inner.allocate(THEIR_BYTES).unwrap());
    stage.taps[0].inner.fill(theirs(stage), THEIRS).unwrap();
    stage.taps[0].script().others_leave = Some(left.0);
}

#[then("the other application still has its memory")]
fn still_there(stage: &mut Stage) {
    let mut bytes = vec![0; THEIR_BYTES as usize];
    stage.taps[0]
        .inner
        .read(theirs(stage), 0, &mut bytes)
        .unwrap();
    assert!(bytes.iter().all(|byte| *byte == THEIRS));
}

#[when("the other application ends")]
fn they_end(stage: &mut Stage) {
    let buffer = stage.other.take().unwrap().id;
    stage.taps[0].inner.free(buffer).unwrap();
    stage.taps[0].script().others_leave = None;
}
