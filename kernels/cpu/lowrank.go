package cpu

import (
	"slices"
	"sync/atomic"

	"eckart/kernels"
)

// lowRankTask is LowRankMatMul in pieces: those of the first product, and behind them those of the second products,
// each of which waits until the first product is there. Pieces are handed out in order, so that what is waited for is
// in work already.
type lowRankTask struct {
	first   matMulTask
	seconds []matMulTask
	done    atomic.Int64 // pieces of the first product
	chunks  int          // of the first product
	read    []sweepWord  // what each worker has read while it waited
}

// LowRankMatMul implements kernels.Stream. With few rows, both stages are one region of the pool: at the end of the first
// one no thread is idle, but fetches weights of the second.
func (s *Stream) LowRankMatMul(y, t, x, v kernels.Mat, us []kernels.Mat, mode kernels.Mode) {
	if x.Rows == 0 {
		return
	}
	rounded := s.code.matMul.round != nil && (v.Type == kernels.BF16 || slices.ContainsFunc(us, func(u kernels.Mat) bool { return u.Type == kernels.BF16 }))
	if x.Rows > fewTokens || rounded {
		s.MatMul(t, x, v, kernels.Set)
		eachBlock(y, t, us, func(_ int, y, t, u kernels.Mat) { s.MatMul(y, t, u, mode) })
		return
	}
	task := &s.lowRank
	if len(task.seconds) < len(us) {
		task.seconds = make([]matMulTask, len(us))
	}
	if task.read == nil {
		task.read = make([]sweepWord, s.pool.threads)
	}
	task.chunks = task.first.prepare(s, t, x, v, kernels.Set)
	task.done.Store(0)
	n := task.chunks
	eachBlock(y, t, us, func(i int, y, t, u kernels.Mat) { n += task.seconds[i].prepare(s, y, t, u, mode) })
	s.pool.run(n, task)
	task.first.forget()
	for i := range task.seconds {
		task.seconds[i].forget()
	}
}

// eachBlock calls do for each of us with the columns of y that it gives and those of t that it reads.
func eachBlock(y, t kernels.Mat, us []kernels.Mat, do func(i int, y, t, u kernels.Mat)) {
	row, col := 0, 0
	for i, u := range us {
		do(i, y.Window(row, u.Rows), t.Window(col, u.Cols), u)
		row += u.Rows
		col += u.Cols
	}
}

func (t *lowRankTask) do(worker, chunk int) {
	if chunk < t.chunks {
		t.first.do(worker, chunk)
		t.done.Add(1)
		return
	}
	chunk -= t.chunks
	i := 0
	for chunk >= t.seconds[i].chunks() {
		chunk -= t.seconds[i].chunks()
		i++
	}
	t.wait(&t.seconds[i], worker, chunk)
	t.seconds[i].do(worker, chunk)
}

// wait returns when the first product is there. Until then it reads the chunk's weights, some at a time, so that they are
// in the cache then.
func (t *lowRankTask) wait(m *matMulTask, worker, chunk int) {
	const some = 1 << 10
	row := chunk / m.blocks * m.panelRows
	w := m.w.Slice(row, min(m.panelRows, m.w.Rows-row))
	ahead := w.Host[:w.Bytes()]
	for spin := 0; t.done.Load() < int64(t.chunks); {
		if len(ahead) >= some {
			t.read[worker].or |= sweepGeneric(ahead[:some])
			ahead = ahead[some:]
			continue
		}
		relax(spin)
		spin++
	}
}
