// Store: keys and values of new tokens go into their slots of the cache; and the same with rotary embedding before it.
//
// A block takes a token and some of its heads. In a decoding step that is a few kilobytes, and the launch is all that it
// costs; of a prompt, each element is read once (4 bytes) and written once (2 or 4). Tiles take the values of a token in
// pieces of 2 bytes and its keys in pieces of 8; the second-level cache puts sectors together before they reach memory,
// as the tokens of a prompt come side by side.
//
// Rotated, the queries of the token are turned in place and its keys on their way into the cache: one launch for three, and
// keys are not written in F32 to be read again. Each rotated element has the bits that rotate (rows.cu) gives it.
#include "attention.cuh"

namespace attention {

// Turn is how a token is rotated: cosines of `half` angles, then sines.
struct Turn {
    const float* cosines;
    u32 half; // 0 for not at all
};

// turned returns element d of a head x, rotated.
DEV float turned(const float* x, u32 d, Turn r) {
    if (d >= 2 * r.half) return ld(x + d);
    bool second = d >= r.half;
    u32 j = second ? d - r.half : d;
    float c = ld(r.cosines + j), s = ld(r.cosines + r.half + j);
    float mine = ld(x + d), other = ld(x + (second ? j : d + r.half));
    return second ? mine * c + other * s : mine * c - other * s;
}

// store stores head h of the token of row bx().
template <class T, bool tiled> DEV void store(const StoreArgs& a, u32 h, i32 slot, Turn r) {
    typedef typename T::element E;
    u32 block = (u32)slot / a.block_tokens, token = (u32)slot % a.block_tokens;
    const float* k = a.k + (u64)bx() * a.k_stride + (u64)h * a.key_dim;
    const float* v = a.v + (u64)bx() * a.v_stride + (u64)h * a.value_dim;
    E* keys = (E*)a.keys + (u64)block * a.keys_stride + (u64)h * a.block_tokens * a.key_dim;
    E* values = (E*)a.values + (u64)block * a.values_stride + (u64)h * a.block_tokens * a.value_dim;
    if constexpr (tiled) {
        u32 first = token / strip * strip, i = token % strip;
        keys += (u64)first * a.key_dim + i % 8 * 4 * lane_tile + i / 8 * 4;
        for (u32 d = tid() * 4; d < a.key_dim; d += threads * 4) {
            u2 four = {T::pack(turned(k, d, r), turned(k, d + 1, r)), T::pack(turned(k, d + 2, r), turned(k, d + 3, r))};
            st((u2*)(keys + d / strip * tile + d % strip / 4 * lane_tile), four);
        }
        values += (u64)first * a.value_dim + i % 8 / 2 * lane_tile + i / 8 * 4 + i % 2;
        for (u32 d = tid(); d < a.value_dim; d += threads)
            st(values + d / strip * tile + d % 8 * 4 * lane_tile + d % strip / 8 * 2, T::half(ld(v + d)));
    } else {
        for (u32 d = tid(); d < a.key_dim; d += threads) st(keys + (u64)d * a.block_tokens + token, T::half(turned(k, d, r)));
        for (u32 d = tid(); d < a.value_dim; d += threads) st(values + (u64)token * a.value_dim + d, T::half(ld(v + d)));
    }
}

template <class T, bool tiled> DEV void store(const StoreArgs& a) {
    i32 slot = ld(a.slots + (u64)bx() * a.slot_stride);
    if (slot < 0) return;
    for (u32 h = by(); h < a.heads; h += gy()) store<T, tiled>(a, h, slot, {0, 0});
}

// rotate_store does so after rotation, and rotates queries: their heads come first.
template <class T, bool tiled> DEV void rotate_store(const RotateStoreArgs& a) {
    i32 slot = ld(a.store.slots + (u64)bx() * a.store.slot_stride);
    Turn r = {a.angles + (u64)bx() * a.angles_stride, a.half};
    for (u32 h = by(); h < a.heads + a.store.heads; h += gy()) {
        if (h >= a.heads) {
            if (slot >= 0) store<T, tiled>(a.store, h - a.heads, slot, r);
            continue;
        }
        float* q = a.q + (u64)bx() * a.q_stride + (u64)h * a.store.key_dim;
        for (u32 j = tid(); j < r.half; j += threads) {
            float first = turned(q, j, r), second = turned(q, j + r.half, r);
            st(q + j, first);
            st(q + j + r.half, second);
        }
    }
}

} // namespace attention

KERNEL(store_f32, attention::StoreArgs, attention::threads) { attention::store<attention::F32, false>(a); }
KERNEL(store_f16, attention::StoreArgs, attention::threads) { attention::store<attention::F16, false>(a); }
KERNEL(store_bf16, attention::StoreArgs, attention::threads) { attention::store<attention::BF16, false>(a); }
KERNEL(store_f16_tiles, attention::StoreArgs, attention::threads) { attention::store<attention::F16, true>(a); }
KERNEL(store_bf16_tiles, attention::StoreArgs, attention::threads) { attention::store<attention::BF16, true>(a); }
KERNEL(rotate_store_f32, attention::RotateStoreArgs, attention::threads) { attention::rotate_store<attention::F32, false>(a); }
KERNEL(rotate_store_f16, attention::RotateStoreArgs, attention::threads) { attention::rotate_store<attention::F16, false>(a); }
KERNEL(rotate_store_bf16, attention::RotateStoreArgs, attention::threads) { attention::rotate_store<attention::BF16, false>(a); }
KERNEL(rotate_store_f16_tiles, attention::RotateStoreArgs, attention::threads) { attention::rotate_store<attention::F16, true>(a); }
KERNEL(rotate_store_bf16_tiles, attention::RotateStoreArgs, attention::threads) { attention::rotate_store<attention::BF16, true>(a); }
