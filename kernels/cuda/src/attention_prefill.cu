// Attend for sequences with more than decode_rows rows in the call: prompts.
//
// A prompt's attention is arithmetic: 4·rows·keys·features operations for each query head, half of them beyond the causal
// limit. This is flash attention (Dao 2023): a warp has 16 queries and their sums in registers, the block's four warps go
// through keys and values in tiles that cp.async brings to shared memory: values while scores are computed, the next keys
// while values are added. The query heads of a key head are rows of one matrix (row·group + head), so that a block of 64
// spans few positions, and what its tiles cost beyond the causal limit is little. What no row of a warp sees the warp
// leaves out.
//
// Queries and weights go in as two terms (F16, BF16 in attention.cuh), for twice the products of one: with F16 that is as
// exact as F32, with BF16 it is 2^-17 where one term would be 2^-9. A tile's products are added to the sums in F32.
//
// A tile of 128 features and 32 tokens is 16 KB, and a block does 64 · 32 · 128 · 8 operations with it: 128 for a byte. The
// block takes 48 KB of shared memory and 168 registers a thread: two of them have room on a multiprocessor with 100 KB,
// three with more. What limits it are tensor cores where a multiprocessor's are slow (Ada, consumer Ampere), and reading
// fragments, 512 bytes for four products, where they are fast (Hopper).
//
// A row's bits depend on its own position and window alone: tiles begin at fixed positions, and a tile that others need
// adds zeros.
#include "attention.cuh"

namespace attention {

const u32 prefill_rows = 64; // queries of a block

// Block is what a block has to do.
struct Block {
    u32 seq, first; // sequence, and the first of its queries
    bool any;
};

// find_block deals the blocks out to sequences, last ones first, as those with the most keys should start early.
DEV Block find_block(const AttendArgs& a) {
    u32 left = bx();
    for (u32 base = 0; base < a.count; base += 32) {
        u32 n = 0;
        if (base + lane() < a.count) {
            u32 rows = sequence(a, a.count - 1 - base - lane()).rows;
            if (rows > a.decode_rows) n = (rows * a.group + prefill_rows - 1) / prefill_rows;
        }
        u32 upto = n;
#pragma unroll
        for (u32 d = 1; d < 32; d *= 2) {
            u32 before = shfl_up(upto, d);
            if (lane() >= d) upto += before;
        }
        u32 found = ballot(upto > left);
        if (found) {
            u32 l = (u32)__builtin_ctz(found);
            u32 before = left - shfl(upto - n, l);
            return {a.count - 1 - base - l, (shfl(n, l) - 1 - before) * prefill_rows, true};
        }
        left -= shfl(upto, 31);
    }
    return {0, 0, false};
}

// Tile is where keys and values of S strips lie in shared memory, and which tokens have values that are not finite.
struct Tile {
    u4 *queries, *keys, *values;
    u32 *found, *bad; // (warps), (tokens)
};

DEV Tile tiles(const AttendArgs& a, u32 strips) {
    u32 key_tiles = a.key_dim / strip, value_tiles = a.value_dim / strip;
    Tile m;
    m.queries = (u4*)smem();
    m.keys = m.queries + warps * key_tiles * 2 * 32;
    m.values = m.keys + strips * key_tiles * 32;
    m.found = (u32*)(m.values + strips * value_tiles * 32);
    m.bad = m.found + warps;
    return m;
}

// copy starts to bring strips of tokens from `token` on to shared memory; those from `end` on become zeros.
DEV void copy(const AttendArgs& a, const Sequence& s, u4* to, const void* pool, u32 stride, u32 dim, u32 token, u32 strips, u32 end) {
    const u32 n = dim / strip * 32;
    for (u32 i = 0; i < strips; i++, token += strip, to += n) {
        const u16* from = (const u16*)pool;
        bool valid = token < end;
        if (valid) {
            u32 block = (u32)ld(s.blocks + token / a.block_tokens);
            from += (u64)block * stride + (u64)(by() * a.block_tokens + token % a.block_tokens) * dim;
        }
        for (u32 j = tid(); j < n; j += threads) cp16z(to + j, (const u4*)from + j, valid);
    }
    cp_commit();
}

// scrub takes values that are not finite for zero, in shared memory, and says whose they were; it returns if there are any.
template <class T> DEV bool scrub(const Tile& m, u32 strips, u32 value_tiles) {
    u32 any = 0;
    for (u32 i = tid(); i < strips * value_tiles * 32; i += threads) {
        u4 v = sld(m.values + i);
        any |= not_finite<T>(v.x) | not_finite<T>(v.y) | not_finite<T>(v.z) | not_finite<T>(v.w);
    }
    u32 lanes = ballot(any != 0);
    if (lane() == 0) sst(m.found + warp(), lanes);
    block_sync();
    any = 0;
#pragma unroll
    for (u32 w = 0; w < warps; w++) any |= sld(m.found + w);
    if (!any) return false;
    // A thread has two neighbouring tokens, the halves of a word.
    for (u32 pair = tid(); pair < strips * strip / 2; pair += threads) {
        u32 bad = 0;
        for (u32 i = 0; i < value_tiles * 16; i++) {
            u32* word = (u32*)(m.values + (pair / 8 * value_tiles + i / 16) * 32 + i % 8 * 4 + pair % 4) + i % 16 / 8 + pair % 8 / 4 * 2;
            u32 x = sld(word);
            bad |= not_finite<T>(x);
            if (not_finite<T>(x)) sst(word, finite<T>(x));
        }
        sst(m.bad + pair * 2, bad >> 15 & 1);
        sst(m.bad + pair * 2 + 1, bad >> 31);
    }
    block_sync();
    return true;
}

// prefill attends for 64 queries of a sequence. K and V are the most tiles of keys and of values that it has room for, S
// is the strips of a tile of tokens.
template <class T, u32 K, u32 V, u32 S> DEV void prefill(const AttendArgs& a) {
    const Block block = find_block(a);
    if (!block.any) return;
    const Sequence s = sequence(a, block.seq);
    const u32 key_tiles = a.key_dim / strip, value_tiles = a.value_dim / strip, tokens = S * strip;
    const u32 g = lane() / 4, t = lane() % 4, last = s.rows * a.group - 1;
    const Tile m = tiles(a, S);

    // The lane's queries, g and g+8 of the warp's 16; one beyond the last is as the last.
    const u32 first = block.first + warp() * 16;
    u32 high[2], low[2];
    float factor[2];
#pragma unroll
    for (u32 r = 0; r < 2; r++) {
        u32 query = min(first + g + r * 8, last);
        high[r] = s.from + query / a.group + 1;
        low[r] = lowest(high[r], a.window);
    }
    {
        const float* q[2];
        Range range[2];
        bool wide = aligned(a.q, a.q_stride);
#pragma unroll
        for (u32 r = 0; r < 2; r++) {
            u32 query = min(first + g + r * 8, last);
            q[r] = a.q + (u64)(s.row + query / a.group) * a.q_stride + (u64)(by() * a.group + query % a.group) * a.key_dim;
            range[r] = load_range<T>(q[r], key_tiles, wide);
            factor[r] = a.scale * range[r].inverse;
        }
        for (u32 i = 0; i < key_tiles; i++) { // each lane reads back only what it writes
            u32 f[2][4];
#pragma unroll
            for (u32 r = 0; r < 2; r++) {
                float x[4];
                load4(x, q[r] + i * strip + t * 4, wide);
                u32 lo[2], hi[2];
                split<T>(lo, x[0] * range[r].factor, x[1] * range[r].factor);
                split<T>(hi, x[2] * range[r].factor, x[3] * range[r].factor);
#pragma unroll
                for (u32 j = 0; j < 2; j++) f[j][r] = lo[j], f[j][2 + r] = hi[j];
            }
#pragma unroll
            for (u32 j = 0; j < 2; j++) sst(m.queries + ((warp() * key_tiles + i) * 2 + j) * 32 + lane(), (u4{f[j][0], f[j][1], f[j][2], f[j][3]}));
        }
    }

    // What all rows of the block, and of the warp, see; and what any of them sees.
    const u32 block_first = s.from + block.first / a.group + 1, block_last = s.from + min(block.first + prefill_rows - 1, last) / a.group + 1;
    const u32 warp_first = s.from + min(first, last) / a.group + 1, warp_last = s.from + min(first + 15, last) / a.group + 1;
    const u32 end = block_last;

    float o[V * 2][4], top[2] = {-infinity, -infinity}, sum[2] = {0, 0};
#pragma unroll
    for (u32 i = 0; i < V * 2; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0;

    u32 at = lowest(block_first, a.window) / tokens * tokens;
    copy(a, s, m.keys, a.keys, a.keys_stride, a.key_dim, at, S, end);
    for (; at < end; at += tokens) {
        cp_wait<0>();
        block_sync(); // keys are here, and the last values are done with
        copy(a, s, m.values, a.values, a.values_stride, a.value_dim, at, S, end);
        const bool sees = at < warp_last && at + tokens > lowest(warp_first, a.window);

        // Scores: queries g and g+8 by tokens 2t and 2t+1 of each eight.
        float x[S * 2][4];
        if (sees) {
#pragma unroll
            for (u32 i = 0; i < S * 2; i++) x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0;
#pragma unroll
            for (u32 i = 0; i < K; i++) {
                if (i >= key_tiles) continue;
                u4 k[S];
#pragma unroll
                for (u32 j = 0; j < S; j++) k[j] = sld(m.keys + (j * key_tiles + i) * 32 + lane());
#pragma unroll
                for (u32 term = 2; term-- > 0;) {
                    u4 q = sld(m.queries + ((warp() * key_tiles + i) * 2 + term) * 32 + lane());
                    u32 f[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
                    for (u32 j = 0; j < S; j++) {
                        u32 b[2] = {k[j].x, k[j].y}, b8[2] = {k[j].z, k[j].w};
                        T::mma(x[j * 2], f, b);
                        T::mma(x[j * 2 + 1], f, b8);
                    }
                }
            }
        }
        if (at + tokens > block_first || at < lowest(block_last, a.window)) { // some row of the block sees only a part
            cp_wait<0>();
            block_sync();
            const bool found = scrub<T>(m, S, value_tiles);
            if (sees) {
#pragma unroll
                for (u32 i = 0; i < S * 2; i++) {
#pragma unroll
                    for (u32 j = 0; j < 4; j++) {
                        u32 token = i * 8 + t * 2 + j % 2;
                        bool seen = at + token >= low[j / 2] && at + token < high[j / 2];
                        x[i][j] = !seen ? -infinity : found && sld(m.bad + token) ? nan() : x[i][j];
                    }
                }
            }
        }

        float grown[2];
        u32 w[S][2][4]; // weights as fragments of 16 queries by 16 tokens, in two terms
        if (sees) {
#pragma unroll
            for (u32 r = 0; r < 2; r++) {
                float n = -infinity;
#pragma unroll
                for (u32 i = 0; i < S * 2; i++) n = most(x[i][r * 2 + 1], most(x[i][r * 2], n));
                n = most(shfl_xor(n, 1), n);
                n = most(shfl_xor(n, 2), n);
                n = most(n * factor[r], top[r]);
                const float base = n == -infinity ? 0 : n;
                grown[r] = exp2(top[r] - base);
                top[r] = n;
                float add = 0;
#pragma unroll
                for (u32 i = 0; i < S * 2; i++) {
#pragma unroll
                    for (u32 j = r * 2; j < r * 2 + 2; j++) {
                        x[i][j] = exp2(fma(x[i][j], factor[r], T::bias - base));
                        add += x[i][j];
                    }
                }
                sum[r] = fma(sum[r], grown[r], add);
            }
#pragma unroll
            for (u32 i = 0; i < S; i++) {
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    u32 terms[2];
                    split<T>(terms, x[i * 2 + j / 2][j % 2 * 2], x[i * 2 + j / 2][j % 2 * 2 + 1]);
                    w[i][0][j] = terms[0];
                    w[i][1][j] = terms[1];
                }
            }
        }
        cp_wait<0>();
        block_sync(); // values are here, and the keys are done with
        if (at + tokens < end) copy(a, s, m.keys, a.keys, a.keys_stride, a.key_dim, at + tokens, S, end);
        if (!sees) continue;
#pragma unroll
        for (u32 i = 0; i < V; i++) {
            if (i >= value_tiles) continue;
            float c[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
            for (u32 j = 0; j < S; j++) {
                u4 v = sld(m.values + (j * value_tiles + i) * 32 + lane());
                u32 b[2] = {v.x, v.z}, b8[2] = {v.y, v.w};
#pragma unroll
                for (u32 term = 2; term-- > 0;) {
                    T::mma(c[0], w[j][term], b);
                    T::mma(c[1], w[j][term], b8);
                }
            }
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                o[i * 2][j] = fma(o[i * 2][j], grown[j / 2], c[0][j]);
                o[i * 2 + 1][j] = fma(o[i * 2 + 1][j], grown[j / 2], c[1][j]);
            }
        }
    }

#pragma unroll
    for (u32 r = 0; r < 2; r++) {
        sum[r] += shfl_xor(sum[r], 1);
        sum[r] += shfl_xor(sum[r], 2);
        u32 query = first + g + r * 8;
        if (query > last) continue;
        float* y = a.y + (u64)(s.row + query / a.group) * a.y_stride + (u64)(by() * a.group + query % a.group) * a.value_dim + t * 2;
        float f = rcp(sum[r]);
#pragma unroll
        for (u32 i = 0; i < V * 2; i++) {
            if (i >= value_tiles * 2) continue;
            st(y + i * 8, o[i][r * 2] * f);
            st(y + i * 8 + 1, o[i][r * 2 + 1] * f);
        }
    }
}

} // namespace attention

// Kernels for keys and values of up to 64, 128 and 256 features.
ATTENTION_KERNEL(prefill_f16_64, 3) { attention::prefill<attention::F16, 4, 4, 4>(a); }
ATTENTION_KERNEL(prefill_f16_128, 3) { attention::prefill<attention::F16, 8, 8, 2>(a); }
ATTENTION_KERNEL(prefill_f16_256, 2) { attention::prefill<attention::F16, 16, 16, 2>(a); }
ATTENTION_KERNEL(prefill_bf16_64, 3) { attention::prefill<attention::BF16, 4, 4, 4>(a); }
ATTENTION_KERNEL(prefill_bf16_128, 3) { attention::prefill<attention::BF16, 8, 8, 2>(a); }
ATTENTION_KERNEL(prefill_bf16_256, 2) { attention::prefill<attention::BF16, 16, 16, 2>(a); }
