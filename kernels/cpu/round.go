package cpu

import (
	"unsafe"

	"eckart/kernels"
)

// roundTask rounds the rows of a matrix to BF16.
type roundTask struct {
	y, x  kernels.Mat
	rows  int // rows of a chunk
	round func(dst *uint16, src *float32, n int)
	mem   []byte // what y lies in; grows to the largest product and stays
}

// roundElements is what a chunk rounds at least: some microseconds of work.
const roundElements = 16 << 10

// round returns x in BF16, in memory of the stream that the next call reuses.
func (s *Stream) round(x kernels.Mat) kernels.Mat {
	t := &s.rounded
	// Rows an odd number of cache lines apart do not compete for the same places of the cache.
	const line = kernels.Align / 2
	stride := ((x.Cols+line-1)/line | 1) * line
	if need := x.Rows*stride*2 + kernels.Align; len(t.mem) < need {
		t.mem = make([]byte, need)
	}
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(t.mem))) % kernels.Align
	t.y = kernels.Mat{
		Span: kernels.Span{Host: t.mem[skip:]},
		Rows: x.Rows, Cols: x.Cols, Stride: stride, Type: kernels.BF16,
	}
	t.x, t.round = x, s.code.matMul.round
	t.rows = 1 + roundElements/max(1, x.Cols)
	s.pool.run((x.Rows+t.rows-1)/t.rows, t)
	t.x = kernels.Mat{}
	return t.y
}

func (r *roundTask) do(_, chunk int) {
	for i := chunk * r.rows; i < min((chunk+1)*r.rows, r.x.Rows); i++ {
		r.round((*uint16)(at(r.y, i*r.y.Stride*2)), (*float32)(at(r.x, i*r.x.Stride*4)), r.x.Cols)
	}
}
