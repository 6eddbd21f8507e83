//! A test-only CUDA driver.
//!
//! Built as a shared library (`libfake_cuda.so`) this crate *is* a
//! `libcuda.so.1` for tests of the CUDA backend on machines without a GPU: the
//! backend opens it like a real driver, and the kernels that it launches are
//! the PTX that ships, run by the [`ptx`] interpreter. As a Rust library the
//! crate offers that interpreter (kernels can be tested without any driver) and
//! [`Ctl`], through which a test commands the driver that its backend uses.
//!
//! It is never published and nothing that ships depends on it. Its devices say
//! what they are: their name begins with "vram-residency fake CUDA device".
//!
//! # How a test uses it
//!
//! * In one process: `let ctl = Ctl::open_private()?`, then give `ctl.path()` to
//!   the backend as its driver library. Each such copy is a machine of its own.
//! * A driver that lacks symbols: `Ctl::open_without(&["cuMemCreate"])`.
//! * A whole program: put the built library into a folder under the name
//!   `libcuda.so.1`, name the folder in `LD_LIBRARY_PATH`, and give commands,
//!   separated by `;`, in the environment variable `FAKE_CUDA`.
//!
//! Under the name `libnvidia-ml.so.1` the built library answers for NVML, too.
//!
//! The built library itself bears the name `libcuda.so.1`: a process that has it
//! open under any path gets it for that name, too. Private copies do not.
//!
//! # Commands
//!
//! Words are separated by spaces. `NAME` is a driver call (`cuMemAlloc_v2`, with
//! or without `_v2`) or queued work at the moment when it runs: `exec.htod`,
//! `exec.dtoh`, `exec.dtod`, `exec.memset`, `exec.record`, `exec.wait`,
//! `exec.launch.KERNEL`. A `*` at the end stands for any ending. `NTH` counts
//! uses from the command on: `3`, `3+` (third and later), `*` (all). `SERIAL`
//! numbers physical allocations from 0 since the reset, in the order of their
//! creation; [`Ctl::report`] lists them.
//!
//! | command | what it does |
//! |---|---|
//! | `reset [KEY=VALUE or FLAG ...]` | a fresh machine |
//! | `fail NAME NTH CODE [sticky]` | that use fails and does nothing else; `sticky` also breaks the current context; queued work that fails always breaks its context |
//! | `skip exec.NAME NTH` | queued work silently does nothing |
//! | `before NAME NTH ACTION`, `after NAME NTH ACTION` | the action happens around that use |
//! | `flip SERIAL OFFSET BIT` | an action: flips one bit of memory |
//! | `remap SERIAL SERIAL` | an action: addresses of the first answer from the second |
//! | `sticky DEVICE CODE` | an action: breaks the device's context |
//! | `meminfo FREE TOTAL` | `cuMemGetInfo` lies |
//! | `attribute DEVICE NUMBER VALUE` | `cuDeviceGetAttribute` lies |
//! | `pointer NUMBER VALUE` | pointer attributes lie |
//! | `access FLAGS` | `cuMemGetAccess` lies |
//! | `location KIND` | allocation properties lie |
//! | `clear` | forgets faults and lies, keeps the machine |
//! | `untrace` | sets the counts of [`Ctl::trace`] to zero |
//!
//! Keys of `reset`: `gpus=1`, `vram=16G`, `context=0` (bytes a context takes),
//! `cc=9.0`, `integrated=0`, `compute_mode=0`, `driver_version=12080`, `ptx=8.7`
//! (newest accepted), `granularity=2M`, `schedule=random|eager|lazy`, `seed=1`,
//! `poison=165` (fill of fresh memory), `instructions=N` (limit of a launch),
//! `code=0` (bytes that a kernel takes at its first launch), `uncorrected=0` and
//! `remapped=0` (memory errors and replaced rows, as NVML tells them),
//! `visible=LIST` (in the place of `CUDA_VISIBLE_DEVICES`, which is heeded like
//! on a real machine unless a test commands the driver through [`Ctl`]).
//! Flags: `integrated`, `mig` (the devices are slices of one card), `noecc`,
//! `novmm`, `nofd`, `nopeer`, `noreadonly` (read-only mappings are refused),
//! `noprotection` (they are accepted and ignored), `nopoison`, `reuse` (freed
//! device memory is handed out again as it was, to who asks for as much).
//!
//! # What is modelled, and where it is stricter than hardware
//!
//! * Queued work runs late, in an order between streams that only the seed
//!   decides; copies from pinned memory read it when they run. The legacy
//!   stream, events and waits order work as documented.
//! * Device memory answers to the byte (rounded up to 16); a host dereference of
//!   a device address is SIGSEGV; unmapped, freed or read-only memory under
//!   queued work breaks the context with 700 when the work runs. `cuMemFree` and
//!   `cuStreamDestroy` wait for queued work, `cuMemFreeHost`, `cuMemUnmap` and
//!   `cuMemSetAccess` do not. Memory is freed in the context that owns it.
//! * A copy between devices needs, in mapped memory, the rights of the device
//!   whose stream runs it; the contexts it names do not lend it theirs.
//! * Exported memory is a memfd: another process that imports it shares the
//!   bytes, and they outlive the exporter. Each process counts its own and
//!   imported memory; what only a foreign process holds is not counted.
//! * Not modelled: contexts other than primary ones, IPC handles, memory pools,
//!   graphs, arrays, callbacks, cubins. Such symbols do not exist here.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_ptr_alignment,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::string_slice,
    clippy::missing_panics_doc
)]

mod ctl;
mod driver;
mod elf;
pub mod ptx;

pub use ctl::{Ctl, CtlError, hide_symbols, library_path};
