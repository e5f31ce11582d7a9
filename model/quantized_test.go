package model_test

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/modeltest"
)

// TestQuantized runs checkpoints that other tools have quantized, and compares with what the reference implementation
// computes with the values that those tools give.
func TestQuantized(t *testing.T) {
	dev, err := cpu.Open(cpu.Options{Threads: 2, Activations: cpu.ActivationsF32})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for name, want := range map[string]struct {
		note       string
		parameters int
	}{
		// 2·96·64 + 3·64 + 64·(64+32+32+64) + 3·96·64; the biases of zeros in the first are not counted
		"llama-gptq": {"gptq, 4 bits, groups of 32, act-order: computed as stored, 1.0x the bytes", 43200},
		"llama-nf4":  {"bitsandbytes, nf4, blocks of 64, nested: widened to f32, 5.0x the bytes", 43200},
		"llama-pack": {"pack-quantized, 4 bits, groups of 32: computed as stored, 1.0x the bytes", 43200},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("quantized/testdata", name)
			ids, logits := reference(t, dir)
			m := modeltest.Load(t, dev, dir, kernels.F32)
			for r, row := range m.Logits(t, ids, 0) {
				for i, v := range row {
					if d := math.Abs(float64(v - logits[r*len(row)+i])); !(d <= modeltest.Bound) {
						t.Fatalf("row %d: logit %d is %g, want %g", r, i, v, logits[r*len(row)+i])
					}
				}
			}
			c, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			src, err := model.NewSource(c)
			if err != nil {
				t.Fatal(err)
			}
			// Rounding at load leaves what was quantized before, and what is said of it.
			src = model.Quantize(src, model.Quantization{})
			if got := model.Notes(src); !slices.Equal(got, []string{want.note}) {
				t.Errorf("notes %q, want %q", got, want.note)
			}
			if got := model.Parameters(src); got != want.parameters {
				t.Errorf("%d parameters, want %d", got, want.parameters)
			}
		})
	}
}

// reference reads the ids and logits beside a checkpoint.
func reference(t *testing.T, dir string) (ids []int32, logits []float32) {
	t.Helper()
	c, err := checkpoint.Open(filepath.Join(dir, "golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw := map[string][]byte{}
	for _, name := range []string{"ids", "logits"} {
		tensor, ok := c.Tensor(name)
		if !ok {
			t.Fatalf("%s has no %s", dir, name)
		}
		raw[name] = make([]byte, tensor.Bytes())
		if err := c.ReadAt(raw[name], tensor, 0); err != nil {
			t.Fatal(err)
		}
	}
	for b := raw["ids"]; len(b) > 0; b = b[4:] {
		ids = append(ids, int32(binary.LittleEndian.Uint32(b)))
	}
	return ids, layers.Float32s(raw["logits"], kernels.F32)
}
