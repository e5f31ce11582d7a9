package layers

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"eckart/kernels"
)

// Bind packs the matrix into the arena.
func (g *Grouped) Bind(a kernels.Arena, s kernels.Stream) (Linear, error) {
	w := g.format
	var err error
	if w.Packed, err = a.Alloc(1, w.PackedBytes(), kernels.U8); err != nil {
		return nil, err
	}
	if g.order != nil {
		if w.Order, err = a.Alloc(1, w.Cols, kernels.I32); err != nil {
			return nil, err
		}
	}
	l := &groupedLinear{w}
	if w.Packed.Host == nil && w.Packed.Addr == 0 {
		return l, nil // a kernels.Counter has no memory
	}
	if g.order != nil {
		s.Upload(w.Order, kernels.Int32Bytes(g.order))
	}
	return l, g.pack(w, s)
}

// bindElements is the codes of a piece that is read at once while a matrix is bound. There is a piece for each goroutine
// that reads, and one that is being packed.
const bindElements = 1 << 20

// A piece is consecutive rows of a matrix on the way to the device.
type piece struct {
	row  int
	rows GroupedRows
	err  error
}

// pack fills w. Reading may be work, where a matrix is rounded as it is read, so some goroutines read while the caller,
// to whom the stream belongs, packs. Where pieces fail, the error is that of the first rows, whoever was quicker.
func (g *Grouped) pack(w kernels.Grouped, s kernels.Stream) error {
	const panel = kernels.GroupedPanel
	n := max(panel, bindElements/w.Cols/panel*panel)
	pieces := (w.Rows + n - 1) / n
	readers := min(runtime.GOMAXPROCS(0), pieces)

	free, filled := make(chan GroupedRows, readers+1), make(chan piece)
	for range readers + 1 {
		free <- newGroupedRows(g.format, min(n, w.Rows))
	}
	var next atomic.Int64
	var stop atomic.Bool
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			// Pieces are taken in order, so that all before one that failed are read too.
			for !stop.Load() {
				row := (int(next.Add(1)) - 1) * n
				if row >= w.Rows {
					return
				}
				p := piece{row: row, rows: <-free}
				p.err = g.fill(g.cut(p.rows, min(n, w.Rows-row)), row)
				filled <- p
			}
		})
	}
	go func() {
		reading.Wait()
		close(filled)
	}()

	var first piece
	for p := range filled {
		if p.err == nil && first.err == nil {
			r := g.cut(p.rows, min(n, w.Rows-p.row))
			s.Pack(w, p.row, r.Codes, r.Scales, r.Zeros)
			if err := s.Sync(); err != nil {
				p.err = fmt.Errorf("pack rows: %w", err)
			}
		}
		free <- p.rows
		if p.err != nil {
			stop.Store(true)
			if first.err == nil || p.row < first.row {
				first = p
			}
		}
	}
	return first.err
}

// cut returns the first n rows of r.
func (g *Grouped) cut(r GroupedRows, n int) GroupedRows {
	f := g.format
	r.Codes, r.Scales = r.Codes[:n*f.Cols], r.Scales[:n*f.Groups()*f.ScaleType.Bytes()]
	if f.Zeros {
		r.Zeros = r.Zeros[:n*f.Groups()]
	}
	return r
}

// groupedLinear multiplies by a packed grouped matrix.
type groupedLinear struct{ w kernels.Grouped }

func (l *groupedLinear) Dims() (out, in int) { return l.w.Rows, l.w.Cols }
func (l *groupedLinear) Bytes() int64        { return int64(l.w.PackedBytes()) + l.w.Order.Bytes() }

func (l *groupedLinear) Apply(p *Pass, y, x kernels.Mat, m kernels.Mode) {
	p.GroupedMatMul(y, x, l.w, m)
}

// Embed implements Rows.
func (l *groupedLinear) Embed(p *Pass, y, ids kernels.Mat) { p.GroupedEmbed(y, l.w, ids) }
