package main

import (
	"fmt"
	"slices"

	"eckart/internal/gen/arm64"
)

const (
	lanes       = 4  // F32 of a vector
	vectorBytes = 16 // of a vector
)

// The flags of a tileFunc, by their bits. The one that asks to fetch what comes next is left to the processor.
const (
	addBit = iota
	carryInBit
	carryOutBit
)

func elementBytes(t string) int {
	if t == "F32" {
		return 4
	}
	return 2
}

// matMul writes the tileFuncs. 32 registers hold 24 sums, what a step loads of x, and two vectors of weights at least.
func matMul(f *arm64.File) {
	for _, weight := range []string{"F32", "BF16", "F16"} {
		for tokens := 1; tokens <= 3; tokens++ {
			dots(f, weight, 8, tokens)
		}
		for tokens := 1; tokens <= 6; tokens++ {
			dots(f, weight, 4, tokens)
		}
	}
	widened(f, "BF16")
	widened(f, "F16")
}

// tile is a tileFunc that is being written.
type tile struct {
	*arm64.Func
	weight       string
	rows, tokens int
	acc          [][]arm64.V // by row and token
	x, w         []arm64.X   // rows of x and of weights
	xs, ws       []arm64.V   // what a step loads
}

// dots writes the tileFunc of the given rows by tokens. A product has one vector of sums.
func dots(file *arm64.File, weight string, rows, tokens int) {
	name := fmt.Sprintf("dots%dx%d%sNEON", rows, tokens, weight)
	params := join(float32s("y", "x"), arm64.Params("*byte", "w"), float32s("carry"), ints("yStride", "xStride", "wStride", "k", "groups", "flags"))
	f := file.Func(name, params, "", fmt.Sprintf("is a tileFunc of %d weight rows, tokens: %d.", rows, tokens))
	t := tile{Func: f, weight: weight, rows: rows, tokens: tokens}
	bytes := elementBytes(weight)
	// With one token a step is 32 bytes of every weight row: loads are most of the work, and these are the widest. With
	// more it is 8 columns, which need one vector of x for each token at a time.
	cols := 8
	if tokens == 1 {
		cols = 32 / bytes
	}

	y, left, carry, flags := f.Param("y"), f.Param("groups"), f.Param("carry"), f.Param("flags")
	columns, stride, count, to := f.X(), f.X(), f.X(), f.X()
	for range rows {
		t.w = append(t.w, f.X())
	}
	for range tokens {
		t.x = append(t.x, f.X())
	}
	for range rows {
		t.acc = append(t.acc, f.Vs(tokens))
	}
	if tokens == 1 {
		t.xs, t.ws = f.Vs(cols/lanes), f.Vs(4+2*rows)
	} else {
		t.xs = f.Vs(tokens)
		t.ws = f.Vs(min(8, 32-rows*tokens-tokens))
	}

	f.Load("w", t.w[0])
	f.Load("wStride", stride)
	f.Go("MUL %s, %s, %s", left, stride, stride)
	f.Go("LSL $2, %s, %s", left, columns) // between the group's rows of y
	for r := 1; r < rows; r++ {
		f.Go("ADD %s, %s, %s", stride, t.w[r-1], t.w[r])
	}

	f.Label("group")
	f.Load("x", t.x[0])
	f.Load("xStride", stride)
	for i := 1; i < tokens; i++ {
		f.Go("ADD %s, %s, %s", stride, t.x[i-1], t.x[i])
	}
	f.Go("TBNZ $%d, %s, resume", carryInBit, flags)
	for _, v := range slices.Concat(t.acc...) {
		f.Zero(v)
	}
	f.Go("B start")
	f.Label("resume")
	t.carried("FLDPQ.P 32(%[3]s), (%[1]s, %[2]s)", carry, to)
	f.Label("start")
	f.Load("k", count)
	f.Go("SUBS $%d, %s", cols, count)
	f.Go("BLT few")

	f.Label("step")
	t.step(cols)
	f.Go("SUBS $%d, %s", cols, count)
	f.Go("BGE step")

	f.Label("few")
	f.Go("ADDS $%d, %s", cols-lanes, count)
	f.Go("BLT rest")
	f.Label("vector")
	t.vector(lanes)
	f.Go("SUBS $%d, %s", lanes, count)
	f.Go("BGE vector")
	f.Label("rest")
	f.Go("TBZ $1, %s, one", count)
	t.vector(2)
	f.Label("one")
	f.Go("TBZ $0, %s, sums", count)
	t.vector(1)

	f.Label("sums")
	f.Go("TBZ $%d, %s, finish", carryOutBit, flags)
	t.carried("FSTPQ.P (%[1]s, %[2]s), 32(%[3]s)", carry, to)
	f.Go("B next")
	f.Label("finish")
	for i := range tokens {
		for r := 0; r < rows; r += 4 {
			t.sum(r, i)
		}
	}
	f.Load("yStride", stride)
	f.Go("TBZ $%d, %s, set", addBit, flags)
	t.store(y, columns, stride, count, to, true)
	f.Go("B next")
	f.Label("set")
	t.store(y, columns, stride, count, to, false)

	f.Label("next")
	// The rows stand at their ends.
	f.AddBytes(4, y)
	f.AddBytes(rows*tokens*vectorBytes, carry)
	f.Load("wStride", stride)
	f.Load("k", count)
	f.Go("SUB %s<<%d, %s", count, arm64.Log2(bytes), stride)
	for _, r := range t.w {
		f.Go("ADD %s, %s", stride, r)
	}
	f.Go("SUBS $1, %s", left)
	f.Go("BNE group")
	f.Ret()
}

// carried moves the sums from or to carry, in pairs.
func (t *tile) carried(move string, carry, at arm64.X) {
	t.Go("MOVD %s, %s", carry, at)
	all := slices.Concat(t.acc...)
	for i := 0; i < len(all); i += 2 {
		t.Go(move, all[i].F(), all[i+1].F(), at)
	}
}

// step multiplies cols columns.
func (t *tile) step(cols int) {
	if t.tokens > 1 {
		for range cols / lanes {
			t.vector(lanes)
		}
		return
	}
	for i := 0; i < len(t.xs); i += 2 {
		t.Go("FLDPQ.P 32(%s), (%s, %s)", t.x[0], t.xs[i].F(), t.xs[i+1].F())
	}
	const block = 4 // rows that take turns, so that no sum waits for itself
	raw, wide := t.ws[block:], t.ws[:block]
	for r, w := range t.w {
		t.Go("FLDPQ.P 32(%s), (%s, %s)", w, raw[2*r].F(), raw[2*r+1].F())
	}
	for first := 0; first < t.rows; first += block {
		for i, x := range t.xs {
			for r := range block {
				v := raw[2*(first+r)+i*2/len(t.xs)]
				if t.weight != "F32" {
					t.widen(wide[r], v, i%2 == 1)
					v = wide[r]
				}
				t.Go("VFMLA %s, %s, %s", x.S4(), v.S4(), t.acc[first+r][0].S4())
			}
		}
	}
}

// inTurn loads and uses n things, which take turns with the registers. The loads run ahead as far as there are registers:
// processors that keep the order of instructions would wait for them.
func inTurn[R any](registers []R, n int, load, use func(i int, r R)) {
	turns := len(registers)
	for i := range min(turns-1, n) {
		load(i, registers[i])
	}
	for i := range n {
		if next := i + turns - 1; next < n {
			load(next, registers[next%turns])
		}
		use(i, registers[i%turns])
	}
}

// vector multiplies 4, 2 or 1 columns. What is missing of a vector is zero in x and in the weights.
func (t *tile) vector(cols int) {
	for i, r := range t.x {
		t.load("F32", cols, r, t.xs[i])
	}
	load := func(r int, v arm64.V) { t.load(t.weight, cols, t.w[r], v) }
	inTurn(t.ws, t.rows, load, func(r int, v arm64.V) {
		t.widen(v, v, false)
		for i, x := range t.xs[:t.tokens] {
			t.Go("VFMLA %s, %s, %s", x.S4(), v.S4(), t.acc[r][i].S4())
		}
	})
}

// load loads n elements and moves r on.
func (t *tile) load(element string, n int, r arm64.X, v arm64.V) {
	switch bytes := n * elementBytes(element); bytes {
	case 16:
		t.Go("FMOVQ.P 16(%s), %s", r, v.F())
	case 8:
		t.Go("FMOVD.P 8(%s), %s", r, v.F())
	case 4:
		t.Go("FMOVS.P 4(%s), %s", r, v.F())
	case 2:
		t.LoadHalf(r, v)
	}
}

// widen makes four weights F32: the upper four of a vector of halves, or the lower.
func (t *tile) widen(to, from arm64.V, upper bool) { widen(t.Func, t.weight, to, from, upper) }

func widen(f *arm64.Func, element string, to, from arm64.V, upper bool) {
	switch {
	case element == "F16" && upper:
		f.FCVTL2(to, from)
	case element == "F16":
		f.FCVTL(to, from)
	case element == "BF16" && upper:
		f.SHLL2(to, from)
	case element == "BF16":
		f.SHLL(to, from)
	}
}

// sum reduces the sums of four rows with a token to one vector, the first row's: halves first, then neighbours.
func (t *tile) sum(row, token int) {
	a, b, c, d := t.acc[row][token], t.acc[row+1][token], t.acc[row+2][token], t.acc[row+3][token]
	u, v := t.ws[0], t.ws[1]
	for _, p := range [][2]arm64.V{{a, b}, {c, d}} {
		t.Go("VZIP1 %s, %s, %s", p[1].D2(), p[0].D2(), u.D2())
		t.Go("VZIP2 %s, %s, %s", p[1].D2(), p[0].D2(), v.D2())
		t.FADD(p[0], u, v)
	}
	t.FADDP(a, a, c)
}

// store sets or adds the sums at y; those of a token are columns bytes apart. It spoils from, to and the rows of x.
func (t *tile) store(y, columns, stride, from, to arm64.X, add bool) {
	at, old := t.x[0], t.ws[0]
	t.Go("MOVD %s, %s", y, at)
	for i := range t.tokens {
		t.Go("MOVD %s, %s", at, to)
		if add {
			t.Go("MOVD %s, %s", at, from)
		}
		for r := 0; r < t.rows; r += 4 {
			v := t.acc[r][i]
			if add {
				for lane := range 4 {
					t.Go("VLD1 (%s), %s", from, old.S(lane))
					t.Go("ADD %s, %s", columns, from)
				}
				t.FADD(v, old, v)
			}
			for lane := range 4 {
				t.Go("VST1 %s, (%s)", v.S(lane), to)
				t.Go("ADD %s, %s", columns, to)
			}
		}
		t.Go("ADD %s, %s", stride, at)
	}
}

// widened writes what makes weights F32.
func widened(file *arm64.File, weight string) {
	f := file.Func(fmt.Sprintf("widen%sNEON", weight), join(float32s("dst"), arm64.Params("*byte", "src"), ints("n")), "",
		fmt.Sprintf("sets n elements of dst, a multiple of 16 and not 0, to those of src, which are %s.", weight))
	dst, src, n := f.Param("dst"), f.Param("src"), f.Param("n")
	from, to := f.Vs(2), f.Vs(4)
	f.Label("step")
	f.Go("FLDPQ.P 32(%s), (%s, %s)", src, from[0].F(), from[1].F())
	for i, v := range to {
		widen(f, weight, v, from[i/2], i%2 == 1)
	}
	for i := 0; i < len(to); i += 2 {
		f.Go("FSTPQ.P (%s, %s), 32(%s)", to[i].F(), to[i+1].F(), dst)
	}
	f.Go("SUBS $16, %s", n)
	f.Go("BNE step")
	f.Ret()
}
