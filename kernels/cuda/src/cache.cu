// Store: keys and values of new tokens go into their slots of the cache.
//
// A block takes a token and some of its heads. In a decoding step that is a few kilobytes, and the launch is all that it
// costs; of a prompt, each element is read once (4 bytes) and written once (2 or 4). Tiles take the values of a token in
// pieces of 2 bytes and its keys in pieces of 8; the second-level cache puts sectors together before they reach memory,
// as the tokens of a prompt come side by side.
#include "attention.cuh"

namespace attention {

template <class T, bool tiled> DEV void store(const StoreArgs& a) {
    typedef typename T::element E;
    i32 slot = ld(a.slots + (u64)bx() * a.slot_stride);
    if (slot < 0) return;
    u32 block = (u32)slot / a.block_tokens, token = (u32)slot % a.block_tokens;
    for (u32 h = by(); h < a.heads; h += gy()) {
        const float* k = a.k + (u64)bx() * a.k_stride + (u64)h * a.key_dim;
        const float* v = a.v + (u64)bx() * a.v_stride + (u64)h * a.value_dim;
        E* keys = (E*)a.keys + (u64)block * a.keys_stride + (u64)h * a.block_tokens * a.key_dim;
        E* values = (E*)a.values + (u64)block * a.values_stride + (u64)h * a.block_tokens * a.value_dim;
        if constexpr (tiled) {
            u32 first = token / strip * strip, i = token % strip;
            keys += (u64)first * a.key_dim + i % 8 * 4 * lane_tile + i / 8 * 4;
            for (u32 d = tid() * 4; d < a.key_dim; d += threads * 4) {
                u2 four = {T::pack(ld(k + d), ld(k + d + 1)), T::pack(ld(k + d + 2), ld(k + d + 3))};
                st((u2*)(keys + d / strip * tile + d % strip / 4 * lane_tile), four);
            }
            values += (u64)first * a.value_dim + i % 8 / 2 * lane_tile + i / 8 * 4 + i % 2;
            for (u32 d = tid(); d < a.value_dim; d += threads)
                st(values + d / strip * tile + d % 8 * 4 * lane_tile + d % strip / 8 * 2, T::half(ld(v + d)));
        } else {
            for (u32 d = tid(); d < a.key_dim; d += threads) st(keys + (u64)d * a.block_tokens + token, T::half(ld(k + d)));
            for (u32 d = tid(); d < a.value_dim; d += threads) st(values + (u64)token * a.value_dim + d, T::half(ld(v + d)));
        }
    }
}

} // namespace attention

KERNEL(store_f32, attention::StoreArgs, attention::threads) { attention::store<attention::F32, false>(a); }
KERNEL(store_f16, attention::StoreArgs, attention::threads) { attention::store<attention::F16, false>(a); }
KERNEL(store_bf16, attention::StoreArgs, attention::threads) { attention::store<attention::BF16, false>(a); }
KERNEL(store_f16_tiles, attention::StoreArgs, attention::threads) { attention::store<attention::F16, true>(a); }
KERNEL(store_bf16_tiles, attention::StoreArgs, attention::threads) { attention::store<attention::BF16, true>(a); }
