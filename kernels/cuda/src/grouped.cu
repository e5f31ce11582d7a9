// The verbs of grouped matrices: Pack, GroupedMatMul and GroupedEmbed of kernels.Stream.
//
// A packed matrix is three arrays one after the other, all in panels of 16 rows:
//
//	codes   [panel][block of 32 columns]: the fragment a of mma_s8 for 16 rows by 32 columns, lane by lane; a lane's 16
//	        codes (four registers a[0] to a[3] of four bytes) are one piece:
//	          8 bits  16 bytes, less 128: signed
//	          4 bits   8 bytes: a[0] | a[1]<<4, a[2] | a[3]<<4
//	          2 bits   4 bytes: a[0] | a[1]<<2 | a[2]<<4 | a[3]<<6
//	          3 bits   4 bytes of the low two bits as above, and after those of all lanes 2 bytes of third bits: bit i of
//	                   half-byte k is that of byte k of a[i]
//	scales  [panel][group][row r, row r+8 for r below 8], of the scale's type
//	zeros   [panel][group][row r, row r+8 for r below 8], a byte each; missing without zero points
//
// so that what a warp needs of a panel's blocks is one stretch of bytes, whatever the width: it is copied to shared memory
// 16 bytes at a time (cp16) some blocks ahead of the products, and read from there as fragments without bank conflicts.
//
// Activations are rounded to records: for a tile of 8 tokens and a block of 32 columns the fragment b of mma_s8 (8 bytes a
// lane), and behind it for each pair of tokens both scales and both sums of the rounded values: 320 bytes,
// [tile][block]. The product of a block is exact:
//
//	dot = Σ code·q - zero·Σq, and a result is Σ float(dot)·(scale of w · scale of x) over the blocks, in F32.
//
// The accumulators of mma_s8 start at the bits of 1.5·2^23, less zero·Σq: as |dot| < 2^22 they are then the bits of
// 1.5·2^23 + dot, and one exact subtraction makes a float of them, with no conversion.
//
// The order of that sum is fixed by the columns alone: blocks lie in up to 8 slices of equal length (the last is shorter);
// a slice is summed in the order of its blocks, and the slices' sums are added in their order. Every kernel keeps to it,
// whether warps share the slices or one warp takes them all, so a row has the same bits in any company and any kernel.

#include "norm.cuh"

static constexpr u32 BLOCK = 32, PANEL = 16, TILE = 8;
static constexpr u32 RECORD = TILE * BLOCK + 64;    // bytes of a record
static constexpr u32 WARPS = 8;                     // most of a block of threads of product kernels
static constexpr u32 F32 = 0, F16 = 1;              // kernels.DType

struct Grouped {
    u8 *codes, *scales, *zeros; // zeros: null without zero points
    u32 rows, cols;
    u32 blocks, groups; // of a row
    u32 bits, type;     // of a code; of a scale
    u32 per_group;      // 2^31 / blocks of a group, rounded up
    u32 unused;
};

DEV u32 scale_bytes(const Grouped& w) { return w.type == F32 ? 4 : 2; }

// group_of returns the group of a block: block / blocks of a group, exact while their product is below 2^31.
DEV u32 group_of(const Grouped& w, u32 block) { return (u32)((u64)block * w.per_group >> 31); }

DEV u32 panels_of(const Grouped& w) { return (w.rows + PANEL - 1) / PANEL; }

// place returns where row r of a panel stands among the scales of a group.
DEV u32 place(u32 r) { return r % 8 * 2 + r / 8; }

template <int BITS> DEV constexpr u32 block_bytes() { return PANEL * BLOCK * BITS / 8; }

// ---------------------------------------------------------------------------------------------------- packing

struct GroupedPackArgs {
    Grouped w;
    const u8 *codes, *scales, *zeros; // (n, cols), (n, groups), (n, groups)
    u32 panel, n;                     // the panel of the first row; rows
};

// load_codes returns the codes of columns c to c+3 of row r, zero beyond the matrix.
DEV u32 load_codes(const GroupedPackArgs& a, u32 r, u32 c) {
    if (r >= a.n || c >= a.w.cols) return 0;
    const u8* p = a.codes + (u64)r * a.w.cols + c;
    if (a.w.cols % 4 == 0) return ld((const u32*)p);
    u32 v = 0;
    for (u32 i = 0; i < 4; i++)
        if (c + i < a.w.cols) v |= (u32)ld(p + i) << 8 * i;
    return v;
}

// grouped_pack lays out a panel for each bx(), its blocks shared among by() and warps. It reads each code once (a byte)
// and writes bits/8 bytes for it; what limits it is the way of the codes to the device, over the bus.
KERNEL(grouped_pack, GroupedPackArgs, 256) {
    const u32 row = bx() * PANEL, panel = a.panel + bx(), g = lane() / 4, t = lane() % 4;
    const u32 bytes = PANEL * BLOCK / 8 * a.w.bits;
    for (u32 b = by() * 8 + warp(); b < a.w.blocks; b += gy() * 8) {
        const u32 c = b * BLOCK + t * 4;
        const u32 a0 = load_codes(a, row + g, c), a1 = load_codes(a, row + g + 8, c);
        const u32 a2 = load_codes(a, row + g, c + 16), a3 = load_codes(a, row + g + 8, c + 16);
        u8* to = a.w.codes + ((u64)panel * a.w.blocks + b) * bytes;
        if (a.w.bits == 8) {
            const u32 sign = 0x80808080u;
            st((u4*)to + lane(), u4{a0 ^ sign, a1 ^ sign, a2 ^ sign, a3 ^ sign});
        } else if (a.w.bits == 4) {
            st((u2*)to + lane(), u2{a0 | a1 << 4, a2 | a3 << 4});
        } else {
            const u32 low = 0x03030303u, one = 0x01010101u;
            st((u32*)to + lane(), (a0 & low) | (a1 & low) << 2 | (a2 & low) << 4 | (a3 & low) << 6);
            if (a.w.bits == 3) {
                u32 v = (a0 >> 2 & one) | (a1 >> 2 & one) << 1 | (a2 >> 2 & one) << 2 | (a3 >> 2 & one) << 3;
                v |= v >> 4; // half-bytes 0 and 1 in the lowest byte, 2 and 3 in the third
                st((u16*)(to + 128) + lane(), (u16)((v & 0xff) | (v >> 8 & 0xff00)));
            }
        }
    }
    if (by() > 0) return; // no collective follows
    for (u32 i = tid(); i < a.w.groups * PANEL; i += nthreads()) {
        const u32 r = i % PANEL, group = i / PANEL;
        const u64 from = (u64)(row + r) * a.w.groups + group;
        const u64 to = ((u64)panel * a.w.groups + group) * PANEL + place(r);
        const bool some = row + r < a.n;
        if (a.w.type == F32)
            st((u32*)a.w.scales + to, some ? ld((const u32*)a.scales + from) : 0u);
        else
            st((u16*)a.w.scales + to, some ? ld((const u16*)a.scales + from) : (u16)0);
        if (a.w.zeros) st(a.w.zeros + to, some ? ld(a.zeros + from) : (u8)0);
    }
}

struct GroupedEmbedArgs {
    Grouped table;
    float* y;
    const i32* ids;
    u32 y_stride, ids_stride;
};

// grouped_embed writes a row of the table for each bx(), four columns a thread. It reads bits/8 bytes and writes 4 bytes
// for an element; rows are few, so the launch is what it costs.
KERNEL(grouped_embed, GroupedEmbedArgs, 128) {
    const Grouped& w = a.table;
    const u32 row = (u32)ld(a.ids + (u64)bx() * a.ids_stride);
    const u32 panel = row / PANEL, r = row % PANEL, high = r / 8; // high: the row is in a[1] and a[3]
    float* y = a.y + (u64)bx() * a.y_stride;
    const u32 bytes = PANEL * BLOCK / 8 * w.bits;
    for (u32 c = tid() * 4; c < w.cols; c += nthreads() * 4) {
        const u32 b = c / BLOCK, quad = c % BLOCK / 4, at = r % 8 * 4 + quad % 4, half = quad / 4;
        const u8* block = w.codes + ((u64)panel * w.blocks + b) * bytes;
        u32 v;
        if (w.bits == 8) {
            v = ld((const u32*)block + at * 4 + half * 2 + high) ^ 0x80808080u;
        } else if (w.bits == 4) {
            v = ld((const u32*)block + at * 2 + half) >> 4 * high & 0x0f0f0f0fu;
        } else {
            const u32 i = half * 2 + high;
            v = ld((const u32*)block + at) >> 2 * i & 0x03030303u;
            if (w.bits == 3) {
                const u32 h = ld((const u16*)(block + 128) + at);
                u32 e = (h & 0xff) | (h & 0xff00) << 8;
                e |= e << 4;
                v |= (e >> i & 0x01010101u) << 2;
            }
        }
        const u64 group = ((u64)panel * w.groups + group_of(w, b)) * PANEL + place(r);
        float scale;
        if (w.type == F32)
            scale = bits_float(ld((const u32*)w.scales + group));
        else if (w.type == F16)
            scale = from_f16(ld((const u16*)w.scales + group));
        else
            scale = from_bf16(ld((const u16*)w.scales + group));
        const i32 zero = w.zeros ? (i32)ld(w.zeros + group) : 1 << (w.bits - 1);
        for (u32 i = 0; i < 4; i++)
            if (c + i < w.cols) st(y + c + i, scale * (float)((i32)(v >> 8 * i & 0xff) - zero));
    }
}

// ---------------------------------------------------------------------------------------------------- activations

// Row is a row of activations and the order in which its columns are taken, if any.
struct Row {
    const float* x;
    const i32* order;
    u32 cols;
};

// load_quad sets v to columns c to c+3 in order, zero beyond the row.
DEV void load_quad(const Row& row, u32 c, float v[4]) {
    if (!row.order && c + 4 <= row.cols && ((u64)row.x & 15) == 0) {
        const u4 q = ld((const u4*)(row.x + c));
        v[0] = bits_float(q.x), v[1] = bits_float(q.y), v[2] = bits_float(q.z), v[3] = bits_float(q.w);
        return;
    }
    u32 at[4]; // no branches, so that loads wait for each other at most once
    for (u32 i = 0; i < 4; i++) at[i] = min(c + i, row.cols - 1);
    if (row.order)
        for (u32 i = 0; i < 4; i++) at[i] = (u32)ld(row.order + at[i]);
    for (u32 i = 0; i < 4; i++) v[i] = ld(row.x + at[i]);
    for (u32 i = 0; i < 4; i++)
        if (c + i >= row.cols) v[i] = 0;
}

// round_quad rounds a block that lies in 8 lanes side by side, four columns each: it returns the lane's four rounded bytes
// and sets the block's scale and sum in all of them. A block that holds what is not finite gets zeros and the scale NaN.
DEV u32 round_quad(const float v[4], float* scale, i32* sum) {
    u32 top = 0; // of magnitudes as bits: what is not finite is above all others
    for (u32 i = 0; i < 4; i++) top = max(top, float_bits(v[i]) & 0x7fffffffu);
    for (u32 m = 1; m < 8; m <<= 1) top = max(top, shfl_xor(top, m));
    const float m = bits_float(top), inverse = 127.0f / m;
    const bool finite = top < 0x7f800000u, some = top >= 0x0d800000u; // 2^-100
    u32 q = 0;
    if (finite && some)
        for (u32 i = 0; i < 4; i++) {
            const float shifted = v[i] * inverse + 12582912.0f; // 1.5·2^23: the sum is rounded to an integer, in its low bits
            q |= (float_bits(shifted) & 0xff) << 8 * i;
        }
    *scale = !finite ? bits_float(0x7fc00000u) : some ? m / 127.0f : 0.0f;
    i32 s = dp4a((i32)q, 0x01010101, 0);
    for (u32 d = 1; d < 8; d <<= 1) s += shfl_xor(s, d);
    *sum = s;
    return q;
}

struct GroupedRoundArgs {
    u8* records;
    const float* x;
    const i32* order;
    u32 tokens, cols, blocks, x_stride;
    const float* gain; // of grouped_round_normed
    float eps;
    u32 unused;
};

// write_record rounds block b of a token, four columns of which a lane has, to the record of its tile.
DEV void write_record(const GroupedRoundArgs& a, u32 token, u32 b, const float v[4]) {
    const u32 quad = lane() % 8, n = token % TILE;
    float scale;
    i32 sum;
    const u32 q = round_quad(v, &scale, &sum);
    if (b >= a.blocks) return;
    u8* record = a.records + ((u64)(token / TILE) * a.blocks + b) * RECORD;
    st((u32*)record + (n * 4 + quad % 4) * 2 + quad / 4, q);
    u8* pair = record + TILE * BLOCK + n / 2 * 16 + n % 2 * 4;
    if (quad == 0) st((u32*)pair, float_bits(scale));
    if (quad == 1) st((i32*)(pair + 8), sum);
}

// grouped_round makes records of activations: a warp rounds four blocks of columns of a token, bx() and warps count the
// blocks, by() the tokens, those that fill the last tile up included: they become zeros. It reads 4 bytes and writes 1.25
// for an element; both stay in the second-level cache, and the launch is what it costs.
KERNEL(grouped_round, GroupedRoundArgs, 128) {
    const u32 token = by(), b = (bx() * 4 + warp()) * 4 + lane() / 8;
    float v[4] = {0, 0, 0, 0};
    if (token < a.tokens && b < a.blocks)
        load_quad(Row{a.x + (u64)token * a.x_stride, a.order, a.cols}, b * BLOCK + lane() % 8 * 4, v);
    write_record(a, token, b, v);
}

// grouped_round_normed makes records of RMSNorm of activations, by() as above: the gx() blocks of threads of a token each sum
// its squares up, and round one in gx() of its columns. It reads gx() + 1 times 4 bytes for an element.
KERNEL(grouped_round_normed, GroupedRoundArgs, 256) {
    const u32 token = by();
    const float* x = a.x + (u64)token * a.x_stride;
    float scale = 0;
    if (token < a.tokens) { // which is so for all of the block, or for none
        norm::sum_rows<1>((float*)smem(), Mat<const float>{x, 1, a.cols, a.x_stride});
        block_sync();
        scale = norm::inverse_rms_of((const float*)smem(), 0, a.cols, a.eps);
    }
    for (u32 first = (bx() * WARPS + warp()) * 4; first < a.blocks; first += gx() * WARPS * 4) {
        const u32 b = first + lane() / 8, c = b * BLOCK + lane() % 8 * 4;
        Quad v{}, gain;
        if (token < a.tokens && b < a.blocks) {
            load_quad(Row{x, a.order, a.cols}, c, v.v);
            load_quad(Row{a.gain, a.order, a.cols}, c, gain.v);
            v = norm::normalized(v, gain, scale);
        }
        write_record(a, token, b, v.v);
    }
}

// ---------------------------------------------------------------------------------------------------- products

struct GroupedMatMulArgs {
    Grouped w;
    float* y;
    const u8* records; // of kernels of more tokens than one
    const float* x;    // of those of one
    const i32* order;
    u32 tokens, y_stride, add;
    u32 slices, slice_blocks, filled; // slices: 1, 2, 4 or 8, so many of them with blocks

    const u16* u; // BF16 (rows, rank) of a product z·uᵀ that is added; null without
    const float* z; // (tokens, rank)
    u32 rank, u_stride, z_stride; // rank: a multiple of 16
    u32 parts;                    // warps of a block of threads / slices
    u32 step, apart;              // panels from one part to the next; from the first to the second of a warp that has two
    const float* gain;            // of RMSNorm, of grouped_normed; x is its input
    float eps;
    u32 unused;
};

// copy starts the copy of bytes, a multiple of 16 and at most MOST, from global to shared memory; the lanes of a warp share
// them.
template <u32 MOST> DEV void copy(u8* to, const u8* from, u32 bytes) {
    const u32 at = lane() * 16;
#pragma GCC unroll 16
    for (u32 i = 0; i < MOST; i += 32 * 16)
        if (at + i < bytes) cp16(to + at + i, from + at + i);
}

// fragment reads the registers a of a block of codes from shared memory.
template <int BITS> DEV void fragment(u32 a[4], const u8* block) {
    if constexpr (BITS == 8) {
        const u4 v = sld((const u4*)block + lane());
        a[0] = v.x, a[1] = v.y, a[2] = v.z, a[3] = v.w;
    } else if constexpr (BITS == 4) {
        const u2 v = sld((const u2*)block + lane());
        const u32 low = 0x0f0f0f0fu;
        a[0] = v.x & low, a[1] = v.x >> 4 & low, a[2] = v.y & low, a[3] = v.y >> 4 & low;
    } else {
        const u32 v = sld((const u32*)block + lane()), low = 0x03030303u;
        a[0] = v & low, a[1] = v >> 2 & low, a[2] = v >> 4 & low, a[3] = v >> 6 & low;
        if constexpr (BITS == 3) {
            const u32 h = sld((const u16*)(block + 128) + lane()), four = 0x04040404u;
            u32 e = (h & 0xff) | (h & 0xff00) << 8;
            e |= e << 4;
            a[0] |= e << 2 & four, a[1] |= e << 1 & four, a[2] |= e & four, a[3] |= e >> 1 & four;
        }
    }
}

// Factors are what a group gives a lane: scales and zero points of its two rows.
struct Factors {
    float s[2];
    i32 z[2];
};

// factors reads them from shared memory.
template <int BITS> DEV Factors factors(const Grouped& w, const u8* scales, const u8* zeros) {
    const u32 g = lane() / 4;
    Factors f;
    if (w.type == F32) {
        const u2 v = sld((const u2*)scales + g);
        f.s[0] = bits_float(v.x), f.s[1] = bits_float(v.y);
    } else {
        const u32 v = sld((const u32*)scales + g);
        f.s[0] = w.type == F16 ? f16_lo(v) : bf16_lo(v);
        f.s[1] = w.type == F16 ? f16_hi(v) : bf16_hi(v);
    }
    const i32 less = BITS == 8 ? 128 : 0; // as packed codes are
    f.z[0] = f.z[1] = (1 << (BITS - 1)) - less;
    if (w.zeros) {
        const u32 v = sld((const u16*)zeros + g);
        f.z[0] = (i32)(v & 0xff) - less, f.z[1] = (i32)(v >> 8) - less;
    }
    return f;
}

// Tokens are what a record gives a lane: its fragment b, and scales and sums of its two tokens.
struct Tokens {
    u32 b[2];
    float s[2];
    i32 sum[2];
};

// tokens_of reads them from a record in shared memory.
DEV Tokens tokens_of(const u8* record) {
    const u2 b = sld((const u2*)record + lane());
    const u4 v = sld((const u4*)(record + TILE * BLOCK) + lane() % 4);
    return Tokens{{b.x, b.y}, {bits_float(v.x), bits_float(v.y)}, {(i32)v.z, (i32)v.w}};
}

// multiply adds the products of a block to the sums of a lane: rows g and g+8 of a panel by the first COUNT of its two
// tokens.
template <u32 COUNT> DEV void multiply(float sums[4], const u32 codes[4], const Factors& f, const Tokens& t) {
    const i32 one = 0x4b400000; // the bits of 1.5·2^23
    i32 c[4] = {one, one, one, one};
    for (u32 i = 0; i < 4; i++)
        if (i % 2 < COUNT) c[i] -= f.z[i / 2] * t.sum[i % 2];
    mma_s8(c, codes, t.b);
    for (u32 i = 0; i < 4; i++) {
        if (i % 2 >= COUNT) continue;
        const float dot = bits_float((u32)c[i]) - 12582912.0f;
        sums[i] = fma(dot, f.s[i / 2] * t.s[i % 2], sums[i]);
    }
}

// A Stage is a part of shared memory with what some blocks of columns need: their codes, the factors of their groups, and
// the records of tiles.
template <int BITS, u32 PANELS, u32 TILES, u32 BLOCKS> struct Stage {
    static constexpr u32 codes = BLOCKS * PANEL * BLOCK * BITS / 8; // bytes of a panel
    static constexpr u32 scales = BLOCKS * PANEL * 4, zeros = BLOCKS * PANEL;
    static constexpr u32 records = BLOCKS * RECORD; // of a tile
    static constexpr u32 scales_at = PANELS * codes, zeros_at = scales_at + PANELS * scales;
    static constexpr u32 records_at = zeros_at + PANELS * zeros;
    static constexpr u32 bytes = records_at + TILES * records;
};

// copy_panel starts the copy of what blocks b to b+n-1 need of a panel, which becomes panel i of the stage.
template <int BITS, class S> DEV void copy_panel(u8* stage, const Grouped& w, u32 panel, u32 i, u32 b, u32 n) {
    const u32 first = group_of(w, b), groups = group_of(w, b + n - 1) - first + 1;
    const u64 group = (u64)panel * w.groups + first;
    const u32 bytes = PANEL * scale_bytes(w);
    copy<S::codes>(stage + i * S::codes, w.codes + ((u64)panel * w.blocks + b) * block_bytes<BITS>(), n * block_bytes<BITS>());
    copy<S::scales>(stage + S::scales_at + i * S::scales, w.scales + group * bytes, groups * bytes);
    if (w.zeros) copy<S::zeros>(stage + S::zeros_at + i * S::zeros, w.zeros + group * PANEL, groups * PANEL);
}

// copy_tile does the same for a tile.
template <class S> DEV void copy_tile(u8* stage, const GroupedMatMulArgs& a, u32 tile, u32 i, u32 b, u32 n) {
    copy<S::records>(stage + S::records_at + i * S::records, a.records + ((u64)tile * a.w.blocks + b) * RECORD, n * RECORD);
}

DEV void put(const GroupedMatMulArgs& a, u32 token, u32 row, float v) {
    float* y = a.y + (u64)token * a.y_stride + row;
    st(y, a.add ? ld(y) + v : v);
}

// join sets c to z·uᵀ for a panel and a tile, with z rounded to BF16. STEPS of 16 columns are on their way together.
template <u32 STEPS> DEV void join(float c[4], const GroupedMatMulArgs& a, u32 panel, u32 tile) {
    const u32 g = lane() / 4, t = lane() % 4;
    const u16* low = a.u + (u64)min(panel * PANEL + g, a.w.rows - 1) * a.u_stride + t * 2;
    const u16* high = a.u + (u64)min(panel * PANEL + g + 8, a.w.rows - 1) * a.u_stride + t * 2;
    const float* z = a.z + (u64)min(tile * TILE + g, a.tokens - 1) * a.z_stride + t * 2;
    for (u32 i = 0; i < 4; i++) c[i] = 0;
    for (u32 k = 0; k < a.rank; k += STEPS * 16) {
        u32 rows[STEPS][4], tokens[STEPS][2];
#pragma GCC unroll 16
        for (u32 i = 0; i < STEPS; i++) {
            const u32 at = min(k + i * 16, a.rank - 16);
            rows[i][0] = ld((const u32*)(low + at)), rows[i][1] = ld((const u32*)(high + at));
            rows[i][2] = ld((const u32*)(low + at + 8)), rows[i][3] = ld((const u32*)(high + at + 8));
            tokens[i][0] = pack_bf16(ld(z + at), ld(z + at + 1)), tokens[i][1] = pack_bf16(ld(z + at + 8), ld(z + at + 9));
        }
#pragma GCC unroll 16
        for (u32 i = 0; i < STEPS; i++)
            if (k + i * 16 < a.rank) mma_bf16(c, rows[i], tokens[i]);
    }
}

// skinny multiplies up to TILES·8 tokens, from by()·TILES·8 on, with few rows: a block of threads takes warps/slices times
// PANELS panels, and a warp one slice of PANELS panels for all those tokens. Each warp runs by itself: it copies its part of
// the weights (read once) and of the records (from the second-level cache) to a ring of DEPTH stages of its own, DEPTH-1
// ahead, so that with 8 warps some 20 to 30 KB of a block are on their way at any time. Then the slices' sums are added
// in shared memory.
//
// It moves PANELS·16·bits/8 + TILES·10 bytes a column; what limits it is the memory of the device while TILES is 1 or 2, and
// the second-level cache and the 16 instructions after an mma_s8 above that.
//
// With ONE there is one token and no record of it: each warp rounds its slice of the token itself while the first weights are
// on their way, 4 bytes a column from the second-level cache, which spares a launch. With NORMED the token is x's RMSNorm, whose
// sum of squares each block of threads computes anew, all 8 warps of it: a launch less again, and 8 bytes a column more, which
// the first-level cache has where blocks follow each other on a multiprocessor. Columns are in their own order then, and rows
// wide, of whole quads.
//
// Of a gated product a warp's panels are one of gate and that of up which goes with it; silu(gate) ⊙ up is all that leaves the
// block of threads. It has the bits of the product and SwiGLU one after the other.
//
// The product that is added is computed at that time too, 2·rank bytes a row, and waits in shared memory.
template <int BITS, u32 PANELS, u32 TILES, u32 BLOCKS, u32 DEPTH, bool ONE, bool NORMED = false>
DEV void skinny(const GroupedMatMulArgs& a) {
    typedef Stage<BITS, PANELS, ONE ? 0 : TILES, BLOCKS> S;
    const Grouped& w = a.w;
    const u32 parts = a.parts, slice = warp() & (a.slices - 1), part = warp() / a.slices, warps = nthreads() / 32;
    const u32 step = PANELS == 1 || ONE ? 1 : a.step;
    const bool gated = PANELS == 2 && step == 1; // a panel of gate a part, and one of up
    const u32 panels = panels_of(w), panel = (bx() * parts + part) * step;
    const u32 first = slice * a.slice_blocks;
    const u32 end = panel < (gated ? a.apart : panels) ? min(first + a.slice_blocks, w.blocks) : first;
    const u32 tile = by() * TILES, tiles = (a.tokens + TILE - 1) / TILE;

    u8* ring = smem() + warp() * (DEPTH * S::bytes);
    u32 next = first, to = 0;
    auto fetch = [&] {
        if (next < end) {
            const u32 n = min(BLOCKS, end - next);
            for (u32 p = 0; p < PANELS; p++) copy_panel<BITS, S>(ring + to, w, min(panel + p * a.apart, panels - 1), p, next, n);
            if constexpr (!ONE)
                for (u32 t = 0; t < TILES; t++) copy_tile<S>(ring + to, a, min(tile + t, tiles - 1), t, next, n);
            next += BLOCKS;
            to = to + S::bytes == DEPTH * S::bytes ? 0 : to + S::bytes;
        }
        cp_commit();
    };
#pragma GCC unroll 1
    for (u32 i = 0; i < DEPTH - 1; i++) fetch();

    // The rounded token of ONE: for each block of the slice 32 bytes, scale and sum.
    constexpr u32 brief = BLOCK + 8;
    u8* own = smem() + warps * (DEPTH * S::bytes) + warp() * (a.slice_blocks * brief);
    float* behind = (float*)(smem() + warps * (DEPTH * S::bytes + (ONE ? a.slice_blocks * brief : 0)));
    if constexpr (ONE) {
        const Row row{a.x, a.order, w.cols};
        const u32 quad = lane() % 8;
        float inverse = 1;
        Quad v[4], gain[4]; // four blocks at a time, and four times that on their way
        auto load = [&](u32 b) { // of NORMED
#pragma GCC unroll 16
            for (u32 i = 0; i < 4; i++) {
                const u32 block = b + i * 4 + lane() / 8, c = block < end ? block * BLOCK + quad * 4 : w.cols;
                v[i] = gain[i] = Quad{};
                if (c < w.cols) v[i] = load_whole(a.x + c), gain[i] = load_whole(a.gain + c);
            }
        };
        if constexpr (NORMED) {
            load(first); // on its way together with all of x
            norm::sum_rows<1, true>(behind, Mat<const float>{a.x, 1, w.cols, w.cols});
            block_sync();
            inverse = norm::inverse_rms_of(behind, 0, w.cols, a.eps);
        }
        for (u32 b = first; b < end; b += 16) {
            if constexpr (NORMED) {
                if (b > first) load(b);
            } else {
#pragma GCC unroll 16
                for (u32 i = 0; i < 4; i++) {
                    const u32 block = b + i * 4 + lane() / 8;
                    load_quad(row, block < end ? block * BLOCK + quad * 4 : w.cols, v[i].v);
                }
            }
#pragma GCC unroll 16
            for (u32 i = 0; i < 4; i++) {
                const u32 block = b + i * 4 + lane() / 8;
                float scale;
                i32 sum;
                if constexpr (NORMED) v[i] = norm::normalized(v[i], gain[i], inverse);
                const u32 q = round_quad(v[i].v, &scale, &sum);
                if (block >= end) continue;
                u8* record = own + (block - first) * brief;
                sst((u32*)record + quad % 4 * 2 + quad / 4, q);
                if (quad == 0) sst((u32*)(record + BLOCK), float_bits(scale));
                if (quad == 1) sst((i32*)(record + BLOCK + 4), sum);
            }
        }
    }

    // Sums lie [warp][token][row]; four words between tokens keep lanes of a warp in different banks.
    constexpr u32 rows = PANELS * PANEL, pitch = rows + 4, all = ONE ? 1 : TILES * TILE;
    auto keep = [&](float* to, const float c[4], u32 p, u32 t) {
#pragma GCC unroll 16
        for (u32 i = 0; i < 4; i++) {
            const u32 token = t * TILE + lane() % 4 * 2 + i % 2;
            if (token < all) sst(to + token * pitch + p * PANEL + lane() / 4 + i / 2 * 8, c[i]);
        }
    };
    if (!NORMED && a.u)
        for (u32 i = warp(); i < parts * PANELS * TILES; i += warps) {
            const u32 q = i / (PANELS * TILES), p = i / TILES % PANELS, t = i % TILES;
            float c[4];
            join<4>(c, a, (bx() * parts + q) * step + p * a.apart, tile + t);
            keep(behind + q * (all * pitch), c, p, t);
        }

    float sums[PANELS][TILES][4] = {};
    Factors f[PANELS] = {};
    u32 group = ~0u;
    auto enter = [&](const u8* stage, u32 g, u32 lowest) { // has f for group g
        if (g == group) return;
        group = g;
#pragma GCC unroll 16
        for (u32 p = 0; p < PANELS; p++)
            f[p] = factors<BITS>(w, stage + S::scales_at + p * S::scales + (g - lowest) * PANEL * scale_bytes(w),
                                 stage + S::zeros_at + p * S::zeros + (g - lowest) * PANEL);
    };
    auto add = [&](const u8* stage, u32 b, u32 j) { // block j of the stage, b of the matrix
        u32 codes[PANELS][4];
#pragma GCC unroll 16
        for (u32 p = 0; p < PANELS; p++) fragment<BITS>(codes[p], stage + p * S::codes + j * block_bytes<BITS>());
#pragma GCC unroll 16
        for (u32 t = 0; t < TILES; t++) {
            Tokens x;
            if constexpr (ONE) { // the token is column 0 of b, which lanes 0 to 3 hold
                const u8* record = own + (b - first) * brief;
                const u2 q = sld((const u2*)record + lane() % 4), v = sld((const u2*)(record + BLOCK));
                x = Tokens{{lane() < 4 ? q.x : 0, lane() < 4 ? q.y : 0}, {bits_float(v.x), 0}, {(i32)v.y, 0}};
            } else {
                x = tokens_of(stage + S::records_at + t * S::records + j * RECORD);
            }
#pragma GCC unroll 16
            for (u32 p = 0; p < PANELS; p++) multiply<ONE ? 1 : 2>(sums[p][t], codes[p], f[p], x);
        }
    };
    for (u32 b = first, from = 0; b < end; b += BLOCKS) {
        cp_wait<DEPTH - 2>();
        warp_sync();
        fetch();
        const u8* stage = ring + from;
        from = from + S::bytes == DEPTH * S::bytes ? 0 : from + S::bytes;
        const u32 lowest = group_of(w, b);
        // With few products to a block, blocks overlap where nothing branches between them: all of a stage, or two of two panels.
        if (PANELS * TILES < 8 && b + BLOCKS <= end && group_of(w, b + BLOCKS - 1) == lowest) {
            enter(stage, lowest, lowest);
            constexpr u32 TOGETHER = PANELS == 1 || BLOCKS < 2 ? BLOCKS : 2;
#pragma GCC unroll 1
            for (u32 j = 0; j < BLOCKS; j += TOGETHER)
#pragma GCC unroll 16
                for (u32 k = 0; k < TOGETHER; k++) add(stage, b + j + k, j + k);
        } else {
            const u32 n = min(BLOCKS, end - b);
#pragma GCC unroll 1
            for (u32 j = 0; j < n; j++) {
                enter(stage, group_of(w, b + j), lowest);
                add(stage, b + j, j);
            }
        }
    }

    block_sync();
#pragma GCC unroll 16
    for (u32 t = 0; t < TILES; t++)
#pragma GCC unroll 16
        for (u32 p = 0; p < PANELS; p++) keep((float*)smem() + warp() * (all * pitch), sums[p][t], p, t);
    block_sync();
    const u32 count = min(all, a.tokens - tile * TILE), kept = gated ? PANEL : rows, out = gated ? w.rows / 2 : w.rows;
    for (u32 i = tid(); i < parts * count * kept; i += nthreads()) {
        const u32 r = i % kept, token = i / kept % count, q = i / kept / count;
        const u32 row = (bx() * parts + q) * kept + r;
        if (row >= out) continue;
        auto total = [&](u32 r) {
            const float* from = (const float*)smem() + q * a.slices * (all * pitch) + token * pitch + r;
            float sum = sld(from);
            for (u32 s = 1; s < a.filled; s++) sum += sld(from + s * (all * pitch));
            if (!NORMED && a.u) sum += sld(behind + q * (all * pitch) + token * pitch + r);
            return sum;
        };
        float v = total(r);
        if (gated) v = swiglu_of(v, total(r + PANEL));
        put(a, tile * TILE + token, row, v);
    }
}

// tiled multiplies 64 tokens, from by()·64 on, with 128 rows: 8 warps in 4 by 2 take 32 rows by 32 tokens each, all columns
// of them. Stages of 2 blocks are shared by the block of threads, 2 of 3 on their way: each warp copies a panel and a tile.
//
// It moves 128·bits/8 + 80 bytes a column for 8192 products a column, most of it from the second-level cache. What limits it
// are the 16 instructions of a lane after each mma_s8, which take some 16 cycles of a quarter of a multiprocessor where the
// mma_s8 itself takes 4 to 8.
template <int BITS> DEV void tiled(const GroupedMatMulArgs& a) {
    constexpr u32 PANELS = 2, TILES = 4, BLOCKS = 2, DEPTH = 3; // panels and tiles of a warp
    typedef Stage<BITS, WARPS, WARPS, BLOCKS> S;
    const Grouped& w = a.w;
    const u32 panels = panels_of(w), tiles = (a.tokens + TILE - 1) / TILE;
    const u32 panel = min(bx() * WARPS + warp(), panels - 1), tile = min(by() * WARPS + warp(), tiles - 1); // to copy
    const u32 p0 = warp() % 4 * PANELS, t0 = warp() / 4 * TILES;                                           // to multiply

    u32 next = 0, next_end = min(a.slice_blocks, w.blocks), to = 0;
    auto fetch = [&] {
        if (next < w.blocks) {
            const u32 n = min(BLOCKS, next_end - next);
            copy_panel<BITS, S>(smem() + to, w, panel, warp(), next, n);
            copy_tile<S>(smem() + to, a, tile, warp(), next, n);
            next += n;
            if (next == next_end) next_end = min(next_end + a.slice_blocks, w.blocks);
            to = to + S::bytes == DEPTH * S::bytes ? 0 : to + S::bytes;
        }
        cp_commit();
    };
#pragma GCC unroll 1
    for (u32 i = 0; i < DEPTH - 1; i++) fetch();

    float total[PANELS][TILES][4] = {};
    Factors f[PANELS] = {};
    u32 from = 0, group = ~0u;
    for (u32 first = 0; first < w.blocks; first += a.slice_blocks) {
        const u32 end = min(first + a.slice_blocks, w.blocks);
        float sums[PANELS][TILES][4] = {};
        for (u32 b = first; b < end; b += BLOCKS) {
            cp_wait<DEPTH - 2>();
            block_sync();
            fetch();
            const u8* stage = smem() + from;
            from = from + S::bytes == DEPTH * S::bytes ? 0 : from + S::bytes;
            const u32 lowest = group_of(w, b), n = min(BLOCKS, end - b);
#pragma GCC unroll 1
            for (u32 j = 0; j < n; j++) {
                const u32 g = group_of(w, b + j);
                u32 codes[PANELS][4];
#pragma GCC unroll 16
                for (u32 p = 0; p < PANELS; p++) {
                    if (g != group)
                        f[p] = factors<BITS>(w, stage + S::scales_at + (p0 + p) * S::scales + (g - lowest) * PANEL * scale_bytes(w),
                                             stage + S::zeros_at + (p0 + p) * S::zeros + (g - lowest) * PANEL);
                    fragment<BITS>(codes[p], stage + (p0 + p) * S::codes + j * block_bytes<BITS>());
                }
                group = g;
#pragma GCC unroll 16
                for (u32 t = 0; t < TILES; t++) {
                    const Tokens x = tokens_of(stage + S::records_at + (t0 + t) * S::records + j * RECORD);
#pragma GCC unroll 16
                    for (u32 p = 0; p < PANELS; p++) multiply<2>(sums[p][t], codes[p], f[p], x);
                }
            }
        }
#pragma GCC unroll 16
        for (u32 p = 0; p < PANELS; p++)
#pragma GCC unroll 16
            for (u32 t = 0; t < TILES; t++)
#pragma GCC unroll 16
                for (u32 i = 0; i < 4; i++) total[p][t][i] = first ? total[p][t][i] + sums[p][t][i] : sums[p][t][i];
    }
#pragma GCC unroll 16
    for (u32 t = 0; t < TILES; t++)
#pragma GCC unroll 16
        for (u32 p = 0; p < PANELS; p++) {
            if (a.u) {
                float c[4];
                join<1>(c, a, bx() * WARPS + p0 + p, by() * WARPS + t0 + t);
                for (u32 i = 0; i < 4; i++) total[p][t][i] += c[i];
            }
#pragma GCC unroll 16
            for (u32 i = 0; i < 4; i++) {
                const u32 token = (by() * WARPS + t0 + t) * TILE + lane() % 4 * 2 + i % 2;
                const u32 row = (bx() * WARPS + p0 + p) * PANEL + lane() / 4 + i / 2 * 8;
                if (token < a.tokens && row < w.rows) put(a, token, row, total[p][t][i]);
            }
        }
}

// The shapes of grouped.go: of one token the blocks of a stage, which holds about 1 KB of codes at any width, and of the
// others the stages of a ring, as many as fit into 99 KB for 8 warps. AT_ONCE is for how many blocks of grouped_one an H100's
// multiprocessors have the shared memory.
#define GROUPED_PRODUCTS(BITS, BLOCKS, AT_ONCE, DEPTH8, DEPTH16, DEPTH32)                                                   \
    KERNELS(grouped_one_w##BITS, GroupedMatMulArgs, 256, AT_ONCE) { skinny<BITS, 1, 1, BLOCKS, 5, true>(a); }               \
    KERNELS(grouped_normed_w##BITS, GroupedMatMulArgs, 256, 3) { skinny<BITS, 1, 1, BLOCKS, 5, true, true>(a); }            \
    KERNELS(grouped_normed_gated_w##BITS, GroupedMatMulArgs, 256, 3) { skinny<BITS, 2, 1, BLOCKS / 2, 5, true, true>(a); }  \
    KERNEL(grouped_8_w##BITS, GroupedMatMulArgs, 256) { skinny<BITS, 2, 1, 2, DEPTH8, false>(a); }                          \
    KERNEL(grouped_16_w##BITS, GroupedMatMulArgs, 256) { skinny<BITS, 2, 2, 2, DEPTH16, false>(a); }                        \
    KERNEL(grouped_32_w##BITS, GroupedMatMulArgs, 256) { skinny<BITS, 2, 4, 2, DEPTH32, false>(a); }                        \
    KERNEL(grouped_tiled_w##BITS, GroupedMatMulArgs, 256) { tiled<BITS>(a); }

GROUPED_PRODUCTS(8, 2, 4, 4, 3, 2)
GROUPED_PRODUCTS(4, 4, 4, 4, 4, 3)
GROUPED_PRODUCTS(3, 4, 4, 5, 4, 3)
GROUPED_PRODUCTS(2, 8, 3, 6, 4, 3)
