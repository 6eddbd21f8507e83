//! What every kernel test needs: the two PTX texts, memory without slack, segment tables.

use fake_cuda::ptx::{Fault, HostMemory, Launch, Module};
use std::io::Write as _;
use std::path::Path;

/// Far more than any launch here needs, far less than a hang takes.
const INSTRUCTIONS: u64 = 1 << 28;

/// One compiler's kernels.
pub(crate) struct Rig {
    pub(crate) name: &'static str,
    module: Module,
}

/// Runs `test` with the committed PTX and, where `cargo xtask kernels` left it, with the PTX that
/// clang makes of the same sources.
pub(crate) fn with_each_compiler(test: impl Fn(&Rig)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let committed = root.join("crates/vram-residency-cuda/kernels/vram.ptx");
    let committed = std::fs::read_to_string(committed).unwrap();
    test(&Rig::of("nvrtc", &committed));
    let second = std::fs::read_to_string(root.join("target/kernels/vram.clang.ptx"));
    match second {
        Ok(second) if sources(&second) == sources(&committed) => test(&Rig::of("clang", &second)),
        // Past the harness, which hides what a passing test prints.
        _ => std::io::stderr().lock().write_all(SKIPPED).unwrap(),
    }
}

const SKIPPED: &[u8] = b"\n*** SKIPPED: the second compiler's PTX: `cargo xtask kernels --check` \
    makes it in target/kernels where clang is installed ***\n\n";

/// The line of our PTX files that names the sources they were made from.
fn sources(ptx: &str) -> Option<&str> {
    ptx.lines()
        .find(|line| line.starts_with("// sha256 of the sources: "))
}

impl Rig {
    fn of(name: &'static str, text: &str) -> Self {
        let module = Module::parse(text).unwrap();
        assert_eq!(module.version(), (7, 0));
        assert_eq!(module.target(), "sm_60");
        Self { name, module }
    }

    pub(crate) fn try_launch(
        &self,
        memory: &mut HostMemory,
        kernel: &str,
        grid: u64,
        block: u32,
        values: &[u64],
    ) -> Result<(), Fault> {
        let kernel = self.module.kernel(kernel).unwrap();
        let launch = Launch {
            grid: [u32::try_from(grid).unwrap(), 1, 1],
            block: [block, 1, 1],
            shared_bytes: 0,
            params: &kernel.pack(values).unwrap(),
            global_base: 0,
            instruction_limit: INSTRUCTIONS,
        };
        kernel.launch(memory, &launch).map(drop)
    }

    pub(crate) fn launch(
        &self,
        memory: &mut HostMemory,
        kernel: &str,
        grid: u64,
        block: u32,
        values: &[u64],
    ) {
        self.try_launch(memory, kernel, grid, block, values)
            .unwrap_or_else(|fault| panic!("{} {kernel}: {fault}", self.name));
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014), number `n` from `seed`.
pub(crate) fn split_mix(seed: u64, n: u64) -> u64 {
    let z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) struct Random {
    seed: u64,
    drawn: u64,
}

/// A generator whose seed a failing test shows.
pub(crate) fn generator(seed: u64) -> Random {
    println!("seed {seed}");
    Random { seed, drawn: 0 }
}

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.drawn += 1;
        (split_mix(self.seed, self.drawn) % limit as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// Puts `data` at an address that is `shift` modulo 16, in an allocation that ends with the last
/// aligned 16-byte word of the data: the interpreter faults on any read around it, and what lies
/// in the first and last word beside the data is noise.
pub(crate) fn place(memory: &mut HostMemory, rng: &mut Random, data: &[u8], shift: usize) -> u64 {
    assert!(shift < 16);
    let mut bytes = rng.bytes((shift + data.len()).next_multiple_of(16));
    if data.is_empty() {
        bytes.clear();
    }
    if let Some(part) = bytes.get_mut(shift..shift + data.len()) {
        part.copy_from_slice(data);
    }
    memory.alloc(&bytes) + shift as u64
}

/// A segment table as `device.cu` lays it out.
#[derive(Default)]
pub(crate) struct Table {
    bytes: Vec<u8>,
    pub(crate) entries: u64,
    pub(crate) items: u64,
}

impl Table {
    /// A record; its results go into fresh memory, whose address is returned.
    pub(crate) fn push(
        &mut self,
        memory: &mut HostMemory,
        address: u64,
        length: u64,
        items: u64,
        result_bytes: usize,
    ) -> u64 {
        let output = memory.alloc(&vec![0xcd; items as usize * result_bytes]);
        self.push_at(address, length, self.items, output);
        self.items += items;
        output
    }

    pub(crate) fn push_at(&mut self, address: u64, length: u64, first: u64, output: u64) {
        for word in [address, length, first, output] {
            self.bytes.extend(word.to_le_bytes());
        }
        self.entries += 1;
    }

    pub(crate) fn place(&self, memory: &mut HostMemory) -> u64 {
        memory.alloc(&self.bytes)
    }
}
