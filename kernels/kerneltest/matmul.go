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
			read := x // what the products are made of
			if t == kernels.BF16 {
				read = rounded(b.options.Activations, x)
			}
			want, sum := matMulReference(read, w, p.in, nil), matMulReference(read, w, p.in, old)
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
