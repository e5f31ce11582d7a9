package layers

import (
	"fmt"

	"eckart/kernels"
)

// Sum is the sum of two matrices: a quantized base and a low-rank residual, for instance.
type Sum struct{ a, b Weight }

var (
	_ Weight  = (*Sum)(nil)
	_ Stacker = (*Sum)(nil)
)

// NewSum returns a + b, both (out, in).
func NewSum(a, b Weight) (*Sum, error) {
	out, in := a.Dims()
	if o, i := b.Dims(); o != out || i != in {
		return nil, fmt.Errorf("sum of two matrices: b is %d x %d, want %d x %d as a is", o, i, out, in)
	}
	return &Sum{a, b}, nil
}

// Kind returns "sum".
func (s *Sum) Kind() string { return "sum" }

// Dims returns the rows and columns of the matrix.
func (s *Sum) Dims() (out, in int) { return s.a.Dims() }

// Terms returns the matrices that are added.
func (s *Sum) Terms() (a, b Weight) { return s.a, s.b }

// Parts returns the parts of both terms as Nested names them, below "a" and "b". Beside them nothing needs to be known:
// the kinds of the terms are in the names.
func (s *Sum) Parts() []Part { return append(Nested("a", s.a), Nested("b", s.b)...) }

// Dense returns the sum in F32.
func (s *Sum) Dense() ([]float32, error) {
	a, err := s.a.Dense()
	if err != nil {
		return nil, InPart(err, "a")
	}
	b, err := s.b.Dense()
	if err != nil {
		return nil, InPart(err, "b")
	}
	sum := make([]float32, len(a))
	for i, v := range a {
		sum[i] = v + b[i]
	}
	return sum, nil
}

// Bind binds both terms. Of a product, a's is set, and b's added to it.
func (s *Sum) Bind(arena kernels.Arena, stream kernels.Stream) (Linear, error) {
	a, err := s.a.Bind(arena, stream)
	if err != nil {
		return nil, InPart(err, "a")
	}
	b, err := s.b.Bind(arena, stream)
	if err != nil {
		return nil, InPart(err, "b")
	}
	l := &sumLinear{a: a, b: b}
	base, grouped := a.(*groupedLinear)
	product, factored := b.(Factored)
	if grouped && factored {
		u, v := product.Factors()
		if u, ok := u.(*denseLinear); ok {
			l.base, l.u, l.v = base, u, v
		}
	}
	return l, nil
}

// Stack implements Stacker: the first terms lie below one another, and so do the second ones.
func (s *Sum) Stack(members []Member) Weight {
	var a, b []Member
	for _, m := range members {
		o, ok := m.Weight.(*Sum)
		if !ok {
			return nil
		}
		a, b = append(a, Member{Name: m.Name, Weight: o.a}), append(b, Member{Name: m.Name, Weight: o.b})
	}
	return &Sum{Below(a), Below(b)}
}

// Factored is implemented by a Linear that multiplies by v and what comes of it by u.
type Factored interface {
	Factors() (u, v Linear)
}

// plusStream is a stream that multiplies by a grouped matrix and adds another product in the same pass, which spares it a
// verb and the reading and writing of y: y = x·wᵀ + z·uᵀ for y (tokens, out), x (tokens, in), w (out, in), z (tokens, rank) and
// u (out, rank).
type plusStream interface {
	GroupedMatMulPlus(y, x kernels.Mat, w kernels.Grouped, z, u kernels.Mat, m kernels.Mode)
}

// sumLinear multiplies by one term after the other, or by both at once where they are a grouped base and a product u·v.
type sumLinear struct {
	a, b Linear

	base *groupedLinear // nil where the terms are others
	u    *denseLinear
	v    Linear
}

func (l *sumLinear) Dims() (out, in int) { return l.a.Dims() }
func (l *sumLinear) Bytes() int64        { return l.a.Bytes() + l.b.Bytes() }

func (l *sumLinear) Apply(p *Pass, y, x kernels.Mat, m kernels.Mode) {
	if s, ok := p.Stream.(plusStream); ok && l.base != nil {
		mark := p.Mark()
		z := p.Mat(x.Rows, l.u.w.Cols)
		l.v.Apply(p, z, x, kernels.Set)
		s.GroupedMatMulPlus(y, x, l.base.w, z, l.u.w, m)
		p.Release(mark)
		return
	}
	l.a.Apply(p, y, x, m)
	l.b.Apply(p, y, x, kernels.Add)
}
