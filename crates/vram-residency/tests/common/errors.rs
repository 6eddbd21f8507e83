//! One error of every variant of the layers below the manager, each with the
//! beginning of its `Debug` as an `Error`.

use std::io;

use vram_residency::device::DeviceError;
use vram_residency::format::FormatError;
use vram_residency::key::KeyError;
use vram_residency::load::LoadError;

/// Makes an error that cannot be cloned.
pub(crate) type MakeLoadError = fn() -> LoadError;

fn io_error() -> io::Error {
    io::Error::other("test")
}

/// Every variant of [`LoadError`].
pub(crate) fn load_errors() -> Vec<(&'static str, MakeLoadError)> {
    fn name() -> String {
        "model".to_owned()
    }
    vec![
        ("Load(Open", || LoadError::Open {
            name: name(),
            source: io_error(),
        }),
        ("Load(NotRegular", || LoadError::NotRegular { name: name() }),
        ("Load(Read", || LoadError::Read {
            name: name(),
            offset: 0,
            source: io_error(),
        }),
        ("Load(Write", || LoadError::Write { source: io_error() }),
        ("Load(Short", || LoadError::Short {
            name: name(),
            offset: 0,
            expected: 1,
        }),
        ("Load(Changed", || LoadError::Changed {
            name: name(),
            what: "size",
        }),
        ("Load(Format", || LoadError::Format {
            name: name(),
            source: FormatError::Io {
                offset: 0,
                len: 1,
                source: io_error(),
            },
        }),
        ("Load(NoModel", || LoadError::NoModel { name: name() }),
        ("Load(Ambiguous", || LoadError::Ambiguous {
            name: name(),
            count: 2,
            some: vec![name(), name()],
        }),
        ("Load(SplitName", || LoadError::SplitName {
            name: name(),
            count: 2,
        }),
        ("Load(NotWhole", || LoadError::NotWhole {
            name: name(),
            what: "is an index".to_owned(),
        }),
        ("Load(Cancelled", || LoadError::Cancelled { name: name() }),
        ("Load(Deadline", || LoadError::Deadline { name: name() }),
    ]
}

/// Every variant of [`DeviceError`] but the loss, which has events of its own.
pub(crate) fn device_errors() -> Vec<(&'static str, DeviceError)> {
    let text = || "test".to_owned();
    vec![
        (
            "Device(Unavailable",
            DeviceError::Unavailable { reason: text() },
        ),
        (
            "Device(OutOfMemory",
            DeviceError::OutOfMemory { requested: 1 },
        ),
        (
            "Device(HostOutOfMemory",
            DeviceError::HostOutOfMemory { requested: 1 },
        ),
        (
            "Device(Driver",
            DeviceError::Driver {
                op: "test",
                code: 1,
                name: text(),
                text: text(),
            },
        ),
        ("Device(UnknownBuffer", DeviceError::UnknownBuffer),
        (
            "Device(OutOfRange",
            DeviceError::OutOfRange {
                offset: 0,
                len: 1,
                size: 0,
            },
        ),
        ("Device(Protected", DeviceError::Protected),
        ("Device(Incomplete", DeviceError::Incomplete { missing: 1 }),
        ("Device(NoResult", DeviceError::NoResult { op: "test" }),
        (
            "Device(Unsupported",
            DeviceError::Unsupported { what: "test" },
        ),
        ("Device(Closed", DeviceError::Closed),
    ]
}

/// Every variant of [`KeyError`].
pub(crate) fn key_errors() -> Vec<(&'static str, KeyError)> {
    let (path, reason) = (|| "key".into(), || "test".to_owned());
    vec![
        (
            "Key(Open",
            KeyError::Open {
                path: path(),
                reason: reason(),
            },
        ),
        ("Key(NotRegular", KeyError::NotRegular { path: path() }),
        (
            "Key(PermissionsTooOpen",
            KeyError::PermissionsTooOpen {
                path: path(),
                mode: 0o644,
            },
        ),
        (
            "Key(Owner",
            KeyError::Owner {
                path: path(),
                owner: 5,
            },
        ),
        ("Key(Format", KeyError::Format { reason: "test" }),
        ("Key(NotSigning", KeyError::NotSigning),
        ("Key(TokenLength", KeyError::TokenLength { len: 1 }),
        ("Key(Entropy", KeyError::Entropy),
        (
            "Key(Credential",
            KeyError::Credential {
                name: reason(),
                reason: reason(),
            },
        ),
        ("Key(Io", KeyError::Io { reason: reason() }),
        ("Key(Memory", KeyError::Memory { reason: reason() }),
        ("Key(Provider", KeyError::Provider { reason: reason() }),
    ]
}
