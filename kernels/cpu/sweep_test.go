package cpu

import (
	"testing"

	"eckart/kernels"
)

// TestSweep hides one bit in memory, everywhere in turns, and finds it: a sweep leaves nothing out.
func TestSweep(t *testing.T) {
	for _, isa := range ISAs() {
		t.Run(isa.String(), func(t *testing.T) {
			d, err := Open(Options{Threads: 2, ISA: isa})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for _, n := range []int{0, 1, 7, 64, 255, 256, 1000, sweepPart + 300, 2 * sweepPart} {
				mem := make([]byte, n)
				m := kernels.Mat{Span: kernels.Span{Host: mem}}
				if got := d.Sweep(m); got != 0 {
					t.Errorf("%d bytes of zeros: found %#x", n, got)
				}
				step := 1
				if n > 1000 {
					step = 97 // a prime: every place within a round comes up
				}
				for at := 0; at < n; at += step {
					mem[at] = 0x10
					if d.Sweep(m) == 0 {
						t.Fatalf("%d bytes: byte %d was not read", n, at)
					}
					mem[at] = 0
				}
			}
		})
	}
}
