package layers

import (
	"fmt"

	"eckart/kernels"
)

// A Member is one matrix of a Group, with its bias if it has one.
type Member struct {
	Name   string // for errors
	Weight Weight
	Bias   []float32 // nil for none
}

// A Group is the matrices that read one input: q, k and v, or gate and up, or a single one. What they can share is
// found when they are bound: neighbours that are stored alike run as one matrix (Below).
type Group struct {
	Site   string // the input that the members read, as calibration names it
	linear Linear
	outs   []int       // columns of each member
	total  int         // their sum
	bias   kernels.Mat // (1, total), zero columns for members without; no rows when none has
}

// BindGroup binds matrices that read one input.
func BindGroup(a kernels.Arena, s kernels.Stream, site string, members ...Member) (*Group, error) {
	g := &Group{Site: site}
	biased := false
	for _, m := range members {
		out, _ := m.Weight.Dims()
		if m.Bias != nil && len(m.Bias) != out {
			return nil, fmt.Errorf("bind %s: bias has %d elements, want %d", site, len(m.Bias), out)
		}
		g.outs = append(g.outs, out)
		g.total += out
		biased = biased || m.Bias != nil
	}
	var err error
	if g.linear, err = Below(members).Bind(a, s); err != nil {
		return nil, Named(err, members[0].Name) // unless it names another
	}
	if biased {
		all := make([]float32, 0, g.total)
		for i, m := range members {
			all = append(all, m.Bias...)
			all = append(all, make([]float32, g.outs[i]-len(m.Bias))...)
		}
		if g.bias, err = bindVector(a, s, all); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Apply computes the members' results side by side: y (tokens, sum of outs), or adds them to it.
func (g *Group) Apply(p *Pass, y, x kernels.Mat, m kernels.Mode) {
	p.Tap(g.Site, x)
	g.linear.Apply(p, y, x, m)
	g.addBias(p, y)
}

func (g *Group) addBias(p *Pass, y kernels.Mat) {
	if g.bias.Rows > 0 {
		p.Bias(y, g.bias)
	}
}

// Out2 returns the results of a group of two, windows of one scratch matrix.
func (g *Group) Out2(p *Pass, x kernels.Mat) (a, b kernels.Mat) { return g.two(g.out(p, x, nil)) }

// Out3 returns the results of a group of three, windows of one scratch matrix.
func (g *Group) Out3(p *Pass, x kernels.Mat) (a, b, c kernels.Mat) { return g.three(g.out(p, x, nil)) }

// NormedOut3 returns the results of a group of three for the norm of x, windows of one scratch matrix.
func (g *Group) NormedOut3(p *Pass, n RMSNorm, x kernels.Mat) (a, b, c kernels.Mat) {
	return g.three(g.out(p, x, &n))
}

// SwiGLU returns silu(gate)·up for a group of gate and up, in scratch: (tokens, out).
func (g *Group) SwiGLU(p *Pass, x kernels.Mat) kernels.Mat { return g.swiGLU(p, x, nil) }

// NormedSwiGLU returns silu(gate)·up for the norm of x, in scratch: (tokens, out).
func (g *Group) NormedSwiGLU(p *Pass, n RMSNorm, x kernels.Mat) kernels.Mat {
	return g.swiGLU(p, x, &n)
}

// two and three return the columns of each member.
func (g *Group) two(y kernels.Mat) (a, b kernels.Mat) {
	return y.Window(0, g.outs[0]), y.Window(g.outs[0], g.outs[1])
}

func (g *Group) three(y kernels.Mat) (a, b, c kernels.Mat) {
	return y.Window(0, g.outs[0]), y.Window(g.outs[0], g.outs[1]), y.Window(g.outs[0]+g.outs[1], g.outs[2])
}

// Bytes returns the bytes of weights read to apply the group once.
func (g *Group) Bytes() int64 { return g.linear.Bytes() }

// bindVector places v in the arena as a row.
func bindVector(a kernels.Arena, s kernels.Stream, v []float32) (kernels.Mat, error) {
	m, err := a.Alloc(1, len(v), kernels.F32)
	if err != nil {
		return kernels.Mat{}, err
	}
	if m.Host != nil || m.Addr != 0 {
		s.Upload(m, kernels.Float32Bytes(v))
		err = s.Sync()
	}
	return m, err
}
