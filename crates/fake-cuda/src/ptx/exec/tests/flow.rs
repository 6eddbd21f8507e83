//! Branches, loops, divergence, barriers, grids.

use super::{launch, refusal};
use crate::ptx::{DEFAULT_INSTRUCTION_LIMIT, HostMemory, Launch, Module};

fn run(body: &str, threads: u32) -> Vec<u32> {
    let text = format!(
        ".version 7.0 .target sm_60 .address_size 64
        .visible .entry k(.param .u64 out) {{
            .reg .pred %p<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>;
            .shared .align 4 .b8 s[4096];
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

#[test]
fn lanes_diverge_and_come_together() {
    let body = "
        mov.u32 %r0, 0; setp.lt.u32 %p1, %r1, 10;
        @%p1 bra $LOW;
        add.u32 %r0, %r0, 100; bra.uni $JOIN;
        $LOW: add.u32 %r0, %r0, 1;
        $JOIN: activemask.b32 %r2; setp.eq.u32 %p2, %r2, -1; @%p2 add.u32 %r0, %r0, 1000;";
    let expected: Vec<u32> = (0..32).map(|t| if t < 10 { 1001 } else { 1100 }).collect();
    assert_eq!(run(body, 32), expected);
}

#[test]
fn every_lane_loops_as_often_as_it_wants() {
    let body = "
        mov.u32 %r0, 0; mov.u32 %r2, 0;
        $LOOP: setp.ge.u32 %p1, %r2, %r1; @%p1 bra $END;
        add.u32 %r0, %r0, %r2; add.u32 %r2, %r2, 1; bra $LOOP;
        $END:";
    let expected: Vec<u32> = (0..100_u32).map(|t| (0..t).sum()).collect();
    assert_eq!(run(body, 100), expected);
}

#[test]
fn threads_may_leave_early() {
    let body = "mov.u32 %r0, 7; setp.gt.u32 %p1, %r1, 3; @%p1 exit; @!%p1 add.u32 %r0, %r0, 1;";
    assert_eq!(run(body, 8), [8, 8, 8, 8, 0, 0, 0, 0]);
}

#[test]
fn indexed_branches_scatter_the_lanes() {
    let body = "
        and.b32 %r2, %r1, 3;
        ts: .branchtargets $A, $B, $C, $D;
        brx.idx %r2, ts;
        $A: mov.u32 %r0, 10; bra $J;
        $B: mov.u32 %r0, 11; bra $J;
        $C: mov.u32 %r0, 12; bra $J;
        $D: mov.u32 %r0, 13;
        $J:";
    let expected: Vec<u32> = (0..32).map(|t| 10 + t % 4).collect();
    assert_eq!(run(body, 32), expected);
}

#[test]
fn a_barrier_orders_shared_memory_between_warps() {
    for barrier in [
        "bar.sync 0;",
        "barrier.sync.aligned 0;",
        "bar.cta.sync 1;",
        "barrier.cta.sync 2;",
    ] {
        let body = format!(
            "shl.b32 %r2, %r1, 2; mov.u32 %r3, s; add.u32 %r2, %r2, %r3;
            mul.lo.u32 %r4, %r1, 3; st.shared.u32 [%r2], %r4;
            {barrier}
            sub.u32 %r5, 127, %r1; shl.b32 %r5, %r5, 2; ld.shared.u32 %r0, [s+4]; add.u32 %r5, %r5, %r3;
            ld.shared.u32 %r0, [%r5];"
        );
        let expected: Vec<u32> = (0..128).map(|t| (127 - t) * 3).collect();
        assert_eq!(run(&body, 128), expected, "{barrier}");
    }
}

#[test]
fn inner_scopes_hide_outer_registers() {
    let body = "mov.u32 %r0, 1; { .reg .b32 %r<2>; mov.u32 %r0, 9; mov.u32 %r1, 8; }";
    assert_eq!(run(body, 1), [1]);
}

#[test]
fn grids_of_three_dimensions_visit_every_thread_once() {
    let text = ".version 7.0 .target sm_60 .address_size 64
        .visible .entry k(.param .u64 out) .maxntid 64, 1, 1 .minnctapersm 2 {
            .reg .b32 %r<20>; .reg .b64 %rd<4>;
            mov.u32 %r0, %ctaid.z; mov.u32 %r1, %nctaid.y; mov.u32 %r2, %ctaid.y;
            mad.lo.u32 %r0, %r0, %r1, %r2; mov.u32 %r1, %nctaid.x; mov.u32 %r2, %ctaid.x;
            mad.lo.u32 %r0, %r0, %r1, %r2; mov.u32 %r1, %ntid.z; mov.u32 %r2, %tid.z;
            mad.lo.u32 %r0, %r0, %r1, %r2; mov.u32 %r1, %ntid.y; mov.u32 %r2, %tid.y;
            mad.lo.u32 %r0, %r0, %r1, %r2; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x;
            mad.lo.u32 %r0, %r0, %r1, %r2;
            ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r0, 4, %rd1;
            red.global.add.u32 [%rd1], 1; ret; }";
    let module = Module::parse(text).unwrap();
    let kernel = module.kernel("k").unwrap();
    assert_eq!(kernel.max_threads(), 64);
    let mut memory = HostMemory::new();
    let total = 2 * 3 * 4 * 5 * 2 * 3;
    let at = memory.alloc(&vec![0; total * 4]);
    let params = kernel.pack(&[at]).unwrap();
    let mut launch = Launch {
        grid: [2, 3, 4],
        block: [5, 2, 3],
        shared_bytes: 0,
        params: &params,
        global_base: 0,
        instruction_limit: DEFAULT_INSTRUCTION_LIMIT,
    };
    kernel.launch(&mut memory, &launch).unwrap();
    assert!(
        memory
            .bytes(at)
            .unwrap()
            .chunks_exact(4)
            .all(|c| c == [1, 0, 0, 0])
    );
    launch.block = [65, 1, 1];
    assert_eq!(kernel.launch(&mut memory, &launch).unwrap_err().code(), 1);
}

#[test]
fn refuses_control_it_does_not_know() {
    for (body, named) in [
        ("call foo;", "call"),
        ("bar.sync 0, 64;", "thread count"),
        ("bar.arrive 0, 64;", "thread count"),
        ("bar.red.popc.u32 %r0, 0, %p1;", "number of operands"),
        ("brkpt;", "brkpt"),
        ("bra $NOWHERE;", "$NOWHERE"),
        ("brx.idx %r1, nothing;", "nothing"),
        ("vote.ballot.b32 %r0, %p1;", ".ballot"),
        ("shfl.idx.b32 %r0, %r1, 0, 31;", ".idx"),
        ("vote.sync.none.pred %p0, %p1, -1;", ".none"),
        ("redux.sync.add.b32 %r0, %r1, -1;", ".b32"),
        ("elect.sync _|%p0, -1;", "elect"),
        ("L: L: mov.u32 %r0, 1;", "twice"),
        (".reg .b32 %x, %x;", "twice"),
        (".reg .f16 %x;", ".f16"),
        (".callprototype x;", "callprototype"),
    ] {
        let why = refusal(body);
        assert!(why.contains(named), "{body}: {why}");
    }
    for text in [
        "",
        ".version 7.0",
        ".version 7.0 .target sm_60 .address_size 32",
        ".version 7.0 .target sm_60 .func f() { ret; }",
        ".version 7.0 .target sm_60 .entry k() { ret;",
        ".version 7.0 .target sm_60 .entry k() .cluster { ret; }",
        ".version 7.0 .target sm_60 .entry k() { ret; } .entry k() { ret; }",
        ".version 7.0 .target sm_60 .const .b32 x[20000];",
        ".version 7.0 .target sm_60 .section .debug_info { }",
    ] {
        assert!(Module::parse(text).is_err(), "{text}");
    }
}
