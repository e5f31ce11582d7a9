package cpu

import (
	"math"

	"eckart/kernels"
)

// The verbs that work on each row alone. A task of theirs is cut by rows, so that a row is always computed in one go.

// chunkElements is what a chunk of rows holds at least: some microseconds of work.
const chunkElements = 8 << 10

// rowsCode is the part of code that these verbs need. Its zero value means plain Go.
type rowsCode struct {
	add        func(y, x *float32, n int)
	sumSquares func(x *float32, n int) float32
	normalize  func(y, x, gain *float32, n int, scale float32)
	rotate     func(x, angles *float32, half, width, heads int)
	swiGLU     func(y, gate, up *float32, n int)
	scatter    scatterFunc // y[cols[i]] = x[i]
	scatterAdd scatterFunc // y[cols[i]] += x[i]
}

// scatterFunc works on n elements; no place comes twice among the cols. Meanwhile it fetches the places of what is ahead
// bytes behind y, the row after a few more: places that come from far away hold up the stores, which are in order.
type scatterFunc func(y, x *float32, cols *int32, n, ahead int)

type rowsVerb uint8

const (
	bias rowsVerb = iota
	rmsNorm
	angles
	rotate
	swiGLU
)

// rowsTask is one of the verbs in pieces of some rows.
type rowsTask struct {
	verb    rowsVerb
	y, x, z kernels.Mat
	factor  float32 // eps or scale
	heads   int
	code    *rowsCode
	rows    int // of a chunk
}

// Bias implements kernels.Stream.
func (s *Stream) Bias(y, b kernels.Mat) { s.eachRow(rowsTask{verb: bias, y: y, x: b}) }

// RMSNorm implements kernels.Stream.
func (s *Stream) RMSNorm(y, x, gain kernels.Mat, eps float32) {
	s.eachRow(rowsTask{verb: rmsNorm, y: y, x: x, z: gain, factor: eps})
}

// Angles implements kernels.Stream.
func (s *Stream) Angles(y, pos, freqs kernels.Mat, scale float32) {
	s.eachRow(rowsTask{verb: angles, y: y, x: pos, z: freqs, factor: scale})
}

// Rotate implements kernels.Stream.
func (s *Stream) Rotate(x, table kernels.Mat, heads int) {
	s.eachRow(rowsTask{verb: rotate, y: x, x: table, heads: heads})
}

// SwiGLU implements kernels.Stream.
func (s *Stream) SwiGLU(y, gate, up kernels.Mat) {
	s.eachRow(rowsTask{verb: swiGLU, y: y, x: gate, z: up})
}

func (s *Stream) eachRow(t rowsTask) {
	if t.y.Rows == 0 || t.y.Cols == 0 {
		return
	}
	t.code, t.rows = &s.code.rows, 1+chunkElements/t.y.Cols
	s.rows = t
	s.pool.run((t.y.Rows+t.rows-1)/t.rows, &s.rows)
	s.rows = rowsTask{}
}

func (t *rowsTask) do(_, chunk int) {
	c := t.code
	plain := c.add == nil
	for i := chunk * t.rows; i < min((chunk+1)*t.rows, t.y.Rows); i++ {
		y := t.y.Float32s(i)
		switch t.verb {
		case bias:
			if b := t.x.Float32s(0); plain {
				biasGeneric(y, b)
			} else {
				c.add(&y[0], &b[0], len(y))
			}
		case rmsNorm:
			x, gain := t.x.Float32s(i), t.z.Float32s(0)
			for n := len(gain); len(y) > 0; x, y = x[n:], y[n:] {
				if plain {
					rmsNormGeneric(y[:n], x[:n], gain, t.factor)
				} else {
					scale := rmsScale(c.sumSquares(&x[0], n), n, t.factor)
					c.normalize(&y[0], &x[0], &gain[0], n, scale)
				}
			}
		case angles:
			anglesGeneric(y, t.x.Int32s(i)[0], t.z.Float32s(0), t.factor)
		case rotate:
			table := t.x.Float32s(i)
			if half := len(table) / 2; plain || half == 0 {
				rotateGeneric(y, table, t.heads)
			} else {
				c.rotate(&y[0], &table[0], half, len(y)/t.heads, t.heads)
			}
		case swiGLU:
			if gate, up := t.x.Float32s(i), t.z.Float32s(i); plain {
				swiGLUGeneric(y, gate, up)
			} else {
				c.swiGLU(&y[0], &gate[0], &up[0], len(y))
			}
		}
	}
}

// rmsScale returns 1 / sqrt(squares/n + eps).
func rmsScale(squares float32, n int, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(squares/float32(n)+eps)))
}
