// simt.h is the CPU's meaning of the primitives of tk.h: a thread of a block is a fiber, every access to memory is
// checked, and the lanes of a warp meet in collectives. Included by tk.h alone; the rest of this folder holds what is not inline.
#pragma once

#include <cstring>
#include <source_location>

#define DEV static inline

// A Site is the place in a kernel's source that an access or a collective is written at.
using Site = std::source_location;
#define TK_SITE Site at = Site::current()

namespace tk {

// A Kernel is one entry of the table that KERNEL fills when the library is loaded.
struct Kernel {
    const char* name;
    u32 args;    // bytes of the argument block
    u32 threads; // of a block at most
    void (*run)(const void* args);
    struct Counts* counts;
    Kernel* next;

    Kernel(const char* name, u32 args, u32 threads, void (*run)(const void*));
};

// Lane is what the running thread needs at hand; the engine changes it when it switches fibers.
struct Lane {
    u64 stamp;                  // of this thread's accesses at this time: see Shadow
    u32 tid, nthreads;          // within the block
    u32 bx, by, bz, gx, gy, gz; // block and grid
    u64 shared, shared_bytes;   // address and size of the block's shared memory as the kernel sees it
    u8* backing;                // where its bytes are
    u64 read, written;          // bytes of global memory, for the counts
};
extern thread_local Lane now;

// Heap is the device's memory. A kernel sees addresses at which nothing is mapped, so that what goes around ld and st
// ends at once; the bytes lie `delta` further. limit[i] is the end of the allocation that granule i belongs to.
struct Heap {
    u64 base, span, delta;
    u64* limit;
};
extern Heap heap;
constexpr u32 granule_bits = 16;

u8* global_slow(const void* p, u32 bytes, bool store, Site at);
void shared_fault(const void* p, u32 bytes, bool store, Site at);
void shared_read(u64 offset, u32 bytes, Site at);
void shared_write(u64 offset, u32 bytes, Site at);

// Races on global memory are found, and traffic is counted, where that is asked for: races.cpp, traffic.cpp.
extern bool races, traffic;
enum class Kind { plain, strong, constant }; // strong is what is atomic, constant what no launch that reads it writes
void races_touch(const void* p, u32 bytes, bool store, Kind kind, Site at);
void traffic_global(const void* p, u32 bytes, Site at);
void traffic_shared(u64 offset, u32 bytes, Site at);

// global returns where the bytes of a global address lie, or does not return.
inline u8* global(const void* p, u32 bytes, bool store, Site at, Kind kind = Kind::plain) {
    u64 offset = (u64)p - heap.base;
    u8* found = offset < heap.span && (offset & (bytes - 1)) == 0 && (u64)p + bytes <= heap.limit[offset >> granule_bits]
                    ? (u8*)p + heap.delta
                    : global_slow(p, bytes, store, at);
    if (__builtin_expect(races, false)) races_touch(p, bytes, store, kind, at);
    if (__builtin_expect(traffic, false)) traffic_global(p, bytes, at);
    return found;
}

// shared returns where the bytes of a shared address lie, or does not return.
inline u8* shared(const void* p, u32 bytes, bool store, Site at) {
    u64 offset = (u64)p - now.shared;
    if (offset >= now.shared_bytes || offset + bytes > now.shared_bytes || (offset & (bytes - 1))) shared_fault(p, bytes, store, at);
    if (__builtin_expect(traffic, false)) traffic_shared(offset, bytes, at);
    if (store)
        shared_write(offset, bytes, at);
    else
        shared_read(offset, bytes, at);
    return now.backing + offset;
}

u32 exchange(u32 v, u32 source, Site at);
void cp_wait_groups(u32 groups, Site at);
void load_matrices(u32* r, const void* row, u32 count, bool transposed, Site at);

} // namespace tk

#define KERNEL(name, Args, threads)                                                                          \
    static void name(const Args&);                                                                           \
    static tk::Kernel tk_##name(#name, sizeof(Args), threads, [](const void* a) { name(*(const Args*)a); }); \
    static void name([[maybe_unused]] const Args& a)

DEV u32 float_bits(float x) { return __builtin_bit_cast(u32, x); }
DEV float bits_float(u32 x) { return __builtin_bit_cast(float, x); }

DEV u32 tid() { return tk::now.tid; }
DEV u32 nthreads() { return tk::now.nthreads; }
DEV u32 bx() { return tk::now.bx; }
DEV u32 by() { return tk::now.by; }
DEV u32 bz() { return tk::now.bz; }
DEV u32 gx() { return tk::now.gx; }
DEV u32 gy() { return tk::now.gy; }
DEV u32 gz() { return tk::now.gz; }
DEV u32 lane() { return tid() & 31; }
DEV u32 warp() { return tid() >> 5; }
DEV u8* smem() { return (u8*)tk::now.shared; }

template <class T> DEV T ld(const T* p, TK_SITE, tk::Kind kind = tk::Kind::plain) {
    T v;
    memcpy(&v, tk::global(p, sizeof(T), false, at, kind), sizeof(T));
    tk::now.read += sizeof(T);
    return v;
}
template <class T> DEV T ld_stream(const T* p, TK_SITE) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "ld_stream takes 4, 8 or 16 bytes");
    return ld(p, at, tk::Kind::constant);
}
template <class T, class V> DEV void st(T* p, V v, TK_SITE) {
    T t = (T)v;
    memcpy(tk::global(p, sizeof(T), true, at), &t, sizeof(T));
    tk::now.written += sizeof(T);
}
template <class T> DEV T sld(const T* p, TK_SITE) {
    T v;
    memcpy(&v, tk::shared(p, sizeof(T), false, at), sizeof(T));
    return v;
}
template <class T, class V> DEV void sst(T* p, V v, TK_SITE) {
    T t = (T)v;
    memcpy(tk::shared(p, sizeof(T), true, at), &t, sizeof(T));
}

void block_sync(TK_SITE);
void warp_sync(TK_SITE);

template <class T> DEV T shfl(T v, u32 source, TK_SITE) {
    return __builtin_bit_cast(T, tk::exchange(__builtin_bit_cast(u32, v), source & 31, at));
}
template <class T> DEV T shfl_xor(T v, u32 m, TK_SITE) {
    return __builtin_bit_cast(T, tk::exchange(__builtin_bit_cast(u32, v), (lane() ^ m) & 31, at));
}
template <class T> DEV T shfl_up(T v, u32 d, TK_SITE) {
    return __builtin_bit_cast(T, tk::exchange(__builtin_bit_cast(u32, v), lane() >= d ? lane() - d : lane(), at));
}
template <class T> DEV T shfl_down(T v, u32 d, TK_SITE) {
    return __builtin_bit_cast(T, tk::exchange(__builtin_bit_cast(u32, v), lane() + d < 32 ? lane() + d : lane(), at));
}
u32 ballot(bool p, TK_SITE);
float warp_sum(float v, TK_SITE);
float warp_max(float v, TK_SITE);

void cp16(void* s, const void* g, TK_SITE);
void cp16z(void* s, const void* g, bool valid, TK_SITE);
void cp_commit();
template <int n> DEV void cp_wait(TK_SITE) { tk::cp_wait_groups(n, at); }

DEV void ldm4(u32 r[4], const void* row, TK_SITE) { tk::load_matrices(r, row, 4, false, at); }
DEV void ldm4t(u32 r[4], const void* row, TK_SITE) { tk::load_matrices(r, row, 4, true, at); }
DEV void ldm2(u32 r[2], const void* row, TK_SITE) { tk::load_matrices(r, row, 2, false, at); }
DEV void ldm2t(u32 r[2], const void* row, TK_SITE) { tk::load_matrices(r, row, 2, true, at); }

void mma_bf16(float c[4], const u32 a[4], const u32 b[2], TK_SITE);
void mma_f16(float c[4], const u32 a[4], const u32 b[2], TK_SITE);
void mma_s8(i32 c[4], const u32 a[4], const u32 b[2], TK_SITE);

DEV i32 dp4a(i32 a, i32 b, i32 c) {
    for (u32 i = 0; i < 32; i += 8) c += (i32)(i8)((u32)a >> i) * (i32)(i8)((u32)b >> i);
    return c;
}

DEV u16 to_bf16(float x) {
    u32 b = float_bits(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) return 0x7fff; // what cvt makes of any NaN
    return (u16)((b + 0x7fffu + (b >> 16 & 1)) >> 16);
}
DEV float from_f16(u16 x) {
    u32 sign = (u32)(x & 0x8000) << 16, magnitude = x & 0x7fff;
    if (magnitude >= 0x7c00) return bits_float(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
    // A subnormal or normal half is its bits, moved up, times 2^(127-15).
    return bits_float(float_bits(bits_float(magnitude << 13) * 5.192296858534828e33f) | sign);
}
DEV u16 to_f16(float x) {
    u32 b = float_bits(x), sign = b >> 16 & 0x8000, m = b & 0x7fffffffu;
    if (m > 0x7f800000u) return 0x7fff;
    if (m >= 0x477ff000u) return (u16)(sign | 0x7c00);                                // rounds to more than 65504
    if (m < 0x38800000u) return (u16)(sign | (float_bits(bits_float(m) + 0.5f) & 0x7ff)); // subnormal: rounded by the sum
    m += 0xfffu + (m >> 13 & 1) - (112u << 23);
    return (u16)(sign | m >> 13);
}
DEV u32 pack_bf16(float lo, float hi) { return to_bf16(lo) | (u32)to_bf16(hi) << 16; }
DEV u32 pack_f16(float lo, float hi) { return to_f16(lo) | (u32)to_f16(hi) << 16; }

DEV float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEV double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEV float sqrt(float x) { return __builtin_sqrtf(x); }
float exp2(float x);

u32 atomic_add(u32* p, u32 v, TK_SITE);
void fence();
u32 ld_acquire(const u32* p, TK_SITE);
void st_release(u32* p, u32 v, TK_SITE);
