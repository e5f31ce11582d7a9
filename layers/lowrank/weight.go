// Package lowrank is matrices of low rank: factors as they are stored and as they run (Weight, PIFA, Nested), and the
// methods that find factors for a matrix.
package lowrank

import (
	"fmt"

	"eckart/kernels"
	"eckart/layers"
)

// Weight is a product of two factors, u·v.
type Weight struct{ u, v layers.Weight }

var (
	_ layers.Weight  = (*Weight)(nil)
	_ layers.Stacker = (*Weight)(nil)
)

// New returns the matrix u·v of u (out, rank) and v (rank, in), each dense or grouped.
//
// Matrices that read one input may have one v in common: where members of a layers.Group that are neighbours hold the
// same v, the same pointer, it is bound and run once.
func New(u, v layers.Weight) (*Weight, error) {
	out, r := u.Dims()
	rank, in := v.Dims()
	if err := checkFactor("low-rank matrix", "v", v, rank, in); err != nil {
		return nil, err
	}
	if r != rank {
		return nil, fmt.Errorf("low-rank matrix: part u is %d x %d, want %d columns, one for each row of v (%d x %d)", out, r, rank, rank, in)
	}
	return &Weight{u, v}, checkFactor("low-rank matrix", "u", u, out, rank)
}

// checkFactor refuses a factor that is not rows by cols, is empty or of a kind that is no factor.
func checkFactor(what, part string, w layers.Weight, rows, cols int) error {
	switch w.(type) {
	case *layers.Dense, *layers.Grouped:
	default:
		return fmt.Errorf("%s: part %s is of kind %s, want dense or grouped", what, part, w.Kind())
	}
	out, in := w.Dims()
	if out != rows || in != cols {
		return fmt.Errorf("%s: part %s is %d x %d, want %d x %d", what, part, out, in, rows, cols)
	}
	if out < 1 || in < 1 {
		return fmt.Errorf("%s: part %s is empty (%d x %d)", what, part, out, in)
	}
	return nil
}

// Kind returns "lowrank".
func (w *Weight) Kind() string { return "lowrank" }

// Dims returns the rows and columns of the matrix.
func (w *Weight) Dims() (out, in int) {
	out, _ = w.u.Dims()
	_, in = w.v.Dims()
	return out, in
}

// Rank returns the columns of u, which are the rows of v.
func (w *Weight) Rank() int {
	_, rank := w.u.Dims()
	return rank
}

// Factors returns u (out, rank) and v (rank, in).
func (w *Weight) Factors() (u, v layers.Weight) { return w.u, w.v }

// Parts returns the parts of both factors as layers.Nested names them: "u" (out, rank) and "v" (rank, in) where they are
// dense. A reader needs no more than the parts: shapes give the rank, names the kinds of the factors. What a grouped
// factor needs beside its parts is said there.
func (w *Weight) Parts() []layers.Part {
	return append(layers.Nested("u", w.u), layers.Nested("v", w.v)...)
}

// Dense returns u·v, summed in float64.
func (w *Weight) Dense() ([]float32, error) {
	u, err := w.u.Dense()
	if err != nil {
		return nil, layers.InPart(err, "u")
	}
	v, err := w.v.Dense()
	if err != nil {
		return nil, layers.InPart(err, "v")
	}
	_, in := w.v.Dims()
	return product(u, v, w.Rank(), in), nil
}

// product returns u·v for v (rank, in), summed in float64.
func product(u, v []float32, rank, in int) []float32 {
	y := make([]float32, len(u)/rank*in)
	sums := make([]float64, in)
	for o := range len(u) / rank {
		clear(sums)
		for k, f := range u[o*rank:][:rank] {
			for i, g := range v[k*in:][:in] {
				sums[i] += float64(f) * float64(g)
			}
		}
		for i, sum := range sums {
			y[o*in+i] = float32(sum)
		}
	}
	return y
}

// Bind binds both factors.
func (w *Weight) Bind(a kernels.Arena, s kernels.Stream) (layers.Linear, error) {
	v, err := w.v.Bind(a, s)
	if err != nil {
		return nil, layers.InPart(err, "v")
	}
	u, err := w.u.Bind(a, s)
	if err != nil {
		return nil, layers.InPart(err, "u")
	}
	return &linear{u, v}, nil
}

// Stack implements layers.Stacker, also with members that are nested: the first stages lie below one another and run as
// one, and each second stage reads its part of the result. Neighbours with one v in common share it, and their second
// stages lie below one another.
func (w *Weight) Stack(members []layers.Member) layers.Weight {
	var us, vs []layers.Member // a second stage for each first stage
	var sharing []layers.Member
	for i, m := range members {
		o := factored(m.Weight)
		if o == nil {
			return nil
		}
		u := layers.Member{Name: m.Name, Weight: o.u}
		if i > 0 && o.v == vs[len(vs)-1].Weight {
			sharing = append(sharing, u)
			us[len(us)-1] = layers.Member{Weight: layers.Below(sharing)}
			continue
		}
		sharing = []layers.Member{u}
		us, vs = append(us, u), append(vs, layers.Member{Name: m.Name, Weight: o.v})
	}
	if len(us) == 1 {
		return &Weight{us[0].Weight, vs[0].Weight}
	}
	return &Weight{layers.Diagonal(us), layers.Below(vs)}
}

// factored returns w as a product of factors, or nil.
func factored(w layers.Weight) *Weight {
	switch w := w.(type) {
	case *Weight:
		return w
	case *Nested:
		return w.factors()
	}
	return nil
}

// linear multiplies in two stages.
type linear struct{ u, v layers.Linear }

func (l *linear) Dims() (out, in int) {
	out, _ = l.u.Dims()
	_, in = l.v.Dims()
	return out, in
}

func (l *linear) Bytes() int64 { return l.u.Bytes() + l.v.Bytes() }

// Factors implements layers.Factored.
func (l *linear) Factors() (u, v layers.Linear) { return l.u, l.v }

func (l *linear) Apply(p *layers.Pass, y, x kernels.Mat, m kernels.Mode) {
	mark := p.Mark()
	_, rank := l.u.Dims()
	t := p.Mat(x.Rows, rank)
	l.v.Apply(p, t, x, kernels.Set)
	l.u.Apply(p, y, t, m)
	p.Release(mark)
}
