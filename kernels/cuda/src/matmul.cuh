// What the products with dense weights have in common: y = x·wᵀ for y (tokens, out), x (tokens, in), w (out, in), weights
// row-major as they are stored.
//
// BF16 weights go through tensor cores: activations are rounded to BF16, products are exact, sums are in F32. There are two
// ways. That for up to 64 tokens (matmul_few.cu) reads each weight once at the speed of memory; that for more (matmul.cu)
// is limited by arithmetic. F16 and F32 weights take plain FMAs.
#pragma once
#include "mat.cuh"

namespace matmul {

const u32 threads = 256, warps = threads / 32;
const u32 stepCols = 32; // columns of w in a step: 8 for each of the four lanes that share a row

// Eight weights, or the n that there are before zeros; whole says that rows start at multiples of 16 bytes and that in is
// one of 8.
template <bool whole> DEV u4 eight(const bf16* p, u32 n) {
    if constexpr (whole) {
        return ld_stream((const u4*)p);
    } else {
        u32 e[8];
#pragma unroll
        for (u32 i = 0; i < 8; i++) e[i] = i < n ? ld(&p[i].bits) : 0;
        return u4{e[0] | e[1] << 16, e[2] | e[3] << 16, e[4] | e[5] << 16, e[6] | e[7] << 16};
    }
}

// The bits of eight floats, rounded to bf16.
DEV u2 rounded(const u4& a) { return u2{pack_bf16(bits_float(a.x), bits_float(a.y)), pack_bf16(bits_float(a.z), bits_float(a.w))}; }
DEV u4 rounded(const u4& a, const u4& b) {
    u2 p = rounded(a), q = rounded(b);
    return u4{p.x, p.y, q.x, q.y};
}

// Eight activations rounded to bf16, or the n that there are before zeros.
DEV u4 eight_rounded(const float* p, u32 n, bool wide) {
    Quad a = load_quad(p, n, wide), b = load_quad(p + 4, n > 4 ? n - 4 : 0, wide);
    return u4{pack_bf16(a.v[0], a.v[1]), pack_bf16(a.v[2], a.v[3]), pack_bf16(b.v[0], b.v[1]), pack_bf16(b.v[2], b.v[3])};
}

DEV void put(float* y, float v, u32 add) {
    if (add) v = ld(y) + v;
    st(y, v);
}

} // namespace matmul
