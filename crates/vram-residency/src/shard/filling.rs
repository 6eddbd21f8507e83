//! From reserved room to memory that the driver confirmed: the middle of a
//! shard's life. Dropping any of these values scrubs and frees the memory.

use std::sync::Arc;

use vram_digest::{BlockHash, FileDigest, Tree, file_digest, nh, root};

use super::Claim;
use crate::audit::{Recorder, Text};
use crate::capacity::{Allocation, Reservation};
use crate::device::{Device, DeviceError, Extent, Protection};
use crate::error::{Error, VerifyError};
use crate::load::{Control, Source, cores, load};
use crate::policy::{ConfirmedMemory, Policy};
use crate::verify::{Reference, measure};

/// Memory that is being filled.
pub(crate) struct Filling {
    allocation: Allocation,
    claim: Arc<Claim>,
}

/// Memory that was filled and measured there once: by what may have erred.
pub(crate) struct Arrived(Filled);

/// Memory whose digest may be believed; whether it is the expected one was not asked.
pub(crate) struct Agreed(Filled);

/// Memory that holds what the source gave, and the caller expects.
pub(crate) struct Filled {
    pub(crate) allocation: Allocation,
    pub(crate) claim: Arc<Claim>,
    pub(crate) tree: Tree,
    pub(crate) content: Option<[u8; 32]>,
    /// Key and tags of the load: the first reference of keyed checks.
    pub(crate) reference: Option<Reference>,
}

impl Filling {
    /// Turns a reservation into memory for `len` bytes at byte `start` of it, for a
    /// request of this correlation id.
    pub(crate) fn start(
        reservation: Reservation,
        recorder: Arc<Recorder>,
        (claim, correlation_id): (Arc<Claim>, Option<Text>),
        start: u64,
        len: u64,
    ) -> Result<Self, DeviceError> {
        let about = (claim.id().clone(), correlation_id);
        let allocation = Allocation::take(reservation, recorder, about, start, len)?;
        Ok(Self { allocation, claim })
    }

    /// Bytes that the device took.
    pub(crate) const fn granted(&self) -> u64 {
        self.allocation.granted()
    }

    /// Loads the source and measures what arrived.
    pub(crate) fn fill(
        self,
        source: &dyn Source,
        key: nh::Key,
        control: &Control,
        content: bool,
    ) -> Result<Arrived, Error> {
        let extent = self.allocation.extent();
        let device = Arc::clone(self.allocation.device());
        let loaded = load(source, device.as_ref(), extent, &key, control, content)?;
        let reference = Reference::new(key, loaded.tags);
        self.filled(loaded.level0, Some(reference), loaded.content)
    }

    /// Copies from another device and measures what arrived.
    pub(crate) fn copy_from(self, from: &dyn Device, source: Extent) -> Result<Arrived, Error> {
        let extent = self.allocation.extent();
        let device = Arc::clone(self.allocation.device());
        from.copy_to(source, device.as_ref(), extent)?;
        let level0 = measure(device.as_ref(), extent)?;
        self.filled(level0, None, None)
    }

    fn filled(
        self,
        level0: Vec<BlockHash>,
        reference: Option<Reference>,
        content: Option<[u8; 32]>,
    ) -> Result<Arrived, Error> {
        let len = self.allocation.extent().len;
        let tree = Tree::from_level0_parallel(level0, len, cores())
            .map_err(|_| Error::Internal("the device measured a wrong number of blocks"))?;
        Ok(Arrived(Filled {
            allocation: self.allocation,
            claim: self.claim,
            tree,
            content,
            reference,
        }))
    }
}

impl Arrived {
    /// One answer of the checker is no digest to seal: what is not the expected one,
    /// for that or because none is expected, is measured again. Two answers that
    /// differ accuse neither the file nor the memory, and nothing is sealed. Where the
    /// device cannot hash the tree itself and nothing is expected, the one answer
    /// stands.
    pub(crate) fn agreed(self, expected: Option<FileDigest>) -> Result<Agreed, DeviceError> {
        let Self(filled) = self;
        let digest = filled.tree.digest();
        if expected.is_some_and(|expected| expected.ct_eq(&digest)) {
            return Ok(Agreed(filled));
        }
        let allocation = &filled.allocation;
        let (device, extent) = (allocation.device().as_ref(), allocation.extent());
        let root = match device.tree_root(extent)? {
            Some(root) => root,
            None if expected.is_some() => root(&measure(device, extent)?),
            None => return Ok(Agreed(filled)),
        };
        match file_digest(&root, extent.len).ct_eq(&digest) {
            true => Ok(Agreed(filled)),
            false => Err(DeviceError::NoResult {
                op: "the digest of what was loaded",
            }),
        }
    }
}

impl Agreed {
    pub(crate) fn digest(&self) -> FileDigest {
        self.0.tree.digest()
    }

    /// Compares with the digests that the caller expects (requirement: DG-4).
    pub(crate) fn expect(
        self,
        digest: Option<FileDigest>,
        content: Option<[u8; 32]>,
    ) -> Result<Filled, VerifyError> {
        let Self(filled) = self;
        let actual = filled.tree.digest();
        if let Some(expected) = digest.filter(|expected| !expected.ct_eq(&actual)) {
            return Err(VerifyError::Unexpected {
                algorithm: "fs-verity",
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        if let (Some(expected), Some(actual)) = (content, filled.content)
            && expected != actual
        {
            return Err(VerifyError::Unexpected {
                algorithm: "sha256",
                expected: crate::hex::encode(&expected),
                actual: crate::hex::encode(&actual),
            });
        }
        Ok(filled)
    }
}

impl Filled {
    /// Keeps the content digest of an earlier load of the same bytes.
    pub(crate) fn with_content(mut self, content: Option<[u8; 32]>) -> Self {
        self.content = content;
        self
    }

    /// Makes the memory read-only and asks the driver what it is.
    pub(crate) fn confirm(&self, policy: &Policy) -> Result<ConfirmedMemory, Error> {
        let device = self.allocation.device();
        let buffer = self.allocation.extent().buffer;
        device.protect(buffer, Protection::ReadOnly)?;
        Ok(policy.admit_memory(device.info(), device.witness(buffer)?)?)
    }
}
