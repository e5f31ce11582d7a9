// The verbs on rows: each result row depends on its own row alone, so the same bits come out in any company. Elementwise
// verbs have a thread for four neighbours, which it reads and writes 16 bytes at once where rows allow it and one by one
// where they do not: what a thread computes is the same either way. Their grids have the rows in x, which has room for any
// number, and pieces of a row in y.
//
// All of them move a few rows in a decoding step, kilobytes in a microsecond, and are limited by the time of a launch; in a
// prompt they are limited by memory, with one read and one write of each element.
#include "norm.cuh"

namespace rows {

const u32 threads = 256;

// Where a thread's four elements stand: in row bx(), from this column on.
DEV u32 column() { return (by() * threads + tid()) * 4; }

template <class T> struct LookupArgs {
    Mat<float> y;
    Mat<const T> from;
    Mat<const i32> ids;
};

// y[i] = from[ids[i]], widened. Moves rows·cols·(sizeof(T) + 4) bytes.
template <class T> DEV void lookup(const LookupArgs<T>& a) {
    u32 col = column(), i = bx();
    if (col >= a.y.cols) return;
    u32 n = a.y.cols - col;
    const T* from = row(a.from, (u32)ld(row(a.ids, i))) + col;
    store_quad(row(a.y, i) + col, load_quad(from, n, wide(a.from)), n, wide(a.y));
}

struct ScatterArgs {
    Mat<float> y;
    Mat<const float> x;
    Mat<const i32> cols;
    u32 add;
};

struct BiasArgs {
    Mat<float> y;
    Mat<const float> b;
};

struct RMSNormArgs {
    Mat<float> y;
    Mat<const float> x, gain;
    float eps;
};

struct AnglesArgs {
    Mat<float> y;
    Mat<const i32> pos;
    Mat<const float> freqs;
    float scale;
};

struct RotateArgs {
    Mat<float> x;
    Mat<const float> angles;
    u32 heads;
};

struct SwiGLUArgs {
    Mat<float> y;
    Mat<const float> gate, up;
};

} // namespace rows

KERNEL(embed_f32, rows::LookupArgs<float>, 256) { rows::lookup(a); }
KERNEL(embed_f16, rows::LookupArgs<f16>, 256) { rows::lookup(a); }
KERNEL(embed_bf16, rows::LookupArgs<bf16>, 256) { rows::lookup(a); }

// y[:, cols[j]] = x[:, j], or adds it there. Moves rows·n·(4 + 4 + 4) bytes, and 4 more for each element with add; the
// writes go wherever cols says, 32 bytes of memory for 4 where no neighbours follow. One column a thread: its reads are
// side by side.
KERNEL(scatter, rows::ScatterArgs, 256) {
    u32 j = by() * rows::threads + tid();
    if (j >= a.x.cols) return;
    float v = ld(row(a.x, bx()) + j);
    float* y = row(a.y, bx()) + (u32)ld(a.cols.p + j);
    if (a.add) v = ld(y) + v;
    st(y, v);
}

// y[i] += b. Moves rows·cols·8 bytes; b comes from the caches.
KERNEL(bias, rows::BiasArgs, 256) {
    u32 col = rows::column();
    if (col >= a.y.cols) return;
    u32 n = a.y.cols - col;
    float* p = row(a.y, bx()) + col;
    Quad y = load_quad(p, n, wide(a.y)), b = load_quad(a.b.p + col, n, wide(a.b));
#pragma unroll
    for (int i = 0; i < 4; i++) y.v[i] += b.v[i];
    store_quad(p, y, n, wide(a.y));
}

// y = x / sqrt(mean(x²) + eps) · gain over runs of gain.cols columns, one block a run. A row of up to 8192 elements is read
// once and kept in registers, 32 of them a thread; what is behind them is read again, from the cache. Moves rows·cols·8
// bytes. A step has one or a few rows: time is a launch, one trip to memory, and the sum: five shuffles, one barrier, eight
// values of shared memory. A thread's elements and the order of the sum depend on gain.cols alone.
KERNEL(rms_norm, rows::RMSNormArgs, 256) {
    const int held = 8;
    u32 n = a.gain.cols, runs = a.x.cols / n, i = bx() / runs, first = bx() % runs * n;
    const float* x = row(a.x, i) + first;
    float* y = row(a.y, i) + first;
    bool even = first % 4 == 0, read = even && wide(a.x), write = even && wide(a.y), gains = wide(a.gain);
    Quad v[held];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < held; k++) {
        u32 col = (k * rows::threads + tid()) * 4;
        v[k] = Quad{};
        if (col < n) v[k] = load_quad(x + col, n - col, read);
    }
#pragma unroll
    for (int k = 0; k < held; k++) sum = norm::squares(sum, v[k]);
    for (u32 col = (held * rows::threads + tid()) * 4; col < n; col += rows::threads * 4)
        sum = norm::squares(sum, load_quad(x + col, n - col, read));
    sum = warp_sum(sum);
    float* sums = (float*)smem();
    if (lane() == 0) sst(sums + warp(), sum);
    block_sync();
    sum = 0;
#pragma unroll
    for (u32 i = 0; i < rows::threads / 32; i++) sum += sld(sums + i);
    float scale = norm::inverse_rms(sum, n, a.eps);
#pragma unroll
    for (int k = 0; k < held; k++) {
        u32 col = (k * rows::threads + tid()) * 4;
        if (col < n) store_quad(y + col, norm::normalized(v[k], load_quad(a.gain.p + col, n - col, gains), scale), n - col, write);
    }
    for (u32 col = (held * rows::threads + tid()) * 4; col < n; col += rows::threads * 4)
        store_quad(y + col, norm::normalized(load_quad(x + col, n - col, read), load_quad(a.gain.p + col, n - col, gains), scale), n - col, write);
}

// The same for short runs, the heads of a row: one warp a run, eight runs a block, up to 512 elements in registers. Moves
// rows·cols·8 bytes. The order of the sum depends on gain.cols alone.
KERNEL(rms_norm_short, rows::RMSNormArgs, 256) {
    const int held = 4;
    u32 n = a.gain.cols, runs = a.x.cols / n, run = bx() * (rows::threads / 32) + warp();
    bool there = run < runs * a.x.rows;
    u32 i = there ? run / runs : 0, first = there ? run % runs * n : 0;
    const float* x = row(a.x, i) + first;
    float* y = row(a.y, i) + first;
    bool even = n % 4 == 0, read = even && wide(a.x), write = even && wide(a.y), gains = wide(a.gain);
    Quad v[held];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < held; k++) {
        u32 col = (k * 32 + lane()) * 4;
        v[k] = Quad{};
        if (there && col < n) v[k] = load_quad(x + col, n - col, read);
        sum = norm::squares(sum, v[k]);
    }
    float scale = norm::inverse_rms(warp_sum(sum), n, a.eps);
#pragma unroll
    for (int k = 0; k < held; k++) {
        u32 col = (k * 32 + lane()) * 4;
        if (there && col < n)
            store_quad(y + col, norm::normalized(v[k], load_quad(a.gain.p + col, n - col, gains), scale), n - col, write);
    }
}

// y[i] = (cos, sin)(pos[i]·freqs)·scale. Writes rows·2n·4 bytes once a step. The product is rounded to F32, as the reference
// implementations of rotary embedding do, and its sine is exact at any angle.
KERNEL(angles, rows::AnglesArgs, 256) {
    u32 j = by() * rows::threads + tid(), n = a.freqs.cols;
    if (j >= n) return;
    float angle = (float)ld(row(a.pos, bx())) * ld(a.freqs.p + j), sine, cosine;
    sincos(angle, &sine, &cosine);
    float* y = row(a.y, bx());
    st(y + j, cosine * a.scale);
    st(y + n + j, sine * a.scale);
}

// Rotates columns j and j + n of the first 2n of each head by the angles of the row, in place; four pairs a thread. Moves
// rows·heads·2n·8 bytes; the angles come from the caches.
KERNEL(rotate, rows::RotateArgs, 256) {
    u32 half = a.angles.cols / 2, width = a.x.cols / a.heads, quads = (half + 3) / 4;
    u32 i = by() * rows::threads + tid(), head = i / quads, j = i % quads * 4;
    if (head >= a.heads) return;
    u32 n = half - j;
    float* u = row(a.x, bx()) + head * width + j;
    const float* c = row(a.angles, bx()) + j;
    bool whole = (width | half) % 4 == 0 && wide(a.x), table = half % 4 == 0 && wide(a.angles);
    Quad p = load_quad(u, n, whole), q = load_quad(u + half, n, whole);
    Quad cosine = load_quad(c, n, table), sine = load_quad(c + half, n, table), to, too;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        to.v[k] = p.v[k] * cosine.v[k] - q.v[k] * sine.v[k];
        too.v[k] = q.v[k] * cosine.v[k] + p.v[k] * sine.v[k];
    }
    store_quad(u, to, n, whole);
    store_quad(u + half, too, n, whole);
}

// y = silu(gate) ⊙ up, silu(v) = v / (1 + exp(-v)). Moves rows·cols·12 bytes.
KERNEL(swiglu, rows::SwiGLUArgs, 256) {
    u32 col = rows::column();
    if (col >= a.y.cols) return;
    u32 n = a.y.cols - col;
    Quad gate = load_quad(row(a.gate, bx()) + col, n, wide(a.gate)), up = load_quad(row(a.up, bx()) + col, n, wide(a.up));
#pragma unroll
    for (int i = 0; i < 4; i++) up.v[i] = swiglu_of(gate.v[i], up.v[i]);
    store_quad(row(a.y, bx()) + col, up, n, wide(a.y));
}
