// driver.cpp answers as libcuda does for devices, contexts, modules and memory. What goes through streams is in stream.cpp.
#include "driver.h"

using namespace tk;

namespace tk {

Driver driver;
std::mutex driver_lock;
Settings settings;

namespace {

thread_local Context* current;

struct Injected {
    i64 after; // calls that still succeed; -1: every call fails
    int code;
};
std::map<std::string, Injected> injected;

bool sticky(int code) { return code == 214 || code == 220 || code == 999 || (code >= 700 && code <= 719 && code != 701); }

bool set(const std::string& name, i64 value) {
    if (name == "capability")
        settings.capability = value;
    else if (name == "multiprocessors")
        settings.multiprocessors = value;
    else if (name == "memory")
        settings.memory = value;
    else if (name == "driver")
        settings.version = value;
    else if (name == "devices")
        settings.devices = std::clamp<i64>(value, 0, 8);
    else if (name == "verbose")
        settings.verbose = value;
    else if (name == "seed")
        set_seed((u64)value);
    else if (name == "threads")
        set_threads((u32)value);
    else if (name == "races")
        races = value;
    else if (name == "traffic")
        traffic = value;
    else
        return false;
    return true;
}

// from_environment takes the settings ECKART_SHIM_CAPABILITY and so on, and ECKART_SHIM_FAIL, a list of entry:after:code.
void from_environment() {
    for (const char* name : {"capability", "multiprocessors", "memory", "driver", "devices", "verbose", "seed", "threads", "races", "traffic"}) {
        std::string key = std::string("ECKART_SHIM_") + name;
        for (char& c : key) c = (char)toupper(c);
        if (const char* v = getenv(key.c_str())) set(name, atoll(v));
    }
    const char* list = getenv("ECKART_SHIM_FAIL");
    for (std::string rest = list ? list : ""; !rest.empty();) {
        size_t comma = rest.find(',');
        char entry[128];
        long long after;
        int code;
        if (sscanf(rest.substr(0, comma).c_str(), "%127[^:]:%lld:%d", entry, &after, &code) == 3) injected[entry] = {after, code};
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
}

struct Start {
    Start() { from_environment(); }
} start;

} // namespace

int entered(const char* entry) {
    auto it = injected.find(entry);
    if (it == injected.end()) return success;
    if (it->second.after > 0) {
        it->second.after--;
        return success;
    }
    int code = it->second.code;
    if (it->second.after == 0) injected.erase(it);
    refuse(code, "%s fails because a test wants it", entry);
    if (sticky(code)) {
        driver.dead = code;
        driver.why_dead = driver.said;
    }
    return code;
}

int in_context(const char* entry) {
    if (int code = entered(entry)) return code;
    if (!driver.initialized) return refuse(not_initialized, "%s before cuInit", entry);
    if (!current) return refuse(invalid_context, "%s in a thread with no current context", entry);
    if (!current->retained) return refuse(context_is_destroyed, "%s in a context that was released", entry);
    return driver.dead;
}

int refuse(int code, const char* format, ...) {
    char text[1200];
    va_list l;
    va_start(l, format);
    vsnprintf(text, sizeof text, format, l);
    va_end(l);
    driver.said_code = code;
    driver.said = text;
    if (settings.verbose && code != not_ready) fprintf(stderr, "shim: %s (%d)\n", text, code);
    return code;
}

namespace {

int shared_per_block() {
    switch (settings.capability) {
    case 80:
    case 87:
        return 163 << 10;
    case 86:
    case 89:
        return 99 << 10;
    }
    return 227 << 10;
}

int threads_per_multiprocessor() { return settings.capability == 80 || settings.capability >= 90 ? 2048 : 1536; }

int known_device(int device) {
    if (!driver.initialized) return refuse(not_initialized, "a device is asked for before cuInit");
    if (device < 0 || device >= settings.devices) return refuse(invalid_device, "device %d of %lld", device, settings.devices);
    return success;
}

Function* find_function(void* handle) {
    for (Module* m : driver.modules)
        for (auto& f : m->functions)
            if (f.second.get() == handle) return f.second.get();
    return nullptr;
}

void free_everything() {
    drop_all();
    for (auto& m : driver.memory) release(m.first);
    for (auto& m : driver.pinned) {
        unpin((u8*)m.first);
        if (m.second) munmap((void*)m.first, m.second);
    }
    for (Stream* s : driver.streams) delete s;
    for (Event* e : driver.events) delete e;
    for (Module* m : driver.modules) delete m;
    for (Graph* g : driver.graphs) delete g;
    for (Program* p : driver.programs) delete p;
    driver.memory.clear(), driver.pinned.clear(), driver.streams.clear(), driver.events.clear();
    driver.modules.clear(), driver.graphs.clear(), driver.programs.clear();
    driver.standard.queue.clear(), driver.standard.capture.reset();
    driver.used = 0;
}

} // namespace

} // namespace tk

// ---------------------------------------------------------------------------------------------------- devices and contexts

ENTRY cuInit(u32 flags) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (flags) return refuse(invalid_value, "cuInit with flags");
    if (settings.devices == 0) return no_device;
    open_heap();
    driver.initialized = true;
    return success;
}

ENTRY cuDriverGetVersion(int* version) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    *version = (int)settings.version;
    return success;
}

ENTRY cuDeviceGetCount(int* count) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (!driver.initialized) return not_initialized;
    *count = (int)settings.devices;
    return success;
}

ENTRY cuDeviceGet(int* device, int ordinal) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(ordinal)) return code;
    *device = ordinal;
    return success;
}

ENTRY cuDeviceGetName(char* name, int length, int device) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(device)) return code;
    snprintf(name, (size_t)length, "SIMT shim");
    return success;
}

ENTRY cuDeviceGetUuid(u8* uuid, int device) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(device)) return code;
    memset(uuid, 0, 16);
    uuid[15] = (u8)(device + 1);
    return success;
}

ENTRY cuDeviceTotalMem_v2(size_t* bytes, int device) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(device)) return code;
    *bytes = (size_t)settings.memory;
    return success;
}

ENTRY cuDeviceGetAttribute(int* value, int attribute, int device) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(device)) return code;
    static const std::map<int, int> fixed = {
        {1, 1024},        // threads of a block
        {2, 1024},        {3, 1024},  {4, 64},      {5, 0x7fffffff}, {6, 65535}, {7, 65535}, // extents of blocks and grids
        {8, 48 << 10},    // shared memory of a block that has not asked for more
        {9, 64 << 10},    // constant memory
        {10, 32},         // lanes of a warp
        {12, 65536},      // registers of a block
        {13, 1000000},    // clock, kHz
        {15, 1},          // copies beside kernels
        {18, 0},          // integrated
        {19, 1},          // can map memory of the host
        {31, 1},          // concurrent kernels
        {36, 1000000},    {37, 1024}, // memory: clock, kHz; width, bits
        {38, 4 << 20},    // second-level cache
        {40, 1},          // copy engines
        {41, 1},          // one address space
        {82, 65536},      // registers of a multiprocessor
        {95, 1},          // cooperative launches
        {106, 32},        // blocks of a multiprocessor
    };
    switch (attribute) {
    case 16: *value = (int)settings.multiprocessors; return success;
    case 39: *value = threads_per_multiprocessor(); return success;
    case 75: *value = (int)settings.capability / 10; return success;
    case 76: *value = (int)settings.capability % 10; return success;
    case 81: *value = shared_per_block() + 1024; return success;
    case 97: *value = shared_per_block(); return success;
    }
    auto it = fixed.find(attribute);
    if (it == fixed.end()) return refuse(invalid_value, "attribute %d of a device is not known here", attribute);
    *value = it->second;
    return success;
}

ENTRY cuDevicePrimaryCtxRetain(void** context, int device) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(device)) return code;
    if (driver.dead) return driver.dead;
    driver.contexts[device].retained++;
    *context = &driver.contexts[device];
    return success;
}

ENTRY cuDevicePrimaryCtxRelease_v2(int device) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (int code = known_device(device)) return code;
    Context& c = driver.contexts[device];
    if (!c.retained) return refuse(invalid_context, "the primary context was released more often than retained");
    if (--c.retained) return success;
    for (Context& other : driver.contexts)
        if (other.retained) return success; // contexts share their objects here
    int code = driver.dead ? success : run_all();
    free_everything();
    return code;
}

ENTRY cuDevicePrimaryCtxSetFlags_v2(int device, u32) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    return known_device(device);
}

ENTRY cuCtxSetCurrent(void* context) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    if (!driver.initialized) return not_initialized;
    if (!context) {
        current = nullptr;
        return success;
    }
    for (Context& c : driver.contexts)
        if (&c == context && c.retained) {
            current = &c;
            return driver.dead;
        }
    return refuse(invalid_context, "cuCtxSetCurrent with a context that nobody retains");
}

ENTRY cuCtxGetCurrent(void** context) {
    std::lock_guard<std::mutex> hold(driver_lock);
    if (int code = entered(__func__)) return code;
    *context = current;
    return success;
}

ENTRY cuCtxSynchronize() {
    IN_CONTEXT;
    if (any_capture()) return unsafe_in_capture("cuCtxSynchronize");
    return run_all();
}

// ---------------------------------------------------------------------------------------------------- modules and functions

ENTRY cuModuleLoadDataEx(void** module, const void*, u32, int*, void**) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuModuleLoadDataEx")) return code;
    *module = *driver.modules.insert(new Module()).first;
    return success;
}

ENTRY cuModuleLoadData(void** module, const void* image) { return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr); }

ENTRY cuModuleUnload(void* module) {
    IN_CONTEXT;
    if (!driver.modules.count((Module*)module)) return refuse(invalid_handle, "no such module");
    if (int code = run_all()) return code;
    driver.modules.erase((Module*)module);
    delete (Module*)module;
    return success;
}

ENTRY cuModuleGetFunction(void** function, void* module, const char* name) {
    IN_CONTEXT;
    if (!driver.modules.count((Module*)module)) return refuse(invalid_handle, "no such module");
    Kernel* k = find(name);
    if (!k) return refuse(not_found, "no kernel has the name %s", name);
    auto& f = ((Module*)module)->functions[name];
    if (!f) f.reset(new Function{k});
    *function = f.get();
    return success;
}

ENTRY cuFuncLoad(void* function) {
    IN_CONTEXT;
    Function* f = find_function(function);
    if (!f) return refuse(invalid_handle, "no such function");
    f->loaded = true;
    return success;
}

ENTRY cuFuncGetAttribute(int* value, int attribute, void* function) {
    IN_CONTEXT;
    Function* f = find_function(function);
    if (!f) return refuse(invalid_handle, "no such function");
    f->loaded = true;
    switch (attribute) {
    case 0: *value = (int)f->kernel->threads; return success;
    case 1: // static shared memory
    case 2: // constants
    case 3: // local memory
    case 7: // cache mode
        *value = 0;
        return success;
    case 4: *value = 32; return success; // registers
    case 5: *value = settings.capability >= 90 ? 90 : 80; return success;
    case 6: *value = (int)settings.capability; return success;
    case 8: *value = (int)f->dynamic_shared; return success;
    case 9: *value = -1; return success; // preferred carve-out
    }
    return refuse(invalid_value, "attribute %d of a function is not known here", attribute);
}

ENTRY cuFuncSetAttribute(void* function, int attribute, int value) {
    IN_CONTEXT;
    Function* f = find_function(function);
    if (!f) return refuse(invalid_handle, "no such function");
    if (attribute == 9) return success;
    if (attribute != 8) return refuse(invalid_value, "attribute %d of a function cannot be set", attribute);
    if (value < 0 || value > shared_per_block())
        return refuse(invalid_value, "%d bytes of shared memory for a block that may have %d", value, shared_per_block());
    f->dynamic_shared = (u32)value;
    return success;
}

ENTRY cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads, size_t shared) {
    IN_CONTEXT;
    Function* f = find_function(function);
    if (!f) return refuse(invalid_handle, "no such function");
    if (threads < 1 || threads > (int)f->kernel->threads) return refuse(invalid_value, "kernel %s has at most %u threads", f->kernel->name, f->kernel->threads);
    int by_threads = threads_per_multiprocessor() / ((threads + 31) / 32 * 32);
    int by_shared = (int)((size_t)(shared_per_block() + 1024) / (shared + 1024));
    *blocks = std::min({by_threads, by_shared, 32});
    return success;
}

ENTRY cuLinkCreate_v2(u32, int*, void**, void**) {
    IN_CONTEXT;
    return refuse(not_supported, "there is no linker here");
}
ENTRY cuLinkAddData_v2(void*, int, void*, size_t, const char*, u32, int*, void**) {
    IN_CONTEXT;
    return refuse(not_supported, "there is no linker here");
}
ENTRY cuLinkComplete(void*, void**, size_t*) {
    IN_CONTEXT;
    return refuse(not_supported, "there is no linker here");
}
ENTRY cuLinkDestroy(void*) {
    IN_CONTEXT;
    return refuse(not_supported, "there is no linker here");
}

// ---------------------------------------------------------------------------------------------------- memory

ENTRY cuMemGetInfo_v2(size_t* free, size_t* total) {
    IN_CONTEXT;
    *free = (size_t)std::max<i64>(0, settings.memory - (i64)driver.used); // a test may have taken memory away
    *total = (size_t)settings.memory;
    return success;
}

ENTRY cuMemAlloc_v2(u64* address, size_t bytes) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemAlloc")) return code;
    if (bytes == 0) return refuse(invalid_value, "cuMemAlloc of no bytes");
    u64 a = driver.used + bytes <= (u64)settings.memory ? allocate(bytes) : 0;
    if (!a) return refuse(out_of_memory, "cuMemAlloc of %zu bytes, %llu of %lld are in use", bytes, driver.used, settings.memory);
    driver.memory[a] = bytes;
    driver.used += bytes;
    *address = a;
    return success;
}

ENTRY cuMemFree_v2(u64 address) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemFree")) return code;
    if (!address) return success;
    auto it = driver.memory.find(address);
    if (it == driver.memory.end()) return refuse(invalid_value, "cuMemFree of what was not allocated, or was freed already");
    if (int code = run_all()) return code;
    release(address);
    driver.used -= it->second;
    driver.memory.erase(it);
    return success;
}

ENTRY cuMemHostAlloc(void** p, size_t bytes, u32) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemHostAlloc")) return code;
    if (bytes == 0) return refuse(invalid_value, "cuMemHostAlloc of no bytes");
    void* m = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return refuse(out_of_memory, "cuMemHostAlloc of %zu bytes", bytes);
    pin((u8*)m, bytes);
    driver.pinned[(u64)m] = bytes;
    *p = m;
    return success;
}

ENTRY cuMemFreeHost(void* p) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemFreeHost")) return code;
    auto it = driver.pinned.find((u64)p);
    if (it == driver.pinned.end() || !it->second) return refuse(invalid_value, "cuMemFreeHost of what was not allocated");
    if (int code = run_all()) return code;
    unpin((u8*)p);
    munmap(p, it->second);
    driver.pinned.erase(it);
    return success;
}

ENTRY cuMemHostRegister_v2(void* p, size_t bytes, u32) {
    IN_CONTEXT;
    if (int code = unsafe_in_capture("cuMemHostRegister")) return code;
    if (!p || !bytes) return refuse(invalid_value, "cuMemHostRegister of nothing");
    if (pinned(p, 1)) return refuse(712, "cuMemHostRegister of memory that is registered");
    pin((u8*)p, bytes);
    driver.pinned[(u64)p] = 0; // the host's own
    return success;
}

ENTRY cuMemHostUnregister(void* p) {
    IN_CONTEXT;
    auto it = driver.pinned.find((u64)p);
    if (it == driver.pinned.end() || it->second) return refuse(713, "cuMemHostUnregister of memory that is not registered");
    if (int code = run_all()) return code;
    unpin((u8*)p);
    driver.pinned.erase(it);
    return success;
}

ENTRY cuMemHostGetDevicePointer_v2(u64* address, void* p, u32) {
    IN_CONTEXT;
    if (!pinned(p, 1)) return refuse(invalid_value, "cuMemHostGetDevicePointer of memory that is not pinned");
    *address = (u64)p;
    return success;
}

// ---------------------------------------------------------------------------------------------------- errors

namespace {

struct Name {
    int code;
    const char *name, *text;
};
const Name names[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
    {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const Name* named(int code) {
    for (const Name& n : names)
        if (n.code == code) return &n;
    return nullptr;
}

// Texts that were given out stay.
std::set<std::string> texts;

} // namespace

ENTRY cuGetErrorName(int code, const char** name) {
    const Name* n = named(code);
    *name = n ? n->name : nullptr;
    return n ? success : invalid_value;
}

// cuGetErrorString says more than a driver does: why the last call that returned this code did so.
ENTRY cuGetErrorString(int code, const char** text) {
    std::lock_guard<std::mutex> hold(driver_lock);
    const Name* n = named(code);
    *text = n ? n->text : nullptr;
    if (!n || !code) return n ? success : invalid_value;
    if (code == driver.dead)
        *text = texts.insert(n->text + (": " + driver.why_dead)).first->c_str();
    else if (code == driver.said_code)
        *text = texts.insert(n->text + (": " + driver.said)).first->c_str();
    return n ? success : invalid_value;
}

// ---------------------------------------------------------------------------------------------------- for tests

// eckart_shim_fail lets the call of an entry point after so many more fail with code: 0 is the next one, -1 every one.
ENTRY eckart_shim_fail(const char* entry, int after, int code) {
    std::lock_guard<std::mutex> hold(driver_lock);
    injected[entry] = {after, code};
    return success;
}

// eckart_shim_set changes a setting, those that the environment has as well; it returns 1 for a name that is none.
ENTRY eckart_shim_set(const char* name, i64 value) {
    std::lock_guard<std::mutex> hold(driver_lock);
    return set(name, value) ? success : invalid_value;
}

// counters are what is counted of a kernel, by the names that they have outside.
static const std::pair<const char*, std::atomic<u64> Counts::*> counters[] = {
    {"Launches", &Counts::launches}, {"Blocks", &Counts::blocks}, {"Read", &Counts::read},   {"Written", &Counts::written}, {"MMA", &Counts::mma},
    {"Shared", &Counts::shared},     {"Passes", &Counts::passes}, {"Asked", &Counts::asked}, {"Sectors", &Counts::sectors},
};

// eckart_shim_reset makes the driver as new: nothing allocated, nothing retained, no fault, no count, settings as in the
// environment. Nobody may be using it.
ENTRY eckart_shim_reset() {
    std::lock_guard<std::mutex> hold(driver_lock);
    free_everything();
    for (Context& c : driver.contexts) c.retained = 0;
    driver.initialized = false;
    driver.dead = driver.said_code = success;
    driver.said.clear(), driver.why_dead.clear();
    injected.clear();
    settings = Settings();
    set_seed(1);
    set_threads(1);
    races = traffic = false;
    for (Kernel* k = kernels(); k; k = k->next)
        for (auto& [name, of] : counters) k->counts->*of = 0;
    from_environment();
    return success;
}

// eckart_shim_message returns why a kernel was ended, or else the last call that was refused.
extern "C" __attribute__((visibility("default"))) const char* eckart_shim_message() {
    std::lock_guard<std::mutex> hold(driver_lock);
    return texts.insert(driver.dead ? driver.why_dead : driver.said).first->c_str();
}

// eckart_shim_counts returns what kernels have done since the last reset, as JSON.
extern "C" __attribute__((visibility("default"))) const char* eckart_shim_counts() {
    std::lock_guard<std::mutex> hold(driver_lock);
    static std::string text;
    text = "[";
    for (Kernel* k = kernels(); k; k = k->next) {
        text += std::string(text.size() > 1 ? "," : "") + "{\"Kernel\":\"" + k->name + "\"";
        for (auto& [name, of] : counters) text += std::string(",\"") + name + "\":" + std::to_string(k->counts->*of);
        text += "}";
    }
    text += "]";
    return text.c_str();
}

// eckart_shim_live returns how many objects of a kind there are.
extern "C" __attribute__((visibility("default"))) u64 eckart_shim_live(const char* what) {
    std::lock_guard<std::mutex> hold(driver_lock);
    std::string w = what;
    if (w == "memory") return driver.memory.size();
    if (w == "pinned") return driver.pinned.size();
    if (w == "streams") return driver.streams.size();
    if (w == "events") return driver.events.size();
    if (w == "modules") return driver.modules.size();
    if (w == "graphs") return driver.graphs.size();
    if (w == "programs") return driver.programs.size();
    if (w == "contexts") {
        u64 n = 0;
        for (Context& c : driver.contexts) n += c.retained;
        return n;
    }
    return ~0ull;
}

// eckart_shim_nothing is what an entry point costs that does nothing.
ENTRY eckart_shim_nothing() { return success; }
