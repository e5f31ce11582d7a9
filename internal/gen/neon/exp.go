package main

import (
	"math"

	"eckart/internal/gen/arm64"
)

// exponential computes e^x as 2^n·e^r with |r| <= ln(2)/2 and a polynomial for e^r, the one of Moshier's Cephes library
// (expf.c). Its error is below 1.5 units in the last place where the result is a normal number; a NaN stays one.
type exponential struct {
	*arm64.Func
	low, high, one arm64.V
	factors        arm64.V    // log2(e), and ln(2) in two parts
	c              [6]arm64.V // coefficients
	bias           arm64.V
	work           [][3]arm64.V // for each vector at a time
}

// prepareExp loads the constants, and hands out registers for so many vectors at a time.
func prepareExp(f *arm64.Func, vectors int) exponential {
	constants := []float32{
		math.Log2E,
		0.693359375, -2.12194440e-4, // ln(2), the first with so few bits that its product with n is exact
		0,
		-88.3, // where n becomes -127: the exponent bits, and with them the result, are then 0
		89, 1,
		1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
		math.Float32frombits(127),
	}
	words := make([]uint32, len(constants))
	for i, c := range constants {
		words[i] = math.Float32bits(c)
	}
	e := exponential{Func: f, factors: f.V()}
	at := f.X()
	f.Go("MOVD $%s(SB), %s", f.Data("exponential", words), at)
	f.Go("FMOVQ.P 16(%s), %s", at, e.factors.F())
	for _, v := range []*arm64.V{&e.low, &e.high, &e.one, &e.c[0], &e.c[1], &e.c[2], &e.c[3], &e.c[4], &e.c[5], &e.bias} {
		*v = f.V()
		f.Go("VLD1R.P 4(%s), [%s]", at, v.S4())
	}
	for range vectors {
		e.work = append(e.work, [3]arm64.V{f.V(), f.V(), f.V()})
	}
	return e
}

// of sets every x, which must be at most high, to e^x.
func (e exponential) of(x []arm64.V) {
	each := func(do func(x, n arm64.V)) {
		for i, x := range x {
			do(x, e.work[i][0])
		}
	}
	each(func(x, _ arm64.V) { e.FMAX(x, x, e.low) })
	each(func(x, n arm64.V) { e.FMULElement(n, x, e.factors, 0) })
	each(func(_, n arm64.V) { e.FRINTN(n, n) })
	each(func(x, n arm64.V) { e.FMLSElement(x, n, e.factors, 1) })
	each(func(x, n arm64.V) { e.FMLSElement(x, n, e.factors, 2) })
	each(func(_, n arm64.V) { e.FCVTNS(n, n) })
	each(func(_, n arm64.V) { e.Go("VADD %s, %s, %s", e.bias.S4(), n.S4(), n.S4()) })
	each(func(_, n arm64.V) { e.Go("VSHL $23, %s, %s", n.S4(), n.S4()) })
	// An addition takes the place of the coefficient, so two registers take turns.
	for j, c := range e.c[1:] {
		for i, x := range x {
			from, to := e.work[i][1+(j+1)%2], e.work[i][1+j%2]
			if j == 0 {
				from = e.c[0]
			}
			e.Move(c, to)
			e.Go("VFMLA %s, %s, %s", x.S4(), from.S4(), to.S4())
		}
	}
	for i, x := range x {
		// The last sum is where the turn of the first was.
		last, square := e.work[i][1], e.work[i][2]
		e.FMUL(square, x, x)
		e.Go("VFMLA %s, %s, %s", square.S4(), last.S4(), x.S4())
	}
	each(func(x, _ arm64.V) { e.FADD(x, x, e.one) })
	each(func(x, n arm64.V) { e.FMUL(x, x, n) })
}

// softmax writes a softmaxFunc.
func softmax(file *arm64.File) {
	f := file.Func("softmaxNEON", join(float32s("s"), ints("groups"), float32s("state"), ints("width"), floats("scale")), "", "is a softmaxFunc.")
	s, groups, state, width := f.Param("s"), f.Param("groups"), f.Param("state"), f.Param("width")
	sums, count := f.X(), f.X()
	scale := scalar(f, "scale")
	e := prepareExp(f, 2)
	most, v := f.V(), f.Vs(2)
	total := f.Vs(4)
	pair := func(mnemonic string, r arm64.X, v []arm64.V, at int) {
		if mnemonic == "FLDPQ" {
			f.Go("FLDPQ %d(%s), (%s, %s)", at, r, v[0].F(), v[1].F())
		} else {
			f.Go("%s (%s, %s), %d(%s)", mnemonic, v[0].F(), v[1].F(), at, r)
		}
	}

	// The largest score. state is width features, 16 partial sums, the largest score so far.
	f.Go("ADD %s<<2, %s, %s", width, state, sums)
	f.Go("FMOVS 64(%s), %s", sums, total[0].F())
	f.Go("VDUP %s, %s", total[0].S(0), most.S4())
	f.Go("MOVD %s, %s", groups, count)
	f.Label("largest")
	for range 2 {
		f.Go("FLDPQ.P 32(%s), (%s, %s)", s, v[0].F(), v[1].F())
		for _, v := range v {
			f.FMAX(most, most, v)
		}
	}
	f.Go("SUBS $1, %s", count)
	f.Go("BNE largest")
	f.FMAXV(v[0], most)
	f.Go("VDUP %s, %s", v[0].S(0), most.S4())
	f.Go("FCMPS %s, %s", total[0].F(), v[0].F())
	f.Go("BEQ add")
	f.Go("FMOVS %s, 64(%s)", v[0].F(), sums)
	// All that was summed so far becomes relative to the new largest score.
	f.FSUB(v[0], total[0], most)
	f.FMULElement(v[0], v[0], scale, 0)
	e.of(v[:1])
	f.Go("VDUP %s, %s", v[0].S(0), v[0].S4())
	f.Go("ADD $16, %s", width)
	f.Label("shrink")
	pair("FLDPQ", state, total, 0)
	pair("FLDPQ", state, total[2:], 32)
	for _, t := range total {
		f.FMUL(t, t, v[0])
	}
	pair("FSTPQ.P", state, total, 32)
	pair("FSTPQ.P", state, total[2:], 32)
	f.Go("SUBS $16, %s", width)
	f.Go("BNE shrink")

	f.Label("add")
	pair("FLDPQ", sums, total, 0)
	pair("FLDPQ", sums, total[2:], 32)
	f.Load("s", s)
	f.Label("power")
	for i := 0; i < len(total); i += 2 {
		pair("FLDPQ", s, v, 0)
		for _, v := range v {
			f.FSUB(v, v, most)
		}
		for _, v := range v {
			f.FMULElement(v, v, scale, 0)
		}
		e.of(v)
		for j, v := range v {
			f.FADD(total[i+j], total[i+j], v)
		}
		pair("FSTPQ.P", s, v, 32)
	}
	f.Go("SUBS $1, %s", groups)
	f.Go("BNE power")
	pair("FSTPQ", sums, total, 0)
	pair("FSTPQ", sums, total[2:], 32)
	f.Ret()
}
