package layers_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
)

// A kind makes random weights of one representation.
type kind struct {
	name  string
	make  func(d *device, out, in int) layers.Weight
	bytes func(out, in int) int64 // that a product reads
	order bool                    // the columns are in an order of their own
}

// kinds returns every kind of weight there is, in every variant that is stored or computed in another way.
func kinds() []kind {
	var all []kind
	for _, dtype := range types {
		all = append(all, kind{
			name:  "dense " + dtype.String(),
			make:  func(d *device, out, in int) layers.Weight { return d.dense(out, in, dtype) },
			bytes: func(out, in int) int64 { return int64(out * in * dtype.Bytes()) },
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
				all = append(all, kind{
					name: name,
					make: func(d *device, out, in int) layers.Weight { return d.grouped(of(out, in), order) },
					bytes: func(out, in int) int64 {
						n := int64(of(out, in).PackedBytes())
						if order {
							n += int64(4 * in)
						}
						return n
					},
					order: order,
				})
			}
		}
	}
	for _, bits := range []int{8, 4, 3, 2} { // the scales of which are of either sign
		r := layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}
		all = append(all, kind{
			name: fmt.Sprintf("rounded to int%d", bits),
			make: func(d *device, out, in int) layers.Weight {
				return d.must(layers.Quantize(d.dense(out, in, kernels.BF16), r, nil))
			},
			bytes: func(out, in int) int64 { return int64(r.Format(out, in).PackedBytes()) },
		})
	}
	return all
}

// TestKinds is what every kind of weight must pass: its Linear against its Dense matrix in float64, for odd sizes, one
// row and many, Set and Add, into a column window, and rows looked up, on every instruction set.
func TestKinds(t *testing.T) {
	for _, isa := range cpu.ISAs() {
		for _, k := range kinds() {
			for _, dims := range [][2]int{{1, 1}, {3, 5}, {16, 17}, {33, 64}, {64, 129}, {19, 300}} {
				t.Run(fmt.Sprintf("%s/%s/%dx%d", isa, k.name, dims[0], dims[1]), func(t *testing.T) {
					openWith(t, isa).kind(k, dims[0], dims[1])
				})
			}
		}
	}
}

func (d *device) kind(k kind, out, in int) {
	w := k.make(d, out, in)
	l, err := w.Bind(d.Arena, d.Stream)
	if err != nil {
		d.Fatal(err)
	}
	if o, i := l.Dims(); o != out || i != in || l.Bytes() != k.bytes(out, in) {
		d.Errorf("bound as %d x %d, %d bytes, want %d", o, i, l.Bytes(), k.bytes(out, in))
	}
	order := orderOf(w)
	if (order != nil) != k.order {
		d.Errorf("an order of %d columns", len(order))
	}
	p := d.pass(0)
	for _, rows := range []int{1, 2, 7} {
		x := d.steps(rows, in, order)
		for _, mode := range []kernels.Mode{kernels.Set, kernels.Add} {
			wide := d.random(rows, out+9)
			left, right := wide.Float32s(0)[3], wide.Float32s(rows - 1)[out+4]
			y := wide.Window(4, out)
			want := d.want(w, x, nil, y, mode == kernels.Add)
			l.Apply(p, y, x, mode)
			d.near(fmt.Sprintf("%d rows, mode %d", rows, mode), y, want)
			if wide.Float32s(0)[3] != left || wide.Float32s(rows - 1)[out+4] != right {
				d.Error("wrote outside the window")
			}
		}
	}
	if order != nil {
		return // a table has no order
	}
	ids, err := d.Alloc(3, 1, kernels.I32)
	if err != nil {
		d.Fatal(err)
	}
	rows := []int32{int32(out - 1), 0, int32(out - 1)}
	d.Upload(ids, kernels.Int32Bytes(rows))
	y := d.random(3, in)
	l.(layers.Rows).Embed(p, y, ids)
	m, _ := w.Dense()
	for i, id := range rows {
		for j, v := range y.Float32s(i) {
			if v != m[int(id)*in+j] {
				d.Fatalf("row %d, column %d looked up is %g, want %g", i, j, v, m[int(id)*in+j])
			}
		}
	}
}

// orderOf returns the order of w's columns among its parts, or nil.
func orderOf(w layers.Weight) []int32 {
	for _, p := range w.Parts() {
		if p.Name == "order" {
			order := make([]int32, p.Cols)
			if p.Read(kernels.Int32Bytes(order), 0) == nil {
				return order
			}
		}
	}
	return nil
}

// steps returns a random matrix, a window of a wider one, that a device may round to integers of 8 bits without changing
// it: multiples of a step, the 127th of them in each block of the columns taken in order.
func (d *device) steps(rows, cols int, order []int32) kernels.Mat {
	const step = 1.0 / 64
	x := d.random(rows, cols+3).Window(2, cols)
	for i := range rows {
		row := x.Float32s(i)
		for j := range row {
			row[j] = step * float32(d.rng.IntN(255)-127)
		}
		for j := 0; j < cols; j += kernels.GroupedBlock {
			at := j + d.rng.IntN(min(kernels.GroupedBlock, cols-j))
			if order != nil {
				at = int(order[at])
			}
			row[at] = step * float32(127-254*d.rng.IntN(2))
		}
	}
	return x
}

// grouped returns a random matrix of the format.
func (d *device) grouped(f kernels.Grouped, ordered bool) *layers.Grouped {
	var order []int32
	if ordered {
		for _, i := range d.rng.Perm(f.Cols) {
			order = append(order, int32(i))
		}
	}
	return d.must(layers.NewGrouped(f, order, randomRows(f, d.rng.Uint64())))
}

func (d *device) must(g *layers.Grouped, err error) *layers.Grouped {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
	return g
}

// randomRows returns a reader of random codes, scales and zero points, the same ones every time.
func randomRows(f kernels.Grouped, seed uint64) func(dst layers.GroupedRows, row int) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	groups := f.Groups()
	codes := make([]byte, f.Rows*f.Cols)
	for i := range codes {
		codes[i] = byte(rng.IntN(1 << f.Bits))
	}
	scales := make([]byte, 0, f.Rows*groups*f.ScaleType.Bytes())
	zeros := make([]byte, f.Rows*groups)
	for i := range f.Rows * groups {
		zeros[i] = byte(rng.IntN(1<<f.Bits + 1)) // a zero point may lie beyond the codes
		v := float32(1+rng.IntN(7)) / 4096
		scales = appendFloat(scales, f.ScaleType, v)
	}
	return func(dst layers.GroupedRows, row int) error {
		copy(dst.Codes, codes[row*f.Cols:])
		copy(dst.Scales, scales[row*groups*f.ScaleType.Bytes():])
		copy(dst.Zeros, zeros[row*groups:])
		return nil
	}
}

// appendFloat appends v, which t holds exactly, in the host's order. In F16 it must be normal or zero.
func appendFloat(to []byte, t kernels.DType, v float32) []byte {
	bits := math.Float32bits(v)
	switch t {
	case kernels.F32:
		return binary.NativeEndian.AppendUint32(to, bits)
	case kernels.BF16:
		return binary.NativeEndian.AppendUint16(to, uint16(bits>>16))
	}
	half := uint16(bits>>16) & 0x8000
	if v != 0 {
		half |= uint16((bits&0x7fffffff)>>13 - 112<<10)
	}
	return binary.NativeEndian.AppendUint16(to, half)
}
