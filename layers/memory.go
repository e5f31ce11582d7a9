package layers

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"eckart/kernels"
)

// NewMatrix returns the matrix (rows, cols) of values, row-major, rounded once to type t, F32, F16 or BF16, ties to even.
// It is held in memory. A number that is not finite, or not in t, is a *ValueError.
func NewMatrix(values []float64, rows, cols int, t kernels.DType) (*Dense, error) {
	if len(values) != rows*cols {
		return nil, fmt.Errorf("store a matrix: %d elements for %d x %d", len(values), rows, cols)
	}
	unit := t.Bytes()
	raw := make([]byte, len(values)*unit)
	for i, v := range values {
		var infinite bool
		switch t {
		case kernels.F32:
			f := float32(v)
			infinite = math.IsInf(float64(f), 0)
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(f))
		case kernels.BF16:
			b := BF16Bits(towardOdd(v))
			infinite = b&0x7f80 == 0x7f80
			binary.LittleEndian.PutUint16(raw[2*i:], b)
		case kernels.F16:
			b := F16Bits(towardOdd(v))
			infinite = b&0x7c00 == 0x7c00
			binary.LittleEndian.PutUint16(raw[2*i:], b)
		default:
			return nil, fmt.Errorf("store a matrix: type %s, want f32, f16 or bf16", t)
		}
		if infinite || math.IsNaN(v) {
			return nil, &ValueError{Row: i / cols, What: fmt.Sprintf("the number of column %d is %g, which %s does not hold", i%cols, v, t)}
		}
	}
	rowBytes := cols * unit
	return NewDense(Part{Name: "weight", Type: t, Rows: rows, Cols: cols, Read: func(dst []byte, row int) error {
		copy(dst, raw[row*rowBytes:])
		return nil
	}}), nil
}

// towardOdd returns the float32 next to v that is nearer to 0, with its last bit set where it is not v itself: rounded on
// to a shorter type, that gives what v gives (Boldo and Melquiond 2008), where a float32 rounded to nearest may not.
func towardOdd(v float64) float32 {
	f := float32(v)
	if float64(f) == v || v != v {
		return f
	}
	bits := math.Float32bits(f)
	if math.Abs(float64(f)) > math.Abs(v) {
		bits--
	}
	return math.Float32frombits(bits | 1)
}

// Quantize rounds w (rows, cols), row-major, as the function Quantize does, at once: the codes are held in memory, and w
// is not needed any more. The result does not depend on the number of goroutines that work on it.
func (r Rounding) Quantize(w []float32, rows int, importance []float32) (*Grouped, error) {
	if rows < 1 || len(w)%rows != 0 {
		return nil, fmt.Errorf("quantize: %d elements for %d rows", len(w), rows)
	}
	n := len(w) / rows
	if importance != nil && len(importance) != n {
		return nil, fmt.Errorf("quantize: importance of %d columns for a matrix of %d", len(importance), n)
	}
	f := r.Format(rows, n)
	if err := f.Check(); err != nil {
		return nil, err
	}
	q := &quantizer{format: f, importance: importance}
	result := newGroupedRows(f, rows)
	errs := make([]error, rows)
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), rows) {
		working.Go(func() {
			s := &quantizeScratch{rounder: newRounder(f)}
			for {
				row := int(next.Add(1)) - 1
				if row >= rows {
					return
				}
				s.row = w[row*n:][:n]
				errs[row] = q.round(result, row, row, s)
			}
		})
	}
	working.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return newHeld(f, nil, result)
}

// newGroupedRows returns memory for n rows of a matrix.
func newGroupedRows(f kernels.Grouped, n int) GroupedRows {
	r := GroupedRows{Codes: make([]byte, n*f.Cols), Scales: make([]byte, n*f.Groups()*f.ScaleType.Bytes())}
	if f.Zeros {
		r.Zeros = make([]byte, n*f.Groups())
	}
	return r
}

// newHeld is NewSignedGrouped for a matrix of which all rows are in memory.
func newHeld(f kernels.Grouped, order []int32, all GroupedRows) (*Grouped, error) {
	groups, scaleBytes := f.Groups(), f.ScaleType.Bytes()
	return NewSignedGrouped(f, order, func(dst GroupedRows, row int) error {
		copy(dst.Codes, all.Codes[row*f.Cols:])
		copy(dst.Scales, all.Scales[row*groups*scaleBytes:])
		if dst.Zeros != nil {
			copy(dst.Zeros, all.Zeros[row*groups:])
		}
		return nil
	})
}
