package main

import "eckart/internal/gen/arm64"

// rows writes what works along a row, element by element.
func rows(f *arm64.File) {
	add(f)
	sumSquares(f)
	normalize(f)
	rotate(f)
	swiGLU(f)
	softmax(f)
	mix(f)
	scaled(f)
	narrowF16(f)
	narrowBF16(f)
	scatter(f, false)
	scatter(f, true)
}

// along writes a loop over n elements, four at a time and then one by one, which gives the same bits. It moves the
// pointers on.
func along(f *arm64.Func, prefix string, n arm64.X, pointers []arm64.X, body func(load, store func(r arm64.X, v arm64.V))) {
	part := func(label string, elements int, name string) {
		bytes := elements * 4
		f.Label(prefix + label)
		body(func(r arm64.X, v arm64.V) { f.Go("FMOV%s (%s), %s", name, r, v.F()) },
			func(r arm64.X, v arm64.V) { f.Go("FMOV%s %s, (%s)", name, v.F(), r) })
		for _, p := range pointers {
			f.AddBytes(bytes, p)
		}
		f.Go("SUBS $%d, %s", elements, n)
		f.Go("BGE %s%s", prefix, label)
	}
	f.Go("SUBS $%d, %s", lanes, n)
	f.Go("BLT %sRest", prefix)
	part("Vector", lanes, "Q")
	f.Label(prefix + "Rest")
	f.Go("ADDS $%d, %s", lanes-1, n)
	f.Go("BLT %sDone", prefix)
	part("One", 1, "S")
	f.Label(prefix + "Done")
}

func float32s(names ...string) []arm64.Param { return arm64.Params("*float32", names...) }

func ints(names ...string) []arm64.Param { return arm64.Params("int", names...) }

func floats(names ...string) []arm64.Param { return arm64.Params("float32", names...) }

func join(lists ...[]arm64.Param) []arm64.Param {
	var all []arm64.Param
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// scalar loads a parameter of 32 bits into the lowest element of a vector.
func scalar(f *arm64.Func, name string) arm64.V {
	v := f.V()
	f.Go("FMOVS %s, %s", f.Frame(name), v.F())
	return v
}

func add(file *arm64.File) {
	f := file.Func("addNEON", join(float32s("y", "x"), ints("n")), "", "computes y += x for n elements.")
	y, x, n := f.Param("y"), f.Param("x"), f.Param("n")
	a, b := f.V(), f.V()
	along(f, "add", n, []arm64.X{y, x}, func(load, store func(arm64.X, arm64.V)) {
		load(y, a)
		load(x, b)
		f.FADD(a, a, b)
		store(y, a)
	})
	f.Ret()
}

func sumSquares(file *arm64.File) {
	f := file.Func("sumSquaresNEON", join(float32s("x"), ints("n")), "float32", "returns the sum of the squares of n elements.")
	x, n := f.Param("x"), f.Param("n")
	sums, v := f.Vs(8), f.Vs(8)
	for _, s := range sums {
		f.Zero(s)
	}
	many := len(v) * lanes
	f.Go("SUBS $%d, %s", many, n)
	f.Go("BLT few")
	f.Label("many")
	for i := 0; i < len(v); i += 2 {
		f.Go("FLDPQ.P 32(%s), (%s, %s)", x, v[i].F(), v[i+1].F())
	}
	for i, v := range v {
		f.Go("VFMLA %s, %s, %s", v.S4(), v.S4(), sums[i].S4())
	}
	f.Go("SUBS $%d, %s", many, n)
	f.Go("BGE many")
	f.Label("few")
	f.Go("ADD $%d, %s", many, n)
	along(f, "few", n, []arm64.X{x}, func(load, _ func(arm64.X, arm64.V)) {
		load(x, v[0])
		f.Go("VFMLA %s, %s, %s", v[0].S4(), v[0].S4(), sums[0].S4())
	})
	for n := len(sums) / 2; n > 0; n /= 2 {
		for i := range n {
			f.FADD(sums[i], sums[i], sums[i+n])
		}
	}
	f.FADDP(sums[0], sums[0], sums[0])
	f.FADDP(sums[0], sums[0], sums[0])
	f.Go("FMOVS %s, %s", sums[0].F(), f.Result())
	f.Ret()
}

func normalize(file *arm64.File) {
	f := file.Func("normalizeNEON", join(float32s("y", "x", "gain"), ints("n"), floats("scale")), "",
		"computes y = x·scale ⊙ gain for n elements.")
	y, x, gain, n := f.Param("y"), f.Param("x"), f.Param("gain"), f.Param("n")
	scale, a, b := scalar(f, "scale"), f.V(), f.V()
	along(f, "norm", n, []arm64.X{y, x, gain}, func(load, store func(arm64.X, arm64.V)) {
		load(x, a)
		load(gain, b)
		f.FMULElement(a, a, scale, 0)
		f.FMUL(a, a, b)
		store(y, a)
	})
	f.Ret()
}

func rotate(file *arm64.File) {
	f := file.Func("rotateNEON", join(float32s("x", "angles"), ints("half", "width", "heads")), "",
		"turns each of heads, width elements apart: element j is paired with j+half; angles holds half cosines, then half sines.")
	head, stride, heads := f.Param("x"), f.Param("width"), f.Param("heads")
	u, v, cos, sin, n := f.X(), f.X(), f.X(), f.X(), f.X()
	a, b, c, s, x, y := f.V(), f.V(), f.V(), f.V(), f.V(), f.V()
	f.Label("head")
	f.Load("half", n)
	f.Load("angles", cos)
	f.Go("MOVD %s, %s", head, u)
	f.Go("ADD %s<<2, %s, %s", n, u, v)
	f.Go("ADD %s<<2, %s, %s", n, cos, sin)
	along(f, "pair", n, []arm64.X{u, v, cos, sin}, func(load, store func(arm64.X, arm64.V)) {
		load(u, a)
		load(v, b)
		load(cos, c)
		load(sin, s)
		f.FMUL(x, a, c)
		f.FMUL(y, a, s)
		f.Go("VFMLS %s, %s, %s", b.S4(), s.S4(), x.S4()) // a·c - b·s
		f.Go("VFMLA %s, %s, %s", b.S4(), c.S4(), y.S4()) // a·s + b·c
		store(u, x)
		store(v, y)
	})
	f.Go("ADD %s<<2, %s", stride, head)
	f.Go("SUBS $1, %s", heads)
	f.Go("BNE head")
	f.Ret()
}

func swiGLU(file *arm64.File) {
	f := file.Func("swiGLUNEON", join(float32s("y", "gate", "up"), ints("n")), "",
		"computes y = gate / (1 + exp(-gate)) ⊙ up for n elements.")
	y, gate, up, n := f.Param("y"), f.Param("gate"), f.Param("up"), f.Param("n")
	e := prepareExp(f, 2)
	g, x, zero := f.Vs(2), f.Vs(2), f.V()
	f.Zero(zero)
	silu := func(g, x []arm64.V) {
		for i, x := range x {
			f.FSUB(x, zero, g[i])
			f.FMIN(x, x, e.high)
		}
		e.of(x)
		for i, x := range x {
			f.FADD(x, x, e.one)
			f.FDIV(g[i], g[i], x)
		}
	}
	// Two vectors at a time: an exponential is a long chain.
	f.Go("SUBS $%d, %s", 2*lanes, n)
	f.Go("BLT few")
	f.Label("two")
	f.Go("FLDPQ.P 32(%s), (%s, %s)", gate, g[0].F(), g[1].F())
	silu(g, x)
	f.Go("FLDPQ.P 32(%s), (%s, %s)", up, x[0].F(), x[1].F())
	for i, g := range g {
		f.FMUL(g, g, x[i])
	}
	f.Go("FSTPQ.P (%s, %s), 32(%s)", g[0].F(), g[1].F(), y)
	f.Go("SUBS $%d, %s", 2*lanes, n)
	f.Go("BGE two")
	f.Label("few")
	f.Go("ADD $%d, %s", 2*lanes, n)
	along(f, "silu", n, []arm64.X{y, gate, up}, func(load, store func(arm64.X, arm64.V)) {
		load(gate, g[0])
		silu(g[:1], x[:1])
		load(up, x[0])
		f.FMUL(g[0], g[0], x[0])
		store(y, g[0])
	})
	f.Ret()
}

func mix(file *arm64.File) {
	f := file.Func("mixNEON", join(float32s("y", "x"), ints("n"), floats("a", "b")), "", "computes y = y·a + x·b for n elements.")
	y, x, n := f.Param("y"), f.Param("x"), f.Param("n")
	a, b, u, v := scalar(f, "a"), scalar(f, "b"), f.V(), f.V()
	along(f, "mix", n, []arm64.X{y, x}, func(load, store func(arm64.X, arm64.V)) {
		load(y, u)
		load(x, v)
		f.FMULElement(u, u, a, 0)
		f.FMLAElement(u, v, b, 0)
		store(y, u)
	})
	f.Ret()
}

func scaled(file *arm64.File) {
	f := file.Func("scaledNEON", join(float32s("y", "x"), ints("n"), floats("a")), "", "computes y = x·a for n elements.")
	y, x, n := f.Param("y"), f.Param("x"), f.Param("n")
	a, v := scalar(f, "a"), f.V()
	along(f, "scaled", n, []arm64.X{y, x}, func(load, store func(arm64.X, arm64.V)) {
		load(x, v)
		f.FMULElement(v, v, a, 0)
		store(y, v)
	})
	f.Ret()
}

// narrow writes a loop over 16 elements that become halves, in two of the vectors that body is given.
func narrow(f *arm64.Func, body func(v []arm64.V) (low, high arm64.V)) {
	y, x, n := f.Param("y"), f.Param("x"), f.Param("n")
	v := f.Vs(4)
	f.Label("vector")
	for i := 0; i < len(v); i += 2 {
		f.Go("FLDPQ.P 32(%s), (%s, %s)", x, v[i].F(), v[i+1].F())
	}
	low, high := body(v)
	f.Go("FSTPQ.P (%s, %s), 32(%s)", low.F(), high.F(), y)
	f.Go("SUBS $16, %s", n)
	f.Go("BNE vector")
	f.Ret()
}

func narrowParams() []arm64.Param {
	return join(arm64.Params("*uint16", "y"), float32s("x"), ints("n"))
}

func narrowF16(file *arm64.File) {
	f := file.Func("narrowF16NEON", narrowParams(), "", "rounds n elements to F16; n is a multiple of 16.")
	narrow(f, func(v []arm64.V) (low, high arm64.V) {
		for i := 0; i < len(v); i += 2 {
			f.FCVTN(v[i], v[i])
			f.FCVTN2(v[i], v[i+1])
		}
		return v[0], v[2]
	})
}

func narrowBF16(file *arm64.File) {
	f := file.Func("narrowBF16NEON", narrowParams(), "", "rounds n elements to BF16; n is a multiple of 16.")
	one, half, quiet, scratch := f.V(), f.V(), f.V(), f.X()
	for _, c := range []struct {
		v arm64.V
		n int
	}{{one, 1}, {half, 0x7fff}, {quiet, 0x400000}} {
		f.Go("MOVD $%#x, %s", c.n, scratch)
		f.Go("VDUP %s, %s", scratch, c.v.S4())
	}
	round, number := f.V(), f.V()
	narrow(f, func(v []arm64.V) (low, high arm64.V) {
		for _, v := range v {
			f.Go("VUSHR $16, %s, %s", v.S4(), round.S4())
			f.Go("VAND %s, %s, %s", one.B16(), round.B16(), round.B16())
			f.Go("VADD %s, %s, %s", half.S4(), round.S4(), round.S4())
			f.Go("VADD %s, %s, %s", v.S4(), round.S4(), round.S4())
			f.FCMEQ(number, v, v)
			f.Go("VORR %s, %s, %s", quiet.B16(), v.B16(), v.B16()) // what stays of a NaN
			f.Go("VBIT %s, %s, %s", number.B16(), round.B16(), v.B16())
		}
		for i := 0; i < len(v); i += 2 {
			f.Go("VUZP2 %s, %s, %s", v[i+1].H8(), v[i].H8(), v[i].H8())
		}
		return v[0], v[2]
	})
}

// scatter writes a function that places the elements of a row, or adds them to what is there, one by one.
func scatter(file *arm64.File, onto bool) {
	name, doc := "scatterNEON", "is a scatterFunc: y[cols[i]] = x[i]."
	if onto {
		name, doc = "scatterAddNEON", "is a scatterFunc: y[cols[i]] += x[i]."
	}
	f := file.Func(name, join(float32s("y", "x"), arm64.Params("*int32", "cols"), ints("n", "ahead")), "", doc)
	y, x, cols, n := f.Param("y"), f.Param("x"), f.Param("cols"), f.Param("n")
	ahead, line := f.Param("ahead"), f.X()
	f.Go("ADD %s, %s", y, ahead)
	const many = 4
	var at [many]arm64.X
	for i := range at {
		at[i] = f.X()
	}
	v, old := f.Vs(many), f.Vs(many)
	loop := func(label string, elements int) {
		f.Label(label)
		for i := range elements {
			f.Go("MOVWU %d(%s), %s", 4*i, cols, at[i])
			f.Go("FMOVS %d(%s), %s", 4*i, x, v[i].F())
		}
		f.AddBytes(4*elements, cols)
		f.AddBytes(4*elements, x)
		f.Go("ADD %s<<2, %s, %s", at[0], ahead, line)
		f.Go("PRFM (%s), PSTL1KEEP", line)
		for i := range elements {
			if onto {
				f.Go("FMOVS (%s)(%s<<2), %s", y, at[i], old[i].F())
				f.Go("FADDS %s, %s, %s", old[i].F(), v[i].F(), v[i].F())
			}
			f.Go("FMOVS %s, (%s)(%s<<2)", v[i].F(), y, at[i])
		}
		f.Go("SUBS $%d, %s", elements, n)
		f.Go("BGE %s", label)
	}
	f.Go("SUBS $%d, %s", many, n)
	f.Go("BLT rest")
	loop("many", many)
	f.Label("rest")
	f.Go("ADDS $%d, %s", many-1, n)
	f.Go("BLT done")
	loop("one", 1)
	f.Label("done")
	f.Ret()
}
