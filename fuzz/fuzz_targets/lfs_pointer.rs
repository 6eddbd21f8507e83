//! git-LFS pointers: no panic, and what is accepted is spelled in one way only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vram_residency::format::{Format, FormatError, detect, lfs};

fuzz_target!(|data: &[u8]| {
    if let Ok(pointer) = lfs::parse(&data) {
        let text = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            pointer.oid, pointer.size
        );
        assert_eq!(text.as_bytes(), data);
        let error = detect(Some("safetensors"), &data);
        assert!(matches!(error, Err(FormatError::LfsPointer(found)) if found == pointer));
    }
    // Pointer or not, recognition itself must hold and never claim plain
    // bytes for what an extension calls a model.
    for extension in [None, Some("safetensors"), Some("gguf")] {
        if let Ok(format) = detect(extension, &data) {
            assert_eq!(extension.is_some() && format == Format::Raw, false);
        }
    }
});
