//! Integer arithmetic, carries, wide products, floats.

use super::{eval, halves, longs, refusal, words};

const M1: u64 = u64::MAX;
const MIN32: u64 = 0x8000_0000;

#[test]
fn add_and_sub_wrap() {
    words(&[
        ("add.u32 %r0, %r1, %r2;", [0xffff_ffff, 2, 0], 1),
        ("add.s32 %r0, %r1, -3;", [1, 0, 0], 0xffff_fffe),
        ("sub.u32 %r0, %r1, %r2;", [1, 2, 0], 0xffff_ffff),
        ("sub.s32 %r0, 5, %r2;", [0, 7, 0], 0xffff_fffe),
    ]);
    longs(&[
        ("add.u64 %rd0, %rd1, %rd2;", [M1, 2, 0], 1),
        ("add.s64 %rd0, %rd1, -16;", [8, 0, 0], M1 - 7),
        ("sub.s64 %rd0, %rd1, %rd2;", [0, 1, 0], M1),
        ("sub.u64 %rd0, %rd1, %rd2;", [9, 4, 0], 5),
    ]);
    halves(&[
        ("add.s16 %h0, %h1, %h2;", [0xffff, 3, 0], 2),
        ("sub.u16 %h0, %h1, %h2;", [0, 1, 0], 0xffff),
    ]);
}

#[test]
fn multiply() {
    words(&[
        (
            "mul.lo.u32 %r0, %r1, %r2;",
            [0x1_0001, 0x1_0001, 0],
            0x0002_0001,
        ),
        ("mul.lo.s32 %r0, %r1, %r2;", [M1, 7, 0], 0xffff_fff9),
        ("mul.hi.u32 %r0, %r1, %r2;", [M1, M1, 0], 0xffff_fffe),
        ("mul.hi.s32 %r0, %r1, %r2;", [M1, M1, 0], 0),
        ("mul.hi.s32 %r0, %r1, %r2;", [MIN32, 4, 0], 0xffff_fffe),
        (
            "mul.wide.u16 %r0, %h1, %h2;",
            [0xffff, 0xffff, 0],
            0xfffe_0001,
        ),
        ("mul.wide.s16 %r0, %h1, %h2;", [0xffff, 2, 0], 0xffff_fffe),
        ("mad.lo.u32 %r0, %r1, %r2, %r3;", [3, 5, 7], 22),
        ("mad.lo.s32 %r0, %r1, -2, 1;", [4, 0, 0], 0xffff_fff9),
        ("mad.hi.u32 %r0, %r1, %r2, %r3;", [M1, M1, 3], 1),
        ("mad.hi.s32 %r0, %r1, %r2, %r3;", [MIN32, 4, 1], 0xffff_ffff),
        (
            "mad.wide.u16 %r0, %h1, %h2, %r3;",
            [0xffff, 0xffff, 1],
            0xfffe_0002,
        ),
        (
            "mad.wide.s16 %r0, %h1, %h2, %r3;",
            [0xffff, 2, 1],
            0xffff_ffff,
        ),
        ("mul24.lo.u32 %r0, %r1, %r2;", [0xff00_0003, 5, 0], 15),
        (
            "mul24.lo.s32 %r0, %r1, %r2;",
            [0x00ff_ffff, 5, 0],
            0xffff_fffb,
        ),
        (
            "mul24.hi.u32 %r0, %r1, %r2;",
            [0xff_ffff, 0xff_ffff, 0],
            0xffff_fe00,
        ),
        (
            "mul24.hi.s32 %r0, %r1, %r2;",
            [0xff_ffff, 1, 0],
            0xffff_ffff,
        ),
        ("mad24.lo.u32 %r0, %r1, %r2, %r3;", [0xff00_0003, 5, 2], 17),
        ("mad24.hi.s32 %r0, %r1, %r2, %r3;", [0xff_ffff, 1, 1], 0),
    ]);
    longs(&[
        (
            "mul.wide.u32 %rd0, %r1, %r2;",
            [M1, M1, 0],
            0xffff_fffe_0000_0001,
        ),
        ("mul.wide.s32 %rd0, %r1, %r2;", [M1, 5, 0], M1 - 4),
        (
            "mad.wide.u32 %rd0, %r1, %r2, %rd3;",
            [M1, M1, M1],
            0xffff_fffe_0000_0000,
        ),
        ("mad.wide.s32 %rd0, %r1, 4, %rd3;", [M1, 0, 100], 96),
        ("mul.lo.u64 %rd0, %rd1, %rd2;", [1 << 33, 3 << 31, 0], 0),
        ("mul.lo.s64 %rd0, %rd1, %rd2;", [M1, 3, 0], M1 - 2),
        ("mul.hi.u64 %rd0, %rd1, %rd2;", [M1, M1, 0], M1 - 1),
        ("mul.hi.s64 %rd0, %rd1, %rd2;", [M1, M1, 0], 0),
        ("mad.lo.u64 %rd0, %rd1, %rd2, %rd3;", [M1, 2, 5], 3),
        ("mad.lo.s64 %rd0, %rd1, %rd2, %rd3;", [2, 3, 4], 10),
        ("mad.hi.u64 %rd0, %rd1, %rd2, %rd3;", [M1, 2, 5], 6),
    ]);
    halves(&[
        ("mul.lo.u16 %h0, %h1, %h2;", [0x101, 0x101, 0], 0x0201),
        ("mul.hi.u16 %h0, %h1, %h2;", [0xffff, 0xffff, 0], 0xfffe),
        ("mul.hi.s16 %h0, %h1, %h2;", [0xffff, 1, 0], 0xffff),
        ("mad.lo.u16 %h0, %h1, %h2, %h3;", [2, 3, 4], 10),
    ]);
}

#[test]
fn carries_travel_through_the_flag() {
    words(&[
        (
            "add.cc.u32 %r4, %r1, %r2; addc.u32 %r0, 0, 0;",
            [M1, 1, 0],
            1,
        ),
        (
            "add.cc.u32 %r4, %r1, %r2; addc.u32 %r0, 0, 0;",
            [1, 1, 0],
            0,
        ),
        (
            "add.cc.s32 %r4, %r1, 1; addc.cc.u32 %r4, %r1, 0; addc.u32 %r0, 7, 0;",
            [M1, 0, 0],
            8,
        ),
        (
            "sub.cc.u32 %r4, %r1, %r2; subc.u32 %r0, 5, 0;",
            [0, 1, 0],
            4,
        ),
        (
            "sub.cc.u32 %r4, %r1, %r2; subc.cc.u32 %r4, 0, 0; subc.u32 %r0, 9, 0;",
            [0, 1, 0],
            8,
        ),
        (
            "mad.lo.cc.u32 %r4, %r1, %r2, %r3; madc.hi.u32 %r0, %r1, %r2, 0;",
            [M1, M1, M1],
            0xffff_ffff,
        ),
        (
            "mad.hi.cc.u32 %r4, %r1, %r2, %r3; addc.u32 %r0, 0, 0;",
            [M1, M1, 2],
            1,
        ),
        (
            "add.cc.u32 %r4, %r1, 1; madc.lo.cc.u32 %r4, %r1, 1, 0; madc.lo.u32 %r0, 2, 3, 0;",
            [M1, 0, 0],
            7,
        ),
    ]);
    longs(&[
        (
            "add.cc.u64 %rd4, %rd1, %rd2; addc.u64 %rd0, 0, 0;",
            [M1, 1, 0],
            1,
        ),
        (
            "sub.cc.u64 %rd4, %rd1, %rd2; subc.u64 %rd0, 0, 0;",
            [0, 1, 0],
            M1,
        ),
        (
            "mad.lo.cc.u64 %rd4, %rd1, %rd2, %rd3; madc.hi.u64 %rd0, %rd1, %rd2, 0;",
            [M1, M1, M1],
            M1,
        ),
    ]);
    // Plain arithmetic leaves the flag alone; a guarded-off chain does too.
    words(&[
        (
            "add.cc.u32 %r4, %r1, 1; add.u32 %r4, 1, 1; addc.u32 %r0, 0, 0;",
            [M1, 0, 0],
            1,
        ),
        (
            "add.cc.u32 %r4, %r1, 1; @%p3 add.cc.u32 %r4, 1, 1; addc.u32 %r0, 0, 0;",
            [M1, 0, 0],
            1,
        ),
    ]);
}

#[test]
fn divide_min_max_abs_neg_sad() {
    words(&[
        ("div.u32 %r0, %r1, %r2;", [100, 7, 0], 14),
        ("div.s32 %r0, %r1, %r2;", [M1 - 99, 7, 0], 0xffff_fff2),
        ("div.s32 %r0, %r1, %r2;", [MIN32, M1, 0], 0x8000_0000),
        ("div.u32 %r0, %r1, %r2;", [5, 0, 0], 0xffff_ffff),
        ("rem.u32 %r0, %r1, %r2;", [100, 7, 0], 2),
        ("rem.s32 %r0, %r1, %r2;", [M1 - 99, 7, 0], 0xffff_fffe),
        ("min.u32 %r0, %r1, %r2;", [M1, 3, 0], 3),
        ("min.s32 %r0, %r1, %r2;", [M1, 3, 0], 0xffff_ffff),
        ("max.u32 %r0, %r1, %r2;", [M1, 3, 0], 0xffff_ffff),
        ("max.s32 %r0, %r1, %r2;", [M1, 3, 0], 3),
        ("neg.s32 %r0, %r1;", [5, 0, 0], 0xffff_fffb),
        ("abs.s32 %r0, %r1;", [M1 - 4, 0, 0], 5),
        ("abs.s32 %r0, %r1;", [MIN32, 0, 0], 0x8000_0000),
        ("sad.u32 %r0, %r1, %r2, %r3;", [3, 10, 1], 8),
        ("sad.s32 %r0, %r1, %r2, %r3;", [M1, 10, 1], 12),
        (
            "dp4a.u32.u32 %r0, %r1, %r2, %r3;",
            [0x0403_0201, 0xff01_0101, 5],
            1 + 2 + 3 + 4 * 255 + 5,
        ),
        (
            "dp4a.s32.s32 %r0, %r1, %r2, %r3;",
            [0x0403_0201, 0xff01_0101, 5],
            7,
        ),
    ]);
    longs(&[
        ("div.u64 %rd0, %rd1, %rd2;", [M1, 2, 0], M1 >> 1),
        ("div.s64 %rd0, %rd1, %rd2;", [M1 - 8, 3, 0], M1 - 2),
        ("rem.u64 %rd0, %rd1, %rd2;", [M1, 10, 0], 5),
        ("rem.s64 %rd0, %rd1, 0;", [77, 0, 0], 77),
        ("min.u64 %rd0, %rd1, %rd2;", [M1, 3, 0], 3),
        ("max.s64 %rd0, %rd1, %rd2;", [M1, 3, 0], 3),
        ("neg.s64 %rd0, %rd1;", [1, 0, 0], M1),
        ("abs.s64 %rd0, %rd1;", [M1, 0, 0], 1),
    ]);
    halves(&[
        ("min.s16 %h0, %h1, %h2;", [0xffff, 3, 0], 0xffff),
        ("max.u16 %h0, %h1, %h2;", [0xffff, 3, 0], 0xffff),
        ("div.u16 %h0, %h1, %h2;", [100, 9, 0], 11),
        ("rem.u16 %h0, %h1, %h2;", [100, 9, 0], 1),
        ("neg.s16 %h0, %h1;", [1, 0, 0], 0xffff),
    ]);
}

#[test]
fn single_floats_round_to_nearest() {
    let f = |v: f32| u64::from(v.to_bits());
    let all: [(&str, [u64; 3], f32); 6] = [
        ("add.f32 %r0, %r1, %r2;", [f(0.1), f(0.2), 0], 0.1 + 0.2),
        ("add.rn.f32 %r0, %r1, %r2;", [f(1e8), f(1.0), 0], 1e8 + 1.0),
        ("sub.f32 %r0, %r1, %r2;", [f(0.3), f(0.1), 0], 0.3 - 0.1),
        ("mul.f32 %r0, %r1, 0f3F000000;", [f(3.0), 0, 0], 1.5),
        ("mul.rn.f32 %r0, %r1, %r2;", [f(0.1), f(0.1), 0], 0.1 * 0.1),
        (
            "fma.rn.f32 %r0, %r1, %r2, %r3;",
            [f(0.1), f(10.0), f(-1.0)],
            0.1_f32.mul_add(10.0, -1.0),
        ),
    ];
    for (body, inputs, expected) in all {
        assert_eq!(eval(body, inputs).r, expected.to_bits(), "{body}");
    }
}

#[test]
fn refuses_what_arithmetic_does_not_have() {
    for (body, named) in [
        ("add.sat.s32 %r0, %r1, %r2;", ".sat"),
        ("add.f64 %rd0, %rd1, %rd2;", ".f64"),
        ("add.b32 %r0, %r1, %r2;", ".b32"),
        ("mul.u32 %r0, %r1, %r2;", "mul.u32"),
        ("mad.lo.sat.s32 %r0, %r1, %r2, %r3;", ".sat"),
        ("mul.wide.u64 %rd0, %rd1, %rd2;", ".u64"),
        ("fma.f32 %r0, %r1, %r2, %r3;", "fma.f32"),
        ("fma.rn.ftz.f32 %r0, %r1, %r2, %r3;", ".ftz"),
        ("add.u32 %r0, %r1;", "number of operands"),
        ("add.u32 %r0, %r1, %rd2;", "width"),
        ("add.u32 %r0, %r1, %clock;", "%clock"),
        ("sqrt.rn.f32 %r0, %r1;", "sqrt.rn.f32"),
        ("add.u32.x %r0, %r1, %r2;", ".x"),
    ] {
        let why = refusal(body);
        assert!(why.contains(named), "{body}: {why}");
    }
}
