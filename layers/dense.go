package layers

import "eckart/kernels"

// Dense is a matrix stored as itself, in F32, F16 or BF16.
type Dense struct{ weight Part }

var (
	_ Weight  = (*Dense)(nil)
	_ Stacker = (*Dense)(nil)
)

// NewDense returns the matrix (out, in) that part holds.
func NewDense(part Part) *Dense { return &Dense{part} }

// Kind returns "dense".
func (d *Dense) Kind() string { return "dense" }

// Dims returns the rows and columns of the matrix.
func (d *Dense) Dims() (out, in int) { return d.weight.Rows, d.weight.Cols }

// Parts returns the one array that the matrix is.
func (d *Dense) Parts() []Part { return []Part{d.weight} }

// Dense returns the matrix widened to F32.
func (d *Dense) Dense() ([]float32, error) {
	w := d.weight
	raw := make([]byte, w.Rows*w.Cols*w.Type.Bytes())
	if len(raw) > 0 {
		if err := w.Read(raw, 0); err != nil {
			return nil, err
		}
	}
	return Float32s(raw, w.Type), nil
}

// Bind places the matrix in the arena, in the type it is stored in.
func (d *Dense) Bind(a kernels.Arena, s kernels.Stream) (Linear, error) {
	m, err := a.Alloc(d.weight.Rows, d.weight.Cols, d.weight.Type)
	if err != nil {
		return nil, err
	}
	return &denseLinear{m}, d.weight.load(m, s)
}

// Stack implements Stacker: matrices of one type lie below one another as they are.
func (d *Dense) Stack(members []Member) Weight {
	all := d.weight
	all.Rows = 0
	parts := make([]Part, len(members))
	for i, m := range members {
		o, ok := m.Weight.(*Dense)
		if !ok || o.weight.Type != all.Type || o.weight.Cols != all.Cols {
			return nil
		}
		all.Rows += o.weight.Rows
		parts[i] = o.weight
	}
	rowBytes := all.Cols * all.Type.Bytes()
	all.Read = func(dst []byte, row int) error {
		return spread(members, row, len(dst)/rowBytes, func(i, from, n, at int) error {
			return parts[i].Read(dst[at*rowBytes:][:n*rowBytes], from)
		})
	}
	return NewDense(all)
}

// denseLinear multiplies by a matrix as it is.
type denseLinear struct{ w kernels.Mat }

func (l *denseLinear) Dims() (out, in int) { return l.w.Rows, l.w.Cols }
func (l *denseLinear) Bytes() int64        { return l.w.Bytes() }

func (l *denseLinear) Apply(p *Pass, y, x kernels.Mat, m kernels.Mode) { p.MatMul(y, x, l.w, m) }

// Embed implements Rows.
func (l *denseLinear) Embed(p *Pass, y, ids kernels.Mat) { p.Embed(y, l.w, ids) }

// Rows is implemented by a Linear that can also give rows of its matrix: a table of embeddings, which is the output
// head at the same time where the two are tied.
type Rows interface {
	// Embed sets row i of y (tokens, in) to row ids[i] of the matrix.
	Embed(p *Pass, y, ids kernels.Mat)
}
