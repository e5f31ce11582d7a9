// Matrices as kernels see them. The layout equals that of mat in launch.go.
#pragma once
#include "tk.h"

// KERNELS is KERNEL, for so many blocks at a time on a multiprocessor: it bounds the registers of a thread. KERNEL_PAIR is for two.
#ifdef __CUDA_ARCH__
#define KERNELS(name, Args, threads, blocks) \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, blocks))) void name(const Args a)
#else
#define KERNELS(name, Args, threads, blocks) KERNEL(name, Args, threads)
#endif
#define KERNEL_PAIR(name, Args, threads) KERNELS(name, Args, threads, 2)

// A Mat is row-major; stride counts elements between the starts of two rows.
template <class T> struct Mat {
    T* p;
    u32 rows, cols, stride;
};

template <class T> DEV T* row(const Mat<T>& m, u32 i) { return m.p + (u64)i * m.stride; }

// wide says whether every row starts where 16 bytes can be read or written at once. It asks for the stride of a single row
// as well, so that a row takes the same way whatever stands beside it.
template <class T> DEV bool wide(const Mat<T>& m) { return (((u64)m.p | (u64)m.stride * sizeof(T)) & 15) == 0; }

// The 16-bit elements of weights.
struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};

DEV float widen(float v) { return v; }
DEV float widen(bf16 v) { return bf16_lo(v.bits); }
DEV float widen(f16 v) { return f16_lo(v.bits); }

DEV float load(const float* p) { return ld(p); }
DEV float load(const bf16* p) { return bf16_lo(ld(&p->bits)); }
DEV float load(const f16* p) { return f16_lo(ld(&p->bits)); }

// ld_wide reads 16 bytes in one instruction. Of an ld the compiler makes smaller ones where it can share them with the way
// that reads elements one by one.
#ifdef __CUDA_ARCH__
DEV u4 ld_wide(const void* p) {
    u4 v;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
    return v;
}
#else
DEV u4 ld_wide(const void* p) { return ld((const u4*)p); }
#endif

// Quad is four neighbours of a row in F32, the work of a thread.
struct Quad {
    float v[4];
};

// load_whole reads four elements at once.
DEV Quad load_whole(const float* p) {
    u4 q = ld_wide(p);
    return {{bits_float(q.x), bits_float(q.y), bits_float(q.z), bits_float(q.w)}};
}

// load_quad reads up to four of n elements, zeros for the rest; wide says that they may be read at once.
DEV Quad load_quad(const float* p, u32 n, bool wide) {
    if (wide && n >= 4) return load_whole(p);
    Quad q;
#pragma unroll
    for (u32 i = 0; i < 4; i++) q.v[i] = i < n ? ld(p + i) : 0;
    return q;
}

template <class T> DEV Quad load_quad(const T* p, u32 n, bool wide) {
    if (wide && n >= 4) {
        u2 q = ld((const u2*)p);
        T v[4] = {{(u16)q.x}, {(u16)(q.x >> 16)}, {(u16)q.y}, {(u16)(q.y >> 16)}};
        return {{widen(v[0]), widen(v[1]), widen(v[2]), widen(v[3])}};
    }
    Quad q;
#pragma unroll
    for (u32 i = 0; i < 4; i++) q.v[i] = i < n ? load(p + i) : 0;
    return q;
}

// store_quad writes the first n of four elements.
DEV void store_quad(float* p, const Quad& q, u32 n, bool wide) {
    if (wide && n >= 4) {
        st((u4*)p, u4{float_bits(q.v[0]), float_bits(q.v[1]), float_bits(q.v[2]), float_bits(q.v[3])});
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++)
        if (i < n) st(p + i, q.v[i]);
}

// silu(gate)·up, silu(v) = v / (1 + exp(-v)).
DEV float swiglu_of(float gate, float up) { return up * (gate / (1.0f + exp(-gate))); }
