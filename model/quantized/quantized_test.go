package quantized_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
	"eckart/model/quantized"
)

// open opens a case of testdata: a matrix m, its values as truth, and what config.json says in the metadata.
func open(t *testing.T, file string) (*checkpoint.Checkpoint, *quantized.Reader) {
	t.Helper()
	c, err := checkpoint.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r, err := quantized.Open(c, []byte(c.Metadata()["config"]))
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func floats(t *testing.T, c *checkpoint.Checkpoint, name string) ([]float32, []int) {
	t.Helper()
	tensor, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	raw := make([]byte, tensor.Bytes())
	if err := c.ReadAt(raw, tensor, 0); err != nil {
		t.Fatal(err)
	}
	return layers.Float32s(raw, kernels.F32), tensor.Shape
}

// notes is what each case is said to become.
var notes = map[string]string{
	"awq-4bit":                "awq, 4 bits, groups of 32: computed as stored",
	"bnb-fp4":                 "bitsandbytes, fp4, blocks of 128: widened to f32",
	"bnb-int8":                "bitsandbytes, int8, a scale a row: computed as stored",
	"bnb-nf4":                 "bitsandbytes, nf4, blocks of 64: widened to f32",
	"bnb-nf4-nested":          "bitsandbytes, nf4, blocks of 32, nested: widened to f32",
	"float8-block":            "float-quantized, 8 bits, blocks of 16x16: widened to f32",
	"float8-matrix":           "float-quantized, 8 bits, a scale a matrix: widened to f32",
	"float8-row":              "float-quantized, 8 bits, a scale a row: widened to bf16",
	"fp8-block":               "fp8, blocks of 16x32: widened to bf16",
	"fp8-divided-block":       "fp8, blocks of 16x32, which divides: widened to f32",
	"fp8-divided-row":         "fp8, a scale a row, which divides: widened to f32",
	"fp8-matrix":              "fp8, a scale a matrix: widened to f32",
	"fp8-row":                 "fp8, a scale a row: widened to f32",
	"fp8-transformers":        "fp8, blocks of 16x32: widened to f32",
	"fp8-transformers-powers": "fp8, blocks of 16x32: widened to f32",
	"gptq-2bit":               "gptq, 2 bits, groups of 32: computed as stored",
	"gptq-3bit":               "gptq, 3 bits, groups of 32: computed as stored",
	"gptq-3bit-v1-act-order":  "gptq, 3 bits, groups of 32, act-order: computed as stored",
	"gptq-4bit":               "gptq, 4 bits, groups of 32: computed as stored",
	"gptq-4bit-act-order":     "gptq, 4 bits, groups of 32, act-order: computed as stored",
	"gptq-4bit-narrow-groups": "gptq, 4 bits, groups of 16: widened to f32",
	"gptq-4bit-row":           "gptq, 4 bits, a group a row: computed as stored",
	"gptq-4bit-short-group":   "gptq, 4 bits, groups of 64: computed as stored",
	"gptq-4bit-zeros-v1":      "gptq, 4 bits, groups of 32: computed as stored",
	"gptq-4bit-zeros-v2":      "gptq, 4 bits, groups of 32: computed as stored",
	"gptq-8bit":               "gptq, 8 bits, groups of 32: computed as stored",
	"int8-row":                "int-quantized, 8 bits, a scale a row: computed as stored",
	"int8-zeros-group":        "int-quantized, 8 bits, groups of 32: computed as stored",
	"int8-zeros-matrix":       "int-quantized, 8 bits, a scale a matrix: computed as stored",
	"mxfp4":                   "mxfp4-pack-quantized, 4 bits, groups of 32: the same values as integers of 8 bits",
	"mxfp4-blocks":            "mxfp4 in blocks: the same values as integers of 8 bits",
	"nvfp4":                   "nvfp4-pack-quantized, 4 bits, groups of 16: widened to f32",
	"pack-2bit-matrix":        "pack-quantized, 2 bits, a scale a matrix: computed as stored",
	"pack-3bit-zeros":         "pack-quantized, 3 bits, groups of 32: computed as stored",
	"pack-4bit":               "pack-quantized, 4 bits, groups of 32: computed as stored",
	"pack-4bit-act-order":     "pack-quantized, 4 bits, groups of 32, act-order: computed as stored",
	"pack-4bit-zeros":         "pack-quantized, 4 bits, groups of 32: computed as stored",
	"pack-5bit":               "pack-quantized, 5 bits, groups of 32: computed as stored",
	"pack-6bit-zeros-row":     "pack-quantized, 6 bits, a scale a row: computed as stored",
	"pack-8bit-row":           "pack-quantized, 8 bits, a scale a row: computed as stored",
}

// TestValues compares every case with the values that the tool that wrote it gives.
func TestValues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.safetensors")
	if err != nil || len(files) != len(notes) {
		t.Fatalf("%d files in testdata, want %d: %v", len(files), len(notes), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".safetensors")
		t.Run(name, func(t *testing.T) {
			c, r := open(t, file)
			if got := r.Notes(); len(got) != 1 || !strings.HasPrefix(got[0], notes[name]+", ") || notes[name] == "" {
				t.Errorf("notes %q, want %q", got, notes[name])
			}
			if got := strings.Join(r.Names(), " "); got != "m.weight truth" {
				t.Errorf("names %s, want m.weight and truth", got)
			}
			w, ok := r.Weight("m.weight")
			if !ok {
				t.Fatal("no m.weight")
			}
			want, shape := floats(t, c, "truth")
			if out, in := w.Dims(); out != shape[0] || in != shape[1] {
				t.Fatalf("%d x %d, want %v", out, in, shape)
			}
			if n, ok := r.Elements("m.weight"); !ok || n != len(want) {
				t.Errorf("%d elements, want %d", n, len(want))
			}
			got, err := w.Dense()
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, want, w.Parts()[0].Type)
			inRanges(t, w)
		})
	}
}

// compare holds values against those of the reference. A type of 16 bits has the reference rounded to the nearest; the
// others differ by the order of two multiplications at most.
func compare(t *testing.T, got, want []float32, typ kernels.DType) {
	t.Helper()
	for i, v := range want {
		if typ == kernels.BF16 {
			u := math.Float32bits(v)
			v = math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
			if got[i] != v {
				t.Fatalf("element %d is %g, want %g", i, got[i], v)
			}
			continue
		}
		if d := math.Abs(float64(got[i] - v)); !(d <= 1.2e-7*math.Abs(float64(v))) {
			t.Fatalf("element %d is %g, want %g", i, got[i], v)
		}
	}
}

// inRanges reads a matrix in ranges of rows, as a device does that does not share the host's memory.
func inRanges(t *testing.T, w layers.Weight) {
	t.Helper()
	for _, p := range w.Parts() {
		rowBytes := p.Cols * p.Type.Bytes()
		whole := make([]byte, p.Rows*rowBytes)
		if err := p.Read(whole, 0); err != nil {
			t.Fatal(err)
		}
		for row, n := 0, 1; row < p.Rows; row, n = row+n, n+2 {
			n = min(n, p.Rows-row)
			part := make([]byte, n*rowBytes)
			if err := p.Read(part, row); err != nil {
				t.Fatal(err)
			}
			if string(part) != string(whole[row*rowBytes:(row+n)*rowBytes]) {
				t.Fatalf("%s: rows %d to %d differ from those read at once", p.Name, row, row+n)
			}
		}
	}
}
