//! Operations across lanes, and special registers.

use super::launch;
use crate::ptx::HostMemory;

/// Runs `body` in every thread and returns `%r0` of each.
fn lanes(body: &str, threads: u32) -> Vec<u32> {
    let text = format!(
        ".version 7.0 .target sm_80 .address_size 64
        .visible .entry k(.param .u64 out) {{
            .reg .pred %p<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>;
            ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;
            mul.wide.u32 %rd2, %r1, 4; add.u64 %rd1, %rd1, %rd2;
            {body}
            st.global.u32 [%rd1], %r0; ret; }}"
    );
    let mut memory = HostMemory::new();
    let at = memory.alloc(&vec![0; threads as usize * 4]);
    launch(&text, &mut memory, &[at], threads).unwrap_or_else(|e| panic!("{body}: {e}"));
    let bytes = memory.bytes(at).unwrap();
    bytes
        .chunks_exact(4)
        .map(|c| u32::from_le_bytes(c.try_into().unwrap()))
        .collect()
}

fn each(threads: u32, f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..threads).map(f).collect()
}

#[test]
fn shuffles() {
    for (body, expected) in [
        ("shfl.sync.idx.b32 %r0, %r1, 5, 31, -1;", each(32, |_| 5)),
        (
            "shfl.sync.up.b32 %r0, %r1, 1, 0, -1;",
            each(32, |l| l.saturating_sub(1)),
        ),
        (
            "shfl.sync.down.b32 %r0, %r1, 4, 31, -1;",
            each(32, |l| if l < 28 { l + 4 } else { l }),
        ),
        (
            "shfl.sync.bfly.b32 %r0, %r1, 16, 31, -1;",
            each(32, |l| l ^ 16),
        ),
        // Segments of 8 lanes: the mask of the segment is in bits 8..12 of c.
        (
            "shfl.sync.idx.b32 %r0, %r1, 2, 0x181f, -1;",
            each(32, |l| (l & 0x18) | 2),
        ),
        (
            "shfl.sync.down.b32 %r0, %r1, 1, 0x181f, -1;",
            each(32, |l| if l % 8 == 7 { l } else { l + 1 }),
        ),
        (
            "shfl.sync.up.b32 %r0|%p1, %r1, 1, 0, -1; selp.u32 %r0, 1, 0, %p1;",
            each(32, |l| u32::from(l > 0)),
        ),
    ] {
        assert_eq!(lanes(body, 32), expected, "{body}");
    }
}

#[test]
fn votes_matches_reductions() {
    for (body, expected) in [
        (
            "setp.lt.u32 %p1, %r1, 4; vote.sync.ballot.b32 %r0, %p1, -1;",
            each(32, |_| 0xf),
        ),
        (
            "setp.lt.u32 %p1, %r1, 4; vote.sync.any.pred %p2, %p1, -1; selp.u32 %r0, 1, 0, %p2;",
            each(32, |_| 1),
        ),
        (
            "setp.lt.u32 %p1, %r1, 4; vote.sync.all.pred %p2, %p1, -1; selp.u32 %r0, 1, 0, %p2;",
            each(32, |_| 0),
        ),
        (
            "setp.lt.u32 %p1, %r1, 4; vote.sync.all.pred %p2, !%p1, -1; selp.u32 %r0, 1, 0, %p2;",
            each(32, |_| 0),
        ),
        (
            "setp.lt.u32 %p1, %r1, 99; vote.sync.uni.pred %p2, %p1, -1; selp.u32 %r0, 1, 0, %p2;",
            each(32, |_| 1),
        ),
        (
            "and.b32 %r2, %r1, 1; match.any.sync.b32 %r0, %r2, -1;",
            each(32, |l| 0x5555_5555 << (l & 1)),
        ),
        (
            "mov.u64 %rd3, 9; match.all.sync.b64 %r0|%p1, %rd3, -1;",
            each(32, |_| u32::MAX),
        ),
        (
            "match.all.sync.b32 %r0|%p1, %r1, -1; selp.u32 %r0, 1, %r0, %p1;",
            each(32, |_| 0),
        ),
        ("redux.sync.add.u32 %r0, %r1, -1;", each(32, |_| 496)),
        ("redux.sync.max.u32 %r0, %r1, -1;", each(32, |_| 31)),
        (
            "sub.s32 %r2, 3, %r1; redux.sync.min.s32 %r0, %r2, -1;",
            each(32, |_| (-28_i32).cast_unsigned()),
        ),
        ("redux.sync.and.b32 %r0, %r1, -1;", each(32, |_| 0)),
        ("redux.sync.or.b32 %r0, %r1, -1;", each(32, |_| 31)),
        ("redux.sync.xor.b32 %r0, %r1, -1;", each(32, |_| 0)),
        ("activemask.b32 %r0;", each(32, |_| u32::MAX)),
    ] {
        assert_eq!(lanes(body, 32), expected, "{body}");
    }
    assert_eq!(lanes("activemask.b32 %r0;", 5), each(5, |_| 0x1f));
}

#[test]
fn special_registers() {
    for (name, expected) in [
        ("%laneid", each(70, |t| t % 32)),
        ("%warpid", each(70, |t| t / 32)),
        ("%nwarpid", each(70, |_| 3)),
        ("%ntid.x", each(70, |_| 70)),
        ("%tid.y", each(70, |_| 0)),
        ("%ctaid.x", each(70, |_| 0)),
        ("%nctaid.z", each(70, |_| 1)),
        ("%lanemask_eq", each(70, |t| 1 << (t % 32))),
        ("%lanemask_lt", each(70, |t| (1 << (t % 32)) - 1)),
        ("%lanemask_le", each(70, |t| u32::MAX >> (31 - t % 32))),
        ("%lanemask_ge", each(70, |t| u32::MAX << (t % 32))),
        ("%lanemask_gt", each(70, |t| u32::MAX << (t % 32) << 1)),
        ("%dynamic_smem_size", each(70, |_| 0)),
        ("%total_smem_size", each(70, |_| 0)),
    ] {
        assert_eq!(
            lanes(&format!("mov.u32 %r0, {name};"), 70),
            expected,
            "{name}"
        );
    }
}
