package cpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tally counts how often each chunk ran and holds that workers are never shared.
type tally struct {
	runs []atomic.Int32
	busy []atomic.Bool
	bad  atomic.Int32
	work func()
}

func newTally(threads, chunks int) *tally {
	return &tally{runs: make([]atomic.Int32, chunks), busy: make([]atomic.Bool, threads)}
}

func (c *tally) do(worker, chunk int) {
	if !c.busy[worker].CompareAndSwap(false, true) {
		c.bad.Add(1)
	}
	c.runs[chunk].Add(1)
	if c.work != nil {
		c.work()
	}
	c.busy[worker].Store(false)
}

func (c *tally) check(t *testing.T, chunks int) {
	t.Helper()
	if n := c.bad.Load(); n > 0 {
		t.Fatalf("%d chunks ran on a worker that was at work", n)
	}
	for i := range c.runs {
		want := int32(0)
		if i < chunks {
			want = 1
		}
		if got := c.runs[i].Swap(0); got != want {
			t.Fatalf("chunk %d of %d ran %d times", i, chunks, got)
		}
	}
}

func TestPoolRunsEachChunkOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) {
			p := newPool(threads)
			defer p.close()
			c := newTally(threads, 100)
			for round := range 300 {
				n := round % 100
				p.run(n, c)
				c.check(t, n)
			}
		})
	}
}

// Several streams share a pool; regions must not mix, whether workers spin, yield or sleep.
func TestPoolHammer(t *testing.T) {
	const threads = 4
	p := newPool(threads)
	defer p.close()
	busy := make([]atomic.Bool, threads) // shared: a worker serves one region at a time
	var streams sync.WaitGroup
	for s := range 4 {
		streams.Go(func() {
			c := newTally(threads, 64)
			c.busy = busy
			for round := range 400 {
				if s == 0 && round%50 == 0 {
					time.Sleep(time.Millisecond) // long enough for workers to fall asleep
				}
				n := 2 + (round*7+s)%60
				p.run(n, c)
				c.check(t, n)
			}
		})
	}
	streams.Wait()
}

func TestPoolOneThreadStaysInCaller(t *testing.T) {
	before := runtime.NumGoroutine()
	p := newPool(1)
	defer p.close()
	if n := runtime.NumGoroutine(); n != before {
		t.Fatalf("%d goroutines were started for one thread", n-before)
	}
}

// As many chunks as threads, each waiting for all the others: every thread must take exactly one.
func TestPoolUsesAllThreads(t *testing.T) {
	const threads = 3
	p := newPool(threads)
	defer p.close()
	c := newTally(threads, threads)
	for range 50 {
		var arrived atomic.Int32
		c.work = func() {
			arrived.Add(1)
			for arrived.Load() < threads {
				runtime.Gosched()
			}
		}
		p.run(threads, c)
		c.check(t, threads)
	}
}

func TestPoolSleepsWhenIdle(t *testing.T) {
	const threads = 3
	p := newPool(threads)
	defer p.close()
	c := newTally(threads, 8)
	for range 3 {
		p.run(8, c)
		for p.idle.Load() != threads-1 { // the test hangs when a worker spins for ever
			time.Sleep(time.Millisecond)
		}
		p.run(8, c)
	}
}

func TestPoolCloseEndsGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		p := newPool(4)
		p.run(4, newTally(4, 4))
		p.close()
	}
	// A goroutine is counted for a moment after its last statement.
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d goroutines outlive their pools", runtime.NumGoroutine()-before)
}

func TestPoolRegionAllocatesNothing(t *testing.T) {
	p := newPool(2)
	defer p.close()
	c := newTally(2, 16)
	if n := testing.AllocsPerRun(200, func() { p.run(16, c) }); n != 0 {
		t.Fatalf("a region allocates %v times", n)
	}
}

type nothing struct{}

func (*nothing) do(int, int) {}

func BenchmarkRegion(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			p := newPool(threads)
			defer p.close()
			t := &nothing{}
			for b.Loop() {
				p.run(2*threads, t)
			}
		})
	}
}

func BenchmarkPause(b *testing.B) {
	for b.Loop() {
		pause()
	}
}
