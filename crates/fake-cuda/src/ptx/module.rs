//! Loading a module and launching its kernels.

use std::collections::BTreeMap;

use super::decode::{Code, Image, image, kernel};
use super::error::{Fault, FaultKind, PtxError};
use super::exec::{Job, run};
use super::memory::GlobalMemory;
use super::parse::parse;

/// A PTX module: parsed, every instruction decoded, ready to launch.
#[derive(Clone, Debug)]
pub struct Module {
    version: (u32, u32),
    target: String,
    image: Image,
    kernels: BTreeMap<String, Code>,
}

/// One kernel of a module.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    code: &'a Code,
    image: &'a Image,
}

/// One launch: dimensions, shared memory and parameter bytes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z; at most 1024 in all.
    pub block: [u32; 3],
    /// Bytes of launch-sized shared memory.
    pub shared_bytes: u32,
    /// The parameter buffer, laid out as [`Kernel::params`] says.
    pub params: &'a [u8],
    /// Device address of the module's global variables, 0 when it has none.
    pub global_base: u64,
    /// Warp instructions before the launch counts as hung.
    pub instruction_limit: u64,
}

/// Warp instructions that a launch may use unless told otherwise.
pub const DEFAULT_INSTRUCTION_LIMIT: u64 = 1 << 36;

/// Most shared memory of a block, static and launch-sized together (as on sm_90).
const MAX_SHARED: u64 = 227 << 10;

impl Module {
    /// Parses and decodes PTX text.
    ///
    /// # Errors
    /// [`PtxError`] names the line and the opcode, modifier or directive that
    /// is wrong or not implemented.
    pub fn parse(text: &str) -> Result<Module, PtxError> {
        let tree = parse(text)?;
        let image = image(&tree)?;
        let mut kernels = BTreeMap::new();
        for entry in &tree.entries {
            let code = kernel(entry, &image)?;
            if kernels.insert(entry.name.clone(), code).is_some() {
                return Err(PtxError::syntax(
                    entry.line,
                    format!("{} is defined twice", entry.name),
                ));
            }
        }
        Ok(Module {
            version: tree.version,
            target: tree.target,
            image,
            kernels,
        })
    }

    /// Major and minor number of `.version`.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The `.target`, for example `sm_75`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Initial bytes of the module's `.global` variables. Whoever launches puts
    /// them into device memory and passes the address as [`Launch::global_base`].
    #[must_use]
    pub fn global_image(&self) -> &[u8] {
        &self.image.global
    }

    /// Names of the kernels, sorted.
    pub fn kernel_names(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    /// The kernel of this name, `None` when the module has none.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<Kernel<'_>> {
        Some(Kernel {
            code: self.kernels.get(name)?,
            image: &self.image,
        })
    }
}

impl Kernel<'_> {
    /// Offset and size of each parameter in the parameter buffer (bytes).
    #[must_use]
    pub fn params(&self) -> &[(u64, u64)] {
        &self.code.params
    }

    /// Size of the parameter buffer (bytes).
    #[must_use]
    pub fn param_bytes(&self) -> u64 {
        self.code.param_bytes
    }

    /// Static shared memory (bytes).
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.code.static_shared
    }

    /// Local memory of one thread (bytes).
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        self.code.local_bytes
    }

    /// Most threads of a block: `.maxntid` or `.reqntid`, else 1024.
    #[must_use]
    pub fn max_threads(&self) -> u64 {
        self.code.max_threads
    }

    /// Builds the parameter buffer from one value per parameter: the low bytes
    /// of each value are used. `None` when the number of values is wrong or a
    /// parameter is wider than 8 bytes.
    #[must_use]
    pub fn pack(&self, values: &[u64]) -> Option<Vec<u8>> {
        if values.len() != self.code.params.len() {
            return None;
        }
        let mut buffer = vec![0; usize::try_from(self.code.param_bytes).ok()?];
        for (&(offset, size), value) in self.code.params.iter().zip(values) {
            let start = usize::try_from(offset).ok()?;
            let size = usize::try_from(size).ok()?;
            let bytes = value.to_le_bytes();
            buffer
                .get_mut(start..start.checked_add(size)?)?
                .copy_from_slice(bytes.get(..size)?);
        }
        Some(buffer)
    }

    /// Checks a launch without running it, as the driver does before it queues one.
    ///
    /// # Errors
    /// A [`FaultKind::BadLaunch`] that says what does not fit.
    pub fn check(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        let refuse = |what: &str| {
            let kind = FaultKind::BadLaunch(what.to_owned());
            Err(Fault {
                kind,
                line: 0,
                block: [0; 3],
                warp: 0,
                lane: 0,
            })
        };
        let [gx, gy, gz] = launch.grid;
        let [bx, by, bz] = launch.block;
        let threads = u64::from(bx)
            .saturating_mul(u64::from(by))
            .saturating_mul(u64::from(bz));
        if gx == 0 || gy == 0 || gz == 0 || threads == 0 {
            return refuse("a dimension is zero");
        }
        if gx > 0x7fff_ffff || gy > 65535 || gz > 65535 || bz > 64 {
            return refuse("a dimension is beyond the limit of the hardware");
        }
        if threads > self.code.max_threads {
            return refuse("more threads than the kernel allows");
        }
        if self.code.required.is_some_and(|r| r != launch.block) {
            return refuse("block dimensions differ from .reqntid");
        }
        if self
            .code
            .static_shared
            .saturating_add(u64::from(launch.shared_bytes))
            > MAX_SHARED
        {
            return refuse("more shared memory than a block can have");
        }
        if launch.params.len() as u64 != self.code.param_bytes {
            return refuse("parameter buffer has the wrong size");
        }
        Ok(())
    }

    /// Runs the launch to its end against `memory`; the number of warp
    /// instructions executed. What was written before a fault stays written.
    ///
    /// # Errors
    /// The [`Fault`] that ended it.
    pub fn launch(&self, memory: &mut dyn GlobalMemory, launch: &Launch<'_>) -> Result<u64, Fault> {
        self.check(launch)?;
        let job = Job {
            code: self.code,
            launch,
            constant: &self.image.constant,
            global_base: launch.global_base,
        };
        run(&job, memory)
    }
}
