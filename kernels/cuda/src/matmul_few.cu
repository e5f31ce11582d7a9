// Products of up to 64 tokens with BF16 weights, also gated ones, of normed tokens, and several at once.
#include "matmul.cuh"
#include "norm.cuh"

namespace matmul {

const u32 sliceSteps = 4;  // steps of a slice at most: what a lane has in flight, 8 loads of 16 bytes
const u32 tileRows = 16;   // weight rows of a tile: the rows of an mma
const u32 mostSplits = 16; // blocks that share the columns of a tile

// SkinnyArgs are the arguments of a product with few tokens.
struct SkinnyArgs {
    Mat<float> y;
    Mat<const float> x;
    Mat<const bf16> w;
    float* partials; // (tiles, splits, tokens, 16), with splits > 1
    u32* tickets;    // (tiles); zero before and after
    u32 add;
    u32 steps;     // of stepCols columns, the last one perhaps not full
    u32 logSlices; // slices are a power of two, at least warps·splits, of sliceSteps steps at most
    u32 splits;    // a power of two
    u32 pitch;     // bytes of a token in shared memory, an odd multiple of 64
    u32 apart;     // rows from gate to up, of a gated product
    u32 first;     // of the blocks in x, the first for this product
    u32 blocks;    // and how many there are
};

// The first step of slice i.
DEV u32 slice_start(const SkinnyArgs& a, u32 i) { return i * a.steps >> a.logSlices; }

// Norm is what RMSNorm of whole rows takes.
struct Norm {
    Mat<const float> gain;
    float eps;
};

// Batch is a warp's part of a tile: 16 rows by one slice. Lane l has rows l/4 and l/4 + 8, and of each step columns 8·(l%4)
// and on.
struct Batch {
    u4 w[sliceSteps][2];
};

// Place is where a warp is on its way: through its slices of a tile, then on to the block's next tile.
struct Place {
    u32 tile, slice;
};

DEV void advance(Place& p, u32 slices, u32 blocks) {
    if (++p.slice == slices) p = {p.tile + blocks, 0};
}

// A tile of a gated product is 8 rows of gate and the 8 of up that go with them; gate's lie above up's in w.
template <bool gated> DEV u32 results() { return gated ? tileRows / 2 : tileRows; }

// weight_row returns where row r of a tile's 16 is in w. Behind the last one it is that again; its products are dropped.
template <bool gated> DEV u32 weight_row(const SkinnyArgs& a, u32 tile, u32 r) {
    u32 out = a.y.cols;
    if (!gated) return min(tile * tileRows + r, out - 1);
    return min(tile * 8 + r % 8, out - 1) + (r < 8 ? 0 : a.apart);
}

// fetch begins to load the slice at p, of those that the warp has from slice `first` on.
template <bool whole, bool gated> DEV void fetch(Batch& b, const SkinnyArgs& a, Place p, u32 first) {
    u32 in = a.x.cols;
    if (p.tile * results<gated>() >= a.y.cols) return;
    u32 start = slice_start(a, first + p.slice), steps = slice_start(a, first + p.slice + 1) - start;
    u32 upper = weight_row<gated>(a, p.tile, lane() / 4), lower = weight_row<gated>(a, p.tile, lane() / 4 + 8);
    u32 col = start * stepCols + lane() % 4 * 8;
    const bf16 *u = row(a.w, upper) + col, *l = row(a.w, lower) + col;
#pragma unroll
    for (u32 s = 0; s < sliceSteps; s++, col += stepCols) {
        b.w[s][0] = b.w[s][1] = u4{};
        if (s < steps && col < in) {
            b.w[s][0] = eight<whole>(u + s * stepCols, in - col);
            b.w[s][1] = eight<whole>(l + s * stepCols, in - col);
        }
    }
}

// stage writes the activations of steps start to end into shared memory, rounded: a token after the other, or, where there
// are as many as warps, a token a warp. A thread has eight quads on their way at a time, so that lanes read neighbours; behind
// the last quad it reads that again.
DEV void stage(u8* x, const SkinnyArgs& a, u32 start, u32 end) {
    const u32 together = 8;
    u32 pieces = (end - start) * 4, in = a.x.cols, first = start * stepCols;
    if (pieces == 0) return;
    bool alone = a.x.rows >= warps, wide_x = wide(a.x), whole = wide_x && in % 8 == 0 && end * stepCols <= in;
    u32 team = alone ? 32 : threads;
    for (u32 t = alone ? warp() : 0; t < a.x.rows; t += alone ? warps : 1) {
        const float* from = row(a.x, t) + first;
        u8* to = x + t * a.pitch;
        u32 i = alone ? lane() : tid();
        if (whole) {
            for (u32 quads = pieces * 2; i < quads; i += team * together) {
                u4 v[together];
#pragma unroll
                for (u32 k = 0; k < together; k++) v[k] = ld_wide(from + min(i + k * team, quads - 1) * 4);
#pragma unroll
                for (u32 k = 0; k < together; k++)
                    if (i + k * team < quads) sst((u2*)(to + (i + k * team) * 8), rounded(v[k]));
            }
            continue;
        }
        for (; i < pieces; i += team) {
            u32 col = first + i * 8;
            sst((u4*)(to + i * 16), eight_rounded(from + i * 8, col < in ? in - col : 0, wide_x));
        }
    }
}

// stage_normed is stage for RMSNorm of the activations of up to four tokens. Every block computes the
// sums of squares anew, while its first weights are on their way; they stand in `sums` until the first results do.
DEV void stage_normed(u8* x, const SkinnyArgs& a, const Norm& n, float* sums, u32 start, u32 end) {
    const u32 together = 2;
    if (a.x.rows == 1)
        norm::sum_rows<1>(sums, a.x);
    else
        norm::sum_rows<4>(sums, a.x);
    block_sync();
    u32 pieces = (end - start) * 4, in = a.x.cols, first = start * stepCols;
    if (pieces == 0) return;
    bool wide_x = wide(a.x), wide_gain = wide(n.gain);
    for (u32 t = 0; t < a.x.rows; t++) {
        float scale = norm::inverse_rms_of(sums, t, in, n.eps);
        const float* from = row(a.x, t);
        u8* to = x + t * a.pitch;
        for (u32 i = tid(); i < pieces; i += threads * together) {
            Quad v[together][2], gain[together][2];
#pragma unroll
            for (u32 k = 0; k < together; k++)
#pragma unroll
                for (u32 h = 0; h < 2; h++) {
                    u32 col = first + min(i + k * threads, pieces - 1) * 8 + h * 4, left = col < in ? in - col : 0;
                    v[k][h] = load_quad(from + col, left, wide_x);
                    gain[k][h] = load_quad(n.gain.p + col, left, wide_gain);
                }
#pragma unroll
            for (u32 k = 0; k < together; k++) {
                if (i + k * threads >= pieces) continue;
                Quad p = norm::normalized(v[k][0], gain[k][0], scale), q = norm::normalized(v[k][1], gain[k][1], scale);
                sst((u4*)(to + (i + k * threads) * 16), u4{pack_bf16(p.v[0], p.v[1]), pack_bf16(p.v[2], p.v[3]),
                                                           pack_bf16(q.v[0], q.v[1]), pack_bf16(q.v[2], q.v[3])});
            }
        }
    }
}

// multiply sets c to the products of a slice with up to 8·tiles tokens; x is the slice in shared memory. The 32 columns of
// a step are two mma of 16: the four columns that a lane holds for one of them are neighbours, in w and in x alike. Which
// column is which does not matter to a sum of products, and so weights need no packing. Steps behind the slice are zeros.
template <int tiles> DEV void multiply(float (&c)[tiles][4], const Batch& b, const u8* x, u32 pitch, u32 steps, u32 tokens) {
#pragma unroll
    for (int n = 0; n < tiles; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
    x += lane() / 4 * pitch + lane() % 4 * 16;
#pragma unroll
    for (u32 s = 0; s < sliceSteps; s++) {
        const u4 &u = b.w[s][0], &l = b.w[s][1];
        u32 even[4] = {u.x, l.x, u.y, l.y}, odd[4] = {u.z, l.z, u.w, l.w};
#pragma unroll
        for (u32 n = 0; n < tiles; n++) {
            u4 v = {};
            if (s < steps && n * 8 + lane() / 4 < tokens) v = sld((const u4*)(x + n * 8 * pitch + s * 64));
            u32 p[2] = {v.x, v.y}, q[2] = {v.z, v.w};
            mma_bf16(c[n], even, p);
            mma_bf16(c[n], odd, q);
        }
    }
}

// Tree adds slices up in the order of a balanced binary tree, whose shape is that of all slices: so a sum has the same bits
// however warps and blocks share its slices. It holds what waits for its neighbour, by the level.
template <int levels, int tiles> struct Tree {
    float held[levels > 0 ? levels : 1][tiles][4];
};

// push adds slice i, whose products are in c; after the last of 2^k slices c holds the sum of all.
template <int levels, int tiles> DEV void push(Tree<levels, tiles>& t, float (&c)[tiles][4], u32 i) {
#pragma unroll
    for (int k = 0; k < levels; k++) {
        bool second = i >> k & 1;
#pragma unroll
        for (int n = 0; n < tiles; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (second)
                    c[n][j] = t.held[k][n][j] + c[n][j];
                else
                    t.held[k][n][j] = c[n][j];
            }
        if (!second) break;
    }
}

// across adds up what the warps of a block have left in shared memory, in the order of the tree.
DEV float across(const float* p, u32 apart) {
    float v[warps];
#pragma unroll
    for (u32 k = 0; k < warps; k++) v[k] = sld(p + k * apart);
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// combine adds up what the blocks of a tile have left in memory, in the order of the tree, four of them at a time.
DEV float combine(const float* p, u32 splits, u32 apart) {
    float four[mostSplits / 4];
#pragma unroll
    for (u32 k = 0; k < mostSplits / 4; k++) {
        four[k] = 0;
        if (k * 4 >= splits) continue;
        float v[4];
#pragma unroll
        for (u32 s = 0; s < 4; s++) v[s] = k * 4 + s < splits ? ld(p + (u64)(k * 4 + s) * apart) : 0;
        four[k] = v[0] + v[1];
        if (splits > 2) four[k] += v[2] + v[3];
    }
    if (splits > 4) four[0] += four[1];
    if (splits > 8) four[0] += four[2] + four[3];
    return four[0];
}

// Pair says where two products of the same number of rows leave their results, and what becomes of them: gate = silu(gate) ⊙ up.
struct Pair {
    Mat<float> gate;
    Mat<const float> up;
    u32* tickets; // (tiles); zero before and after
};

// meet is called by the blocks that have written a tile of one of a pair of products: the second to do so goes on with both.
DEV void meet(const Pair& p, u32 tile, u32 tokens, u32* second) {
    block_sync();
    if (tid() == 0) sst(second, (u32)comes_last(p.tickets + tile, 2));
    block_sync();
    if (sld(second)) {
        for (u32 i = tid(); i < tokens * tileRows; i += threads) {
            u32 token = i / tileRows, o = tile * tileRows + i % tileRows;
            if (o >= p.gate.cols) continue;
            float* gate = row(p.gate, token) + o;
            st(gate, swiglu_of(ld(gate), ld(row(p.up, token) + o)));
        }
        if (tid() == 0) st(p.tickets + tile, 0u);
    }
}

// skinny multiplies up to 8·tiles tokens. Memory is what limits it: out·in·2 bytes of weights, against tokens·(in + out)·4
// of activations.
//
// A block of 8 warps takes 16 weight rows at a time, a tile. The columns are cut into slices of at most 128, and each warp
// has as many, side by side: 4 kB of weights a slice, which a lane loads as 8 times 16 bytes, and it loads the next slice
// before it multiplies this one, across tiles. So a warp has 4 to 8 kB in flight and a block 32 to 64, more than the 23 kB
// a multiprocessor of an H200 needs to keep its memory busy. The activations of the block's columns are staged once,
// rounded to bf16, and stay while the block goes through its tiles; their pitch spreads eight tokens over all banks.
//
// Where out is small, or the activations are too wide to stay, `splits` blocks share the columns of a tile, and the last to
// finish adds their sums up. A sum is over 2^logSlices slices in a binary tree whatever warp and block has which, so it
// depends on nothing but in.
//
// gated computes silu(x·gateᵀ) ⊙ (x·upᵀ) for w = [gate; up], with the bits of the product and SwiGLU one after the other: a
// launch less, and no trip of twice the result through memory.
//
// With a norm, x is its input: results have the bits of RMSNorm and the product one after the other. Of a pair, this is one of
// the two products.
template <int tiles, int levels, bool whole, bool gated = false>
DEV void skinny(const SkinnyArgs& a, const Norm* norm = nullptr, const Pair* pair = nullptr) {
    const bool twice = tiles <= 2; // two buffers for sums, and a barrier less
    const u32 sumPitch = tileRows + 4, sumFloats = warps * tiles * 8 * sumPitch;
    const u32 kept = results<gated>();
    u32 tokens = a.x.rows, out = a.y.cols;
    u32 own = (1u << a.logSlices) / (warps * a.splits), first = (by() * warps + warp()) * own;
    u32 start = slice_start(a, by() * warps * own), end = slice_start(a, (by() + 1) * warps * own);
    float* sums = (float*)smem();
    u32* last = (u32*)(sums + (twice ? 2 : 1) * sumFloats);
    u8* x = (u8*)(last + 4);

    Batch here, next;
    Place ahead = {bx() - a.first, 0}, now = ahead;
    fetch<whole, gated>(here, a, ahead, first);
    if (norm)
        stage_normed(x, a, *norm, sums, start, end);
    else
        stage(x, a, start, end);
    block_sync();

    float c[tiles][4];
    Tree<levels, tiles> tree;
    u32 turn = 0;
    // The two batches change places by being written out twice: a copy would wait for what is in flight.
    while (now.tile * kept < out) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            advance(ahead, own, a.blocks);
            if (half == 0)
                fetch<whole, gated>(next, a, ahead, first);
            else
                fetch<whole, gated>(here, a, ahead, first);
            if (now.tile * kept >= out) break;
            u32 step = slice_start(a, first + now.slice), steps = slice_start(a, first + now.slice + 1) - step;
            multiply<tiles>(c, half == 0 ? here : next, x + (step - start) * 64, a.pitch, steps, tokens);
            push<levels, tiles>(tree, c, now.slice);
            u32 tile = now.tile;
            advance(now, own, a.blocks);
            if (now.tile == tile) continue;

            float* buffer = sums + (twice ? turn * sumFloats : 0);
            turn ^= 1;
            float* mine = buffer + (warp() * tiles * 8 + lane() % 4 * 2) * sumPitch + lane() / 4;
#pragma unroll
            for (u32 n = 0; n < tiles; n++) {
                sst(mine + n * 8 * sumPitch, c[n][0]);
                sst(mine + (n * 8 + 1) * sumPitch, c[n][1]);
                sst(mine + n * 8 * sumPitch + 8, c[n][2]);
                sst(mine + (n * 8 + 1) * sumPitch + 8, c[n][3]);
            }
            block_sync();
            float* shares = a.partials + (u64)tile * a.splits * tokens * tileRows;
#pragma unroll
            for (u32 p = 0; p < (tiles * 8 * kept + threads - 1) / threads; p++) {
                u32 i = p * threads + tid(), token = i / kept, r = i % kept, o = tile * kept + r;
                if (token >= tokens) continue;
                const float* sum = buffer + token * sumPitch + r;
                float v = across(sum, tiles * 8 * sumPitch), u = gated ? across(sum + 8, tiles * 8 * sumPitch) : 0;
                if (a.splits > 1) {
                    float* share = shares + (by() * tokens + token) * tileRows + r;
                    st(share, v);
                    if (gated) st(share + 8, u);
                } else if (o < out) {
                    put(row(a.y, token) + o, gated ? swiglu_of(v, u) : v, a.add);
                }
            }
            if (!twice || a.splits > 1) block_sync();
            if (a.splits == 1) {
                if (pair) meet(*pair, tile, tokens, last);
                continue;
            }

            if (tid() == 0) sst(last, (u32)comes_last(a.tickets + tile, a.splits));
            block_sync();
            if (!sld(last)) continue;
            for (u32 i = tid(); i < tokens * kept; i += threads) {
                u32 token = i / kept, r = i % kept, o = tile * kept + r, apart = tokens * tileRows;
                if (o >= out) continue;
                const float* share = shares + token * tileRows + r;
                float v = combine(share, a.splits, apart);
                if (gated) v = swiglu_of(v, combine(share + 8, a.splits, apart));
                put(row(a.y, token) + o, v, a.add);
            }
            if (tid() == 0) st(a.tickets + tile, 0u);
            if (pair) meet(*pair, tile, tokens, last);
        }
    }
}

// NormedArgs are the arguments of a product of RMSNorm of x.
struct NormedArgs {
    SkinnyArgs product;
    Norm norm;
};

// DiagonalArgs are up to four products with tokens of their own, done by one launch: the second stages of factors whose
// first stages lie below one another. Where there are fewer, `first` of the others is beyond the grid.
struct DiagonalArgs {
    SkinnyArgs products[4];
};

// diagonal gives each block to one of the products; splits beyond the product's have nothing to do.
template <int tiles, int levels> DEV void diagonal(const DiagonalArgs& a) {
    u32 i = 0;
#pragma unroll
    for (u32 k = 1; k < 4; k++) i += bx() >= a.products[k].first;
    const SkinnyArgs& product = a.products[i];
    if (by() < product.splits) skinny<tiles, levels, true>(product);
}

// PairedArgs are two products with tokens of their own, gate's and up's, and SwiGLU of them.
struct PairedArgs {
    SkinnyArgs products[2];
    Pair pair;
};

// paired is diagonal for two, which meet tile by tile. They begin and end together, so that what one has written is still in
// the second-level cache when the other comes.
template <int tiles, int levels> DEV void paired(const PairedArgs& a) {
    const SkinnyArgs& product = a.products[bx() >= a.products[1].first];
    if (by() < product.splits) skinny<tiles, levels, true>(product, nullptr, &a.pair);
}

} // namespace matmul

// By the tokens they have room for. The more there are, the fewer slices may wait in a warp's tree: splits has to make up
// for it.
KERNEL_PAIR(matmul_8, matmul::SkinnyArgs, 256) { matmul::skinny<1, 4, true>(a); }
KERNEL_PAIR(matmul_16, matmul::SkinnyArgs, 256) { matmul::skinny<2, 2, true>(a); }
KERNEL_PAIR(matmul_32, matmul::SkinnyArgs, 256) { matmul::skinny<4, 1, true>(a); }
KERNEL_PAIR(matmul_64, matmul::SkinnyArgs, 256) { matmul::skinny<8, 0, true>(a); }

// For rows that do not start at multiples of 16 bytes: weights come one by one.
KERNEL_PAIR(matmul_odd_16, matmul::SkinnyArgs, 256) { matmul::skinny<2, 2, false>(a); }

KERNEL_PAIR(gated_8, matmul::SkinnyArgs, 256) { matmul::skinny<1, 4, true, true>(a); }
KERNEL_PAIR(gated_16, matmul::SkinnyArgs, 256) { matmul::skinny<2, 2, true, true>(a); }
KERNEL_PAIR(gated_32, matmul::SkinnyArgs, 256) { matmul::skinny<4, 1, true, true>(a); }
KERNEL_PAIR(gated_64, matmul::SkinnyArgs, 256) { matmul::skinny<8, 0, true, true>(a); }
KERNEL_PAIR(normed_8, matmul::NormedArgs, 256) { matmul::skinny<1, 4, true>(a.product, &a.norm); }
KERNEL_PAIR(normed_gated_8, matmul::NormedArgs, 256) { matmul::skinny<1, 4, true, true>(a.product, &a.norm); }
KERNEL_PAIR(diagonal_8, matmul::DiagonalArgs, 256) { matmul::diagonal<1, 4>(a); }
KERNEL_PAIR(diagonal_16, matmul::DiagonalArgs, 256) { matmul::diagonal<2, 2>(a); }
KERNEL_PAIR(diagonal_32, matmul::DiagonalArgs, 256) { matmul::diagonal<4, 1>(a); }
KERNEL_PAIR(diagonal_64, matmul::DiagonalArgs, 256) { matmul::diagonal<8, 0>(a); }
KERNEL_PAIR(diagonal_gated_8, matmul::PairedArgs, 256) { matmul::paired<1, 4>(a); }
KERNEL_PAIR(diagonal_gated_16, matmul::PairedArgs, 256) { matmul::paired<2, 2>(a); }
KERNEL_PAIR(diagonal_gated_32, matmul::PairedArgs, 256) { matmul::paired<4, 1>(a); }
KERNEL_PAIR(diagonal_gated_64, matmul::PairedArgs, 256) { matmul::paired<8, 0>(a); }
