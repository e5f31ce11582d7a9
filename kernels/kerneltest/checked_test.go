package kerneltest_test

import (
	"fmt"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/kernels/kerneltest"
)

// memory is a stream that does nothing but move bytes from and to host memory.
type memory struct{ kernels.Discard }

func (memory) Upload(dst kernels.Mat, src []byte)   { copy(dst.Host, src) }
func (memory) Download(dst []byte, src kernels.Mat) { copy(dst, src.Host) }

func mat(rows, cols int, t kernels.DType) kernels.Mat {
	m := kernels.Mat{Rows: rows, Cols: cols, Stride: cols, Type: t}
	m.Host = make([]byte, m.Bytes())
	return m
}

func column(v ...int32) kernels.Mat {
	m := mat(len(v), 1, kernels.I32)
	copy(m.Host, kernels.Int32Bytes(v))
	return m
}

const (
	f32 = kernels.F32
	f16 = kernels.F16
	i32 = kernels.I32
)

// args are good arguments for every verb; each case of the test spoils one of them.
type args struct {
	y, x, w, row, ids, pos, slots, angles kernels.Mat
	cols                                  kernels.Mat
	kv                                    kernels.Pages
	seqs                                  kernels.Seqs
	attention                             kernels.Attention
	bytes                                 []byte
	heads                                 int
	eps                                   float32
	mode                                  kernels.Mode
	grouped                               kernels.Grouped
	first                                 int
	codes, scales, zeros                  []byte
}

func good() *args {
	blocks := mat(3, 4, i32)
	copy(blocks.Host, kernels.Int32Bytes([]int32{4, 0, 99, 99, 1, 2, 3, 99, 99, 99, 99, 99}))
	a := &args{
		y: mat(5, 24, f32), x: mat(5, 24, f32), w: mat(24, 24, f16), row: mat(1, 24, f32), ids: column(0, 23, 1, 2, 3),
		pos: column(0, 1, 2, 3, 4), slots: column(-1, 19, 0, -1, 7), angles: mat(5, 6, f32),
		kv:        kernels.Pages{K: mat(5, 3*4*8, f16), V: mat(5, 3*4*8, f16), Heads: 3, KeyDim: 8, ValueDim: 8, BlockTokens: 4},
		seqs:      kernels.Seqs{Count: 2, Rows: column(0, 2, 4, 99), From: column(6, 10, 99), Blocks: blocks},
		attention: kernels.Attention{Heads: 3, Scale: 1}, bytes: make([]byte, 5*24*4), heads: 3, eps: 1e-5,
		grouped: kernels.Grouped{Rows: 24, Cols: 24, Bits: 3, Group: 32, ScaleType: f16, Zeros: true},
		first:   16, codes: make([]byte, 8*24), scales: make([]byte, 8*2), zeros: make([]byte, 8),
	}
	a.cols = mat(1, 3, i32)
	copy(a.cols.Host, kernels.Int32Bytes([]int32{23, 0, 7}))
	a.grouped.Packed = mat(1, a.grouped.PackedBytes(), kernels.U8)
	return a
}

var verbs = map[string]func(s kernels.Stream, a *args){
	"Upload":        func(s kernels.Stream, a *args) { s.Upload(a.x, a.bytes) },
	"Download":      func(s kernels.Stream, a *args) { s.Download(a.bytes, a.x) },
	"Embed":         func(s kernels.Stream, a *args) { s.Embed(a.y, a.w, a.ids) },
	"Gather":        func(s kernels.Stream, a *args) { s.Gather(a.y, a.x, a.pos) },
	"Scatter":       func(s kernels.Stream, a *args) { s.Scatter(a.y, a.x.Window(2, 3), a.cols, a.mode) },
	"MatMul":        func(s kernels.Stream, a *args) { s.MatMul(a.y, a.x, a.w, a.mode) },
	"Pack":          func(s kernels.Stream, a *args) { s.Pack(a.grouped, a.first, a.codes, a.scales, a.zeros) },
	"GroupedMatMul": func(s kernels.Stream, a *args) { s.GroupedMatMul(a.y, a.x, a.grouped, a.mode) },
	"GroupedEmbed":  func(s kernels.Stream, a *args) { s.GroupedEmbed(a.y, a.grouped, a.ids) },
	"Bias":          func(s kernels.Stream, a *args) { s.Bias(a.y, a.row) },
	"RMSNorm":       func(s kernels.Stream, a *args) { s.RMSNorm(a.y, a.x, a.row, a.eps) },
	"Angles":        func(s kernels.Stream, a *args) { s.Angles(a.angles, a.pos, a.row.Window(0, 3), 1) },
	"Rotate":        func(s kernels.Stream, a *args) { s.Rotate(a.x, a.angles, a.heads) },
	"Store":         func(s kernels.Stream, a *args) { s.Store(a.kv, a.x, a.y, a.slots) },
	"Attend":        func(s kernels.Stream, a *args) { s.Attend(a.y, a.x, a.kv, a.seqs, a.attention) },
	"SwiGLU":        func(s kernels.Stream, a *args) { s.SwiGLU(a.y, a.x, a.x) },
}

// call returns what the checked verb panics with, or nil.
func call(verb string, a *args) (fault any) {
	defer func() { fault = recover() }()
	verbs[verb](kerneltest.Checked(memory{}), a)
	return nil
}

func TestCheckedAccepts(t *testing.T) {
	for verb := range verbs {
		if fault := call(verb, good()); fault != nil {
			t.Errorf("%s: %v", verb, fault)
		}
	}
	for name, spoil := range map[string]func(a *args){
		"in place":                func(a *args) { a.y = a.x },
		"no rows of the sequence": func(a *args) { a.seqs.Rows = column(0, 0, 2, 99) },
		"no sequence":             func(a *args) { a.seqs.Count = 0 },
	} {
		for _, verb := range []string{"RMSNorm", "SwiGLU", "Attend"} {
			a := good()
			spoil(a)
			if fault := call(verb, a); fault != nil && (verb != "Attend" || name != "in place") {
				t.Errorf("%s, %s: %v", verb, name, fault)
			}
		}
	}
	// Windows of one matrix that lie side by side do not overlap.
	a := good()
	both := mat(5, 48, f32)
	a.y, a.x = both.Window(0, 24), both.Window(24, 24)
	if fault := call("MatMul", a); fault != nil {
		t.Errorf("windows side by side: %v", fault)
	}
}

func TestCheckedRefuses(t *testing.T) {
	for _, c := range []struct {
		verb, want string
		spoil      func(a *args)
	}{
		{"Upload", "3 bytes", func(a *args) { a.bytes = a.bytes[:3] }},
		{"Upload", "not packed", func(a *args) { a.x = a.x.Window(0, 8) }},
		{"Download", "3 bytes", func(a *args) { a.bytes = a.bytes[:3] }},
		{"Embed", "ids[1] is 24, want [0, 24)", func(a *args) { a.ids = column(0, 24, 1, 2, 3) }},
		{"Embed", "ids[0] is -1", func(a *args) { a.ids = column(-1, 2, 1, 2, 3) }},
		{"Embed", "want 5 rows", func(a *args) { a.ids = column(1, 2) }},
		{"Embed", "table is 24 x 24 i32", func(a *args) { a.w.Type = i32 }},
		{"Gather", "rows[4] is 5", func(a *args) { a.pos = column(0, 1, 2, 3, 5) }},
		{"Gather", "overlap", func(a *args) { a.y = a.x }},
		{"Scatter", "want 5 rows", func(a *args) { a.x = mat(4, 24, f32) }},
		{"Scatter", "cols is 1 x 4 i32, want 3 columns", func(a *args) { a.cols = mat(1, 4, i32) }},
		{"Scatter", "cols is 2 x 3 i32, want 1 rows", func(a *args) { a.cols = mat(2, 3, i32) }},
		{"Scatter", "cols[1] is 24, want [0, 24)", func(a *args) { a.cols.Int32s(0)[1] = 24 }},
		{"Scatter", "cols[2] is -1, want [0, 24)", func(a *args) { a.cols.Int32s(0)[2] = -1 }},
		{"Scatter", "cols[0] and cols[2] are both 23", func(a *args) { a.cols.Int32s(0)[2] = 23 }},
		{"Scatter", "mode is 2", func(a *args) { a.mode = 2 }},
		{"Scatter", "overlap", func(a *args) { a.y = a.x }},
		{"MatMul", "want 24 columns", func(a *args) { a.w = mat(24, 23, f16) }},
		{"MatMul", "want 24 rows", func(a *args) { a.w = mat(25, 24, f16) }},
		{"MatMul", "want 5 rows", func(a *args) { a.x = mat(4, 24, f32) }},
		{"MatMul", "mode is 2", func(a *args) { a.mode = 2 }},
		{"MatMul", "overlap", func(a *args) { a.y = a.x }},
		{"MatMul", "overlap", func(a *args) {
			both := mat(5, 47, f32)
			a.y, a.x = both.Window(0, 24), both.Window(23, 24)
		}},
		{"MatMul", "has no memory", func(a *args) { a.w.Host = nil }},
		{"MatMul", "has 10 bytes", func(a *args) { a.w.Host = a.w.Host[:10] }},
		{"MatMul", "middle of an element", func(a *args) { a.w.Host = append(a.w.Host, 0)[1:] }},
		{"Pack", "matrix of 5 bits", func(a *args) { a.grouped.Bits = 5 }},
		{"Pack", "groups of 48 columns", func(a *args) { a.grouped.Group = 48 }},
		{"Pack", "scales of type i32", func(a *args) { a.grouped.ScaleType = i32 }},
		{"Pack", "w.Packed is 1 x 479 u8 stride 480, want 480 columns", func(a *args) { a.grouped.Packed = a.grouped.Packed.Window(0, 479) }},
		{"Pack", "192 codes from row 8 on", func(a *args) { a.first = 8 }},
		{"Pack", "192 codes from row 32 on", func(a *args) { a.first = 32 }},
		{"Pack", "168 codes from row 16 on", func(a *args) { a.codes = a.codes[:7*24] }},
		{"Pack", "14 bytes of scales and 8 of zeros, want 16 and 8", func(a *args) { a.scales = a.scales[:14] }},
		{"Pack", "16 bytes of scales and 0 of zeros, want 16 and 8", func(a *args) { a.zeros = nil }},
		{"Pack", "codes[7] is 8, of 3 bits", func(a *args) { a.codes[7] = 8 }},
		{"GroupedMatMul", "want 25 columns", func(a *args) { a.grouped.Rows = 25 }},
		{"GroupedMatMul", "want 23 columns", func(a *args) { a.grouped.Cols = 23 }},
		{"GroupedMatMul", "w.Packed is 1 x 479 u8 stride 480, want 480 columns", func(a *args) { a.grouped.Packed = a.grouped.Packed.Window(0, 479) }},
		{"GroupedMatMul", "mode is 2", func(a *args) { a.mode = 2 }},
		{"GroupedMatMul", "overlap", func(a *args) { a.y = a.x }},
		{"GroupedMatMul", "w.Order is 1 x 23 i32, want 24 columns", func(a *args) { a.grouped.Order = mat(1, 23, i32) }},
		{"GroupedMatMul", "w.Order[3] is 24, want [0, 24)", func(a *args) {
			a.grouped.Order = mat(1, 24, i32)
			a.grouped.Order.Int32s(0)[3] = 24
		}},
		{"GroupedEmbed", "ids[1] is 24, want [0, 24)", func(a *args) { a.ids = column(0, 24, 1, 2, 3) }},
		{"GroupedEmbed", "want 24 columns", func(a *args) { a.y = mat(5, 23, f32) }},
		{"GroupedEmbed", "has an order", func(a *args) { a.grouped.Order = mat(1, 24, i32) }},
		{"Bias", "want 1 rows", func(a *args) { a.row = mat(2, 24, f32) }},
		{"Bias", "want 24 columns", func(a *args) { a.row = mat(1, 23, f32) }},
		{"RMSNorm", "gain is 1 x 7", func(a *args) { a.row = mat(1, 7, f32) }},
		{"RMSNorm", "eps is 0", func(a *args) { a.eps = 0 }},
		{"RMSNorm", "overlap", func(a *args) {
			a.x = mat(6, 24, f32)
			a.y, a.x = a.x.Slice(0, 5), a.x.Slice(1, 5)
		}},
		{"Angles", "pos[0] is -1", func(a *args) { a.pos = column(-1, 1, 2, 3, 4) }},
		{"Angles", "want 6 columns", func(a *args) { a.angles = mat(5, 8, f32) }},
		{"Rotate", "24 f32 of 5 heads", func(a *args) { a.heads = 5 }},
		{"Rotate", "angles are 5 x 10", func(a *args) { a.angles = mat(5, 10, f32) }},
		{"Rotate", "want 5 rows", func(a *args) { a.angles = mat(4, 6, f32) }},
		{"Store", "slots[1] is 20", func(a *args) { a.slots = column(-1, 20, 0, -1, 7) }},
		{"Store", "slots[0] and slots[2] are both 7", func(a *args) { a.slots = column(7, 19, 7, -1, 3) }},
		{"Store", "kv.V is 5 x 96 f32, want type [f16]", func(a *args) { a.kv.V = mat(5, 96, f32) }},
		{"Store", "want 4 rows", func(a *args) { a.kv.K = mat(4, 96, f16) }},
		{"Store", "blocks of 0 tokens", func(a *args) { a.kv.BlockTokens = 0 }},
		{"Store", "overlap", func(a *args) { a.kv.V = a.kv.K }},
		{"Attend", "over 3 key heads", func(a *args) { a.attention.Heads = 4 }},
		{"Attend", "over 3 key heads", func(a *args) { a.attention.Window = -1 }},
		{"Attend", "over 3 key heads", func(a *args) { a.attention.Scale = 0 }},
		{"Attend", "4 sequences", func(a *args) { a.seqs.Count = 4 }},
		{"Attend", "[2, 1) of 5", func(a *args) { a.seqs.Rows = column(0, 2, 1, 99) }},
		{"Attend", "[2, 6) of 5", func(a *args) { a.seqs.Rows = column(0, 2, 6, 99) }},
		{"Attend", "starts at position -1", func(a *args) { a.seqs.From = column(-1, 10, 99) }},
		{"Attend", "block 2 of sequence 0 is 99", func(a *args) { a.seqs.From = column(7, 10, 99) }},
		{"Attend", "and 4 blocks", func(a *args) { a.seqs.From = column(6, 15, 99) }},
		{"Attend", "overlap", func(a *args) { a.y = a.x }},
		{"SwiGLU", "want 24 columns", func(a *args) { a.x = mat(5, 23, f32) }},
	} {
		a := good()
		c.spoil(a)
		fault := call(c.verb, a)
		if message := fmt.Sprint(fault); fault == nil || !strings.HasPrefix(message, "BUG: "+c.verb) || !strings.Contains(message, c.want) {
			t.Errorf("%s: panic is %v, want %q in it", c.verb, fault, c.want)
		}
	}
}
