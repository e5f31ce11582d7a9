package lowrank_test

import (
	"fmt"
	"slices"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// TestTruncate holds that a lower rank is the product of the first rows, and that nothing behind them is read, each of
// them once.
func TestTruncate(t *testing.T) {
	const out, in, rank = 300, 50, 1000 // in several reads
	for _, dtype := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16} {
		for _, r := range []int{1, 17, 999, 1000} {
			t.Run(fmt.Sprintf("%s/%d", dtype, r), func(t *testing.T) {
				b := open(t)
				read := map[string]int{} // bytes of each part
				watch := func(name string, cols int) layers.Part {
					p := b.Factor(rank, cols, dtype).Parts()[0]
					rows := p.Read
					p.Read = func(dst []byte, row int) error {
						if n := len(dst) / (cols * dtype.Bytes()); row+n > r {
							t.Errorf("rows %d to %d of %s are read, for a rank of %d", row, row+n, name, r)
						}
						read[name] += len(dst)
						return rows(dst, row)
					}
					return p
				}
				energy := make([]float32, rank)
				for i := range energy {
					energy[i] = float32(rank - i)
				}
				whole := must(lowrank.NewNested(watch("ut", out), watch("v", in), energy))(t)
				w := must(whole.Truncate(r))(t)
				if w.Rank() != r || !slices.Equal(w.Energy(), energy[:r]) || whole.Rank() != rank {
					t.Fatalf("rank %d of %d, energy %v", w.Rank(), whole.Rank(), w.Energy())
				}
				l, err := w.Bind(b.Arena, b.Stream)
				if err != nil {
					t.Fatal(err)
				}
				if want := map[string]int{"ut": r * out * dtype.Bytes(), "v": r * in * dtype.Bytes()}; read["ut"] != want["ut"] || read["v"] != want["v"] {
					t.Errorf("read %v bytes, want %v", read, want)
				}
				if want := int64(r * (out + in) * dtype.Bytes()); l.Bytes() != want {
					t.Errorf("a product reads %d bytes, want %d", l.Bytes(), want)
				}
				for _, p := range w.Parts() {
					if rows := p.Rows; p.Name != "energy" && rows != r || p.Name == "energy" && p.Cols != r {
						t.Errorf("part %s is %d x %d", p.Name, p.Rows, p.Cols)
					}
				}

				ut, v := values(t, w.Parts()[0]), values(t, w.Parts()[1])
				x := b.Random(2, in)
				want := make([][]float64, 2)
				for i := range want {
					want[i] = make([]float64, out)
					for k := range r {
						var dot float64
						for j, f := range x.Float32s(i) {
							dot += float64(f) * float64(v[k*in+j])
						}
						for o := range want[i] {
							want[i][o] += dot * float64(ut[k*out+o])
						}
					}
				}
				y := b.Random(2, out)
				l.Apply(b.Pass(1<<16), y, x, kernels.Set)
				b.Near("product", y, want)
			})
		}
	}
}

// values returns a part's numbers.
func values(t *testing.T, p layers.Part) []float32 {
	t.Helper()
	raw := make([]byte, p.Rows*p.Cols*p.Type.Bytes())
	if err := p.Read(raw, 0); err != nil {
		t.Fatal(err)
	}
	return layers.Float32s(raw, p.Type)
}
