package kerneltest

import (
	"fmt"
	"testing"

	"eckart/kernels"
)

// product is a case of MatMul.
type product struct{ tokens, out, in int }

// products are all sizes up to 33 of each extent beside odd ones of the others, and the shapes of real layers.
func products() []product {
	var p []product
	for n := 1; n <= 33; n++ {
		p = append(p, product{n, 17, 40}, product{3, n, 33}, product{5, 9, n}, product{1, n, n})
	}
	p = append(p, product{1, 1, 1}, product{2, 70, 257}, product{13, 34, 130})
	if !testing.Short() {
		p = append(p, product{1, 960, 960}, product{7, 320, 960}, product{33, 100, 2560}, product{64, 96, 576},
			product{1, 1536, 576}, product{2, 203, 4864})
	}
	return p
}

func testMatMul(b *bench) {
	for _, t := range types {
		for _, p := range products() {
			x, w := b.normal(p.tokens*p.in), rounded(t, b.normal(p.out*p.in))
			old := b.normal(p.tokens * p.out)
			want, sum := matMulReference(x, w, p.in, nil), matMulReference(x, w, p.in, old)
			b.each(fmt.Sprintf("%s, %+v", t, p), func(name string, f frame) {
				in, weight := b.floats(f, p.tokens, p.in, kernels.F32, x), b.floats(f, p.out, p.in, t, w)
				y := b.blank(f, p.tokens, p.out)
				b.MatMul(y.Mat, in.Mat, weight.Mat, kernels.Set)
				b.judge("MatMul", t, name+", Set", p.out, b.read(y), want)
				y = b.floats(f, p.tokens, p.out, kernels.F32, old)
				b.MatMul(y.Mat, in.Mat, weight.Mat, kernels.Add)
				b.judge("MatMul", t, name+", Add", p.out, b.read(y), sum)
			})
		}
	}
}

// pair is a case of LowRankMatMul: second stages along a diagonal.
type pair struct {
	tokens, in  int
	outs, ranks []int
}

func (p pair) out() int  { return total(p.outs) }
func (p pair) rank() int { return total(p.ranks) }

func total(v []int) (sum int) {
	for _, n := range v {
		sum += n
	}
	return sum
}

// pairs are all sizes up to 33 of each extent, one second stage and several, and the shapes of real layers.
func pairs() []pair {
	var p []pair
	for n := 1; n <= 33; n++ {
		p = append(p, pair{n, 40, []int{17}, []int{9}}, pair{3, n, []int{33}, []int{n}}, pair{2, 9, []int{n}, []int{5}},
			pair{1, n, []int{n, 3}, []int{4, n}}, pair{5, 24, []int{n, 1, 18}, []int{2, n, 1}})
	}
	p = append(p, pair{1, 257, []int{70, 70, 0}, []int{64, 33, 1}}, pair{50, 130, []int{34}, []int{60}})
	if !testing.Short() {
		p = append(p, pair{1, 960, []int{960, 320, 320}, []int{240, 120, 120}}, pair{7, 960, []int{2560}, []int{349}},
			pair{33, 576, []int{100}, []int{96}}, pair{2, 1536, []int{576}, []int{210}})
	}
	return p
}

// multiply runs a pair, in one verb or in as many as there are products, and returns y and t.
func (p pair) multiply(b *bench, f frame, ty kernels.DType, x, v []float32, us [][]float32, old []float32, mode kernels.Mode, apart bool) (y, t []float32) {
	b.reset()
	in, first := b.floats(f, p.tokens, p.in, kernels.F32, x), b.floats(f, p.rank(), p.in, ty, v)
	var seconds []kernels.Mat
	for i, u := range us {
		seconds = append(seconds, b.floats(f, p.outs[i], p.ranks[i], ty, u).Mat)
	}
	mid, to := b.blank(f, p.tokens, p.rank()), b.blank(f, p.tokens, p.out())
	if mode == kernels.Add {
		to = b.floats(f, p.tokens, p.out(), kernels.F32, old)
	}
	if !apart {
		b.LowRankMatMul(to.Mat, mid.Mat, in.Mat, first.Mat, seconds, mode)
		return b.read(to), b.read(mid)
	}
	b.MatMul(mid.Mat, in.Mat, first.Mat, kernels.Set)
	row, col := 0, 0
	for i, u := range seconds {
		b.MatMul(to.Window(row, u.Rows), mid.Window(col, u.Cols), u, mode)
		row, col = row+p.outs[i], col+p.ranks[i]
	}
	return b.read(to), b.read(mid)
}

// testLowRankMatMul holds both stages to products in float64, where the second reads what the first gives in float64, and
// to the bits of single products.
func testLowRankMatMul(b *bench) {
	for _, ty := range types {
		for _, p := range pairs() {
			x, v := b.normal(p.tokens*p.in), rounded(ty, b.normal(p.rank()*p.in))
			old := b.normal(p.tokens * p.out())
			var us [][]float32
			for i, out := range p.outs {
				us = append(us, rounded(ty, b.normal(out*p.ranks[i])))
			}
			mid := matMulReference(x, v, p.in, nil)
			want, sum := make([]float64, len(old)), make([]float64, len(old))
			for token := range p.tokens {
				row, col := 0, 0
				for i, u := range us {
					for o := range p.outs[i] {
						var dot float64
						for k, f := range u[o*p.ranks[i]:][:p.ranks[i]] {
							dot += float64(f) * mid[token*p.rank()+col+k]
						}
						at := token*p.out() + row + o
						want[at], sum[at] = dot, dot+float64(old[at])
					}
					row, col = row+p.outs[i], col+p.ranks[i]
				}
			}
			b.each(fmt.Sprintf("%s, %+v", ty, p), func(name string, f frame) {
				y, t := p.multiply(b, f, ty, x, v, us, old, kernels.Set, false)
				b.judge("MatMul", ty, name+", first stage", p.rank(), t, mid)
				b.judge("LowRankMatMul", ty, name+", Set", p.out(), y, want)
				single, _ := p.multiply(b, f, ty, x, v, us, old, kernels.Set, true)
				sameBits(b.T, name+", beside single products", y, single)
				y, _ = p.multiply(b, f, ty, x, v, us, old, kernels.Add, false)
				b.judge("LowRankMatMul", ty, name+", Add", p.out(), y, sum)
			})
		}
	}
}
