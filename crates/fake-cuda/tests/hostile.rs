//! Damaged PTX is refused or runs to an end; it never brings the process down.

use fake_cuda::ptx::{HostMemory, Launch, Module};

const FIXTURE: &str = include_str!("../testdata/fixture.ptx");

/// Words of the text with the white space after each.
fn words(text: &str) -> Vec<&str> {
    text.split_inclusive(char::is_whitespace).collect()
}

/// Parses, and launches what parses; how the two ended.
fn try_out(text: &str) -> (bool, bool) {
    let Ok(module) = Module::parse(text) else {
        return (false, false);
    };
    let mut memory = HostMemory::new();
    let buffer = memory.alloc(&[0; 512]);
    let globals = memory.alloc(module.global_image());
    let mut ran = false;
    for name in module.kernel_names() {
        let kernel = module.kernel(name).unwrap();
        let values = [buffer, 128, 0, 0];
        let Some(params) = values
            .get(..kernel.params().len())
            .and_then(|v| kernel.pack(v))
        else {
            continue;
        };
        let launch = Launch {
            grid: [1, 1, 1],
            block: [64, 1, 1],
            shared_bytes: 0,
            params: &params,
            global_base: globals,
            instruction_limit: 1000,
        };
        ran |= kernel.launch(&mut memory, &launch).is_ok();
    }
    (true, ran)
}

#[test]
fn every_word_may_be_missing_doubled_or_replaced() {
    assert_eq!(try_out(FIXTURE), (true, true));
    let words = words(FIXTURE);
    let mut refused = 0;
    for at in 0..words.len() {
        for replacement in [
            "",
            "%r1 ",
            "99999999999999999999 ",
            "{ ",
            "-1 ",
            ".u64 ",
            "[%rd1] ",
            ", ; ",
        ] {
            let mut damaged = words.clone();
            damaged[at] = replacement;
            refused += usize::from(!try_out(&damaged.concat()).0);
        }
        let mut doubled = words.clone();
        doubled.insert(at, words[at]);
        refused += usize::from(!try_out(&doubled.concat()).0);
    }
    // Damage in the comment at the top is harmless, most other damage is not.
    assert!(
        refused > words.len() * 4,
        "{refused} of {}",
        words.len() * 9
    );
}

#[test]
fn a_kernel_that_is_cut_off_is_refused() {
    let first = FIXTURE.find(".visible").unwrap();
    let last = FIXTURE.rfind('}').unwrap();
    let mut cut_inside = 0;
    for text in (first..last).filter_map(|end| FIXTURE.get(..end)) {
        // Cut between two kernels, what is left is a whole module.
        if text.rfind('{') > text.rfind('}') {
            cut_inside += 1;
            assert!(Module::parse(text).is_err(), "cut at {}", text.len());
        }
    }
    assert!(cut_inside > 500, "{cut_inside}");
}

#[test]
fn absurd_sizes_are_refused() {
    let module = |body: &str| format!(".version 7.0 .target sm_60 .address_size 64 {body}");
    for body in [
        ".global .b64 x[4000000000];",
        ".const .b32 x[16385];",
        ".entry k() { .reg .b32 %r<100000>; ret; }",
        ".entry k() { .shared .b8 s[999999999]; ret; }",
        ".entry k(.param .b8 x[5000]) { ret; }",
        ".entry k(.param .align 3 .b8 x[8]) { ret; }",
    ] {
        assert!(Module::parse(&module(body)).is_err(), "{body}");
    }
    let kernel = Module::parse(&module(".entry k() { .shared .b8 s[240000]; ret; }")).unwrap();
    let launch = Launch {
        grid: [1; 3],
        block: [1; 3],
        shared_bytes: 0,
        params: &[],
        global_base: 0,
        instruction_limit: 10,
    };
    let fault = kernel
        .kernel("k")
        .unwrap()
        .launch(&mut HostMemory::new(), &launch)
        .unwrap_err();
    assert_eq!(fault.code(), 1, "more shared memory than a block can have");
}
