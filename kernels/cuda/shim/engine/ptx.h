// ptx.h is what the instructions of PTX mean to the engine. Kernels that were translated from PTX (kernels/cuda/ptx/translate)
// are written in it: a register is a variable, an instruction a call, and the place of each is its line in the PTX. Rules
// of the language that C++ does not share are kept here, as PTX ISA 8.5 has them: shifts beyond the width, division by
// zero, comparison with NaN, conversions that do not fit.
#pragma once

#include "../../src/tk.h"

namespace tk {
[[noreturn]] void reject(const char* what, Site at);
}

namespace ptx {

template <class T> struct wide {};
template <> struct wide<u16> { typedef u32 type; };
template <> struct wide<i16> { typedef i32 type; };
template <> struct wide<u32> { typedef u64 type; };
template <> struct wide<i32> { typedef i64 type; };

// in reads an operand as an instruction's type: the bits of a register, of which a narrower type takes the low ones.
template <class T, class V> inline T in(V v) {
    if constexpr (sizeof(T) == sizeof(V))
        return __builtin_bit_cast(T, v);
    else {
        static_assert(sizeof(T) < sizeof(V) && (V)0.5 == 0 && (T)0.5 == 0, "a register is narrower than the instruction, or no integer");
        return (T)v;
    }
}

// out writes a result to a register; a wider one is filled with the sign of a signed result, else with zeros.
template <class R, class T> inline void out(R& r, T v) {
    if constexpr (sizeof(R) == sizeof(T))
        r = __builtin_bit_cast(R, v);
    else {
        static_assert(sizeof(R) > sizeof(T) && (R)0.5 == 0 && (T)0.5 == 0, "a register is narrower than the result, or no integer");
        r = (R)v;
    }
}

// undefined is what a register holds before it is written: nothing that a kernel would compute.
template <class T> inline T undefined() {
    if constexpr (sizeof(T) == 1)
        return true;
    else if constexpr ((T)0.5 != 0)
        return (T)__builtin_nan("");
    else
        return (T)0xbadc0ffee0ddf00d;
}

// ------------------------------------------------------------------------------------------------- arithmetic

template <class T> inline T neg(T a) {
    if constexpr ((T)0.5 != 0)
        return -a;
    else
        return (T)(0 - (u64)a);
}
template <class T> inline auto mul_wide(T a, T b) {
    typedef typename wide<T>::type W;
    return (W)a * (W)b;
}
template <class T> inline T mad_lo(T a, T b, T c) { return (T)((u64)a * (u64)b + (u64)c); }
// What division by zero gives is not said, only that it goes on; nor does what overflows stop.
template <class T> inline T div(T a, T b) { return b == 0 ? (T)-1 : b == (T)-1 && (T)-1 < 0 ? neg(a) : (T)(a / b); }
template <class T> inline T rem(T a, T b) { return b == 0 ? a : b == (T)-1 && (T)-1 < 0 ? (T)0 : (T)(a % b); }

// Of two numbers one of which is NaN, min and max take the other; -0 is less than +0.
template <class T> inline bool negative(T a) {
    if constexpr ((T)0.5 != 0)
        return __builtin_signbit(a);
    else
        return a < 0;
}
template <class T> inline T min(T a, T b) { return a == b ? (negative(a) ? a : b) : b != b || a < b ? a : b; }
template <class T> inline T max(T a, T b) { return a == b ? (negative(a) ? b : a) : b != b || a > b ? a : b; }

template <class T> inline T invert(T a) { return (T)~a; }
inline bool invert(bool a) { return !a; }
template <class T> inline T shl(T a, u32 n) { return n < sizeof(T) * 8 ? (T)(a << n) : (T)0; }
template <class T> inline T shr(T a, u32 n) { return (T)(a >> (n < sizeof(T) * 8 ? n : sizeof(T) * 8 - 1) >> (n < sizeof(T) * 8 ? 0 : 1)); }
// Those that are for one type refuse others, which would be converted.
template <class T> T popc(T) = delete;
template <class T> T clz(T) = delete;
template <class T> T bfe(T, u32, u32) = delete;
template <class T> T sqrt_rn(T) = delete;
template <class T> T ex2_approx(T) = delete;
template <class T> T fma_rn(T, T, T) = delete;
inline u32 popc(u32 a) { return (u32)__builtin_popcount(a); }
inline u32 clz(u32 a) { return a ? (u32)__builtin_clz(a) : 32; }
inline u32 bfe(u32 a, u32 pos, u32 len) {
    pos &= 255, len &= 255;
    u64 v = pos < 32 ? a >> pos : 0;
    return len < 32 ? (u32)(v & (((u64)1 << len) - 1)) : (u32)v;
}
inline i32 bfe(i32 a, u32 pos, u32 len) {
    pos &= 255, len &= 255;
    if (len == 0) return 0;
    i64 v = (i64)a >> (pos < 32 ? pos : 31); // what lies beyond the top is the sign
    return len < 32 ? (i32)((i64)((u64)v << (64 - len)) >> (64 - len)) : (i32)v;
}
template <class T> inline T selp(T a, T b, bool p) { return p ? a : b; }

template <class T> inline T add_rn(T a, T b) { return a + b; }
template <class T> inline T sub_rn(T a, T b) { return a - b; }
template <class T> inline T mul_rn(T a, T b) { return a * b; }
template <class T> inline T div_rn(T a, T b) { return a / b; }
template <class T> inline T rcp_rn(T a) { return 1 / a; }
inline float fma_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float sqrt_rn(float a) { return __builtin_sqrtf(a); }
inline float ex2_approx(float a) { return exp2(a); }

// Comparisons whose name ends in u hold as well when one of the two is NaN.
template <class T> inline bool setp_eq(T a, T b) { return a == b; }
template <class T> inline bool setp_ne(T a, T b) { return a < b || a > b; }
template <class T> inline bool setp_lt(T a, T b) { return a < b; }
template <class T> inline bool setp_le(T a, T b) { return a <= b; }
template <class T> inline bool setp_gt(T a, T b) { return a > b; }
template <class T> inline bool setp_ge(T a, T b) { return a >= b; }
template <class T> inline bool setp_equ(T a, T b) { return !(a < b || a > b); }
template <class T> inline bool setp_neu(T a, T b) { return a != b; }
template <class T> inline bool setp_ltu(T a, T b) { return !(a >= b); }
template <class T> inline bool setp_leu(T a, T b) { return !(a > b); }
template <class T> inline bool setp_gtu(T a, T b) { return !(a <= b); }
template <class T> inline bool setp_geu(T a, T b) { return !(a < b); }
template <class T> inline bool setp_num(T a, T b) { return a == a && b == b; }
template <class T> inline bool setp_nan(T a, T b) { return a != a || b != b; }

// ------------------------------------------------------------------------------------------------ conversions

template <class D, class S> inline D cvt(S a) { return (D)a; }
template <class D, class S> inline D cvt_rn(S a) { return (D)a; } // what g++ compiles rounds to nearest, ties to even

// cvt_rzi drops the fraction; what does not fit becomes the nearest integer that does, and NaN 0.
template <class D, class S> inline D cvt_rzi(S a) {
    static_assert((D)0.5 == 0, "to a float, it would have to drop the fraction alone");
    constexpr bool is_signed = (D)-1 < 0;
    constexpr D top = is_signed ? (D)(((u64)1 << (sizeof(D) * 8 - 1)) - 1) : (D)-1, bottom = is_signed ? (D)(-top - 1) : (D)0;
    if (a != a) return 0;
    if (a >= (S)top) return top; // (S)top is top, or the power of two above it
    if (a <= (S)bottom) return bottom;
    return (D)a;
}

// -------------------------------------------------------------------------------------------------- memory

// Shared memory begins at an address that is not 0, so that one that was never set does not lie in it.
constexpr u32 shared_base = 1 << 10;

template <class T> inline T* shared(u64 address) { return (T*)(tk::now.shared + (u32)address - shared_base); }
template <class T> inline T* global(u64 address) { return (T*)address; }

// param reads a kernel's arguments, which have addresses of their own here.
template <class T> inline T param(const void* args, u64 size, u64 address, TK_SITE) {
    u64 offset = address - (u64)args;
    if (offset > size || size - offset < sizeof(T) || offset % sizeof(T))
        tk::reject("reads beside its arguments", at);
    T v;
    memcpy(&v, (const u8*)args + offset, sizeof(T));
    return v;
}

template <class T, u32 n> struct alignas(sizeof(T) * n) vec {
    T v[n];
};

inline void cp_async(u64 to, u64 from, u32 bytes, TK_SITE) {
    if (bytes != 0 && bytes != 16) tk::reject("copies a part of 16 bytes", at);
    cp16z(shared<void>(to), global<void>(from), bytes != 0, at);
}

// ------------------------------------------------------------------------------------------------ exchanges

// The last operand of a shuffle has, from bit 8, a mask that divides the warp in segments, and below, the last lane of one,
// or the first for shfl_up: PTX ISA, shfl.sync. A lane whose source lies beyond keeps its own.
inline u32 shfl_up(u32 v, u32 d, u32 c, TK_SITE) {
    i32 l = (i32)lane(), segment = (i32)(c >> 8 & 31), first = (l & segment) | ((i32)(c & 31) & ~segment), j = l - (i32)(d & 31);
    return tk::exchange(v, (u32)(j >= first ? j : l), at);
}
inline u32 last_lane(u32 c) { return (lane() & (c >> 8 & 31)) | (c & 31 & ~(c >> 8)); }
inline u32 shfl_down(u32 v, u32 d, u32 c, TK_SITE) {
    u32 j = lane() + (d & 31);
    return tk::exchange(v, j <= last_lane(c) ? j : lane(), at);
}
inline u32 shfl_bfly(u32 v, u32 m, u32 c, TK_SITE) {
    u32 j = lane() ^ (m & 31);
    return tk::exchange(v, j <= last_lane(c) ? j : lane(), at);
}
inline u32 shfl_idx(u32 v, u32 source, u32 c, TK_SITE) {
    u32 segment = c >> 8 & 31, j = (lane() & segment) | (source & 31 & ~segment);
    return tk::exchange(v, j <= last_lane(c) ? j : lane(), at);
}

} // namespace ptx
