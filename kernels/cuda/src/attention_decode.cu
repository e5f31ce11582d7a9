// Attend for sequences with up to decode_rows rows in the call: decoding, drafts under verification, short prompts.
//
// Such a call reads all keys and values of a sequence for a few queries: it waits for memory. With the query heads of a
// key head together in the eight columns of mma.m16n8k16, what is read is multiplied by all of them and each byte comes
// from memory once: keys·queriesᵀ is (16 tokens, 8 queries), valuesᵀ·weightsᵀ (16 features, 8 queries). Columns beyond
// the queries there are cost nothing that shows: for 8 KB of keys and values of 128 features there are 32 products (F16),
// some 60 cycles of a multiprocessor, while its share of memory takes 440 (H200), 800 (A100), 2600 (4090). So queries and
// weights go in with all their bits (F16, BF16 in attention.cuh), and the result is that of F32.
//
// A sequence is cut into chunks, so that a long one keeps the whole device busy; a chunk is a multiple of 128 tokens and
// there are 64 of them at most, by the row's own position and window alone. A block takes one at a time. Its warps take
// strips in turn, keep their own running softmax (Milakov and Gimelshein 2018; Dao et al. 2022) and meet once, at the end
// of the chunk; they load into registers, the next strip's keys while they multiply values, 8 to 16 KB in flight a
// warp at 128 features. Chunks are merged in their order: by the block itself if it has all of them, else by the block
// that comes last to a ticket. Both do the same arithmetic, so a row's bits follow from its position and window.
//
// How long sequences are, and where their blocks lie, is read on the device: a recorded step stays valid. The grid is
// (blocks of a sequence, key heads, sequences); blocks without work leave after two loads.
#include "attention.cuh"

namespace attention {

const u32 columns = 8;       // queries at a time
const u32 least_chunk = 128; // tokens
const u32 most_chunks = 64;

// chunk_tokens returns the length of the chunks of a row that sees so many keys.
DEV u32 chunk_tokens(u32 seen) {
    u32 n = least_chunk;
    while (n * most_chunks < seen) n *= 2;
    return n;
}

// State is a running softmax: the largest score so far, and sums relative to it.
struct alignas(8) State {
    float top, sum;
};

// Step is what merging a chunk does: factors of what was there before, and of the chunk.
struct Step {
    float old, fresh;
};

DEV Step merge(State& s, State chunk) {
    float top = most(chunk.top, s.top);
    if (top == -infinity) return {1, 0};
    Step f = {exp2(s.top - top), exp2(chunk.top - top)};
    s = {top, fma(chunk.sum, f.fresh, s.sum * f.old)};
    return f;
}

struct F4 {
    alignas(16) float v[4];
};
DEV F4 merge(Step f, F4 old, F4 fresh) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) old.v[i] = fma(fresh.v[i], f.fresh, old.v[i] * f.old);
    return old;
}

// Shared is where things lie in shared memory.
struct Shared {
    u2* queries;    // (tiles, terms, 32): fragments
    float* sums;    // (warps, columns, width)
    State* states;  // (warps, columns)
    float* totals;  // (columns, width)
    u32* last;
    u32 width;
};

DEV Shared shared(u32 key_tiles, u32 value_dim, u32 terms) {
    Shared s;
    s.width = value_dim + 4; // four more, so that lanes write to different banks
    s.queries = (u2*)smem();
    s.sums = (float*)(s.queries + key_tiles * terms * 32);
    s.totals = s.sums + warps * columns * s.width;
    s.states = (State*)(s.totals + columns * s.width);
    s.last = (u32*)(s.states + warps * columns);
    return s;
}

// Queries are the rows of a part of a sequence that have chunks of one length, with the heads of a key head, eight at a
// time. What is said of a column is said for the lane's two.
struct Queries {
    u32 row, rows;    // of the sequence
    u32 first;        // of the pass
    u32 low, high;    // keys that any row of the part sees
    u32 chunk, begin, end; // tokens of a chunk, and the chunks that hold them
};

// where returns the row and the query head of a column. A column that is beyond the last is as the last.
DEV u32 row_of(const AttendArgs& a, const Queries& p, u32 column) {
    return p.row + min(p.first + column, p.rows * a.group - 1) / a.group;
}
DEV u32 head_of(const AttendArgs& a, const Queries& p, u32 column) {
    return by() * a.group + min(p.first + column, p.rows * a.group - 1) % a.group;
}
DEV bool real(const AttendArgs& a, const Queries& p, u32 column) { return p.first + column < p.rows * a.group; }

// load_queries writes the fragments of a pass to shared memory and returns the factor on the scores of each column.
template <class T> DEV void load_queries(const AttendArgs& a, const Sequence& s, const Queries& p, const Shared& m, float (&factor)[2]) {
    u32 column = lane() / 4, t = lane() % 4, tiles = a.key_dim / strip;
    const float* q = a.q + (u64)(s.row + row_of(a, p, column)) * a.q_stride + (u64)head_of(a, p, column) * a.key_dim;
    bool wide = aligned(a.q, a.q_stride);
    Range r = load_range<T>(q, tiles, wide);
    for (u32 i = warp(); i < tiles; i += warps) {
        float x[4];
        load4(x, q + i * strip + t * 4, wide);
        u32 lo[T::terms], hi[T::terms];
        split<T>(lo, x[0] * r.factor, x[1] * r.factor);
        split<T>(hi, x[2] * r.factor, x[3] * r.factor);
#pragma unroll
        for (u32 j = 0; j < T::terms; j++) sst(m.queries + (i * T::terms + j) * 32 + lane(), (u2{lo[j], hi[j]}));
    }
    factor[0] = a.scale * shfl(r.inverse, t * 8);
    factor[1] = a.scale * shfl(r.inverse, t * 8 + 4);
    block_sync();
}

// Place is a strip's place in the cache.
struct Place {
    u32 block, strip;
};

// attend_chunk sums up one chunk: features into shared memory, (warp, column), with the state of each. The first one of a
// pass is fresh: it loads the queries.
template <class T, u32 K, u32 V> DEV void attend_chunk(const AttendArgs& a, const Sequence& s, const Queries& p, const Shared& m, float (&factor)[2], u32 chunk, bool fresh) {
    const u32 g = lane() / 4, t = lane() % 4;
    const u32 key_tiles = a.key_dim / strip, value_tiles = a.value_dim / strip;
    const u32 V1 = V < 8 ? V : 8; // tiles of values in registers

    // The keys that the lane's columns see, and those that all columns see.
    u32 high[2], low[2];
#pragma unroll
    for (u32 c = 0; c < 2; c++) {
        high[c] = s.from + row_of(a, p, t * 2 + c) + 1;
        low[c] = lowest(high[c], a.window);
    }
    const u32 all_high = s.from + row_of(a, p, 0) + 1, all_low = lowest(s.from + row_of(a, p, columns - 1) + 1, a.window);

    float o[V][4];
#pragma unroll
    for (u32 i = 0; i < V; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0;
    float top[2] = {-infinity, -infinity}, sum[2] = {0, 0};

    // The warp's strips.
    const u32 begin = max(chunk * p.chunk, p.low) / strip, end = (min((chunk + 1) * p.chunk, p.high) + strip - 1) / strip;
    u32 at = begin + (warp() - begin) % warps;
    Place places = {0, 0}; // of the lane's strip among the next 32 of the warp
    u32 known = 0;
    auto find = [&](u32 i) { // the place of strip i; called for each in turn
        if (known % 32 == 0) {
            u32 mine = i + lane() * warps;
            if (mine < end) {
                places.block = (u32)ld(s.blocks + mine * strip / a.block_tokens);
                places.strip = mine * strip % a.block_tokens / strip;
            }
        }
        Place r = {shfl(places.block, known % 32), shfl(places.strip, known % 32)};
        known++;
        return r;
    };
    auto keys_at = [&](Place x) {
        return (const u4*)((const u16*)a.keys + (u64)x.block * a.keys_stride + (u64)(by() * a.block_tokens + x.strip * strip) * a.key_dim) + lane();
    };
    auto values_at = [&](Place x) {
        return (const u4*)((const u16*)a.values + (u64)x.block * a.values_stride + (u64)(by() * a.block_tokens + x.strip * strip) * a.value_dim) + lane();
    };

    u4 k[K], v[V1];
    const u4* values = 0;
    auto load_keys = [&](Place x) {
        const u4* from = keys_at(x);
#pragma unroll
        for (u32 i = 0; i < K; i++)
            if (i < key_tiles) k[i] = ld_stream(from + i * 32);
        values = values_at(x);
    };
    if (at < end) load_keys(find(at));
    if (fresh) load_queries<T>(a, s, p, m, factor); // while keys are on their way
    for (; at < end; at += warps) {
        const u4* from = values;
#pragma unroll
        for (u32 i = 0; i < V1; i++)
            if (i < value_tiles) v[i] = ld_stream(from + i * 32);

        // Scores: tokens g and g+8 of the strip by columns 2t and 2t+1. The first terms have sums of their own, so that
        // the small ones are not lost in them.
        float x[4] = {0, 0, 0, 0}, rest[4] = {0, 0, 0, 0};
#pragma unroll
        for (u32 i = 0; i < K; i++) {
            if (i >= key_tiles) continue;
            u32 f[4] = {k[i].x, k[i].z, k[i].y, k[i].w};
#pragma unroll
            for (u32 j = 0; j < T::terms; j++) {
                u2 q = sld(m.queries + (i * T::terms + j) * 32 + lane());
                u32 b[2] = {q.x, q.y};
                T::mma(j ? rest : x, f, b);
            }
        }
        if (at + warps < end) load_keys(find(at + warps));
#pragma unroll
        for (u32 i = 0; i < 4; i++) x[i] += rest[i];

        const bool partly = at * strip < all_low || (at + 1) * strip > all_high;
        if (partly) {
            u32 bad = 0, bad8 = 0; // tokens 2t and 2t+1, and 8 more
            for (u32 i = 0; i < value_tiles; i++) {
                u4 w = ld_stream(from + i * 32);
                bad |= not_finite<T>(w.x) | not_finite<T>(w.y);
                bad8 |= not_finite<T>(w.z) | not_finite<T>(w.w);
            }
#pragma unroll
            for (u32 d = 4; d < 32; d *= 2) bad |= shfl_xor(bad, d), bad8 |= shfl_xor(bad8, d);
            const u32 bit = g % 2 ? 31 : 15;
            bad = shfl(bad, g / 2) >> bit & 1;
            bad8 = shfl(bad8, g / 2) >> bit & 1;
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 token = at * strip + g + i / 2 * 8;
                bool sees = token >= low[i % 2] && token < high[i % 2];
                x[i] = !sees ? -infinity : (i < 2 ? bad : bad8) ? nan() : x[i];
            }
        }

        float grown[2];
#pragma unroll
        for (u32 c = 0; c < 2; c++) {
            float n = most(x[c + 2], most(x[c], -infinity));
#pragma unroll
            for (u32 d = 4; d < 32; d *= 2) n = most(shfl_xor(n, d), n);
            n = most(n * factor[c], top[c]);
            const float base = n == -infinity ? 0 : n;
            grown[c] = exp2(top[c] - base);
            top[c] = n;
            x[c] = exp2(fma(x[c], factor[c], T::bias - base));
            x[c + 2] = exp2(fma(x[c + 2], factor[c], T::bias - base));
            sum[c] = fma(sum[c], grown[c], x[c] + x[c + 2]);
        }

        // Weights change lanes: from two columns of a token to two tokens of a column.
        float w[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 source = t * 8 + i % 2 * 4 + g / 2;
            float even = shfl(x[i / 2 * 2], source), odd = shfl(x[i / 2 * 2 + 1], source);
            w[i] = g % 2 ? odd : even;
        }
        u32 lo[T::terms], hi[T::terms];
        split<T>(lo, w[0], w[1]);
        split<T>(hi, w[2], w[3]);
#pragma unroll
        for (u32 i = 0; i < V; i++) {
            if (i >= value_tiles) continue;
            if (V > V1 && i == V1) {
#pragma unroll
                for (u32 j = 0; j < V1; j++)
                    if (V1 + j < value_tiles) v[j] = ld_stream(from + (V1 + j) * 32);
            }
            u4 y = v[i % V1];
            if (partly) y = finite<T>(y);
            u32 f[4] = {y.x, y.y, y.z, y.w};
            float c[4] = {0, 0, 0, 0}; // sums of a strip are added in F32: tensor cores cut off what they add to
#pragma unroll
            for (u32 j = T::terms; j-- > 0;) {
                u32 b[2] = {lo[j], hi[j]};
                T::mma(c, f, b);
            }
#pragma unroll
            for (u32 j = 0; j < 4; j++) o[i][j] = fma(o[i][j], grown[j % 2], c[j]);
        }
    }

#pragma unroll
    for (u32 d = 4; d < 32; d *= 2) sum[0] += shfl_xor(sum[0], d), sum[1] += shfl_xor(sum[1], d);
    block_sync(); // what the last chunk left is read
#pragma unroll
    for (u32 c = 0; c < 2; c++) {
        float* to = m.sums + (warp() * columns + t * 2 + c) * m.width + g;
#pragma unroll
        for (u32 i = 0; i < V; i++)
            if (i < value_tiles) {
                sst(to + i * strip, o[i][c]);
                sst(to + i * strip + 8, o[i][c + 2]);
            }
        if (g == 0) sst(m.states + warp() * columns + t * 2 + c, (State{top[c], sum[c]}));
    }
    block_sync();
}

// The block's threads have a column in sixteens, each four features and every 64th from there.
DEV u32 my_column() { return tid() / 16; }
DEV u32 my_feature() { return tid() % 16 * 4; }

// join returns a chunk's sums of four features over the warps, and its state.
DEV State join(F4& sums, const Shared& m, u32 column, u32 feature) {
    State s[warps];
    float top = -infinity;
#pragma unroll
    for (u32 w = 0; w < warps; w++) {
        s[w] = sld(m.states + w * columns + column);
        top = most(s[w].top, top);
    }
    sums = {{0, 0, 0, 0}};
    if (top == -infinity) return {top, 0};
    State all = {top, 0};
#pragma unroll
    for (u32 w = 0; w < warps; w++) {
        float f = exp2(s[w].top - top);
        F4 x = sld((const F4*)(m.sums + (w * columns + column) * m.width + feature));
        all.sum = fma(s[w].sum, f, all.sum);
#pragma unroll
        for (u32 i = 0; i < 4; i++) sums.v[i] = fma(x.v[i], f, sums.v[i]);
    }
    return all;
}

// record returns where a column's part of its i-th chunk goes in memory.
DEV float* record(const AttendArgs& a, const Queries& p, u32 slot, u32 column, u32 i) {
    u64 row = (u64)(slot + row_of(a, p, column)) * (a.key_heads * a.group) + head_of(a, p, column);
    return a.partials + (row * a.chunks + i) * (a.value_dim + 4);
}

DEV void write(const AttendArgs& a, const Sequence& s, const Queries& p, u32 column, u32 feature, const F4& sums, float sum) {
    float* y = a.y + (u64)(s.row + row_of(a, p, column)) * a.y_stride + (u64)head_of(a, p, column) * a.value_dim + feature;
    float f = rcp(sum);
    F4 r = {{sums.v[0] * f, sums.v[1] * f, sums.v[2] * f, sums.v[3] * f}};
    if (aligned(a.y, a.y_stride)) {
        st((F4*)y, r);
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) st(y + i, r.v[i]);
}

// attend_pass goes through the block's chunks. If they are all there are, it merges each into the sums so far, of which a
// thread has its own features; else it leaves each in memory, and merges all of them in the same way if it is the last.
template <class T, u32 K, u32 V> DEV void attend_pass(const AttendArgs& a, const Sequence& s, const Queries& p, const Shared& m, bool whole, u32 slot) {
    const u32 column = my_column(), chunks = p.end - p.begin;
    F4* totals = (F4*)(m.totals + column * m.width);
    float factor[2] = {0, 0};
    State total = {-infinity, 0};
    for (u32 i = whole ? 0 : bx(); i < chunks; i += whole ? 1 : gx()) {
        attend_chunk<T, K, V>(a, s, p, m, factor, p.begin + i, i == (whole ? 0 : bx()));
        if (!real(a, p, column)) continue;
        State next = total;
        for (u32 f = my_feature(); f < a.value_dim; f += 64) {
            F4 sums, old = {{0, 0, 0, 0}};
            State state = join(sums, m, column, f);
            if (whole) {
                if (i > 0) old = sld(totals + f / 4);
                next = total;
                Step step = merge(next, state);
                sst(totals + f / 4, merge(step, old, sums));
            } else {
                float* to = record(a, p, slot, column, i);
                st((F4*)(to + f), sums);
                if (f == 0) st((State*)(to + a.value_dim), state);
            }
        }
        total = next;
    }
    if (whole) {
        if (!real(a, p, column)) return;
        for (u32 f = my_feature(); f < a.value_dim; f += 64) write(a, s, p, column, f, sld(totals + f / 4), total.sum);
        return;
    }
    block_sync();
    if (tid() == 0) {
        u32* ticket = a.tickets + (u64)(slot + row_of(a, p, 0)) * (a.key_heads * a.group) + head_of(a, p, 0);
        u32 last = comes_last(ticket, min(gx(), chunks));
        if (last) st(ticket, 0u);
        sst(m.last, last);
    }
    block_sync();
    if (!sld(m.last) || !real(a, p, column)) return;
    const float* from = record(a, p, slot, column, 0);
    const u32 apart = a.value_dim + 4, batch = 8; // chunks on their way at a time
    for (u32 f = my_feature(); f < a.value_dim; f += 64) {
        total = {-infinity, 0};
        F4 sums = {{0, 0, 0, 0}};
        for (u32 first = 0; first < chunks; first += batch) {
            State states[batch];
            F4 fresh[batch];
#pragma unroll
            for (u32 i = 0; i < batch; i++) {
                states[i] = {-infinity, 0};
                fresh[i] = {{0, 0, 0, 0}};
                if (first + i < chunks) {
                    states[i] = ld((const State*)(from + (u64)(first + i) * apart + a.value_dim));
                    fresh[i] = ld((const F4*)(from + (u64)(first + i) * apart + f));
                }
            }
#pragma unroll
            for (u32 i = 0; i < batch; i++)
                if (first + i < chunks) sums = merge(merge(total, states[i]), sums, fresh[i]);
        }
        write(a, s, p, column, f, sums, total.sum);
    }
}

// decode attends for a sequence and a key head. K and V are the most tiles of keys and of values that it has room for.
template <class T, u32 K, u32 V> DEV void decode(const AttendArgs& a) {
    const Sequence s = sequence(a, bz());
    if (s.rows == 0 || s.rows > a.decode_rows) return;
    // Partial results have slots for so many rows; the sequences before this one come first.
    bool split = gx() > 1;
    u32 slot = 0;
    if (split) {
        for (u32 i = lane(); i < bz(); i += 32) {
            u32 rows = sequence(a, i).rows;
            slot += rows <= a.decode_rows ? rows : 0;
        }
#pragma unroll
        for (u32 d = 1; d < 32; d *= 2) slot += shfl_xor(slot, d);
        split = slot + s.rows <= a.slots;
    }
    const Shared m = shared(a.key_dim / strip, a.value_dim, T::terms);
    Queries p;
    for (p.row = 0; p.row < s.rows; p.row += p.rows) {
        u32 high = s.from + p.row + 1;
        p.chunk = chunk_tokens(high - lowest(high, a.window));
        for (p.rows = 1; p.row + p.rows < s.rows; p.rows++) {
            u32 next = high + p.rows;
            if (chunk_tokens(next - lowest(next, a.window)) != p.chunk) break;
        }
        p.low = lowest(high, a.window);
        p.high = high + p.rows - 1;
        p.begin = p.low / p.chunk;
        p.end = (p.high - 1) / p.chunk + 1;
        const bool whole = !split || p.end - p.begin == 1 || p.end - p.begin > a.chunks;
        u32 pass = 0;
        for (p.first = 0; p.first < p.rows * a.group; p.first += columns, pass++) {
            if (whole ? pass % gx() != bx() : bx() >= p.end - p.begin) continue;
            attend_pass<T, K, V>(a, s, p, m, whole, slot);
        }
    }
}

} // namespace attention

// Kernels for keys and values of up to 64, 128 and 256 features.
ATTENTION_KERNEL(decode_f16_64, 4) { attention::decode<attention::F16, 4, 4>(a); }
ATTENTION_KERNEL(decode_f16_128, 3) { attention::decode<attention::F16, 8, 8>(a); }
ATTENTION_KERNEL(decode_f16_256, 2) { attention::decode<attention::F16, 16, 16>(a); }
ATTENTION_KERNEL(decode_bf16_64, 4) { attention::decode<attention::BF16, 4, 4>(a); }
ATTENTION_KERNEL(decode_bf16_128, 3) { attention::decode<attention::BF16, 8, 8>(a); }
ATTENTION_KERNEL(decode_bf16_256, 2) { attention::decode<attention::BF16, 16, 16>(a); }
