// races.cpp finds accesses to global memory that nothing orders, within a launch: two threads on one byte, one of them writing.
// In order, as PTX has it (memory consistency model, causality order), are
//   - in a block: what stands before and after a block_sync, and in a warp a warp_sync;
//   - between blocks: what a block did before its release and another does after it acquired from it. A thread releases by a
//     fence() and an atomic_add after it, or st_release: what it did itself, and what its block did before its last
//     block_sync. A thread acquires by an atomic_add that finds what was released there and a fence() after it, or
//     ld_acquire: for itself, and from its next block_sync on for its block.
// Blocks run one after another here, so that all this is only seen by counting. It takes 10 bytes for one of memory.
#include "engine.h"

namespace tk {

bool races;

namespace {

// Marks of a touch: by an atomic; read by several threads of a block since its last barrier; by several blocks.
constexpr u16 strong = 1, many_threads = 2, many_blocks = 4;

// Touch is an access by a thread; that of launch 0 is none.
struct Touch {
    u32 launch, block, epoch; // epoch: the block's barriers so far
    u16 syncs, thread, line, marks;
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

void merge(Releases& to, const Releases& from) {
    for (auto& [b, r] : from) {
        auto [it, fresh] = to.insert({b, r});
        if (!fresh && it->second.epoch <= r.epoch) it->second = r;
    }
}

bool holds(const Releases& all, const Touch& t) {
    if (all.empty()) return false;
    auto it = all.find(t.block);
    return it != all.end() && (t.epoch < it->second.epoch || (t.thread == it->second.thread && !(t.marks & many_threads)));
}

Touch me(Site at) {
    Worker& k = *worker;
    return {launches, block, (u32)(k.epoch - k.first_epoch), (u16)k.warps[now.tid / 32].syncs, (u16)now.tid, (u16)(at.line() & max_line), 0};
}

// ordered reports whether t was before m.
bool ordered(const Touch& t, const Touch& m) {
    if (t.launch != m.launch) return true;
    if (t.block != m.block) return holds(acquired, t) || holds(worker->fibers[m.thread].acquired, t);
    if (t.epoch != m.epoch) return true;
    if (t.marks & many_threads) return false;
    return t.thread == m.thread || (t.thread / 32 == m.thread / 32 && t.syncs != m.syncs);
}

[[noreturn]] void race(u64 address, const char* verb, const Touch& t, const char* did, Site at) {
    fail(illegal_address, at, "global memory at %#llx: race: %s, while thread %u of block %u %s it in line %u with no order between", address, verb,
         t.thread, t.block, did, t.line);
}

void check(Entry& e, u64 address, bool store, bool atomic, Touch m, Site at) {
    if (!(atomic && (e.write.marks & strong)) && !ordered(e.write, m)) race(address, store ? "written" : "read", e.write, "wrote", at);
    if (store) {
        if (e.read.launch == m.launch && ((e.read.marks & many_blocks) || !ordered(e.read, m))) race(address, "written", e.read, "(and maybe more) read", at);
        m.marks = atomic ? strong : 0;
        e.write = m;
        e.read.launch = 0; // what was before this write is with it
        return;
    }
    Touch r = e.read;
    e.read = m;
    if (r.launch != m.launch) return;
    if (r.block != m.block) e.read.marks = many_blocks;
    else if (r.epoch != m.epoch || r.syncs != m.syncs) e.read.marks = r.marks & many_blocks;
    else e.read.marks = (u16)(r.marks | (r.thread == m.thread ? 0 : many_threads));
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

void races_begin_block(u32 b) {
    block = b;
    acquired.clear();
    acquiring = false;
}

void races_forget(u64 address, u64 bytes) {
    if (words) madvise(words + (address - heap.base) / 4, bytes / 4 * sizeof(Entry), MADV_DONTNEED);
}

void races_touch(const void* p, u32 bytes, bool store, bool atomic, Site at) {
    u64 offset = (u64)p - heap.base;
    if (offset >= heap.span) return; // memory of the host
    Touch m = me(at);
    for (u64 o = offset; o < offset + bytes; o += 4) {
        u64 word = o / 4;
        auto parts = split.empty() ? split.end() : split.find(word);
        if (bytes >= 4 && parts == split.end()) {
            check(words[word], (u64)p, store, atomic, m, at);
            continue;
        }
        if (parts == split.end()) {
            parts = split.try_emplace(word).first;
            for (auto& part : parts->second) part = words[word];
        }
        u64 first = bytes < 4 ? o % 4 : 0, n = bytes < 4 ? bytes : 4;
        for (u64 i = first; i < first + n; i++) check(parts->second[i], (u64)p, store, atomic, m, at);
    }
}

void races_fence() {
    Fiber& f = worker->fibers[now.tid];
    f.fenced = true;
    f.fence_epoch = (u32)(worker->epoch - worker->first_epoch);
    if (f.found.empty()) return;
    merge(f.acquired, f.found);
    f.found.clear();
    acquiring = true;
}

void races_atomic(const void* p, bool acquire, bool release, Site) {
    Fiber& f = worker->fibers[now.tid];
    Releases& here = released[(u64)p];
    if (acquire) {
        merge(f.acquired, here);
        acquiring = true;
    } else {
        merge(f.found, here);
    }
    if (release || f.fenced) here[block] = {release ? (u32)(worker->epoch - worker->first_epoch) : f.fence_epoch, (u16)now.tid};
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
