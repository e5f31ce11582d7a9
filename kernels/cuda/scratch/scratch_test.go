package cuda_test

import (
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
	"eckart/kernels/kerneltest"
)

func TestScratch(t *testing.T) {
	lib, err := shim.Build()
	if err != nil {
		t.Fatal(err)
	}
	d, err := cuda.Open(cuda.Options{Library: lib})
	if err != nil {
		t.Fatal(err)
	}
	kerneltest.Run(t, d, kerneltest.Options{Rounds: true, Activations: kernels.BF16, Class: func(verb string, rows int) int {
		if verb == "MatMul" && rows > 64 {
			return 1
		}
		return 0
	}})
}
