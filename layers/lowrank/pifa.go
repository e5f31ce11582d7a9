package lowrank

import (
	"fmt"

	"eckart/kernels"
	"eckart/layers"
)

// PIFA is a matrix of low rank of which rank rows, the pivots, are stored as they are, and the others as combinations of
// them: pivoting factorization (Zhao et al. 2025, arXiv 2501.19090). It holds rank·(out + in - rank) numbers, fewer than
// two factors of the rank and never more than the matrix, and what the pivots give is a part of the result.
type PIFA struct {
	pivots []int32 // (rank)
	v, k   layers.Weight
}

var (
	_ layers.Weight  = (*PIFA)(nil)
	_ layers.Stacker = (*PIFA)(nil)
)

// NewPIFA returns the matrix (out, in) whose row pivots[i] is row i of v (rank, in); its other rows, in order, are k·v
// with k (out-rank, rank). v and k are dense or grouped. k may have no rows, where it is dense.
func NewPIFA(pivots []int32, v, k layers.Weight) (*PIFA, error) {
	const what = "pivoted factors"
	rank, in := v.Dims()
	if err := checkFactor(what, "v", v, rank, in); err != nil {
		return nil, err
	}
	rest, cols := k.Dims()
	if cols != rank {
		return nil, fmt.Errorf("%s: part k is %d x %d, want %d columns, one for each row of v", what, rest, cols, rank)
	}
	if _, dense := k.(*layers.Dense); !dense || rest > 0 {
		if err := checkFactor(what, "k", k, rest, rank); err != nil {
			return nil, err
		}
	}
	if len(pivots) != rank {
		return nil, fmt.Errorf("%s: part pivots has %d elements, want one for each of the %d rows of v", what, len(pivots), rank)
	}
	p := &PIFA{pivots, v, k}
	seen := make([]bool, rank+rest)
	for i, row := range pivots {
		if row < 0 || int(row) >= len(seen) || seen[row] {
			return nil, fmt.Errorf("%s: part pivots has %d at %d, out of the %d rows or twice", what, row, i, len(seen))
		}
		seen[row] = true
	}
	return p, nil
}

// Kind returns "pifa".
func (p *PIFA) Kind() string { return "pifa" }

// Dims returns the rows and columns of the matrix.
func (p *PIFA) Dims() (out, in int) {
	rank, in := p.v.Dims()
	rest, _ := p.k.Dims()
	return rank + rest, in
}

// Rank returns the number of pivots.
func (p *PIFA) Rank() int { return len(p.pivots) }

// Factors returns the rows of the matrix that v (rank, in) holds, v, and k (out-rank, rank). The caller must not change
// pivots.
func (p *PIFA) Factors() (pivots []int32, v, k layers.Weight) { return p.pivots, p.v, p.k }

// Parts returns the parts of v (rank, in) and k (out-rank, rank) as layers.Nested names them, and "pivots" (1, rank), I32.
// A reader needs no more than the parts: shapes give the rank, names the kinds of v and k.
func (p *PIFA) Parts() []layers.Part {
	pivots := layers.Part{Name: "pivots", Type: kernels.I32, Rows: 1, Cols: len(p.pivots), Read: func(dst []byte, _ int) error {
		copy(dst, kernels.Int32Bytes(p.pivots))
		return nil
	}}
	return append(append(layers.Nested("v", p.v), layers.Nested("k", p.k)...), pivots)
}

// places returns for each row of v and then of k·v the row of the matrix that it is.
func (p *PIFA) places() []int32 {
	out, _ := p.Dims()
	pivot := make([]bool, out)
	for _, row := range p.pivots {
		pivot[row] = true
	}
	places := append(make([]int32, 0, out), p.pivots...)
	for row, is := range pivot {
		if !is {
			places = append(places, int32(row))
		}
	}
	return places
}

// Dense returns the matrix, its combined rows summed in float64.
func (p *PIFA) Dense() ([]float32, error) {
	v, err := p.v.Dense()
	if err != nil {
		return nil, layers.InPart(err, "v")
	}
	k, err := p.k.Dense()
	if err != nil {
		return nil, layers.InPart(err, "k")
	}
	out, in := p.Dims()
	rows := append(v, product(k, v, p.Rank(), in)...)
	dense := make([]float32, out*in)
	for i, row := range p.places() {
		copy(dense[int(row)*in:], rows[i*in:][:in])
	}
	return dense, nil
}

// Bind binds v and k, and where their results go.
func (p *PIFA) Bind(a kernels.Arena, s kernels.Stream) (layers.Linear, error) {
	v, err := p.v.Bind(a, s)
	if err != nil {
		return nil, layers.InPart(err, "v")
	}
	k, err := p.k.Bind(a, s)
	if err != nil {
		return nil, layers.InPart(err, "k")
	}
	out, _ := p.Dims()
	places, err := a.Alloc(1, out, kernels.I32)
	if err != nil {
		return nil, err
	}
	l := &pifaLinear{v, k, places}
	if places.Host == nil && places.Addr == 0 {
		return l, nil // a kernels.Counter has no memory
	}
	s.Upload(places, kernels.Int32Bytes(p.places()))
	return l, s.Sync()
}

// Stack implements layers.Stacker: the rows that are stored lie below one another, so that they are multiplied by at once,
// and so do the pivots; each k reads its part of the result.
func (p *PIFA) Stack(members []layers.Member) layers.Weight {
	var whole PIFA
	var vs, ks []layers.Member
	row := 0
	for _, m := range members {
		o, ok := m.Weight.(*PIFA)
		if !ok {
			return nil
		}
		for _, pivot := range o.pivots {
			whole.pivots = append(whole.pivots, int32(row)+pivot)
		}
		vs, ks = append(vs, layers.Member{Name: m.Name, Weight: o.v}), append(ks, layers.Member{Name: m.Name, Weight: o.k})
		out, _ := o.Dims()
		row += out
	}
	whole.v, whole.k = layers.Below(vs), layers.Diagonal(ks)
	return &whole
}

// pifaLinear multiplies by the pivots, combines what they give, and puts both in their places.
type pifaLinear struct {
	v, k   layers.Linear
	places kernels.Mat // (1, out): of the rows of v, then of those of k·v
}

func (l *pifaLinear) Dims() (out, in int) {
	_, in = l.v.Dims()
	return l.places.Cols, in
}

func (l *pifaLinear) Bytes() int64 { return l.v.Bytes() + l.k.Bytes() + l.places.Bytes() }

func (l *pifaLinear) Apply(p *layers.Pass, y, x kernels.Mat, m kernels.Mode) {
	mark := p.Mark()
	rest, rank := l.k.Dims()
	t := p.Mat(x.Rows, layers.OddLines(rank)).Window(0, rank)
	l.v.Apply(p, t, x, kernels.Set)
	layers.Scatter(p, l.k, y, t, l.places.Window(0, rank), l.places.Window(rank, rest), m)
	p.Release(mark)
}
