package cuda

import (
	"bufio"
	"fmt"
	"os"
)

// hostMemory returns the bytes of the host's memory that can still be had, as a Linux kernel tells in file (/proc/meminfo); 0 where
// there is none.
func hostMemory(file string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kilobytes int64
		if n, _ := fmt.Sscanf(s.Text(), "MemAvailable: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	return 0
}
