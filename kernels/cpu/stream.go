package cpu

import "eckart/kernels"

// Stream runs verbs at once, in the calling goroutine and the device's threads.
//
// Each subject keeps the tasks of its verbs as fields here: a verb fills its task and hands a pointer to the pool, so
// that nothing is allocated.
type Stream struct {
	pool *pool
	code *code
	err  error

	matMul  matMulTask
	rounded roundTask
	lookup  lookupTask
	scatter scatterTask
	grouped groupedTask
	rows    rowsTask
	store   storeTask
	attend  attendTask
}

var _ kernels.Stream = (*Stream)(nil)

func newStream(d *Device) *Stream {
	return &Stream{pool: d.pool, code: &d.code}
}

// Sync implements kernels.Stream.
func (s *Stream) Sync() error {
	err := s.err
	s.err = nil
	return err
}
