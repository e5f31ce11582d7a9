package linalg

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel calls f with 0 to n-1, on as many threads as GOMAXPROCS allows, and returns when all calls have. What f writes
// must not depend on the order.
func parallel(n int, f func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			f(i)
		}
	}
	var all sync.WaitGroup
	for range workers - 1 {
		all.Go(work)
	}
	work()
	all.Wait()
}

// EachRow calls f for each of rows, of so many elements, on as many threads as those are worth. What f writes must not depend
// on the order.
func EachRow(rows, elements int, f func(i int)) {
	const piece = 1 << 16 // elements that a thread is started for
	some := max(1, piece/max(1, elements))
	parallel(ceil(rows, some), func(i int) {
		for row := i * some; row < min(rows, (i+1)*some); row++ {
			f(row)
		}
	})
}

// FirstRow returns the first of rows, of so many elements, for which f is true, or -1. Several threads call f, for some of the
// rows after that one too.
func FirstRow(rows, elements int, f func(i int) bool) int {
	var first atomic.Int64
	first.Store(int64(rows))
	EachRow(rows, elements, func(i int) {
		if int64(i) >= first.Load() || !f(i) {
			return
		}
		for at := first.Load(); int64(i) < at && !first.CompareAndSwap(at, int64(i)); at = first.Load() {
		}
	})
	if at := int(first.Load()); at < rows {
		return at
	}
	return -1
}

// buffers hold numbers between uses, those of one size together.
type buffers[T number] struct{ pool sync.Pool }

// borrow returns n numbers of any value; give puts them back.
func (s *buffers[T]) borrow(n int) *[]T {
	if b, ok := s.pool.Get().(*[]T); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]T, n)
	return &b
}

func (s *buffers[T]) give(b *[]T) { s.pool.Put(b) }
