//! What every instruction means, one case per line, and how a launch can fail.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

mod arith;
mod bits;
mod faults;
mod flow;
mod memory;
mod warp;

use crate::ptx::{DEFAULT_INSTRUCTION_LIMIT, Fault, HostMemory, Launch, Module};

/// Registers that the wrapper fills: `%r1..3`, `%rd1..3`, `%h1..3` hold the low
/// bits of the inputs, `%p1..3` whether they are not zero. The results are
/// `%r0`, `%rd0`, `%h0` and `%p0`, each stored as 64 bits.
const WRAPPER: (&str, &str) = (
    ".version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 io) {
    .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .b64 %io;
    .shared .align 16 .b8 smem[256];
    .local .align 16 .b8 stack[64];
    ld.param.u64 %io, [io];
    ld.global.u64 %rd1, [%io]; ld.global.u64 %rd2, [%io+8]; ld.global.u64 %rd3, [%io+16];
    cvt.u32.u64 %r1, %rd1; cvt.u32.u64 %r2, %rd2; cvt.u32.u64 %r3, %rd3;
    cvt.u16.u64 %h1, %rd1; cvt.u16.u64 %h2, %rd2; cvt.u16.u64 %h3, %rd3;
    setp.ne.u64 %p1, %rd1, 0; setp.ne.u64 %p2, %rd2, 0; setp.ne.u64 %p3, %rd3, 0;
    mov.u64 %rd0, 0; mov.u32 %r0, 0; mov.u16 %h0, 0; mov.pred %p0, 0;
",
    "
    st.global.u32 [%io+24], %r0; st.global.u64 [%io+32], %rd0;
    st.global.u16 [%io+40], %h0; selp.u32 %r0, 1, 0, %p0; st.global.u32 [%io+48], %r0;
    ret;
}
",
);

/// What the registers hold after the instructions ran.
#[derive(Debug, PartialEq, Eq)]
struct Out {
    r: u32,
    rd: u64,
    h: u16,
    p: bool,
}

fn eval(body: &str, inputs: [u64; 3]) -> Out {
    let text = format!("{}{body}{}", WRAPPER.0, WRAPPER.1);
    let mut io: Vec<u8> = inputs.iter().flat_map(|v| v.to_le_bytes()).collect();
    io.resize(56, 0);
    let mut memory = HostMemory::new();
    let at = memory.alloc(&io);
    launch(&text, &mut memory, &[at], 1).unwrap_or_else(|e| panic!("{body}: {e}"));
    let out = memory.bytes(at).unwrap();
    let word = |at: usize| u64::from_le_bytes(out[at..at + 8].try_into().unwrap());
    Out {
        r: word(24) as u32,
        rd: word(32),
        h: word(40) as u16,
        p: word(48) != 0,
    }
}

/// Runs kernel `k` of `text` with one block of `threads`.
fn launch(text: &str, memory: &mut HostMemory, params: &[u64], threads: u32) -> Result<u64, Fault> {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let kernel = module.kernel("k").unwrap();
    let params = kernel.pack(params).unwrap();
    kernel.launch(
        memory,
        &Launch {
            grid: [1, 1, 1],
            block: [threads, 1, 1],
            shared_bytes: 0,
            params: &params,
            global_base: 0,
            instruction_limit: DEFAULT_INSTRUCTION_LIMIT.min(1 << 20),
        },
    )
}

/// Checks `%r0` for each `(instruction, inputs, expected)`.
fn words(cases: &[(&str, [u64; 3], u32)]) {
    for (body, inputs, expected) in cases {
        let got = eval(body, *inputs).r;
        assert_eq!(got, *expected, "{body} {inputs:x?}: {got:#x} {expected:#x}");
    }
}

/// Checks `%rd0`.
fn longs(cases: &[(&str, [u64; 3], u64)]) {
    for (body, inputs, expected) in cases {
        let got = eval(body, *inputs).rd;
        assert_eq!(got, *expected, "{body} {inputs:x?}: {got:#x} {expected:#x}");
    }
}

/// Checks `%h0`.
fn halves(cases: &[(&str, [u64; 3], u16)]) {
    for (body, inputs, expected) in cases {
        let got = eval(body, *inputs).h;
        assert_eq!(got, *expected, "{body} {inputs:x?}: {got:#x} {expected:#x}");
    }
}

/// Checks `%p0`.
fn preds(cases: &[(&str, [u64; 3], bool)]) {
    for (body, inputs, expected) in cases {
        assert_eq!(eval(body, *inputs).p, *expected, "{body} {inputs:x?}");
    }
}

/// Why a module with this instruction is refused.
fn refusal(body: &str) -> String {
    let text = format!("{}{body}{}", WRAPPER.0, WRAPPER.1);
    match Module::parse(&text) {
        Ok(_) => panic!("{body} was accepted"),
        Err(e) => e.to_string(),
    }
}
