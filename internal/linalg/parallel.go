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
