// engine.cpp runs the threads of a block as fibers, and says which one goes on when one has to wait. Lanes, warps and blocks
// take turns in an order drawn from a seed, so that nothing can rely on one.
#include "engine.h"
#include "fiber.h"

namespace tk {

thread_local Lane now;
thread_local Worker* worker;

namespace {

constexpr size_t stack_bytes = 64 << 10, guard_bytes = 4 << 10, window_bytes = 256 << 10;
constexpr u32 nobody = max_threads;

u64 seed = 1;
u32 os_threads = 1;

u8* map(size_t bytes, int protection) {
    void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort(); // address space, not memory: there is no machine on which it runs out
    return (u8*)p;
}

u64 scramble(u64 x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

u32 draw(Worker& k) {
    k.random ^= k.random << 13;
    k.random ^= k.random >> 7;
    k.random ^= k.random << 17;
    return (u32)(k.random >> 32);
}

bool same(const Site& a, const Site& b) { return memcmp(&a, &b, sizeof(Site)) == 0; }

const char* base(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// reorder draws another order for the lanes of a warp.
void reorder(Worker& k, Warp& w) {
    u32 r = draw(k);
    w.start = r & 31;
    w.step = (r >> 5 & 31) | 1;
    w.next = 0;
}

u32 next_lane(Worker& k, u32 index) {
    Warp& w = k.warps[index];
    u32 stopped = w.waiting | w.blocked | w.done;
    if (stopped == ~0u) return nobody;
    for (;;) {
        u32 l = (w.start + w.step * w.next++) & 31;
        if (!(stopped >> l & 1)) return index * 32 + l;
    }
}

// next_warp returns a thread of the first warp that can run, or nobody.
u32 next_warp(Worker& k) {
    for (u32 i = 0; i < k.warp_count; i++) {
        u32 index = k.warp_start + k.warp_next;
        if (index >= k.warp_count) index -= k.warp_count;
        u32 t = next_lane(k, index);
        if (t != nobody) return t;
        if (++k.warp_next == k.warp_count) k.warp_next = 0;
    }
    return nobody;
}

void take_over(Worker& k, u32 t) {
    now.tid = t;
    now.stamp = stamp(k.epoch, k.warps[t / 32].syncs, t);
}

// go leaves the running thread for thread t.
void go(Worker& k, u32 t) {
    u32 from = now.tid;
    if (from == t) return;
    take_over(k, t);
    tk_switch(&k.fibers[from].sp, k.fibers[t].sp);
}

// stuck ends a block in which no thread of warp index, or of the block, can run.
[[noreturn]] void stuck(Worker& k, u32 index) {
    Warp& w = k.warps[index];
    if (w.waiting) {
        now.tid = index * 32 + (u32)__builtin_ctz(w.waiting);
        if (w.done)
            fail(launch_failed, w.at, "waits in %s for lane %d, which has returned", w.what, __builtin_ctz(w.done));
        fail(launch_failed, w.at, "waits in %s for lane %d, which waits in block_sync in %s:%u", w.what,
             __builtin_ctz(w.blocked), base(k.barrier_at.file_name()), (u32)k.barrier_at.line());
    }
    for (u32 t = 0; t < now.nthreads; t++)
        if (k.warps[t / 32].blocked >> (t % 32) & 1) {
            now.tid = t;
            break;
        }
    fail(launch_failed, k.barrier_at, "waits in block_sync, which %u of %u threads reached: the others have returned",
         k.barrier_count, now.nthreads);
}

// leave goes from a thread that has to wait to one that can run.
void leave(Worker& k) {
    u32 index = now.tid / 32, t = next_lane(k, index);
    if (t == nobody) {
        if (k.warps[index].waiting) stuck(k, index);
        t = next_warp(k);
        if (t == nobody) stuck(k, index);
    }
    go(k, t);
}

void entry() {
    Worker& k = *worker;
    k.kernel->run(k.args);
    k.warps[now.tid / 32].done |= 1u << (now.tid & 31);
    if (--k.live == 0) {
        void* gone;
        tk_switch(&gone, k.scheduler);
    }
    leave(k);
    abort();
}

// A kernel that goes around ld and st, or uses up its stack, meets memory that is not mapped. The handler sends the thread
// to trapped, on another stack.
[[noreturn]] void trapped() {
    Worker& k = *worker;
    if (k.trap - (u64)k.stacks < max_threads * stack_bytes)
        fail_at(launch_failed, "", 0, "uses more than %zu KB of stack", (stack_bytes - guard_bytes) >> 10);
    fail_at(illegal_address, "", 0, "goes around ld and st to address %#llx", k.trap);
}

struct sigaction old_segv;

void on_segv(int sig, siginfo_t* info, void* context) {
    Worker* k = worker;
    if (!k || !k->running) {
        // It is not ours: what was there before takes it, or the program ends as it would have.
        if (old_segv.sa_flags & SA_SIGINFO)
            old_segv.sa_sigaction(sig, info, context);
        else
            signal(sig, SIG_DFL);
        return;
    }
    k->trap = (u64)info->si_addr;
    u64 top = (u64)k->spare + stack_bytes;
    ucontext_t* u = (ucontext_t*)context;
#if defined(__x86_64__)
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)(u64)trapped;
    u->uc_mcontext.gregs[REG_RSP] = (greg_t)(top - 8);
#else
    u->uc_mcontext.pc = (u64)trapped;
    u->uc_mcontext.sp = top;
#endif
}

void catch_traps() {
    struct sigaction a = {};
    a.sa_sigaction = on_segv;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK; // on the stack that the host program has for signals
    sigaction(SIGSEGV, &a, &old_segv);
}

void release_traps() { sigaction(SIGSEGV, &old_segv, nullptr); }

// Workers are kept for the next launch: their stacks are warm.
std::mutex idle_lock;
std::vector<Worker*> idle;

Worker* take() {
    std::lock_guard<std::mutex> l(idle_lock);
    if (idle.empty()) return new Worker();
    Worker* k = idle.back();
    idle.pop_back();
    return k;
}

void put_back(Worker* k) {
    std::lock_guard<std::mutex> l(idle_lock);
    idle.push_back(k);
}

} // namespace

Worker::Worker() {
    stacks = map(max_threads * stack_bytes, PROT_READ | PROT_WRITE);
    stacks_ready = 0;
    window = map(window_bytes, PROT_NONE);
    backing = map(window_bytes, PROT_READ | PROT_WRITE);
    words = (Shadow*)map(window_bytes / 4 * sizeof(Shadow), PROT_READ | PROT_WRITE);
    bytes = (Shadow*)map(window_bytes * sizeof(Shadow), PROT_READ | PROT_WRITE);
    spare = map(stack_bytes, PROT_READ | PROT_WRITE);
    epoch = 1;
    mma = 0;
    running = false;
}

Worker::~Worker() {
    munmap(stacks, max_threads * stack_bytes);
    munmap(spare, stack_bytes);
    munmap(window, window_bytes);
    munmap(backing, window_bytes);
    munmap(words, window_bytes / 4 * sizeof(Shadow));
    munmap(bytes, window_bytes * sizeof(Shadow));
}

bool Worker::run(const Kernel& k, const void* arguments, Dim grid, u64 block, u32 threads, u32 shared, u64 s, Fault& f) {
    kernel = &k;
    args = arguments;
    fault = &f;
    random = scramble(s) | 1;
    if (++epoch > epochs / 2) {
        memset(words, 0, window_bytes / 4 * sizeof(Shadow));
        epoch = 1;
    }
    first_epoch = epoch;
    if (races) races_begin_block(*this, (u32)block, threads);
    now.nthreads = threads;
    now.gx = grid.x, now.gy = grid.y, now.gz = grid.z;
    now.bx = (u32)(block % grid.x), now.by = (u32)(block / grid.x % grid.y), now.bz = (u32)(block / grid.x / grid.y);
    now.shared = (u64)window;
    now.shared_bytes = shared;
    now.backing = backing;
    live = threads;
    barrier_count = 0;
    warp_count = threads / 32;
    warp_next = 0;
    warp_start = draw(*this) % warp_count;
    for (u32 i = 0; i < warp_count; i++) {
        Warp& w = warps[i];
        w.waiting = w.blocked = w.done = w.syncs = 0;
        reorder(*this, w);
    }
    for (u32 t = 0; t < threads; t++) {
        u8* stack = stacks + t * stack_bytes;
        if (t == stacks_ready) {
            mprotect(stack, guard_bytes, PROT_NONE);
            stacks_ready++;
        }
        // Tops are spread over a page, or all stacks would want the same lines of the cache.
        fibers[t].sp = new_stack(stack + stack_bytes - t * 5 % 64 * 64, entry);
        fibers[t].group = fibers[t].spins = 0;
        fibers[t].copies.clear();
    }
    worker = this;
    take_over(*this, next_warp(*this));
    running = true;
    tk_switch(&scheduler, fibers[now.tid].sp);
    running = false;
    for (u32 i = 0; traffic && i < warp_count; i++) traffic_met(i);
    return f.code == 0;
}

bool meet_enter(Worker& k, Warp& w, const char* what, Site at) {
    if (!w.waiting) {
        w.what = what;
        w.at = at;
    } else if (w.what != what || !same(w.at, at)) {
        fail(launch_failed, at, "is in %s, while lane %d of its warp is in %s in %s:%u", what, __builtin_ctz(w.waiting),
             w.what, base(w.at.file_name()), (u32)w.at.line());
    }
    w.waiting |= 1u << (now.tid & 31);
    if (w.waiting == ~0u) return true;
    leave(k);
    return false;
}

void meet_done(Worker& k, Warp& w) {
    w.waiting = 0;
    if (traffic) traffic_met((u32)(&w - k.warps));
    reorder(k, w);
    if (k.warp_count == 1 || (draw(k) & 15)) return;
    // Now and then another warp goes first.
    k.warp_start = draw(k) % k.warp_count;
    k.warp_next = 0;
    u32 t = next_warp(k);
    go(k, t);
}

void set_stamp() { take_over(*worker, now.tid); }

void spin(Site at) {
    Worker& k = *worker;
    if (++k.fibers[now.tid].spins > 1 << 14)
        fail(launch_timeout, at, "waits for a value that no running block writes (blocks run one after another)");
    if (++k.warp_next == k.warp_count) k.warp_next = 0;
    u32 t = next_warp(k);
    go(k, t);
}

void fail_at(int code, const char* file, u32 line, const char* format, ...) {
    char what[600], text[900];
    va_list l;
    va_start(l, format);
    vsnprintf(what, sizeof what, format, l);
    va_end(l);
    char where[200] = "";
    if (line) snprintf(where, sizeof where, "%s:%u: ", base(file), line);
    snprintf(text, sizeof text, "kernel %s, block (%u,%u,%u), thread %u (warp %u, lane %u), %s%s", worker->kernel->name,
             now.bx, now.by, now.bz, now.tid, now.tid / 32, now.tid % 32, where, what);
    worker->fault->code = code;
    worker->fault->text = text;
    void* gone;
    tk_switch(&gone, worker->scheduler);
    abort();
}

void fail(int code, Site at, const char* format, ...) {
    char what[600];
    va_list l;
    va_start(l, format);
    vsnprintf(what, sizeof what, format, l);
    va_end(l);
    fail_at(code, at.file_name(), (u32)at.line(), "%s", what);
}

void reject(const char* what, Site at) { fail(launch_failed, at, "%s", what); }

// ---------------------------------------------------------------------------------------------------- launches

namespace {

// The table is filled while the library loads, in no particular order of files.
Kernel* first_kernel;

} // namespace

Kernel::Kernel(const char* n, u32 a, u32 t, void (*r)(const void*)) : name(n), args(a), threads(t), run(r), counts(new Counts()) {
    next = first_kernel;
    first_kernel = this;
}

Kernel* kernels() { return first_kernel; }

Kernel* find(const char* name) {
    for (Kernel* k = first_kernel; k; k = k->next)
        if (strcmp(k->name, name) == 0) return k;
    return nullptr;
}

void set_seed(u64 s) { seed = s; }
void set_threads(u32 n) { os_threads = std::clamp(n, 1u, 64u); }

bool launch(const Kernel& k, Dim grid, u32 threads, u32 shared, const void* args, Fault& f) {
    u64 total = (u64)grid.x * grid.y * grid.z;
    u64 s = scramble(seed += 0x9e3779b97f4a7c15u);
    // Blocks run in the order start + step·i (mod total).
    u64 start = s % total, step = scramble(s) % total | 1;
    while (std::gcd(step, total) != 1) step += 2;
    std::atomic<u64> next{0};
    std::atomic<bool> failed{false};
    std::mutex lock;
    auto work = [&] {
        Worker* w = take();
        now = Lane();
        w->mma = 0;
        u64 blocks = 0;
        Fault mine;
        for (u64 i; !failed && (i = next++) < total; blocks++) {
            u64 block = (u64)((start + (unsigned __int128)step * i) % total);
            if (w->run(k, args, grid, block, threads, shared, s + i, mine)) continue;
            std::lock_guard<std::mutex> l(lock);
            if (!failed.exchange(true)) f = mine;
        }
        k.counts->blocks += blocks;
        k.counts->read += now.read;
        k.counts->written += now.written;
        k.counts->mma += w->mma;
        put_back(w);
    };
    k.counts->launches++;
    if (races) races_begin_launch();
    catch_traps();
    std::vector<std::thread> others;
    if (os_threads > 1 && total > 1 && !races) { // blocks that are watched run one after another
        // Signals are for the threads that the host program knows.
        sigset_t all, old;
        sigfillset(&all);
        sigdelset(&all, SIGSEGV);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        for (u64 i = 1; i < std::min<u64>(os_threads, total); i++) others.emplace_back([&] {
            std::vector<char> stack(64 << 10);
            stack_t alternative = {stack.data(), 0, stack.size()};
            sigaltstack(&alternative, nullptr);
            work();
            alternative.ss_flags = SS_DISABLE;
            sigaltstack(&alternative, nullptr);
        });
        pthread_sigmask(SIG_SETMASK, &old, nullptr);
    }
    work();
    for (auto& t : others) t.join();
    release_traps();
    return !failed;
}

} // namespace tk

void block_sync(Site at) {
    using namespace tk;
    Worker& k = *worker;
    if (k.barrier_count == 0)
        k.barrier_at = at;
    else if (!same(k.barrier_at, at))
        fail(launch_failed, at, "is in block_sync, while other threads are in the one in %s:%u", base(k.barrier_at.file_name()),
             (u32)k.barrier_at.line());
    k.warps[now.tid / 32].blocked |= 1u << (now.tid & 31);
    if (++k.barrier_count < now.nthreads) {
        leave(k);
        return;
    }
    if (races) races_barrier();
    for (u32 i = 0; traffic && i < k.warp_count; i++) traffic_met(i);
    if (++k.epoch == epochs) fail(launch_failed, at, "passes more barriers than the checks can count in one block");
    k.barrier_count = 0;
    for (u32 i = 0; i < k.warp_count; i++) {
        Warp& w = k.warps[i];
        w.blocked = w.syncs = 0;
        reorder(k, w);
    }
    k.warp_start = draw(k) % k.warp_count;
    k.warp_next = 0;
    u32 t = next_warp(k);
    if (t == now.tid)
        set_stamp();
    else
        go(k, t);
}
