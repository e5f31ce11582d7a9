package shim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Exchanges between lanes, against what they are by definition.
func TestLanes(t *testing.T) {
	d := open(t)
	x := make([]float32, 32)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range x {
		x[i] = r.Float32()*2 - 1
	}
	y := d.get("cuMemAlloc_v2", 8*32*4)
	right(d, "lanes", 1, 32, 0, rows{y, upload(d, x), 32, 0})
	got := download[float32](d, y, 256)
	sum := slices.Clone(x) // in the order of the butterfly
	for m := 16; m > 0; m /= 2 {
		next := slices.Clone(sum)
		for i := range next {
			next[i] = sum[i] + sum[i^m]
		}
		sum = next
	}
	var mask uint32
	for i, v := range x {
		if v > 0 {
			mask |= 1 << i
		}
	}
	for i := range 32 {
		up, down := x[i], x[i]
		if i >= 2 {
			up = x[i-2]
		}
		if i < 30 {
			down = x[i+2]
		}
		for j, w := range []float32{x[5], x[i^3], up, down, sum[i], slices.Max(x), float32(mask >> 8), float32(i/2 - 16)} {
			if got[j*32+i] != w {
				t.Errorf("exchange %d of lane %d is %v, want %v", j, i, got[j*32+i], w)
			}
		}
	}
}

// products are the arguments of the kernels of that name.
type products struct {
	c, a, b, r uintptr
	kind       uint32
}

// Products of a warp, against the definition of their fragments.
func TestProducts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for kind, name := range []string{"bf16", "f16", "s8"} {
		d := open(t)
		// Small integers are exact in every type.
		k, per := 16, 2
		if kind == 2 {
			k, per = 32, 4
		}
		a, b, c := make([]int, 16*k), make([]int, k*8), make([]int, 16*8)
		for _, s := range [][]int{a, b, c} {
			for i := range s {
				s[i] = r.IntN(33) - 16
			}
		}
		element := func(v int) uint32 {
			switch kind {
			case 0:
				return math.Float32bits(float32(v)) >> 16
			case 1:
				return uint32(f16(float64(v)))
			}
			return uint32(uint8(int8(v)))
		}
		var fa, fb []uint32
		fc := make([]float32, 128)
		for l := range 32 {
			g, q := l/4, l%4
			for i := range 4 {
				var w uint32
				for e := range per {
					w |= element(a[(g+i%2*8)*k+q*per+i/2*k/2+e]) << (32 / per * e)
				}
				fa = append(fa, w)
				fc[l*4+i] = float32(c[(g+i/2*8)*8+q*2+i%2])
			}
			for i := range 2 {
				var w uint32
				for e := range per {
					w |= element(b[(q*per+i*k/2+e)*8+g]) << (32 / per * e)
				}
				fb = append(fb, w)
			}
		}
		p := products{upload(d, fc), upload(d, fa), upload(d, fb), d.get("cuMemAlloc_v2", 32*8*4), uint32(kind)}
		right(d, "products", 1, 32, 512, p)
		got := download[float32](d, p.c, 128)
		for i := range 16 {
			for j := range 8 {
				w := c[i*8+j]
				for e := range k {
					w += a[i*k+e] * b[e*8+j]
				}
				if v := got[(i%8*4+j/2)*4+i/8*2+j%2]; v != float32(w) {
					t.Errorf("%s: element %d, %d of the product is %v, want %d", name, i, j, v, w)
				}
			}
		}
		// Lane l stored fa[4l:4l+4] as row l of 16 bytes.
		loads := download[uint32](d, p.r, 256)
		half := func(row, col int) uint32 { return fa[row*4+col/2] >> (col % 2 * 16) & 0xffff }
		for l := range 32 {
			for m := range 4 {
				g, q := l/4, l%4*2
				if w := half(m*8+g, q) | half(m*8+g, q+1)<<16; loads[l*8+m] != w {
					t.Errorf("lane %d gets %#x of matrix %d, want %#x", l, loads[l*8+m], m, w)
				}
				if w := half(m*8+q, g) | half(m*8+q+1, g)<<16; loads[l*8+4+m] != w {
					t.Errorf("lane %d gets %#x of matrix %d transposed, want %#x", l, loads[l*8+4+m], m, w)
				}
			}
		}
		// Without warp_sync: a row is read by all lanes.
		p.kind |= 4
		if code := launch(d, "products", 1, 32, 512, p); code != 700 {
			t.Errorf("ldmatrix without warp_sync returns %d: %s", code, d.Message())
		}
	}
}

// f16 rounds to a half by trying all, f16Value is the other way.
func f16(x float64) uint16 {
	best, at := math.Inf(1), uint16(0)
	for h := range uint16(0x7c01) {
		v := f16Value(h)
		if h == 0x7c00 {
			v = 65536 // what would follow
		}
		e := math.Abs(math.Abs(x) - v)
		if e < best || e == best && h&1 == 0 {
			best, at = e, h
		}
	}
	if math.Signbit(x) {
		at |= 0x8000
	}
	return at
}

func f16Value(h uint16) float64 {
	e, m := int(h>>10&31), float64(h&1023)
	v := math.Ldexp(1024+m, e-25)
	switch e {
	case 0:
		v = math.Ldexp(m, -24)
	case 31:
		v = math.Inf(1)
		if m != 0 {
			v = math.NaN()
		}
	}
	if h&0x8000 != 0 {
		return -v
	}
	return v
}

// apply returns function k of testdata's kernel functions for each x.
func apply(d *driver, k uint32, x []float32) []float32 {
	d.t.Helper()
	y := d.get("cuMemAlloc_v2", uintptr(len(x)*4))
	right(d, "functions", (len(x)+255)/256, 256, 0, rows{y, upload(d, x), uint32(len(x)), k})
	return download[float32](d, y, len(x))
}

// ulps returns how far got is from want, in units of got's last place.
func ulps(got float32, want float64) float64 {
	if float64(got) == want || math.IsNaN(want) && got != got {
		return 0
	}
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// Functions of a real number, against those of package math.
func TestFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	draw := func(n int, low, high float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(low + (high-low)*r.Float64())
		}
		return x
	}
	inf := float32(math.Inf(1))
	special := []float32{0, inf, -inf, float32(math.NaN()), 1, -1}
	exps := slices.Concat(special, draw(20000, -104, 89), draw(20000, -1, 1), []float32{88.72283, 88.72284, -87.33655, -103.27893, -103.97209, -150, 1000})
	angles := slices.Concat([]float32{0, 1e6, -1e6, 3.1415927, 1.5707964, 710.0 / 226, 411557.0}, draw(20000, -1e6, 1e6), draw(20000, -7, 7))
	roots := slices.Concat([]float32{0, 1, 4, inf, 1e-45}, draw(10000, 0, 1e6), draw(10000, 0, 1e-38))
	for _, c := range []struct {
		name  string
		k     uint32
		x     []float32
		f     func(float64) float64
		bound float64
	}{
		{"exp", 0, exps, math.Exp, 1},
		{"exp2", 1, exps, math.Exp2, 2},
		{"sin", 2, angles, math.Sin, 0.6},
		{"cos", 3, angles, math.Cos, 0.6},
		{"sqrt", 4, roots, math.Sqrt, 0.5},
		{"rsqrt", 5, roots, func(x float64) float64 { return 1 / math.Sqrt(x) }, 1.5},
	} {
		d := open(t)
		worst := 0.0
		for i, y := range apply(d, c.k, c.x) {
			want := c.f(float64(c.x[i]))
			if want > math.MaxFloat32+math.Ldexp(1, 103) {
				want = math.Inf(1)
			}
			if e := ulps(y, want); !(e <= c.bound) {
				t.Fatalf("%s(%v) is %v, want %v: off by %v units in the last place", c.name, c.x[i], y, want, e)
			} else {
				worst = max(worst, e)
			}
		}
		t.Logf("%s: %.3f units in the last place at most", c.name, worst)
	}
}

// Conversions of 16-bit floats: every value back, and rounding around every midpoint.
func TestConversions(t *testing.T) {
	d := open(t)
	all := make([]float32, 1<<16)
	for i := range all {
		all[i] = math.Float32frombits(uint32(i))
	}
	halves := apply(d, 8, shifted(all))
	for i, v := range halves {
		if w := f16Value(uint16(i)); float64(v) != w && !(v != v && w != w) {
			t.Fatalf("half %#04x is %v, want %v", i, v, w)
		}
	}
	// Between neighbours: the midpoint goes to the even one, what is beside it to the nearer.
	var xs, bf, half []float32
	for i := range 0x7f7f { // bfloat16, positive and finite
		lo, hi := uint32(i)<<16, uint32(i+1)<<16
		even := math.Float32frombits(hi)
		if i&1 == 0 {
			even = math.Float32frombits(lo)
		}
		for at, w := range map[uint32]float32{lo: math.Float32frombits(lo), lo + 0x7fff: math.Float32frombits(lo), lo + 0x8000: even, lo + 0x8001: math.Float32frombits(hi)} {
			xs, bf = append(xs, math.Float32frombits(at), -math.Float32frombits(at)), append(bf, w, -w)
		}
	}
	for _, k := range []uint32{6, 9} {
		for i, v := range apply(d, k, xs) {
			if math.Float32bits(v) != math.Float32bits(bf[i]) {
				t.Fatalf("%v rounds to %v as bfloat16, want %v", xs[i], v, bf[i])
			}
		}
	}
	xs = xs[:0]
	for h := range uint16(0x7c00) {
		lo, hi := f16Value(h), f16Value(h+1)
		if h+1 == 0x7c00 {
			hi = 65536
		}
		up := float32(f16Value(h + 1))
		even := up
		if h&1 == 0 {
			even = float32(lo)
		}
		middle := float32((lo + hi) / 2)
		for _, c := range [][2]float32{
			{float32(lo), float32(lo)},
			{math.Nextafter32(middle, 0), float32(lo)},
			{middle, even},
			{math.Nextafter32(middle, inf32), up},
		} {
			xs, half = append(xs, c[0], -c[0]), append(half, c[1], -c[1])
		}
	}
	xs, half = append(xs, inf32, -inf32, 1e30), append(half, inf32, -inf32, inf32)
	for _, k := range []uint32{7, 10} {
		for i, v := range apply(d, k, xs) {
			if math.Float32bits(v) != math.Float32bits(half[i]) {
				t.Fatalf("%v rounds to %v as half, want %v", xs[i], v, half[i])
			}
		}
		for _, v := range apply(d, k, []float32{float32(math.NaN())}) {
			if v == v {
				t.Errorf("NaN becomes the half %v", v)
			}
		}
	}
}

var inf32 = float32(math.Inf(1))

// shifted returns the same bits in the upper half.
func shifted(x []float32) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = math.Float32frombits(math.Float32bits(v) << 16)
	}
	return y
}

// A sum in the order of blocks, whichever block comes last, on one thread of the host and on two.
func TestTicket(t *testing.T) {
	type arguments struct{ y, part, count uintptr }
	var want float32
	for i := range 50 {
		want += 1 / float32(i+1)
	}
	for seed := range 10 {
		d := open(t)
		d.Set("seed", int64(seed))
		d.Set("threads", int64(1+seed%2))
		a := arguments{d.get("cuMemAlloc_v2", 4), d.get("cuMemAlloc_v2", 200), upload(d, []uint32{0})}
		for range 3 {
			right(d, "ticket", 50, 32, 0, a)
			if v := download[float32](d, a.y, 1)[0]; v != want {
				t.Fatalf("the sum is %v, want %v", v, want)
			}
		}
	}
	d := open(t)
	a := arguments{d.get("cuMemAlloc_v2", 4), d.get("cuMemAlloc_v2", 200), upload(d, []uint32{0})}
	if code := launch(d, "wait_for", 2, 32, 0, a); code != 702 {
		t.Errorf("a block that waits for another returns %d: %s", code, d.Message())
	}
}
