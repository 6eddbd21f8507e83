//! Sources with a will of their own, and what every refused load must leave.

use std::io;

use vram_residency::SealRequest;
use vram_residency::error::{Code, Error};
use vram_residency::format::ReadAt;
use vram_residency::load::{LoadError, Source};

use super::Rig;

/// Runs a hook before each read.
pub(crate) struct Hooked<S, F>(pub(crate) S, pub(crate) F);

impl<S: ReadAt, F: Fn(u64) -> io::Result<()>> ReadAt for Hooked<S, F> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.1(offset)?;
        self.0.read_exact_at(offset, out)
    }
}

impl<S: Source, F: Fn(u64) -> io::Result<()> + Send + Sync> Source for Hooked<S, F> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn end(&self) -> Option<u64> {
        self.0.end()
    }

    fn check_unchanged(&self) -> Result<(), LoadError> {
        self.0.check_unchanged()
    }
}

/// A source whose last word is an error of its choice.
pub(crate) struct Ends(pub(crate) Box<dyn Fn() -> LoadError + Send + Sync>);

impl ReadAt for Ends {
    fn len(&self) -> u64 {
        100
    }

    fn read_exact_at(&self, _offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(1);
        Ok(())
    }
}

impl Source for Ends {
    fn name(&self) -> String {
        "ends".to_owned()
    }

    fn check_unchanged(&self) -> Result<(), LoadError> {
        Err((self.0)())
    }
}

/// Seals, must be refused, and must leave nothing behind.
pub(crate) fn refused(rig: &Rig, request: SealRequest<'_>) -> Error {
    let error = rig.manager.seal(request).unwrap_err();
    rig.assert_empty();
    error
}

pub(crate) fn load_error(error: Error) -> LoadError {
    assert_eq!(error.code(), Code::ModelLoadFailed);
    match error {
        Error::Load(error) => error,
        other => panic!("{other}"),
    }
}
