// driver.h is the state behind the entry points of libcuda: one device or several alike, a context for each, and what was
// put into streams. Work is done as late as it may be: when somebody waits for it. A caller that forgets to wait finds
// what it waits for undone, every time.
#pragma once

#include "engine.h"

#include <deque>
#include <functional>
#include <memory>
#include <set>

namespace tk {

// Results (cuda.h), those that are made here.
enum {
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    not_initialized = 3,
    no_device = 100,
    invalid_device = 101,
    invalid_context = 201,
    invalid_handle = 400,
    illegal_state = 401,
    not_found = 500,
    not_ready = 600,
    context_is_destroyed = 709,
    not_supported = 801,
    capture_unsupported = 900,
    capture_invalidated = 901,
    capture_isolation = 905,
    capture_implicit = 906,
    captured_event = 907,
    capture_wrong_thread = 908,
};

// Op is a piece of work in a stream or a node of a graph; it returns a result.
using Op = std::function<int()>;
using Nodes = std::vector<Op>;

struct Stream;

// Mark is one recording of an event.
struct Mark {
    Stream* stream;
    bool done = false;
    double seconds = 0;
    u64 capture = 0; // the capture it belongs to, 0 for none
};

struct Event {
    bool timing;
    std::shared_ptr<Mark> mark; // of the last recording
};

// Capture is a recording of a stream into a graph.
struct Capture {
    u64 id;
    u32 mode; // 0 global, 1 of this thread, 2 relaxed
    u64 thread;
    bool invalid = false;
    Nodes nodes;
};

struct Stream {
    bool blocking; // waits for the default stream, and that for it
    std::deque<Op> queue;
    std::unique_ptr<Capture> capture;
};

struct Context {
    int device;
    u32 retained = 0;
};

struct Function {
    Kernel* kernel;
    u32 dynamic_shared = 48 << 10; // the most that a launch may ask for
    bool loaded = false;           // onto the device, which drivers put off
};

struct Module {
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Graph {
    Nodes nodes;
};

struct Program {
    std::shared_ptr<Nodes> nodes;
};

// Driver is everything that eckart_shim_reset resets.
struct Driver {
    bool initialized = false;
    int dead = success; // what every call of a context returns after a fault
    std::string why_dead;
    int said_code = success;
    std::string said; // why a call was refused or a kernel ended, for cuGetErrorString and eckart_shim_message
    Context contexts[8] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
    Stream standard{true, {}, nullptr}; // the default stream
    std::set<Stream*> streams;
    std::set<Event*> events;
    std::set<Module*> modules;
    std::set<Graph*> graphs;
    std::set<Program*> programs;
    std::map<u64, u64> memory; // address -> bytes
    std::map<u64, u64> pinned;
    u64 used = 0;
    u64 captures = 0;
};
extern Driver driver;
extern std::mutex driver_lock;

// What eckart_shim_set and the environment set.
struct Settings {
    i64 capability = 80, multiprocessors = 16, memory = 8ll << 30, version = 12040, devices = 1, verbose = 0;
};
extern Settings settings;

// entered is called first in every entry point, with the lock held: it counts, and returns a fault that was asked for.
int entered(const char* entry);
// in_context is entered for what needs a current context that is alive.
int in_context(const char* entry);
// refuse notes why a call returns code.
int refuse(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));

// find_stream returns the stream of a handle, nullptr for one that does not exist.
Stream* find_stream(void* handle);
// unsafe_in_capture refuses what must not be done while this thread captures, and ends what it captures.
int unsafe_in_capture(const char* what);
// put adds work to a stream, or to what it captures.
int put(Stream* s, Op op);
// run does what lies in a stream, all of it or up to a mark.
int run(Stream& s, const Mark* until = nullptr);
int run_all();
void drop_all();
u64 this_thread();
bool any_capture();

} // namespace tk

#define ENTRY extern "C" __attribute__((visibility("default"))) int
#define IN_CONTEXT                                       \
    std::lock_guard<std::mutex> hold(tk::driver_lock);   \
    if (int code = tk::in_context(__func__)) return code
