package layers

import (
	"strconv"

	"eckart/kernels"
)

// blocks is a matrix made of others: below one another, or along a diagonal with zeros elsewhere. It exists in memory
// alone: a Stack returns it for what a group runs.
type blocks struct {
	members  []Member
	diagonal bool
}

// Diagonal returns the matrix that has members, at least one, along its diagonal and zeros elsewhere: (sum of outs, sum
// of ins). It is the second stage of factors whose first stages lie below one another. Biases are not looked at.
func Diagonal(members []Member) Weight {
	return &blocks{members: members, diagonal: true}
}

// Kind returns "diagonal" or "below".
func (b *blocks) Kind() string {
	if b.diagonal {
		return "diagonal"
	}
	return "below"
}

// Dims returns the rows and columns of the whole.
func (b *blocks) Dims() (out, in int) {
	for _, m := range b.members {
		o, i := m.Weight.Dims()
		out += o
		if b.diagonal {
			in += i
		} else {
			in = i
		}
	}
	return out, in
}

// Parts returns the parts of the members, each below the member's place.
func (b *blocks) Parts() []Part {
	var parts []Part
	for i, m := range b.members {
		parts = append(parts, Nested(strconv.Itoa(i), m.Weight)...)
	}
	return parts
}

// Dense returns the whole matrix.
func (b *blocks) Dense() ([]float32, error) {
	out, in := b.Dims()
	dense := make([]float32, out*in)
	row, col := 0, 0
	for _, m := range b.members {
		d, err := m.Weight.Dense()
		if err != nil {
			return nil, Named(err, m.Name)
		}
		o, i := m.Weight.Dims()
		for r := range o {
			copy(dense[(row+r)*in+col:], d[r*i:][:i])
		}
		row += o
		if b.diagonal {
			col += i
		}
	}
	return dense, nil
}

// Bind binds each of the members.
func (b *blocks) Bind(a kernels.Arena, s kernels.Stream) (Linear, error) {
	l := &blocksLinear{diagonal: b.diagonal}
	l.out, l.in = b.Dims()
	for _, m := range b.members {
		linear, err := m.Weight.Bind(a, s)
		if err != nil {
			return nil, Named(err, m.Name)
		}
		l.linears = append(l.linears, linear)
		if d, ok := linear.(*denseLinear); ok {
			l.dense = append(l.dense, d.w)
		}
	}
	return l, nil
}

// blocksLinear multiplies by one member after the other.
type blocksLinear struct {
	linears  []Linear
	out, in  int
	diagonal bool
	dense    []kernels.Mat // of the linears that are matrices as they are
}

// DiagonalMultiplier is implemented by streams that multiply by the blocks of a diagonal at once.
type DiagonalMultiplier interface {
	// DiagonalMatMul computes y = x·wᵀ, or adds it, for the matrix w that has ws (out, in) along its diagonal and zeros elsewhere:
	// y is (tokens, sum of outs), x (tokens, sum of ins). Results have the bits of one MatMul after the other.
	DiagonalMatMul(y, x kernels.Mat, ws []kernels.Mat, m kernels.Mode)
}

func (l *blocksLinear) Dims() (out, in int) { return l.out, l.in }

func (l *blocksLinear) Bytes() int64 {
	var n int64
	for _, b := range l.linears {
		n += b.Bytes()
	}
	return n
}

func (l *blocksLinear) Apply(p *Pass, y, x kernels.Mat, m kernels.Mode) {
	if l.diagonal && len(l.dense) == len(l.linears) {
		if s, ok := p.Stream.(DiagonalMultiplier); ok {
			s.DiagonalMatMul(y, x, l.dense, m)
			return
		}
	}
	row, col := 0, 0
	for _, b := range l.linears {
		out, in := b.Dims()
		b.Apply(p, y.Window(row, out), x.Window(col, in), m)
		row += out
		if l.diagonal {
			col += in
		}
	}
}
