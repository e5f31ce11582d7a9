package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// A read of more than pieceBytes is split into pieces of that size, of which
// readers are in flight at a time. One thread copies from the page cache at less
// than the memory's speed, and a disk wants several requests at once.
// BenchmarkReadAt found the gain flat from 1 MiB to 16 MiB and beyond 4 readers.
const (
	pieceBytes = 4 << 20
	readers    = 4
)

// ReadAt fills dst with the bytes of t from offset on, counted from the tensor's
// first byte. The span must lie within the tensor. Large reads are done in
// parallel pieces. An error leaves dst undefined; where the file has been cut
// since it was opened, it gives the bytes expected and found.
func (c *Checkpoint) ReadAt(dst []byte, t *Tensor, offset int64) error {
	length := int64(len(dst))
	if offset < 0 || length > t.bytes || offset > t.bytes-length {
		return fmt.Errorf("read tensor %s of shard %s: want bytes %d to %d, it has %d", quote(t.Name), t.Shard, offset, offset+length, t.bytes)
	}
	if length <= pieceBytes {
		return t.read(dst, offset)
	}
	var (
		pieces = (length + pieceBytes - 1) / pieceBytes
		next   atomic.Int64
		group  sync.WaitGroup
		once   sync.Once
		first  error
	)
	for range min(readers, pieces) {
		group.Go(func() {
			for {
				begin := (next.Add(1) - 1) * pieceBytes
				if begin >= length {
					return
				}
				if err := t.read(dst[begin:min(begin+pieceBytes, length)], offset+begin); err != nil {
					once.Do(func() { first = err })
					next.Store(pieces) // the others stop after their piece
					return
				}
			}
		})
	}
	group.Wait()
	return first
}

// Reader returns a reader of the tensor's bytes, for copying it as it is.
func (c *Checkpoint) Reader(t *Tensor) io.Reader {
	return io.NewSectionReader(tensorBytes{t}, 0, t.bytes)
}

// tensorBytes is a tensor as an io.ReaderAt, within its bounds.
type tensorBytes struct{ t *Tensor }

func (b tensorBytes) ReadAt(p []byte, offset int64) (int, error) {
	if err := b.t.read(p, offset); err != nil {
		return 0, err
	}
	return len(p), nil
}

// read fills p, which lies within the tensor, by one positioned read.
func (t *Tensor) read(p []byte, offset int64) error {
	err := readFull(t.shard.bytes, p, t.offset+offset)
	if err == nil {
		return nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		if info, serr := t.shard.file.Stat(); serr == nil {
			err = fmt.Errorf("the file was cut while in use: want %d bytes, found %d: %w", t.shard.size, info.Size(), err)
		}
	}
	return fmt.Errorf("read tensor %s of shard %s: %w", quote(t.Name), t.Shard, cause(err))
}
