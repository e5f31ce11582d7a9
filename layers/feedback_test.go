package layers_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/kindtest"
)

// gramOf returns the Gram matrix of inputs whose columns depend on one another and differ in size, as those of a model do.
//
//go:norace
func gramOf(rng *rand.Rand, n int) []float64 {
	const depth = 6
	mix := normal(rng, depth*n, 1)
	g := make([]float64, n*n)
	x := make([]float64, n)
	for range 4 * n {
		var hidden [depth]float64
		for k := range hidden {
			hidden[k] = rng.NormFloat64()
		}
		for i := range x {
			x[i] = 0.3 * rng.NormFloat64()
			for k, v := range hidden {
				x[i] += v * float64(mix[k*n+i])
			}
			x[i] *= math.Exp(float64(i*37%n)/float64(n)) / 2
		}
		for i := range n {
			for j := range n {
				g[i*n+j] += x[i] * x[j] / float64(4*n)
			}
		}
	}
	return g
}

// gramError returns tr((w - v)·g·(w - v)ᵀ).
//
//go:norace
func gramError(w, v []float32, g []float64, n int) float64 {
	var sum float64
	for row := 0; row < len(w); row += n {
		for i := range n {
			d := float64(w[row+i]) - float64(v[row+i])
			for j := range n {
				sum += d * g[i*n+j] * (float64(w[row+j]) - float64(v[row+j]))
			}
		}
	}
	return sum
}

// inverse inverts a by elimination.
func inverse(a []float64, n int) []float64 {
	a = slices.Clone(a)
	b := make([]float64, n*n)
	for i := range n {
		b[i*n+i] = 1
	}
	for i := range n {
		p := a[i*n+i]
		for k := range n {
			a[i*n+k] /= p
			b[i*n+k] /= p
		}
		for j := range n {
			if m := a[j*n+i]; j != i {
				for k := range n {
					a[j*n+k] -= m * a[i*n+k]
					b[j*n+k] -= m * b[i*n+k]
				}
			}
		}
	}
	return b
}

// textbook rounds a matrix as optimal brain quantization says (Frantar and Alistarh 2022, arXiv 2208.11580), in the given
// order of columns: the inverse of the Gram matrix of the columns that are left is kept, and a column is eliminated from
// it when it has been rounded. Everything is in float64 but the scales. It returns the matrix in its own order.
func textbook(t *testing.T, w []float32, g []float64, n int, order []int, r layers.Rounding, damping float64) []float32 {
	t.Helper()
	out := make([]float32, len(w))
	gp, diagonal := make([]float64, n*n), make([]float32, n)
	var mean float64
	for i := range n {
		mean += g[i*n+i] / float64(n)
	}
	for i := range n {
		for j := range n {
			gp[i*n+j] = g[order[i]*n+order[j]]
		}
		diagonal[i] = float32(gp[i*n+i])
		gp[i*n+i] += damping * mean
	}
	start := inverse(gp, n)
	f := r.Format(1, n)
	for row := 0; row < len(w); row += n {
		h := slices.Clone(start)
		x := make([]float64, n)
		for i := range n {
			x[i] = float64(w[row+order[i]])
		}
		var scale, zero float64
		for j := range n {
			if j%f.Group == 0 {
				to := min(j+f.Group, n)
				part := make([]float32, to-j)
				for i := range part {
					part[i] = float32(x[j+i])
				}
				one := quantize(t, denseOf(part, to-j, kernels.F32), r, diagonal[j:to])
				scale = float64(layers.Float32s(partOf(t, one, "scales"), kernels.F32)[0])
				zero = float64(int(1) << (r.Bits - 1))
				if r.Zeros {
					zero = float64(partOf(t, one, "zeros")[0])
				}
			}
			q := min(max(math.RoundToEven(x[j]/scale)+zero, 0), float64(int(1)<<r.Bits-1))
			rounded := scale * (q - zero)
			out[row+order[j]] = float32(rounded)
			e := (x[j] - rounded) / h[j*n+j]
			for k := j; k < n; k++ {
				x[k] -= e * h[j*n+k]
			}
			p := h[j*n+j]
			column := make([]float64, n)
			for i := range n {
				column[i] = h[i*n+j]
			}
			for i := range n {
				for k := range n {
					h[i*n+k] -= column[i] * column[k] / p
				}
			}
		}
	}
	return out
}

// TestFeedback compares with the textbook, number by number, and with rounding alone.
func TestFeedback(t *testing.T) {
	for _, row := range []struct {
		r          layers.Rounding
		rows, cols int
		descending bool
	}{
		{layers.Rounding{Bits: 4, Group: 32}, 21, 96, false},
		{layers.Rounding{Bits: 4, Group: 32, Zeros: true}, 4, 300, false},
		{layers.Rounding{Bits: 3, Group: 64}, 9, 150, true},
		{layers.Rounding{Bits: 2, Group: 0, Zeros: true}, 3, 200, true},
		{layers.Rounding{Bits: 8, Group: 160}, 5, 330, false},
		{layers.Rounding{Bits: 4, Group: 96}, 1, 33, true},
	} {
		t.Run(fmt.Sprintf("%+v", row), func(t *testing.T) {
			row.r.ScaleType = kernels.F32 // its steps are too small to hide a difference
			rng := rand.New(rand.NewPCG(uint64(row.cols), 1))
			n := row.cols
			w, g := normal(rng, row.rows*n, 0.05), gramOf(rng, n)
			f := layers.Feedback{Rounding: row.r, Damping: 0.02, Descending: row.descending}
			q, err := f.Quantize(w, row.rows, g)
			if err != nil {
				t.Fatal(err)
			}
			order := make([]int, n)
			for i := range order {
				order[i] = i
			}
			if row.descending {
				slices.SortStableFunc(order, func(i, j int) int {
					switch a, b := g[i*n+i], g[j*n+j]; {
					case a > b:
						return -1
					case a < b:
						return 1
					}
					return 0
				})
			}
			for i, at := range kindtest.Order(q) {
				if int(at) != order[i] {
					t.Fatalf("column %d of the result is column %d, want %d", i, at, order[i])
				}
			}
			got, want := values(t, q), textbook(t, w, g, n, order, row.r, 0.02)
			// A number that lies between two codes may fall to either side in F32, and the rest of its row follows.
			same := 0
			for i := 0; i < len(w); i += n {
				if squared(got[i:i+n], want[i:i+n], nil) < 1e-8*squared(want[i:i+n], make([]float32, n), nil) {
					same++
				}
			}
			gotError, wantError := gramError(w, got, g, n), gramError(w, want, g, n)
			alone := gramError(w, values(t, quantize(t, denseOf(w, n, kernels.F32), row.r, nil)), g, n)
			t.Logf("error %.5g, textbook %.5g, without feedback %.5g; %d of %d rows the same", gotError, wantError, alone, same, row.rows)
			if row.r.Group == 160 { // a group that goes on beyond a block of columns has another grid than the textbook's
				same = row.rows
			}
			if same < row.rows*3/4 || math.Abs(gotError-wantError) > 0.05*wantError {
				t.Errorf("error %g, textbook %g, %d of %d rows the same", gotError, wantError, same, row.rows)
			}
			if gotError > 0.7*alone {
				t.Errorf("error %g, without feedback %g", gotError, alone)
			}
		})
	}
}

// TestFeedbackBits holds codes and scales bit for bit against the plainest form in F32, one row and one column at a time,
// for shapes that fill panels, strips and blocks and ones that do not. A prepared Gram matrix serves all formats.
func TestFeedbackBits(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {16, 16}, {17, 33}, {3, 127}, {33, 320}, {2, 545}} {
		const block = 256
		rows, n := shape[0], shape[1]
		rng := rand.New(rand.NewPCG(uint64(n), 2))
		w, gram := normal(rng, rows*n, 0.05), gramOf(rng, n)
		for i := range min(n, 20) {
			w[i] *= 0x1p-120 // errors become denormal
		}
		prepared, err := layers.NewFeedbackGram(gram, linalg.Matrix{}, 0.02, false)
		if err != nil {
			t.Fatal(err)
		}
		importance := make([]float32, n)
		var mean float64
		for i := range n {
			importance[i] = float32(gram[i*n+i])
			mean += gram[i*n+i] / float64(n)
		}
		factor, err := linalg.BlockFactor(linalg.Matrix{Rows: n, Cols: n, Data: gram}, linalg.Matrix{}, 0.02*mean, block)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []layers.Rounding{
			{Bits: 4, Group: 32}, {Bits: 3, Group: 64, Zeros: true}, {Bits: 2, Group: 96}, {Bits: 8, Group: 160}, {Bits: 4, Zeros: true},
		} {
			r.ScaleType = kernels.F32
			q, err := prepared.Quantize(w, rows, r)
			if err != nil {
				t.Fatal(err)
			}
			want := plainly(t, w, n, factor.Transpose().Data, block, importance, r)
			for i, v := range values(t, q) {
				if v != want[i] {
					t.Fatalf("%v, %+v: element (%d, %d) is %g, want %g", shape, r, i/n, i%n, v, want[i])
				}
			}
		}
	}
}

// plainly rounds w with feedback by a factor for blocks of columns in the plainest form in F32, one row and one column at a time.
func plainly(t *testing.T, w []float32, n int, factor []float64, block int, importance []float32, r layers.Rounding) []float32 {
	t.Helper()
	out, f := make([]float32, len(w)), r.Format(1, n)
	for at := 0; at < len(w); at += n {
		x, lost := slices.Clone(w[at:][:n]), slices.Clone(w[at:][:n])
		var scale float32
		var zero int
		for j := range n {
			if j%block == 0 {
				for k := j; k < n; k++ {
					for i := max(0, j-block); i < j; i++ {
						x[k] -= float32(lost[i] * float32(factor[i*n+k]))
					}
				}
			}
			if j%f.Group == 0 {
				to := min(j+f.Group, n)
				one := quantize(t, denseOf(x[j:to], to-j, kernels.F32), r, importance[j:to])
				scale, zero = layers.Float32s(partOf(t, one, "scales"), kernels.F32)[0], 1<<(r.Bits-1)
				if r.Zeros {
					zero = int(partOf(t, one, "zeros")[0])
				}
			}
			steps := float32(x[j] * (1 / scale))
			code := min(max(int(math.RoundToEven(float64(steps)))+zero, 0), 1<<r.Bits-1)
			rounded := float32(scale * float32(code-zero))
			out[at+j] = rounded
			lost[j] -= rounded
			e := (x[j] - rounded) / float32(factor[j*n+j])
			for k := j + 1; k < min((j/block+1)*block, n); k++ {
				x[k] -= float32(e * float32(factor[j*n+k]))
			}
		}
	}
	return out
}

// TestFeedbackSingle prepares a Gram matrix so large that it is factorized in single precision, with a diagonal over 12 orders
// of magnitude, and compares the errors with those that a factor in float64 leaves.
func TestFeedbackSingle(t *testing.T) {
	const rows, n, block = 8, 1100, 256
	rng := rand.New(rand.NewPCG(3, 3))
	random := func(rows, cols int) linalg.Matrix {
		m := linalg.New(rows, cols)
		for i := range m.Data {
			m.Data[i] = rng.NormFloat64()
		}
		return m
	}
	x := linalg.Mul(random(2*n, n/8), random(n/8, n))
	for i := range x.Data {
		x.Data[i] = (x.Data[i] + rng.NormFloat64()) * math.Pow(10, -6*float64(i%n*37%n)/n)
	}
	gram := linalg.TMul(x, x)
	prepared, err := layers.NewFeedbackGram(gram.Data, linalg.Matrix{}, 0.01, false)
	if err != nil {
		t.Fatal(err)
	}
	// Two more columns that single precision cannot tell apart have all be factorized in float64, and change nothing else.
	const more = n + 2
	damped := make([]float64, more*more)
	importance := make([]float32, n)
	for i := range n {
		copy(damped[i*more:], gram.Row(i))
		damped[i*more+i] += prepared.Ridge()
		importance[i] = float32(gram.Row(i)[i])
	}
	damped[n*more+n], damped[(n+1)*more+n], damped[(n+1)*more+n+1] = 1, 1, 1+1e-9
	factor, err := linalg.BlockFactor(linalg.Matrix{Rows: more, Cols: more, Data: damped}, linalg.Matrix{}, 0, block)
	if err != nil {
		t.Fatal(err)
	}
	exact, upper := make([]float64, n*n), factor.Transpose()
	for i := range n {
		copy(exact[i*n:][:n], upper.Row(i))
	}
	w, r := normal(rng, rows*n, 0.05), layers.Rounding{Bits: 4, Group: 64, ScaleType: kernels.F32}
	q, err := prepared.Quantize(w, rows, r)
	if err != nil {
		t.Fatal(err)
	}
	got, want := values(t, q), plainly(t, w, n, exact, block, importance, r)
	same, gotError, wantError := 0, 0.0, 0.0
	for at := 0; at < len(w); at += n {
		one := gramError(w[at:][:n], got[at:][:n], gram.Data, n)
		other := gramError(w[at:][:n], want[at:][:n], gram.Data, n)
		if math.Abs(one-other) <= 1e-3*other {
			same++
		}
		gotError, wantError = gotError+one, wantError+other
	}
	// A number that lies between two codes may fall to either side, and the few large columns make up most of a row's error.
	t.Logf("error %.6g, with a factor in float64 %.6g; %d of %d rows have the same", gotError, wantError, same, rows)
	if same < rows*3/4 || math.Abs(gotError-wantError) > 0.05*wantError {
		t.Errorf("error %g, with a factor in float64 %g; %d of %d rows have the same", gotError, wantError, same, rows)
	}
}

// TestFeedbackErrors finds the errors of rounding, and their norms, without the rounded matrix.
func TestFeedbackErrors(t *testing.T) {
	const rows, n = 20, 300
	rng := rand.New(rand.NewPCG(12, 12))
	w, gram := normal(rng, rows*n, 0.05), gramOf(rng, n)
	r := layers.Rounding{Bits: 3, Group: 32, ScaleType: kernels.F16}
	for _, descending := range []bool{false, true} {
		g, err := layers.NewFeedbackGram(gram, linalg.Matrix{}, 0.02, descending)
		if err != nil {
			t.Fatal(err)
		}
		damped := slices.Clone(gram)
		var mean float64
		for i := range n {
			mean += gram[i*n+i] / n
		}
		if math.Abs(g.Ridge()-0.02*mean) > 1e-12*mean {
			t.Errorf("ridge %g, want %g", g.Ridge(), 0.02*mean)
		}
		for i := range n {
			damped[i*n+i] += g.Ridge()
		}
		q, err := g.Quantize(w, rows, r)
		if err != nil {
			t.Fatal(err)
		}
		rounded := values(t, q)
		errors, norms, err := g.Errors(w, rows, r)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			row := w[i*n:][:n]
			for j, e := range errors[i*n:][:n] {
				if want := row[j] - rounded[i*n+j]; math.Abs(float64(e-want)) > 1e-7 {
					t.Fatalf("error (%d, %d) is %g, want %g", i, j, e, want)
				}
			}
			if want := gramError(row, rounded[i*n:][:n], damped, n); math.Abs(norms[i]-want) > 1e-4*want {
				t.Errorf("row %d: norm %g, want %g", i, norms[i], want)
			}
		}
	}
	g, err := layers.NewFeedbackGram(gram, linalg.Matrix{}, 0.02, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Errors(w[1:], rows, r); err == nil {
		t.Error("a matrix that is no matrix is rounded")
	}
}

// TestFeedbackSame gives the same bytes whatever the number of goroutines.
func TestFeedbackSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	const rows, n = 50, 64
	w, g := normal(rng, rows*n, 1), gramOf(rng, n)
	f := layers.Feedback{Rounding: layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}, Descending: true}
	var want []byte
	for _, procs := range []int{1, 3} {
		old := runtime.GOMAXPROCS(procs)
		q, err := f.Quantize(w, rows, g)
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		got := partOf(t, q, "codes")
		if want != nil && !bytes.Equal(got, want) {
			t.Errorf("%d goroutines give other codes", procs)
		}
		want = got
	}
}

// TestFeedbackSingular damps what has no inverse: inputs of which some are always 0 or always alike.
func TestFeedbackSingular(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	const rows, n = 4, 32
	w, g := normal(rng, rows*n, 1), gramOf(rng, n)
	for i := range n {
		g[3*n+i], g[i*n+3] = 0, 0               // never there
		g[5*n+i], g[i*n+5] = g[4*n+i], g[i*n+4] // the same as column 4
		g[5*n+5], g[4*n+5], g[5*n+4] = g[4*n+4], g[4*n+4], g[4*n+4]
	}
	for _, damping := range []float64{0, 1e-18} { // the second is too little at first
		f := layers.Feedback{Rounding: layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}, Damping: damping}
		q, err := f.Quantize(w, rows, g)
		if err != nil {
			t.Fatal(err)
		}
		alone := quantize(t, denseOf(w, n, kernels.F32), f.Rounding, nil)
		if got, want := gramError(w, values(t, q), g, n), gramError(w, values(t, alone), g, n); !(got < 0.7*want) {
			t.Errorf("damping %g: error %g, without feedback %g", damping, got, want)
		}
	}
}

func TestFeedbackRefuses(t *testing.T) {
	w := make([]float32, 2*32)
	good := make([]float64, 32*32)
	for i := range 32 {
		good[i*33] = 1
	}
	with := func(at int, v float64) []float64 {
		g := slices.Clone(good)
		g[at] = v
		return g
	}
	r := layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}
	for _, row := range []struct {
		name string
		w    []float32
		gram []float64
		r    layers.Rounding
		want string
	}{
		{"shape", w[:63], good, r, "2 rows of a matrix of 63 elements, and a Gram matrix of 1024"},
		{"not square", w, good[:1000], r, "Gram matrix of 1000"},
		{"not a number", w, with(7*32+5, math.NaN()), r, "element (7, 5) of the matrix is NaN"},
		{"infinite", w, with(0, math.Inf(1)), r, "element (0, 0) of the matrix is +Inf"},
		{"negative", w, with(33, -1), r, "element (1, 1) of the Gram matrix is -1"},
		{"not definite", w, with(7*32+5, 100), r, "Gram matrix with 1 of its mean diagonal added: matrix is not positive definite"},
		{"all zero", w, make([]float64, 32*32), r, "not positive definite"},
		{"bits", w, good, layers.Rounding{Bits: 6, Group: 32}, "6 bits"},
		{"too large", append(slices.Clone(w[:40]), append([]float32{3e38}, w[:23]...)...), good, r, "row 1: group 0 has numbers that 4 bits"},
	} {
		_, err := layers.Feedback{Rounding: row.r}.Quantize(row.w, 2, row.gram)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// TestFeedbackFirst names the first row that is out of reach, not the one that is found first.
func TestFeedbackFirst(t *testing.T) {
	const rows, n = 40, 64
	rng := rand.New(rand.NewPCG(11, 11))
	w := normal(rng, rows*n, 1)
	w[20*n], w[5*n+40], w[7*n] = 3e38, 3e38, -3e38
	f := layers.Feedback{Rounding: layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}}
	_, err := f.Quantize(w, rows, gramOf(rng, n))
	if err == nil || !strings.Contains(err.Error(), "row 5: group 1 has numbers") {
		t.Errorf("got %v, want that row 5 is out of reach", err)
	}
}
