// RMSNorm: the verb's arithmetic, for its own kernels (rows.cu) and for products that take it along. The order of a sum of
// squares depends on the length of a run alone, and is the same in both.
#pragma once
#include "mat.cuh"

namespace norm {

const u32 threads = 256, warps = threads / 32;
const u32 shortRun = 512; // elements of the longest run that a warp sums up alone

// Sum of the squares of four elements, in order.
DEV float squares(float sum, const Quad& q) {
#pragma unroll
    for (int i = 0; i < 4; i++) sum = fma(q.v[i], q.v[i], sum);
    return sum;
}

// x · scale · gain, four times.
DEV Quad normalized(const Quad& x, const Quad& gain, float scale) {
    Quad y;
#pragma unroll
    for (int i = 0; i < 4; i++) y.v[i] = x.v[i] * scale * gain.v[i];
    return y;
}

// 1 / sqrt(mean(x²) + eps), from the sum of squares of n elements.
DEV float inverse_rms(float sum, u32 n, float eps) { return 1.0f / sqrt(sum / (float)n + eps); }

// sum_rows leaves in shared memory what inverse_rms_of adds up: the sums of squares of up to `side` rows of x, each a run;
// (rows, warps) of them. A barrier has to follow. A block of 256 threads shares a long row, as in rms_norm, and a warp has a
// short one, as in rms_norm_short. A thread has eight quads on their way, of all rows. whole says that rows are wide and have
// whole quads alone.
template <int side, bool whole = false> DEV void sum_rows(float* sums, const Mat<const float>& x) {
    const int steps = 8 / side;
    u32 n = x.cols;
    bool read = wide(x);
    if (n <= shortRun) {
        if (warp() < x.rows) {
            const float* from = row(x, warp());
            Quad v[shortRun / 128];
            float sum = 0;
#pragma unroll
            for (u32 k = 0; k < shortRun / 128; k++) {
                u32 col = (k * 32 + lane()) * 4;
                v[k] = Quad{};
                if (col < n) v[k] = whole ? load_whole(from + col) : load_quad(from + col, n - col, read);
            }
#pragma unroll
            for (u32 k = 0; k < shortRun / 128; k++) sum = squares(sum, v[k]);
            sum = warp_sum(sum);
            if (lane() == 0) sst(sums + warp() * warps, sum);
        }
    } else {
        float sum[side] = {};
        for (u32 col = tid() * 4; col < n; col += steps * threads * 4) {
            Quad v[steps][side];
#pragma unroll
            for (u32 k = 0; k < steps; k++)
#pragma unroll
                for (u32 t = 0; t < side; t++) {
                    u32 c = col + k * threads * 4;
                    v[k][t] = Quad{};
                    if (c < n && t < x.rows) v[k][t] = whole ? load_whole(row(x, t) + c) : load_quad(row(x, t) + c, n - c, read);
                }
#pragma unroll
            for (int k = 0; k < steps; k++)
#pragma unroll
                for (int t = 0; t < side; t++) sum[t] = squares(sum[t], v[k][t]);
        }
#pragma unroll
        for (u32 t = 0; t < side; t++) {
            sum[t] = warp_sum(sum[t]);
            if (lane() == 0 && t < x.rows) sst(sums + t * warps + warp(), sum[t]);
        }
    }
}

// inverse_rms_of returns the inverse root mean square of row t, of n elements, after sum_rows.
DEV float inverse_rms_of(const float* sums, u32 t, u32 n, float eps) {
    float sum = sld(sums + t * warps);
    if (n > shortRun) {
#pragma unroll
        for (u32 k = 1; k < warps; k++) sum += sld(sums + t * warps + k);
    }
    return inverse_rms(sum, n, eps);
}

} // namespace norm
