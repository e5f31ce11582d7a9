package layers

import "eckart/kernels"

// RMSNorm divides each run of len(gain) columns by its root mean square and scales it: x / rms(x) · gain
// (Zhang and Sennrich 2019, equation 4).
type RMSNorm struct {
	gain kernels.Mat // (1, columns)
	eps  float32
}

// BindRMSNorm places the gain in the arena.
func BindRMSNorm(a kernels.Arena, s kernels.Stream, gain []float32, eps float32) (RMSNorm, error) {
	m, err := bindVector(a, s, gain)
	return RMSNorm{m, eps}, err
}

// Out returns the norm of x in scratch.
func (n RMSNorm) Out(p *Pass, x kernels.Mat) kernels.Mat {
	y := p.Mat(x.Rows, x.Cols)
	p.RMSNorm(y, x, n.gain, n.eps)
	return y
}

// Apply replaces x by its norm; x may be several heads wide, each normed alone.
func (n RMSNorm) Apply(p *Pass, x kernels.Mat) { p.RMSNorm(x, x, n.gain, n.eps) }
