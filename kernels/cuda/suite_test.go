package cuda_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
	"eckart/kernels/kerneltest"
)

// open returns the device that the kernels make when they are compiled for the CPU, closed when the test ends.
func open(t testing.TB, o cuda.Options) *cuda.Device {
	t.Helper()
	o.Library = shim.ForTest(t)
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute // a kernel takes its time on a CPU, and more on a busy one
	}
	d, err := cuda.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// options say what the kernels leave open: products with BF16 weights round activations to BF16 and have one kernel for up
// to 64 rows and one for more; attention has one for up to 16 rows of a sequence and one for more.
var options = kerneltest.Options{
	Rounds:      true,
	Activations: kernels.BF16,
	Class: func(verb string, rows int) int {
		few, ok := map[string]int{"MatMul": 64, "Attend": 16}[verb]
		if ok && rows > few {
			return 1
		}
		return 0
	},
	// Of prompts over a cache of BF16, queries and weights go into products as two terms of BF16: 16 bits of 24, an error of
	// some 2e-6 where keys and values were rounded by 2e-3 when they were stored.
	Bounds: map[string][3]float64{"Attend": {4e-13, 4e-13, 2e-11}},
}

func TestSuite(t *testing.T) {
	cuda.KernelsAlone(t)
	kerneltest.Run(t, open(t, cuda.Options{}), options)
}

// TestSuiteOnGPU is skipped where there is no GPU, unless REQUIRE_CUDA is set.
func TestSuiteOnGPU(t *testing.T) {
	d, err := cuda.Open(cuda.Options{})
	if errors.Is(err, cuda.ErrNoDevice) && os.Getenv("REQUIRE_CUDA") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(d.Name())
	kerneltest.Run(t, d, options)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
