//go:build unix

package cpu

import (
	"eckart/kernels"

	"golang.org/x/sys/unix"
)

// reserve maps bytes of zeroed memory, rounded up to whole cache lines.
func reserve(bytes int64) ([]byte, error) {
	n := max(kernels.Align, (bytes+kernels.Align-1)/kernels.Align*kernels.Align)
	mem, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	adviseHuge(mem)
	return mem, nil
}

func release(mem []byte) error { return unix.Munmap(mem) }
