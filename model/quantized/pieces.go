package quantized

import (
	"runtime"
	"sync"

	"eckart/model/checkpoint"
)

// pieceElements is how many elements of a matrix one goroutine unpacks at a time.
const pieceElements = 1 << 18

// inPieces calls f for ranges of rows that cover row to row+n, in parallel, and returns the first error. It is for
// matrices that are widened: a grouped one is read by several goroutines already.
func inPieces(row, n, cols int, f func(row, n int) error) error {
	each := max(1, pieceElements/cols)
	pieces := make(chan int)
	errs := make(chan error, 1)
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+each-1)/each) {
		group.Go(func() {
			for at := range pieces {
				if err := f(row+at, min(each, n-at)); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for at := 0; at < n && len(errs) == 0; at += each {
		pieces <- at
	}
	close(pieces)
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// wholeBytes bounds the tensors that are read at once when ranges of their columns are wanted.
const wholeBytes = 64 << 20

// columns reads ranges of columns of a tensor (rows, columns): the rows of a matrix that is stored as (in, out). A
// tensor is kept from the first range until as many columns as it has were asked for, since to read each range by itself
// would touch every page of the file over and over.
type columns struct {
	c *checkpoint.Checkpoint
	t *checkpoint.Tensor

	mu    sync.Mutex
	whole []byte
	given int // columns of whole
}

// span returns the bytes of the columns from one on up to another; row r of them begins at r·stride.
func (s *columns) span(from, to int) (raw []byte, stride int, err error) {
	rows, cols := s.t.Shape[0], s.t.Shape[1]
	size := s.t.Type.BitSize() / 8
	if s.t.Bytes() <= wholeBytes {
		s.mu.Lock()
		defer s.mu.Unlock()
		raw = s.whole
		if raw == nil {
			raw = make([]byte, s.t.Bytes())
			if err := s.c.ReadAt(raw, s.t, 0); err != nil {
				return nil, 0, err
			}
			s.whole = raw
		}
		if s.given += to - from; s.given >= cols {
			s.whole, s.given = nil, 0
		}
		return raw[from*size:], cols * size, nil
	}
	stride = (to - from) * size
	raw = make([]byte, rows*stride)
	for r := range rows {
		if err := s.c.ReadAt(raw[r*stride:(r+1)*stride], s.t, int64(r*cols+from)*int64(size)); err != nil {
			return nil, 0, err
		}
	}
	return raw, stride, nil
}
