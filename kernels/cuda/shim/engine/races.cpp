// races.cpp finds accesses to global memory that nothing orders, within a launch: two threads on one byte, one of them writing.
// In order, as PTX has it (memory consistency model, causality order), are
//   - in a block: what stands before and after a block_sync, and in a warp a warp_sync;
//   - between blocks: what a block did before its release and another does after it acquired from it. A thread releases by a
//     fence() and an atomic_add after it, or st_release: what it did itself before the fence, what its block did before the last
//     block_sync before that, and what it had acquired. A thread acquires by an atomic_add that finds what was released there
//     and a fence() after it, or ld_acquire: for itself, and from its next block_sync on for its block;
//   - atomics, st_release and ld_acquire among each other.
// A word that several blocks have read may not be written in the same launch, even by one that has acquired from all of them: who
// they were is not kept. What ld_stream reads may not be written in the launch at all.
//
// Blocks run one after another here, so that all this is only seen by counting. It takes 12 bytes for one of memory.
#include "engine.h"

namespace tk {

bool races;

namespace {

// Marks of a touch: by an atomic or the like; since the block's last barrier, read by several threads, and by several warps; read by
// several blocks.
constexpr u16 strong = 1, many_threads = 2, many_warps = 4, many_blocks = 8;

// Touch is an access by a thread; that of launch 0 is none.
struct Touch {
    u32 launch, block;
    u32 epoch; // the block's barriers so far
    u32 turn;  // the thread's fences and releases so far
    u16 syncs; // the warp's since the barrier
    u16 thread, line, marks;
};

// Entry is who wrote a byte or a word last, and who read it since.
struct Entry {
    Touch write, read;
};

u32 launches;
u32 block; // that runs
Entry* words;
std::map<u64, Entry[4]> split; // words, by number, of which parts were touched

std::map<u64, Releases> released; // by address of the atomic, of this launch
Releases acquired;                // by the block that runs, before its last barrier
bool acquiring;                   // a thread has acquired since

u32 barriers() { return (u32)(worker->epoch - worker->first_epoch); }

void merge(Releases& to, const Releases& from) {
    for (auto& [b, r] : from) {
        auto [it, fresh] = to.insert({b, r});
        if (!fresh && it->second.epoch <= r.epoch) it->second = r;
    }
}

bool holds(const Releases& all, const Touch& t) {
    if (all.empty()) return false;
    auto it = all.find(t.block);
    if (it == all.end()) return false;
    const Release& r = it->second;
    return t.epoch < r.epoch || (t.thread == r.thread && t.turn < r.turn && !(t.marks & many_threads));
}

// ordered reports whether t was before m.
bool ordered(const Touch& t, const Touch& m) {
    if (t.launch != m.launch) return true;
    if (t.block != m.block) return holds(acquired, t) || holds(worker->fibers[m.thread].acquired, t);
    if (t.epoch != m.epoch) return true;
    if (t.marks & many_warps) return false;
    return (t.thread == m.thread && !(t.marks & many_threads)) || (t.thread / 32 == m.thread / 32 && t.syncs != m.syncs);
}

[[noreturn]] void race(u64 address, const char* verb, const Touch& t, const char* did, Site at) {
    fail(illegal_address, at, "global memory at %#llx: race: %s, while thread %u of block %u %s it in line %u with no order between", address, verb,
         t.thread, t.block, did, t.line);
}

void check(Entry& e, u64 address, bool store, Kind kind, Touch m, Site at) {
    const Touch w = e.write, r = e.read;
    if (kind == Kind::constant && w.launch == m.launch) race(address, "read by ld_stream", w, "wrote", at);
    if (!(kind == Kind::strong && (w.marks & strong)) && !ordered(w, m)) race(address, store ? "written" : "read", w, "wrote", at);
    m.marks = kind == Kind::strong ? strong : 0;
    bool was_read = r.launch == m.launch;
    if (store) {
        if (was_read && !(m.marks & r.marks & strong) && ((r.marks & many_blocks) || !ordered(r, m)))
            race(address, "written", r, "(and maybe more) read", at);
        e.write = m;
        e.read.launch = 0; // what was before this write is with it
        return;
    }
    if (was_read && m.marks) return; // another was first, against which more has to be in order
    if (was_read && !(r.marks & strong)) {
        if (r.block != m.block)
            m.marks = many_blocks;
        else if (r.epoch != m.epoch)
            m.marks = r.marks & many_blocks;
        else if (r.thread / 32 != m.thread / 32)
            m.marks = (u16)(r.marks | many_threads | many_warps);
        else if (r.syncs == m.syncs)
            m.marks = (u16)(r.marks | (r.thread == m.thread ? 0 : many_threads));
        else
            m.marks = r.marks & many_warps ? r.marks : (u16)(r.marks & many_blocks);
    }
    e.read = m;
}

} // namespace

void races_begin_launch() {
    if (!words) {
        void* p = mmap(nullptr, heap.span / 4 * sizeof(Entry), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) abort(); // address space, not memory
        words = (Entry*)p;
    }
    launches++;
    split.clear();
    released.clear();
}

void races_begin_block(Worker& k, u32 b, u32 threads) {
    block = b;
    acquired.clear();
    acquiring = false;
    for (u32 t = 0; t < threads; t++) {
        Fiber& f = k.fibers[t];
        f.turn = 0;
        f.fence = {};
        f.found.clear();
        f.acquired.clear();
    }
}

void races_forget(u64 address, u64 bytes) {
    if (words) madvise(words + (address - heap.base) / 4, bytes / 4 * sizeof(Entry), MADV_DONTNEED);
}

void races_touch(const void* p, u32 bytes, bool store, Kind kind, Site at) {
    u64 offset = (u64)p - heap.base;
    if (offset >= heap.span) return; // memory of the host
    Touch m = {launches, block, barriers(), worker->fibers[now.tid].turn, (u16)worker->warps[now.tid / 32].syncs, (u16)now.tid, (u16)(at.line() & max_line), 0};
    for (u64 o = offset; o < offset + bytes; o += 4) {
        u64 word = o / 4;
        auto parts = split.find(word);
        if (bytes >= 4 && parts == split.end()) {
            check(words[word], (u64)p, store, kind, m, at);
            continue;
        }
        if (parts == split.end()) {
            parts = split.try_emplace(word).first;
            for (auto& part : parts->second) part = words[word];
        }
        u64 first = bytes < 4 ? o % 4 : 0, n = bytes < 4 ? bytes : 4;
        for (u64 i = first; i < first + n; i++) check(parts->second[i], (u64)p, store, kind, m, at);
    }
}

void races_fence() {
    Fiber& f = worker->fibers[now.tid];
    f.fence = {barriers(), (u16)now.tid, ++f.turn};
    if (f.found.empty()) return;
    merge(f.acquired, f.found);
    f.found.clear();
    acquiring = true;
}

void races_atomic_add(const void* p) {
    Fiber& f = worker->fibers[now.tid];
    Releases& here = released[(u64)p];
    merge(f.found, here);
    if (!f.fence.turn) return;
    merge(here, acquired);
    merge(here, f.acquired);
    here[block] = f.fence;
}

void races_load_acquire(const void* p) {
    auto it = released.find((u64)p);
    if (it == released.end()) return;
    merge(worker->fibers[now.tid].acquired, it->second);
    acquiring = true;
}

void races_store_release(const void* p) {
    Fiber& f = worker->fibers[now.tid];
    Releases here = acquired; // and not what others have released there, as an atomic_add hands on
    merge(here, f.acquired);
    here[block] = {barriers(), (u16)now.tid, ++f.turn};
    released[(u64)p] = here;
}

void races_barrier() {
    if (!acquiring) return;
    acquiring = false;
    Worker& k = *worker;
    for (u32 t = 0; t < now.nthreads; t++) {
        merge(acquired, k.fibers[t].acquired);
        k.fibers[t].acquired.clear();
    }
}

} // namespace tk
