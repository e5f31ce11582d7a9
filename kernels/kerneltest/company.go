package kerneltest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/kernels"
)

// A row's result must have the same bits whoever is with it: in a call of one row, of many, and of any piece of them, as
// far as the calls are of one class (Options.Class).

// A company holds the rows of one result as each class of calls gave them first.
type company struct {
	class func(rows int) int
	cols  int
	rows  map[[2]int][]float32 // by class and row
}

func (b *bench) company(verb string, cols int) company {
	class := func(int) int { return 0 }
	if b.options.Class != nil {
		class = func(rows int) int { return b.options.Class(verb, rows) }
	}
	return company{class, cols, map[[2]int][]float32{}}
}

// compare holds rows that came from calls of pieces against what calls of the same class gave before.
func (c company) compare(t *testing.T, name string, pieces []int, got []float32) {
	t.Helper()
	inPieces(pieces, func(first, n int) {
		for row := first; row < first+n; row++ {
			c.row(t, name, n, row, got[row*c.cols:][:c.cols])
		}
	})
}

// row holds one row that came from a call of n.
func (c company) row(t *testing.T, name string, n, row int, got []float32) {
	t.Helper()
	key := [2]int{c.class(n), row}
	if want, ok := c.rows[key]; ok {
		sameBits(t, fmt.Sprintf("%s: row %d", name, row), got, want)
		return
	}
	c.rows[key] = slices.Clone(got)
}

// cuts are ways to cut rows into calls: all at once, one by one, and pieces of several sizes.
func cuts(rows int) [][]int {
	cut := func(sizes ...int) (pieces []int) {
		for at, i := 0, 0; at < rows; i++ {
			n := min(sizes[i%len(sizes)], rows-at)
			pieces = append(pieces, n)
			at += n
		}
		return pieces
	}
	return [][]int{cut(rows), cut(1), cut(2), cut(1, 5, 16, 3, 33, 7), cut(8), cut(13), cut(rows-1, 1)}
}

// showCut names a cut in a message by its first pieces.
func showCut(pieces []int) string {
	if len(pieces) > 7 {
		return fmt.Sprintf("%v and so on", pieces[:7])
	}
	return fmt.Sprint(pieces)
}

// inPieces calls do for each piece.
func inPieces(pieces []int, do func(first, n int)) {
	first := 0
	for _, n := range pieces {
		do(first, n)
		first += n
	}
}

// rowVerb is a verb on rows, ready to run on pieces of them; run returns the whole result.
type rowVerb struct {
	name string
	run  func(pieces []int) []float32
}

// rowVerbs returns the verbs that work on each row alone, over random rows; heads have 24 features, 20 of which turn.
func rowVerbs(b *bench, f frame, rows, heads int) []rowVerb {
	const width, turned = 24, 20
	cols := heads * width
	x, z := b.normal(rows*cols), b.normal(rows*cols)
	gain, freqs := b.normal(cols), b.normal(turned/2)
	pos := make([]int32, rows)
	for i := range pos {
		pos[i] = b.rand.Int32N(5000)
	}
	place := func(v []float32, n int) operand { return b.floats(f, len(v)/n, n, kernels.F32, v) }
	verb := func(name string, y func() operand, do func(y kernels.Mat, first, n int)) rowVerb {
		return rowVerb{name, func(pieces []int) []float32 {
			b.Helper()
			mark := b.used
			o := y()
			inPieces(pieces, func(first, n int) { do(o.Slice(first, n), first, n) })
			b.used = mark
			return b.read(o)
		}}
	}
	in, other, scale := place(x, cols), place(z, cols), place(gain, cols)
	angles := place(b.normal(rows*turned), turned)
	positions, waves := b.ints(pos), place(freqs, turned/2)
	fresh := func() operand { return b.blank(f, rows, cols) }
	old := func() operand { return place(x, cols) }
	return []rowVerb{
		verb("Bias", old, func(y kernels.Mat, _, _ int) { b.Bias(y, scale.Mat) }),
		verb("RMSNorm", fresh, func(y kernels.Mat, i, n int) { b.RMSNorm(y, in.Slice(i, n), scale.Mat, 1e-5) }),
		verb("RMSNorm of heads", fresh, func(y kernels.Mat, i, n int) {
			b.RMSNorm(y, in.Slice(i, n), scale.Window(0, width), 1e-5)
		}),
		verb("Angles", func() operand { return b.blank(f, rows, turned) }, func(y kernels.Mat, i, n int) {
			b.Angles(y, positions.Slice(i, n), waves.Mat, 1)
		}),
		verb("Rotate", old, func(y kernels.Mat, i, n int) { b.Rotate(y, angles.Slice(i, n), heads) }),
		verb("SwiGLU", fresh, func(y kernels.Mat, i, n int) { b.SwiGLU(y, in.Slice(i, n), other.Slice(i, n)) }),
	}
}

func testRowsInCompany(b *bench) {
	const rows = 67
	for _, f := range frames {
		for _, heads := range []int{1, 5} {
			b.reset()
			for _, v := range rowVerbs(b, f, rows, heads) {
				want := v.run([]int{rows})
				for _, pieces := range cuts(rows) {
					sameBits(b.T, fmt.Sprintf("%s, %d heads, %s, in pieces of %s rows", v.name, heads, f, showCut(pieces)), v.run(pieces), want)
				}
			}
		}
	}
}

// multiply runs x·wᵀ in pieces.
func multiply(b *bench, f frame, t kernels.DType, p product, x, w []float32, pieces []int) []float32 {
	b.reset()
	in, weight := b.floats(f, p.tokens, p.in, kernels.F32, x), b.floats(f, p.out, p.in, t, w)
	y := b.blank(f, p.tokens, p.out)
	inPieces(pieces, func(i, n int) { b.MatMul(y.Slice(i, n), in.Slice(i, n), weight.Mat, kernels.Set) })
	return b.read(y)
}

func testMatMulInCompany(b *bench) {
	for _, t := range types {
		for _, p := range []product{{67, 1, 31}, {67, 21, 100}, {67, 40, 256}, {29, 130, 33}, {67, 5, 7}} {
			x, w := b.normal(p.tokens*p.in), b.normal(p.out*p.in)
			want := multiply(b, packed, t, p, x, w, []int{p.tokens})
			all := b.company("MatMul", p.out)
			all.compare(b.T, fmt.Sprintf("%s, %+v", t, p), []int{p.tokens}, want)
			for _, f := range frames {
				for _, pieces := range cuts(p.tokens) {
					all.compare(b.T, fmt.Sprintf("%s, %+v, %s, in pieces of %s rows", t, p, f, showCut(pieces)), pieces, multiply(b, f, t, p, x, w, pieces))
				}
			}
			// In another order, and by fewer weight rows.
			reversed := slices.Concat(turn(x, p.in)...)
			got := slices.Concat(turn(multiply(b, packed, t, p, reversed, w, []int{p.tokens}), p.out)...)
			sameBits(b.T, fmt.Sprintf("%s, %+v, rows in reverse order", t, p), got, want)
			for _, o := range []int{0, p.out / 2, p.out - 1} {
				one := product{p.tokens, 1, p.in}
				column := make([]float32, p.tokens)
				for i := range column {
					column[i] = want[i*p.out+o]
				}
				got := multiply(b, packed, t, one, x, w[o*p.in:(o+1)*p.in], []int{p.tokens})
				sameBits(b.T, fmt.Sprintf("%s, %+v, weight row %d alone", t, p, o), got, column)
			}
		}
	}
}

// turn returns the rows of v, last first.
func turn(v []float32, cols int) [][]float32 {
	rows := slices.Collect(slices.Chunk(v, cols))
	slices.Reverse(rows)
	return rows
}

// companies are the cases of attention in company: every type of cache, and most shapes with one of them.
func companies() []attention {
	a := []attention{
		{4, 2, 80, 80, 16, 21, kernels.F32, []int{67, 90}},
		{7, 1, 32, 48, 32, 0, kernels.BF16, []int{67, 33}},
		{3, 3, 20, 12, 5, 0, kernels.F16, []int{40, 11}},
	}
	for _, t := range types {
		a = append(a, attention{6, 2, 64, 64, 16, 0, t, []int{67, 20, 40}})
	}
	if !testing.Short() {
		a = append(a, attention{3, 1, 64, 64, 16, 0, kernels.F16, []int{300, 160}}, attention{2, 1, 64, 64, 32, 200, kernels.BF16, []int{300}},
			attention{1, 1, 16, 16, 16, 0, kernels.F32, []int{1100}}, attention{2, 1, 16, 16, 16, 700, kernels.F16, []int{1100}})
	}
	return a
}

// whole returns all tokens of every sequence.
func (a attention) whole() []part {
	var all []part
	for seq, n := range a.lengths {
		all = append(all, part{seq, 0, n})
	}
	return all
}

// testAttendInCompany holds prompts in chunks of any size, beside others and alone, against whole prompts. Each chunk
// is stored only before it is attended to, so that what is behind it is no more than NaNs.
func testAttendInCompany(b *bench) {
	for _, a := range companies() {
		b.reset()
		c := b.converse(a)
		whole := a.whole()
		c.store(packed, whole...)
		together := c.attend(packed, whole...)
		width, at := a.heads*a.valueDim, 0
		all := make([]company, len(a.lengths)) // of each sequence
		for seq, n := range a.lengths {
			want := together[at : at+n*width]
			at += len(want)
			all[seq] = b.company("Attend", width)
			all[seq].compare(b.T, fmt.Sprintf("%+v: sequence %d", a, seq), []int{n}, want)
			for i, pieces := range cuts(n) {
				// Of what is long, pieces of several sizes show how little depends on where they begin; and the last row alone.
				if n > 100 && i != 3 && i != 6 || testing.Short() && i%2 == 0 {
					continue
				}
				c.forget()
				var got []float32
				inPieces(pieces, func(first, n int) {
					p := part{seq, first, n}
					c.store(frames[i%2], p)
					got = append(got, c.attend(frames[i%2], p)...)
				})
				all[seq].compare(b.T, fmt.Sprintf("%+v: sequence %d alone, in chunks of %s tokens", a, seq, showCut(pieces)), pieces, got)
			}
		}
		// All sequences, side by side, in steps of a few tokens each, last sequence first.
		c.forget()
		for from := 0; from < slices.Max(a.lengths); {
			var step []part
			for seq := len(a.lengths) - 1; seq >= 0; seq-- {
				if n := min(1+(from+seq)%9, a.lengths[seq]-from); n > 0 {
					step = append(step, part{seq, from, n})
				}
			}
			n := step[0].n
			for i := range step { // the same pace for all, or none would know where the others are
				n = min(n, step[i].n)
			}
			for i := range step {
				step[i].n = n
			}
			c.store(windowed, step...)
			y := c.attend(windowed, step...)
			for i, p := range step {
				for j := range n {
					all[p.seq].row(b.T, fmt.Sprintf("%+v: sequences side by side, sequence %d", a, p.seq), n, from+j, y[(i*n+j)*width:][:width])
				}
			}
			from += n
		}
	}
}

// testAttendUnseen holds that tokens that a row does not see change nothing in it, whatever they hold: NaNs at one
// position leave no trace in the rows before it, and none behind a window's reach.
func testAttendUnseen(b *bench) {
	nan := float32(math.NaN())
	for _, a := range companies() {
		b.reset()
		c := b.converse(a)
		n := a.lengths[0]
		whole := part{0, 0, n}
		c.store(packed, whole)
		want := c.attend(packed, whole)
		width := a.heads * a.valueDim
		positions := []int{0, 1, 15, n / 2, n - 2, n - 1}
		if n > 100 {
			positions = []int{1, n / 2, n - 2} // far apart: what is near, short ones show
		}
		for _, at := range positions {
			c := *c // with another token at that position
			c.k, c.v = slices.Clone(c.k), slices.Clone(c.v)
			c.k[0], c.v[0] = slices.Clone(c.k[0]), slices.Clone(c.v[0])
			for i := range a.keyHeads * a.keyDim {
				c.k[0][at*a.keyHeads*a.keyDim+i] = nan
			}
			for i := range a.keyHeads * a.valueDim {
				c.v[0][at*a.keyHeads*a.valueDim+i] = nan
			}
			c.store(packed, whole)
			got := c.attend(packed, whole)
			name := fmt.Sprintf("%+v: NaNs at position %d", a, at)
			sameBits(b.T, name+", rows before", got[:at*width], want[:at*width])
			if v := got[at*width]; v == v {
				b.Fatalf("%s: row %d is %v", name, at, v)
			}
			if behind := at + a.window; a.window > 0 && behind < n {
				sameBits(b.T, name+", rows behind", got[behind*width:], want[behind*width:])
			}
		}
	}
}

// The samples are results that Same compares between devices.

func sampleRows(b *bench) (all []float32) {
	for _, v := range rowVerbs(b, packed, 67, 5) {
		all = append(all, v.run([]int{67})...)
	}
	return all
}

func sampleMatMul(b *bench) (all []float32) {
	for _, t := range types {
		for _, p := range []product{{1, 67, 96}, {50, 131, 70}, {7, 200, 256}} {
			all = append(all, multiply(b, packed, t, p, b.normal(p.tokens*p.in), b.normal(p.out*p.in), []int{p.tokens})...)
		}
	}
	return all
}

func sampleAttend(b *bench) (all []float32) {
	for _, a := range companies() {
		b.reset()
		c := b.converse(a)
		whole := a.whole()
		c.store(packed, whole...)
		all = append(all, c.attend(packed, whole...)...)
	}
	return all
}
