package quantized_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"eckart/kernels/cpu"
	"eckart/model/checkpoint"
	"eckart/model/quantized"
)

// BenchmarkBind reads a matrix of 4096 x 4096 as a load does, from a file that the system holds in memory.
func BenchmarkBind(b *testing.B) {
	const n, group = 4096, 128
	type tensor struct {
		name  string
		t     checkpoint.DType
		shape []int
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name, config string
		tensors      []tensor
	}{
		{"gptq", `{"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true}`, []tensor{
			{"m.qweight", checkpoint.I32, []int{n / 8, n}},
			{"m.qzeros", checkpoint.I32, []int{n / group, n / 8}},
			{"m.scales", checkpoint.F16, []int{n / group, n}},
		}},
		{"awq", `{"quant_method": "awq", "bits": 4, "group_size": 128}`, []tensor{
			{"m.qweight", checkpoint.I32, []int{n, n / 8}},
			{"m.qzeros", checkpoint.I32, []int{n / group, n / 8}},
			{"m.scales", checkpoint.F16, []int{n / group, n}},
		}},
		{"int8", `{"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {"targets": ["Linear"],
			"weights": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel"}}}}`, []tensor{
			{"m.weight", checkpoint.I8, []int{n, n}},
			{"m.weight_scale", checkpoint.F16, []int{n, 1}},
		}},
		{"mxfp4", `{"quant_method": "mxfp4"}`, []tensor{
			{"m_blocks", checkpoint.U8, []int{n, n / 32, 16}},
			{"m_scales", checkpoint.U8, []int{n, n / 32}},
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var specs []checkpoint.Spec
			for _, t := range c.tensors {
				specs = append(specs, checkpoint.Spec{Name: t.name, Type: t.t, Shape: t.shape})
			}
			dir := b.TempDir()
			w, err := checkpoint.Create(dir, specs, checkpoint.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Abort()
			for _, t := range c.tensors {
				raw := make([]byte, t.t.BitSize()/8)
				size := len(raw)
				for _, d := range t.shape {
					size *= d
				}
				raw = make([]byte, size)
				for i := range raw {
					raw[i] = byte(random.Uint32())
					if t.t == checkpoint.F16 || t.name == "m_scales" {
						raw[i] = 0x20 // a scale must be positive and finite
					}
				}
				if err := w.WriteAt(t.name, raw, 0); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Commit(); err != nil {
				b.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
			if err != nil || len(files) != 1 {
				b.Fatalf("%v, %v", files, err)
			}
			file, err := checkpoint.Open(files[0])
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			r, err := quantized.Open(file, []byte(`{"quantization_config": `+c.config+`}`))
			if err != nil {
				b.Fatal(err)
			}
			weight, _ := r.Weight("m.weight")
			device, err := cpu.Open(cpu.Options{Threads: cpu.DefaultThreads()})
			if err != nil {
				b.Fatal(err)
			}
			defer device.Close()
			stream, err := device.NewStream()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				arena, err := device.NewArena(2 * n * n)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := weight.Bind(arena, stream); err != nil {
					b.Fatal(err)
				}
				if err := arena.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n*n), "ns/weight")
		})
	}
}
