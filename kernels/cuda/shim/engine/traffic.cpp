// traffic.cpp counts what accesses to memory cost a GPU beyond their bytes: passes over the banks of shared memory, of which
// there are 32 of 4 bytes, and sectors of 32 bytes of global memory. What the lanes of a warp access at one place of the source,
// the same number of times since they last met, is taken for one instruction, as it is on a GPU while they run together.
#include "engine.h"

#include <unordered_map>

namespace tk {

bool traffic;

// Request is an access by the lanes in a mask.
struct Request {
    u32 mask = 0, bytes = 0;
    bool shared = false;
    u64 at[32];
};

// Open are the requests of a warp since its lanes last met, by place and number.
struct Open {
    std::unordered_map<u64, Request> requests;
    std::unordered_map<u64, u32> times; // by place and lane
};

namespace {

void count_shared(const Request& r, Counts& c) {
    // 128 bytes pass at a time: so many lanes, of which those that read one word, read it at once.
    u32 lanes = r.bytes <= 4 ? 32 : 128 / r.bytes;
    for (u32 first = 0; first < 32; first += lanes) {
        std::vector<u64> of[32]; // words, by bank
        u64 most = 0;
        for (u32 l = first; l < first + lanes; l++) {
            if (!(r.mask >> l & 1)) continue;
            for (u64 word = r.at[l] / 4; word <= (r.at[l] + r.bytes - 1) / 4; word++) {
                auto& bank = of[word % 32];
                if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
                most = std::max<u64>(most, bank.size());
            }
        }
        c.shared += most > 0;
        c.passes += most;
    }
}

void count_global(const Request& r, Counts& c) {
    std::vector<u64> places, sectors;
    for (u32 l = 0; l < 32; l++) {
        if (!(r.mask >> l & 1)) continue;
        places.push_back(r.at[l]);
        sectors.push_back(r.at[l] / 32); // an access lies within one, as it is aligned
    }
    for (auto* v : {&places, &sectors}) {
        std::sort(v->begin(), v->end());
        v->erase(std::unique(v->begin(), v->end()), v->end());
    }
    c.asked += places.size() * r.bytes;
    c.sectors += sectors.size();
}

void note(u64 address, u32 bytes, bool shared, Site at) {
    if (!worker->open) worker->open = new Open[max_threads / 32]; // and kept, as workers are
    Open& o = worker->open[now.tid / 32];
    u32 lane = now.tid & 31;
    u64 place = (u64)(at.line() & max_line) << 18 | (u64)(at.column() & 0xfff) << 6 | (u64)shared << 5 | bytes;
    u32 time = o.times[place << 5 | lane]++;
    Request& r = o.requests[place << 30 | time];
    r.mask |= 1u << lane;
    r.bytes = bytes;
    r.shared = shared;
    r.at[lane] = address;
}

} // namespace

void traffic_global(const void* p, u32 bytes, Site at) { note((u64)p, bytes, false, at); }
void traffic_shared(u64 offset, u32 bytes, Site at) { note(offset, bytes, true, at); }

void traffic_met(u32 warp) {
    if (!worker->open) return;
    Open& o = worker->open[warp];
    for (auto& [key, r] : o.requests) {
        if (r.shared)
            count_shared(r, *worker->kernel->counts);
        else
            count_global(r, *worker->kernel->counts);
    }
    o.requests.clear();
    o.times.clear();
}

} // namespace tk
