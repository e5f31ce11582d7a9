package layers

import "eckart/kernels"

// What stands before and behind the products of a group can be done along with them, on streams that have kernels for it.
// It saves a launch each time and a trip of activations through memory, and changes no bit.

// Gated is implemented by streams that have a kernel for a gated product.
type Gated interface {
	// GatedMatMul computes y = silu(x·gateᵀ) ⊙ (x·upᵀ) for y (tokens, out), x (tokens, in) and w (2·out, in), gate's rows
	// above up's, with the bits of MatMul and SwiGLU one after the other. It reports false, and does nothing, where it
	// has no kernel for weights like w.
	GatedMatMul(y, x, w kernels.Mat) bool
}

// Normed is implemented by streams that have kernels for products of a norm.
type Normed interface {
	// NormedMatMul computes y = RMSNorm(x)·wᵀ for y (tokens, out), x (tokens, in), gain (1, in) and w (out, in), with the bits
	// of RMSNorm and MatMul one after the other. It reports false, and does nothing, where it has no kernel for weights
	// like w, or for as many tokens.
	NormedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool
	// NormedGatedMatMul is NormedMatMul with GatedMatMul in the place of MatMul.
	NormedGatedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool
}

// FoldedGrouped is implemented by streams that have the kernels of Gated and Normed for grouped weights as well.
type FoldedGrouped interface {
	// GatedGroupedMatMul is GatedMatMul with GroupedMatMul in the place of MatMul.
	GatedGroupedMatMul(y, x kernels.Mat, w kernels.Grouped) bool
	// NormedGroupedMatMul is NormedMatMul with GroupedMatMul in the place of MatMul.
	NormedGroupedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Grouped) bool
	// NormedGatedGroupedMatMul is NormedGroupedMatMul with GatedGroupedMatMul in the place of GroupedMatMul.
	NormedGatedGroupedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Grouped) bool
}

// GatedDiagonal is implemented by streams that multiply by the blocks of gate and up along a diagonal at once, SwiGLU included.
type GatedDiagonal interface {
	// DiagonalSwiGLU computes silu(gate) ⊙ up of the halves of y = x·wᵀ, for the matrix w that has two ws along its diagonal, gate
	// and up (out, in): it is in the first half of y (tokens, 2·out) then, with the bits of one MatMul after the other and
	// SwiGLU; the second half is used up. x is (tokens, sum of ins).
	DiagonalSwiGLU(y, x kernels.Mat, ws []kernels.Mat)
}

// foldable is a Linear that is one matrix as it is, by which streams may multiply with more than the product done. Its methods report
// whether the stream has a kernel for it. Norms are values: a pointer would have one allocated in each step.
type foldable interface {
	Linear
	// gated computes SwiGLU of the halves of l·x.
	gated(p *Pass, y, x kernels.Mat) bool
	// normed computes y = l·n(x).
	normed(p *Pass, y, x kernels.Mat, n RMSNorm) bool
	// normedGated is gated for n(x).
	normedGated(p *Pass, y, x kernels.Mat, n RMSNorm) bool
}

func (l *denseLinear) gated(p *Pass, y, x kernels.Mat) bool {
	s, ok := p.Stream.(Gated)
	return ok && s.GatedMatMul(y, x, l.w)
}

func (l *denseLinear) normed(p *Pass, y, x kernels.Mat, n RMSNorm) bool {
	s, ok := p.Stream.(Normed)
	return ok && s.NormedMatMul(y, x, n.gain, n.eps, l.w)
}

func (l *denseLinear) normedGated(p *Pass, y, x kernels.Mat, n RMSNorm) bool {
	s, ok := p.Stream.(Normed)
	return ok && s.NormedGatedMatMul(y, x, n.gain, n.eps, l.w)
}

func (l *groupedLinear) gated(p *Pass, y, x kernels.Mat) bool {
	s, ok := p.Stream.(FoldedGrouped)
	return ok && s.GatedGroupedMatMul(y, x, l.w)
}

func (l *groupedLinear) normed(p *Pass, y, x kernels.Mat, n RMSNorm) bool {
	s, ok := p.Stream.(FoldedGrouped)
	return ok && s.NormedGroupedMatMul(y, x, n.gain, n.eps, l.w)
}

func (l *groupedLinear) normedGated(p *Pass, y, x kernels.Mat, n RMSNorm) bool {
	s, ok := p.Stream.(FoldedGrouped)
	return ok && s.NormedGatedGroupedMatMul(y, x, n.gain, n.eps, l.w)
}

// normed computes y = l·norm(x), norm included, and reports whether it did. It does not where a probe waits to see the norm.
func normed(p *Pass, l Linear, y, x kernels.Mat, n *RMSNorm) bool {
	if p.Probe != nil {
		return false
	}
	switch l := l.(type) {
	case foldable:
		return l.normed(p, y, x, *n)
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

// out returns the members' results for x, or for the norm n of x, in scratch: (tokens, sum of outs).
func (g *Group) out(p *Pass, x kernels.Mat, n *RMSNorm) kernels.Mat {
	if n != nil {
		mark := p.Mark()
		y := p.Mat(x.Rows, g.total)
		if normed(p, g.linear, y, x, n) {
			g.addBias(p, y)
			return y
		}
		p.Release(mark)
		x = n.Out(p, x)
	}
	y := p.Mat(x.Rows, g.total)
	g.Apply(p, y, x, kernels.Set)
	return y
}

// swiGLU returns silu(gate)·up for x, or for the norm n of x, in scratch: (tokens, out).
func (g *Group) swiGLU(p *Pass, x kernels.Mat, n *RMSNorm) kernels.Mat {
	if g.bias.Rows == 0 {
		if y, ok := g.gated(p, x, n); ok {
			return y
		}
		if n != nil { // a norm by itself, which leaves SwiGLU to be done along
			x, n = n.Out(p, x), nil
			if y, ok := g.gated(p, x, nil); ok {
				return y
			}
		}
	}
	gate, up := g.two(g.out(p, x, n))
	p.SwiGLU(gate, gate, up)
	return gate
}

// gated is swiGLU where that needs no verb of its own, and neither does the norm; it reports whether it did it. It does not
// where a probe waits to see the norm.
func (g *Group) gated(p *Pass, x kernels.Mat, n *RMSNorm) (y kernels.Mat, ok bool) {
	if n != nil && p.Probe != nil {
		return y, false
	}
	mark := p.Mark()
	if y, ok = g.gatedProduct(p, x, n); !ok {
		p.Release(mark)
	} else if n == nil {
		p.Tap(g.Site, x)
	}
	return y, ok
}

// gatedProduct is gated for matrices as they are, below one another, and for factors whose second stages are such, along a
// diagonal.
func (g *Group) gatedProduct(p *Pass, x kernels.Mat, n *RMSNorm) (kernels.Mat, bool) {
	switch l := g.linear.(type) {
	case foldable:
		y := p.Mat(x.Rows, g.outs[0])
		if n != nil {
			return y, l.normedGated(p, y, x, *n)
		}
		return y, l.gated(p, y, x)
	case Factored:
		u, v := l.Factors()
		s, ok := p.Stream.(GatedDiagonal)
		d, diagonal := u.(*blocksLinear)
		if !ok || !diagonal || !d.diagonal || len(d.dense) != 2 || len(d.linears) != 2 {
			break
		}
		y := p.Mat(x.Rows, g.total)
		mark := p.Mark()
		t := p.Mat(x.Rows, d.in)
		if n == nil || !normed(p, v, t, x, n) {
			if n != nil {
				x = n.Out(p, x)
			}
			v.Apply(p, t, x, kernels.Set)
		}
		s.DiagonalSwiGLU(y, t, d.dense)
		p.Release(mark)
		return y.Window(0, g.outs[0]), true
	}
	return kernels.Mat{}, false
}
