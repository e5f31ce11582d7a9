package shim

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock keeps other processes, which are tests of other packages, from compiling the same at the same time.
func (b *builder) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil // which gives the lock back
}
