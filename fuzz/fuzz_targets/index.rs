//! Index files: no panic, only plain file names, each tensor in one file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use vram_residency::format::Limits;
use vram_residency::format::index::{check_file_name, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(index) = parse(&data, &Limits::default()) else {
        return;
    };
    for file in index.files() {
        assert!(check_file_name(file).is_ok());
        // The standard library agrees that it is one name, not a path.
        assert_eq!(Path::new(file).file_name(), Some(file.as_ref()));
        assert_eq!(Path::new(file).components().count(), 1);
    }
    let mut previous = None;
    for (tensor, file) in index.weight_map() {
        assert!(previous < Some(tensor));
        previous = Some(tensor);
        assert_eq!(index.file_of(tensor), Some(file));
        assert!(index.files().iter().any(|f| f == file));
    }
});
