// shared.cpp keeps the shadow of shared memory. Two accesses to a byte by different threads, one of them a write, are in
// order when a block_sync stands between them, or, within a warp, a warp_sync; all else is a race, whatever order the
// engine happens to run them in. Whole words have one entry; a word of which a part was accessed has one for each byte.
#include "engine.h"

namespace tk {

namespace {

// Marks of a stamp: read by several threads of the warp; by several warps; the word has entries for its bytes; a cp.async
// is on its way to it.
constexpr u64 many_lanes = 1, many_warps = 2, split = 4, pending = 8;

constexpr u64 thread_mask = 0x3ffull << thread_shift, lane_mask = 0x1full << thread_shift, warp_mask = thread_mask & ~lane_mask;
constexpr u64 syncs_mask = max_syncs << syncs_shift;

u64 epoch_of(u64 s) { return s >> epoch_shift; }
u32 thread_of(u64 s) { return (u32)((s & thread_mask) >> thread_shift); }
u32 line_of(u64 s) { return (u32)(s >> line_shift & max_line); }

struct Access {
    u64 me;     // stamp, with the line
    u64 offset; // of the whole access, for messages
    bool all;   // a read by the whole warp
    Site at;
};

// shared_fail ends a kernel; format takes the thread and the line of the other access.
[[noreturn]] void shared_fail(const Access& a, const char* format, u64 other) {
    char text[256];
    snprintf(text, sizeof text, format, thread_of(other), line_of(other));
    fail(illegal_address, a.at, "offset %llu of shared memory: %s", a.offset, text);
}

void check_read(const Shadow& s, const Access& a, u64 first) {
    u64 w = s.write, differs = w ^ a.me;
    if (differs >> epoch_shift) {
        if (epoch_of(w) < first) shared_fail(a, "read, but no thread of this block has written it yet", w);
    } else if ((differs & thread_mask) || a.all) {
        if ((differs & warp_mask) || !(differs & syncs_mask))
            shared_fail(a, "race: read, while thread %u wrote it in line %u with no barrier between", w);
    }
    if (w & pending) shared_fail(a, "read, before thread %u waited for its cp.async of line %u", w);
}

void check_write(const Shadow& s, const Access& a, u64 first) {
    u64 w = s.write, differs = w ^ a.me;
    if (!(differs >> epoch_shift) && (differs & thread_mask) && ((differs & warp_mask) || !(differs & syncs_mask)))
        shared_fail(a, "race: written, while thread %u wrote it in line %u with no barrier between", w);
    if ((w & pending) && epoch_of(w) >= first) shared_fail(a, "written, before thread %u waited for its cp.async of line %u", w);
    u64 r = s.read;
    differs = r ^ a.me;
    if (differs >> epoch_shift) return;
    if ((r & many_warps) || (differs & warp_mask) || (!(differs & syncs_mask) && ((r & many_lanes) || (differs & thread_mask))))
        shared_fail(a, "race: written, while thread %u (and maybe more) read it in line %u with no barrier between", r);
}

void note_read(Shadow& s, const Access& a) {
    u64 r = s.read, differs = r ^ a.me;
    if (differs >> epoch_shift)
        s.read = a.me | (a.all ? many_lanes : 0);
    else if (differs & warp_mask)
        s.read |= many_warps;
    else if (differs & syncs_mask)
        s.read = a.me | (r & many_warps) | (a.all ? many_lanes : 0);
    else if ((differs & thread_mask) || a.all)
        s.read |= many_lanes;
}

// split_word gives the bytes of a word their own entries.
Shadow* split_word(Worker& k, u64 word) {
    Shadow& s = k.words[word];
    Shadow* b = k.bytes + word * 4;
    if (!(s.write & split)) {
        for (int i = 0; i < 4; i++) b[i] = s;
        s.write |= split;
    }
    return b;
}

void read_word(Worker& k, u64 word, const Access& a) {
    Shadow& s = k.words[word];
    if (__builtin_expect((s.write & split) != 0, 0)) {
        Shadow* b = k.bytes + word * 4;
        for (int i = 0; i < 4; i++) {
            check_read(b[i], a, k.first_epoch);
            note_read(b[i], a);
        }
        return;
    }
    check_read(s, a, k.first_epoch);
    note_read(s, a);
}

void write_word(Worker& k, u64 word, const Access& a, u64 marks) {
    Shadow& s = k.words[word];
    if (__builtin_expect((s.write & split) != 0, 0)) {
        Shadow* b = k.bytes + word * 4;
        for (int i = 0; i < 4; i++) check_write(b[i], a, k.first_epoch);
    } else {
        check_write(s, a, k.first_epoch);
    }
    s.write = a.me | marks;
    s.read = 0; // what was read before is in order with this write, so whoever is in order with it is with them
}

// quick_read is read_word for what is most often the case: the word was written before the last barrier, and read by others
// already or by nobody since. It returns false, and has done nothing, if it is not so.
bool quick_read(Shadow& s, u64 me, u64 first, u64 marks) {
    u64 w = s.write, r = s.read;
    if ((w ^ me) >> epoch_shift == 0 || w < first || (w & (split | pending))) return false;
    if ((r ^ me) >> epoch_shift) {
        s.read = me | marks;
        return true;
    }
    return (r & many_warps) || ((r ^ me) >> thread_shift == 0 && (r & marks) == marks);
}

Access access(u64 offset, Site at) { return {now.stamp | (u64)(at.line() & max_line) << line_shift, offset, false, at}; }

} // namespace

void shared_read(u64 offset, u32 bytes, Site at) {
    Worker& k = *worker;
    Access a = access(offset, at);
    u64 word = offset / 4;
    if (bytes >= 4) {
        for (u32 i = 0; i < bytes / 4; i++)
            if (!quick_read(k.words[word + i], a.me, k.first_epoch << epoch_shift, 0)) read_word(k, word + i, a);
        return;
    }
    Shadow* b = split_word(k, word) + offset % 4;
    for (u32 i = 0; i < bytes; i++) {
        check_read(b[i], a, k.first_epoch);
        note_read(b[i], a);
    }
}

void shared_write(u64 offset, u32 bytes, Site at) {
    Worker& k = *worker;
    Access a = access(offset, at);
    u64 word = offset / 4;
    if (bytes >= 4) {
        for (u32 i = 0; i < bytes / 4; i++) write_word(k, word + i, a, 0);
        return;
    }
    Shadow* b = split_word(k, word) + offset % 4;
    for (u32 i = 0; i < bytes; i++) {
        check_write(b[i], a, k.first_epoch);
        b[i] = {a.me, 0};
    }
}

void shared_read_all(u64 offset, u32 lane, Site at) {
    Worker& k = *worker;
    Access a = access(offset, at);
    a.me = (a.me & ~lane_mask) | (u64)lane << thread_shift;
    a.all = true;
    for (u32 i = 0; i < 4; i++)
        if (!quick_read(k.words[offset / 4 + i], a.me, k.first_epoch << epoch_shift, many_lanes)) read_word(k, offset / 4 + i, a);
}

void shared_begin_copy(u64 offset, Site at) {
    Worker& k = *worker;
    Access a = access(offset, at);
    for (u32 i = 0; i < 4; i++) write_word(k, offset / 4 + i, a, pending);
}

void shared_end_copy(u64 offset) {
    Shadow* s = worker->words + offset / 4;
    for (u32 i = 0; i < 4; i++) s[i] = {now.stamp | (s[i].write & max_line << line_shift), 0};
}

void shared_fault(const void* p, u32 bytes, bool store, Site at) {
    const char* verb = store ? "writes" : "reads";
    u64 offset = (u64)p - now.shared;
    if (offset < now.shared_bytes && (offset & (bytes - 1)))
        fail(misaligned_address, at, "%s %u bytes at offset %llu of shared memory, which is not a multiple of that", verb, bytes, offset);
    if ((i64)offset < 0 || offset > 16 << 20)
        fail(illegal_address, at, "%s %u bytes at %p, which is not in shared memory", verb, bytes, p);
    fail(illegal_address, at, "%s %u bytes at offset %llu of shared memory, of which the launch asked for %llu", verb, bytes, offset,
         now.shared_bytes);
}

} // namespace tk
