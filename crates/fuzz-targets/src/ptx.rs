//! PTX, as the test driver's interpreter reads and runs it.

use fake_cuda::ptx::{HostMemory, Kernel, Launch, Module};

/// Bytes that kernels may write, and bytes that they may not.
const BUFFER: [u8; 512] = [0x5a; 512];
const LIMIT: u64 = 2_000;

/// What is accepted has kernels that end: well, at the instruction limit, or by
/// a fault. None changes what it may not write, and the same launch does the
/// same again.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let Ok(module) = Module::parse(text) else {
        return false;
    };
    let names: Vec<&str> = module.kernel_names().collect();
    assert!(names.is_sorted());
    for name in names {
        let kernel = module.kernel(name).expect("a listed kernel");
        let end = kernel.params().iter().map(|(at, len)| at + len).max();
        assert!(end.unwrap_or(0) <= kernel.param_bytes());
        let first = launch(&module, &kernel);
        assert_eq!(first, launch(&module, &kernel), "{name} does as it likes");
    }
    true
}

/// How a launch ended and what it left in the memory.
fn launch(module: &Module, kernel: &Kernel<'_>) -> (Result<u64, String>, Vec<u8>) {
    let mut memory = HostMemory::new();
    let buffer = memory.alloc(&BUFFER);
    let global_base = memory.alloc(module.global_image());
    let guarded = memory.alloc(&BUFFER);
    memory.protect(guarded);
    let values = [buffer, 16, guarded, 1, buffer + 256, 3, 2, 1];
    let params = values
        .get(..kernel.params().len())
        .and_then(|values| kernel.pack(values))
        .unwrap_or_else(|| vec![0; usize::try_from(kernel.param_bytes()).expect("small")]);
    let launch = Launch {
        grid: [2, 1, 1],
        block: [40, 1, 1],
        shared_bytes: 64,
        params: &params,
        global_base,
        instruction_limit: LIMIT,
    };
    let ended = kernel.launch(&mut memory, &launch);
    if let Ok(count) = &ended {
        assert!(*count <= LIMIT, "{count} instructions");
    }
    assert_eq!(
        memory.bytes(guarded),
        Some(&BUFFER[..]),
        "wrote where it may not"
    );
    let left = memory.bytes(buffer).expect("the buffer").to_vec();
    assert_eq!(left.len(), BUFFER.len());
    (ended.map_err(|fault| fault.to_string()), left)
}
