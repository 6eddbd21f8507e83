// SHA-256 (FIPS 180-4) of every zero-padded 4096-byte block of many ranges: one
// level of an fs-verity tree. A level above the data hashes the digests of the
// level below, which is the same job.
//
//   vram_sha256_blocks(u64 table, u32 entries, u64 items, u32 one)
//       table, entries, items   segment table, see device.cu; an item is a block
//       one                     must be 1, see add() below
//   block 128 threads, grid ceil(items / 128) blocks (one thread per item; a
//   larger grid does nothing more). Result: 32 bytes per block, the digest as
//   FIPS writes it.
//
// One thread hashes one block. Hashing is bound by the integer units, so what
// counts is instructions per 64 bytes (budget.txt). The loads are the cheap part:
// each 64-byte step needs four aligned 16-byte words plus one kept from the step
// before; a uniform branch picks the 32-bit word offset and one PRMT per word
// does byte shift and big-endian swap together, so any alignment costs the same.
//
// Every message is 4096 bytes long, so its padding block is a constant and its
// whole schedule is too: 64 rounds on literals, no schedule arithmetic.

#define SHA256_K \
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, \
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, \
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, \
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, \
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, \
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, \
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, \
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
// K[t] + W[t] for the padding block of a 4096-byte message: 0x80, zeros, 32768.
#define SHA256_K_PLUS_PADDING \
    0xc28a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, \
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19c7174, \
    0x649b69c1, 0x3fbe47a6, 0x0fe1edc6, 0x240cc3cc, 0x4fe9346f, 0x5fb484b2, 0x61b9bf1e, 0xf6f9e0e2, \
    0x904651d2, 0xcf776683, 0xb071aacd, 0x45598de9, 0x6e024795, 0xe1a53a4c, 0x01579c54, 0x7ed2a5d2, \
    0x5543dff8, 0x24306163, 0xcbe96064, 0x088b74dd, 0x8cef495f, 0x27644e60, 0xfa4494c7, 0xc85ad905, \
    0xae229301, 0x3cc6aca8, 0xced0f30e, 0x0054346d, 0xaa185a78, 0xbf2f214a, 0xc070f8f5, 0x2bfa9c81, \
    0x2ee7c2f3, 0x060f5920, 0x19f02ca9, 0xf4d1cc5c, 0x4368bd9b, 0xc154267a, 0xec10f2ef, 0xf0bf5abd, \
    0xb1561710, 0xcc85b5a6, 0x55e9155c, 0xeb7ba3e0, 0x0f037e93, 0x2ae3e945, 0xa2affabf, 0x694563d1,

template <int N> DEVICE u32 rotate_right(u32 x) {
    u32 v;
    asm("shf.r.wrap.b32 %0, %1, %1, %2;" : "=r"(v) : "r"(x), "n"(N));
    return v;
}

// a + b as a * one + b on the multiplier pipe. `one` is a kernel argument, so that
// no compiler can fold it back into an add: rotates and logic fill the other
// pipe, and moving the adds off it raises the ceiling by a quarter (budget.txt).
DEVICE u32 add(u32 a, u32 b, u32 one) {
    u32 v;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(v) : "r"(a), "r"(one), "r"(b));
    return v;
}

struct State {
    u32 a, b, c, d, e, f, g, h;
};

DEVICE State initial_state() {
    State s = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    return s;
}

// The literals of round `t` fold away: every call is in a fully unrolled loop.
DEVICE void sha_round(State &s, u32 k_plus_w, u32 one) {
    u32 sum1 = rotate_right<6>(s.e) ^ rotate_right<11>(s.e) ^ rotate_right<25>(s.e);
    u32 choice = (s.e & s.f) ^ (~s.e & s.g);
    u32 t1 = add(add(s.h, k_plus_w, one), add(sum1, choice, one), one);
    u32 sum0 = rotate_right<2>(s.a) ^ rotate_right<13>(s.a) ^ rotate_right<22>(s.a);
    u32 majority = (s.a & s.b) ^ (s.a & s.c) ^ (s.b & s.c);
    s.h = s.g;
    s.g = s.f;
    s.f = s.e;
    s.e = add(s.d, t1, one);
    s.d = s.c;
    s.c = s.b;
    s.b = s.a;
    s.a = add(t1, add(sum0, majority, one), one);
}

DEVICE void add_state(State &s, const State &t) {
    s.a += t.a;
    s.b += t.b;
    s.c += t.c;
    s.d += t.d;
    s.e += t.e;
    s.f += t.f;
    s.g += t.g;
    s.h += t.h;
}

DEVICE void compress(State &s, u32 (&w)[16], u32 one) {
    const u32 k[64] = {SHA256_K};
    State t = s;
#pragma unroll
    for (int i = 0; i < 64; i++) {
        if (i >= 16) {
            u32 x = w[(i + 1) & 15], y = w[(i + 14) & 15];
            u32 s0 = rotate_right<7>(x) ^ rotate_right<18>(x) ^ (x >> 3);
            u32 s1 = rotate_right<17>(y) ^ rotate_right<19>(y) ^ (y >> 10);
            w[i & 15] = add(add(w[i & 15], s0, one), add(w[(i + 9) & 15], s1, one), one);
        }
        sha_round(t, add(w[i & 15], k[i], one), one);
    }
    add_state(s, t);
}

DEVICE void compress_padding(State &s, u32 one) {
    const u32 k[64] = {SHA256_K_PLUS_PADDING};
    State t = s;
#pragma unroll
    for (int i = 0; i < 64; i++) sha_round(t, k[i], one);
    add_state(s, t);
}

// 64 bytes out of the 80 in `v`, starting at 32-bit word WORD and then at the byte
// that `selector` says; the selector also swaps to big endian.
template <int WORD> DEVICE void extract(u32 (&w)[16], const u32 (&v)[20], u32 selector) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
        w[i] = permute(v[i + WORD], i + WORD + 1 < 20 ? v[i + WORD + 1] : 0, selector);
    }
}

DEVICE void put16(u32 (&v)[20], int at, Word16 word) {
    v[at] = word.x;
    v[at + 1] = word.y;
    v[at + 2] = word.z;
    v[at + 3] = word.w;
}

DEVICE State hash_block(u64 start, u64 end, u32 one) {
    u32 shift = (u32)start & 15;
    u64 at = start - shift;
    u32 selector = 0x0123 + 0x1111 * (shift & 3);
    u32 v[20];
    put16(v, 0, load16_before(at, end));
    State s = initial_state();
#pragma unroll 1
    for (int step = 0; step < 64; step++) {
        at += 16;
        if (at + 64 <= end) {
#pragma unroll
            for (int i = 0; i < 4; i++) put16(v, 4 + 4 * i, load16(at + 16 * i));
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) put16(v, 4 + 4 * i, load16_before(at + 16 * i, end));
        }
        at += 48;
        u32 w[16];
        if ((shift & 8) == 0) {
            if ((shift & 4) == 0) {
                extract<0>(w, v, selector);
            } else {
                extract<1>(w, v, selector);
            }
        } else {
            if ((shift & 4) == 0) {
                extract<2>(w, v, selector);
            } else {
                extract<3>(w, v, selector);
            }
        }
        compress(s, w, one);
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = v[16 + i];
    }
    compress_padding(s, one);
    return s;
}

extern "C" __global__ void __launch_bounds__(128)
    vram_sha256_blocks(u64 table, u32 entries, u64 items, u32 one) {
    u64 item = (u64)block_index() * 128 + thread_index();
    if (item >= items) return;
    Segment segment = find_segment(table, entries, item);
    u64 block = item - segment.first;
    State s = hash_block(segment.address + 4096 * block, segment.address + segment.length, one);
    Word16 low = {swap_bytes(s.a), swap_bytes(s.b), swap_bytes(s.c), swap_bytes(s.d)};
    Word16 high = {swap_bytes(s.e), swap_bytes(s.f), swap_bytes(s.g), swap_bytes(s.h)};
    store16(segment.output + 32 * block, low);
    store16(segment.output + 32 * block + 16, high);
}
