// Kernels that do right, and kernels that do one thing wrong each, for the tests of the shim. Lines that a test expects to
// be named end in a mark.
#include "tk.h"

struct Rows {
    float* y;
    const float* x;
    u32 n, k;
};

// reverse turns each block's stretch of x around, through shared memory.
KERNEL(reverse, Rows, 256) {
    float* s = (float*)smem();
    u32 i = bx() * nthreads() + tid();
    sst(s + tid(), i < a.n ? ld(a.x + i) : 0.0f);
    block_sync();
    float v = sld(s + nthreads() - 1 - tid());
    if (i < a.n) st(a.y + i, v);
}

// race is reverse without the barrier.
KERNEL(race, Rows, 256) {
    float* s = (float*)smem();
    sst(s + tid(), ld(a.x + tid())); // race: write
    st(a.y + tid(), sld(s + nthreads() - 1 - tid())); // race: read
}

// warp_race leaves warp_sync out between lanes of a warp.
KERNEL(warp_race, Rows, 32) {
    float* s = (float*)smem();
    for (u32 i = 0; i < a.k; i++) {
        sst(s + lane(), (float)i); // warp_race: write
        warp_sync();
        st(a.y + lane(), sld(s + (lane() ^ 1)));
    }
}

// warp_order is warp_race with what it lacks.
KERNEL(warp_order, Rows, 64) {
    float* s = (float*)smem() + warp() * 32;
    for (u32 i = 0; i < a.k; i++) {
        sst(s + lane(), (float)(i + lane()));
        warp_sync();
        st(a.y + tid(), sld(s + (lane() ^ 1)));
        warp_sync();
    }
}

// same_word has two lanes write one word, bytes has each write bytes of its own.
KERNEL(same_word, Rows, 32) {
    sst((u32*)smem(), tid()); // same_word
}
KERNEL(bytes, Rows, 64) {
    u8* s = smem();
    sst(s + tid(), (u8)tid());
    sst((u16*)(s + 64) + tid(), (u16)tid());
    block_sync();
    u32 v = sld((u32*)s + tid() % 16) + sld((u16*)(s + 64) + tid());
    block_sync();
    sst((u32*)s + tid() % 32, v); // bytes: two threads
    st(a.y + tid(), (float)v);
}

// uninitialised reads what nobody wrote.
KERNEL(uninitialised, Rows, 32) {
    u32* s = (u32*)smem();
    if (tid() < 31) sst(s + tid(), tid());
    block_sync();
    st((u32*)a.y + tid(), sld(s + tid())); // uninitialised
}

// beyond_shared asks for one word more than it was given.
KERNEL(beyond_shared, Rows, 32) {
    sst((u32*)smem() + tid() + 1, tid()); // beyond_shared
}
KERNEL(misaligned_shared, Rows, 32) {
    sst((u32*)(smem() + 2), tid()); // misaligned_shared
}

// beyond and before leave their allocation; misaligned reads 16 bytes at a multiple of 4.
KERNEL(beyond, Rows, 32) {
    st(a.y + a.n + tid(), 1.0f); // beyond
}
KERNEL(before, Rows, 32) {
    st(a.y + tid(), ld(a.x - 1 - tid())); // before
}
KERNEL(misaligned, Rows, 32) {
    u4 v = ld((const u4*)(a.x + 1)); // misaligned
    st(a.y + tid(), (float)v.x);
}

// around does not go through ld.
KERNEL(around, Rows, 32) {
    st(a.y + tid(), a.x[tid()]);
}
// deep uses more stack than there is.
KERNEL(deep, Rows, 32) {
    volatile u8 local[100 << 10];
    for (u32 i = 0; i < a.k; i++) local[i * 1024] = (u8)i;
    st(a.y + tid(), (float)local[0]);
}

// divergent has half of a warp shuffle here and half there; missing has one lane stay away; left has one return.
KERNEL(divergent, Rows, 32) {
    float v = (float)lane();
    if (lane() < 16)
        v = shfl_xor(v, 1); // divergent: here
    else
        v = shfl_xor(v, 2); // divergent: there
    st(a.y + tid(), v);
}
KERNEL(missing, Rows, 32) {
    float v = (float)lane();
    if (lane() != 7) v = shfl_xor(v, 1); // missing
    block_sync();
    st(a.y + tid(), v);
}
KERNEL(left, Rows, 32) {
    if (lane() == 7) return;
    st(a.y + tid(), warp_sum(1)); // left
}

// partial has one warp return before a barrier; split_barrier has two warps at two barriers.
KERNEL(partial, Rows, 64) {
    if (warp() == 1) return;
    block_sync(); // partial
    st(a.y + tid(), 1.0f);
}
KERNEL(split_barrier, Rows, 64) {
    if (warp() == 1)
        block_sync(); // split_barrier: here
    else
        block_sync(); // split_barrier: there
    st(a.y + tid(), 1.0f);
}

// copies stages x through cp.async in two groups. k says what is left out: 1 the wait, 2 the barrier.
KERNEL(copies, Rows, 32) {
    float* s = (float*)smem();
    for (u32 i = 0; i < 2; i++) {
        cp16(s + i * 128 + tid() * 4, a.x + i * 128 + tid() * 4); // copies: issue
        cp_commit();
    }
    if (a.k != 1) cp_wait<1>();
    if (a.k != 2) block_sync();
    st(a.y + tid(), sld(s + (tid() ^ 1))); // copies: read
    cp_wait<0>();
    block_sync();
    st(a.y + 32 + tid(), sld(s + 128 + (tid() ^ 1)));
}

// zeros fills by cp16z where it is told to, from no valid address.
KERNEL(zeros, Rows, 32) {
    float* s = (float*)smem();
    bool valid = tid() < a.k;
    cp16z(s + tid() * 4, valid ? a.x + tid() * 4 : nullptr, valid);
    cp_commit();
    cp_wait<0>();
    block_sync();
    for (u32 i = 0; i < 4; i++) st(a.y + i * 32 + tid(), sld(s + i * 32 + tid()));
}

// lanes does every exchange: y gets 32 values for each.
KERNEL(lanes, Rows, 32) {
    float v = ld(a.x + lane());
    float* y = a.y + lane();
    st(y, shfl(v, 5));
    st(y + 32, shfl_xor(v, 3));
    st(y + 64, shfl_up(v, 2));
    st(y + 96, shfl_down(v, 2));
    st(y + 128, warp_sum(v));
    st(y + 160, warp_max(v));
    st(y + 192, (float)(ballot(v > 0) >> 8));
    st(y + 224, (float)shfl((i32)lane() - 16, lane() / 2));
}

// products does one product of a warp, of bf16, f16 or bytes (kind & 3), and loads matrices, after a barrier unless kind & 4.
struct Products {
    float* c; // 32 x 4
    const u32 *a, *b;
    u32* r;
    u32 kind;
};
KERNEL(products, Products, 32) {
    u32 l = lane(), f[4], g[2];
    for (u32 i = 0; i < 4; i++) f[i] = ld(a.a + l * 4 + i);
    for (u32 i = 0; i < 2; i++) g[i] = ld(a.b + l * 2 + i);
    if ((a.kind & 3) == 2) {
        i32 d[4];
        for (u32 i = 0; i < 4; i++) d[i] = (i32)ld(a.c + l * 4 + i);
        mma_s8(d, f, g);
        for (u32 i = 0; i < 4; i++) st(a.c + l * 4 + i, (float)d[i]);
    } else {
        float c[4];
        for (u32 i = 0; i < 4; i++) c[i] = ld(a.c + l * 4 + i);
        if ((a.kind & 3) == 0)
            mma_bf16(c, f, g);
        else
            mma_f16(c, f, g);
        for (u32 i = 0; i < 4; i++) st(a.c + l * 4 + i, c[i]);
    }
    u32* s = (u32*)smem();
    for (u32 i = 0; i < 4; i++) sst(s + l * 4 + i, f[i]);
    if (!(a.kind & 4)) warp_sync();
    u32 m[4], t[4], h[2];
    ldm4(m, s + l * 4);
    ldm4t(t, s + l * 4);
    ldm2(h, s + (l & 15) * 4);
    for (u32 i = 0; i < 4; i++) st(a.r + l * 8 + i, m[i]), st(a.r + l * 8 + 4 + i, t[i]);
    if (h[0] != m[0] || h[1] != m[1]) st(a.r + l * 8, 0u);
}

// functions applies one function of tk.h to each x.
KERNEL(functions, Rows, 256) {
    u32 i = bx() * nthreads() + tid();
    if (i >= a.n) return;
    float x = ld(a.x + i), y = 0, z;
    switch (a.k) {
    case 0: y = exp(x); break;
    case 1: y = exp2(x); break;
    case 2: sincos(x, &y, &z); break;
    case 3: sincos(x, &z, &y); break;
    case 4: y = sqrt(x); break;
    case 5: y = rsqrt(x); break;
    case 6: y = from_bf16(to_bf16(x)); break;
    case 7: y = from_f16(to_f16(x)); break;
    case 8: y = f16_hi((u32)float_bits(x)); break;
    case 9: y = bf16_hi(pack_bf16(0, x)); break;
    case 10: y = f16_hi(pack_f16(0, x)); break;
    }
    st(a.y + i, y);
}

// ticket sums blocks' shares in the order of blocks, in the block that comes last.
struct Ticket {
    float *y, *part;
    u32* count;
};
KERNEL(ticket, Ticket, 32) {
    if (tid() == 0) st(a.part + bx(), 1.0f / (float)(bx() + 1));
    fence();
    u32 last = 0;
    if (tid() == 0) last = atomic_add(a.count, 1) == gx() - 1;
    last = shfl(last, 0);
    fence();
    if (last && tid() == 0) {
        float s = 0;
        for (u32 i = 0; i < gx(); i++) s += ld(a.part + i);
        st(a.y, s);
        st(a.count, 0u);
    }
}
// wait_for waits for a block that may not run yet.
KERNEL(wait_for, Ticket, 32) {
    if (bx() == 0) {
        st_release(a.count, 1);
    } else {
        while (ld_acquire(a.count) != 2) {} // wait_for
    }
}

// barriers and loads are for benchmarks.
KERNEL(barriers, Rows, 256) {
    for (u32 i = 0; i < a.k; i++) block_sync();
}
KERNEL(warp_products, Products, 128) {
    float c[4] = {};
    u32 f[4] = {lane(), 1, 2, 3}, g[2] = {lane(), 2};
    for (u32 i = 0; i < a.kind; i++) mma_bf16(c, f, g);
    st(a.c + lane(), c[0]);
}
KERNEL(warp_loads, Products, 128) {
    u32 f[4], s = 0;
    u4* p = (u4*)smem() + tid();
    sst(p, u4{1, 2, 3, 4});
    warp_sync();
    for (u32 i = 0; i < a.kind; i++) {
        ldm4(f, p);
        s += f[0];
    }
    st(a.r + tid(), s);
}
KERNEL(dots, Rows, 256) {
    const u4* w = (const u4*)a.x + (u64)(bx() * (nthreads() / 32) + warp()) * a.k;
    float* s = (float*)smem();
    float sum = 0;
    for (u32 i = tid(); i < a.k * 8; i += nthreads()) sst(s + i, 1.0f);
    block_sync();
    for (u32 i = lane(); i < a.k; i += 32) {
        u4 v = ld_stream(w + i);
        u4 p = sld((u4*)s + i * 2), q = sld((u4*)s + i * 2 + 1);
        sum = fma(bf16_lo(v.x), bits_float(p.x), sum), sum = fma(bf16_hi(v.x), bits_float(p.y), sum);
        sum = fma(bf16_lo(v.y), bits_float(p.z), sum), sum = fma(bf16_hi(v.y), bits_float(p.w), sum);
        sum = fma(bf16_lo(v.z), bits_float(q.x), sum), sum = fma(bf16_hi(v.z), bits_float(q.y), sum);
        sum = fma(bf16_lo(v.w), bits_float(q.z), sum), sum = fma(bf16_hi(v.w), bits_float(q.w), sum);
    }
    sum = warp_sum(sum);
    if (lane() == 0) st(a.y + bx() * (nthreads() / 32) + warp(), sum);
}

// What follows has accesses to global memory that nothing orders, or not enough.
KERNEL(global_race, Rows, 64) {
    st(a.y + tid(), 1.0f);
    if (a.k & 1) block_sync();
    if (a.k & 2) warp_sync();
    if (bx() == 0) st(a.y + (tid() ^ (a.k & 2 ? 1 : 32)), 2.0f); // global_race
}
KERNEL(global_read, Rows, 64) {
    float v = ld(a.x + (tid() + (a.k ? 0 : 1)) % 64);
    st((float*)a.x + tid(), v + 1.0f); // global_read
}
KERNEL(halves, Rows, 64) { st((u16*)a.y + (tid() & ~a.k), (u16)1); } // halves
KERNEL(blocks_race, Rows, 64) { st(a.y + (a.k ? bx() * 64 : 0) + tid(), 1.0f); } // blocks_race
// share is ticket with several threads: k leaves out the fence before the atomic (1), that after it (2), or the barrier (4);
// with 8 the fence after it is passed by all, once they have heard of it.
KERNEL(share, Ticket, 64) {
    u32 k = (u32)(u64)a.y & 15;
    float* y = (float*)((u64)a.y & ~(u64)15);
    st(a.part + bx() * 64 + tid(), 1.0f);
    if (!(k & 4)) block_sync();
    if (tid() == 0) {
        if (!(k & 1)) fence();
        u32 last = atomic_add(a.count, 1) == gx() - 1;
        if (!(k & (2 | 8))) fence();
        sst((u32*)smem(), last);
    }
    block_sync();
    if (!sld((u32*)smem())) return;
    if (k & 8) fence();
    float s = 0;
    for (u32 i = 0; i < gx(); i++) s += ld(a.part + i * 64 + tid()); // share
    st(y + tid(), s);
    if (tid() == 0) st(a.count, 0u);
}
// between has one thread of a block do something, and one of another block something after it, by what k says.
struct Between {
    float* x;
    u32 *f, *g;
    u32 k;
};
KERNEL(between, Between, 32) {
    if (tid()) return;
    const bool first = bx() == 0;
    switch (a.k) {
    case 0: // released, and acquired
        if (first) { st(a.x, 1.0f); fence(); atomic_add(a.f, 1); } else { if (atomic_add(a.f, 1)) { fence(); st(a.x + 8, ld(a.x)); } }
        break;
    case 1: // after the release
        if (first) { fence(); atomic_add(a.f, 1); st(a.x, 1.0f); } else { atomic_add(a.f, 1); fence(); st(a.x + 8, ld(a.x)); }
        break;
    case 2: // after the fence
        if (first) { fence(); st(a.x, 1.0f); atomic_add(a.f, 1); } else { atomic_add(a.f, 1); fence(); st(a.x + 8, ld(a.x)); }
        break;
    case 3: // after a releasing store
        if (first) { st_release(a.f, 1); st(a.x, 1.0f); } else { ld_acquire(a.f); st(a.x + 8, ld(a.x)); }
        break;
    case 4: // atomics among each other
        if (first) ld_acquire(a.f); else st_release(a.f, 1);
        break;
    case 5: // by way of a third block
        if (first) { st(a.x, 1.0f); st_release(a.f, 1); }
        else if (bx() == 1) { if (ld_acquire(a.f)) st_release(a.g, 1); }
        else { if (ld_acquire(a.g)) st(a.x + 8, ld(a.x)); }
        break;
    case 6: // a later store releases nothing of those before
        if (first) { st(a.x, 1.0f); st_release(a.f, 1); }
        else if (bx() == 1) { st_release(a.f, 2); }
        else { if (ld_acquire(a.f) == 2) st(a.x + 8, ld(a.x)); }
        break;
    case 7: // what is constant is written
        st(a.x + 64 * bx(), 1.0f);
        st(a.x + 64 * bx() + 1, ld_stream(a.x + 64 * bx()));
        break;
    }
}
// warps: a warp reads, and another reads as well before it writes.
KERNEL(warps, Rows, 64) {
    if (tid() < 32) {
        if (tid() == 0) st(a.y, ld(a.x));
        return;
    }
    warp_sync();
    if (tid() == 32) st(a.y + 1, ld(a.x));
    warp_sync();
    if (tid() == 32) st((float*)a.x, 1.0f);
}
KERNEL(odd, Rows, 32) {
    if (tid() == 0) st((u16*)((u64)a.x + 3), (u16)1);
}

// strided reads words of shared memory, or 8 or 16 bytes where `wide` is 1 or 2, and words of global memory, k of them apart.
struct Strided {
    float *y, *x;
    u32 k, wide;
};
KERNEL(strided, Strided, 32) {
    float* s = (float*)smem();
    for (u32 i = tid(); i < 4096; i += 32) sst(s + i, 1.0f);
    warp_sync();
    float v = a.wide == 2   ? bits_float(sld((const u4*)s + tid() * a.k).x)
              : a.wide == 1 ? bits_float(sld((const u2*)s + tid() * a.k).x)
                            : sld(s + tid() * a.k);
    st(a.y + tid() * a.k, v);
    if (tid() % 2) v += ld(a.x + a.k); // one place for half of the lanes
}
