//! Loads, stores and atomics in every state space.

use super::{eval, launch, longs, refusal, words};
use crate::ptx::{HostMemory, Launch, Module};

const M1: u64 = u64::MAX;

#[test]
fn loads_extend_by_type() {
    words(&[
        ("ld.global.u8 %r0, [%io];", [0x1ff, 0, 0], 0xff),
        ("ld.global.s8 %r0, [%io];", [0x80, 0, 0], 0xffff_ff80),
        ("ld.global.u16 %r0, [%io+2];", [0xabcd_0000, 0, 0], 0xabcd),
        ("ld.global.s16 %r0, [%io];", [0x8000, 0, 0], 0xffff_8000),
        ("ld.global.b32 %r0, [%io+8];", [0, 7, 0], 7),
        ("ld.global.nc.u32 %r0, [%io];", [6, 0, 0], 6),
        ("ld.global.cg.u32 %r0, [%io];", [6, 0, 0], 6),
        (
            "ld.global.nc.L1::no_allocate.L2::128B.u32 %r0, [%io];",
            [6, 0, 0],
            6,
        ),
        ("ld.volatile.global.u32 %r0, [%io];", [6, 0, 0], 6),
        ("ld.relaxed.gpu.global.u32 %r0, [%io];", [6, 0, 0], 6),
        ("ld.acquire.sys.global.u32 %r0, [%io];", [6, 0, 0], 6),
        ("ld.u32 %r0, [%io];", [6, 0, 0], 6),
        ("ld.global.v2.u32 {%r4, %r0}, [%io];", [5 << 32, 0, 0], 5),
        (
            "ld.global.v4.u32 {%r4, _, %r5, %r6}, [%io]; add.u32 %r0, %r4, %r6;",
            [1, 4 << 32, 0],
            5,
        ),
        (
            "ld.global.v4.u8 {%h4, %h5, %h6, %h7}, [%io]; cvt.u32.u16 %r0, %h7;",
            [0x0403_0201, 0, 0],
            4,
        ),
        (
            "ld.param.u32 %r0, [io+4]; shr.u32 %r0, %r0, 8;",
            [0, 0, 0],
            0x70,
        ),
    ]);
    longs(&[
        (
            "ld.global.s32 %rd0, [%io];",
            [0x8000_0000, 0, 0],
            0xffff_ffff_8000_0000,
        ),
        ("ld.global.v2.u64 {%rd4, %rd0}, [%io];", [1, M1, 0], M1),
    ]);
}

#[test]
fn stores_truncate() {
    longs(&[
        (
            "st.global.u8 [%io+1], %r2; ld.global.u64 %rd0, [%io];",
            [0, 0x1ab, 0],
            0xab00,
        ),
        (
            "st.global.u16 [%io+6], %r2; ld.global.u64 %rd0, [%io];",
            [0, 0x1_abcd, 0],
            0xabcd << 48,
        ),
        (
            "st.global.v2.u32 [%io], {%r2, %r3}; ld.global.u64 %rd0, [%io];",
            [9, 1, 2],
            0x2_0000_0001,
        ),
        (
            "st.global.v4.u32 [%io], {%r2, 7, %r2, %r3}; ld.global.u64 %rd0, [%io+8];",
            [9, 1, 2],
            0x2_0000_0001,
        ),
        (
            "st.global.wt.u64 [%io], 5; ld.global.u64 %rd0, [%io];",
            [0, 0, 0],
            5,
        ),
        (
            "st.release.gpu.global.u64 [%io], %rd2; ld.global.u64 %rd0, [%io];",
            [0, 3, 0],
            3,
        ),
    ]);
}

#[test]
fn shared_and_local_memory() {
    longs(&[
        (
            "st.shared.u64 [smem+8], %rd1; ld.shared.u64 %rd0, [smem+8];",
            [77, 0, 0],
            77,
        ),
        (
            "mov.u32 %r4, smem; st.shared.u64 [%r4], %rd1; ld.shared.u64 %rd0, [smem];",
            [78, 0, 0],
            78,
        ),
        (
            "mov.u64 %rd4, smem; cvta.shared.u64 %rd5, %rd4; st.u64 [%rd5+16], %rd1;
             cvta.to.shared.u64 %rd6, %rd5; ld.shared.u64 %rd0, [%rd6+16];",
            [79, 0, 0],
            79,
        ),
        (
            "st.local.u64 [stack+8], %rd1; ld.local.u64 %rd0, [stack+8];",
            [80, 0, 0],
            80,
        ),
        (
            "mov.u64 %rd4, stack; cvta.local.u64 %rd5, %rd4; st.u64 [%rd5], %rd1; ld.local.u64 %rd0, [%rd4];",
            [81, 0, 0],
            81,
        ),
        (
            "cvta.to.global.u64 %rd4, %io; ld.global.u64 %rd0, [%rd4];",
            [82, 0, 0],
            82,
        ),
        (
            "ld.shared.u64 %rd0, [smem];",
            [0, 0, 0],
            0xcdcd_cdcd_cdcd_cdcd,
        ),
    ]);
    assert!(
        eval(
            "cvta.shared.u64 %rd4, 0; isspacep.shared %p0, %rd4;",
            [0; 3]
        )
        .p
    );
    assert!(!eval("isspacep.shared %p0, %io;", [0; 3]).p);
    assert!(eval("isspacep.global %p0, %io;", [0; 3]).p);
    assert!(eval("cvta.local.u64 %rd4, 0; isspacep.local %p0, %rd4;", [0; 3]).p);
    assert!(eval("cvta.const.u64 %rd4, 0; isspacep.const %p0, %rd4;", [0; 3]).p);
}

#[test]
fn atomics_return_the_old_value() {
    let both = |op: &str| {
        format!(
            "atom.global.{op}; ld.global.u32 %r4, [%io]; shl.b32 %r4, %r4, 16; or.b32 %r0, %r0, %r4;"
        )
    };
    for (op, inputs, old, new) in [
        ("add.u32 %r0, [%io], %r2", [3, 4, 0], 3, 7),
        ("min.u32 %r0, [%io], %r2", [3, 4, 0], 3, 3),
        ("max.s32 %r0, [%io], %r2", [3, 4, 0], 3, 4),
        ("and.b32 %r0, [%io], %r2", [6, 3, 0], 6, 2),
        ("or.b32 %r0, [%io], %r2", [6, 3, 0], 6, 7),
        ("xor.b32 %r0, [%io], %r2", [6, 3, 0], 6, 5),
        ("exch.b32 %r0, [%io], %r2", [6, 3, 0], 6, 3),
        ("cas.b32 %r0, [%io], %r2, %r3", [6, 6, 9], 6, 9),
        ("cas.b32 %r0, [%io], %r2, %r3", [6, 5, 9], 6, 6),
        ("inc.u32 %r0, [%io], %r2", [6, 6, 0], 6, 0),
        ("inc.u32 %r0, [%io], %r2", [5, 6, 0], 5, 6),
        ("dec.u32 %r0, [%io], %r2", [0, 6, 0], 0, 6),
        ("dec.u32 %r0, [%io], %r2", [5, 6, 0], 5, 4),
    ] {
        assert_eq!(eval(&both(op), inputs).r, old | new << 16, "{op}");
    }
    words(&[
        (
            "atom.shared.exch.b32 %r4, [smem], %r1; atom.shared.add.u32 %r0, [smem], 1;",
            [41, 0, 0],
            41,
        ),
        (
            "atom.relaxed.gpu.global.add.u32 %r0, [%io], 1;",
            [41, 0, 0],
            41,
        ),
        ("atom.add.u32 %r0, [%io], 1;", [41, 0, 0], 41),
        (
            "red.global.add.u32 [%io], 1; ld.global.u32 %r0, [%io];",
            [41, 0, 0],
            42,
        ),
        (
            "red.relaxed.sys.global.or.b32 [%io], 4; ld.global.u32 %r0, [%io];",
            [1, 0, 0],
            5,
        ),
    ]);
    longs(&[
        (
            "atom.global.add.u64 %rd0, [%io], %rd2;",
            [1 << 40, 1, 0],
            1 << 40,
        ),
        (
            "atom.global.min.s64 %rd4, [%io], %rd2; ld.global.u64 %rd0, [%io];",
            [1, M1, 0],
            M1,
        ),
        (
            "atom.global.max.u64 %rd4, [%io], %rd2; ld.global.u64 %rd0, [%io];",
            [1, M1, 0],
            M1,
        ),
        (
            "atom.global.cas.b64 %rd4, [%io], 1, %rd2; ld.global.u64 %rd0, [%io];",
            [1, M1, 0],
            M1,
        ),
    ]);
}

#[test]
fn module_variables_have_their_initial_values() {
    let text = ".version 7.0 .target sm_60 .address_size 64
        .const .align 4 .b32 table[3] = {10, 0x20, 30};
        .global .align 8 .u64 counter = 7;
        .extern .shared .align 16 .b8 dynamic[];
        .visible .entry k(.param .u64 out) {
            .reg .b32 %r<4>; .reg .b64 %rd<9>;
            ld.param.u64 %rd1, [out];
            ld.const.u32 %r1, [table+4];
            mov.u64 %rd2, table; ld.const.u32 %r2, [%rd2+8]; add.u32 %r1, %r1, %r2;
            cvta.const.u64 %rd5, %rd2; ld.u32 %r2, [%rd5]; add.u32 %r1, %r1, %r2;
            mov.u64 %rd3, counter; ld.global.u64 %rd4, [%rd3]; ld.global.u64 %rd6, [counter];
            add.u64 %rd4, %rd4, %rd6; st.global.u64 [counter], %rd4;
            st.shared.u32 [dynamic+60], %r1; ld.shared.u32 %r3, [dynamic+60];
            st.global.u32 [%rd1], %r3;
            ret;
        }";
    let module = Module::parse(text).unwrap();
    let mut memory = HostMemory::new();
    let base = memory.alloc(module.global_image());
    let out = memory.alloc(&[0; 4]);
    let kernel = module.kernel("k").unwrap();
    let params = kernel.pack(&[out]).unwrap();
    let launch = Launch {
        grid: [1; 3],
        block: [1; 3],
        shared_bytes: 64,
        params: &params,
        global_base: base,
        instruction_limit: 100,
    };
    kernel.launch(&mut memory, &launch).unwrap();
    assert_eq!(memory.bytes(out).unwrap(), 72_u32.to_le_bytes());
    assert_eq!(memory.bytes(base).unwrap(), 14_u64.to_le_bytes());
}

#[test]
fn parameters_keep_their_layout() {
    let text = ".version 7.0 .target sm_60 .address_size 64
        .visible .entry k(.param .u8 a, .param .u64 .ptr .global .align 4 out, .param .align 8 .b8 s[12]) {
            .reg .b32 %r<4>; .reg .b64 %rd<9>;
            ld.param.u64 %rd1, [out]; ld.param.u32 %r1, [s+8]; ld.param.u8 %r2, [a];
            add.u32 %r1, %r1, %r2; st.global.u32 [%rd1], %r1; ret;
        }";
    let module = Module::parse(text).unwrap();
    assert_eq!(
        module.kernel("k").unwrap().params(),
        [(0, 1), (8, 8), (16, 12)]
    );
    assert_eq!(module.kernel("k").unwrap().param_bytes(), 28);
}

#[test]
fn fences_and_prefetches_are_accepted() {
    for body in [
        "membar.gl;",
        "membar.cta;",
        "fence.acq_rel.gpu;",
        "fence.sc.cta;",
        "prefetch.global.L2 [%io];",
        "nanosleep.u32 100;",
        "bar.warp.sync -1;",
    ] {
        assert_eq!(
            eval(&format!("{body} mov.u32 %r0, 3;"), [0; 3]).r,
            3,
            "{body}"
        );
    }
}

#[test]
fn refuses_memory_forms_it_does_not_know() {
    for (body, named) in [
        ("ld.global.f64 %r0, [%io];", "narrower"),
        ("ld.global.u64 %r0, [%io];", "narrower"),
        ("ld.global.v4.u64 {%rd4,%rd5,%rd6,%rd7}, [%io];", ".u64"),
        ("ld.global.v2.u32 %r0, [%io];", "number of operands"),
        ("ld.shared.nc.u32 %r0, [smem];", "nc"),
        ("ld.relaxed.global.u32 %r0, [%io];", ".global"),
        ("ld.global.u32 %r0, [%r1];", "width"),
        ("ld.global.u32 %r0, [smem];", "not an address in this space"),
        ("ld.global.b128 %rd0, [%io];", ".b128"),
        ("st.param.u32 [io], %r0;", "st.param"),
        ("st.const.u32 [%io], %r0;", "st.const"),
        ("atom.global.add.f32 %r0, [%io], %r1;", ".f32"),
        ("atom.global.cas.u32 %r0, [%io], %r1, %r2;", ".u32"),
        ("atom.local.add.u32 %r0, [stack], %r1;", "add"),
        ("red.global.cas.b32 [%io], %r1, %r2;", "number of operands"),
        ("cp.async.ca.shared.global [smem], [%io], 16;", "cp.async"),
        ("fence.proxy.async;", ".proxy"),
        ("membar.proxy;", ".proxy"),
        ("prefetch.local.L1 [stack];", "L1"),
        ("tex.1d.v4.f32.s32 {%r0}, [%io];", "tex.1d"),
    ] {
        let why = refusal(body);
        assert!(why.contains(named), "{body}: {why}");
    }
}

#[test]
fn what_was_written_before_a_fault_stays_written() {
    let text = ".version 7.0 .target sm_60 .address_size 64
        .visible .entry k(.param .u64 p) { .reg .b64 %rd<3>;
          ld.param.u64 %rd1, [p]; st.global.u32 [%rd1], 5; st.global.u32 [%rd1+8], 6; ret; }";
    let mut memory = HostMemory::new();
    let at = memory.alloc(&[0; 8]);
    assert_eq!(launch(text, &mut memory, &[at], 1).unwrap_err().code(), 700);
    assert_eq!(memory.bytes(at).unwrap(), [5, 0, 0, 0, 0, 0, 0, 0]);
}
