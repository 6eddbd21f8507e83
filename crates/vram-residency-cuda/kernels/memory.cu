// Fill, scrub check, compare, random fill and the read-bandwidth roof.
//
// One range per launch, any grid and block size (grid-stride loops); 256 threads
// per block and 8 to 16 blocks per multiprocessor saturate the memory.
//
//   vram_fill(u64 address, u64 length, u32 value)
//       every byte of the range becomes the low byte of `value`; any alignment.
//   vram_check(u64 address, u64 length, u32 value, u64 result)
//       how many bytes differ from the low byte of `value`; any alignment.
//   vram_compare(u64 a, u64 b, u64 length, u64 result)
//       how many bytes differ between the two ranges; any two alignments.
//   vram_random(u64 address, u64 length, u64 seed)
//       u64 number n of the range, little endian, is output n of SplitMix64
//       started at `seed`; `address` 16-byte aligned, any length.
//   vram_sum(u64 address, u64 length, u64 result)
//       adds the little-endian u32 words of the range, wrapping, to the u32 at
//       `result`; `address` and `length` multiples of 16.
//
// `result` of check and compare: two u64, 8-byte aligned, which the host sets to
// {0, 2^64 - 1} first. The kernel adds the number of differing bytes to the
// first and lowers the second to the index of the first differing byte.

DEVICE void add_u64(u64 address, u64 v) {
    asm volatile("red.global.add.u64 [%0], %1;" ::"l"(address), "l"(v) : "memory");
}
DEVICE void min_in_u64(u64 address, u64 v) {
    asm volatile("red.global.min.u64 [%0], %1;" ::"l"(address), "l"(v) : "memory");
}
DEVICE void add_u32(u64 address, u32 v) {
    asm volatile("red.global.add.u32 [%0], %1;" ::"l"(address), "r"(v) : "memory");
}
DEVICE u32 count_bits(u32 v) {
    u32 n;
    asm("popc.b32 %0, %1;" : "=r"(n) : "r"(v));
    return n;
}

DEVICE u64 global_thread() { return (u64)block_index() * block_threads() + thread_index(); }
DEVICE u64 global_threads() { return (u64)grid_blocks() * block_threads(); }

// Drops the first `count` bytes of a little-endian word; `count` may be any i32.
DEVICE u32 drop_low_bytes(u32 v, int count) {
    if (count >= 4) return 0;
    if (count <= 0) return v;
    return v & ~((1u << (8 * count)) - 1u);
}

// Zeroes the bytes of the aligned word at `address` that lie before `start`.
DEVICE Word16 drop_before(Word16 v, u64 address, u64 start) {
    if (address >= start) return v;
    int n = (int)(start - address);
    v.x = drop_low_bytes(v.x, n);
    v.y = drop_low_bytes(v.y, n - 4);
    v.z = drop_low_bytes(v.z, n - 8);
    v.w = drop_low_bytes(v.w, n - 12);
    return v;
}

// 0x80 in each byte of `v` that is not zero.
DEVICE u32 nonzero_bytes(u32 v) { return (((v & 0x7f7f7f7fu) + 0x7f7f7f7fu) | v) & 0x80808080u; }

struct Tally {
    u64 count, first;
};

DEVICE void tally_word(Tally &t, u32 difference, u64 index) {
    u32 marks = nonzero_bytes(difference);
    if (marks == 0) return;
    t.count += count_bits(marks);
    u32 below = (marks & (0u - marks)) - 1u;
    t.first = min_u64(t.first, index + count_bits(below) / 8);
}

// `index` is the index of byte 0 of the word within the range. For the head word
// it may lie before the range and then wraps; the marked bytes never do.
DEVICE void tally_word16(Tally &t, Word16 difference, u64 index) {
    if ((difference.x | difference.y | difference.z | difference.w) == 0) return;
    tally_word(t, difference.x, index);
    tally_word(t, difference.y, index + 4);
    tally_word(t, difference.z, index + 8);
    tally_word(t, difference.w, index + 12);
}

DEVICE void report(const Tally &t, u64 result) {
    if (t.count == 0) return;
    add_u64(result, t.count);
    min_in_u64(result + 8, t.first);
}

extern "C" __global__ void vram_fill(u64 address, u64 length, u32 value) {
    u64 end = address + length;
    u32 pattern = permute(value, value, 0);
    Word16 word = {pattern, pattern, pattern, pattern};
    u64 step = 16 * global_threads();
    for (u64 at = (address & ~15ull) + 16 * global_thread(); at < end; at += step) {
        if (at >= address && end - at >= 16) {
            store16(at, word);
            continue;
        }
        for (u64 byte = at; byte < at + 16; byte++) {
            if (byte >= address && byte < end) store_u8(byte, pattern);
        }
    }
}

extern "C" __global__ void vram_check(u64 address, u64 length, u32 value, u64 result) {
    if (length == 0) return;
    u64 end = address + length;
    u32 pattern = permute(value, value, 0);
    Tally t = {0, ~0ull};
    u64 step = 16 * global_threads();
    for (u64 at = (address & ~15ull) + 16 * global_thread(); at < end; at += step) {
        Word16 v = load16(at);
        v.x ^= pattern;
        v.y ^= pattern;
        v.z ^= pattern;
        v.w ^= pattern;
        if (end - at < 16) {
            int n = (int)(end - at);
            v.x = keep_low_bytes(v.x, n);
            v.y = keep_low_bytes(v.y, n - 4);
            v.z = keep_low_bytes(v.z, n - 8);
            v.w = keep_low_bytes(v.w, n - 12);
        }
        tally_word16(t, drop_before(v, at, address), at - address);
    }
    report(t, result);
}

extern "C" __global__ void vram_compare(u64 a, u64 b, u64 length, u64 result) {
    Tally t = {0, ~0ull};
    u64 step = 16 * global_threads();
    for (u64 at = 16 * global_thread(); at < length; at += step) {
        Word16 p = load16_any(a + at, a + length);
        Word16 q = load16_any(b + at, b + length);
        p.x ^= q.x;
        p.y ^= q.y;
        p.z ^= q.z;
        p.w ^= q.w;
        tally_word16(t, p, at);
    }
    report(t, result);
}

DEVICE u64 split_mix(u64 seed, u64 n) {
    u64 z = seed + (n + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

extern "C" __global__ void vram_random(u64 address, u64 length, u64 seed) {
    u64 step = 16 * global_threads();
    for (u64 at = 16 * global_thread(); at < length; at += step) {
        u64 low = split_mix(seed, at / 8), high = split_mix(seed, at / 8 + 1);
        if (length - at >= 16) {
            Word16 v = {(u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32)};
            store16(address + at, v);
            continue;
        }
        for (u64 i = at; i < length; i++) {
            u64 half = (i & 8) != 0 ? high : low;
            store_u8(address + i, (u32)(half >> (8 * (i & 7))));
        }
    }
}

// Eight independent loads per thread and turn: enough bytes in flight to be the
// roof that the hash kernels are measured against.
extern "C" __global__ void __launch_bounds__(256) vram_sum(u64 address, u64 length, u64 result) {
    const u32 loads = 8;
    u32 sum = 0;
    u64 span = 16ull * block_threads();
    u64 step = loads * span * grid_blocks();
    u64 tile = (u64)block_index() * loads * span;
    for (; tile < length && length - tile >= loads * span; tile += step) {
        u64 at = address + tile + 16 * thread_index();
        Word16 v[loads];
#pragma unroll
        for (u32 i = 0; i < loads; i++) v[i] = load16(at + i * span);
#pragma unroll
        for (u32 i = 0; i < loads; i++) sum += v[i].x + v[i].y + v[i].z + v[i].w;
    }
    for (u64 at = tile + 16 * thread_index(); at < length && tile < length; at += span) {
        Word16 v = load16(address + at);
        sum += v.x + v.y + v.z + v.w;
    }
    add_u32(result, sum);
}
