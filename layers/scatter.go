package layers

import "eckart/kernels"

// A Scatterer is a stream that puts the columns of a product in their places while it computes them. A stream that is none
// goes through the product twice, with the same result.
type Scatterer interface {
	// ScatterMatMul puts columns beside those of a product: y[:, xCols[j]] = x[:, j] and y[:, cols[j]] = (x·wᵀ)[:, j], or adds
	// them there. xCols is (1, x.Cols), cols (1, w.Rows); no column of y comes twice.
	ScatterMatMul(y, x, w, xCols, cols kernels.Mat, m kernels.Mode)
}

// scatterTokens is how many tokens are taken at once where a product is gone through twice: it stays in a cache meanwhile.
const scatterTokens = 128

// Scatter computes y[:, xCols[j]] = x[:, j] and y[:, cols[j]] = (x·Wᵀ)[:, j] with l, or adds them. y is (tokens, at least
// in + out), x (tokens, in), xCols (1, in), cols (1, out); no column of y comes twice.
func Scatter(p *Pass, l Linear, y, x, xCols, cols kernels.Mat, m kernels.Mode) {
	if b, ok := l.(*blocksLinear); ok && b.diagonal {
		row, col := 0, 0
		for _, l := range b.linears {
			out, in := l.Dims()
			Scatter(p, l, y, x.Window(col, in), xCols.Window(col, in), cols.Window(row, out), m)
			row += out
			col += in
		}
		return
	}
	// Taken on every stream, so that what is counted on one is what another needs.
	mark := p.Mark()
	z := p.Mat(min(x.Rows, scatterTokens), OddLines(cols.Cols)).Window(0, cols.Cols)
	defer p.Release(mark)
	if d, ok := l.(*denseLinear); ok {
		if s, ok := p.Stream.(Scatterer); ok {
			s.ScatterMatMul(y, x, d.w, xCols, cols, m)
			return
		}
	}
	for from := 0; from < x.Rows; from += scatterTokens {
		n := min(scatterTokens, x.Rows-from)
		y, x, z := y.Slice(from, n), x.Slice(from, n), z.Slice(0, n)
		p.Scatter(y, x, xCols, m)
		l.Apply(p, z, x, kernels.Set)
		p.Scatter(y, z, cols, m)
	}
}

// OddLines returns a stride of at least cols F32 numbers that is an odd number of cache lines: rows that far apart do not
// compete for the same places of a cache.
func OddLines(cols int) int {
	const line = kernels.Align / 4
	return ((cols+line-1)/line | 1) * line
}
