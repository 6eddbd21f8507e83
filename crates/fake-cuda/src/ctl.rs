//! Control of a loaded fake driver from a test.

use std::ffi::{CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use libloading::Library;

/// File name of the built driver.
const FILE: &str = "libfake_cuda.so";
/// The name by which the loader knows the built driver.
const SONAME: &str = "libcuda.so.1";

/// Why a fake driver could not be found, opened or commanded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CtlError {
    /// The library is not beside the running program.
    #[error("libfake_cuda.so is not near {0}: build the crate fake-cuda first")]
    NotBuilt(PathBuf),
    /// A file operation failed.
    #[error("cannot copy or read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The loader refused the file, or it is not a fake driver.
    #[error("cannot load {path}")]
    Load {
        /// The file.
        path: PathBuf,
        /// The loader's reason.
        source: libloading::Error,
    },
    /// The driver does not understand the command or question.
    #[error("the fake driver does not understand {0:?}")]
    Command(String),
    /// The library has no such exported name, or its form is not known.
    #[error("cannot hide {name} in {path}: {why}")]
    Hide {
        /// The file.
        path: PathBuf,
        /// The symbol.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// A handle on one loaded fake driver.
///
/// A test's own copy of this crate is *not* the driver: the library that the
/// backend opens has statics of its own. `Ctl` therefore opens the same file and
/// talks to it through two exported symbols, `fakecuda_ctl` and
/// `fakecuda_query`.
///
/// ```no_run
/// use fake_cuda::Ctl;
///
/// let ctl = Ctl::open_private()?;
/// ctl.run("reset gpus=2 vram=64M")?;
/// ctl.run("fail cuMemAlloc_v2 1 2")?;
/// // Give `ctl.path()` to the backend as the path of its driver library.
/// assert!(ctl.report()?.contains("\"device_allocations\":0"));
/// # Ok::<(), fake_cuda::CtlError>(())
/// ```
pub struct Ctl {
    /// Never closed: the backend may hold pointers into it.
    library: ManuallyDrop<Library>,
    path: PathBuf,
    /// The file is this handle's own copy, and goes with it.
    private: bool,
}

impl Drop for Ctl {
    fn drop(&mut self) {
        if self.private {
            // Whoever has it open keeps it; a file left behind harms nobody.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

impl Ctl {
    /// Opens the driver at `path`. Opening the same file twice in a process gives
    /// the same driver, so a backend that loads `path` is controlled by this.
    ///
    /// # Errors
    /// [`CtlError::Load`].
    pub fn open(path: &Path) -> Result<Ctl, CtlError> {
        let failed = |source| CtlError::Load {
            path: path.to_owned(),
            source,
        };
        // SAFETY: the fake driver has no initialisers; that the file is one is
        // checked right below, and a caller names no other library here.
        let library = unsafe { Library::new(path) }.map_err(failed)?;
        let ctl = Ctl {
            library: ManuallyDrop::new(library),
            path: path.to_owned(),
            private: false,
        };
        ctl.symbol::<CtlFn>(b"fakecuda_ctl").map_err(failed)?;
        ctl.symbol::<QueryFn>(b"fakecuda_query").map_err(failed)?;
        Ok(ctl)
    }

    /// Opens a copy of the built driver that nobody else in this process shares,
    /// so that tests that run side by side do not meet in one machine. The copy
    /// is deleted when this is dropped; a backend must have opened it by then.
    /// The copy does not bear the driver's name, so that a search for
    /// `libcuda.so.1` in this process finds the machine's real driver or none.
    ///
    /// # Errors
    /// [`CtlError::NotBuilt`], [`CtlError::Io`], [`CtlError::Load`].
    pub fn open_private() -> Result<Ctl, CtlError> {
        Ctl::open_without(&[])
    }

    /// As [`Ctl::open_private`], for a driver that lacks the exported `names`: an
    /// older driver, to the loader and to whoever looks symbols up.
    ///
    /// # Errors
    /// As [`Ctl::open_private`], and [`CtlError::Hide`].
    pub fn open_without(names: &[&str]) -> Result<Ctl, CtlError> {
        let to = private_path()?;
        let hidden = [&[SONAME], names].concat();
        hide_symbols(&library_path()?, &to, &hidden)?;
        let mut ctl = Ctl::open(&to)?;
        ctl.private = true;
        Ok(ctl)
    }

    /// The file, for the backend to load.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Carries out one command; the table of them is in the crate's documentation.
    ///
    /// # Errors
    /// [`CtlError::Command`] when it is not understood.
    pub fn run(&self, command: &str) -> Result<(), CtlError> {
        let refused = || CtlError::Command(command.to_owned());
        let text = CString::new(command).map_err(|_| refused())?;
        let ctl = self.symbol::<CtlFn>(b"fakecuda_ctl");
        let ctl = ctl.map_err(|source| CtlError::Load {
            path: self.path.clone(),
            source,
        })?;
        // SAFETY: `text` ends with NUL and lives across the call.
        match unsafe { ctl(text.as_ptr()) } {
            0 => Ok(()),
            _ => Err(refused()),
        }
    }

    /// What the machine holds: contexts, streams, events, allocations, mappings,
    /// reservations, pinned bytes, handles, descriptors open in this process, the
    /// devices whose context is broken, the calling thread's context stack, and
    /// every physical allocation with its serial number and addresses. JSON.
    ///
    /// # Errors
    /// [`CtlError::Command`] should the driver not answer.
    pub fn report(&self) -> Result<String, CtlError> {
        self.ask("report")
    }

    /// How often each call was made and each kind of queued work ran. JSON object.
    ///
    /// # Errors
    /// As [`Ctl::report`].
    pub fn trace(&self) -> Result<String, CtlError> {
        self.ask("trace")
    }

    /// What faults, refused modules and planned actions that missed said. JSON array.
    ///
    /// # Errors
    /// As [`Ctl::report`].
    pub fn log(&self) -> Result<String, CtlError> {
        self.ask("log")
    }

    /// How often `needle` lies in memory of devices, mapped or only held, and in
    /// pinned memory of the host.
    ///
    /// # Errors
    /// [`CtlError::Command`] for an empty needle.
    pub fn find(&self, needle: &[u8]) -> Result<(usize, usize), CtlError> {
        let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
        let what = format!("find {hex}");
        let answer = self.ask(&what)?;
        let counts = answer.split_once(' ').and_then(|(devices, host)| {
            let counts = (devices.parse().ok()?, host.parse().ok()?);
            Some(counts)
        });
        counts.ok_or(CtlError::Command(what))
    }

    fn ask(&self, what: &str) -> Result<String, CtlError> {
        let refused = || CtlError::Command(what.to_owned());
        let text = CString::new(what).map_err(|_| refused())?;
        let query = self.symbol::<QueryFn>(b"fakecuda_query");
        let query = query.map_err(|source| CtlError::Load {
            path: self.path.clone(),
            source,
        })?;
        let mut buffer = vec![0_u8; 4096];
        loop {
            // SAFETY: `text` ends with NUL; `buffer` has the length that is passed.
            let needed = unsafe { query(text.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
            let needed = usize::try_from(needed).map_err(|_| refused())?;
            if needed <= buffer.len() {
                buffer.truncate(needed.saturating_sub(1));
                return String::from_utf8(buffer).map_err(|_| refused());
            }
            // Other threads may make the answer grow meanwhile.
            buffer.resize(needed.saturating_mul(2), 0);
        }
    }

    fn symbol<F: Copy>(&self, name: &[u8]) -> Result<F, libloading::Error> {
        // SAFETY: both callers name the type that the fake driver exports.
        let symbol = unsafe { self.library.get::<F>(name) }?;
        Ok(*symbol)
    }
}

type CtlFn = unsafe extern "C" fn(*const c_char) -> c_int;
type QueryFn = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> isize;

/// The built driver: beside the running program, or one folder above (where
/// Cargo puts it for tests and for `cargo build`).
///
/// # Errors
/// [`CtlError::NotBuilt`].
pub fn library_path() -> Result<PathBuf, CtlError> {
    let program = std::env::current_exe();
    let program = program.map_err(|source| CtlError::Io {
        path: FILE.into(),
        source,
    })?;
    let folders = program.ancestors().skip(1).take(3);
    let mut candidates = folders.flat_map(|f| [f.join("deps").join(FILE), f.join(FILE)]);
    candidates
        .find(|c| c.is_file())
        .ok_or(CtlError::NotBuilt(program.clone()))
}

/// A path for a copy, unique in this machine.
fn private_path() -> Result<PathBuf, CtlError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let built = library_path()?;
    let folder = built.with_file_name("fake-cuda-copies");
    let folder_error = |source| CtlError::Io {
        path: folder.clone(),
        source,
    };
    std::fs::create_dir_all(&folder).map_err(folder_error)?;
    Ok(folder.join(format!("libcuda-{}-{count}.so.1", std::process::id())))
}

/// Copies the driver `from` to `to` without the exported `names`.
///
/// The copy's table of dynamic names is edited: the name's first letter changes,
/// so that looking it up fails as it does on a driver that never had it.
///
/// # Errors
/// [`CtlError::Io`], and [`CtlError::Hide`] when a name is not exported.
pub fn hide_symbols(from: &Path, to: &Path, names: &[&str]) -> Result<(), CtlError> {
    let read = std::fs::read(from);
    let mut bytes = read.map_err(|source| CtlError::Io {
        path: from.to_owned(),
        source,
    })?;
    let failed = |name: &str, why| CtlError::Hide {
        path: from.to_owned(),
        name: name.to_owned(),
        why,
    };
    let table = crate::elf::dynamic_names(&bytes);
    let table = table.ok_or_else(|| failed("", "not a 64-bit little-endian shared library"))?;
    for name in names {
        let mut wanted = vec![0];
        wanted.extend_from_slice(name.as_bytes());
        wanted.push(0);
        let strings = bytes.get_mut(table.clone()).unwrap_or_default();
        let at = strings.windows(wanted.len()).position(|w| w == wanted);
        let at = at.ok_or_else(|| failed(name, "no such exported name"))?;
        if let Some(first) = strings.get_mut(at.saturating_add(1)) {
            *first = b'~';
        }
    }
    // A file of an earlier process may still be mapped there: never overwrite it.
    let _gone = std::fs::remove_file(to);
    std::fs::write(to, bytes).map_err(|source| CtlError::Io {
        path: to.to_owned(),
        source,
    })
}
