package cpu

import "golang.org/x/sys/unix"

// hugePage is the usual size of a large page; a smaller mapping has no use for one.
const hugePage = 2 << 20

// adviseHuge asks for large pages, which make the first touch several times cheaper and spare the processor's page
// tables (BenchmarkFirstTouch). It is advice: a system that refuses it serves small pages.
func adviseHuge(mem []byte) {
	if len(mem) >= hugePage {
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	}
}
