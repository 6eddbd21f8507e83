//! What a kernel must not do, and how it is named.

use super::launch;
use crate::ptx::{Access, Fault, FaultKind, HostMemory};

/// Runs `body` in `threads` threads with `%rd1` = a buffer of 64 bytes, `%r1` = thread.
fn fault(body: &str, threads: u32) -> Fault {
    fault_in(body, threads, |_, _| {}).unwrap_err()
}

fn fault_in(
    body: &str,
    threads: u32,
    prepare: impl Fn(&mut HostMemory, u64),
) -> Result<u64, Fault> {
    let text = format!(
        ".version 7.0\n.target sm_60\n.address_size 64
.visible .entry k(.param .u64 buffer) {{
.reg .pred %p<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>;
.shared .align 16 .b8 s[1024];
ld.param.u64 %rd1, [buffer]; mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2;
{body}
ret; }}"
    );
    let mut memory = HostMemory::new();
    let at = memory.alloc(&[0; 64]);
    prepare(&mut memory, at);
    launch(&text, &mut memory, &[at], threads)
}

#[test]
fn out_of_bounds_is_caught_at_the_byte() {
    let f = fault(
        "cvt.u64.u32 %rd2, %r2; add.u64 %rd2, %rd1, %rd2; ld.global.u32 %r3, [%rd2];",
        17,
    );
    assert_eq!((f.code(), f.lane, f.warp, f.line), (700, 16, 0, 8));
    assert!(matches!(
        f.kind,
        FaultKind::OutOfBounds {
            access: Access::Read,
            space: "global",
            len: 4,
            ..
        }
    ));
    assert_eq!(
        fault("st.global.v4.u32 [%rd1+64], {%r1,%r1,%r1,%r1};", 1).code(),
        700
    );
    assert_eq!(
        fault("atom.global.add.u32 %r3, [%rd1+64], 1;", 1).code(),
        700
    );
    assert_eq!(fault("ld.shared.u32 %r3, [s+1024];", 1).code(), 700);
    assert_eq!(
        fault("mov.u64 %rd2, 0; ld.global.u8 %r3, [%rd2];", 1).code(),
        700
    );
    assert_eq!(fault("ld.local.u32 %r3, [0];", 1).code(), 700);
    assert_eq!(fault("ld.const.u32 %r3, [0];", 1).code(), 700);
}

#[test]
fn alignment_is_always_checked() {
    for body in [
        "ld.global.u32 %r3, [%rd1+2];",
        "ld.global.v4.u32 {%r3,%r4,%r5,%r6}, [%rd1+8];",
        "st.shared.u16 [s+1], %r1;",
        "atom.global.add.u64 %rd2, [%rd1+4], 1;",
    ] {
        assert_eq!(fault(body, 1).code(), 716, "{body}");
    }
}

#[test]
fn read_only_memory_refuses_stores_and_atomics() {
    for body in ["st.global.u32 [%rd1], 1;", "red.global.add.u32 [%rd1], 1;"] {
        let f = fault_in(body, 1, HostMemory::protect).unwrap_err();
        assert_eq!(f.code(), 700, "{body}");
        assert!(matches!(f.kind, FaultKind::Protected { .. }), "{f}");
    }
    fault_in("ld.global.u32 %r3, [%rd1];", 1, HostMemory::protect).unwrap();
}

#[test]
fn read_after_write_without_a_barrier_is_a_race() {
    let body = |barrier: &str| {
        format!(
            "mov.u32 %r3, s; add.u32 %r2, %r2, %r3; st.shared.u32 [%r2], %r1;
            {barrier} xor.b32 %r4, %r2, 4; ld.shared.u32 %r5, [%r4];"
        )
    };
    let f = fault(&body(""), 64);
    assert_eq!(f.code(), 719);
    assert!(
        matches!(
            f.kind,
            FaultKind::SharedRace {
                earlier: Access::Write,
                later: Access::Read,
                ..
            }
        ),
        "{f}"
    );
    // Neighbours share a warp, so the warp's barrier is enough.
    fault_in(&body("bar.warp.sync -1;"), 64, |_, _| {}).unwrap();
    fault_in(&body("bar.sync 0;"), 64, |_, _| {}).unwrap();
}

#[test]
fn write_after_read_without_a_barrier_is_a_race() {
    // Every thread reads all of the row, then writes its own word.
    let body = |barrier: &str| {
        format!(
            "mov.u32 %r3, s; add.u32 %r2, %r2, %r3; st.shared.u32 [%r2], %r1; bar.sync 0;
            ld.shared.u32 %r4, [s]; ld.shared.u32 %r5, [s+128];
            {barrier} st.shared.u32 [%r2], %r4;"
        )
    };
    for threads in [32, 64] {
        let f = fault(&body(""), threads);
        let kind = matches!(
            f.kind,
            FaultKind::SharedRace {
                earlier: Access::Read,
                later: Access::Write,
                ..
            }
        );
        assert!(kind, "{threads}: {f}");
    }
    // A warp's barrier does not order it against the other warp.
    let f = fault(&body("bar.warp.sync -1;"), 64);
    assert!(matches!(f.kind, FaultKind::SharedRace { .. }), "{f}");
    fault_in(&body("bar.sync 0;"), 64, |_, _| {}).unwrap();
    fault_in(&body("bar.warp.sync -1;"), 32, |_, _| {}).unwrap();
}

#[test]
fn two_writers_of_one_word_race_unless_they_are_atomic() {
    let f = fault("st.shared.u32 [s], %r1;", 2);
    assert!(
        matches!(
            f.kind,
            FaultKind::SharedRace {
                first: 0,
                second: 1,
                ..
            }
        ),
        "{f}"
    );
    let sum = "atom.shared.add.u32 %r3, [s], 1;";
    fault_in(sum, 64, |_, _| {}).unwrap();
    let f = fault(&format!("{sum} ld.shared.u32 %r3, [s];"), 64);
    assert!(
        matches!(
            f.kind,
            FaultKind::SharedRace {
                earlier: Access::Atomic,
                ..
            }
        ),
        "{f}"
    );
    fault_in(
        &format!("{sum} bar.sync 0; ld.shared.u32 %r3, [s];"),
        64,
        |_, _| {},
    )
    .unwrap();
}

#[test]
fn barriers_must_be_reached_together() {
    let f = fault("setp.lt.u32 %p1, %r1, 4; @%p1 bar.sync 0;", 32);
    assert!(
        matches!(
            f.kind,
            FaultKind::Divergent {
                what: "bar.sync",
                active: 0xf,
                ..
            }
        ),
        "{f}"
    );
    let f = fault(
        "setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 0; @!%p1 bar.sync 1;",
        64,
    );
    assert_eq!(f.code(), 719);
    fault_in(
        "setp.lt.u32 %p1, %r1, 4; @%p1 exit; bar.sync 0;",
        32,
        |_, _| {},
    )
    .unwrap();
    for body in [
        "setp.lt.u32 %p1, %r1, 4; @%p1 bar.warp.sync -1;",
        "setp.lt.u32 %p1, %r1, 4; @%p1 shfl.sync.idx.b32 %r3, %r1, 0, 31, -1;",
        "shfl.sync.idx.b32 %r3, %r1, 9, 31, 255;",
    ] {
        let f = fault(body, 32);
        assert!(matches!(f.kind, FaultKind::Divergent { .. }), "{body}: {f}");
    }
    let f = fault("shfl.sync.idx.b32 %r3, %r1, 9, 31, 255;", 8);
    assert!(f.to_string().contains("absent lane"), "{f}");
}

#[test]
fn traps_and_endless_loops_end_the_launch() {
    assert_eq!(fault("trap;", 1).code(), 719);
    assert_eq!(fault("$L: bra $L;", 1).code(), 702);
    let outside = "ts: .branchtargets $A; add.u32 %r3, %r1, 1; brx.idx %r3, ts; $A:";
    assert_eq!(fault(outside, 1).code(), 719);
}
