package cpu

import (
	"math"

	"golang.org/x/sys/unix"
)

// processor returns the processor's model name.
func processor() string {
	if name, err := unix.Sysctl("machdep.cpu.brand_string"); err == nil {
		return name
	}
	return "unknown processor"
}

// cores counts the fast cores, or all physical ones where they do not differ: work shared evenly with slow cores waits
// for them.
func cores() int {
	for _, key := range []string{"hw.perflevel0.physicalcpu", "hw.physicalcpu"} {
		if n, err := unix.SysctlUint32(key); err == nil && n > 0 {
			return int(n)
		}
	}
	return math.MaxInt
}

// lastLevelCache returns the bytes of the second-level cache, which a cluster of cores shares; the system does not tell of
// the one behind it.
func lastLevelCache() int64 {
	for _, key := range []string{"hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"} {
		if n, err := unix.SysctlUint64(key); err == nil && n > 0 {
			return int64(n)
		}
	}
	return 0
}

// memory returns all of main memory as the total. The free pages alone would be far too little, since the system
// fills memory with caches that it gives up; half of the total is a safe guess.
func memory() (free, total int64) {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, 0
	}
	return int64(n / 2), int64(n)
}
