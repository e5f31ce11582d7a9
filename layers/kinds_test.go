package layers_test

import (
	"fmt"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/layers/kindtest"
)

// kinds returns every kind of weight there is, in every variant that is stored or computed in another way.
func kinds() []kindtest.Kind {
	var all []kindtest.Kind
	for _, dtype := range types {
		all = append(all, kindtest.Kind{
			Name:  "dense " + dtype.String(),
			Make:  func(d *kindtest.Bench, out, in int) layers.Weight { return d.Dense(out, in, dtype) },
			Bytes: func(out, in int) int64 { return int64(out * in * dtype.Bytes()) },
			Rows:  true,
		})
	}
	scales := []kernels.DType{kernels.F16, kernels.BF16, kernels.F32}
	for _, bits := range []int{8, 4, 3, 2} {
		for i, group := range []int{32, 64, 128, 1 << 20} {
			for _, zeros := range []bool{false, true} {
				f := kernels.Grouped{Bits: bits, Group: group, ScaleType: scales[(i+bits)%3], Zeros: zeros}
				of := func(out, in int) kernels.Grouped {
					f := f
					f.Rows, f.Cols = out, in
					return f
				}
				order := bits == 4 && zeros
				name := fmt.Sprintf("grouped int%d of %d, %s", bits, group, f.ScaleType)
				if zeros {
					name += ", zeros"
				}
				all = append(all, kindtest.Kind{
					Name: name,
					Make: func(d *kindtest.Bench, out, in int) layers.Weight { return d.Grouped(of(out, in), order) },
					Bytes: func(out, in int) int64 {
						n := int64(of(out, in).PackedBytes())
						if order {
							n += int64(4 * in)
						}
						return n
					},
					Rows:  true,
					Order: order,
				})
			}
		}
	}
	for _, bits := range []int{8, 4, 3, 2} { // the scales of which are of either sign
		r := layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}
		all = append(all, kindtest.Kind{
			Name: fmt.Sprintf("rounded to int%d", bits),
			Make: func(d *kindtest.Bench, out, in int) layers.Weight {
				return d.Must(layers.Quantize(d.Dense(out, in, kernels.BF16), r, nil))
			},
			Bytes: func(out, in int) int64 { return int64(r.Format(out, in).PackedBytes()) },
			Rows:  true,
		})
	}
	base := kernels.Grouped{Bits: 3, Group: 64, ScaleType: kernels.F16}
	all = append(all, kindtest.Kind{
		Name: "grouped and dense",
		Make: func(d *kindtest.Bench, out, in int) layers.Weight {
			f := base
			f.Rows, f.Cols = out, in
			s, err := layers.NewSum(d.Grouped(f, false), d.Dense(out, in, kernels.BF16))
			if err != nil {
				d.Fatal(err)
			}
			return s
		},
		Bytes: func(out, in int) int64 {
			f := base
			f.Rows, f.Cols = out, in
			return int64(f.PackedBytes() + 2*out*in)
		},
	})
	return all
}

// TestKinds holds every kind of this package to the rules, on every instruction set.
func TestKinds(t *testing.T) {
	var devices []kindtest.Device
	for _, isa := range cpu.ISAs() {
		devices = append(devices, kindtest.Device{
			Name:   isa.String(),
			Open:   func() (kernels.Device, error) { return cpu.Open(cpu.Options{Threads: 2, ISA: isa}) },
			Rounds: true,
		})
	}
	kindtest.Run(t, devices, kinds())
}
