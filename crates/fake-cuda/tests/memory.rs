//! Allocation, accounting, protection, host memory.
#![allow(clippy::macro_metavars_in_unsafe, reason = "test code")]

mod common;

use std::ffi::c_void;

use common::{Access, MIB, Machine, NON_BLOCKING, PAGE, Prop};

const INVALID: u32 = 1;
const OOM: u32 = 2;
const ILLEGAL: u32 = 700;

#[test]
fn plain_memory_keeps_bytes_and_starts_dirty() {
    let m = Machine::new("");
    let buffer = m.alloc(1000);
    assert!(buffer.is_multiple_of(256));
    assert_eq!(m.get(buffer, 1000), [0xa5; 1000]);
    let bytes: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
    m.put(buffer, &bytes);
    assert_eq!(m.get(buffer, 1000), bytes);
    let copy = m.alloc(1000);
    assert_eq!(cu!(m, cuMemcpyDtoD_v2(copy, buffer, 1000)), 0);
    assert_eq!(m.get(copy, 1000), bytes);
    assert_eq!(cu!(m, cuMemsetD32_v2(copy, 0x0403_0201, 4)), 0);
    assert_eq!(m.get(copy, 17)[12..], [1, 2, 3, 4, bytes[16]]);
    assert_eq!(cu!(m, cuMemsetD32_v2(copy + 1, 0, 1)), INVALID);
    let (mut base, mut len) = (0, 0);
    assert_eq!(
        cu!(
            m,
            cuMemGetAddressRange_v2(&raw mut base, &raw mut len, copy + 9)
        ),
        0
    );
    assert_eq!((base, len), (copy, 1008));
    assert_eq!(m.try_get(buffer, 1009), Err(INVALID));
    assert_eq!(cu!(m, cuMemFree_v2(buffer)), 0);
    assert_eq!(cu!(m, cuMemFree_v2(buffer)), INVALID);
    assert_eq!(cu!(m, cuMemFree_v2(copy + 16)), INVALID);
    assert_eq!(m.try_get(buffer, 1), Err(INVALID));
    // Freed addresses come back soon.
    assert_eq!(m.alloc(1000), buffer);
}

#[test]
fn freed_memory_comes_back_as_it_was_where_the_machine_says_so() {
    for (options, again) in [("", 0xa5), ("reuse", 7)] {
        let m = Machine::new(options);
        let plain = m.alloc(1000);
        m.put(plain, &[7; 1000]);
        assert_eq!(cu!(m, cuMemFree_v2(plain)), 0);
        assert_eq!(m.get(m.alloc(999), 999), [again; 999], "'{options}'");
        assert_eq!(m.get(m.alloc(1000), 1000), [0xa5; 1000], "only once");
        let mapped = m.mapped(PAGE);
        m.put(mapped.address, &vec![7; PAGE]);
        assert_eq!(cu!(m, cuMemUnmap(mapped.address, PAGE)), 0);
        assert_eq!(cu!(m, cuMemRelease(mapped.handle)), 0);
        let larger = m.mapped(2 * PAGE);
        assert_eq!(m.get(larger.address, 2 * PAGE), vec![0xa5; 2 * PAGE]);
        let next = m.mapped(PAGE);
        assert_eq!(m.get(next.address, PAGE), vec![again; PAGE], "'{options}'");
    }
}

#[test]
fn free_bytes_are_counted_in_whole_pages() {
    let m = Machine::new("vram=16M context=1M");
    assert_eq!(m.free_bytes(), 15 * MIB);
    let small = [m.alloc(1), m.alloc(1000)];
    assert_eq!(m.free_bytes(), 13 * MIB, "small allocations share a page");
    let large = m.alloc(3 * MIB);
    assert_eq!(m.free_bytes(), 9 * MIB);
    let mut address = 0;
    assert_eq!(cu!(m, cuMemAlloc_v2(&raw mut address, 10 * MIB)), OOM);
    assert_eq!(cu!(m, cuMemAlloc_v2(&raw mut address, 0)), INVALID);
    assert_eq!(
        cu!(m, cuMemAlloc_v2(&raw mut address, 9 * MIB)),
        OOM,
        "five pages do not fit"
    );
    let fits = m.alloc(8 * MIB);
    assert_eq!(m.free_bytes(), MIB);
    for address in [small[0], small[1], large, fits] {
        assert_eq!(cu!(m, cuMemFree_v2(address)), 0);
    }
    assert_eq!(m.free_bytes(), 15 * MIB);
    assert_eq!(m.report()["used"], serde_json::json!([MIB]));
}

#[test]
fn huge_devices_cost_only_what_is_touched() {
    let m = Machine::new("vram=1000G");
    let buffer = m.alloc(900 << 30);
    m.put(buffer + (450 << 30), &[1, 2, 3]);
    assert_eq!(m.get(buffer + (450 << 30), 3), [1, 2, 3]);
}

#[test]
fn the_virtual_memory_api_maps_protects_and_counts() {
    let m = Machine::new("vram=64M");
    let mut granularity = 0;
    let prop = Machine::prop(0);
    let code = cu!(
        m,
        cuMemGetAllocationGranularity(&raw mut granularity, &raw const prop, 0)
    );
    assert_eq!((code, granularity), (0, PAGE));
    let mut handle = 0;
    assert_eq!(
        cu!(
            m,
            cuMemCreate(&raw mut handle, PAGE + 1, &raw const prop, 0)
        ),
        INVALID
    );
    let a = m.mapped(2 * PAGE);
    assert_eq!(m.free_bytes(), 60 * MIB);
    m.put(a.address + PAGE as u64 - 2, &[1, 2, 3, 4]);
    assert_eq!(m.get(a.address + PAGE as u64 - 2, 4), [1, 2, 3, 4]);

    let mut rights = 9;
    let place = [1, 0];
    assert_eq!(
        cu!(
            m,
            cuMemGetAccess(&raw mut rights, &raw const place, a.address)
        ),
        0
    );
    assert_eq!(rights, 3);
    assert_eq!(m.protect(a.address, 2 * PAGE, 0, 1), 0);
    assert_eq!(
        cu!(
            m,
            cuMemGetAccess(&raw mut rights, &raw const place, a.address)
        ),
        0
    );
    assert_eq!(rights, 1);

    let mut same = 0;
    let inside = std::ptr::without_provenance_mut::<c_void>(a.address as usize + 5);
    assert_eq!(
        cu!(m, cuMemRetainAllocationHandle(&raw mut same, inside)),
        0
    );
    let mut found = Prop::default();
    let code = cu!(
        m,
        cuMemGetAllocationPropertiesFromHandle(&raw mut found, same)
    );
    assert_eq!((code, found), (0, prop));
    assert_eq!(m.count("handles"), 2);
    assert_eq!(cu!(m, cuMemRelease(same)), 0);

    m.unmap(&a, 2 * PAGE);
    assert_eq!(m.free_bytes(), 64 * MIB);
    assert_eq!(cu!(m, cuMemRelease(a.handle)), INVALID);
    for key in [
        "mappings",
        "reservations",
        "handles",
        "mapped_bytes",
        "reserved_bytes",
    ] {
        assert_eq!(m.count(key), 0, "{key}");
    }
}

#[test]
fn the_virtual_memory_api_refuses_what_the_header_forbids() {
    let m = Machine::new("");
    let a = m.mapped(2 * PAGE);
    let page = PAGE as u64;
    let spare = m.create(PAGE, &Machine::prop(0));
    let mut out = 0;
    assert_eq!(
        cu!(m, cuMemMap(a.address, PAGE, 0, spare, 0)),
        INVALID,
        "mapped already"
    );
    assert_eq!(
        cu!(m, cuMemMap(a.address + 64 * page, PAGE, 0, spare, 0)),
        INVALID,
        "not reserved"
    );
    assert_eq!(
        cu!(m, cuMemUnmap(a.address, PAGE)),
        INVALID,
        "half a mapping"
    );
    assert_eq!(m.protect(a.address, PAGE, 0, 1), INVALID, "half a mapping");
    assert_eq!(m.protect(a.address, 2 * PAGE, 5, 1), 101, "no such device");
    assert_eq!(m.protect(a.address, 2 * PAGE, 0, 2), INVALID, "write only");
    assert_eq!(
        cu!(m, cuMemAddressFree(a.address, 2 * PAGE)),
        INVALID,
        "still mapped"
    );
    assert_eq!(
        cu!(m, cuMemAddressReserve(&raw mut out, PAGE, 3, 0, 0)),
        INVALID,
        "alignment"
    );
    assert_eq!(cu!(m, cuMemRelease(77)), INVALID);
    let bad = Prop {
        location_id: 9,
        ..Machine::prop(0)
    };
    assert_eq!(
        cu!(m, cuMemCreate(&raw mut out, PAGE, &raw const bad, 0)),
        101
    );
    let plain = m.alloc(16);
    let plain = std::ptr::without_provenance_mut::<c_void>(plain as usize);
    assert_eq!(
        cu!(m, cuMemRetainAllocationHandle(&raw mut out, plain)),
        INVALID
    );
    let no_desc = std::ptr::null::<Access>();
    assert_eq!(
        cu!(m, cuMemSetAccess(a.address, 2 * PAGE, no_desc, 1)),
        INVALID
    );

    let m = Machine::new("novmm");
    assert_eq!(
        cu!(m, cuMemCreate(&raw mut out, PAGE, &raw const bad, 0)),
        801
    );
    assert_eq!(
        cu!(m, cuMemAddressReserve(&raw mut out, PAGE, 0, 0, 0)),
        801
    );
    let m = Machine::new("noreadonly");
    let a = m.mapped(PAGE);
    assert_eq!(m.protect(a.address, PAGE, 0, 1), 801);
}

#[test]
fn read_only_mappings_break_whoever_writes() {
    for writer in 0..3 {
        let m = Machine::new("");
        let a = m.mapped(PAGE);
        m.put(a.address, &[7; 16]);
        assert_eq!(m.sync(), 0);
        let touch = m.function("touch");
        assert_eq!(m.protect(a.address, PAGE, 0, 1), 0);
        assert_eq!(m.get(a.address, 16), [7; 16], "reading is allowed");
        let code = match writer {
            0 => m.launch(touch, 1, 0, &[a.address]),
            1 => cu!(m, cuMemcpyHtoD_v2(a.address, [1_u8].as_ptr().cast(), 1)),
            _ => cu!(m, cuMemsetD8_v2(a.address, 1, 1)),
        };
        assert_eq!(code, 0, "the fault comes later");
        assert_eq!(m.sync(), ILLEGAL);
        // Sticky: nothing in this context works any more.
        assert_eq!(m.sync(), ILLEGAL);
        let mut out = 0;
        assert_eq!(cu!(m, cuMemAlloc_v2(&raw mut out, 16)), ILLEGAL);
        assert_eq!(cu!(m, cuStreamCreate(&raw mut out, NON_BLOCKING)), ILLEGAL);
        assert!(m.ctl.log().unwrap().contains("exec."));
        // A new context sees the memory, which belongs to no context, unharmed.
        assert_eq!(cu!(m, cuDevicePrimaryCtxReset_v2(0)), 0);
        let context = m.retain(0);
        m.push(context);
        assert_eq!(m.get(a.address, 16), [7; 16]);
    }
    let m = Machine::new("noprotection");
    let a = m.mapped(PAGE);
    assert_eq!(m.protect(a.address, PAGE, 0, 1), 0);
    assert_eq!(cu!(m, cuMemsetD8_v2(a.address, 1, 1)), 0);
    assert_eq!((m.sync(), m.get(a.address, 1)), (0, vec![1]));
}

#[test]
fn memory_that_vanishes_under_queued_work_breaks_the_context() {
    for how in 0..3 {
        let m = Machine::new("schedule=lazy");
        let a = m.mapped(PAGE);
        let stream = m.stream(NON_BLOCKING);
        let pinned = m.pinned(16);
        assert_eq!(
            cu!(
                m,
                cuMemcpyHtoDAsync_v2(a.address, pinned.cast(), 16, stream)
            ),
            0
        );
        let code = match how {
            0 => cu!(m, cuMemUnmap(a.address, PAGE)),
            1 => cu!(m, cuMemFreeHost(pinned.cast())),
            _ => m.protect(a.address, PAGE, 0, 0),
        };
        assert_eq!(code, 0);
        assert_eq!(cu!(m, cuStreamSynchronize(stream)), ILLEGAL, "{how}");
    }
}

#[test]
fn kernels_fault_outside_their_memory() {
    let m = Machine::new("");
    let touch = m.function("touch");
    let buffer = m.alloc(16);
    assert_eq!(m.launch(touch, 1, 0, &[buffer + 12]), 0);
    assert_eq!(m.sync(), 0);
    assert_eq!(m.launch(touch, 1, 0, &[buffer + 2]), 0);
    assert_eq!(m.sync(), 716, "misaligned");
    let m = Machine::new("instructions=1000");
    let spin = m.function("spin");
    assert_eq!(m.launch(spin, 1, 0, &[]), 0);
    assert_eq!(m.sync(), 702);
}

#[test]
fn host_memory_can_be_pinned_and_reached_by_kernels() {
    let m = Machine::new("");
    let pinned = m.pinned(64);
    let mut seen = 0;
    assert_eq!(
        cu!(
            m,
            cuMemHostGetDevicePointer_v2(&raw mut seen, pinned.cast(), 0)
        ),
        0
    );
    let touch = m.function("touch");
    assert_eq!(m.launch(touch, 1, 0, &[seen + 4]), 0);
    assert_eq!(m.sync(), 0);
    let word = pinned.wrapping_add(4).cast::<u32>();
    // SAFETY: inside the 64 pinned bytes; the kernel has finished.
    assert_eq!(unsafe { word.read() }, 1);
    assert_eq!(m.count("pinned_bytes"), 64);

    let mut own = vec![5_u8; 8192];
    let at = own.as_mut_ptr().cast::<c_void>();
    assert_eq!(cu!(m, cuMemHostRegister_v2(at, 8192, 0)), 0);
    assert_eq!(cu!(m, cuMemHostRegister_v2(at, 10, 0)), 712);
    assert_eq!(m.count("pinned_bytes"), 64 + 8192);
    assert_eq!(cu!(m, cuMemHostUnregister(at)), 0);
    assert_eq!(cu!(m, cuMemHostUnregister(at)), 713);
    assert_eq!(cu!(m, cuMemFreeHost(at)), INVALID);
    assert_eq!(cu!(m, cuMemFreeHost(pinned.cast())), 0);
    assert_eq!(m.count("pinned_bytes"), 0);
}

/// Memory type, host pointer, managed, ordinal, as `cuPointerGetAttributes` says.
fn facts(m: &Machine, address: u64) -> (u32, u64, u32, i32) {
    let (mut kind, mut host, mut managed, mut ordinal) = (9_u32, 9_u64, 9_u32, 9_i32);
    let mut names = [2, 4, 8, 9];
    let mut places: [*mut c_void; 4] = [
        (&raw mut kind).cast(),
        (&raw mut host).cast(),
        (&raw mut managed).cast(),
        (&raw mut ordinal).cast(),
    ];
    let code = cu!(
        m,
        cuPointerGetAttributes(4, names.as_mut_ptr(), places.as_mut_ptr(), address)
    );
    assert_eq!(code, 0);
    (kind, host, managed, ordinal)
}

#[test]
fn the_driver_tells_what_a_pointer_is() {
    let m = Machine::new("gpus=2");
    assert_eq!(facts(&m, m.alloc(16)), (2, 0, 0, 0));
    assert_eq!(facts(&m, m.mapped(PAGE).address + 5), (2, 0, 0, 0));
    let mut managed = 0;
    assert_eq!(cu!(m, cuMemAllocManaged(&raw mut managed, 64, 1)), 0);
    assert_eq!(facts(&m, managed), (2, managed, 1, 0));
    let byte = std::ptr::with_exposed_provenance_mut::<u8>(managed as usize);
    // SAFETY: managed memory is host memory too, 64 bytes of it.
    unsafe { byte.write(3) };
    assert_eq!(m.get(managed, 1), [3]);
    let pinned = m.pinned(16) as u64;
    assert_eq!(facts(&m, pinned), (1, pinned, 0, 0));
    let numa = Prop {
        handle_types: 0,
        location_kind: 3,
        ..Machine::prop(0)
    };
    let numa = m.create(PAGE, &numa);
    let numa = m.map(numa, PAGE);
    assert_eq!(facts(&m, numa), (1, numa, 0, 0));
    assert_eq!(facts(&m, 64), (0, 0, 0, -2), "no such memory");
    let mut value = 0_u64;
    let out = (&raw mut value).cast();
    assert_eq!(cu!(m, cuPointerGetAttribute(out, 4, m.alloc(16))), INVALID);
    assert_eq!(
        cu!(m, cuPointerGetAttribute(out, 6, m.alloc(16))),
        INVALID,
        "not modelled"
    );
    m.ctl.run("pointer 2 1").unwrap();
    assert_eq!(facts(&m, m.alloc(16)).0, 1, "a lie was asked for");
}

#[test]
fn peers_copy_directly_and_kernels_need_permission() {
    let m = Machine::new("gpus=2");
    let here = m.alloc(512);
    let other = m.retain(1);
    m.push(other);
    let there = m.alloc(512);
    assert_eq!(cu!(m, cuMemsetD8_v2(there, 9, 512)), 0);
    assert_eq!(cu!(m, cuMemcpyPeer(here, m.context, there, other, 512)), 0);
    assert_eq!(m.sync(), 0);
    assert_eq!(cu!(m, cuCtxPopCurrent_v2(std::ptr::null_mut())), 0);
    assert_eq!(m.get(here, 512), [9; 512]);
    let stream = m.stream(NON_BLOCKING);
    assert_eq!(
        cu!(
            m,
            cuMemcpyPeerAsync(there, other, here, m.context, 512, stream)
        ),
        0
    );
    assert_eq!(cu!(m, cuStreamSynchronize(stream)), 0);

    let increment = m.function("increment");
    assert_eq!(cu!(m, cuCtxEnablePeerAccess(other, 0)), 0);
    assert_eq!(cu!(m, cuCtxEnablePeerAccess(other, 0)), 704);
    assert_eq!(m.launch(increment, 128, 0, &[there, 128]), 0);
    assert_eq!(m.sync(), 0);
    assert_eq!(cu!(m, cuCtxDisablePeerAccess(other)), 0);
    assert_eq!(cu!(m, cuCtxDisablePeerAccess(other)), 705);
    assert_eq!(m.launch(increment, 128, 0, &[there, 128]), 0);
    assert_eq!(m.sync(), ILLEGAL);
    assert_eq!(m.report()["used"], serde_json::json!([PAGE, PAGE]));
}
