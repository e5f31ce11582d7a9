package lowrank_test

import (
	"fmt"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/layers/kindtest"
	"eckart/layers/lowrank"
)

// devices are the processor's instruction sets, with activations rounded beside grouped weights and without.
func devices() []kindtest.Device {
	var all []kindtest.Device
	for _, isa := range cpu.ISAs() {
		for _, a := range []cpu.Activations{cpu.ActivationsAuto, cpu.ActivationsF32} {
			all = append(all, kindtest.Device{
				Name:   fmt.Sprintf("%s %s", isa, a),
				Open:   func() (kernels.Device, error) { return cpu.Open(cpu.Options{Threads: 2, ISA: isa, Activations: a}) },
				Rounds: a == cpu.ActivationsAuto,
			})
		}
	}
	return all
}

// A factor makes factors of one representation.
type factor struct {
	name    string
	make    func(b *kindtest.Bench, out, in int) layers.Weight
	bytes   func(out, in int) int64
	grouped bool
	order   bool
}

func dense(t kernels.DType) factor {
	return factor{
		name:  t.String(),
		make:  func(b *kindtest.Bench, out, in int) layers.Weight { return b.Factor(out, in, t) },
		bytes: func(out, in int) int64 { return int64(out * in * t.Bytes()) },
	}
}

func grouped(bits int, ordered bool) factor {
	format := func(out, in int) kernels.Grouped {
		return kernels.Grouped{Rows: out, Cols: in, Bits: bits, Group: 32, ScaleType: kernels.F16}
	}
	f := factor{
		name:    fmt.Sprintf("int%d", bits),
		make:    func(b *kindtest.Bench, out, in int) layers.Weight { return b.Grouped(format(out, in), ordered) },
		bytes:   func(out, in int) int64 { return int64(format(out, in).PackedBytes()) },
		grouped: true,
		order:   ordered,
	}
	if ordered {
		f.name += " ordered"
		f.bytes = func(out, in int) int64 { return int64(format(out, in).PackedBytes() + 4*in) }
	}
	return f
}

// rankOf returns a rank for a matrix: most of what there is, so that it is odd here and there.
func rankOf(out, in int) int { return 1 + min(out, in)*2/3 }

func kinds() []kindtest.Kind {
	f32, bf16, f16 := dense(kernels.F32), dense(kernels.BF16), dense(kernels.F16)
	int8, int4, ordered := grouped(8, false), grouped(4, false), grouped(8, true)
	var all []kindtest.Kind
	for _, p := range [][2]factor{{f32, f32}, {bf16, bf16}, {f16, bf16}, {int8, int8}, {bf16, int4}, {int4, f32}, {bf16, ordered}} {
		u, v := p[0], p[1]
		all = append(all, kindtest.Kind{
			Name: fmt.Sprintf("lowrank %s %s", u.name, v.name),
			Make: func(b *kindtest.Bench, out, in int) layers.Weight {
				r := rankOf(out, in)
				return must(lowrank.New(u.make(b, out, r), v.make(b, r, in)))(b.T)
			},
			Bytes: func(out, in int) int64 {
				r := rankOf(out, in)
				return u.bytes(out, r) + v.bytes(r, in)
			},
			Order:  v.order,
			Rounds: u.grouped,
		}, kindtest.Kind{
			Name: fmt.Sprintf("pifa %s %s", u.name, v.name),
			Make: func(b *kindtest.Bench, out, in int) layers.Weight {
				r := rankOf(out, in)
				k := u.make
				if r == out { // no rows are left, which only a dense matrix can have
					k = bf16.make
				}
				return must(lowrank.NewPIFA(pivots(b, out, r), v.make(b, r, in), k(b, out-r, r)))(b.T)
			},
			Bytes: func(out, in int) int64 {
				r := rankOf(out, in)
				n := v.bytes(r, in) + int64(4*out)
				if r < out {
					n += u.bytes(out-r, r)
				}
				return n
			},
			Order:  v.order,
			Rounds: u.grouped,
		})
	}
	for _, f := range []factor{f32, bf16, f16} {
		all = append(all, kindtest.Kind{
			Name: "nested " + f.name,
			Make: func(b *kindtest.Bench, out, in int) layers.Weight {
				r := rankOf(out, in)
				ut, v := f.make(b, r, out).Parts()[0], f.make(b, r, in).Parts()[0]
				return must(lowrank.NewNested(ut, v, make([]float32, r)))(b.T)
			},
			Bytes: func(out, in int) int64 {
				r := rankOf(out, in)
				return f.bytes(out, r) + f.bytes(r, in)
			},
		})
	}
	all = append(all, kindtest.Kind{
		Name: "sum of int4 and lowrank",
		Make: func(b *kindtest.Bench, out, in int) layers.Weight {
			r := rankOf(out, in)
			residual := must(lowrank.New(bf16.make(b, out, r), int8.make(b, r, in)))(b.T)
			return must(layers.NewSum(int4.make(b, out, in), residual))(b.T)
		},
		Bytes: func(out, in int) int64 {
			r := rankOf(out, in)
			return int4.bytes(out, in) + bf16.bytes(out, r) + int8.bytes(r, in)
		},
	})
	return all
}

// pivots returns rank of rows in a random order.
func pivots(b *kindtest.Bench, rows, rank int) []int32 {
	var all []int32
	for _, row := range b.Rand.Perm(rows)[:rank] {
		all = append(all, int32(row))
	}
	return all
}

// must returns what gives w, and ends the test if there is an error.
func must[W any](w W, err error) func(t *testing.T) W {
	return func(t *testing.T) W {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
}

// TestKinds holds every kind of this package to the rules.
func TestKinds(t *testing.T) { kindtest.Run(t, devices(), kinds()) }
