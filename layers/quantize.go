package layers

import (
	"fmt"
	"math"
	"sync"

	"eckart/kernels"
)

// A Rounding says how the numbers of a matrix become codes: the fields of kernels.Grouped that do not depend on the
// matrix.
type Rounding struct {
	Bits      int           // of a code: 8, 4, 3 or 2
	Group     int           // columns that share a scale; 0 for a whole row
	ScaleType kernels.DType // F16, BF16 or F32
	Zeros     bool          // a zero point for each group
}

// Format returns the format of a matrix (rows, cols) that is rounded so.
func (r Rounding) Format(rows, cols int) kernels.Grouped {
	group := r.Group
	if group == 0 {
		group = (cols + kernels.GroupedBlock - 1) / kernels.GroupedBlock * kernels.GroupedBlock
	}
	return kernels.Grouped{Rows: rows, Cols: cols, Bits: r.Bits, Group: group, ScaleType: r.ScaleType, Zeros: r.Zeros}
}

// Quantize returns d rounded, row by row as it is read: nothing is held. importance (in) weighs the squared errors of the
// columns, as the diagonal of the Gram matrix of the inputs does; nil weighs them alike. The same numbers always give the
// same codes.
func Quantize(d *Dense, r Rounding, importance []float32) (*Grouped, error) {
	w := d.weight
	if importance != nil && len(importance) != w.Cols {
		return nil, fmt.Errorf("quantize: importance of %d columns for a matrix of %d", len(importance), w.Cols)
	}
	f := r.Format(w.Rows, w.Cols)
	q := &quantizer{part: w, format: f, importance: importance}
	q.scratch.New = func() any { return &quantizeScratch{rounder: newRounder(f)} }
	return NewSignedGrouped(f, nil, q.read)
}

// A quantizer rounds the rows of a dense matrix. It may be used by several goroutines.
type quantizer struct {
	part       Part
	format     kernels.Grouped
	importance []float32
	scratch    sync.Pool // of *quantizeScratch
}

type quantizeScratch struct {
	*rounder
	raw []byte
	row []float32
}

// quantizeBytes is what is read of the stored matrix at once: large enough for the disk, small enough for a cache.
const quantizeBytes = 256 << 10

// read implements the read function of a Grouped.
func (q *quantizer) read(dst GroupedRows, row int) error {
	f := q.format
	s := q.scratch.Get().(*quantizeScratch)
	defer q.scratch.Put(s)
	rowBytes := f.Cols * q.part.Type.Bytes()
	n := max(1, quantizeBytes/rowBytes)
	if s.raw == nil {
		s.raw, s.row = make([]byte, n*rowBytes), make([]float32, f.Cols)
	}
	rows := len(dst.Codes) / f.Cols
	for from := 0; from < rows; from += n {
		raw := s.raw[:min(n, rows-from)*rowBytes]
		if err := q.part.Read(raw, row+from); err != nil {
			return err
		}
		for i := from; i < min(from+n, rows); i++ {
			widen(s.row, raw[(i-from)*rowBytes:][:rowBytes], q.part.Type)
			if err := q.round(dst, i, row+i, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// round sets row i of dst to the numbers in s.row, which are those of a row of the matrix.
func (q *quantizer) round(dst GroupedRows, i, row int, s *quantizeScratch) error {
	f := q.format
	groups, scaleBytes := f.Groups(), f.ScaleType.Bytes()
	codes := dst.Codes[i*f.Cols:][:f.Cols]
	for g := range groups {
		from, to := g*f.Group, min((g+1)*f.Group, f.Cols)
		var h []float32
		if q.importance != nil {
			h = q.importance[from:to]
		}
		scale, zero := s.fit(s.row[from:to], h)
		if math.IsInf(float64(scale), 0) {
			return &ValueError{Row: row, What: outOfReach(f, g)}
		}
		s.encode(codes[from:to], s.row[from:to], scale, zero)
		putScale(dst.Scales[(i*groups+g)*scaleBytes:], scale, f.ScaleType)
		if f.Zeros {
			dst.Zeros[i*groups+g] = byte(zero)
		}
	}
	return nil
}

// outOfReach says that the scale that group g needs is infinite.
func outOfReach(f kernels.Grouped, g int) string {
	return fmt.Sprintf("group %d has numbers that %d bits with a scale of type %s do not reach", g, f.Bits, f.ScaleType)
}
