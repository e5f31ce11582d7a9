// Choose: a token for each row of logits. Three launches: the largest logit of each part of a row, the sum of the weights
// of each part, and the choice, by one block a row. Rows that take the largest logit pass the second by; so do those that
// keep a number of tokens, whose weights are summed up at the end.
//
// A part is 512 logits, the work of a warp: 128k logits are 250 parts in 32 blocks. The first launch reads all logits, from
// memory or from what of them is still in the second-level cache, the second those of rows that draw from all of them or
// need their sum, 4 bytes a logit each. The last reads the sums and one part, or, with a cut (top-k, top-p), the parts that
// have a logit above a bound, twice. Bounds: with top-k the k-th largest of the maxima of the parts; with top-p the tokens
// below (1-p)/n of all weight, which have no more than 1-p of it together. What is above, a few hundred of 128k in most
// texts, is gathered in order of ids and kept in registers, eight of them a thread. Where more than 4096 are above it, the
// row is read for the first bits of the cut, until the tokens that may lie on it are few enough, and for the draw.
//
// The cut is found bit by bit in the order of logits as integers: the largest threshold from which on enough are counted,
// or weighed. The parts of a sum, and their order, depend on the row alone.
#include "mat.cuh"

namespace choose {

const u32 threads = 256;      // of a block of the first two
const u32 part = 512;         // logits
const u32 draw_threads = 512; // of the block that chooses
const u32 warps = draw_threads / 32;
const u32 held = 8;                     // tokens that a thread keeps
const u32 most = held * draw_threads;   // tokens above the bound, so that they are kept
const u32 none = 0xffffffffu;           // no token
const u32 lowest_key = 0x007fffffu;     // of -Inf
const u32 infinite_key = 0xff800000u;   // of +Inf; a NaN has a larger one

struct Args {
    Mat<i32> ids;
    Mat<const float> logits;
    Mat<const u32> how;
    u2* tops;     // (rows, parts): key and id of the largest logit
    double* sums; // (rows, parts)
    u32 parts;
};

// How is kernels.Choice.
struct How {
    float scale, low, top_p;
    u32 top_k;
    double draw;
};

DEV How how(const Args& a) {
    const u32* p = row(a.how, bx());
    double draw = (double)(u64)ld(p + 5) * 4294967296.0 + (double)(u64)ld(p + 4);
    return {bits_float(ld(p)), bits_float(ld(p + 1)), bits_float(ld(p + 2)), ld(p + 3), draw * 1.1102230246251565e-16};
}

DEV bool cuts_count(const Args& a, const How& h) { return h.top_k > 0 && h.top_k < a.logits.cols; }
DEV bool cuts_mass(const How& h) { return h.top_p > 0 && h.top_p < 1; }

// key maps logits to integers in the same order; both zeros are one. value is its inverse.
DEV u32 key(float x) {
    if (x != x) return none;
    u32 b = x == 0 ? 0 : float_bits(x);
    return b >> 31 ? ~b : b | 0x80000000u;
}
DEV float value(u32 k) { return bits_float(k >> 31 ? k & 0x7fffffffu : ~k); }

// exp32 is e^x for x <= 0, with the operations of the host's sampler (Cephes' exp2f), so that both give the same bits.
DEV float exp32(float x) {
    const float round = 12582912.0f; // 1.5·2^23
    if (!(x >= -87.0f)) return 0;
    float t = x * 1.44269504088896340736f;
    float z = t + round, f = t - (z - round);
    float p = 1.339887440266574e-3f + f * 1.535336188319500e-4f;
    p = 9.618437357674640e-3f + f * p;
    p = 5.550332471162809e-2f + f * p;
    p = 2.402264791363012e-1f + f * p;
    p = 6.931472028550421e-1f + f * p;
    return bits_float((float_bits(z) - 0x4b400000u + 127) << 23) * (1.0f + f * p);
}

// Weights are those of a row, given its largest logit.
struct Weights {
    float top, scale, low; // low: of the logits that count
};

DEV Weights weights(const How& h, u32 top) { return {value(top), h.scale, value(top) + h.low}; }

DEV float weight(const Weights& w, float x) { return x >= w.low ? exp32((x - w.top) * w.scale) : 0; }

DEV double exchange(double v, u32 m) {
    u2 b = __builtin_bit_cast(u2, v);
    return __builtin_bit_cast(double, (u2{shfl_xor(b.x, m), shfl_xor(b.y, m)}));
}
DEV double from_below(double v, u32 d) {
    u2 b = __builtin_bit_cast(u2, v);
    return __builtin_bit_cast(double, (u2{shfl_up(b.x, d), shfl_up(b.y, d)}));
}
DEV double warp_total(double v) {
    for (u32 m = 16; m; m >>= 1) v += exchange(v, m);
    return v;
}

// first returns the larger key, of equals that with the lower id.
DEV u2 first(u2 a, u2 b) { return b.x > a.x || (b.x == a.x && b.y < a.y) ? b : a; }

DEV u2 warp_first(u2 v) {
    for (u32 m = 16; m; m >>= 1) {
        u2 o = {shfl_xor(v.x, m), shfl_xor(v.y, m)};
        v = first(v, o);
    }
    return v;
}

// largest returns key and id of the row's largest logit, to every thread. It has a barrier.
DEV u2 largest(const Args& a, u2* shared) {
    const u2* tops = a.tops + (u64)bx() * a.parts;
    u2 best = {0, none};
    for (u32 i = tid(); i < a.parts; i += nthreads()) best = first(best, ld(tops + i));
    best = warp_first(best);
    if (lane() == 0) sst(shared + warp(), best);
    block_sync();
    for (u32 i = 0; i < nthreads() / 32; i++) best = first(best, sld(shared + i));
    return best;
}

DEV bool possible(u2 best) { return best.x > lowest_key && best.x < infinite_key; }

// Shared is the shared memory of the block that chooses. Results of two kinds of step take turns, so that a step needs one
// barrier: who writes again has passed the barrier that comes after all have read.
struct Shared {
    u2 tops[warps];
    double sums[2][warps];
    u32 counts[warps];
    double rest;
    u32 part, from[warps];
    float values[most];
    u32 ids[most];
};
static_assert(sizeof(Shared) == 33296, "choose.go asks for so much");

// total adds up the values of all threads, to every thread.
DEV double total(double v, Shared* s, u32 turn) {
    v = warp_total(v);
    if (lane() == 0) sst(&s->sums[turn][warp()], v);
    block_sync();
    v = sld(&s->sums[turn][lane() % warps]);
    for (u32 m = warps / 2; m; m >>= 1) v += exchange(v, m);
    return v;
}

// Running is a thread's place in a running sum.
struct Running {
    double before, total; // of the threads before, and of all
};

DEV Running running(double own, Shared* s) {
    double v = own;
    for (u32 d = 1; d < 32; d <<= 1) {
        double below = from_below(v, d);
        if (lane() >= d) v += below;
    }
    double before = from_below(v, 1);
    if (lane() == 0) before = 0;
    block_sync(); // who still reads what stood there
    if (lane() == 31) sst(&s->sums[0][warp()], v);
    block_sync();
    double base = 0, all = 0;
#pragma unroll 4
    for (u32 i = 0; i < warps; i++) {
        double t = sld(&s->sums[0][i]);
        if (i < warp()) base += t;
        all += t;
    }
    return {base + before, all};
}

// located says which thread the mass falls to: the last one with a weight whose running sum does not exceed it.
DEV u32 located(double own, double before, double mass, Shared* s) {
    u32 some = ballot(own > 0 && before <= mass);
    u32 at = some ? warp() * 32 + 31 - (u32)__builtin_clz(some) + 1 : 0;
    block_sync();
    if (lane() == 0) sst(&s->counts[warp()], at);
    block_sync();
    at = sld(&s->counts[lane() % warps]);
    for (u32 m = warps / 2; m; m >>= 1) at = max(at, shfl_xor(at, m));
    return at - 1;
}

// from_all chooses from all tokens that count: first a part by its sum, then a token of the part.
DEV void from_all(const Args& a, const How& h, const Weights& w, Shared* s) {
    const double* sums = a.sums + (u64)bx() * a.parts;
    u32 each = (a.parts + draw_threads - 1) / draw_threads, begin = min(tid() * each, a.parts), end = min(begin + each, a.parts);
    double own = 0;
    for (u32 i = begin; i < end; i++) own += ld(sums + i);
    Running r = running(own, s);
    double mass = h.draw * r.total;
    if (located(own, r.before, mass, s) == tid()) {
        double sum = r.before, rest = 0;
        u32 at = begin;
        for (u32 i = begin; i < end; i++) {
            double v = ld(sums + i);
            if (v > 0 && sum <= mass) at = i, rest = mass - sum;
            sum += v;
        }
        sst(&s->part, at);
        sst(&s->rest, rest);
    }
    block_sync();
    u32 id = sld(&s->part) * part + tid();
    double rest = sld(&s->rest);
    own = id < a.logits.cols ? weight(w, ld(row(a.logits, bx()) + id)) : 0;
    r = running(own, s);
    if (located(own, r.before, rest, s) == tid()) st(a.ids.p + bx(), (i32)id);
}

// Tokens are those of a stretch of keys: a thread's own, in order of ids, where they are few, else those of the row.
struct Tokens {
    const float* logits;
    u32 count; // of the row
    Weights w; // low: the bound, below which no token is looked at
    bool few;
    u32 keys[held]; // 0 for no token
    float weights[held];
    double above; // the number, or the weight, of tokens above the stretch
};

DEV u32 key_at(const Tokens& t, u32 id) {
    float x = ld(t.logits + id);
    return x >= t.w.low ? key(x) : 0;
}

// measured adds up the tokens from a key on: their number or, with mass, their weights.
DEV double measured(const Tokens& t, u32 from, bool mass, Shared* s, u32 turn) {
    double sum = 0;
    if (t.few) {
#pragma unroll
        for (u32 i = 0; i < held; i++)
            if (t.keys[i] >= from) sum += mass ? (double)t.weights[i] : 1.0;
    } else {
#pragma unroll 4
        for (u32 i = tid(); i < t.count; i += draw_threads) {
            u32 k = key_at(t, i);
            if (k >= from) sum += mass ? (double)weight(t.w, value(k)) : 1.0;
        }
    }
    return total(sum, s, turn) + t.above;
}

// gather brings together the tokens with keys of [from, from + span], in order of ids, if they are few.
DEV void gather(const Args& a, Tokens& t, u32 from, u32 span, double above, Shared* s) {
    const u2* tops = a.tops + (u64)bx() * a.parts;
    const u32 loads = part / 32;
    u32 each = (a.parts + warps - 1) / warps, begin = min(warp() * each, a.parts), end = min(begin + each, a.parts);
    u32 below = (1u << lane()) - 1, at = 0, all = 0;
#pragma unroll 1
    for (u32 pass = 0; pass < 2; pass++) {
#pragma unroll 1
        for (u32 i = begin; i < end; i++) {
            if (ld(tops + i).x < from) continue;
            float x[loads];
#pragma unroll
            for (u32 j = 0; j < loads; j++) {
                u32 id = i * part + j * 32 + lane();
                x[j] = id < t.count ? ld(t.logits + id) : bits_float(none); // NaN: not at least anything
            }
#pragma unroll
            for (u32 j = 0; j < loads; j++) {
                u32 k = key(x[j]);
                bool in = x[j] >= t.w.low && k >= from && k - from <= span;
                u32 mask = ballot(in);
                if (pass == 1 && in) {
                    u32 to = at + (u32)__builtin_popcount(mask & below);
                    sst(s->values + to, x[j]);
                    sst(s->ids + to, i * part + j * 32 + lane());
                }
                at += (u32)__builtin_popcount(mask);
            }
        }
        if (pass == 1) break;
        block_sync(); // who still reads what stood there
        if (lane() == 0) sst(&s->from[warp()], at);
        block_sync();
        at = 0;
        for (u32 i = 0; i < warps; i++) {
            u32 n = sld(&s->from[i]);
            if (i < warp()) at += n;
            all += n;
        }
        if (all > most) return;
    }
    block_sync();
#pragma unroll
    for (u32 i = 0; i < held; i++) {
        u32 at = tid() * held + i;
        t.keys[i] = 0;
        t.weights[i] = 0;
        if (at < all) {
            float x = sld(s->values + at);
            t.keys[i] = key(x);
            t.weights[i] = weight(t.w, x);
        }
    }
    t.few = true;
    t.above = above;
}

// Cut keeps the tokens above a key and the first `ties` that have it.
struct Cut {
    u32 key, ties;
};

// kept returns the weight of a token, 0 if it is cut off. ties counts those with the key of the cut that came before.
DEV double kept(u32 k, float weight, const Cut& c, u32* ties) {
    if (k == 0 || k < c.key || (k == c.key && (*ties)++ >= c.ties)) return 0;
    return weight;
}

// cut finds what is kept: the first tokens up to a number and then, of those, up to a part of their weight, the sum of all
// if there is no number. Bit by bit it takes the largest key from which on there are enough: the keys that are still
// possible begin with the bits that are settled. Every four bits it tries to gather the tokens with those keys. It leaves
// all tokens gathered, if they are few.
DEV Cut cut(const Args& a, const How& h, Tokens& t, u32 top, double sum, Shared* s) {
    bool count = cuts_count(a, h), all = false;
    i32 bits = 32 - __builtin_clz((top ^ key(t.w.low)) | 1); // that are not the same in all keys
    Cut c = {0, 0};
#pragma unroll 1
    for (u32 mass = count ? 0 : 1; mass < (cuts_mass(h) ? 2 : 1); mass++) {
        block_sync(); // sums take turns within a pass
        double goal = mass ? (double)h.top_p * sum : (double)h.top_k, above = 0, refused = 0;
        u32 at = bits < 32 ? top >> bits << bits : 0;
        bool exact = false;
#pragma unroll 1
        for (i32 bit = mass && count ? bits : bits - 1; bit >= -1; bit--) {
            if (bit >= 0 && bit < bits && !t.few && (bits - 1 - bit) % 4 == 0) {
                gather(a, t, at, (2u << bit) - 1, refused, s);
                all = all || (t.few && bit == bits - 1);
            }
            // In the end, what is above the key; and before the beginning, what the number has kept.
            u32 from = bit == bits ? c.key + 1 : bit < 0 ? at + 1 : at | 1u << bit;
            double there = measured(t, from, mass, s, (u32)bit & 1);
            if (bit == bits) {
                goal = (double)h.top_p * (there + (double)c.ties * (double)weight(t.w, value(c.key)));
            } else if (bit < 0) {
                above = there;
            } else if (there >= goal || (mass && from <= c.key)) {
                at = from;
                if (!mass && there == goal) {
                    exact = true;
                    break;
                }
            } else {
                refused = there;
            }
        }
        if (exact) {
            c = {at - 1, 0};
        } else if (!mass) {
            c = {at, (u32)(goal - above)};
        } else {
            u32 limit = count && at == c.key ? c.ties : t.count;
            double each = weight(t.w, value(at)), ties = each > 0 ? (goal - above) / each : 1;
            if (ties < (double)limit) {
                u32 whole = ties > 1 ? (u32)ties : 1;
                limit = whole + ((double)whole < ties);
            }
            c = {at, limit};
        }
        if (!all) t.few = false, t.above = 0;
    }
    return c;
}

// log_floor returns what ln x is at least, for a normal x > 0: of log2 x it takes the chord between powers of two.
DEV float log_floor(float x) {
    u32 b = float_bits(x);
    float whole = (float)((i32)(b >> 23) - 127), part = bits_float((b & 0x7fffffu) | 0x3f800000u) - 1.0f;
    return (whole + part) * 0.693147181f;
}

// from_cut chooses from the first tokens.
DEV void from_cut(const Args& a, const How& h, const Weights& w, u32 best, Shared* s) {
    bool count = cuts_count(a, h);
    const u2* tops = a.tops + (u64)bx() * a.parts;
    Tokens t;
    t.w = w;
    t.logits = row(a.logits, bx());
    t.count = a.logits.cols;
    t.few = false;
    t.above = 0;
    double sum = 0;
    if (count && h.top_k <= a.parts) {
        for (u32 i = tid(); i < a.parts; i += draw_threads) {
            u2 mine = ld(tops + i);
            u32 before = 0;
            for (u32 j = 0; j < a.parts; j++) {
                u2 o = ld(tops + j);
                before += o.x > mine.x || (o.x == mine.x && j < i);
            }
            if (before == h.top_k - 1) sst(&s->part, mine.x);
        }
        block_sync();
        u32 bound = sld(&s->part);
        if (bound > lowest_key) t.w.low = max(t.w.low, value(bound));
        block_sync();
    } else if (!count) {
        for (u32 i = tid(); i < a.parts; i += draw_threads) sum += ld(a.sums + (u64)bx() * a.parts + i);
        sum = total(sum, s, 0);
        float rest = (float)(sum * (1.0 - (double)h.top_p)) / (float)t.count;
        // Rounded away from all that might belong to the nucleus; where the logits leave F32's range nothing is left out.
        if (rest > 1e-30f) t.w.low = max(t.w.low, w.top + (log_floor(rest) * 1.0001f - 1e-3f) / w.scale);
    }
    Cut c = cut(a, h, t, best, sum, s);

    // A thread has tokens side by side: the sum of their weights, then the one of them that the draw falls to.
    u32 each = (t.count + draw_threads - 1) / draw_threads, begin = min(tid() * each, t.count), end = min(begin + each, t.count);
    u32 ties = 0;
    if (t.few) {
#pragma unroll
        for (u32 i = 0; i < held; i++) ties += t.keys[i] == c.key;
    } else {
#pragma unroll 4
        for (u32 i = begin; i < end; i++) ties += key_at(t, i) == c.key;
    }
    ties = (u32)running((double)ties, s).before;
    double own = 0;
    u32 seen = ties;
    if (t.few) {
#pragma unroll
        for (u32 i = 0; i < held; i++) own += kept(t.keys[i], t.weights[i], c, &seen);
    } else {
#pragma unroll 4
        for (u32 i = begin; i < end; i++) {
            u32 k = key_at(t, i);
            own += kept(k, weight(t.w, value(k)), c, &seen);
        }
    }
    Running r = running(own, s);
    double goes = h.draw * r.total;
    if (located(own, r.before, goes, s) != tid()) return;
    sum = r.before;
    u32 at = 0;
    seen = ties;
    if (t.few) {
#pragma unroll
        for (u32 i = 0; i < held; i++) {
            double v = kept(t.keys[i], t.weights[i], c, &seen);
            if (v > 0 && sum <= goes) at = i;
            sum += v;
        }
        at = sld(s->ids + tid() * held + at);
    } else {
#pragma unroll 1
        for (u32 i = begin; i < end; i++) {
            u32 k = key_at(t, i);
            double v = kept(k, weight(t.w, value(k)), c, &seen);
            if (v > 0 && sum <= goes) at = i;
            sum += v;
        }
    }
    st(a.ids.p + bx(), (i32)at);
}

struct FollowArgs {
    Mat<i32> ids;
    Mat<const i32> chosen;
};

} // namespace choose

// Largest logit of each part, a warp a part. Reads 4 bytes a logit, of rows that choose; 2 kB a warp on their way.
KERNEL(choose_top, choose::Args, 256) {
    u32 i = by() * (choose::threads / 32) + warp();
    if (i >= a.parts || choose::how(a).scale < 0) return;
    u32 begin = i * choose::part, n = min(choose::part, a.logits.cols - begin);
    const float* x = row(a.logits, bx()) + begin;
    bool read = wide(a.logits);
    Quad v[choose::part / 128];
#pragma unroll
    for (u32 k = 0; k < choose::part / 128; k++) {
        u32 col = k * 128 + lane() * 4;
        v[k] = Quad{};
        if (col < n) v[k] = load_quad(x + col, n - col, read);
    }
    u2 best = {0, choose::none};
#pragma unroll
    for (u32 k = 0; k < choose::part / 128; k++)
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            u32 col = k * 128 + lane() * 4 + j;
            if (col < n) best = choose::first(best, u2{choose::key(v[k].v[j]), begin + col});
        }
    best = choose::warp_first(best);
    if (lane() == 0) st(a.tops + (u64)bx() * a.parts + i, best);
}

// Sum of the weights of each part, a warp a part, for rows that need the sum of all. Reads 4 bytes a logit.
KERNEL(choose_weigh, choose::Args, 256) {
    choose::How h = choose::how(a);
    if (!(h.scale > 0) || choose::cuts_count(a, h)) return;
    u2 best = choose::largest(a, (u2*)smem());
    u32 i = by() * (choose::threads / 32) + warp();
    if (i >= a.parts || !choose::possible(best)) return;
    choose::Weights w = choose::weights(h, best.x);
    u32 begin = i * choose::part, n = min(choose::part, a.logits.cols - begin);
    const float* x = row(a.logits, bx()) + begin;
    bool read = wide(a.logits);
    Quad v[choose::part / 128];
#pragma unroll
    for (u32 k = 0; k < choose::part / 128; k++) {
        u32 col = k * 128 + lane() * 4;
        v[k] = Quad{};
        if (col < n) v[k] = load_quad(x + col, n - col, read);
    }
    double sum = 0;
#pragma unroll
    for (u32 k = 0; k < choose::part / 128; k++)
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            if (k * 128 + lane() * 4 + j < n) sum += choose::weight(w, v[k].v[j]);
    sum = choose::warp_total(sum);
    if (lane() == 0) st(a.sums + (u64)bx() * a.parts + i, sum);
}

// KERNEL_ALONE is KERNEL, for one block at a time on a multiprocessor: it gives a thread of 512 up to 128 registers.
#ifdef __CUDA_ARCH__
#define KERNEL_ALONE(name, Args, threads) \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, 1))) void name(const Args a)
#else
#define KERNEL_ALONE(name, Args, threads) KERNEL(name, Args, threads)
#endif

// The choice, a block a row.
KERNEL_ALONE(choose_draw, choose::Args, 512) {
    choose::How h = choose::how(a);
    choose::Shared* s = (choose::Shared*)smem();
    if (h.scale < 0) {
        if (tid() == 0) st(a.ids.p + bx(), (i32)-1);
        return;
    }
    u2 best = choose::largest(a, s->tops);
    if (!choose::possible(best) || !(h.scale > 0)) {
        if (tid() == 0) st(a.ids.p + bx(), choose::possible(best) ? (i32)best.y : -1);
        return;
    }
    choose::Weights w = choose::weights(h, best.x);
    if (choose::cuts_count(a, h) || choose::cuts_mass(h))
        choose::from_cut(a, h, w, best.x, s);
    else
        choose::from_all(a, h, w, s);
}

// ids[i] below 0 becomes what was chosen for row -1-ids[i] of the step before. Moves a few bytes.
KERNEL(choose_follow, choose::FollowArgs, 256) {
    u32 i = bx() * 256 + tid();
    if (i >= a.ids.rows) return;
    i32 id = ld(a.ids.p + i);
    if (id < 0) st(a.ids.p + i, max(ld(a.chosen.p + (u32)(-1 - id)), 0));
}
