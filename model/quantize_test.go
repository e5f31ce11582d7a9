package model_test

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/model"
	"eckart/model/modeltest"
)

func rounding(bits int) *layers.Rounding {
	return &layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}
}

// dequantized gives the matrices of a source as dense ones.
type dequantized struct{ model.Source }

func (d dequantized) Weight(name string) (layers.Weight, error) {
	w, err := d.Source.Weight(name)
	if err != nil {
		return nil, err
	}
	m, err := w.Dense()
	if err != nil {
		return nil, err
	}
	out, in := w.Dims()
	return layers.NewDense(layers.Part{Name: "weight", Type: kernels.F32, Rows: out, Cols: in, Read: func(dst []byte, row int) error {
		copy(dst, kernels.Float32Bytes(m[row*in:]))
		return nil
	}}), nil
}

// TestQuantizedGolden runs every golden checkpoint rounded. With F32 activations its logits are those of a dense model of
// the rounded numbers; with INT8 weights and activations they stay near those of the model as it is stored.
func TestQuantizedGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/golden.safetensors")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no goldens in testdata: %v", err)
	}
	fast := openCPU(t)
	exact, err := cpu.Open(cpu.Options{Threads: 2, Activations: cpu.ActivationsF32})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exact.Close() })
	tokens := make([]int32, 40)
	for i := range tokens {
		tokens[i] = int32(7 * i % 300)
	}
	for _, f := range dirs {
		dir := filepath.Dir(f)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			src := modeltest.OpenSource(t, dir)
			logits := func(dev kernels.Device, src model.Source) [][]float32 {
				return modeltest.LoadSource(t, dev, src, kernels.F32).Logits(t, tokens, 0)
			}
			stored := logits(exact, src)
			for _, row := range []struct {
				how   model.Quantization
				bound float64 // on the distance from the stored model; such random weights multiply errors
			}{
				{model.Quantization{}, 0},
				{model.Quantization{Blocks: rounding(8), Tables: rounding(8)}, 0.1},
				{model.Quantization{Blocks: rounding(4), Tables: rounding(8)}, 0.8},
				{model.Quantization{Blocks: rounding(2)}, 2},
			} {
				q := model.Quantize(src, row.how)
				if off := distance(logits(exact, q), logits(exact, dequantized{q})); !(off < 1e-4) {
					t.Errorf("%+v: off by %g of the logits of the rounded numbers, want at most 1e-4", row.how, off)
				}
				if off := distance(logits(fast, q), stored); !(off <= row.bound) {
					t.Errorf("%+v: off by %g of the logits of the stored numbers, want at most %g", row.how, off, row.bound)
				}
			}
		})
	}
}

// distance returns the length of the difference of two sets of rows over that of the second.
func distance(got, want [][]float32) float64 {
	var off, all float64
	for i, row := range want {
		for j, v := range row {
			d := float64(got[i][j] - v)
			off += d * d
			all += float64(v) * float64(v)
		}
	}
	return math.Sqrt(off / all)
}

// watched counts what is read of a source's matrices.
type watched struct {
	model.Source
	bytes *int
}

func (w watched) Weight(name string) (layers.Weight, error) {
	m, err := w.Source.Weight(name)
	if err != nil {
		return nil, err
	}
	part := m.Parts()[0]
	read := part.Read
	part.Read = func(dst []byte, row int) error {
		*w.bytes += len(dst)
		return read(dst, row)
	}
	return layers.NewDense(part), nil
}

// TestQuantizeMeasures knows the bytes of a rounded model without reading a weight, and the bits of each.
func TestQuantizeMeasures(t *testing.T) {
	var read int
	src := watched{tiny(t, nil), &read}
	// Two blocks of 64 x (64 + 32 + 32 + 64 + 96 + 96 + 96), and a table of 320 x 64.
	const blocks, table = 2 * 64 * 480, 320 * 64
	for _, row := range []struct {
		how   model.Quantization
		after int64
	}{
		{model.Quantization{Blocks: rounding(4), Tables: rounding(8)}, blocks*9/16 + table*17/16},
		{model.Quantization{Blocks: rounding(4), Tables: rounding(4)}, blocks*9/16 + table*9/16},
		{model.Quantization{Blocks: rounding(2)}, blocks*5/16 + table*4},
		{model.Quantization{Tables: rounding(3)}, blocks*4 + table*7/16},
		{model.Quantization{}, (blocks + table) * 4},
	} {
		q := model.Quantize(src, row.how)
		f, err := model.Measure(q, oneRow)
		if err != nil {
			t.Fatal(err)
		}
		s := q.Sum()
		if s.After != row.after || s.Before != 4*(blocks+table) || s.Elements != blocks+table || s.Kept != 0 {
			t.Errorf("%+v, want %d bytes after %d", s, row.after, 4*(blocks+table))
		}
		if want := 8 * float64(row.after) / (blocks + table); s.BitsPerWeight() != want {
			t.Errorf("%g bits a weight, want %g", s.BitsPerWeight(), want)
		}
		// Norms take 5·64·4 bytes, the rotary table little; matrices of these sizes need no padding.
		if rest := f.Weights - row.after; rest < 5*64*4 || rest > 4096 {
			t.Errorf("measured %d bytes for matrices of %d", f.Weights, row.after)
		}
	}
	if read != 0 {
		t.Errorf("%d bytes of weights were read", read)
	}
}

// TestQuantizeLeavesGrouped leaves matrices alone that are stored rounded.
func TestQuantizeLeavesGrouped(t *testing.T) {
	src := tiny(t, nil)
	inner := model.Quantize(src, model.Quantization{Blocks: rounding(4)})
	outer := model.Quantize(inner, model.Quantization{Blocks: rounding(8), Tables: rounding(8)})
	const name = "model.layers.0.mlp.up_proj.weight"
	want, err := inner.Weight(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := outer.Weight(name)
	if err != nil {
		t.Fatal(err)
	}
	bytes := func(w layers.Weight) (all []int) {
		for _, p := range w.Parts() {
			all = append(all, p.Rows*p.Cols*p.Type.Bytes())
		}
		return all
	}
	if !slices.Equal(bytes(got), bytes(want)) {
		t.Errorf("parts of %v bytes, want %v", bytes(got), bytes(want))
	}
	if _, err := model.Measure(outer, oneRow); err != nil {
		t.Fatal(err)
	}
	if s := outer.Sum(); s.Kept != 14 {
		t.Errorf("%d matrices were left alone, want the 14 of two blocks", s.Kept)
	}
}

// TestQuantizedTiedHead compares a tied head with the table as they are stored, and binds one matrix.
func TestQuantizedTiedHead(t *testing.T) {
	how := model.Quantization{Blocks: rounding(4), Tables: rounding(4)}
	plain, err := model.Measure(model.Quantize(tiny(t, nil), how), oneRow)
	if err != nil {
		t.Fatal(err)
	}
	s := tiny(t, nil)
	s.of["lm_head.weight"] = []int{320, 64}
	tied, err := model.Measure(model.Quantize(s, how), oneRow)
	if err != nil {
		t.Fatal(err)
	}
	if plain.Weights != tied.Weights {
		t.Errorf("a copied head takes %d bytes", tied.Weights-plain.Weights)
	}
	arena, err := openCPU(t).NewArena(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer arena.Close()
	if _, err := model.Load(model.Quantize(s, how), arena, kernels.Discard{}, nil); err != nil {
		t.Fatalf("a copy: %v", err)
	}
	_, err = model.Load(model.Quantize(otherHead{s}, how), arena, kernels.Discard{}, nil)
	if want := "lm_head.weight differs"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
	}
}

// huge has one number that no scale of type F16 reaches.
type huge struct{ shapes }

func (s huge) Weight(name string) (layers.Weight, error) {
	w, err := s.shapes.Weight(name)
	if err != nil || name != "model.layers.1.mlp.up_proj.weight" {
		return w, err
	}
	part := w.Parts()[0]
	part.Read = func(dst []byte, row int) error {
		clear(dst)
		if at := (5 - row) * 64 * 4; at >= 0 && at < len(dst) {
			dst[at+2], dst[at+3] = 0x80, 0x7e // 8.5e37
		}
		return nil
	}
	return layers.NewDense(part), nil
}

// TestQuantizeNamesTheMatrix names the matrix whose numbers cannot be rounded, also in a stack.
func TestQuantizeNamesTheMatrix(t *testing.T) {
	arena, err := openCPU(t).NewArena(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer arena.Close()
	q := model.Quantize(huge{tiny(t, nil)}, model.Quantization{Blocks: rounding(4)})
	_, err = model.Load(q, arena, kernels.Discard{}, nil)
	if want := "read model.layers.1.mlp.up_proj: row 5: group 0 has numbers that 4 bits"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
	}
}
