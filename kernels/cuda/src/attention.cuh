// What Store and Attend share: how a token lies in a block of the cache, the arguments, and products of more than a
// half's precision on tensor cores.
//
// Where keys and values are halves (F16 or BF16), blocks are whole strips of 16 tokens and heads whole tiles of 16
// features, a block is laid out as (head, strip, tile, lane, 8): the 16 bytes of a lane are its part of an operand of
// mma.m16n8k16. Whoever reads a tile, from memory into registers or through shared memory, moves 512 bytes in a row with
// one access of 16 bytes a lane, and needs neither ldmatrix nor a shuffle nor padding. With g = lane/4 and t = lane%4:
//   keys:   token g features 4t..4t+3, token g+8 features 4t..4t+3. The order of features is not that of the
//           instruction, and need not be: the query's fragments have the same one.
//   values: feature g tokens 2t, 2t+1; feature g+8 the same; feature g tokens 2t+8, 2t+9; feature g+8 the same.
// As the operand of 16 rows a tile is 16 tokens of keys or 16 features of values; as the one of 8 columns it is two.
//
// In every other case, F32 among them, keys are (head, feature, token) and values (head, token, feature).
#pragma once

#include "mat.cuh"

// ATTENTION_KERNEL is KERNEL, for so many blocks at a time on a multiprocessor: it bounds the registers of a thread.
#ifdef __CUDA_ARCH__
#define ATTENTION_KERNEL(name, blocks) \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(attention::threads, blocks))) void name(const attention::AttendArgs a)
#else
#define ATTENTION_KERNEL(name, blocks) KERNEL(name, attention::AttendArgs, attention::threads)
#endif

namespace attention {

const u32 strip = 16;     // tokens that are one side of a tile
const u32 tile = 256;     // elements of a tile
const u32 lane_tile = 8;  // of them, a lane's
const u32 threads = 128;  // of a block, in every kernel here
const u32 warps = threads / 32;
const float infinity = __builtin_inff();

struct StoreArgs {
    const float *k, *v; // (rows, heads·keyDim), (rows, heads·valueDim)
    const i32* slots;
    void *keys, *values; // the cache
    u32 k_stride, v_stride, slot_stride, keys_stride, values_stride;
    u32 heads, key_dim, value_dim, block_tokens;
};

struct RotateStoreArgs {
    StoreArgs store;
    float* q; // (rows, heads·key_dim)
    const float* angles;
    u32 q_stride, angles_stride;
    u32 heads, half; // query heads; pairs of features that turn
};

struct AttendArgs {
    float* y;
    const float* q;
    const void *keys, *values;
    const i32 *rows, *from, *blocks;
    float* partials; // (slots, heads, chunks, value_dim + 4): features, then the largest score and the sum of weights
    u32* tickets;    // (slots, heads)
    u32 y_stride, q_stride, keys_stride, values_stride, rows_stride, from_stride, blocks_stride;
    u32 count;           // sequences
    u32 key_heads, group; // query heads of a key head
    u32 key_dim, value_dim, block_tokens;
    u32 window;
    u32 decode_rows;   // rows of a sequence, up to which it is decoding; more are a prompt
    u32 slots, chunks; // of partials
    float scale;       // on q·k, times log2 e: weights are powers of two
};

// Sequence is the part of a sequence that a call attends from.
struct Sequence {
    u32 row, rows, from;
    const i32* blocks;
};

DEV Sequence sequence(const AttendArgs& a, u32 i) {
    u32 row = (u32)ld(a.rows + (u64)i * a.rows_stride), end = (u32)ld(a.rows + (u64)(i + 1) * a.rows_stride);
    return {row, end - row, (u32)ld(a.from + (u64)i * a.from_stride), a.blocks + (u64)i * a.blocks_stride};
}

// lowest returns the first key that a row sees whose last one is high-1.
DEV u32 lowest(u32 high, u32 window) { return window && high > window ? high - window : 0; }

// most is max, but for what is not a number: that counts as less than all.
DEV float most(float a, float b) { return a > b ? a : b; }

// Products of tensor cores have halves for factors and sums in F32. A factor in F32, a query or a weight, therefore goes
// in as a sum of halves, the first nearest to it, each next one nearest to what is left: two terms of F16 hold 22 bits,
// three of BF16 all 24, two of BF16 16. F16 needs its factors in range, which a power of two sees to.
struct F16 {
    static const u32 terms = 2;          // of a factor in F32, if it is to stay as exact as that
    static constexpr float bias = 12;    // weights are 2^bias times theirs, so that small ones do not vanish
    static const bool ranged = true;     // queries are scaled
    static const u32 exponent = 0x7c00;
    DEV u32 pack(float lo, float hi) { return pack_f16(lo, hi); }
    DEV float lo(u32 x) { return f16_lo(x); }
    DEV float hi(u32 x) { return f16_hi(x); }
    DEV void mma(float c[4], const u32 a[4], const u32 b[2]) { mma_f16(c, a, b); }
    DEV u16 half(float x) { return to_f16(x); }
    DEV float wide(u16 x) { return from_f16(x); }
    typedef u16 element;
};
struct BF16 {
    static const u32 terms = 3;
    static constexpr float bias = 0;
    static const bool ranged = false;
    static const u32 exponent = 0x7f80;
    DEV u32 pack(float lo, float hi) { return pack_bf16(lo, hi); }
    DEV float lo(u32 x) { return bf16_lo(x); }
    DEV float hi(u32 x) { return bf16_hi(x); }
    DEV void mma(float c[4], const u32 a[4], const u32 b[2]) { mma_bf16(c, a, b); }
    DEV u16 half(float x) { return to_bf16(x); }
    DEV float wide(u16 x) { return from_bf16(x); }
    typedef u16 element;
};
struct F32 {
    DEV float half(float x) { return x; }
    DEV float wide(float x) { return x; }
    typedef float element;
};

// split sets r to the terms of a pair of factors.
template <class T, u32 n> DEV void split(u32 (&r)[n], float lo, float hi) {
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        r[i] = T::pack(lo, hi);
        lo -= T::lo(r[i]);
        hi -= T::hi(r[i]);
    }
}

// Range is a power of two that brings a row of queries to about 2^10, and its inverse.
struct Range {
    float factor, inverse;
};

// range_of returns what suits a row whose largest magnitude is m.
DEV Range range_of(float m) {
    u32 e = min(max(float_bits(m) >> 23, 11u), 254u);
    return {bits_float((264 - e) << 23), bits_float((e - 10) << 23)};
}

// load4 reads four neighbours, at once where they are aligned.
DEV void load4(float (&x)[4], const float* p, bool aligned) {
    if (aligned) {
        u4 v = ld_wide(p);
        x[0] = bits_float(v.x), x[1] = bits_float(v.y), x[2] = bits_float(v.z), x[3] = bits_float(v.w);
    } else {
        x[0] = ld(p), x[1] = ld(p + 1), x[2] = ld(p + 2), x[3] = ld(p + 3);
    }
}

// A matrix is aligned if all its rows begin at a multiple of 16 bytes.
DEV bool aligned(const float* p, u32 stride) { return (((u64)p | (u64)stride * 4) & 15) == 0; }

// load_range returns the range of the query of lane/4, whose four lanes read it together; p is where it begins.
template <class T> DEV Range load_range(const float* p, u32 tiles, bool wide) {
    if constexpr (!T::ranged) return {1, 1};
    float m = 0;
    for (u32 i = 0; i < tiles; i++) {
        float x[4];
        load4(x, p + i * strip + lane() % 4 * 4, wide);
        m = most(abs(x[3]), most(abs(x[2]), most(abs(x[1]), most(abs(x[0]), m))));
    }
    m = most(shfl_xor(m, 1), m);
    m = most(shfl_xor(m, 2), m);
    return range_of(m);
}

// Some keys of a strip are seen by some queries and not by others, and the last strip of a sequence holds slots that
// nothing was stored in. A weight of zero hides what is finite there, but not what is not: 0·NaN is NaN. So where any
// query sees only part of a strip, values that are not finite are taken as zero, and the scores of their tokens become
// NaN for those who see them.

// not_finite marks the halves of x that are not finite, in the highest bit of each.
template <class T> DEV u32 not_finite(u32 x) {
    const u32 all = T::exponent | T::exponent << 16, lowest = all & ~(all << 1);
    return ((x & all) + lowest) & 0x80008000u;
}
template <class T> DEV u32 finite(u32 x) { return x & ~((not_finite<T>(x) >> 15) * 0xffffu); }
template <class T> DEV u4 finite(u4 v) { return {finite<T>(v.x), finite<T>(v.y), finite<T>(v.z), finite<T>(v.w)}; }

// nan stands for the score of a token whose values are not finite.
DEV float nan() { return bits_float(0x7fffffffu); }

} // namespace attention
