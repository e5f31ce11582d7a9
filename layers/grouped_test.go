package layers_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/kindtest"
)

// TestStack binds matrices that read one input: neighbours that are stored alike run as one, in one call, others do not,
// and the results are those of each alone.
func TestStack(t *testing.T) {
	base := kernels.Grouped{Cols: 70, Bits: 4, Group: 32, ScaleType: kernels.F16}
	dense := func(types ...kernels.DType) func(d *kindtest.Bench, i, out int) layers.Weight {
		return func(d *kindtest.Bench, i, out int) layers.Weight { return d.Dense(out, base.Cols, types[i]) }
	}
	grouped := func(change ...func(*kernels.Grouped)) func(d *kindtest.Bench, i, out int) layers.Weight {
		return func(d *kindtest.Bench, i, out int) layers.Weight {
			f := base
			f.Rows = out
			if i < len(change) {
				change[i](&f)
			}
			return d.Grouped(f, false)
		}
	}
	same := func(*kernels.Grouped) {}
	for _, row := range []struct {
		name  string
		make  func(d *kindtest.Bench, i, out int) layers.Weight
		calls int
	}{
		{"dense", dense(kernels.BF16, kernels.BF16, kernels.BF16), 1},
		{"dense of two types", dense(kernels.BF16, kernels.BF16, kernels.F16), 2},
		{"grouped", grouped(), 1},
		{"one of other bits", grouped(same, same, func(f *kernels.Grouped) { f.Bits = 3 }), 2},
		{"one of other groups", grouped(same, func(f *kernels.Grouped) { f.Group = 64 }), 3},
		{"one of other scales", grouped(func(f *kernels.Grouped) { f.ScaleType = kernels.BF16 }), 2},
		{"one with zero points", grouped(same, func(f *kernels.Grouped) { f.Zeros = true }), 3},
		{"all with zero points", grouped(
			func(f *kernels.Grouped) { f.Zeros = true }, func(f *kernels.Grouped) { f.Zeros = true }, func(f *kernels.Grouped) { f.Zeros = true }), 1},
		{"two kinds", func(d *kindtest.Bench, i, out int) layers.Weight {
			if i == 1 {
				return dense(0, kernels.F32)(d, i, out)
			}
			return grouped()(d, i, out)
		}, 3},
		{"orders of their own", func(d *kindtest.Bench, _, out int) layers.Weight {
			f := base
			f.Rows = out
			return d.Grouped(f, true)
		}, 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := open(t)
			var members []layers.Member
			var want []layers.Weight
			for i, out := range []int{19, 1, 34} {
				w := row.make(d, i, out)
				members = append(members, layers.Member{Weight: w})
				want = append(want, w)
			}
			g, err := layers.BindGroup(d.Arena, d.Stream, "site", members...)
			if err != nil {
				t.Fatal(err)
			}
			p := d.Pass(1 << 16)
			count := &kindtest.Products{Stream: p.Stream}
			p.Stream = count
			x := d.Steps(2, base.Cols, nil)
			if kindtest.Order(want[0]) != nil { // a row that is whole steps in any order
				x = x.Slice(0, 1)
				for j := range x.Float32s(0) {
					x.Float32s(0)[j] = 127.0 / 64
				}
			}
			a, b, c := g.Out3(p, x)
			for i, y := range []kernels.Mat{a, b, c} {
				d.Near(fmt.Sprint("member ", i), y, d.Want(want[i], x, nil, y, false))
			}
			if count.Calls != row.calls {
				t.Errorf("%d products, want %d", count.Calls, row.calls)
			}
		})
	}
}

// TestStackOrder stacks matrices of one order.
func TestStackOrder(t *testing.T) {
	d := open(t)
	f := kernels.Grouped{Rows: 5, Cols: 64, Bits: 4, Group: 32, ScaleType: kernels.F16}
	order := kindtest.Order(d.Grouped(f, true))
	var members []layers.Member
	for i := range 2 {
		members = append(members, layers.Member{Weight: d.Must(layers.NewGrouped(f, order, kindtest.GroupedRows(f, uint64(i))))})
	}
	g, err := layers.BindGroup(d.Arena, d.Stream, "site", members...)
	if err != nil {
		t.Fatal(err)
	}
	p := d.Pass(1 << 16)
	count := &kindtest.Products{Stream: p.Stream}
	p.Stream = count
	x := d.Steps(2, f.Cols, order)
	a, b := g.Out2(p, x)
	for i, y := range []kernels.Mat{a, b} {
		d.Near(fmt.Sprint("member ", i), y, d.Want(members[i].Weight, x, nil, y, false))
	}
	if count.Calls != 1 {
		t.Errorf("%d products, want 1", count.Calls)
	}
}

// TestGroupedRefuses holds what a file can hold and no matrix has against the message, which names the matrix, however
// the numbers are asked for.
func TestGroupedRefuses(t *testing.T) {
	f := kernels.Grouped{Rows: 40, Cols: 70, Bits: 4, Group: 32, ScaleType: kernels.F16}
	for _, row := range []struct {
		name  string
		scale kernels.DType
		spoil func(r layers.GroupedRows)
		want  string
	}{
		{"zero", kernels.F16, scaleBits(0, 0), "the scale of group 2 is 0, want a positive finite number"},
		{"minus zero", kernels.BF16, scaleBits(0, 0x80), "the scale of group 2 is -0,"},
		{"negative", kernels.F16, scaleBits(0, 0xbc), "the scale of group 2 is -1,"},
		{"infinite", kernels.F16, scaleBits(0, 0x7c), "the scale of group 2 is +Inf,"},
		{"infinite bf16", kernels.BF16, scaleBits(0x80, 0x7f), "the scale of group 2 is +Inf,"},
		{"not a number", kernels.BF16, scaleBits(0xc0, 0x7f), "the scale of group 2 is NaN,"},
		{"zero f32", kernels.F32, scaleBits(0, 0, 0, 0), "the scale of group 2 is 0,"},
		{"infinite f32", kernels.F32, scaleBits(0, 0, 0x80, 0xff), "the scale of group 2 is -Inf,"},
		{"not a number f32", kernels.F32, scaleBits(1, 0, 0x80, 0x7f), "the scale of group 2 is NaN,"},
		{"code", kernels.F16, func(r layers.GroupedRows) { r.Codes[69] = 16 }, "the code of column 69 is 16, which 4 bits do not hold"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := f
			f.ScaleType = row.scale
			good := kindtest.GroupedRows(f, 1)
			const at = 33
			w, err := layers.NewGrouped(f, nil, func(dst layers.GroupedRows, from int) error {
				err := good(dst, from)
				if i := at - from; i >= 0 && i < len(dst.Codes)/f.Cols {
					row.spoil(layers.GroupedRows{Codes: dst.Codes[i*f.Cols:], Scales: dst.Scales[i*f.Groups()*f.ScaleType.Bytes():]})
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			check := func(how string, err error, name string) {
				t.Helper()
				if want := fmt.Sprintf("read %s: row %d: %s", name, at, row.want); err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("%s: got %v, want %q", how, err, want)
				}
			}
			_, err = w.Dense()
			check("dense", err, "weights")
			for _, p := range w.Parts() {
				check(p.Name, p.Read(make([]byte, p.Cols*p.Type.Bytes()), at), "weights")
			}
			d := open(t)
			_, err = w.Bind(d.Arena, d.Stream)
			check("bind", layers.Named(err, "x"), "x")
			other := d.Must(layers.NewGrouped(f, nil, good))
			_, err = layers.BindGroup(d.Arena, d.Stream, "site", layers.Member{Name: "a", Weight: other}, layers.Member{Name: "b", Weight: w})
			check("stacked", err, "b")
			_, err = layers.BindGroup(d.Arena, d.Stream, "site", layers.Member{Name: "a", Weight: d.Dense(2, 70, kernels.F32)}, layers.Member{Name: "b", Weight: w})
			check("side by side", err, "b")
		})
	}
}

// scaleBits overwrites the third scale of a row.
func scaleBits(bits ...byte) func(r layers.GroupedRows) {
	return func(r layers.GroupedRows) { copy(r.Scales[2*len(bits):], bits) }
}

// TestGroupedFormats refuses formats and orders that nothing computes with.
func TestGroupedFormats(t *testing.T) {
	good := kernels.Grouped{Rows: 2, Cols: 4, Bits: 4, Group: 32, ScaleType: kernels.F16}
	for _, row := range []struct {
		change func(*kernels.Grouped)
		order  []int32
		want   string
	}{
		{func(f *kernels.Grouped) { f.Bits = 5 }, nil, "5 bits"},
		{func(f *kernels.Grouped) { f.Group = 48 }, nil, "groups of 48"},
		{func(f *kernels.Grouped) { f.ScaleType = kernels.U8 }, nil, "scales of type u8"},
		{func(f *kernels.Grouped) { f.Cols = 0 }, nil, "2 x 0"},
		{nil, []int32{0, 1, 2}, "order of 3 columns"},
		{nil, []int32{0, 1, 2, 4}, "has 4 at 3"},
		{nil, []int32{0, 1, -1, 2}, "has -1 at 2"},
		{nil, []int32{0, 1, 2, 1}, "has 1 at 3"},
	} {
		f := good
		if row.change != nil {
			row.change(&f)
		}
		if _, err := layers.NewGrouped(f, row.order, nil); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("got %v, want %q", err, row.want)
		}
	}
}

// TestGroupedParts reads the stored form back: codes as a stream of bits, scales, zero points.
func TestGroupedParts(t *testing.T) {
	d := open(t)
	for _, bits := range []int{8, 4, 3, 2} {
		f := kernels.Grouped{Rows: 5, Cols: 67, Bits: bits, Group: 32, ScaleType: kernels.F32, Zeros: true}
		w := d.Grouped(f, true)
		want, err := w.Dense()
		if err != nil {
			t.Fatal(err)
		}
		raw := map[string][]byte{}
		for _, p := range w.Parts() {
			b := make([]byte, p.Rows*p.Cols*p.Type.Bytes())
			if err := p.Read(b, 0); err != nil {
				t.Fatal(err)
			}
			raw[p.Name] = b
		}
		order := kindtest.Order(w)
		scales := layers.Float32s(raw["scales"], kernels.F32)
		for r := range f.Rows {
			for c := range f.Cols {
				var q int
				for b := range bits {
					at := c*bits + b
					q |= int(raw["codes"][r*((67*bits+7)/8)+at/8]>>(at%8)&1) << b
				}
				g := r*f.Groups() + c/f.Group
				if got := scales[g] * float32(q-int(raw["zeros"][g])); got != want[r*f.Cols+int(order[c])] {
					t.Fatalf("%d bits: (%d, %d) is %g from the parts, %g as a matrix", bits, r, c, got, want[r*f.Cols+int(order[c])])
				}
			}
		}
	}
}

// TestBindMemory counts the buffers that a matrix is read into while it is bound: their bytes do not grow with it.
func TestBindMemory(t *testing.T) {
	d := open(t)
	f := kernels.Grouped{Rows: 1 << 13, Cols: 1 << 10, Bits: 8, Group: 1024, ScaleType: kernels.F16}
	var mu sync.Mutex
	buffers := map[*byte]int{}
	rows := map[int]int{}
	w := d.Must(layers.NewGrouped(f, nil, func(dst layers.GroupedRows, row int) error {
		mu.Lock()
		defer mu.Unlock()
		buffers[&dst.Codes[0]] = cap(dst.Codes)
		rows[row] = len(dst.Codes) / f.Cols
		for i := range dst.Scales {
			dst.Scales[i] = 0x3c
		}
		return nil
	}))
	if _, err := w.Bind(d.Arena, d.Stream); err != nil {
		t.Fatal(err)
	}
	var bytes int
	for _, n := range buffers {
		bytes += n
	}
	if most := (runtime.GOMAXPROCS(0) + 1) << 20; bytes > most {
		t.Errorf("%d buffers of %d bytes in all, want at most %d", len(buffers), bytes, most)
	}
	next := 0
	for next < f.Rows && rows[next] > 0 {
		next += rows[next]
	}
	if next != f.Rows {
		t.Errorf("row %d was not read", next)
	}
}

// TestBindError names the first row that cannot be read, whichever goroutine comes upon one first.
func TestBindError(t *testing.T) {
	f := kernels.Grouped{Rows: 1 << 12, Cols: 1 << 10, Bits: 8, Group: 1024, ScaleType: kernels.F16}
	w := open(t).Must(layers.NewGrouped(f, nil, func(dst layers.GroupedRows, row int) error {
		for i := range dst.Scales {
			dst.Scales[i] = 0x3c
		}
		if row >= f.Rows/2 {
			return fmt.Errorf("row %d", row)
		}
		return nil
	}))
	for range 10 {
		d := open(t)
		if _, err := w.Bind(d.Arena, d.Stream); err == nil || err.Error() != "row 2048" {
			t.Fatalf("got %v, want row 2048", err)
		}
	}
	if _, err := w.Dense(); err != nil { // read in one piece, from row 0
		t.Fatal(err)
	}
}

// TestPackFault passes on what the device says.
func TestPackFault(t *testing.T) {
	d := open(t)
	f := kernels.Grouped{Rows: 5, Cols: 7, Bits: 8, Group: 32, ScaleType: kernels.F16}
	fault := errors.New("the device is gone")
	_, err := d.Grouped(f, false).Bind(d.Arena, faulty{d.Stream, fault})
	if !errors.Is(err, fault) {
		t.Errorf("got %v, want %v", err, fault)
	}
}

type faulty struct {
	kernels.Stream
	fault error
}

func (f faulty) Sync() error { return f.fault }
