package gorgoniacu_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"unsafe"

	"eckart/interop/gorgoniacu"
	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/ptx"

	"gorgonia.org/cu"
)

// gpu is one GPU, open twice.
type gpu struct {
	*testing.T
	stream   kernels.Stream
	arena    kernels.Arena
	driver   *gorgoniacu.Driver
	launches []cuda.Launch // since they were last cleared
	random   *rand.Rand
}

func open(t *testing.T) *gpu {
	g := &gpu{T: t, random: rand.New(rand.NewPCG(1, 2))}
	d, err := cuda.Open(cuda.Options{Trace: func(l cuda.Launch) {
		l.Arguments = slices.Clone(l.Arguments)
		g.launches = append(g.launches, l)
	}})
	if errors.Is(err, cuda.ErrNoDevice) && os.Getenv("REQUIRE_CUDA") == "" {
		t.Skip(err)
	}
	g.must(err)
	t.Cleanup(func() { g.must(d.Close()) })
	g.arena, err = d.NewArena(8 << 20)
	g.must(err)
	t.Cleanup(func() { g.must(g.arena.Close()) })
	g.stream, err = d.NewStream()
	g.must(err)
	g.driver, err = gorgoniacu.Open(0)
	g.must(err)
	t.Cleanup(func() { g.must(g.driver.Close()) })
	gpus, err := cuda.List(cuda.Options{})
	g.must(err)
	images, err := ptx.Images(gpus[0].Capability())
	g.must(err)
	for _, image := range images {
		g.must(g.driver.Load(string(image)))
	}
	return g
}

func (g *gpu) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// floats returns n random numbers, as bytes of type F32 or BF16.
func (g *gpu) floats(n int, t kernels.DType) []byte {
	var b []byte
	for range n {
		u := math.Float32bits(float32(g.random.NormFloat64()))
		if t == kernels.BF16 {
			b = append(b, byte(u>>16), byte(u>>24))
		} else {
			b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
	}
	return b
}

// mat returns a matrix of random numbers in our memory.
func (g *gpu) mat(rows, cols int, t kernels.DType) kernels.Mat {
	g.Helper()
	m, err := g.arena.Alloc(rows, cols, t)
	g.must(err)
	g.stream.Upload(m, g.floats(rows*cols, t))
	g.must(g.stream.Sync())
	return m
}

// read returns the bytes of a matrix, wherever it lies, through cu.
func (g *gpu) read(m kernels.Mat) []byte {
	g.Helper()
	b := make([]byte, m.Bytes())
	g.must(g.driver.Do(func() error {
		return cu.MemcpyDtoH(unsafe.Pointer(&b[0]), gorgoniacu.Pointer(m), int64(len(b)))
	}))
	return b
}

// write puts bytes into a matrix, wherever it lies, through cu.
func (g *gpu) write(m kernels.Mat, b []byte) {
	g.Helper()
	g.must(g.driver.Do(func() error {
		return cu.MemcpyHtoD(gorgoniacu.Pointer(m), unsafe.Pointer(&b[0]), int64(len(b)))
	}))
}

// TestKernelsThroughCU holds that the same PTX with the same arguments gives the same bits through either binding.
func TestKernelsThroughCU(t *testing.T) {
	g := open(t)
	const tokens, in, out = 3, 256, 192
	x, gain, wide := g.mat(tokens, in, kernels.F32), g.mat(1, in, kernels.F32), g.mat(100, in, kernels.F32)
	w := g.mat(out, in, kernels.BF16)
	rows, cols := g.mat(tokens, in, kernels.F32), g.mat(tokens, out, kernels.F32)
	many := g.mat(100, out, kernels.F32)
	for _, test := range []struct {
		name string
		y    kernels.Mat
		run  func(y kernels.Mat)
	}{
		{"RMSNorm", rows, func(y kernels.Mat) { g.stream.RMSNorm(y, x, gain, 1e-5) }},
		{"SwiGLU", rows, func(y kernels.Mat) { g.stream.SwiGLU(y, x, wide.Slice(0, tokens)) }},
		{"MatMul of few tokens", cols, func(y kernels.Mat) { g.stream.MatMul(y, x, w, kernels.Set) }},
		{"MatMul of many tokens", many, func(y kernels.Mat) { g.stream.MatMul(y, wide, w, kernels.Set) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.launches = nil
			test.run(test.y)
			g.must(g.stream.Sync())
			want := g.read(test.y)
			if len(g.launches) == 0 {
				t.Fatal("no kernel was launched")
			}
			g.write(test.y, make([]byte, len(want)))
			for _, l := range g.launches {
				g.must(g.driver.Launch(l))
			}
			if got := g.read(test.y); !bytes.Equal(got, want) {
				t.Errorf("kernel %s gives other bits through cu", g.launches[0].Kernel)
			}
		})
	}
}

// TestSharedMemory has a verb read memory that cu has allocated and written, and cu read what a verb wrote into ours.
func TestSharedMemory(t *testing.T) {
	g := open(t)
	const n = 96
	values := g.floats(n, kernels.F32)
	var p cu.DevicePtr
	g.must(g.driver.Do(func() (err error) {
		p, err = cu.MemAlloc(int64(len(values)))
		return err
	}))
	theirs := gorgoniacu.Mat(p, 1, n, kernels.F32)
	g.write(theirs, values)
	ours := g.mat(1, n, kernels.F32)
	g.write(ours, make([]byte, 4*n))
	g.stream.Bias(ours, theirs) // 0 + theirs
	g.must(g.stream.Sync())
	if !bytes.Equal(g.read(ours), values) {
		t.Error("a verb did not read what cu wrote")
	}
	g.must(g.driver.Do(func() error { return cu.MemFree(p) }))
}
