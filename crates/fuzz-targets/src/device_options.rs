//! The command's text form of a simulated device.

use std::fmt::Write;

use vram_residency::device::{Device, DeviceKind};
use vram_residency::sim::{Moment, SimDevice, SimOptions};

/// What is accepted makes a device that says what was asked for, and is the
/// same when it is written in full; a refusal quotes what is wrong.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let options = match text.parse::<SimOptions>() {
        Ok(options) => options,
        Err(error) => {
            let message = error.to_string();
            let quoted = message
                .split_once('\'')
                .and_then(|(_, rest)| rest.rsplit_once('\''));
            assert!(
                quoted.is_some_and(|(part, _)| text.contains(part)),
                "{message}"
            );
            return false;
        }
    };
    assert!(text.starts_with("sim"), "nobody asked for a simulator");
    assert!(options.flips().iter().all(|flip| flip.bit < 8));
    let info = SimDevice::with_options(options.clone()).info().clone();
    assert_eq!(info.kind, DeviceKind::Simulated);
    assert!(info.total_bytes > 0 && info.granularity > 0);
    let seed = u64::from_be_bytes(info.uuid.as_bytes()[8..].try_into().expect("8 bytes"));
    let mut full = format!(
        "sim:{},granularity={}B,seed={seed},ordinal={}",
        info.total_bytes, info.granularity, info.ordinal
    );
    for flip in options.flips() {
        assert_eq!(flip.moment, Moment::AfterSeal);
        write!(full, ",flip={}:{}", flip.offset, flip.bit).expect("written");
    }
    if text.split([':', ',']).any(|part| part == "discard") {
        full += ",discard";
    }
    let again: SimOptions = full.parse().expect("read back");
    assert_eq!(format!("{again:?}"), format!("{options:?}"), "{full}");
    true
}
