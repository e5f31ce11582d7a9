// stream.cpp answers as libcuda does for what goes through streams: copies, launches, events, and graphs.
#include "driver.h"

#include <chrono>

using namespace tk;

namespace tk {

Stream* find_stream(void* handle) {
    if (!handle || handle == (void*)1) return &driver.standard; // 1 names the default stream as well
    return driver.streams.count((Stream*)handle) ? (Stream*)handle : nullptr;
}

u64 this_thread() {
    static thread_local char c;
    return (u64)&c;
}

bool any_capture() {
    for (Stream* s : driver.streams)
        if (s->capture) return true;
    return false;
}

int unsafe_in_capture(const char* what) {
    int code = success;
    for (Stream* s : driver.streams) {
        Capture* c = s->capture.get();
        if (!c || c->mode == 2 || (c->mode == 1 && c->thread != this_thread())) continue;
        c->invalid = true;
        code = refuse(capture_unsupported, "%s while this thread captures a stream", what);
    }
    return code;
}

int put(Stream* s, Op op) {
    if (Capture* c = s->capture.get()) {
        if (c->invalid) return refuse(capture_invalidated, "the capture has ended with an earlier error");
        c->nodes.push_back(std::move(op));
        return success;
    }
    if (s == &driver.standard)
        for (Stream* other : driver.streams)
            if (other->capture && other->blocking) {
                other->capture->invalid = true;
                return refuse(capture_implicit, "the default stream is used while a stream that it waits for captures");
            }
    s->queue.push_back(std::move(op));
    return success;
}

namespace {

// front does the first piece of work of a stream.
int front(Stream& s) {
    Op op = std::move(s.queue.front());
    s.queue.pop_front();
    int code = op();
    if (code) {
        driver.dead = code;
        driver.why_dead = driver.said;
        drop_all();
    }
    return code;
}

} // namespace

int run(Stream& s, const Mark* until) {
    if (driver.dead) return driver.dead;
    if (s.blocking) // it and the default stream wait for each other
        for (Stream* other : driver.streams)
            if (&s == &driver.standard && other->blocking)
                while (!other->queue.empty())
                    if (int code = front(*other)) return code;
    if (s.blocking && &s != &driver.standard)
        while (!driver.standard.queue.empty())
            if (int code = front(driver.standard)) return code;
    while (!s.queue.empty() && !(until && until->done))
        if (int code = front(s)) return code;
    return success;
}

int run_all() {
    if (int code = run(driver.standard)) return code;
    for (Stream* s : driver.streams)
        if (int code = run(*s)) return code;
    return driver.dead;
}

void drop_all() {
    driver.standard.queue.clear();
    for (Stream* s : driver.streams) s->queue.clear();
}

namespace {

#define STREAM(name, handle)                    \
    Stream* name = find_stream(handle);         \
    if (!name) return refuse(invalid_handle, "%s in a stream that does not exist", __func__)

// range checks a piece of the device's memory.
int range(u64 address, size_t bytes, const char* what) {
    if (!bytes || host(address, bytes)) return success;
    return refuse(invalid_value, "%s of %zu bytes at %#llx, which is not in one allocation", what, bytes, address);
}

// copy is a copy between host pointers that looks its device's side up when it is done.
Op copy(u64 to, u64 from, size_t bytes) {
    return [=] {
        u8 *a = host(to, bytes), *b = host(from, bytes);
        if (!a || !b) return refuse(illegal_address, "a copy of %zu bytes whose memory was freed before it was done", bytes);
        memmove(a, b, bytes);
        return 0;
    };
}

} // namespace

} // namespace tk

// ---------------------------------------------------------------------------------------------------- copies

ENTRY cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (int code = range(to, bytes, "copy to the device")) return code;
    if (!bytes) return success;
    if (pinned(from, bytes)) return put(s, copy(to, (u64)from, bytes));
    if (s->capture) {
        s->capture->invalid = true;
        return refuse(capture_unsupported, "copy from memory that is not pinned in a capture");
    }
    // The driver waits for the stream and takes the bytes before it returns.
    if (int code = run(*s)) return code;
    memcpy(host(to, bytes), from, bytes);
    return success;
}

ENTRY cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (int code = range(from, bytes, "copy from the device")) return code;
    if (!bytes) return success;
    if (pinned(to, bytes)) return put(s, copy((u64)to, from, bytes));
    if (s->capture) {
        s->capture->invalid = true;
        return refuse(capture_unsupported, "copy to memory that is not pinned in a capture");
    }
    if (int code = run(*s)) return code;
    memcpy(to, host(from, bytes), bytes);
    return success;
}

ENTRY cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (int code = range(to, bytes, "copy within the device")) return code;
    if (int code = range(from, bytes, "copy within the device")) return code;
    if (!bytes) return success;
    return put(s, copy(to, from, bytes));
}

ENTRY cuMemcpyHtoD_v2(u64 to, const void* from, size_t bytes) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemcpyHtoD")) return code;
    if (int code = range(to, bytes, "copy to the device")) return code;
    if (int code = run(driver.standard)) return code;
    if (bytes) memcpy(host(to, bytes), from, bytes);
    return success;
}

ENTRY cuMemcpyDtoH_v2(void* to, u64 from, size_t bytes) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemcpyDtoH")) return code;
    if (int code = range(from, bytes, "copy from the device")) return code;
    if (int code = run(driver.standard)) return code;
    if (bytes) memcpy(to, host(from, bytes), bytes);
    return success;
}

ENTRY cuMemsetD8Async(u64 to, u8 value, size_t n, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (int code = range(to, n, "fill")) return code;
    return put(s, [=] {
        u8* p = host(to, n);
        if (n && !p) return refuse(illegal_address, "a fill of memory that was freed before it was done");
        if (n) memset(p, value, n);
        return 0;
    });
}

ENTRY cuMemsetD32Async(u64 to, u32 value, size_t n, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (to % 4) return refuse(invalid_value, "fill of words at an address that is not a multiple of 4");
    if (int code = range(to, n * 4, "fill")) return code;
    return put(s, [=] {
        u32* p = (u32*)host(to, n * 4);
        if (n && !p) return refuse(illegal_address, "a fill of memory that was freed before it was done");
        if (n) std::fill_n(p, n, value);
        return 0;
    });
}

// ---------------------------------------------------------------------------------------------------- streams and events

ENTRY cuStreamCreate(void** stream, u32 flags) {
    IN_CONTEXT;
    if (flags > 1) return refuse(invalid_value, "cuStreamCreate with flags %u", flags);
    *stream = *driver.streams.insert(new Stream{flags == 0, {}, nullptr}).first;
    return success;
}

ENTRY cuStreamDestroy_v2(void* stream) {
    IN_CONTEXT;
    if (!driver.streams.count((Stream*)stream)) return refuse(invalid_handle, "no such stream");
    Stream* s = (Stream*)stream;
    s->capture.reset();
    int code = run(*s);
    driver.streams.erase(s);
    delete s;
    return code;
}

ENTRY cuStreamSynchronize(void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (s->capture) {
        s->capture->invalid = true;
        return refuse(capture_unsupported, "cuStreamSynchronize of a stream that captures");
    }
    return run(*s);
}

// Queries do the work that is asked about, and say that it is not ready if there was any.
ENTRY cuStreamQuery(void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (s->capture) {
        s->capture->invalid = true;
        return refuse(capture_unsupported, "cuStreamQuery of a stream that captures");
    }
    bool idle = s->queue.empty();
    if (int code = run(*s)) return code;
    return idle ? success : not_ready;
}

ENTRY cuEventCreate(void** event, u32 flags) {
    IN_CONTEXT;
    *event = *driver.events.insert(new Event{!(flags & 2), nullptr}).first;
    return success;
}

ENTRY cuEventDestroy_v2(void* event) {
    IN_CONTEXT;
    if (!driver.events.erase((Event*)event)) return refuse(invalid_handle, "no such event");
    delete (Event*)event;
    return success;
}

#define EVENT(name, handle)      \
    Event* name = (Event*)handle; \
    if (!driver.events.count(name)) return refuse(invalid_handle, "%s of an event that does not exist", __func__)

ENTRY cuEventRecord(void* event, void* stream) {
    IN_CONTEXT;
    EVENT(e, event);
    STREAM(s, stream);
    auto m = std::make_shared<Mark>();
    m->stream = s;
    if (s->capture) m->capture = s->capture->id;
    e->mark = m;
    return put(s, [m] {
        m->done = true;
        m->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
        return 0;
    });
}

ENTRY cuEventQuery(void* event) {
    IN_CONTEXT;
    EVENT(e, event);
    if (!e->mark || e->mark->done) return success;
    if (e->mark->capture) return refuse(captured_event, "cuEventQuery of an event that was recorded in a capture");
    if (int code = run(*e->mark->stream, e->mark.get())) return code;
    return not_ready;
}

ENTRY cuEventSynchronize(void* event) {
    IN_CONTEXT;
    EVENT(e, event);
    if (!e->mark || e->mark->done) return success;
    if (e->mark->capture) return refuse(captured_event, "cuEventSynchronize of an event that was recorded in a capture");
    return run(*e->mark->stream, e->mark.get());
}

ENTRY cuEventElapsedTime(float* ms, void* from, void* to) {
    IN_CONTEXT;
    EVENT(a, from);
    EVENT(b, to);
    if (!a->timing || !b->timing || !a->mark || !b->mark) return refuse(invalid_handle, "cuEventElapsedTime of an event without a time");
    if (!a->mark->done || !b->mark->done) return not_ready;
    *ms = (float)((b->mark->seconds - a->mark->seconds) * 1e3);
    return success;
}

ENTRY cuStreamWaitEvent(void* stream, void* event, u32) {
    IN_CONTEXT;
    STREAM(s, stream);
    EVENT(e, event);
    auto m = e->mark;
    u64 capture = s->capture ? s->capture->id : 0;
    if (m && m->capture != capture) {
        if (!capture) return refuse(not_supported, "a capture spreads to a second stream, which is not done here");
        s->capture->invalid = true;
        return refuse(capture_isolation, "a stream that captures waits for what is not captured");
    }
    if (!m || m->done || capture) return success; // a capture has one stream, in order as it is
    return put(s, [m] { return m->done ? 0 : run(*m->stream, m.get()); });
}

// ---------------------------------------------------------------------------------------------------- launches

namespace {

// parameters finds the block of arguments in what cuLaunchKernel was given.
int parameters(const Kernel& k, void** params, void** extra, const void** args) {
    if (params && extra) return refuse(invalid_value, "kernel %s is given its arguments twice", k.name);
    if (params) {
        *args = params[0];
        return success;
    }
    const void* p = nullptr;
    size_t size = 0;
    for (; extra && *extra; extra += 2) {
        if (*extra == (void*)1)
            p = extra[1];
        else if (*extra == (void*)2)
            size = *(size_t*)extra[1];
        else
            return refuse(invalid_value, "kernel %s is given an extra of kind %p", k.name, *extra);
    }
    if (!p || size != k.args) return refuse(invalid_value, "kernel %s takes %u bytes of arguments, and was given %zu", k.name, k.args, size);
    *args = p;
    return success;
}

} // namespace

ENTRY cuLaunchKernel(void* function, u32 gx, u32 gy, u32 gz, u32 tx, u32 ty, u32 tz, u32 shared, void* stream, void** params, void** extra) {
    IN_CONTEXT;
    STREAM(s, stream);
    Function* f = nullptr;
    for (Module* m : driver.modules)
        for (auto& e : m->functions)
            if (e.second.get() == function) f = e.second.get();
    if (!f) return refuse(invalid_handle, "launch of a function that does not exist");
    const Kernel& k = *f->kernel;
    if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535)
        return refuse(invalid_value, "kernel %s is launched on %u x %u x %u blocks", k.name, gx, gy, gz);
    if (!tx || ty != 1 || tz != 1 || tx > k.threads || tx % 32)
        return refuse(invalid_value, "kernel %s is launched with blocks of %u x %u x %u threads, and takes up to %u in one row, a multiple of 32",
                      k.name, tx, ty, tz, k.threads);
    if (shared > f->dynamic_shared)
        return refuse(invalid_value, "kernel %s is launched with %u bytes of shared memory, and %u are allowed", k.name, shared, f->dynamic_shared);
    const void* args = nullptr;
    if (int code = parameters(k, params, extra, &args)) return code;
    if (s->capture && !f->loaded) {
        s->capture->invalid = true;
        return refuse(capture_unsupported, "kernel %s would be loaded in a capture, which may break it: load it before", k.name);
    }
    f->loaded = true;
    struct alignas(16) Chunk {
        u8 b[16];
    };
    auto bytes = std::make_shared<std::vector<Chunk>>((k.args + 15) / 16);
    memcpy(bytes->data(), args, k.args);
    return put(s, [=, &k] {
        Fault fault;
        if (launch(k, {gx, gy, gz}, tx, shared, bytes->data(), fault)) return 0;
        return refuse(fault.code, "%s", fault.text.c_str());
    });
}

// ---------------------------------------------------------------------------------------------------- graphs

ENTRY cuStreamBeginCapture_v2(void* stream, u32 mode) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (mode > 2) return refuse(invalid_value, "capture of mode %u", mode);
    if (s == &driver.standard) return refuse(capture_unsupported, "the default stream cannot be captured");
    if (s->capture) return refuse(illegal_state, "the stream captures already");
    s->capture.reset(new Capture{++driver.captures, mode, this_thread(), false, {}});
    return success;
}

ENTRY cuStreamEndCapture(void* stream, void** graph) {
    IN_CONTEXT;
    STREAM(s, stream);
    *graph = nullptr;
    if (!s->capture) return refuse(illegal_state, "the stream captures nothing");
    if (s->capture->mode != 2 && s->capture->thread != this_thread())
        return refuse(capture_wrong_thread, "a capture is ended by another thread than began it");
    std::unique_ptr<Capture> c = std::move(s->capture);
    if (c->invalid) return refuse(capture_invalidated, "the capture has ended with an earlier error");
    *graph = *driver.graphs.insert(new Graph{std::move(c->nodes)}).first;
    return success;
}

ENTRY cuStreamIsCapturing(void* stream, int* status) {
    IN_CONTEXT;
    STREAM(s, stream);
    *status = !s->capture ? 0 : s->capture->invalid ? 2 : 1;
    return success;
}

ENTRY cuGraphGetNodes(void* graph, void** nodes, size_t* n) {
    IN_CONTEXT;
    if (!driver.graphs.count((Graph*)graph)) return refuse(invalid_handle, "no such graph");
    if (nodes) return refuse(not_supported, "nodes cannot be looked at, only counted");
    *n = ((Graph*)graph)->nodes.size();
    return success;
}

ENTRY cuGraphInstantiateWithFlags(void** program, void* graph, u64) {
    IN_CONTEXT;
    if (!driver.graphs.count((Graph*)graph)) return refuse(invalid_handle, "no such graph");
    *program = *driver.programs.insert(new Program{std::make_shared<Nodes>(((Graph*)graph)->nodes)}).first;
    return success;
}

ENTRY cuGraphUpload(void* program, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    (void)s;
    if (!driver.programs.count((Program*)program)) return refuse(invalid_handle, "no such program");
    return success;
}

ENTRY cuGraphLaunch(void* program, void* stream) {
    IN_CONTEXT;
    STREAM(s, stream);
    if (!driver.programs.count((Program*)program)) return refuse(invalid_handle, "no such program");
    if (s->capture) {
        s->capture->invalid = true;
        return refuse(capture_unsupported, "a graph within a graph is not done here");
    }
    auto nodes = ((Program*)program)->nodes;
    return put(s, [nodes] {
        for (const Op& op : *nodes)
            if (int code = op()) return code;
        return 0;
    });
}

ENTRY cuGraphExecDestroy(void* program) {
    IN_CONTEXT;
    if (!driver.programs.erase((Program*)program)) return refuse(invalid_handle, "no such program");
    delete (Program*)program;
    return success;
}

ENTRY cuGraphDestroy(void* graph) {
    IN_CONTEXT;
    if (!driver.graphs.erase((Graph*)graph)) return refuse(invalid_handle, "no such graph");
    delete (Graph*)graph;
    return success;
}
