//! Logic, shifts, fields, permutes, comparisons, conversions.

use super::{halves, longs, preds, refusal, words};

const M1: u64 = u64::MAX;

#[test]
fn logic() {
    words(&[
        ("and.b32 %r0, %r1, %r2;", [0b1100, 0b1010, 0], 0b1000),
        ("or.b32 %r0, %r1, 3;", [0b1100, 0, 0], 0b1111),
        ("xor.b32 %r0, %r1, %r2;", [0b1100, 0b1010, 0], 0b0110),
        ("not.b32 %r0, %r1;", [0xf0, 0, 0], 0xffff_ff0f),
        ("cnot.b32 %r0, %r1;", [0, 0, 0], 1),
        ("cnot.b32 %r0, %r1;", [9, 0, 0], 0),
        (
            "lop3.b32 %r0, %r1, %r2, %r3, 0x96;",
            [0b1111_0000, 0b1100_1100, 0b1010_1010],
            0b1001_0110,
        ),
        (
            "lop3.b32 %r0, %r1, %r2, %r3, 0xe8;",
            [0b1111_0000, 0b1100_1100, 0b1010_1010],
            0xe8,
        ),
        (
            "lop3.b32 %r0, %r1, %r2, %r3, 0xca;",
            [0b1111_0000, 0b1100_1100, 0b1010_1010],
            0xca,
        ),
        (
            "lop3.b32 %r0, %r1, %r2, %r3, 0x1b;",
            [0xf0, 0xcc, 0xaa],
            0xffff_ff1b,
        ),
        (
            "lop3.b32 %r0, %r1, %r2, %r3, 0x40;",
            [0xf0, 0xcc, 0xaa],
            0x40,
        ),
    ]);
    longs(&[
        ("and.b64 %rd0, %rd1, -256;", [0x1234, 0, 0], 0x1200),
        ("xor.b64 %rd0, %rd1, %rd2;", [M1, 1, 0], M1 - 1),
        ("not.b64 %rd0, %rd1;", [0, 0, 0], M1),
    ]);
    halves(&[
        ("or.b16 %h0, %h1, %h2;", [1, 2, 0], 3),
        ("and.b16 %h0, %h1, 255;", [0x1234, 0, 0], 0x34),
    ]);
    preds(&[
        ("and.pred %p0, %p1, %p2;", [1, 0, 0], false),
        ("or.pred %p0, %p1, %p2;", [1, 0, 0], true),
        ("xor.pred %p0, %p1, %p2;", [1, 1, 0], false),
        ("not.pred %p0, %p1;", [0, 0, 0], true),
        ("mov.pred %p0, %p1;", [1, 0, 0], true),
    ]);
}

#[test]
fn shifts_clamp_and_funnels_wrap() {
    words(&[
        ("shl.b32 %r0, %r1, %r2;", [1, 31, 0], 0x8000_0000),
        ("shl.b32 %r0, %r1, %r2;", [1, 32, 0], 0),
        ("shr.u32 %r0, %r1, %r2;", [0x8000_0000, 31, 0], 1),
        ("shr.u32 %r0, %r1, %r2;", [M1, 40, 0], 0),
        ("shr.s32 %r0, %r1, 40;", [0x8000_0000, 0, 0], 0xffff_ffff),
        ("shr.b32 %r0, %r1, 4;", [0x8000_0000, 0, 0], 0x0800_0000),
        (
            "shf.l.wrap.b32 %r0, %r1, %r2, %r3;",
            [0x8000_0001, 0x4000_0000, 1],
            0x8000_0001,
        ),
        ("shf.l.wrap.b32 %r0, %r1, %r2, 32;", [0xa, 0xb, 0], 0xb),
        ("shf.l.clamp.b32 %r0, %r1, %r2, 40;", [0xa, 0xb, 0], 0xa),
        (
            "shf.r.wrap.b32 %r0, %r1, %r2, %r3;",
            [0x2, 0x1, 1],
            0x8000_0001,
        ),
        (
            "shf.r.wrap.b32 %r0, %r1, %r1, 8;",
            [0x1234_5678, 0, 0],
            0x7812_3456,
        ),
        ("shf.r.clamp.b32 %r0, %r1, %r2, 33;", [0xa, 0xb, 0], 0xb),
    ]);
    longs(&[
        ("shl.b64 %rd0, %rd1, %r2;", [1, 63, 0], 1 << 63),
        ("shl.b64 %rd0, %rd1, 64;", [1, 0, 0], 0),
        ("shr.u64 %rd0, %rd1, 60;", [M1, 0, 0], 15),
        ("shr.s64 %rd0, %rd1, 99;", [1 << 63, 0, 0], M1),
    ]);
    halves(&[
        ("shl.b16 %h0, %h1, 15;", [3, 0, 0], 0x8000),
        ("shr.u16 %h0, %h1, %r2;", [0x8000, 15, 0], 1),
        ("shr.s16 %h0, %h1, 20;", [0x8000, 0, 0], 0xffff),
    ]);
}

#[test]
fn permute() {
    let ab = [0x3322_1100, 0x7766_5544];
    words(&[
        (
            "prmt.b32 %r0, %r1, %r2, 0x0123;",
            [ab[0], ab[1], 0],
            0x0011_2233,
        ),
        (
            "prmt.b32 %r0, %r1, %r2, 0x7531;",
            [ab[0], ab[1], 0],
            0x7755_3311,
        ),
        (
            "prmt.b32 %r0, %r1, %r2, %r3;",
            [0x80, 0x7f00, 0xd8],
            0x0000_00ff | 0x8080_0000,
        ),
        (
            "prmt.b32.f4e %r0, %r1, %r2, 3;",
            [ab[0], ab[1], 0],
            0x6655_4433,
        ),
        (
            "prmt.b32.b4e %r0, %r1, %r2, 1;",
            [ab[0], ab[1], 0],
            0x6677_0011,
        ),
        (
            "prmt.b32.rc8 %r0, %r1, %r2, 2;",
            [ab[0], ab[1], 0],
            0x2222_2222,
        ),
        (
            "prmt.b32.ecl %r0, %r1, %r2, 2;",
            [ab[0], ab[1], 0],
            0x3322_2222,
        ),
        (
            "prmt.b32.ecr %r0, %r1, %r2, 1;",
            [ab[0], ab[1], 0],
            0x1111_1100,
        ),
        (
            "prmt.b32.rc16 %r0, %r1, %r2, 1;",
            [ab[0], ab[1], 0],
            0x3322_3322,
        ),
    ]);
}

#[test]
fn counts_and_fields() {
    words(&[
        ("popc.b32 %r0, %r1;", [0xf0f0, 0, 0], 8),
        ("popc.b64 %r0, %rd1;", [M1, 0, 0], 64),
        ("clz.b32 %r0, %r1;", [1, 0, 0], 31),
        ("clz.b64 %r0, %rd1;", [0, 0, 0], 64),
        ("bfind.u32 %r0, %r1;", [0x100, 0, 0], 8),
        ("bfind.u32 %r0, %r1;", [0, 0, 0], 0xffff_ffff),
        ("bfind.s32 %r0, %r1;", [M1, 0, 0], 0xffff_ffff),
        ("bfind.s32 %r0, %r1;", [0xffff_fff0, 0, 0], 3),
        ("bfind.shiftamt.u32 %r0, %r1;", [0x100, 0, 0], 23),
        ("bfind.u64 %r0, %rd1;", [1 << 40, 0, 0], 40),
        ("brev.b32 %r0, %r1;", [1, 0, 0], 0x8000_0000),
        ("bfe.u32 %r0, %r1, 8, 8;", [0x1234_5678, 0, 0], 0x56),
        ("bfe.s32 %r0, %r1, 4, 4;", [0x80, 0, 0], 0xffff_fff8),
        ("bfe.u32 %r0, %r1, 28, 8;", [0xf000_0000, 0, 0], 0xf),
        ("bfe.s32 %r0, %r1, 28, 8;", [0xf000_0000, 0, 0], 0xffff_ffff),
        ("bfe.u32 %r0, %r1, 0, 32;", [0x1234_5678, 0, 0], 0x1234_5678),
        ("bfe.s32 %r0, %r1, 4, 0;", [M1, 0, 0], 0),
        ("bfe.s32 %r0, %r1, 40, 4;", [0x8000_0000, 0, 0], 0xffff_ffff),
        ("bfe.u32 %r0, %r1, 40, 4;", [0x8000_0000, 0, 0], 0),
        (
            "bfi.b32 %r0, %r1, %r2, 8, 8;",
            [0xab, 0x1122_3344, 0],
            0x1122_ab44,
        ),
        ("bfi.b32 %r0, %r1, %r2, 28, 8;", [0xab, 0, 0], 0xb000_0000),
        ("bfi.b32 %r0, %r1, %r2, 4, 0;", [M1, 7, 0], 7),
    ]);
    longs(&[
        ("brev.b64 %rd0, %rd1;", [1, 0, 0], 1 << 63),
        ("bfe.u64 %rd0, %rd1, 36, 8;", [0xab << 36, 0, 0], 0xab),
        ("bfe.s64 %rd0, %rd1, 60, 8;", [1 << 63, 0, 0], M1 - 7),
        (
            "bfi.b64 %rd0, %rd1, %rd2, 32, 8;",
            [0xab, M1, 0],
            0xffff_ffab_ffff_ffff,
        ),
    ]);
}

#[test]
fn comparisons() {
    preds(&[
        ("setp.eq.u32 %p0, %r1, %r2;", [5, 5, 0], true),
        ("setp.ne.b32 %p0, %r1, %r2;", [5, 5, 0], false),
        ("setp.lt.u32 %p0, %r1, %r2;", [M1, 1, 0], false),
        ("setp.lt.s32 %p0, %r1, %r2;", [M1, 1, 0], true),
        ("setp.le.s32 %p0, %r1, -1;", [M1, 0, 0], true),
        ("setp.gt.u32 %p0, %r1, %r2;", [M1, 1, 0], true),
        ("setp.ge.u64 %p0, %rd1, %rd2;", [1 << 40, 1 << 40, 0], true),
        ("setp.lo.u32 %p0, %r1, %r2;", [1, M1, 0], true),
        ("setp.ls.u32 %p0, %r1, %r2;", [2, 1, 0], false),
        ("setp.hi.u32 %p0, %r1, %r2;", [2, 1, 0], true),
        ("setp.hs.u64 %p0, %rd1, %rd2;", [0, 1, 0], false),
        ("setp.gt.s64 %p0, %rd1, -1;", [0, 0, 0], true),
        ("setp.eq.s16 %p0, %h1, 0;", [0x1_0000, 0, 0], true),
        ("setp.lt.and.u32 %p0, %r1, %r2, %p3;", [1, 2, 0], false),
        ("setp.lt.or.u32 %p0, %r1, %r2, !%p3;", [2, 1, 0], true),
        ("setp.lt.xor.u32 %p0, %r1, %r2, %p3;", [1, 2, 1], false),
        ("setp.lt.u32 %p4|%p0, %r1, %r2;", [1, 2, 0], false),
        ("setp.lt.and.u32 %p4|%p0, %r1, %r2, %p3;", [2, 1, 1], true),
        (
            "setp.lt.f32 %p0, %r1, 0f00000000;",
            [0xbf80_0000, 0, 0],
            true,
        ),
        ("setp.ne.f32 %p0, %r1, %r1;", [0x7fc0_0000, 0, 0], false),
    ]);
    words(&[
        ("set.lt.u32.s32 %r0, %r1, %r2;", [M1, 0, 0], 0xffff_ffff),
        ("set.eq.s32.u64 %r0, %rd1, %rd2;", [1 << 32, 0, 0], 0),
        (
            "set.eq.and.u32.u32 %r0, %r1, 0, %p2;",
            [0, 1, 0],
            0xffff_ffff,
        ),
        ("selp.b32 %r0, %r1, %r2, %p3;", [7, 8, 1], 7),
        ("selp.u32 %r0, %r1, %r2, !%p3;", [7, 8, 1], 8),
        ("slct.b32.s32 %r0, %r1, %r2, %r3;", [7, 8, M1], 8),
        ("slct.u32.s32 %r0, %r1, %r2, %r3;", [7, 8, 0], 7),
    ]);
    longs(&[("selp.b64 %rd0, %rd1, %rd2, %p3;", [7, 8, 0], 8)]);
    halves(&[("selp.b16 %h0, %h1, %h2, %p3;", [7, 8, 0], 8)]);
}

#[test]
fn conversions_extend_truncate_and_saturate() {
    words(&[
        ("cvt.u32.u64 %r0, %rd1;", [0x1_2345_6789, 0, 0], 0x2345_6789),
        ("cvt.u32.u16 %r0, %h1;", [0xffff, 0, 0], 0xffff),
        ("cvt.s32.s16 %r0, %h1;", [0xffff, 0, 0], 0xffff_ffff),
        ("cvt.u32.u8 %r0, %r1;", [0x1ff, 0, 0], 0xff),
        ("cvt.s32.s8 %r0, %r1;", [0x80, 0, 0], 0xffff_ff80),
        ("cvt.u16.u32 %r0, %r1;", [0x1_8000, 0, 0], 0x8000),
        ("cvt.s16.s32 %r0, %r1;", [0x1_8000, 0, 0], 0xffff_8000),
        ("cvt.sat.u8.s32 %r0, %r1;", [M1, 0, 0], 0),
        ("cvt.sat.u8.u32 %r0, %r1;", [300, 0, 0], 255),
        ("cvt.sat.s32.s64 %r0, %rd1;", [1 << 40, 0, 0], 0x7fff_ffff),
        ("cvt.sat.s32.s64 %r0, %rd1;", [1 << 63, 0, 0], 0x8000_0000),
    ]);
    longs(&[
        ("cvt.u64.u32 %rd0, %r1;", [M1, 0, 0], 0xffff_ffff),
        ("cvt.s64.s32 %rd0, %r1;", [M1, 0, 0], M1),
        ("cvt.u64.u16 %rd0, %h1;", [0xffff, 0, 0], 0xffff),
        ("cvt.s64.s8 %rd0, %h1;", [0x80, 0, 0], M1 - 127),
        ("cvt.u64.u32 %rd0, %ntid.x;", [0, 0, 0], 1),
    ]);
    halves(&[
        ("cvt.u16.u32 %h0, %r1;", [0x1_2345, 0, 0], 0x2345),
        ("cvt.u16.u8 %h0, %h1;", [0xfff, 0, 0], 0xff),
        ("cvt.s16.s8 %h0, %h1;", [0x80, 0, 0], 0xff80),
    ]);
}

#[test]
fn moves_pack_and_unpack() {
    words(&[
        ("mov.u32 %r0, %r1;", [9, 0, 0], 9),
        ("mov.b32 %r0, {%h1, %h2};", [0x1111, 0x2222, 0], 0x2222_1111),
        (
            "mov.b64 {%r0, %r4}, %rd1;",
            [0x1111_2222_3333_4444, 0, 0],
            0x3333_4444,
        ),
        (
            "mov.b64 {_, %r0}, %rd1;",
            [0x1111_2222_3333_4444, 0, 0],
            0x1111_2222,
        ),
        (
            "mov.b32 {%h4, %h5}, %r1; cvt.u32.u16 %r0, %h5;",
            [0xaaaa_bbbb, 0, 0],
            0xaaaa,
        ),
        ("mov.u32 %r0, WARP_SZ;", [0, 0, 0], 32),
        ("mov.f32 %r0, 0f3F800000;", [0, 0, 0], 0x3f80_0000),
    ]);
    longs(&[
        (
            "mov.b64 %rd0, {%r1, %r2};",
            [0x1111, 0x2222, 0],
            0x2222_0000_1111,
        ),
        (
            "mov.b64 %rd0, {%h1, %h2, %h3, %h1};",
            [1, 2, 3],
            0x0001_0003_0002_0001,
        ),
        ("mov.u64 %rd0, -1;", [0, 0, 0], M1),
    ]);
    halves(&[("mov.u16 %h0, %h1;", [77, 0, 0], 77)]);
}

#[test]
fn refuses_unknown_forms() {
    for (body, named) in [
        ("and.u32 %r0, %r1, %r2;", ".u32"),
        ("shl.u32 %r0, %r1, %r2;", ".u32"),
        ("shf.l.b32 %r0, %r1, %r2, 3;", ".b32"),
        ("prmt.b32.f5e %r0, %r1, %r2, 3;", ".f5e"),
        ("lop3.b32 %r0, %r1, %r2, %r3, 256;", "8 bits"),
        ("lop3.or.b32 %p0|%r0, %r1, %r2, %r3, 1, %p1;", ".or"),
        ("setp.lt.b32 %p0, %r1, %r2;", ".b32"),
        ("setp.lo.s32 %p0, %r1, %r2;", ".s32"),
        ("setp.ltu.f32 %p0, %r1, %r2;", ".ltu"),
        ("setp.lt.and.u32 %p0, %r1, %r2;", "number of operands"),
        ("cvt.rn.f32.u32 %r0, %r1;", ".rn"),
        ("cvt.u64.u32 %r0, %r1;", "narrower"),
        ("mov.b64 %rd0, {%r1, %h1};", "width"),
        ("mov.b128 %rd0, %rd1;", ".b128"),
        ("mov.u32 %r0, %clock;", "%clock"),
        ("mov.pred %r0, %p1;", "predicate"),
    ] {
        let why = refusal(body);
        assert!(why.contains(named), "{body}: {why}");
    }
}
