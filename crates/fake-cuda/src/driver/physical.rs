//! Physical memory of the pretended devices, and the address range that its
//! device addresses come from.
//!
//! A device address lies in a range that is reserved without any access, so a
//! host program that dereferences one gets SIGSEGV, as on a real machine. The
//! bytes themselves lie in maps of their own, which only the driver knows.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::codes::CuError;

/// Bytes behind one physical allocation.
#[derive(Clone, Debug)]
pub(crate) struct Backing {
    map: Arc<MmapRaw>,
    len: u64,
    file: Option<Arc<File>>,
}

/// What a shareable allocation says about itself after its last byte, so that
/// the importing process learns it from the descriptor alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) len: u64,
    pub(crate) location_kind: u32,
    pub(crate) location_id: i32,
}

const MAGIC: [u8; 16] = *b"vram-fake-cuda-1";
const LABEL_BYTES: usize = 32;

/// Name of the shareable memory of this loaded copy of the driver: no other copy
/// in the process has the same static at the same address.
pub(crate) fn memory_name() -> String {
    static COPY: u8 = 0;
    format!("fake-cuda-{:x}", (&raw const COPY).addr())
}

impl Label {
    fn to_bytes(self) -> [u8; LABEL_BYTES] {
        let fields = self.len.to_le_bytes().into_iter();
        let fields = fields
            .chain(self.location_kind.to_le_bytes())
            .chain(self.location_id.to_le_bytes());
        let mut out = [0; LABEL_BYTES];
        for (place, byte) in out.iter_mut().zip(MAGIC.into_iter().chain(fields)) {
            *place = byte;
        }
        out
    }

    fn from_bytes(bytes: &[u8; LABEL_BYTES]) -> Option<Label> {
        let (magic, rest) = bytes.split_first_chunk::<16>()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (id, _) = rest.split_first_chunk::<4>()?;
        (*magic == MAGIC).then_some(Label {
            len: u64::from_le_bytes(*len),
            location_kind: u32::from_le_bytes(*kind),
            location_id: i32::from_le_bytes(*id),
        })
    }
}

fn size(len: u64) -> Result<usize, CuError> {
    usize::try_from(len).map_err(|_| CuError::OUT_OF_MEMORY)
}

impl Backing {
    /// Private memory; pages come when they are touched.
    pub(crate) fn private(len: u64) -> Result<Backing, CuError> {
        let mut options = MmapOptions::new();
        let map = options.len(size(len.max(1))?).no_reserve_swap().map_anon();
        let map: MmapMut = map.map_err(|_| CuError::OUT_OF_MEMORY)?;
        Ok(Backing {
            map: Arc::new(map.into()),
            len,
            file: None,
        })
    }

    /// Memory that can be exported as a file descriptor.
    pub(crate) fn shareable(label: Label) -> Result<Backing, CuError> {
        let system = |_| CuError::OPERATING_SYSTEM;
        let fd = memfd_create(memory_name(), MemfdFlags::CLOEXEC)
            .map_err(|_| CuError::OPERATING_SYSTEM)?;
        let file = File::from(fd);
        file.write_all_at(&label.to_bytes(), label.len)
            .map_err(system)?;
        Backing::of_file(file, label.len)
    }

    fn of_file(file: File, len: u64) -> Result<Backing, CuError> {
        let map = MmapOptions::new().len(size(len)?).map_raw(&file);
        let map = map.map_err(|_| CuError::OPERATING_SYSTEM)?;
        Ok(Backing {
            map: Arc::new(map),
            len,
            file: Some(Arc::new(file)),
        })
    }

    /// Memory that another process exported.
    pub(crate) fn import(fd: BorrowedFd<'_>) -> Result<(Backing, Label), CuError> {
        let refused = CuError::INVALID_VALUE;
        let file = File::from(fd.try_clone_to_owned().map_err(|_| refused)?);
        let whole = file.metadata().map_err(|_| refused)?.len();
        let at = whole.checked_sub(LABEL_BYTES as u64).ok_or(refused)?;
        let mut bytes = [0; LABEL_BYTES];
        file.read_exact_at(&mut bytes, at).map_err(|_| refused)?;
        let label = Label::from_bytes(&bytes)
            .filter(|l| l.len == at)
            .ok_or(refused)?;
        Ok((Backing::of_file(file, label.len)?, label))
    }

    /// A new descriptor for the same memory; `None` when it is not shareable.
    pub(crate) fn export(&self) -> Option<std::io::Result<OwnedFd>> {
        self.file.as_ref().map(|f| f.as_fd().try_clone_to_owned())
    }

    /// Address of `len` bytes from `offset` on, `None` when they are not all there.
    pub(crate) fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        Some(
            self.map
                .as_mut_ptr()
                .wrapping_add(usize::try_from(offset).ok()?),
        )
    }

    pub(crate) fn is_shareable(&self) -> bool {
        self.file.is_some()
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Address of the first byte as the host sees it (pinned and managed memory).
    pub(crate) fn host_address(&self) -> u64 {
        self.map.as_mut_ptr().expose_provenance() as u64
    }
}

/// Device addresses: first fit in one reserved range, so that a freed address
/// is soon used again and a stale pointer meets somebody else's memory.
#[derive(Debug)]
pub(crate) struct Arena {
    base: u64,
    end: u64,
    used: BTreeMap<u64, u64>,
}

/// 1 TiB of addresses, so that a process can hold a hundred machines; less where
/// the system refuses that.
const ARENA: u64 = 1 << 40;
const ARENA_ALIGN: u64 = 2 << 20;

impl Arena {
    /// Reserves the range. It stays reserved until the process ends.
    pub(crate) fn new() -> Result<Arena, CuError> {
        let mut len = ARENA;
        while len >= 1 << 34 {
            // SAFETY: a new anonymous map at an address that the kernel chooses
            // replaces nothing; without access rights nobody can reach through it.
            let map = unsafe {
                mmap_anonymous(
                    std::ptr::null_mut(),
                    size(len)?,
                    ProtFlags::empty(),
                    MapFlags::PRIVATE | MapFlags::NORESERVE,
                )
            };
            if let Ok(start) = map {
                let start = start.expose_provenance() as u64;
                let base = start.next_multiple_of(ARENA_ALIGN);
                let end = start.saturating_add(len);
                return Ok(Arena {
                    base,
                    end,
                    used: BTreeMap::new(),
                });
            }
            len /= 2;
        }
        Err(CuError::OUT_OF_MEMORY)
    }

    /// Takes `len` bytes at a multiple of `align`, with at least `gap` bytes free
    /// on both sides.
    pub(crate) fn take(&mut self, len: u64, align: u64, gap: u64) -> Option<u64> {
        let mut start = self.base.checked_next_multiple_of(align)?;
        for (&used, &used_len) in &self.used {
            if start.checked_add(len)?.checked_add(gap)? <= used {
                break;
            }
            let after = used.checked_add(used_len)?.checked_add(gap)?;
            start = start.max(after.checked_next_multiple_of(align)?);
        }
        if start.checked_add(len)? > self.end {
            return None;
        }
        self.used.insert(start, len);
        Some(start)
    }

    pub(crate) fn give_back(&mut self, start: u64) {
        self.used.remove(&start);
    }

    pub(crate) fn contains(&self, addr: u64) -> bool {
        (self.base..self.end).contains(&addr)
    }

    /// Forgets everything that was taken.
    pub(crate) fn clear(&mut self) {
        self.used.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_aligned_apart_and_used_again() {
        let mut arena = Arena::new().unwrap();
        let a = arena.take(100, 512, 512).unwrap();
        let b = arena.take(100, 512, 512).unwrap();
        assert!(a.is_multiple_of(512) && b >= a + 100 + 512);
        assert!(arena.contains(a) && !arena.contains(8));
        arena.give_back(a);
        assert_eq!(arena.take(90, 512, 512), Some(a));
        assert_eq!(arena.take(u64::MAX, 512, 0), None);
    }

    #[test]
    fn shareable_memory_carries_its_label_to_the_importer() {
        let label = Label {
            len: 8192,
            location_kind: 1,
            location_id: 3,
        };
        let memory = Backing::shareable(label).unwrap();
        let fd = memory.export().unwrap().unwrap();
        let (other, found) = Backing::import(fd.as_fd()).unwrap();
        assert_eq!(found, label);
        assert_eq!(other.len(), 8192);
        assert!(memory.at(8192, 0).is_some() && memory.at(8192, 1).is_none());
        let stranger = File::open("/proc/self/exe").unwrap();
        assert_eq!(
            Backing::import(stranger.as_fd()).unwrap_err(),
            CuError::INVALID_VALUE
        );
        assert!(Backing::private(10).unwrap().export().is_none());
    }
}
