package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A task is a verb's work cut into chunks that may run in any order and on any worker. A verb keeps its task as a
// field of the stream and passes a pointer to it, so that starting a region allocates nothing.
type task interface {
	// do runs one chunk. worker is in [0, threads) and no two chunks run on one worker at once, so it may index
	// scratch memory.
	do(worker, chunk int)
}

// pool runs tasks on a fixed number of threads: the goroutine that calls run is worker 0, the others are goroutines
// that live as long as the pool. Waiting workers spin for some microseconds, which covers the gap between two verbs,
// and then sleep, so that an idle device costs nothing.
//
// A region is open while its chunks are handed out. Workers join an open region and leave it when its chunks are gone;
// run returns when it has closed the region and the last worker has left. A worker that the system has put aside
// therefore never holds up a region it did not join, and never touches a later one with the state of an earlier.
type pool struct {
	mu      sync.Mutex // one region at a time, whichever stream it comes from
	threads int
	task    task
	chunks  int64

	_     [64]byte
	state atomic.Uint64 // epoch<<epochShift | waiting | open | workers inside
	_     [56]byte
	next  atomic.Int64 // first chunk not handed out
	_     [56]byte
	idle  atomic.Int32 // workers that sleep, or are about to
	_     [60]byte

	sleepers []sleeper
	left     chan struct{} // the last worker's note to a run that sleeps
	stopped  atomic.Bool
	group    sync.WaitGroup
}

// sleeper is where one worker sleeps.
type sleeper struct {
	asleep atomic.Bool
	wake   chan struct{}
	_      [40]byte // a cache line each
}

const (
	inside     = 1<<16 - 1 // mask of the count of workers inside
	open       = 1 << 16   // chunks are being handed out
	waiting    = 1 << 17   // run sleeps until the last worker leaves
	epochShift = 18

	maxThreads = inside

	// How long to wait before the next, more costly way of waiting. A pause is 10 to 40 ns, a yield about 100 ns
	// (BenchmarkRegion).
	pauseSpins = 300
	yieldSpins = 200
)

// newPool starts threads-1 workers.
func newPool(threads int) *pool {
	p := &pool{threads: threads, sleepers: make([]sleeper, threads), left: make(chan struct{}, 1)}
	for w := 1; w < threads; w++ {
		p.sleepers[w].wake = make(chan struct{}, 1)
		p.group.Go(func() { p.work(w) })
	}
	return p
}

// run does chunks 0 up to n of t and returns when all are done. It must not be called from inside a chunk.
func (p *pool) run(n int, t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= 1 || p.threads == 1 {
		for i := range n {
			t.do(0, i)
		}
		return
	}
	p.task, p.chunks = t, int64(n)
	p.next.Store(0)
	p.state.Store((p.state.Load()>>epochShift+1)<<epochShift | open)
	if p.idle.Load() > 0 {
		p.wake(n - 1)
	}
	p.drain(0)
	if p.state.And(^uint64(open))&inside != 0 {
		p.await()
	}
	p.task = nil
}

// drain runs chunks until none is left.
func (p *pool) drain(worker int) {
	for {
		i := p.next.Add(1) - 1
		if i >= p.chunks {
			return
		}
		p.task.do(worker, int(i))
	}
}

// await returns when no worker is inside the closed region.
func (p *pool) await() {
	for spin := range pauseSpins + yieldSpins {
		if p.state.Load()&inside == 0 {
			return
		}
		relax(spin)
	}
	if p.state.Or(waiting)&inside == 0 {
		return // nobody is left to send the note
	}
	<-p.left
}

// wake rouses up to n sleeping workers.
func (p *pool) wake(n int) {
	for w := 1; w < p.threads && n > 0; w++ {
		s := &p.sleepers[w]
		if s.asleep.Load() && s.asleep.CompareAndSwap(true, false) {
			s.wake <- struct{}{}
			n--
		}
	}
}

// work is the life of worker w.
func (p *pool) work(w int) {
	var seen uint64 // epoch of the last region joined
	for {
		for spin := 0; ; spin++ {
			s := p.state.Load()
			if s&open != 0 && s>>epochShift != seen {
				if p.state.CompareAndSwap(s, s+1) {
					seen = s >> epochShift
					break
				}
				continue
			}
			if p.stopped.Load() {
				return
			}
			if spin < pauseSpins+yieldSpins {
				relax(spin)
				continue
			}
			p.sleep(w, seen)
			spin = 0
		}
		p.drain(w)
		// The count drops by one; whoever leaves an awaited region last tells run.
		if s := p.state.Add(^uint64(0)); s&(inside|open|waiting) == waiting {
			p.left <- struct{}{}
		}
	}
}

// sleep blocks worker w until wake or close, unless a region it has not seen is open.
func (p *pool) sleep(w int, seen uint64) {
	me := &p.sleepers[w]
	p.idle.Add(1)
	me.asleep.Store(true)
	// run publishes its region before it looks for sleepers, and here the order is the other way round: one of the
	// two sees the other.
	s := p.state.Load()
	if (s&open != 0 && s>>epochShift != seen || p.stopped.Load()) && me.asleep.CompareAndSwap(true, false) {
		p.idle.Add(-1)
		return
	}
	<-me.wake
	p.idle.Add(-1)
}

// close stops the workers and waits for them. No region may be running.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped.Store(true)
	p.wake(p.threads)
	p.group.Wait()
}

// relax waits a moment: at first on the processor, then by letting other goroutines run.
func relax(spin int) {
	if spin < pauseSpins {
		pause()
		return
	}
	runtime.Gosched()
}
