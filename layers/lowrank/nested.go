package lowrank

import (
	"fmt"
	"math"

	"eckart/kernels"
	"eckart/layers"
)

// Nested is factors in order of importance, stored so that those of a lower rank are a prefix of each part: what was
// factored once is cut at load to the rank that a budget allows, and no more of it is read. A product of factors that
// a singular value decomposition gives is the best of its rank for every rank at once (Eckart and Young 1936); training
// with ordered dropout leads to such factors too (Maestro, Horváth et al. 2023, arXiv 2308.14929).
type Nested struct {
	ut, v  layers.Part
	energy []float32
}

var (
	_ layers.Weight  = (*Nested)(nil)
	_ layers.Stacker = (*Nested)(nil)
)

// NewNested returns the matrix utᵀ·v of ut (rank, out) and v (rank, in), of type F32, F16 or BF16, the most important
// rows first. energy holds for each of the rank directions the squared singular value that it stands for: what the
// squared error grows by without it.
func NewNested(ut, v layers.Part, energy []float32) (*Nested, error) {
	ut.Name, v.Name = "ut", "v"
	for _, p := range []layers.Part{ut, v} {
		if p.Type != kernels.F32 && p.Type != kernels.F16 && p.Type != kernels.BF16 {
			return nil, fmt.Errorf("nested factors: part %s is of type %s, want f32, f16 or bf16", p.Name, p.Type)
		}
		if p.Rows < 1 || p.Cols < 1 {
			return nil, fmt.Errorf("nested factors: part %s is empty (%d x %d)", p.Name, p.Rows, p.Cols)
		}
	}
	if ut.Rows != v.Rows {
		return nil, fmt.Errorf("nested factors: part ut has %d rows, want %d as v has", ut.Rows, v.Rows)
	}
	if len(energy) != v.Rows {
		return nil, fmt.Errorf("nested factors: part energy has %d elements, want one for each of the %d rows of v", len(energy), v.Rows)
	}
	for i, e := range energy {
		if f := float64(e); math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
			return nil, fmt.Errorf("nested factors: part energy has %g at %d, want a finite number that is not negative", e, i)
		}
	}
	return &Nested{ut, v, energy}, nil
}

// Truncate returns the matrix of the first r directions. Of ut and v it reads the first r rows only.
func (n *Nested) Truncate(r int) (*Nested, error) {
	if r < 1 || r > n.Rank() {
		return nil, fmt.Errorf("nested factors: rank %d of %d", r, n.Rank())
	}
	t := &Nested{n.ut, n.v, n.energy[:r]}
	t.ut.Rows, t.v.Rows = r, r
	return t, nil
}

// Kind returns "nested".
func (n *Nested) Kind() string { return "nested" }

// Dims returns the rows and columns of the matrix.
func (n *Nested) Dims() (out, in int) { return n.ut.Cols, n.v.Cols }

// Rank returns the rows of ut and v.
func (n *Nested) Rank() int { return n.v.Rows }

// Energy returns the squared singular value that each direction stands for. The caller must not change it.
func (n *Nested) Energy() []float32 { return n.energy }

// Parts returns "ut" (rank, out), "v" (rank, in) and "energy" (1, rank), F32. A reader needs no more than these.
func (n *Nested) Parts() []layers.Part {
	energy := layers.Part{Name: "energy", Type: kernels.F32, Rows: 1, Cols: len(n.energy), Read: func(dst []byte, _ int) error {
		copy(dst, kernels.Float32Bytes(n.energy))
		return nil
	}}
	return []layers.Part{n.ut, n.v, energy}
}

// Dense returns utᵀ·v, summed in float64.
func (n *Nested) Dense() ([]float32, error) { return n.factors().Dense() }

// Bind binds the factors; ut is transposed while it is read.
func (n *Nested) Bind(a kernels.Arena, s kernels.Stream) (layers.Linear, error) {
	return n.factors().Bind(a, s)
}

// Stack implements layers.Stacker, as Weight does.
func (n *Nested) Stack(members []layers.Member) layers.Weight { return n.factors().Stack(members) }

// factors returns the same matrix as a product of factors that are bound as they are.
func (n *Nested) factors() *Weight {
	return &Weight{layers.NewDense(transposed(n.ut)), layers.NewDense(n.v)}
}

// transposeBytes bounds what is read at once of a part that is transposed.
const transposeBytes = 1 << 20

// transposed returns p with rows and columns exchanged. A read goes through all rows of p, some at a time.
func transposed(p layers.Part) layers.Part {
	t := p
	t.Rows, t.Cols = p.Cols, p.Rows
	t.Read = func(dst []byte, row int) error {
		unit := p.Type.Bytes()
		count := len(dst) / (t.Cols * unit) // rows of the result, columns of p
		most := min(p.Rows, max(1, transposeBytes/(p.Cols*unit)))
		buf := make([]byte, most*p.Cols*unit)
		for from := 0; from < p.Rows; from += most {
			rows := min(most, p.Rows-from)
			if err := p.Read(buf[:rows*p.Cols*unit], from); err != nil {
				return err
			}
			transpose(dst[from*unit:], buf[row*unit:], count, rows, t.Cols, p.Cols, unit)
		}
		return nil
	}
	return t
}

// transpose copies elements of unit bytes from src to dst: element (j, i) of src becomes (i, j) of dst, for i below rows
// and j below cols. Strides are in elements.
func transpose(dst, src []byte, rows, cols, dstStride, srcStride, unit int) {
	for i := range rows {
		to := dst[i*dstStride*unit:]
		from := src[i*unit:]
		for j := range cols {
			copy(to[j*unit:][:unit], from[j*srcStride*unit:])
		}
	}
}
