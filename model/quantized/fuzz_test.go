package quantized

import (
	"math"
	"path/filepath"
	"testing"

	"eckart/kernels"
	"eckart/model/checkpoint"
)

// FuzzConfig opens the checkpoints of testdata with any config.json: what is accepted can be read.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/*.safetensors")
	if err != nil || len(files) == 0 {
		f.Fatalf("no testdata: %v", err)
	}
	all := make([]*checkpoint.Checkpoint, len(files))
	for i, file := range files {
		if all[i], err = checkpoint.Open(file); err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), []byte(all[i].Metadata()["config"]))
	}
	f.Cleanup(func() {
		for _, c := range all {
			_ = c.Close()
		}
	})
	f.Fuzz(func(t *testing.T, i byte, config []byte) {
		r, err := Open(all[int(i)%len(all)], config)
		if err != nil {
			return
		}
		w, ok := r.Weight("m.weight")
		if !ok {
			t.Fatal("opened without m.weight")
		}
		out, in := w.Dims()
		if v, err := w.Dense(); err == nil && len(v) != out*in {
			t.Fatalf("%d elements for %d x %d", len(v), out, in)
		}
	})
}

// FuzzQuantState reads any quant_state: what is accepted has a shape and blocks that can be counted with.
func FuzzQuantState(f *testing.F) {
	for _, text := range []string{
		`{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2048, 2048]}`,
		`{"quant_type": "fp4", "blocksize": 128, "dtype": "float16", "shape": [21, 75], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.03}`,
		`{"quant_type": "nf4", "blocksize": 0, "shape": [-1, 1e9], "nested_offset": 1e400}`,
		`null`,
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, nested bool) {
		s, err := parseQuantState(text, nested)
		if err != nil {
			return
		}
		if s.BlockSize < 1 || nested && s.NestedBlock < 1 || len(s.Shape) != 2 {
			t.Fatalf("accepted %+v", s)
		}
		if n := s.Shape[0] * s.Shape[1]; n < 1 || n > maxDim*maxDim || math.IsInf(float64(float32(s.Offset)), 0) {
			t.Fatalf("accepted %+v", s)
		}
	})
}

// TestNarrow holds rounding to the nearest against the widened neighbours.
func TestNarrow(t *testing.T) {
	for _, typ := range []kernels.DType{kernels.F16, kernels.BF16} {
		for u := range 1 << 16 {
			v := widen([]byte{byte(u), byte(u >> 8)}, map[kernels.DType]checkpoint.DType{kernels.F16: checkpoint.F16, kernels.BF16: checkpoint.BF16}[typ])[0]
			if v != v || math.IsInf(float64(v), 0) {
				continue
			}
			next := widen([]byte{byte(u + 1), byte((u + 1) >> 8)}, map[kernels.DType]checkpoint.DType{kernels.F16: checkpoint.F16, kernels.BF16: checkpoint.BF16}[typ])[0]
			check := func(v float32, want int) {
				var b [2]byte
				narrow(b[:], []float32{v}, typ)
				if got := int(b[0]) | int(b[1])<<8; got != want {
					t.Fatalf("%s of %g is %#04x, want %#04x", typ, v, got, want)
				}
			}
			check(v, u)
			if u&0x7fff == 0x7fff || math.IsInf(float64(next), 0) || next != next {
				continue
			}
			middle := (float64(v) + float64(next)) / 2
			if float64(float32(middle)) != middle {
				continue
			}
			check(float32(middle), u+u&1)
			check(math.Nextafter32(float32(middle), v), u)
			check(math.Nextafter32(float32(middle), next), u+1)
		}
		var b [8]byte
		if i := narrow(b[:], []float32{1, 3.4028235e38, float32(math.NaN())}, typ); i != 1 {
			t.Errorf("%s: the first that is no number is %d, want 1", typ, i)
		}
		if i := narrow(b[:], []float32{1, float32(math.NaN())}, typ); i != 1 {
			t.Errorf("%s: the first that is no number is %d, want 1", typ, i)
		}
	}
}
