// Shared device-side vocabulary. `cargo xtask kernels` concatenates device.cu,
// sha256.cu, nhpoly1305.cu and memory.cu into one translation unit, so there is
// no header, no CUDA include and no libdevice: NVRTC and clang see the same text.
//
// Rules of every kernel here
//   * Addresses are u64, lengths are u64, arithmetic on them never wraps for a
//     range that the driver could have allocated.
//   * Data is read only as aligned 16-byte words that hold at least one byte of
//     the range: no byte outside [floor16(first byte), ceil16(end)) is touched,
//     so no padding around an allocation is assumed.
//   * Data is read with plain ld.global, never ld.global.nc: another process may
//     write the same physical memory while a kernel runs.
//
// Segment table (hash kernels). `table` points to `entries` >= 1 records of
// 32 bytes, 16-byte aligned, little endian:
//   u64 address   first byte of the range, any alignment
//   u64 length    bytes; an empty range has no items and is skipped
//   u64 first     sum of the item counts of all earlier records; an item is a
//                 4096-byte block (sha256.cu) or a 1 MiB segment (nhpoly1305.cu),
//                 the last item of a record may be short
//   u64 output    where the results of this record go, 16-byte aligned
// `items` is the sum over the whole table. Item k of a record writes its result
// at output + k * (size of one result).

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#if defined(__clang__) && !defined(__CUDACC_RTC__)
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __forceinline__ inline __attribute__((always_inline))
#endif

#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__

struct Word16 {
    u32 x, y, z, w;
};

struct Segment {
    u64 address, length, first, output;
};

DEVICE u32 thread_index() {
    u32 v;
    asm("mov.u32 %0, %%tid.x;" : "=r"(v));
    return v;
}
DEVICE u32 block_index() {
    u32 v;
    asm("mov.u32 %0, %%ctaid.x;" : "=r"(v));
    return v;
}
DEVICE u32 block_threads() {
    u32 v;
    asm("mov.u32 %0, %%ntid.x;" : "=r"(v));
    return v;
}
DEVICE u32 grid_blocks() {
    u32 v;
    asm("mov.u32 %0, %%nctaid.x;" : "=r"(v));
    return v;
}
DEVICE void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

// `volatile` keeps a load where the source puts it (the pipelines below rely on
// it) and under the condition that guards it.
DEVICE Word16 load16(u64 address) {
    Word16 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(address));
    return v;
}
DEVICE u64 load_u64(u64 address) {
    u64 v;
    asm volatile("ld.global.u64 %0, [%1];" : "=l"(v) : "l"(address));
    return v;
}
DEVICE void store16(u64 address, Word16 v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}
DEVICE void store_u8(u64 address, u32 v) {
    asm volatile("st.global.u8 [%0], %1;" ::"l"(address), "r"(v) : "memory");
}

// Bytes of {high, low} picked by the four nibbles of `selector`.
DEVICE u32 permute(u32 low, u32 high, u32 selector) {
    u32 v;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(v) : "r"(low), "r"(high), "r"(selector));
    return v;
}
DEVICE u32 swap_bytes(u32 v) { return permute(v, v, 0x0123); }

DEVICE u64 min_u64(u64 a, u64 b) { return a < b ? a : b; }

// Selector that reads four bytes starting at byte `shift` (0..=3) of {high, low}.
DEVICE u32 shift_selector(u32 shift) { return 0x3210 + 0x1111 * shift; }

// Keeps the first `count` bytes of a little-endian word; `count` may be any i32.
DEVICE u32 keep_low_bytes(u32 v, int count) {
    if (count >= 4) return v;
    if (count <= 0) return 0;
    return v & ((1u << (8 * count)) - 1u);
}

// The aligned word at `address`, with the bytes at `end` and beyond read as
// zero. Words that lie wholly beyond `end` are not touched.
DEVICE Word16 load16_before(u64 address, u64 end) {
    Word16 v = {0, 0, 0, 0};
    if (address >= end) return v;
    v = load16(address);
    u64 left = end - address;
    if (left < 16) {
        int n = (int)left;
        v.x = keep_low_bytes(v.x, n);
        v.y = keep_low_bytes(v.y, n - 4);
        v.z = keep_low_bytes(v.z, n - 8);
        v.w = keep_low_bytes(v.w, n - 12);
    }
    return v;
}

// The 16 bytes that start at byte `shift` (0..=15) of the 32 bytes {a, b}.
DEVICE Word16 join16(Word16 a, Word16 b, u32 shift) {
    u32 selector = shift_selector(shift & 3);
    bool two = (shift & 8) != 0;
    u32 s0 = two ? a.z : a.x, s1 = two ? a.w : a.y, s2 = two ? b.x : a.z;
    u32 s3 = two ? b.y : a.w, s4 = two ? b.z : b.x, s5 = two ? b.w : b.y;
    bool one = (shift & 4) != 0;
    u32 t0 = one ? s1 : s0, t1 = one ? s2 : s1, t2 = one ? s3 : s2;
    u32 t3 = one ? s4 : s3, t4 = one ? s5 : s4;
    Word16 v;
    v.x = permute(t0, t1, selector);
    v.y = permute(t1, t2, selector);
    v.z = permute(t2, t3, selector);
    v.w = permute(t3, t4, selector);
    return v;
}

// Sixteen bytes at any address; bytes at `end` and beyond read as zero.
DEVICE Word16 load16_any(u64 address, u64 end) {
    u32 shift = (u32)address & 15;
    u64 base = address - shift;
    Word16 a = load16_before(base, end);
    Word16 b = {0, 0, 0, 0};
    if (shift != 0) b = load16_before(base + 16, end);
    return join16(a, b, shift);
}

// The record that holds item `item`: the last one whose `first` is <= item.
DEVICE Segment find_segment(u64 table, u32 entries, u64 item) {
    u32 low = 0, high = entries;
    while (high - low > 1) {
        u32 middle = low + (high - low) / 2;
        if (load_u64(table + 32ull * middle + 16) <= item) {
            low = middle;
        } else {
            high = middle;
        }
    }
    u64 record = table + 32ull * low;
    Segment s;
    s.address = load_u64(record);
    s.length = load_u64(record + 8);
    s.first = load_u64(record + 16);
    s.output = load_u64(record + 24);
    return s;
}
