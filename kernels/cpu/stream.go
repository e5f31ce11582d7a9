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
	lookup lookupTask
}

var _ kernels.Stream = (*Stream)(nil)

func newStream(d *Device) *Stream {
	return &Stream{pool: d.pool, code: &d.code, matMul: newMatMulTask(d.pool.threads)}
}

// Bias implements kernels.Stream.
func (s *Stream) Bias(y, b kernels.Mat) { biasGeneric(y, b) }

// RMSNorm implements kernels.Stream.
func (s *Stream) RMSNorm(y, x, gain kernels.Mat, eps float32) { rmsNormGeneric(y, x, gain, eps) }

// Angles implements kernels.Stream.
func (s *Stream) Angles(y, pos, freqs kernels.Mat, scale float32) {
	anglesGeneric(y, pos, freqs, scale)
}

// Rotate implements kernels.Stream.
func (s *Stream) Rotate(x, angles kernels.Mat, heads int) { rotateGeneric(x, angles, heads) }

// Store implements kernels.Stream.
func (s *Stream) Store(kv kernels.Pages, k, v, slots kernels.Mat) { storeGeneric(kv, k, v, slots) }

// Attend implements kernels.Stream.
func (s *Stream) Attend(y, q kernels.Mat, kv kernels.Pages, seqs kernels.Seqs, a kernels.Attention) {
	attendGeneric(y, q, kv, seqs, a)
}

// SwiGLU implements kernels.Stream.
func (s *Stream) SwiGLU(y, gate, up kernels.Mat) { swiGLUGeneric(y, gate, up) }

// Sync implements kernels.Stream.
func (s *Stream) Sync() error {
	err := s.err
	s.err = nil
	return err
}
