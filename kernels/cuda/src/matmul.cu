// Products of more than 64 tokens with BF16 weights, and of any number with F16 and F32 weights.
#include "matmul.cuh"

namespace matmul {

struct RoundArgs {
    Mat<bf16> y;
    Mat<const float> x;
};

struct TiledArgs {
    Mat<float> y;
    Mat<const bf16> x; // rounded, with zeros up to a multiple of stepCols columns
    Mat<const bf16> w;
    u32 add;
};

// tiled multiplies any number of tokens: a block computes tokens by outs of y, side by side along in, 32 columns a stage,
// with three stages of copies on their way while one is multiplied. Eight warps, two along tokens and four along outs; x is
// the 16-row operand, so that a lane's sums are neighbours in y. Rows of a stage are 64 bytes; their 16-byte pieces are
// permuted by row, so that the eight rows of an ldmatrix lie in different banks.
//
// A sum runs through one accumulator in the order of columns, whatever the size of the tile. Arithmetic is what limits it,
// 2·tokens·outs·32 operations a stage for (tokens + outs)·64 bytes from the second-level cache: 64 a byte for 128 by 128.
template <u32 tokens, u32 outs, bool whole, bool gated = false> DEV void tiled(const TiledArgs& a) {
    const u32 stages = 4, stageBytes = (tokens + outs) * 64;
    const u32 ms = tokens / 2 / 16, ns = outs / 4 / 8; // fragments of a warp
    u32 firstToken = bx() * tokens, firstOut = by() * (gated ? outs / 2 : outs), out = a.y.cols, in = a.w.cols, steps = a.x.cols / stepCols;

    auto load = [&](u32 step) {
        u8* stage = smem() + step % stages * stageBytes;
#pragma unroll
        for (u32 p = 0; p < (tokens + outs) * 4 / threads; p++) {
            u32 i = p * threads + tid(), r = i / 4, piece = i % 4, col = step * stepCols + piece * 8;
            u8* to = stage + r * 64 + (piece ^ r / 2 % 4) * 16;
            if (r < tokens) {
                u32 t = firstToken + r;
                cp16z(to, row(a.x, min(t, a.x.rows - 1)) + col, t < a.x.rows);
                continue;
            }
            // Rows of gate and of up take turns by eight, so that a lane has the sums of both.
            u32 q = r - tokens, o = firstOut + (gated ? q / 16 * 8 + q % 8 : q);
            bool there = o < out && col < in;
            const bf16* from = row(a.w, there ? o + (gated && q % 16 >= 8 ? out : 0) : 0) + (there ? col : 0);
            if constexpr (whole)
                cp16z(to, from, there);
            else
                sst((u4*)to, eight<false>(from, there ? in - col : 0));
        }
    };

    float c[ms][ns][4];
#pragma unroll
    for (u32 m = 0; m < ms; m++)
#pragma unroll
        for (u32 n = 0; n < ns; n++) c[m][n][0] = c[m][n][1] = c[m][n][2] = c[m][n][3] = 0;
    u32 warpToken = warp() / 4 * (tokens / 2), warpOut = warp() % 4 * (outs / 4);
#pragma unroll
    for (u32 s = 0; s < stages - 1; s++) {
        if (s < steps) load(s);
        cp_commit();
    }
    for (u32 step = 0; step < steps; step++) {
        cp_wait<stages - 2>();
        block_sync(); // the stage has arrived, and all are done with the one before it, which is filled now
        if (step + stages - 1 < steps) load(step + stages - 1);
        cp_commit();
        const u8* stage = smem() + step % stages * stageBytes;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 x[ms][4], w[ns / 2][4];
#pragma unroll
            for (u32 m = 0; m < ms; m++) {
                u32 r = warpToken + m * 16 + lane() % 16;
                ldm4(x[m], stage + r * 64 + ((half * 2 + lane() / 16) ^ r / 2 % 4) * 16);
            }
#pragma unroll
            for (u32 n = 0; n < ns / 2; n++) {
                u32 r = tokens + warpOut + n * 16 + lane() / 16 * 8 + lane() % 8;
                ldm4(w[n], stage + r * 64 + ((half * 2 + lane() / 8 % 2) ^ r / 2 % 4) * 16);
            }
#pragma unroll
            for (u32 m = 0; m < ms; m++)
#pragma unroll
                for (u32 n = 0; n < ns; n++) mma_bf16(c[m][n], x[m], w[n / 2] + n % 2 * 2);
        }
    }

    bool pairs = (((u64)a.y.p | (u64)a.y.stride * 4) & 7) == 0;
#pragma unroll
    for (u32 m = 0; m < ms; m++)
#pragma unroll
        for (u32 n = 0; n < ns; n += gated ? 2 : 1)
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                u32 t = firstToken + warpToken + m * 16 + h * 8 + lane() / 4;
                u32 o = firstOut + (gated ? (warpOut + n * 8) / 2 : warpOut + n * 8) + lane() % 4 * 2;
                if (t >= a.y.rows) continue;
                float* y = row(a.y, t) + o;
                float u = c[m][n][2 * h], v = c[m][n][2 * h + 1];
                if constexpr (gated) u = swiglu_of(u, c[m][n + 1][2 * h]), v = swiglu_of(v, c[m][n + 1][2 * h + 1]);
                if (pairs && o + 1 < a.y.cols) {
                    if (a.add) {
                        u2 old = ld((const u2*)y);
                        u = bits_float(old.x) + u, v = bits_float(old.y) + v;
                    }
                    st((u2*)y, u2{float_bits(u), float_bits(v)});
                    continue;
                }
                if (o < a.y.cols) put(y, u, a.add);
                if (o + 1 < a.y.cols) put(y + 1, v, a.add);
            }
}

template <class T> struct Args {
    Mat<float> y;
    Mat<const float> x;
    Mat<const T> w;
    u32 add;
};

// plain multiplies in F32: a warp has one weight row and four tokens, lane l columns 4·l to 4·l+3 of each 128, and the
// lanes' sums are added in the order of warp_sum. It reads the weights once for each four tokens and is limited by latency:
// right, not fast.
template <class T> DEV void plain(const Args<T>& a) {
    const u32 tokens = 4;
    u32 o = by() * warps + warp(), out = a.y.cols, in = a.x.cols, first = bx() * tokens;
    const T* w = row(a.w, min(o, out - 1));
    bool wide_w = wide(a.w), wide_x = wide(a.x);
    float sum[tokens] = {};
    for (u32 col = lane() * 4; col < in; col += 128) {
        Quad v = load_quad(w + col, in - col, wide_w);
#pragma unroll
        for (u32 t = 0; t < tokens; t++) {
            Quad q = load_quad(row(a.x, min(first + t, a.x.rows - 1)) + col, in - col, wide_x);
#pragma unroll
            for (u32 i = 0; i < 4; i++) sum[t] = fma(v.v[i], q.v[i], sum[t]);
        }
    }
#pragma unroll
    for (u32 t = 0; t < tokens; t++) {
        float v = warp_sum(sum[t]);
        if (lane() == 0 && o < out && first + t < a.x.rows) put(row(a.y, first + t) + o, v, a.add);
    }
}

} // namespace matmul

KERNEL_PAIR(matmul_tiled_128, matmul::TiledArgs, 256) { matmul::tiled<128, 128, true>(a); }
KERNEL_PAIR(matmul_tiled_64, matmul::TiledArgs, 256) { matmul::tiled<64, 64, true>(a); }
KERNEL_PAIR(matmul_odd_tiled, matmul::TiledArgs, 256) { matmul::tiled<64, 64, false>(a); }

KERNEL_PAIR(gated_tiled_128, matmul::TiledArgs, 256) { matmul::tiled<128, 128, true, true>(a); }
KERNEL_PAIR(gated_tiled_64, matmul::TiledArgs, 256) { matmul::tiled<64, 64, true, true>(a); }

// y = x, rounded to bf16, with zeros behind x's columns: what tiled reads. Moves rows·cols·6 bytes.
KERNEL(round_rows, matmul::RoundArgs, 256) {
    u32 col = (by() * matmul::threads + tid()) * 8;
    if (col >= a.y.cols) return;
    u4 v = matmul::eight_rounded(row(a.x, bx()) + col, col < a.x.cols ? a.x.cols - col : 0, wide(a.x));
    st((u4*)(row(a.y, bx()) + col), v);
}

KERNEL(matmul_f32, matmul::Args<float>, 256) { matmul::plain(a); }
KERNEL(matmul_f16, matmul::Args<f16>, 256) { matmul::plain(a); }
