// empty.cu: a kernel that does nothing. It shows what a launch costs, alone and in a recorded program.
#include "tk.h"

struct EmptyArgs {
    u64 a;
    u32 b, c;
};

KERNEL(empty, EmptyArgs, 32) { (void)a; }
