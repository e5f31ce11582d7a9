package layers

import "eckart/kernels"

// What stands before and after the products of a group can be done along with them, on streams that have kernels for it:
// each saves a launch and a trip of activations through memory.

// Gated is implemented by streams that have a kernel for a gated product.
type Gated interface {
	// GatedMatMul computes y = silu(x·gateᵀ) ⊙ (x·upᵀ) for y (tokens, out), x (tokens, in) and w (2·out, in), gate's rows
	// above up's, with the bits of MatMul and SwiGLU one after the other. It reports false, and does nothing, where it
	// has no kernel for weights like w.
	GatedMatMul(y, x, w kernels.Mat) bool
}

// Normed is implemented by streams that have kernels for products of a norm.
type Normed interface {
	Gated
	// NormedMatMul computes y = RMSNorm(x)·wᵀ for y (tokens, out), x (tokens, in), gain (1, in) and w (out, in), with the bits
	// of RMSNorm and MatMul one after the other. It reports false, and does nothing, where it has no kernel for weights
	// like w, or for as many tokens.
	NormedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool
	// NormedGatedMatMul is NormedMatMul with GatedMatMul in the place of MatMul.
	NormedGatedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool
}

// normed computes y = l·norm(x) along with the norm, and reports whether it did. A probe wants to see the norm: then it does
// not.
func normed(p *Pass, l Linear, y, x kernels.Mat, n RMSNorm) bool {
	s, ok := p.Stream.(Normed)
	if !ok || p.Probe != nil {
		return false
	}
	switch l := l.(type) {
	case *denseLinear:
		return s.NormedMatMul(y, x, n.gain, n.eps, l.w)
	case Factored:
		u, v := l.Factors()
		mark := p.Mark()
		defer p.Release(mark)
		rank, _ := v.Dims()
		t := p.Mat(x.Rows, rank)
		if normed(p, v, t, x, n) {
			u.Apply(p, y, t, kernels.Set)
			return true
		}
	}
	return false
}

// NormedOut3 returns what Out3 does for the norm of x.
func (g *Group) NormedOut3(p *Pass, n RMSNorm, x kernels.Mat) (a, b, c kernels.Mat) {
	mark := p.Mark()
	y := p.Mat(x.Rows, g.total)
	if !normed(p, g.linear, y, x, n) {
		p.Release(mark)
		return g.Out3(p, n.Out(p, x))
	}
	if g.bias.Rows > 0 {
		p.Bias(y, g.bias)
	}
	return g.three(y)
}

// NormedSwiGLU returns what SwiGLU does for the norm of x.
func (g *Group) NormedSwiGLU(p *Pass, n RMSNorm, x kernels.Mat) kernels.Mat {
	s, ok := p.Stream.(Normed)
	if !ok || p.Probe != nil || g.bias.Rows > 0 {
		return g.SwiGLU(p, n.Out(p, x))
	}
	mark := p.Mark()
	if l, ok := g.linear.(*denseLinear); ok {
		y := p.Mat(x.Rows, g.outs[0])
		if s.NormedGatedMatMul(y, x, n.gain, n.eps, l.w) {
			return y
		}
		p.Release(mark)
	} else {
		y := p.Mat(x.Rows, g.total)
		if normed(p, g.linear, y, x, n) {
			gate, up := g.two(y)
			p.SwiGLU(gate, gate, up)
			return gate
		}
		p.Release(mark)
	}
	return g.SwiGLU(p, n.Out(p, x))
}

// SwiGLU returns silu(gate)·up for a group of gate and up, in scratch: (tokens, out).
func (g *Group) SwiGLU(p *Pass, x kernels.Mat) kernels.Mat {
	if s, ok := p.Stream.(Gated); ok && g.bias.Rows == 0 {
		if l, ok := g.linear.(*denseLinear); ok {
			mark := p.Mark()
			y := p.Mat(x.Rows, g.outs[0])
			if s.GatedMatMul(y, x, l.w) {
				p.Tap(g.Site, x)
				return y
			}
			p.Release(mark)
		}
	}
	gate, up := g.Out2(p, x)
	p.SwiGLU(gate, gate, up)
	return gate
}
