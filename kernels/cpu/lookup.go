package cpu

import "eckart/kernels"

// The verbs that find and move rows and columns.

// lookupTask copies rows of from, widened to F32: y[i] = from[ids[i]].
type lookupTask struct {
	y, from, ids kernels.Mat
	rows         int // rows of a chunk
}

// lookupElements is what a chunk copies at least: some microseconds of work.
const lookupElements = 8 << 10

// Embed implements kernels.Stream.
func (s *Stream) Embed(y, table, ids kernels.Mat) { s.lookUp(y, table, ids) }

// Gather implements kernels.Stream.
func (s *Stream) Gather(y, x, rows kernels.Mat) { s.lookUp(y, x, rows) }

func (s *Stream) lookUp(y, from, ids kernels.Mat) {
	t := &s.lookup
	*t = lookupTask{y: y, from: from, ids: ids, rows: 1 + lookupElements/max(1, y.Cols)}
	s.pool.run((y.Rows+t.rows-1)/t.rows, t)
	*t = lookupTask{}
}

func (l *lookupTask) do(_, chunk int) {
	for i := chunk * l.rows; i < min((chunk+1)*l.rows, l.y.Rows); i++ {
		widen(l.y.Float32s(i), l.from, int(l.ids.Int32s(i)[0]))
	}
}

// scatterTask puts columns of x at places in y.
type scatterTask struct {
	y, x, cols kernels.Mat
	add        bool
	code       *rowsCode
	rows       int // of a chunk
}

// Scatter implements kernels.Stream.
func (s *Stream) Scatter(y, x, cols kernels.Mat, mode kernels.Mode) {
	if x.Cols == 0 {
		return
	}
	t := &s.scatter
	*t = scatterTask{y: y, x: x, cols: cols, add: mode == kernels.Add, code: &s.code.rows, rows: 1 + lookupElements/x.Cols}
	s.pool.run((x.Rows+t.rows-1)/t.rows, t)
	*t = scatterTask{}
}

func (t *scatterTask) do(_, chunk int) {
	from := chunk * t.rows
	n := min(t.rows, t.x.Rows-from)
	t.code.placeColumns(t.y.Slice(from, n), t.x.Slice(from, n), t.cols.Int32s(0), t.add)
}

// rowsAhead is how many rows are fetched ahead of the one that columns are placed in (BenchmarkScatter).
const rowsAhead = 4

// placeColumns sets the columns of y that cols name to those of x, or adds them.
func (c *rowsCode) placeColumns(y, x kernels.Mat, cols []int32, add bool) {
	if len(cols) == 0 {
		return
	}
	for i := range x.Rows {
		c.placeRow(y.Float32s(i), x.Float32s(i), cols, add, rowsAhead*y.Stride*4)
	}
}

func (c *rowsCode) placeRow(y, x []float32, cols []int32, add bool, ahead int) {
	switch x = x[:len(cols)]; {
	case c.scatter != nil && add:
		c.scatterAdd(&y[0], &x[0], &cols[0], len(cols), ahead)
	case c.scatter != nil:
		c.scatter(&y[0], &x[0], &cols[0], len(cols), ahead)
	case add:
		for j, col := range cols {
			y[col] += x[j]
		}
	default:
		for j, col := range cols {
			y[col] = x[j]
		}
	}
}

// Upload implements kernels.Stream.
func (s *Stream) Upload(dst kernels.Mat, src []byte) { copy(dst.Host, src) }

// Download implements kernels.Stream.
func (s *Stream) Download(dst []byte, src kernels.Mat) { copy(dst, src.Host) }
