package cpu_test

import (
	"fmt"
	"testing"

	"eckart/internal/race"
	"eckart/kernels/cpu"
	"eckart/kernels/kerneltest"
)

// open returns a device that is closed when the test ends.
func open(t testing.TB, isa cpu.ISA, a cpu.Activations, threads int) *cpu.Device {
	t.Helper()
	d, err := cpu.Open(cpu.Options{Threads: threads, ISA: isa, Activations: a})
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

// The whole suite runs on two threads for every instruction set; on other numbers of threads the results must be the
// same bits. The race detector sees threads and what Go does for them, which is the same for all, but no assembly: below it
// there is one.
func TestSuite(t *testing.T) {
	isas := cpu.ISAs()
	if race.Enabled {
		isas = isas[len(isas)-1:]
	}
	for _, isa := range isas {
		t.Run(isa.String(), func(t *testing.T) {
			two := open(t, isa, cpu.ActivationsAuto, 2)
			kerneltest.Run(t, two, kerneltest.Options{Rounds: true})
			for _, threads := range []int{1, 3} {
				t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
					kerneltest.Same(t, two, open(t, isa, cpu.ActivationsAuto, threads))
				})
			}
			t.Run("activations=f32", func(t *testing.T) {
				kerneltest.RunGrouped(t, open(t, isa, cpu.ActivationsF32, 2), kerneltest.Options{})
			})
		})
	}
}
