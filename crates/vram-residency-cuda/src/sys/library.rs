//! Opening a shared library, and saying which file the loader really chose.

use std::error::Error as _;
use std::ffi::OsStr;
use std::mem::ManuallyDrop;

use libloading::Library;

/// The name that the loader's normal search resolves. The unversioned name is
/// not tried: a toolkit's stub library often bears it.
pub const DEFAULT_LIBRARY: &str = "libcuda.so.1";

/// Why a driver library cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The loader did not find or accept the file.
    #[error("cannot load {library}: {reason}")]
    Open {
        /// What was asked for.
        library: String,
        /// The loader's own words.
        reason: String,
    },
    /// The library lacks a symbol that this crate cannot do without.
    #[error("{library} lacks the symbol {symbol}: the driver is too old, or it is no driver")]
    Symbol {
        /// What was asked for.
        library: String,
        /// The missing name.
        symbol: &'static str,
    },
}

/// A shared library that is never closed: a driver has threads and exit
/// handlers of its own, and function pointers into it must stay good.
pub(crate) struct SharedLibrary {
    handle: ManuallyDrop<Library>,
    name: String,
}

impl SharedLibrary {
    /// Opens `name`, a path or a name for the loader's search.
    pub(crate) fn open(name: &OsStr) -> Result<Self, LoadError> {
        let shown = name.to_string_lossy().into_owned();
        // SAFETY: opening runs the library's initialisers. The name is the
        // platform's driver, or a path that the caller named as the driver.
        let opened = unsafe { Library::new(name) };
        match opened {
            Ok(library) => Ok(Self {
                handle: ManuallyDrop::new(library),
                name: shown,
            }),
            Err(error) => Err(LoadError::Open {
                library: shown,
                reason: reason(&error),
            }),
        }
    }

    /// The symbol `name` as a function pointer, or `None` when it is missing.
    ///
    /// # Safety
    /// `F` must be a function pointer type with the symbol's real signature.
    pub(crate) unsafe fn optional<F: Copy>(&self, name: &'static str) -> Option<F> {
        // SAFETY: the caller vouches that `F` is the symbol's type; the pointer
        // stays good because the library is never closed.
        let symbol = unsafe { self.handle.get::<F>(name.as_bytes()) };
        symbol.ok().map(|found| *found)
    }

    /// Like [`Self::optional`], with an error that names the missing symbol.
    ///
    /// # Safety
    /// As for [`Self::optional`].
    pub(crate) unsafe fn required<F: Copy>(&self, name: &'static str) -> Result<F, LoadError> {
        // SAFETY: the same contract, handed on.
        let symbol = unsafe { self.optional(name) };
        symbol.ok_or_else(|| LoadError::Symbol {
            library: self.name.clone(),
            symbol: name,
        })
    }
}

/// The loader's reason: libloading keeps it in the source of its error.
fn reason(error: &libloading::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Path of the file whose code contains `address`, from the kernel's own list
/// of this process's mappings; `None` when the list cannot be read.
pub(crate) fn resolved_path(address: usize) -> Option<String> {
    path_in(&std::fs::read_to_string("/proc/self/maps").ok()?, address)
}

/// Finds `address` in lines of `start-end perms offset dev inode path`.
fn path_in(maps: &str, address: usize) -> Option<String> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let path = rest.find('/').and_then(|at| rest.get(at..))?;
        (start..end).contains(&address).then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_names_itself_and_the_loaders_reason() {
        let error = SharedLibrary::open(OsStr::new("libno-such-driver.so.1"))
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(text.contains("libno-such-driver.so.1"), "{text}");
        assert!(
            text.contains("No such file") || text.contains("cannot open"),
            "{text}"
        );
    }

    #[test]
    fn an_address_is_found_in_the_mapping_that_holds_it() {
        let maps = "00400000-00452000 r-xp 00000000 08:02 173521 /usr/lib/lib a.so.1\n\
                    7fff0000-7fff1000 rw-p 00000000 00:00 0\n";
        assert_eq!(path_in(maps, 0x0040_0000).unwrap(), "/usr/lib/lib a.so.1");
        assert_eq!(path_in(maps, 0x0045_1fff).unwrap(), "/usr/lib/lib a.so.1");
        assert_eq!(path_in(maps, 0x0045_2000), None);
        assert_eq!(path_in(maps, 0x7fff_0000), None);
        let own = resolved_path(an_address_is_found_in_the_mapping_that_holds_it as fn() as usize);
        assert_eq!(
            own.unwrap(),
            std::env::current_exe().unwrap().to_str().unwrap()
        );
    }
}
