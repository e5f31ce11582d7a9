// tk.h holds every primitive that a kernel may use. It has two meanings: compiled for a GPU by clang (no header of a
// toolkit is needed) a primitive is an instruction; compiled by g++ it is a call into the SIMT engine of ../shim, which
// runs the same kernel on a CPU and checks what a GPU would let pass.
//
// Rules for kernels, which the engine enforces where it can:
//   - shared memory is what smem() returns, of the size given at launch; no static __shared__, no global variables;
//   - memory is touched through ld, ld_stream, st (global) and sld, sst, cp16, ldm (shared) alone;
//   - blocks have a multiple of 32 threads; every lane of a warp, and every thread of a block, reaches each collective
//     of its warp or block: no return before one;
//   - between a write to shared memory and a read by another lane stands warp_sync() or block_sync();
//   - no local array is indexed by what is known only at run time, and no sum is contracted: write fma() where it is meant.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;

struct alignas(16) u4 {
    u32 x, y, z, w;
};
struct alignas(8) u2 {
    u32 x, y;
};

#define ALWAYS_INLINE inline __attribute__((always_inline))

#ifdef __CUDA_ARCH__

// ---------------------------------------------------------------------------------------------------- on a GPU

#define DEV static ALWAYS_INLINE __attribute__((device))

// KERNEL(name, Args, threads) { body } defines a kernel of one argument block `a`, launched with `threads` threads.
#define KERNEL(name, Args, threads) \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(threads))) void name(const Args a)

#define TK_SHARED __attribute__((address_space(3)))
#define TK_GLOBAL __attribute__((address_space(1)))
#define TK_FULL 0xffffffffu

DEV u32 float_bits(float x) { return __builtin_bit_cast(u32, x); }
DEV float bits_float(u32 x) { return __builtin_bit_cast(float, x); }

DEV u32 tid() { return __nvvm_read_ptx_sreg_tid_x(); }
DEV u32 nthreads() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEV u32 bx() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEV u32 by() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEV u32 bz() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEV u32 gx() { return __nvvm_read_ptx_sreg_nctaid_x(); }
DEV u32 gy() { return __nvvm_read_ptx_sreg_nctaid_y(); }
DEV u32 gz() { return __nvvm_read_ptx_sreg_nctaid_z(); }
DEV u32 lane() { return tid() & 31; }
DEV u32 warp() { return tid() >> 5; }

extern __attribute__((shared)) __attribute__((aligned(16))) u8 tk_shared[];
DEV u8* smem() { return tk_shared; }
DEV u32 tk_address(const void* p) { return (u32)(u64)(TK_SHARED const void*)p; }

typedef u32 tk_v4 __attribute__((ext_vector_type(4)));
typedef u32 tk_v2 __attribute__((ext_vector_type(2)));

template <u32 bytes> struct tk_word;
template <> struct tk_word<1> {
    typedef u8 type;
};
template <> struct tk_word<2> {
    typedef u16 type;
};
template <> struct tk_word<4> {
    typedef u32 type;
};
template <> struct tk_word<8> {
    typedef tk_v2 type;
};
template <> struct tk_word<16> {
    typedef tk_v4 type;
};

// ld and st access global memory: T of 1, 2, 4, 8 or 16 bytes, aligned to its size.
template <class T> DEV T ld(const T* p) {
    typedef typename tk_word<sizeof(T)>::type W;
    return __builtin_bit_cast(T, *(TK_GLOBAL const W*)p);
}
template <class T, class V> DEV void st(T* p, V v) {
    typedef typename tk_word<sizeof(T)>::type W;
    *(TK_GLOBAL W*)p = __builtin_bit_cast(W, (T)v);
}

// ld_stream reads what the whole launch reads once and never writes (weights): it passes by the first-level cache.
template <class T> DEV T ld_stream(const T* p) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "ld_stream takes 4, 8 or 16 bytes");
    if constexpr (sizeof(T) == 16) {
        u32 a, b, c, d;
        asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "l"(p));
        return __builtin_bit_cast(T, (u4{a, b, c, d}));
    } else if constexpr (sizeof(T) == 8) {
        u32 a, b;
        asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "l"(p));
        return __builtin_bit_cast(T, (u2{a, b}));
    } else {
        u32 a;
        asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(a) : "l"(p));
        return __builtin_bit_cast(T, a);
    }
}

// sld and sst access shared memory, with the same rule of sizes.
template <class T> DEV T sld(const T* p) {
    typedef typename tk_word<sizeof(T)>::type W;
    return __builtin_bit_cast(T, *(TK_SHARED const W*)p);
}
template <class T, class V> DEV void sst(T* p, V v) {
    typedef typename tk_word<sizeof(T)>::type W;
    *(TK_SHARED W*)p = __builtin_bit_cast(W, (T)v);
}

DEV void block_sync() { __syncthreads(); }
DEV void warp_sync() { __nvvm_bar_warp_sync(TK_FULL); }

// Shuffles take the value of lane `source`, of lane()^m, lane()-d or lane()+d; a lane without a source keeps its own.
template <class T> DEV T shfl(T v, u32 source) {
    return __builtin_bit_cast(T, __nvvm_shfl_sync_idx_i32(TK_FULL, __builtin_bit_cast(i32, v), (i32)source, 31));
}
template <class T> DEV T shfl_xor(T v, u32 m) {
    return __builtin_bit_cast(T, __nvvm_shfl_sync_bfly_i32(TK_FULL, __builtin_bit_cast(i32, v), (i32)m, 31));
}
template <class T> DEV T shfl_up(T v, u32 d) {
    return __builtin_bit_cast(T, __nvvm_shfl_sync_up_i32(TK_FULL, __builtin_bit_cast(i32, v), (i32)d, 0));
}
template <class T> DEV T shfl_down(T v, u32 d) {
    return __builtin_bit_cast(T, __nvvm_shfl_sync_down_i32(TK_FULL, __builtin_bit_cast(i32, v), (i32)d, 31));
}

// ballot returns a mask of the lanes for which p holds.
DEV u32 ballot(bool p) { return __nvvm_vote_ballot_sync(TK_FULL, p); }

// warp_sum and warp_max reduce over the warp by exchange with lane^16, 8, 4, 2, 1: every lane gets the same bits.
DEV float warp_sum(float v) {
    for (u32 m = 16; m; m >>= 1) v += shfl_xor(v, m);
    return v;
}
DEV float warp_max(float v) {
    for (u32 m = 16; m; m >>= 1) {
        float o = shfl_xor(v, m);
        v = o > v ? o : v;
    }
    return v;
}

// cp16 copies 16 bytes from global to shared memory in the background; cp16z fills with zeros unless valid. cp_commit
// closes a group of copies; cp_wait<n> waits until all but the latest n groups have arrived for this thread's copies:
// others see them after the next barrier.
DEV void cp16(void* s, const void* g) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(tk_address(s)), "l"(g) : "memory");
}
DEV void cp16z(void* s, const void* g, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(tk_address(s)), "l"(g), "r"(valid ? 16 : 0)
                 : "memory");
}
DEV void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n> DEV void cp_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); }

// ldm4 loads four 8x8 matrices of 16-bit elements (ldmatrix): lane 8i+j names row j of matrix i, of 16 bytes; register
// i of lane l gets elements 2(l%4) and 2(l%4)+1 of row l/4. ldm4t transposes each. ldm2 takes two, named by lanes 0-15.
DEV void ldm4(u32 r[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(tk_address(row))
                 : "memory");
}
DEV void ldm4t(u32 r[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(tk_address(row))
                 : "memory");
}
DEV void ldm2(u32 r[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(tk_address(row))
                 : "memory");
}
DEV void ldm2t(u32 r[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(tk_address(row))
                 : "memory");
}

// mma_bf16 and mma_f16 compute c += a·b for a (16, 16), b (16, 8), c (16, 8) in the fragments of m16n8k16; with g = lane/4
// and t = lane%4: a = {row g, row g+8, row g, row g+8} at columns 2t, 2t, 2t+8, 2t+8 (two each); b = rows 2t and 2t+8
// (two each) of column g; c = {row g, row g+8} at columns 2t, 2t+1.
DEV void mma_bf16(float c[4], const u32 a[4], const u32 b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEV void mma_f16(float c[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// mma_s8 is the same for signed bytes and exact sums, a (16, 32), b (32, 8): four columns 4t, 4t, 4t+16, 4t+16 a register.
DEV void mma_s8(i32 c[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// dp4a returns c plus the products of the four signed bytes of a and b.
DEV i32 dp4a(i32 a, i32 b, i32 c) {
    i32 d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// to_bf16, to_f16 and the packed forms (lo in the lower half) round to nearest, ties to even.
DEV u32 pack_bf16(float lo, float hi) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
DEV u32 pack_f16(float lo, float hi) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
DEV u16 to_bf16(float x) { return (u16)pack_bf16(x, 0); }
DEV u16 to_f16(float x) {
    u16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
}
DEV float from_f16(u16 x) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}

// fma rounds once; sqrt is correctly rounded; ex2 is the fast 2^x (about 2 ulp), of other bits on other machines.
DEV float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEV double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEV float sqrt(float x) { return __builtin_sqrtf(x); }
DEV float exp2(float x) {
    float r;
    asm("ex2.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// atomic_add returns the old value. ld_acquire and st_release order what lies around them over the whole GPU; comes_last
// (below) is how blocks wait for each other's results.
DEV u32 atomic_add(u32* p, u32 v) {
    u32 r;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory");
    return r;
}
DEV void fence() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
DEV u32 ld_acquire(const u32* p) {
    u32 r;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(r) : "l"(p) : "memory");
    return r;
}
DEV void st_release(u32* p, u32 v) { asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }

#else

// ---------------------------------------------------------------------------------------------------- in the shim

#include "../shim/engine/simt.h"

#endif

// ---------------------------------------------------------------------------------------------------- both, the same bits

// comes_last reports whether this is the last of so many blocks to take the ticket, which began at 0. One thread of a block calls
// it, between two block_syncs: in the block that comes last every thread then sees what all others wrote before. The second
// fence is that thread's own, as an acquire is an atomic and a fence after it by one thread (PTX ISA, memory consistency model).
DEV bool comes_last(u32* ticket, u32 blocks) {
    fence();
    bool last = atomic_add(ticket, 1) == blocks - 1;
    if (last) fence();
    return last;
}

template <class T> DEV T max(T a, T b) { return a > b ? a : b; }
template <class T> DEV T min(T a, T b) { return a < b ? a : b; }
DEV float abs(float x) { return bits_float(float_bits(x) & 0x7fffffffu); }

DEV float from_bf16(u16 x) { return bits_float((u32)x << 16); }
DEV float bf16_lo(u32 x) { return bits_float(x << 16); }
DEV float bf16_hi(u32 x) { return bits_float(x & 0xffff0000u); }
DEV float f16_lo(u32 x) { return from_f16((u16)x); }
DEV float f16_hi(u32 x) { return from_f16((u16)(x >> 16)); }

// rcp is correctly rounded, rsqrt within 1.5 ulp.
DEV float rcp(float x) { return 1.0f / x; }
DEV float rsqrt(float x) { return 1.0f / sqrt(x); }

// rint rounds to the nearest integer, ties to even, for |x| < 2^22.
DEV float rint(float x) {
    const float shift = 12582912.0f; // 1.5·2^23
    return (x + shift) - shift;
}

// exp returns e^x within 1 ulp: x = n·ln 2 + r with |r| <= ln(2)/2, a polynomial of degree 7 in r, and a scaling by 2^n in
// two steps, so that subnormal results are rounded once.
DEV float exp(float x) {
    if (!(x <= 88.8f)) return x != x ? x : bits_float(0x7f800000u);
    if (x < -104.0f) return 0.0f;
    float n = rint(x * 1.44269504f);
    float r = fma(n, -0.693145752f, x);
    r = fma(n, -1.42860677e-6f, r);
    float p = 1.98412698e-4f;
    p = fma(p, r, 1.38888889e-3f);
    p = fma(p, r, 8.33333333e-3f);
    p = fma(p, r, 4.16666667e-2f);
    p = fma(p, r, 1.66666667e-1f);
    p = fma(p, r, 0.5f);
    p = fma(p, r * r, r) + 1.0f;
    i32 k = (i32)n, h = k / 2;
    return p * bits_float((u32)(h + 127) << 23) * bits_float((u32)(k - h + 127) << 23);
}

// sincos sets the sine and cosine of x, within 1 ulp for |x| up to 1e6: reduction by π/2 and both series in double.
DEV void sincos(float x, float* s, float* c) {
    double d = x, shift = 6755399441055744.0; // 1.5·2^52
    double n = (d * 0.63661977236758134 + shift) - shift;
    double r = fma(n, -1.5707963267948966, d);
    r = fma(n, -6.123233995736766e-17, r);
    double q = r * r;
    double a = 1.6059043836821613e-10;
    a = fma(a, q, -2.5052108385441720e-8);
    a = fma(a, q, 2.7557319223985893e-6);
    a = fma(a, q, -1.9841269841269841e-4);
    a = fma(a, q, 8.3333333333333332e-3);
    a = fma(a, q, -1.6666666666666666e-1);
    a = fma(a * q, r, r);
    double b = -1.1470745597729725e-11;
    b = fma(b, q, 2.0876756987868100e-9);
    b = fma(b, q, -2.7557319223985888e-7);
    b = fma(b, q, 2.4801587301587302e-5);
    b = fma(b, q, -1.3888888888888889e-3);
    b = fma(b, q, 4.1666666666666664e-2);
    b = fma(b, q, -0.5);
    b = fma(b, q, 1.0);
    i32 k = (i32)n;
    float sine = (float)(k & 1 ? b : a), cosine = (float)(k & 1 ? a : b);
    *s = k & 2 ? -sine : sine;
    *c = (k + 1) & 2 ? -cosine : cosine;
}
