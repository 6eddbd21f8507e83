//! Memory that a load takes beyond the model: at most 64 MiB on the simulated
//! device, plus 1/128 of the model for the hashes of its blocks. The worst
//! header that is accepted is part of it. The process's own high-water mark is
//! the measure, since staging memory is mapped rather than allocated; so this
//! file holds one test.

use std::io::{self, Write as _};

use vram_residency::format::{Format, FormatError, Limits, ReadAt};
use vram_residency::key::RootKey;
use vram_residency::load::{FormatChoice, LoadError, Source};
use vram_residency::sim::{SimDevice, SimOptions};
use vram_residency::{Error, SealRequest, VramManager};

/// Far more than the bound, so that holding the model would show.
const LEN: u64 = (2 << 30) + 4097;
const FIXED: u64 = 64 << 20;
/// What the readers of a load on the simulated device take at most: two slots
/// of 2 MiB each, and 16 slots in all.
const MOST_STAGED: u64 = 32 << 20;

/// A safetensors file that costs little to read, and whose header is the worst.
struct Cheap<'h> {
    header: &'h [u8],
}

impl ReadAt for Cheap<'_> {
    fn len(&self) -> u64 {
        LEN
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill((offset >> 20).to_le_bytes()[0]);
        let rest = self.header.get(usize::try_from(offset).unwrap()..);
        let front = rest.unwrap_or_default().iter();
        out.iter_mut()
            .zip(front)
            .for_each(|(out, byte)| *out = *byte);
        Ok(())
    }
}

impl Source for Cheap<'_> {
    fn name(&self) -> String {
        "cheap".to_owned()
    }
}

/// A header of `len` bytes and the length before it: as many tensors as are
/// accepted, with names that fill it, of which the last one takes all the data.
fn header(len: usize) -> Vec<u8> {
    let data = LEN - 8 - len as u64;
    let last = format!(r#""last":{{"dtype":"U8","shape":[{data}],"data_offsets":[0,{data}]}}"#);
    let empty = |i: usize, pad: usize| {
        let name = format!("{i:05}{}", "n".repeat(pad));
        format!(r#""{name}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},"#)
    };
    let count = usize::try_from(Limits::default().tensors).unwrap() - 1;
    let room = len - last.len() - 2;
    let pad = (room / count - empty(0, 0).len()).min(1000);
    // In place: what the test itself takes counts as well.
    let mut bytes = Vec::with_capacity(8 + len);
    bytes.extend_from_slice(&(len as u64).to_le_bytes());
    bytes.push(b'{');
    (0..count).for_each(|i| bytes.extend_from_slice(empty(i, pad).as_bytes()));
    write!(bytes, "{last}}}").unwrap();
    bytes.resize(8 + len, b' ');
    bytes
}

/// A size in bytes out of `/proc/self/status`.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

// requirement: PF-11
#[test]
fn a_load_takes_64_mib_and_a_128th_at_most() {
    let device = SimDevice::with_options(SimOptions::new(4 << 30).discard_contents());
    let manager = VramManager::builder()
        .device(device.clone())
        .key(RootKey::from_token(&test_listener::secret()).unwrap())
        .build()
        .unwrap();
    // The first seal pays for what every process pays once.
    let small = manager.seal(SealRequest::bytes(&[7; 4096])).unwrap();
    manager.deallocate(&small).unwrap();

    let most = usize::try_from(Limits::default().header_bytes).unwrap();
    let large = (95_u64 << 20).to_le_bytes();
    let front = header(most);
    let request = |header| {
        let format = FormatChoice::Exactly(Format::Safetensors);
        SealRequest::source(Cheap { header }).format(format)
    };

    let before = status("VmRSS:");
    let refused = manager.seal(request(&large)).unwrap_err();
    let Error::Load(LoadError::Format { source, .. }) = refused else {
        panic!("{refused}");
    };
    assert!(matches!(
        source,
        FormatError::TooLarge {
            field: "header length",
            ..
        }
    ));
    let shard = manager.seal(request(&front)).unwrap();
    let peak = status("VmHWM:");
    let beyond = peak - before;
    let bound = FIXED + LEN / 128;
    // On a machine of many cores as much is staged as anywhere.
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    let beyond = beyond + MOST_STAGED - (cores * (4 << 20)).min(MOST_STAGED);
    assert_eq!(shard.record().vram_bytes, LEN);
    assert_eq!(device.host_bytes(), 0, "the contents are dropped");
    assert_eq!(shard.tensors().tensors().len(), 100_000);
    println!("{beyond} bytes beyond the model, bound {bound}");
    assert!(
        beyond <= bound,
        "{beyond} bytes beyond the model, at most {bound} allowed"
    );
    // The measure works: the hashes alone are this large.
    assert!(beyond >= LEN / 128, "{beyond}");
}
