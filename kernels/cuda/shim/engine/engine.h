// engine.h is what the parts of the SIMT engine share: the state of a block that runs, and the way out of a kernel that
// did what it may not. Kernels do not include it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <signal.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <ucontext.h>
#include <vector>

#include "../../src/tk.h" // last: it takes names that the C library has for doubles

namespace tk {

// Results of the driver that a fault in a kernel ends with.
constexpr int illegal_address = 700, launch_timeout = 702, misaligned_address = 716, launch_failed = 719;

struct Fault {
    int code = 0; // 0 for none
    std::string text;
};

struct Dim {
    u32 x, y, z;
};

constexpr u32 max_threads = 1024, max_shared = 227 << 10;

// Copy is a cp.async that was issued and not yet waited for.
struct Copy {
    u32 offset; // in shared memory
    u32 group;
    const u8* from; // nullptr for zeros
};

// A Release is what a block makes known to who acquires from it: what it did before epoch, and what thread did before turn, which
// is not 0 (races.cpp).
struct Release {
    u32 epoch;
    u16 thread;
    u32 turn;
};
typedef std::map<u32, Release> Releases; // by block

// Fiber is one thread of a block, between the switches.
struct Fiber {
    void* sp;
    u32 group; // of copies, that is open
    u32 spins; // loads that may have waited for another thread
    std::vector<Copy> copies;
    u32 turn;      // fences and releases so far
    Release fence; // what an atomic makes known since the last fence
    Releases found, acquired; // by atomics, and by those and a fence
};

// Warp is where its 32 lanes meet. A lane puts what it brings into its own slot, and finds there what it gets.
struct Warp {
    u32 waiting, blocked, done; // masks of lanes: in a collective, at the block's barrier, returned
    u32 syncs;                  // warp_syncs since the block's last barrier
    u32 next, step, start;      // the lanes run in the order start + step·i (mod 32), from i = next on
    const char* what;           // the collective that the waiting lanes are in
    Site at;
    u32 in[32], out[32];
    u64 row[32];
    u32 a[32][4], b[32][2];
    float c[32][4];
    i32 d[32][4];
    u32 r[32][4];
};

// Worker runs blocks, one at a time, on one thread of the operating system.
struct Worker {
    Worker();
    ~Worker();
    bool run(const Kernel& k, const void* args, Dim grid, u64 block, u32 threads, u32 shared, u64 seed, Fault& f);

    Fiber fibers[max_threads];
    Warp warps[max_threads / 32];
    u32 warp_count, warp_next, warp_start; // warps run in the order start + i (mod count), from i = next on
    u32 barrier_count;                     // threads at the barrier
    Site barrier_at;
    u32 live; // threads that have not returned
    u64 epoch, first_epoch;
    u64 random;
    u64 mma; // for the counts
    const Kernel* kernel;
    const void* args;
    void* scheduler; // stack of run, while a fiber runs
    Fault* fault;
    u8* stacks;
    u32 stacks_ready;
    u8* spare;     // a stack for what has none left
    u64 trap;      // the address that ended a kernel
    bool running;  // a fiber of the worker runs
    u8* window;  // addresses of shared memory in the kernel's eyes, where nothing is mapped
    u8* backing; // its bytes
    struct Shadow* words;
    struct Shadow* bytes;
    struct Open* open = nullptr; // requests that are counted (traffic.cpp)
};
extern thread_local Worker* worker;

// A stamp holds, from the top: epoch, 18 bits, the barriers that the worker has seen, so that what an earlier block left is
// told from what this one wrote; syncs, 16 bits, the warp's since the barrier; thread, 10 bits; line, 16 bits; marks, 4.
constexpr u32 epoch_shift = 46, syncs_shift = 30, thread_shift = 20, line_shift = 4;
constexpr u64 epochs = 1 << 18, max_syncs = (1 << 16) - 1, max_line = (1 << 16) - 1;

inline u64 stamp(u64 epoch, u32 syncs, u32 tid) {
    return epoch << epoch_shift | (u64)syncs << syncs_shift | (u64)tid << thread_shift;
}

// Shadow says who wrote and who read a word, or a byte, of shared memory last.
struct Shadow {
    u64 write, read;
};

// A collective is: meet_enter, then, in the lane that came last and gets true, the work of all 32, then meet_done.
bool meet_enter(Worker& k, Warp& w, const char* what, Site at);
void meet_done(Worker& k, Warp& w);
void set_stamp();   // after a warp_sync
void spin(Site at); // lets others run, for a thread that may be waiting for them

void shared_read_all(u64 offset, u32 lane, Site at); // a row of 16 bytes that a whole warp reads
void shared_begin_copy(u64 offset, Site at);         // 16 bytes that a copy will write
void shared_end_copy(u64 offset);                    // the same, now written
[[noreturn]] void fail(int code, Site at, const char* format, ...) __attribute__((format(printf, 3, 4)));
[[noreturn]] void fail_at(int code, const char* file, u32 line, const char* format, ...) __attribute__((format(printf, 4, 5)));

// Counts of a kernel since the last reset.
struct Counts {
    std::atomic<u64> launches, blocks, read, written, mma;
    std::atomic<u64> shared, passes; // accesses to shared memory by 128 bytes, and passes over its banks that they take (traffic.cpp)
    std::atomic<u64> asked, sectors; // bytes of global memory that warps asked for, and sectors of 32 that they lie in
};
Kernel* kernels();
Kernel* find(const char* name);

// launch runs a grid and returns whether it ended well.
bool launch(const Kernel& k, Dim grid, u32 threads, u32 shared, const void* args, Fault& f);
void set_seed(u64 seed);
void set_threads(u32 threads);

// What races.cpp is told, where races is set.
void races_begin_launch();
void races_begin_block(Worker& k, u32 block, u32 threads);
void races_forget(u64 address, u64 bytes); // memory that is freed
void races_fence();
void races_atomic_add(const void* p);
void races_load_acquire(const void* p);
void races_store_release(const void* p);
void races_barrier(); // all threads of the block are at it

// What traffic.cpp is told, where traffic is set.
void traffic_met(u32 warp); // the lanes of a warp of the block have met, or the block has ended

// Memory of the device. allocate returns an address that kernels use, or 0; host is where its bytes are, nullptr when the
// range is not within one allocation.
void open_heap();
u64 allocate(u64 bytes);
bool release(u64 address);
u8* host(u64 address, u64 bytes);
// pin makes memory of the host known at its own address, for kernels to use.
void pin(u8* p, u64 bytes);
bool unpin(u8* p);
bool pinned(const void* p, u64 bytes);

} // namespace tk
