// Attend for what the tiles of attention.cuh cannot hold: caches of F32, heads of any number of features, blocks of any
// number of tokens. It is written to be right, and is what the other kernels can be compared with.
//
// A block takes a row and a query head, a tile of 128 tokens at a time: a thread has a token and computes its score, then
// a thread has features and adds values. Keys are (feature, token) in a block of the cache, so that neighbouring threads
// read neighbouring elements. Every query head reads keys and values for itself, most often from the second-level cache,
// and a long sequence is not split: for one sequence it reaches a small part of what memory gives.
#include "attention.cuh"

namespace attention {

// find_row returns the sequence of row bx(), if it has one.
struct Row {
    u32 seq;
    bool any;
};
DEV Row find_row(const AttendArgs& a) {
    for (u32 base = 0; base < a.count; base += 32) {
        bool mine = false;
        if (base + lane() < a.count) {
            Sequence s = sequence(a, base + lane());
            mine = bx() >= s.row && bx() - s.row < s.rows;
        }
        u32 found = ballot(mine);
        if (found) return {base + (u32)__builtin_ctz(found), true};
    }
    return {0, false};
}

template <class T> DEV void attend(const AttendArgs& a) {
    typedef typename T::element E;
    const Row row = find_row(a);
    if (!row.any) return;
    const Sequence s = sequence(a, row.seq);
    const u32 head = by() / a.group, high = s.from + (bx() - s.row) + 1, low = lowest(high, a.window);
    const E *keys = (const E*)a.keys + (u64)head * a.block_tokens * a.key_dim, *values = (const E*)a.values + (u64)head * a.block_tokens * a.value_dim;

    float* q = (float*)smem();                // (key_dim)
    float* sums = q + a.key_dim;              // (value_dim)
    float* weights = sums + a.value_dim;      // (threads)
    float* parts = weights + threads;         // (2, warps)
    u32* blocks = (u32*)(parts + 2 * warps);  // (threads)
    for (u32 i = tid(); i < a.key_dim; i += threads) sst(q + i, ld(a.q + (u64)bx() * a.q_stride + (u64)by() * a.key_dim + i));
    for (u32 i = tid(); i < a.value_dim; i += threads) sst(sums + i, 0.0f);
    block_sync();

    float top = -infinity, sum = 0;
    for (u32 at = low / threads * threads; at < high; at += threads) {
        const u32 token = at + tid(), first = max(at, low), end = min(at + threads, high);
        float x = -infinity;
        if (token >= low && token < high) {
            u32 block = (u32)ld(s.blocks + token / a.block_tokens);
            sst(blocks + tid(), block);
            const E* k = keys + (u64)block * a.keys_stride + token % a.block_tokens;
            x = 0;
            for (u32 i = 0; i < a.key_dim; i++) x = fma(sld(q + i), T::wide(ld(k + (u64)i * a.block_tokens)), x);
        }
        float n = most(x, -infinity);
#pragma unroll
        for (u32 d = 16; d; d /= 2) n = most(shfl_xor(n, d), n);
        if (lane() == 0) sst(parts + warp(), n);
        block_sync();
        n = top;
#pragma unroll
        for (u32 w = 0; w < warps; w++) n = most(sld(parts + w) * a.scale, n);
        const float base = n == -infinity ? 0 : n;
        float grown = exp2(top - base), w = exp2(fma(x, a.scale, -base));
        top = n;
        sst(weights + tid(), w);
        w = warp_sum(w);
        if (lane() == 0) sst(parts + warps + warp(), w);
        block_sync();
        float add = 0;
#pragma unroll
        for (u32 i = 0; i < warps; i++) add += sld(parts + warps + i);
        sum = fma(sum, grown, add);
        for (u32 i = tid(); i < a.value_dim; i += threads) {
            float y = 0; // a tile's sum by itself, so that chains stay short
            for (u32 j = first; j < end; j++) {
                const E* v = values + (u64)sld(blocks + (j - at)) * a.values_stride + (u64)(j % a.block_tokens) * a.value_dim;
                y = fma(sld(weights + (j - at)), T::wide(ld(v + i)), y);
            }
            sst(sums + i, fma(sld(sums + i), grown, y));
        }
        block_sync();
    }
    for (u32 i = tid(); i < a.value_dim; i += threads)
        st(a.y + (u64)bx() * a.y_stride + (u64)by() * a.value_dim + i, sld(sums + i) * rcp(sum));
}

} // namespace attention

KERNEL(attend_f32, attention::AttendArgs, attention::threads) { attention::attend<attention::F32>(a); }
KERNEL(attend_f16, attention::AttendArgs, attention::threads) { attention::attend<attention::F16>(a); }
KERNEL(attend_bf16, attention::AttendArgs, attention::threads) { attention::attend<attention::BF16>(a); }
