// heap.cpp is the device's memory: a range of addresses for kernels, and as large a range, further on, with the bytes.
// Allocations are never next to each other, and their addresses are used again only when the range has been gone through,
// so that an access outside, or after the end of one, is found.
#include "engine.h"

namespace tk {

Heap heap;

namespace {

constexpr u64 granule = 1 << granule_bits;
constexpr u64 poison_bytes = 1 << 28; // of a new allocation are set to NaN: the first use of memory is a write

std::map<u64, u64> live;   // address -> bytes
std::map<u64, u64> locked; // memory of the host
u64 cursor;

u64 granules(u64 bytes) { return (bytes + granule - 1) / granule + 1; } // one to keep away from the next

// fits reports whether n granules from address on are free; *next is where to look otherwise.
bool fits(u64 address, u64 n, u64* next) {
    auto after = live.upper_bound(address);
    if (after != live.begin()) {
        auto before = std::prev(after);
        u64 end = before->first + granules(before->second) * granule;
        if (end > address) {
            *next = end;
            return false;
        }
    }
    if (after != live.end() && after->first < address + n * granule) {
        *next = after->first + granules(after->second) * granule;
        return false;
    }
    *next = heap.base + heap.span;
    return address + n * granule <= *next;
}

} // namespace

void open_heap() {
    if (heap.span) return;
    for (u64 span = 1ull << 37; span >= 1ull << 30; span >>= 1) {
        void* p = mmap(nullptr, span * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) continue;
        void* limits = mmap(nullptr, (span >> granule_bits) * 8, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (limits == MAP_FAILED) abort();
        u64 base = ((u64)p + granule - 1) / granule * granule;
        heap = {base, span - granule, span, (u64*)limits};
        cursor = base;
        return;
    }
}

u64 allocate(u64 bytes) {
    u64 n = granules(bytes), end = heap.base + heap.span, address = cursor, next;
    for (bool again = false; !fits(address, n, &next);) {
        if (address + n * granule > end || next + n * granule > end) {
            if (again) return 0;
            again = true;
            address = heap.base;
        } else {
            address = next;
        }
    }
    u8* p = (u8*)(address + heap.delta);
    u64 whole = (n - 1) * granule;
    if (mprotect(p, whole, PROT_READ | PROT_WRITE)) return 0;
    memset(p, 0xff, bytes < poison_bytes ? bytes : poison_bytes);
    for (u64 i = 0; i < n - 1; i++) heap.limit[((address - heap.base) >> granule_bits) + i] = address + bytes;
    live[address] = bytes;
    cursor = address + n * granule;
    return address;
}

bool release(u64 address) {
    auto it = live.find(address);
    if (it == live.end()) return false;
    u64 n = granules(it->second) - 1;
    for (u64 i = 0; i < n; i++) heap.limit[((address - heap.base) >> granule_bits) + i] = 0;
    void* p = (void*)(address + heap.delta);
    madvise(p, n * granule, MADV_DONTNEED);
    races_forget(address, n * granule);
    mprotect(p, n * granule, PROT_NONE);
    live.erase(it);
    return true;
}

u8* host(u64 address, u64 bytes) {
    u64 offset = address - heap.base;
    if (offset < heap.span && address + bytes >= address && address + bytes <= heap.limit[offset >> granule_bits])
        return (u8*)address + heap.delta;
    return pinned((void*)address, bytes) ? (u8*)address : nullptr;
}

void pin(u8* p, u64 bytes) { locked[(u64)p] = bytes; }
bool unpin(u8* p) { return locked.erase((u64)p) == 1; }

bool pinned(const void* p, u64 bytes) {
    auto it = locked.upper_bound((u64)p);
    if (it == locked.begin()) return false;
    --it;
    return (u64)p + bytes <= it->first + it->second;
}

u8* global_slow(const void* p, u32 bytes, bool store, Site at) {
    const char* verb = store ? "writes" : "reads";
    u64 address = (u64)p;
    if (address & (bytes - 1))
        fail(misaligned_address, at, "%s %u bytes at %p, which is not a multiple of that", verb, bytes, p);
    if (pinned(p, bytes)) return (u8*)p;
    auto after = live.upper_bound(address);
    if (after != live.begin()) {
        auto a = std::prev(after);
        u64 end = a->first + a->second;
        if (address < end + (64 << 20))
            fail(illegal_address, at, "%s %u bytes at offset %llu of an allocation of %llu", verb, bytes, address - a->first, a->second);
    }
    if (after != live.end() && address + (64 << 20) >= after->first)
        fail(illegal_address, at, "%s %u bytes, %llu before an allocation of %llu", verb, bytes, after->first - address, after->second);
    fail(illegal_address, at, "%s %u bytes at %p, near no allocation", verb, bytes, p);
}

} // namespace tk
