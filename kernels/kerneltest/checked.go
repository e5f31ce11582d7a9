package kerneltest

import (
	"fmt"
	"math"
	"unsafe"

	"eckart/kernels"
)

// Checked returns a stream that does what s does, and first checks every shape, type, index and overlap; it panics
// with "BUG: ..." and the values where one is not as kernels.Stream demands. Indices come back from the device for
// that, so it waits in each verb: it is for tests.
func Checked(s kernels.Stream) kernels.Stream { return &checked{s} }

type checked struct{ kernels.Stream }

func bug(verb, format string, args ...any) {
	panic("BUG: " + verb + ": " + fmt.Sprintf(format, args...))
}

// show describes a matrix in a message.
func show(m kernels.Mat) string {
	s := fmt.Sprintf("%d x %d %s", m.Rows, m.Cols, m.Type)
	if m.Stride != m.Cols {
		s += fmt.Sprintf(" stride %d", m.Stride)
	}
	return s
}

// arg is an argument of a verb by its name.
type arg struct {
	name string
	kernels.Mat
}

// want checks that a matrix has memory, rows and cols (-1 for any), and one of types.
func (a arg) want(verb string, rows, cols int, types ...kernels.DType) {
	ok := false
	for _, t := range types {
		ok = ok || t == a.Type
	}
	switch {
	case !ok:
		bug(verb, "%s is %s, want type %v", a.name, show(a.Mat), types)
	case a.Rows < 0 || a.Cols < 0 || a.Stride < a.Cols:
		bug(verb, "%s is %s", a.name, show(a.Mat))
	case rows >= 0 && a.Rows != rows:
		bug(verb, "%s is %s, want %d rows", a.name, show(a.Mat), rows)
	case cols >= 0 && a.Cols != cols:
		bug(verb, "%s is %s, want %d columns", a.name, show(a.Mat), cols)
	case a.Bytes() == 0:
	case a.Host == nil && a.Addr == 0:
		bug(verb, "%s (%s) has no memory", a.name, show(a.Mat))
	case a.Host != nil && int64(len(a.Host)) < a.Bytes():
		bug(verb, "%s (%s) has %d bytes, want %d", a.name, show(a.Mat), len(a.Host), a.Bytes())
	case a.start()%uint64(a.Type.Bytes()) != 0:
		bug(verb, "%s (%s) starts in the middle of an element", a.name, show(a.Mat))
	}
}

func (a arg) packed(verb string) {
	if a.Stride != a.Cols && a.Rows > 1 {
		bug(verb, "%s (%s) is not packed", a.name, show(a.Mat))
	}
}

func (a arg) start() uint64 {
	if a.Host != nil {
		return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(a.Host))))
	}
	return a.Addr
}

// apart checks that two matrices share no element. Two windows of one matrix may lie side by side.
func (a arg) apart(verb string, b arg) {
	if a.Bytes() == 0 || b.Bytes() == 0 || (a.Host == nil) != (b.Host == nil) {
		return
	}
	x, y := a.start(), b.start()
	if x+uint64(a.Bytes()) <= y || y+uint64(b.Bytes()) <= x {
		return
	}
	if a.Stride*a.Type.Bytes() == b.Stride*b.Type.Bytes() {
		// Where the columns of b begin, seen from those of a, around a row that closes on itself.
		stride := int64(a.Stride * a.Type.Bytes())
		at := ((int64(y)-int64(x))%stride + stride) % stride
		if at >= int64(a.Cols*a.Type.Bytes()) && at+int64(b.Cols*b.Type.Bytes()) <= stride {
			return
		}
	}
	bug(verb, "%s (%s) and %s (%s) overlap", a.name, show(a.Mat), b.name, show(b.Mat))
}

// sameOrApart checks that two matrices of one shape are one, or share no element.
func (a arg) sameOrApart(verb string, b arg) {
	if a.start() != b.start() || a.Stride != b.Stride {
		a.apart(verb, b)
	}
}

// ints brings the values of an I32 matrix to the host, row by row.
func (c *checked) ints(m kernels.Mat) [][]int32 {
	rows := make([][]int32, m.Rows)
	for i := range rows {
		rows[i] = make([]int32, m.Cols)
		if m.Cols > 0 {
			c.Stream.Download(kernels.Int32Bytes(rows[i]), m.Slice(i, 1))
		}
	}
	if err := c.Stream.Sync(); err != nil {
		panic(fmt.Sprintf("BUG: stream is at fault before a verb: %v", err))
	}
	return rows
}

// indices checks that a column of indices lies in [low, high).
func (c *checked) indices(verb string, a arg, rows, low, high int) [][]int32 {
	a.want(verb, rows, 1, kernels.I32)
	v := c.ints(a.Mat)
	for i, row := range v {
		if int(row[0]) < low || int(row[0]) >= high {
			bug(verb, "%s[%d] is %d, want [%d, %d)", a.name, i, row[0], low, high)
		}
	}
	return v
}

var weightTypes = []kernels.DType{kernels.F32, kernels.F16, kernels.BF16}

func (c *checked) Upload(dst kernels.Mat, src []byte) {
	d := arg{"dst", dst}
	d.want("Upload", -1, -1, kernels.F32, kernels.F16, kernels.BF16, kernels.I32, kernels.U8)
	d.packed("Upload")
	if int64(len(src)) != dst.Bytes() {
		bug("Upload", "%d bytes for dst (%s), want %d", len(src), show(dst), dst.Bytes())
	}
	c.Stream.Upload(dst, src)
}

func (c *checked) Download(dst []byte, src kernels.Mat) {
	s := arg{"src", src}
	s.want("Download", -1, -1, kernels.F32, kernels.F16, kernels.BF16, kernels.I32, kernels.U8)
	s.packed("Download")
	if int64(len(dst)) != src.Bytes() {
		bug("Download", "%d bytes for src (%s), want %d", len(dst), show(src), src.Bytes())
	}
	c.Stream.Download(dst, src)
}

func (c *checked) Embed(y, table, ids kernels.Mat) {
	a, b := arg{"y", y}, arg{"table", table}
	a.want("Embed", -1, -1, kernels.F32)
	b.want("Embed", -1, y.Cols, weightTypes...)
	c.indices("Embed", arg{"ids", ids}, y.Rows, 0, table.Rows)
	a.apart("Embed", b)
	a.apart("Embed", arg{"ids", ids})
	c.Stream.Embed(y, table, ids)
}

func (c *checked) Gather(y, x, rows kernels.Mat) {
	a, b := arg{"y", y}, arg{"x", x}
	a.want("Gather", -1, -1, kernels.F32)
	b.want("Gather", -1, y.Cols, kernels.F32)
	c.indices("Gather", arg{"rows", rows}, y.Rows, 0, x.Rows)
	a.apart("Gather", b)
	a.apart("Gather", arg{"rows", rows})
	c.Stream.Gather(y, x, rows)
}

func (c *checked) Scatter(y, x, cols kernels.Mat, m kernels.Mode) {
	a, b, d := arg{"y", y}, arg{"x", x}, arg{"cols", cols}
	a.want("Scatter", -1, -1, kernels.F32)
	b.want("Scatter", y.Rows, -1, kernels.F32)
	d.want("Scatter", 1, x.Cols, kernels.I32)
	if m != kernels.Set && m != kernels.Add {
		bug("Scatter", "mode is %d", m)
	}
	seen := map[int32]int{}
	for i, col := range c.ints(cols)[0] {
		if col < 0 || int(col) >= y.Cols {
			bug("Scatter", "cols[%d] is %d, want [0, %d)", i, col, y.Cols)
		}
		if j, ok := seen[col]; ok {
			bug("Scatter", "cols[%d] and cols[%d] are both %d", j, i, col)
		}
		seen[col] = i
	}
	a.apart("Scatter", b)
	a.apart("Scatter", d)
	c.Stream.Scatter(y, x, cols, m)
}

func (c *checked) MatMul(y, x, w kernels.Mat, m kernels.Mode) {
	a, b, d := arg{"y", y}, arg{"x", x}, arg{"w", w}
	a.want("MatMul", -1, -1, kernels.F32)
	b.want("MatMul", y.Rows, -1, kernels.F32)
	d.want("MatMul", y.Cols, x.Cols, weightTypes...)
	if m != kernels.Set && m != kernels.Add {
		bug("MatMul", "mode is %d", m)
	}
	a.apart("MatMul", b)
	a.apart("MatMul", d)
	c.Stream.MatMul(y, x, w, m)
}

// grouped checks a grouped matrix.
func (c *checked) grouped(verb string, w kernels.Grouped) arg {
	if err := w.Check(); err != nil {
		bug(verb, "%v", err)
	}
	a := arg{"w.Packed", w.Packed}
	a.want(verb, 1, w.PackedBytes(), kernels.U8)
	if o := (arg{"w.Order", w.Order}); o.Cols != 0 {
		o.want(verb, 1, w.Cols, kernels.I32)
		for i, from := range c.ints(w.Order)[0] {
			if from < 0 || int(from) >= w.Cols {
				bug(verb, "w.Order[%d] is %d, want [0, %d)", i, from, w.Cols)
			}
		}
	}
	return a
}

func (c *checked) Pack(w kernels.Grouped, row int, codes, scales, zeros []byte) {
	c.grouped("Pack", w)
	rows := len(codes) / w.Cols
	if row < 0 || row%kernels.GroupedPanel != 0 || row+rows > w.Rows || rows%kernels.GroupedPanel != 0 && row+rows != w.Rows || len(codes) != rows*w.Cols {
		bug("Pack", "%d codes from row %d on, for %d x %d", len(codes), row, w.Rows, w.Cols)
	}
	points := 0
	if w.Zeros {
		points = rows * w.Groups()
	}
	if want := rows * w.Groups() * w.ScaleType.Bytes(); len(scales) != want || len(zeros) != points {
		bug("Pack", "%d bytes of scales and %d of zeros, want %d and %d", len(scales), len(zeros), want, points)
	}
	for i, code := range codes {
		if int(code) >= 1<<w.Bits {
			bug("Pack", "codes[%d] is %d, of %d bits", i, code, w.Bits)
		}
	}
	c.Stream.Pack(w, row, codes, scales, zeros)
}

func (c *checked) GroupedMatMul(y, x kernels.Mat, w kernels.Grouped, m kernels.Mode) {
	a, b, d := arg{"y", y}, arg{"x", x}, c.grouped("GroupedMatMul", w)
	a.want("GroupedMatMul", -1, w.Rows, kernels.F32)
	b.want("GroupedMatMul", y.Rows, w.Cols, kernels.F32)
	if m != kernels.Set && m != kernels.Add {
		bug("GroupedMatMul", "mode is %d", m)
	}
	a.apart("GroupedMatMul", b)
	a.apart("GroupedMatMul", d)
	a.apart("GroupedMatMul", arg{"w.Order", w.Order})
	c.Stream.GroupedMatMul(y, x, w, m)
}

func (c *checked) GroupedEmbed(y kernels.Mat, table kernels.Grouped, ids kernels.Mat) {
	a, b := arg{"y", y}, c.grouped("GroupedEmbed", table)
	a.want("GroupedEmbed", -1, table.Cols, kernels.F32)
	if table.Order.Cols != 0 {
		bug("GroupedEmbed", "table has an order of columns")
	}
	c.indices("GroupedEmbed", arg{"ids", ids}, y.Rows, 0, table.Rows)
	a.apart("GroupedEmbed", b)
	a.apart("GroupedEmbed", arg{"ids", ids})
	c.Stream.GroupedEmbed(y, table, ids)
}

func (c *checked) Bias(y, bias kernels.Mat) {
	a, b := arg{"y", y}, arg{"b", bias}
	a.want("Bias", -1, -1, kernels.F32)
	b.want("Bias", 1, y.Cols, kernels.F32)
	a.apart("Bias", b)
	c.Stream.Bias(y, bias)
}

func (c *checked) RMSNorm(y, x, gain kernels.Mat, eps float32) {
	a, b, g := arg{"y", y}, arg{"x", x}, arg{"gain", gain}
	a.want("RMSNorm", -1, -1, kernels.F32)
	b.want("RMSNorm", y.Rows, y.Cols, kernels.F32)
	g.want("RMSNorm", 1, -1, kernels.F32)
	if gain.Cols == 0 || x.Cols%gain.Cols != 0 {
		bug("RMSNorm", "gain is %s, x is %s", show(gain), show(x))
	}
	if !(eps > 0) {
		bug("RMSNorm", "eps is %v", eps)
	}
	a.sameOrApart("RMSNorm", b)
	a.apart("RMSNorm", g)
	c.Stream.RMSNorm(y, x, gain, eps)
}

func (c *checked) Angles(y, pos, freqs kernels.Mat, scale float32) {
	a, f := arg{"y", y}, arg{"freqs", freqs}
	a.want("Angles", -1, 2*freqs.Cols, kernels.F32)
	f.want("Angles", 1, -1, kernels.F32)
	c.indices("Angles", arg{"pos", pos}, y.Rows, 0, math.MaxInt32)
	a.apart("Angles", f)
	a.apart("Angles", arg{"pos", pos})
	c.Stream.Angles(y, pos, freqs, scale)
}

func (c *checked) Rotate(x, angles kernels.Mat, heads int) {
	a, b := arg{"x", x}, arg{"angles", angles}
	a.want("Rotate", -1, -1, kernels.F32)
	b.want("Rotate", x.Rows, -1, kernels.F32)
	if heads < 1 || x.Cols%heads != 0 || angles.Cols%2 != 0 || angles.Cols > x.Cols/heads {
		bug("Rotate", "x is %s of %d heads, angles are %s", show(x), heads, show(angles))
	}
	a.apart("Rotate", b)
	c.Stream.Rotate(x, angles, heads)
}

// pages checks a layer's cache.
func pages(verb string, kv kernels.Pages) {
	if kv.Heads < 1 || kv.KeyDim < 1 || kv.ValueDim < 1 || kv.BlockTokens < 1 {
		bug(verb, "cache has %d heads of %d and %d features, blocks of %d tokens", kv.Heads, kv.KeyDim, kv.ValueDim, kv.BlockTokens)
	}
	k, v := arg{"kv.K", kv.K}, arg{"kv.V", kv.V}
	k.want(verb, -1, kv.Heads*kv.BlockTokens*kv.KeyDim, weightTypes...)
	v.want(verb, kv.K.Rows, kv.Heads*kv.BlockTokens*kv.ValueDim, kv.K.Type)
	k.apart(verb, v)
}

func (c *checked) Store(kv kernels.Pages, k, v, slots kernels.Mat) {
	pages("Store", kv)
	x, y := arg{"k", k}, arg{"v", v}
	x.want("Store", -1, kv.Heads*kv.KeyDim, kernels.F32)
	y.want("Store", k.Rows, kv.Heads*kv.ValueDim, kernels.F32)
	for _, a := range []arg{x, y, {"slots", slots}} {
		a.apart("Store", arg{"kv.K", kv.K})
		a.apart("Store", arg{"kv.V", kv.V})
	}
	seen := map[int32]int{}
	for i, row := range c.indices("Store", arg{"slots", slots}, k.Rows, -1, kv.K.Rows*kv.BlockTokens) {
		if j, ok := seen[row[0]]; ok && row[0] >= 0 {
			bug("Store", "slots[%d] and slots[%d] are both %d", j, i, row[0])
		}
		seen[row[0]] = i
	}
	c.Stream.Store(kv, k, v, slots)
}

func (c *checked) Attend(y, q kernels.Mat, kv kernels.Pages, s kernels.Seqs, at kernels.Attention) {
	pages("Attend", kv)
	if at.Heads < 1 || at.Heads%kv.Heads != 0 || at.Window < 0 || !(at.Scale > 0) || math.IsInf(float64(at.Scale), 0) {
		bug("Attend", "attention is %+v over %d key heads", at, kv.Heads)
	}
	a, b := arg{"y", y}, arg{"q", q}
	a.want("Attend", -1, at.Heads*kv.ValueDim, kernels.F32)
	b.want("Attend", y.Rows, at.Heads*kv.KeyDim, kernels.F32)
	rows, from, blocks := arg{"s.Rows", s.Rows}, arg{"s.From", s.From}, arg{"s.Blocks", s.Blocks}
	rows.want("Attend", -1, 1, kernels.I32)
	from.want("Attend", -1, 1, kernels.I32)
	blocks.want("Attend", -1, -1, kernels.I32)
	for _, m := range []arg{b, rows, from, blocks, {"kv.K", kv.K}, {"kv.V", kv.V}} {
		a.apart("Attend", m)
	}
	if s.Count < 0 || s.Count > 0 && (s.Rows.Rows < s.Count+1 || s.From.Rows < s.Count || s.Blocks.Rows < s.Count) {
		bug("Attend", "%d sequences, Rows is %s, From %s, Blocks %s", s.Count, show(s.Rows), show(s.From), show(s.Blocks))
	}
	if s.Count == 0 {
		c.Stream.Attend(y, q, kv, s, at)
		return
	}
	bounds, before := c.ints(s.Rows.Slice(0, s.Count+1)), c.ints(s.From.Slice(0, s.Count))
	tables := c.ints(s.Blocks.Slice(0, s.Count))
	for i := range s.Count {
		first, last, from := int(bounds[i][0]), int(bounds[i+1][0]), int(before[i][0])
		if first < 0 || last < first || last > q.Rows {
			bug("Attend", "rows of sequence %d are [%d, %d) of %d", i, first, last, q.Rows)
		}
		if from < 0 {
			bug("Attend", "sequence %d starts at position %d", i, from)
		}
		if last == first {
			continue
		}
		count := (from + last - first + kv.BlockTokens - 1) / kv.BlockTokens
		if count > s.Blocks.Cols {
			bug("Attend", "sequence %d has %d tokens in blocks of %d, and %d blocks", i, from+last-first, kv.BlockTokens, s.Blocks.Cols)
		}
		for j, block := range tables[i][:count] {
			if block < 0 || int(block) >= kv.K.Rows {
				bug("Attend", "block %d of sequence %d is %d, want [0, %d)", j, i, block, kv.K.Rows)
			}
		}
	}
	c.Stream.Attend(y, q, kv, s, at)
}

func (c *checked) SwiGLU(y, gate, up kernels.Mat) {
	a, g, u := arg{"y", y}, arg{"gate", gate}, arg{"up", up}
	a.want("SwiGLU", -1, -1, kernels.F32)
	g.want("SwiGLU", y.Rows, y.Cols, kernels.F32)
	u.want("SwiGLU", y.Rows, y.Cols, kernels.F32)
	a.sameOrApart("SwiGLU", g)
	a.sameOrApart("SwiGLU", u)
	c.Stream.SwiGLU(y, gate, up)
}
