// Package kindtest is the test that every kind of weight must pass, written once: what a bound matrix computes against
// the matrix that it stands for, in float64; and the rules that planning and running rely on. It owns the cases and the
// bounds. A package that has a kind of weight lists its variants in a test and calls Run.
package kindtest

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"eckart/kernels"
	"eckart/layers"
)

// A Kind makes random weights of one representation, in one of the variants that are stored or computed in another way.
type Kind struct {
	Name   string
	Make   func(b *Bench, out, in int) layers.Weight
	Bytes  func(out, in int) int64 // that a product reads
	Rows   bool                    // its Linear looks up rows of the matrix (layers.Rows)
	Order  bool                    // its columns are in an order of their own
	Rounds bool                    // a device that rounds activations rounds what is computed on the way
}

// A Device is what kinds run on.
type Device struct {
	Name   string
	Open   func() (kernels.Device, error)
	Rounds bool // it rounds activations beside grouped weights, as kernels.Stream allows
}

// shapes are rows and columns of the matrices.
var shapes = [][2]int{{1, 1}, {3, 5}, {16, 17}, {33, 64}, {64, 129}, {19, 300}}

// Run holds every kind to the rules on every device.
func Run(t *testing.T, devices []Device, kinds []Kind) {
	for _, d := range devices {
		for _, k := range kinds {
			for _, s := range shapes {
				t.Run(fmt.Sprintf("%s/%s/%dx%d", d.Name, k.Name, s[0], s[1]), func(t *testing.T) {
					dev, err := d.Open()
					if err != nil {
						t.Fatal(err)
					}
					r := run{New(t, dev), k, s[0], s[1], k.Rounds && d.Rounds}
					w := k.Make(r.Bench, r.out, r.in)
					r.parts(w)
					r.products(w, r.bind(w))
					r.group(w)
				})
			}
		}
	}
}

// run is one kind of one shape on one device.
type run struct {
	*Bench
	kind    Kind
	out, in int
	rounds  bool
}

// judge compares a product with what is wanted of it.
func (r run) judge(what string, y kernels.Mat, want [][]float64) {
	r.Helper()
	if !r.rounds {
		r.Near(what, y, want)
		return
	}
	// What is rounded to 8 bits in blocks is off by some 0.4 % of what is typical in it.
	var sum, norm float64
	for i, row := range want {
		for j, v := range row {
			d := float64(y.Float32s(i)[j]) - v
			sum, norm = sum+d*d, norm+v*v
		}
	}
	if !(sum <= 3e-4*norm) {
		r.Fatalf("%s: error (NMSE) is %.3g, bound 3e-4", what, sum/norm)
	}
}

// parts reads every part at once and in ranges of rows, which must be the same bytes.
func (r run) parts(w layers.Weight) {
	if out, in := w.Dims(); out != r.out || in != r.in {
		r.Fatalf("%d x %d, want %d x %d", out, in, r.out, r.in)
	}
	seen := map[string]bool{}
	for _, p := range w.Parts() {
		if p.Name == "" || seen[p.Name] {
			r.Errorf("part name %q is empty or there twice", p.Name)
		}
		seen[p.Name] = true
		rowBytes := p.Cols * p.Type.Bytes()
		whole := make([]byte, p.Rows*rowBytes)
		if err := p.Read(whole, 0); err != nil {
			r.Fatalf("part %s: %v", p.Name, err)
		}
		for row, n := 0, 1; row < p.Rows; row, n = row+n, n+2 {
			n = min(n, p.Rows-row)
			some := make([]byte, n*rowBytes)
			if err := p.Read(some, row); err != nil {
				r.Fatalf("part %s: %v", p.Name, err)
			}
			if !bytes.Equal(some, whole[row*rowBytes:][:n*rowBytes]) {
				r.Fatalf("part %s: rows %d to %d are others when they are read alone", p.Name, row, row+n)
			}
		}
	}
}

// bind binds w, for which counting must have told the memory.
func (r run) bind(w layers.Weight) layers.Linear {
	var c kernels.Counter
	if _, err := w.Bind(&c, kernels.Discard{}); err != nil {
		r.Fatal(err)
	}
	before := r.Arena.Used()
	l, err := w.Bind(r.Arena, r.Stream)
	if err != nil {
		r.Fatal(err)
	}
	if used := r.Arena.Used() - before; used != c.Used() {
		r.Errorf("takes %d bytes of memory, %d were counted", used, c.Used())
	}
	if out, in := l.Dims(); out != r.out || in != r.in || l.Bytes() != r.kind.Bytes(r.out, r.in) {
		r.Errorf("bound as %d x %d, %d bytes, want %d", out, in, l.Bytes(), r.kind.Bytes(r.out, r.in))
	}
	return l
}

// products multiplies one row and many, with Set and Add, into a column window; a row must have the same bits in any
// company, and nothing may be allocated. Then it looks rows up.
func (r run) products(w layers.Weight, l layers.Linear) {
	order := Order(w)
	if (order != nil) != r.kind.Order {
		r.Errorf("an order of %d columns", len(order))
	}
	p := r.Pass(1 << 16)
	for _, rows := range []int{1, 2, 7} {
		x := r.Steps(rows, r.in, order)
		for _, mode := range []kernels.Mode{kernels.Set, kernels.Add} {
			wide := r.Random(rows, r.out+9)
			left, right := wide.Float32s(0)[3], wide.Float32s(rows - 1)[r.out+4]
			y := wide.Window(4, r.out)
			want := r.Want(w, x, nil, y, mode == kernels.Add)
			alone := append([]float32(nil), y.Float32s(rows-1)...)
			l.Apply(p, y, x, mode)
			r.judge(fmt.Sprintf("%d rows, mode %d", rows, mode), y, want)
			if wide.Float32s(0)[3] != left || wide.Float32s(rows - 1)[r.out+4] != right {
				r.Error("wrote outside the window")
			}
			z := r.Random(1, r.out)
			copy(z.Float32s(0), alone)
			l.Apply(p, z, x.Slice(rows-1, 1), mode)
			for j, v := range z.Float32s(0) {
				if math.Float32bits(v) != math.Float32bits(y.Float32s(rows - 1)[j]) {
					r.Fatalf("mode %d: column %d of the last of %d rows is %g, alone %g", mode, j, rows, y.Float32s(rows - 1)[j], v)
				}
			}
		}
		y := r.Random(rows, r.out)
		if n := testing.AllocsPerRun(3, func() { l.Apply(p, y, x, kernels.Set) }); n != 0 {
			r.Errorf("a product of %d rows allocates %v times", rows, n)
		}
	}
	count := layers.NewPass(kernels.Discard{}, layers.Scratch{})
	l.Apply(count, kernels.Mat{Rows: 7, Cols: r.out}, kernels.Mat{Rows: 7, Cols: r.in}, kernels.Set)
	if p.Mark() != 0 || p.PeakScratch() != count.PeakScratch() {
		r.Errorf("takes %d bytes of scratch and leaves %d, %d were counted", p.PeakScratch(), p.Mark(), count.PeakScratch())
	}
	table, ok := l.(layers.Rows)
	if ok != r.kind.Rows {
		r.Errorf("rows can be looked up: %v, want %v", ok, r.kind.Rows)
	}
	if ok && !r.kind.Order { // a table has no order
		r.embed(w, table)
	}
}

func (r run) embed(w layers.Weight, l layers.Rows) {
	ids, err := r.Alloc(3, 1, kernels.I32)
	if err != nil {
		r.Fatal(err)
	}
	rows := []int32{int32(r.out - 1), 0, int32(r.out - 1)}
	r.Upload(ids, kernels.Int32Bytes(rows))
	y := r.Random(3, r.in)
	l.Embed(r.Pass(0), y, ids)
	m, err := w.Dense()
	if err != nil {
		r.Fatal(err)
	}
	for i, id := range rows {
		for j, v := range y.Float32s(i) {
			if v != m[int(id)*r.in+j] {
				r.Fatalf("row %d, column %d looked up is %g, want %g", i, j, v, m[int(id)*r.in+j])
			}
		}
	}
}

// group binds w beside others of its kind and one of another, with a bias: each must give what it gives alone.
func (r run) group(w layers.Weight) {
	if r.kind.Order {
		return // inputs that one order's blocks round exactly are none for another's
	}
	members := []layers.Member{
		{Weight: w},
		{Weight: r.kind.Make(r.Bench, 1+r.out/2, r.in), Bias: r.Random(1, 1+r.out/2).Float32s(0)},
		{Weight: r.kind.Make(r.Bench, r.out, r.in)},
		{Weight: r.Dense(2, r.in, kernels.F16)},
	}
	g, err := layers.BindGroup(r.Arena, r.Stream, "site", members...)
	if err != nil {
		r.Fatal(err)
	}
	out := 0
	for _, m := range members {
		o, _ := m.Weight.Dims()
		out += o
	}
	x, p := r.Steps(3, r.in, nil), r.Pass(1<<16)
	y := r.Random(3, out)
	if n := testing.AllocsPerRun(3, func() { g.Apply(p, y, x, kernels.Set) }); n != 0 {
		r.Errorf("a product of a group allocates %v times", n)
	}
	for i, m := range members {
		o, _ := m.Weight.Dims()
		r.judge(fmt.Sprint("member ", i), y.Window(0, o), r.Want(m.Weight, x, m.Bias, y, false))
		if out -= o; out > 0 {
			y = y.Window(o, out)
		}
	}
}
