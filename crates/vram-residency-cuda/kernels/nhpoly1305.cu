// NHPoly1305 exactly as Adiantum defines it (32-bit words, stride 2, 4 passes,
// 1 KiB units of NH, Poly1305 over the NH values): one 16-byte tag per 1 MiB
// segment and key.
//
//   vram_nh_tags_1(u64 table, u32 entries, u64 items, u64 key)
//   vram_nh_tags_2(u64 table, u32 entries, u64 items, u64 key, u64 second_key)
//       table, entries, items   segment table, see device.cu; an item is a 1 MiB
//                               segment, the last of a record may be short
//       key, second_key         1088 bytes each, 16-byte aligned: 16 bytes of
//                               Poly1305 r (clamped here), 1072 bytes of NH key
//   block 256 threads; any grid, blocks stride over the items: 2 blocks per
//   multiprocessor with one key, 1 with two, is full residency.
//   Result: 16 bytes per item with one key, 32 with two (key, then second key).
//
// Work. A block takes one segment, its 8 warps take batches of 8 chunks (1 KiB
// each) in turn: a row is 64 chunks. A lane always works on the same two 16-byte
// units of a chunk (bytes 32 * lane ..), so its 5 NH key units stay in registers
// and the inner loop loads nothing but data. In step i of a half batch the lane
// group g = lane / 8 works on chunk i ^ g: a warp still reads whole 256-byte
// runs, and the sum over lanes becomes butterflies that need no select:
//     steps 0,1 and 2,3 meet over lane bit 3, the two pairs over bit 4.
// Bit 2 then parts passes {0,1} from {2,3} (the two Poly1305 blocks of a chunk),
// bit 1 the two half batches, bit 0 the two keys (one key: both lanes agree).
// So each lane ends a batch with one 16-byte Poly1305 block of one key and does
//     h = h * r^128 + block          (a row is 128 blocks)
// and at the end h * r^(128 - place in the row), summed over the block. Rows are
// counted from the END of the segment: a short first row is missing blocks that
// add nothing, so every lane's last block lies in the last row.
//
// Budget, per 16-byte unit and key: 4 passes x (4 adds + 2 multiply-adds 32x32+64)
// = 16 adds + 8 IMAD.WIDE; butterflies 4 shuffles + 5; Poly1305 about 80 / 16 = 5.
// Once for both keys: two loads, and 4 PRMT and half a load if not aligned. One
// multiprocessor of an H200 gets 4.3 TB/s / 132 / 1.98 GHz = 16.5 bytes, one unit,
// per clock. Its rates per clock are 64 ALU and 64 FMA lanes, 32 shuffles, 128
// issued; ptxas spreads the adds over ALU and FMA. As compiled (budget.txt, counting
// an IMAD.WIDE as two), per unit:
//     one key    issued 48 of 128   ALU 11 of 64   FMA 39 of 64    -> 6.9 TB/s
//     two keys   issued 81 of 128   ALU 25 of 64   FMA 62 of 64    -> 4.3 TB/s
// so one key is bound by memory with room to spare, two keys at worst just so. What
// that takes is bytes in flight: a lane keeps four steps of loads ahead, 4 KiB per
// warp, 64 KiB per multiprocessor with one key and 32 KiB with two (latency 0.7 us
// x 33 GB/s per multiprocessor = 23 KiB).

#define WARPS 8
#define ROW_CHUNKS 64
#define ROW_BLOCKS 128
#define LIMB 0x3ffffffu

DEVICE u32 exchange(u32 v, u32 mask) {
    u32 r;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;"
                 : "=r"(r)
                 : "r"(v), "r"(mask));
    return r;
}
DEVICE u64 exchange(u64 v, u32 mask) {
    u32 low, high;
    asm("mov.b64 {%0, %1}, %2;" : "=r"(low), "=r"(high) : "l"(v));
    low = exchange(low, mask);
    high = exchange(high, mask);
    asm("mov.b64 %0, {%1, %2};" : "=l"(v) : "r"(low), "r"(high));
    return v;
}

// --- NH ---------------------------------------------------------------------

struct Sums {
    u64 pass[4];
};

// The lane's two units of a chunk, and how many of them the message reaches.
struct Units {
    Word16 first, second;
    u32 count;
};

struct LaneKey {
    Word16 unit[5];
};

// A unit that is not there adds nothing: one factor of each product becomes 0. No
// branch, so that lanes stay together for the shuffles that follow.
DEVICE void nh_unit(Sums &s, Word16 m, const Word16 *key, bool there) {
#pragma unroll
    for (int p = 0; p < 4; p++) {
        s.pass[p] += (u64)(there ? m.x + key[p].x : 0) * (m.z + key[p].z);
        s.pass[p] += (u64)(there ? m.y + key[p].y : 0) * (m.w + key[p].w);
    }
}

DEVICE Sums nh_units(const Units &u, const LaneKey &key) {
    Sums s = {{0, 0, 0, 0}};
    nh_unit(s, u.first, key.unit, u.count > 0);
    nh_unit(s, u.second, key.unit + 1, u.count > 1);
    return s;
}

DEVICE void meet(Sums &s, const Sums &other, u32 mask) {
#pragma unroll
    for (int p = 0; p < 4; p++) s.pass[p] += exchange(other.pass[p], mask);
}

// Two u64 of one Poly1305 block.
struct Block {
    u64 low, high;
};

// Lanes with `upper` keep `b`, the others `a`; partners add what they give away.
DEVICE Block part(const Block &a, const Block &b, bool upper, u32 mask) {
    Block keep = upper ? b : a, give = upper ? a : b;
    keep.low += exchange(give.low, mask);
    keep.high += exchange(give.high, mask);
    return keep;
}

// What one step loads: the aligned words around the lane's 32 bytes.
struct Raw {
    Word16 a, b, c;
};

template <int WORD> DEVICE void realign(Units &u, const Raw &raw, u32 selector) {
    const u32 v[13] = {raw.a.x, raw.a.y, raw.a.z, raw.a.w, raw.b.x, raw.b.y, raw.b.z,
                       raw.b.w, raw.c.x, raw.c.y, raw.c.z, raw.c.w, 0};
    u32 m[8];
#pragma unroll
    for (int i = 0; i < 8; i++) m[i] = permute(v[i + WORD], v[i + WORD + 1], selector);
    Word16 first = {m[0], m[1], m[2], m[3]}, second = {m[4], m[5], m[6], m[7]};
    u.first = first;
    u.second = second;
}

DEVICE Units units_of(const Raw &raw, u32 shift) {
    Units u;
    u.count = 2;
    u.first = raw.a;
    u.second = raw.b;
    if (shift == 0) return u;
    u32 selector = shift_selector(shift & 3);
    if ((shift & 8) == 0) {
        if ((shift & 4) == 0) {
            realign<0>(u, raw, selector);
        } else {
            realign<1>(u, raw, selector);
        }
    } else {
        if ((shift & 4) == 0) {
            realign<2>(u, raw, selector);
        } else {
            realign<3>(u, raw, selector);
        }
    }
    return u;
}

// Steps of half batches whose 4 KiB are all there. The loads of `a` and `b` run
// four steps ahead. `c`, needed only when the data is not aligned, runs two ahead:
// it is another lane's `a` of about the same time, so it comes out of the L1.
struct FullSteps {
    Word16 a[4], b[4], c[2];
    u64 here;       // aligned address of the half batch in hand
    u32 distance;   // from there to the next one
    bool more;      // whether there is a next one to load
    u32 lane_offset, shift;

    DEVICE_MEMBER void clear() {
        Word16 zero = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = b[i] = c[i & 1] = zero;
    }
    DEVICE_MEMBER void load_ab(u32 i, u64 at) {
        a[i] = load16(at);
        b[i] = load16(at + 16);
    }
    DEVICE_MEMBER u64 address(u64 half, u32 i) { return half + (lane_offset ^ i << 10); }
    DEVICE_MEMBER void prime() {
#pragma unroll
        for (u32 i = 0; i < 4; i++) load_ab(i, address(here, i));
        if (shift == 0) return;
#pragma unroll
        for (u32 i = 0; i < 2; i++) c[i] = load16(address(here, i) + 32);
    }
    DEVICE_MEMBER Units take(u32 i) {
        Raw raw = {a[i], b[i], c[i & 1]};
        Units u = units_of(raw, shift);
        if (more) load_ab(i, address(here + distance, i));
        if (shift != 0 && (i < 2 || more)) {
            c[i & 1] = load16(address(i < 2 ? here : here + distance, (i + 2) & 3) + 32);
        }
        return u;
    }
};

// Steps of a half batch that begins before the segment or ends after it; reads
// byte by byte what is there. `offset` counts from the start of the segment.
struct RaggedSteps {
    u64 start, end;
    long long offset;
    u32 lane_offset;

    DEVICE_MEMBER Units take(u32 i) {
        long long at = offset + (lane_offset ^ i << 10);
        long long length = (long long)(end - start);
        Units u;
        u.count = at < 0 || at >= length ? 0 : at + 16 >= length ? 1 : 2;
        u.first = load16_any(start + at, u.count > 0 ? end : 0);
        u.second = load16_any(start + at + 16, u.count > 1 ? end : 0);
        return u;
    }
};

// NH of the four chunks of a half batch, one step after the other; after the last
// lane bit 2 says which block of its chunk the lane gets.
template <int KEYS> struct HalfBatch {
    Sums low[KEYS], high[KEYS];

    DEVICE_MEMBER void clear() {
        Sums zero = {{0, 0, 0, 0}};
#pragma unroll
        for (int k = 0; k < KEYS; k++) low[k] = high[k] = zero;
    }
    DEVICE_MEMBER void add(u32 step, const Units &u, const LaneKey (&key)[KEYS]) {
#pragma unroll
        for (int k = 0; k < KEYS; k++) {
            Sums s = nh_units(u, key[k]);
            if (step == 0) low[k] = s;
            if (step == 1) meet(low[k], s, 8);
            if (step == 2) high[k] = s;
            if (step == 3) meet(high[k], s, 8);
        }
    }
    DEVICE_MEMBER void finish(Block (&out)[KEYS], u32 lane) {
#pragma unroll
        for (int k = 0; k < KEYS; k++) {
            meet(low[k], high[k], 16);
            Block first = {low[k].pass[0], low[k].pass[1]};
            Block second = {low[k].pass[2], low[k].pass[3]};
            out[k] = part(first, second, (lane & 4) != 0, 4);
        }
    }
};

template <int KEYS>
DEVICE void full_half(Block (&out)[KEYS], FullSteps &steps, const LaneKey (&key)[KEYS], u32 lane) {
    HalfBatch<KEYS> half;
#pragma unroll
    for (u32 i = 0; i < 4; i++) half.add(i, steps.take(i), key);
    half.finish(out, lane);
}

// Rare (at most two batches of a segment), so small rather than fast.
template <int KEYS>
DEVICE void ragged_batch(Block (&a)[KEYS], Block (&b)[KEYS], RaggedSteps &steps,
                         const LaneKey (&key)[KEYS], u32 lane) {
#pragma unroll
    for (int k = 0; k < KEYS; k++) b[k].low = b[k].high = 0;
#pragma unroll 1
    for (u32 i = 0; i < 2; i++) {
        HalfBatch<KEYS> half;
        half.clear();
#pragma unroll 1
        for (u32 step = 0; step < 4; step++) half.add(step, steps.take(step), key);
        steps.offset += 4096;
#pragma unroll
        for (int k = 0; k < KEYS; k++) a[k] = b[k];
        half.finish(b, lane);
    }
}

// Lane bit 1 picks the half, bit 0 the key.
DEVICE Block settle(const Block (&a)[1], const Block (&b)[1], u32 lane) {
    Block block = part(a[0], b[0], (lane & 2) != 0, 2);
    block.low += exchange(block.low, 1);
    block.high += exchange(block.high, 1);
    return block;
}
DEVICE Block settle(const Block (&a)[2], const Block (&b)[2], u32 lane) {
    Block first = part(a[0], b[0], (lane & 2) != 0, 2);
    Block second = part(a[1], b[1], (lane & 2) != 0, 2);
    return part(first, second, (lane & 1) != 0, 1);
}

// --- Poly1305: five limbs of 26 bits, limbs 0..4 < 2^26 + 2^7 ----------------

struct Limbs {
    u32 v[5];
};

DEVICE Limbs clamped(Word16 r) {
    Limbs l;
    l.v[0] = r.x & 0x3ffffff;
    l.v[1] = (u32)(((u64)r.y << 32 | r.x) >> 26) & 0x3ffff03;
    l.v[2] = (u32)(((u64)r.z << 32 | r.y) >> 20) & 0x3ffc0ff;
    l.v[3] = (u32)(((u64)r.w << 32 | r.z) >> 14) & 0x3f03fff;
    l.v[4] = (r.w >> 8) & 0x00fffff;
    return l;
}

// Brings sums below 2^58 back to limbs.
DEVICE Limbs carried(u64 (&d)[5]) {
    Limbs h;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        d[i + 1] += d[i] >> 26;
        h.v[i] = (u32)d[i] & LIMB;
    }
    u64 top = d[4] >> 26;
    h.v[4] = (u32)d[4] & LIMB;
    u64 bottom = h.v[0] + 5 * top;
    h.v[0] = (u32)bottom & LIMB;
    h.v[1] += (u32)(bottom >> 26);
    return h;
}

// a * b mod 2^130 - 5; limbs of `a` below 2^27 + 2^8. Every product is below
// 2^27.1 * 5 * 2^26.1, their sums below 2^58.
DEVICE Limbs times(const Limbs &a, const Limbs &b) {
    u64 d[5];
#pragma unroll
    for (int i = 0; i < 5; i++) {
        d[i] = 0;
#pragma unroll
        for (int j = 0; j < 5; j++) {
            u32 factor = j <= i ? b.v[i - j] : 5 * b.v[i + 5 - j];
            d[i] += (u64)a.v[j] * factor;
        }
    }
    return carried(d);
}

// Adds the block and its 2^128 marker; a block that is not there adds nothing.
DEVICE void add_block(Limbs &h, const Block &b, bool there) {
    u32 keep = there ? LIMB : 0;
    h.v[0] += (u32)b.low & keep;
    h.v[1] += (u32)(b.low >> 26) & keep;
    h.v[2] += (u32)(b.low >> 52 | b.high << 12) & keep;
    h.v[3] += (u32)(b.high >> 14) & keep;
    h.v[4] += ((u32)(b.high >> 40) | 1u << 24) & keep;
}

// (h mod 2^130 - 5) mod 2^128; limbs of `h` carried twice, so below 2^26 but for
// the lowest two.
DEVICE Word16 reduced(const Limbs &h) {
    u64 d[5];
#pragma unroll
    for (int i = 0; i < 5; i++) d[i] = h.v[i];
    Limbs a = carried(d);
    // h + 5 reaches 2^130 exactly when h >= p; then the answer is h + 5 - 2^130.
    u32 carry = 5;
    Limbs b;
#pragma unroll
    for (int i = 0; i < 5; i++) {
        u32 sum = a.v[i] + carry;
        carry = sum >> 26;
        b.v[i] = sum & LIMB;
    }
#pragma unroll
    for (int i = 0; i < 5; i++) a.v[i] = carry != 0 ? b.v[i] : a.v[i];
    Word16 tag;
    tag.x = a.v[0] | a.v[1] << 26;
    tag.y = a.v[1] >> 6 | a.v[2] << 20;
    tag.z = a.v[2] >> 12 | a.v[3] << 14;
    tag.w = a.v[3] >> 18 | a.v[4] << 8;
    return tag;
}

// --- kernels ----------------------------------------------------------------

// The segment in hand.
struct Task {
    u64 start, output;
    u32 length;
};

#define THREADS (32 * WARPS)

// Only `power` and `sum` pass between threads. A thread's own `task` is here because
// the registers are full. No thread writes under a condition that parts the lanes of
// a warp, so barriers and shuffles find them together whatever a compiler does.
template <int KEYS> struct Shared {
    u32 power[KEYS][ROW_BLOCKS][5];   // power[k][i] = r^(i + 1)
    u32 sum[5][THREADS];              // the limbs of a warp's sum, in each of its lanes
    Task task[THREADS];
};

// Keeps a compiler from holding shared values in registers across a loop, where
// they would push others out to local memory.
DEVICE void reload_shared() { asm volatile("" ::: "memory"); }

DEVICE Limbs shared_limbs(const u32 (&v)[5]) {
    Limbs l;
#pragma unroll
    for (int i = 0; i < 5; i++) l.v[i] = v[i];
    return l;
}

// r^1 .. r^128, one by each thread, by repeated squaring. Same steps in every lane,
// so that nothing depends on where lanes part and meet; once per block and launch.
template <int KEYS> DEVICE void make_powers(Shared<KEYS> &shared, u64 key, u64 second_key) {
    u32 k = thread_index() / ROW_BLOCKS, place = thread_index() % ROW_BLOCKS;
    Limbs square = clamped(load16(k == 0 ? key : second_key));
    Limbs power = square;   // r^1, and then r^(the bits of `place`)
#pragma unroll 1
    for (u32 bits = place, i = 0; i < 7; bits /= 2, i++) {
        Limbs factor = {{1, 0, 0, 0, 0}};
#pragma unroll
        for (int j = 0; j < 5; j++) factor.v[j] = (bits & 1) != 0 ? square.v[j] : factor.v[j];
        power = times(power, factor);
        square = times(square, square);
    }
    if (k < KEYS) {
#pragma unroll
        for (int i = 0; i < 5; i++) shared.power[k][place][i] = power.v[i];
    }
    block_barrier();
}

DEVICE LaneKey lane_key(u64 key, u32 lane) {
    LaneKey k;
#pragma unroll
    for (u32 i = 0; i < 5; i++) k.unit[i] = load16(key + 16 + 32 * lane + 16 * i);
    return k;
}

// The lane's polynomial over its blocks of one segment.
template <int KEYS>
DEVICE Limbs hash_segment(const Task &task, const LaneKey (&key)[KEYS], const u32 (&step)[5]) {
    u32 lane = thread_index() % 32, warp = thread_index() / 32;
    int chunks = (int)((task.length + 1023) / 1024);
    int rows = (chunks + ROW_CHUNKS - 1) / ROW_CHUNKS;
    int lane_chunk = (int)((lane & 2) * 2 + lane / 8);
    FullSteps full;
    full.clear();
    full.lane_offset = lane / 8 << 10 | 32 * lane;
    full.shift = (u32)task.start & 15;
    bool primed = false;
    Limbs h = {{0, 0, 0, 0, 0}};
    int chunk = chunks - rows * ROW_CHUNKS + 8 * (int)warp;
#pragma unroll 1
    for (; chunk * 1024 < (int)task.length; chunk += ROW_CHUNKS) {
        if (chunk <= -8) continue;
        reload_shared();
        Block a[KEYS], b[KEYS];
        if (chunk >= 0 && (u32)(chunk + 8) * 1024 <= task.length) {
            full.here = task.start - full.shift + 1024ull * (u32)chunk;
            if (!primed) full.prime();
            primed = (u32)(chunk + ROW_CHUNKS + 8) * 1024 <= task.length;
            full.distance = 4096;
            full.more = true;
            full_half<KEYS>(a, full, key, lane);
            full.here += 4096;
            full.distance = (ROW_CHUNKS - 4) * 1024;
            full.more = primed;
            full_half<KEYS>(b, full, key, lane);
        } else {
            RaggedSteps ragged = {task.start, task.start + task.length, 1024ll * chunk,
                                  full.lane_offset};
            ragged_batch<KEYS>(a, b, ragged, key, lane);
            full.clear();   // the ring need not live through the ragged batch
            primed = false;
        }
        Block block = settle(a, b, lane);
        reload_shared();
        h = times(h, shared_limbs(step));
        add_block(h, block, chunk + lane_chunk >= 0);
    }
    return h;
}

// Adds up what the lanes of a warp hold for one key. 16 lanes of limbs below
// 2^26.1 stay below 2^31.
DEVICE Limbs warp_sum(Limbs h) {
#pragma unroll
    for (u32 mask = 2; mask < 32; mask *= 2) {
#pragma unroll
        for (int i = 0; i < 5; i++) h.v[i] += exchange(h.v[i], mask);
    }
    return h;
}

template <int KEYS> DEVICE Word16 block_sum(const Shared<KEYS> &shared, u32 k) {
    u64 d[5];
#pragma unroll
    for (int i = 0; i < 5; i++) {
        d[i] = 0;
#pragma unroll
        for (u32 w = 0; w < WARPS; w++) d[i] += shared.sum[i][32 * w + k];
    }
    return reduced(carried(d));
}

DEVICE Task task_of(u64 table, u32 entries, u64 item, u32 result_bytes) {
    Segment segment = find_segment(table, entries, item);
    u64 place = item - segment.first;
    Task task;
    task.start = segment.address + (place << 20);
    task.output = segment.output + result_bytes * place;
    task.length = (u32)min_u64(segment.length - (place << 20), 1 << 20);
    return task;
}

template <int KEYS>
DEVICE void nh_tags(Shared<KEYS> &shared, u64 table, u32 entries, u64 items, u64 keys_first,
                    u64 keys_second) {
    u32 lane = thread_index() % 32, warp = thread_index() / 32;
    u32 k = KEYS == 1 ? 0 : lane & 1;
    make_powers<KEYS>(shared, keys_first, keys_second);
    LaneKey key[KEYS];
    key[0] = lane_key(keys_first, lane);
    if (KEYS == 2) key[KEYS - 1] = lane_key(keys_second, lane);
    // Block of the row: 16 per warp, 2 per chunk; chunk = bits 1, 4, 3.
    u32 place = 16 * warp + 2 * ((lane & 2) * 2 + lane / 8) + (lane / 4 & 1);
#pragma unroll 1
    for (u64 item = block_index(); item < items; item += grid_blocks()) {
        Task &task = shared.task[thread_index()];
        task = task_of(table, entries, item, 16 * KEYS);
        Limbs h = hash_segment<KEYS>(task, key, shared.power[k][ROW_BLOCKS - 1]);
        h = times(h, shared_limbs(shared.power[k][ROW_BLOCKS - 1 - place]));
        h = warp_sum(h);
#pragma unroll
        for (int i = 0; i < 5; i++) shared.sum[i][thread_index()] = h.v[i];
        block_barrier();
        // Half of the lanes (with one key all) store the same 16 bytes.
        if (warp == 0) store16(task.output + 16 * k, block_sum<KEYS>(shared, k));
        block_barrier();
    }
    // Powers and sums are secret: leave none in shared memory.
    volatile u32 *words = &shared.power[0][0][0];
    for (u32 i = thread_index(); i < sizeof(Shared<KEYS>) / 4; i += THREADS) words[i] = 0;
}

extern "C" __global__ void __launch_bounds__(256, 2)
    vram_nh_tags_1(u64 table, u32 entries, u64 items, u64 key) {
    __shared__ Shared<1> shared;
    nh_tags<1>(shared, table, entries, items, key, key);
}

extern "C" __global__ void __launch_bounds__(256, 1)
    vram_nh_tags_2(u64 table, u32 entries, u64 items, u64 key, u64 second_key) {
    __shared__ Shared<2> shared;
    nh_tags<2>(shared, table, entries, items, key, second_key);
}
