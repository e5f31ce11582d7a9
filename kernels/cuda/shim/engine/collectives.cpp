// collectives.cpp holds what the lanes of a warp do together, and the copies and atomics beside them.
#include "engine.h"

namespace tk {

namespace {

Warp& mine() { return worker->warps[now.tid / 32]; }

// half8 is a row of eight floats.
typedef float row8 __attribute__((vector_size(32)));

// multiply computes c += a·b in the order of k, from fragments of 16-bit elements.
template <float (*lo)(u32), float (*hi)(u32)> void multiply(Warp& w) {
    alignas(32) float a[16][16], b[16][8], c[16][8];
    for (u32 l = 0; l < 32; l++) {
        u32 g = l / 4, t = l % 4 * 2;
        for (u32 i = 0; i < 4; i++) {
            float* p = &a[g + (i & 1) * 8][t + (i >> 1) * 8];
            p[0] = lo(w.a[l][i]);
            p[1] = hi(w.a[l][i]);
        }
        for (u32 i = 0; i < 2; i++) {
            b[t + i * 8][g] = lo(w.b[l][i]);
            b[t + i * 8 + 1][g] = hi(w.b[l][i]);
        }
        for (u32 i = 0; i < 4; i++) c[g + (i >> 1) * 8][t + (i & 1)] = w.c[l][i];
    }
    for (u32 i = 0; i < 16; i += 4) {
        row8 r0, r1, r2, r3;
        memcpy(&r0, c[i], 32), memcpy(&r1, c[i + 1], 32), memcpy(&r2, c[i + 2], 32), memcpy(&r3, c[i + 3], 32);
        for (u32 k = 0; k < 16; k++) {
            row8 v;
            memcpy(&v, b[k], 32);
            r0 += a[i][k] * v, r1 += a[i + 1][k] * v, r2 += a[i + 2][k] * v, r3 += a[i + 3][k] * v;
        }
        memcpy(c[i], &r0, 32), memcpy(c[i + 1], &r1, 32), memcpy(c[i + 2], &r2, 32), memcpy(c[i + 3], &r3, 32);
    }
    for (u32 l = 0; l < 32; l++)
        for (u32 i = 0; i < 4; i++) w.c[l][i] = c[l / 4 + (i >> 1) * 8][l % 4 * 2 + (i & 1)];
}

float f16_low(u32 x) { return from_f16((u16)x); }
float f16_high(u32 x) { return from_f16((u16)(x >> 16)); }
float bf16_low(u32 x) { return bits_float(x << 16); }
float bf16_high(u32 x) { return bits_float(x & 0xffff0000u); }

void multiply_bytes(Warp& w) {
    i32 a[16][32], b[32][8], c[16][8];
    for (u32 l = 0; l < 32; l++) {
        u32 g = l / 4, t = l % 4 * 4;
        for (u32 j = 0; j < 4; j++) {
            for (u32 i = 0; i < 4; i++) a[g + (i & 1) * 8][t + (i >> 1) * 16 + j] = (i8)(w.a[l][i] >> 8 * j);
            for (u32 i = 0; i < 2; i++) b[t + i * 16 + j][g] = (i8)(w.b[l][i] >> 8 * j);
            c[g + (j >> 1) * 8][l % 4 * 2 + (j & 1)] = w.d[l][j];
        }
    }
    typedef i32 row __attribute__((vector_size(32)));
    for (u32 i = 0; i < 16; i++) {
        row r;
        memcpy(&r, c[i], 32);
        for (u32 k = 0; k < 32; k++) {
            row v;
            memcpy(&v, b[k], 32);
            r += a[i][k] * v;
        }
        memcpy(c[i], &r, 32);
    }
    for (u32 l = 0; l < 32; l++)
        for (u32 j = 0; j < 4; j++) w.d[l][j] = c[l / 4 + (j >> 1) * 8][l % 4 * 2 + (j & 1)];
}

template <void (*work)(Warp&)> void multiply_floats(const char* what, float c[4], const u32 a[4], const u32 b[2], Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    memcpy(w.a[l], a, 16);
    memcpy(w.b[l], b, 8);
    memcpy(w.c[l], c, 16);
    if (meet_enter(*worker, w, what, at)) {
        work(w);
        worker->mma++;
        meet_done(*worker, w);
    }
    memcpy(c, w.c[l], 16);
}

// offset_of checks 16 bytes of shared memory, as shared does, but leaves the shadow to the caller.
u32 offset_of(const void* p, bool store, Site at) {
    u64 offset = (u64)p - now.shared;
    if (offset >= now.shared_bytes || offset + 16 > now.shared_bytes || offset % 16) shared_fault(p, 16, store, at);
    return (u32)offset;
}

} // namespace

u32 exchange(u32 v, u32 source, Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    w.in[l] = v;
    w.r[l][0] = source;
    if (meet_enter(*worker, w, "a shuffle", at)) {
        for (u32 i = 0; i < 32; i++) w.out[i] = w.in[w.r[i][0]];
        meet_done(*worker, w);
    }
    return w.out[l];
}

void load_matrices(u32* r, const void* row, u32 count, bool transposed, Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    if (l < count * 8) w.row[l] = offset_of(row, false, at);
    if (traffic && l < count * 8) traffic_shared(w.row[l], 16, at);
    if (meet_enter(*worker, w, transposed ? "a transposed ldmatrix" : "an ldmatrix", at)) {
        for (u32 i = 0; i < count * 8; i++) shared_read_all(w.row[i], i, at);
        for (u32 m = 0; m < count; m++) {
            u16 e[8][8];
            for (u32 i = 0; i < 8; i++) memcpy(e[i], now.backing + w.row[m * 8 + i], 16);
            for (u32 i = 0; i < 32; i++) {
                u32 g = i / 4, t = i % 4 * 2;
                w.r[i][m] = transposed ? e[t][g] | (u32)e[t + 1][g] << 16 : e[g][t] | (u32)e[g][t + 1] << 16;
            }
        }
        meet_done(*worker, w);
    }
    memcpy(r, w.r[l], count * 4);
}

void cp_wait_groups(u32 groups, Site) {
    Fiber& f = worker->fibers[now.tid];
    size_t i = 0;
    for (; i < f.copies.size() && f.copies[i].group + groups < f.group; i++) {
        const Copy& c = f.copies[i];
        if (c.from)
            memcpy(now.backing + c.offset, c.from, 16);
        else
            memset(now.backing + c.offset, 0, 16);
        shared_end_copy(c.offset);
    }
    f.copies.erase(f.copies.begin(), f.copies.begin() + (long)i);
}

} // namespace tk

using namespace tk;

void warp_sync(Site at) {
    Warp& w = mine();
    if (meet_enter(*worker, w, "warp_sync", at)) {
        if (++w.syncs > max_syncs) fail(launch_failed, at, "passes more warp_syncs between two barriers than the checks can count");
        meet_done(*worker, w);
        set_stamp();
    }
}

u32 ballot(bool p, Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    w.in[l] = p;
    if (meet_enter(*worker, w, "ballot", at)) {
        u32 mask = 0;
        for (u32 i = 0; i < 32; i++) mask |= w.in[i] << i;
        for (u32 i = 0; i < 32; i++) w.out[i] = mask;
        meet_done(*worker, w);
    }
    return w.out[l];
}

float warp_sum(float v, Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    w.in[l] = float_bits(v);
    if (meet_enter(*worker, w, "warp_sum", at)) {
        float x[32];
        memcpy(x, w.in, sizeof x);
        for (u32 m = 16; m; m >>= 1)
            for (u32 i = 0; i < m; i++) x[i] += x[i + m];
        for (u32 i = 0; i < 32; i++) w.out[i] = float_bits(x[0]);
        meet_done(*worker, w);
    }
    return bits_float(w.out[l]);
}

float warp_max(float v, Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    w.in[l] = float_bits(v);
    if (meet_enter(*worker, w, "warp_max", at)) {
        float x[32];
        memcpy(x, w.in, sizeof x);
        for (u32 m = 16; m; m >>= 1) {
            float y[32];
            for (u32 i = 0; i < 32; i++) y[i] = x[i ^ m] > x[i] ? x[i ^ m] : x[i];
            memcpy(x, y, sizeof x);
        }
        memcpy(w.out, x, sizeof x);
        meet_done(*worker, w);
    }
    return bits_float(w.out[l]);
}

void cp16(void* s, const void* g, Site at) { cp16z(s, g, true, at); }

void cp16z(void* s, const void* g, bool valid, Site at) {
    u32 offset = offset_of(s, true, at);
    if (traffic) traffic_shared(offset, 16, at);
    const u8* from = nullptr;
    if (valid) {
        from = global(g, 16, false, at);
        now.read += 16;
    }
    shared_begin_copy(offset, at);
    Fiber& f = worker->fibers[now.tid];
    f.copies.push_back({offset, f.group, from});
}

void cp_commit() { worker->fibers[now.tid].group++; }

void mma_bf16(float c[4], const u32 a[4], const u32 b[2], Site at) {
    multiply_floats<multiply<bf16_low, bf16_high>>("mma_bf16", c, a, b, at);
}

void mma_f16(float c[4], const u32 a[4], const u32 b[2], Site at) {
    multiply_floats<multiply<f16_low, f16_high>>("mma_f16", c, a, b, at);
}

void mma_s8(i32 c[4], const u32 a[4], const u32 b[2], Site at) {
    Warp& w = mine();
    u32 l = now.tid & 31;
    memcpy(w.a[l], a, 16);
    memcpy(w.b[l], b, 8);
    memcpy(w.d[l], c, 16);
    if (meet_enter(*worker, w, "mma_s8", at)) {
        multiply_bytes(w);
        worker->mma++;
        meet_done(*worker, w);
    }
    memcpy(c, w.d[l], 16);
}

// exp2 is as good as it gets here; the GPU's ex2.approx is off by 2 ulp at most.
float exp2(float x) { return __builtin_exp2f(x); }

u32 atomic_add(u32* p, u32 v, Site at) {
    u8* b = global(p, 4, true, at, Kind::strong);
    if (races) races_atomic_add(p);
    now.read += 4, now.written += 4;
    return __atomic_fetch_add((u32*)b, v, __ATOMIC_RELAXED);
}

void fence() {
    if (races) races_fence();
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
}

u32 ld_acquire(const u32* p, Site at) {
    u8* b = global(p, 4, false, at, Kind::strong);
    now.read += 4;
    spin(at);
    if (races) races_load_acquire(p);
    return __atomic_load_n((const u32*)b, __ATOMIC_ACQUIRE);
}

void st_release(u32* p, u32 v, Site at) {
    u8* b = global(p, 4, true, at, Kind::strong);
    if (races) races_store_release(p);
    now.written += 4;
    __atomic_store_n((u32*)b, v, __ATOMIC_RELEASE);
}
