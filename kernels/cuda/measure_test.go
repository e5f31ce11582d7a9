package cuda_test

import (
	"slices"
	"testing"
	"time"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
)

func TestKernels(t *testing.T) {
	loaded := 0
	d := open(t, cuda.Options{Loaded: func(l cuda.Loaded) {
		loaded++
		if l.Bytes == 0 {
			t.Error("a module of no bytes")
		}
	}})
	if loaded == 0 {
		t.Error("told of no module")
	}
	all, err := d.Kernels()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, k := range all {
		names[k.Name] = true
		if k.Threads < 32 || k.Registers == 0 || k.Local != 0 || k.Binary != d.Info().Major*10+d.Info().Minor {
			t.Errorf("kernel %+v", k)
		}
	}
	if !names["empty"] || len(names) != len(all) {
		t.Errorf("kernels %v", names)
	}
}

// TestCapability asks for kernels of older GPUs: of those that there are, and of those that there are not.
func TestCapability(t *testing.T) {
	d := open(t, cuda.Options{Capability: 80})
	if all, err := d.Kernels(); err != nil || len(all) == 0 {
		t.Errorf("got %d kernels, %v", len(all), err)
	}
	if _, err := cuda.Open(cuda.Options{Library: shim.ForTest(t), Capability: 70}); err == nil {
		t.Error("opened with kernels for a compute capability that there are none for")
	}
}

func TestCopyRate(t *testing.T) {
	d := open(t, cuda.Options{})
	rate, err := d.CopyRate(1 << 20)
	if err != nil || rate <= 0 {
		t.Errorf("got %v, %v", rate, err)
	}
}

// TestProgramsAreTimed has a program run, and verbs without one, with waits after each, in part, and after several.
func TestProgramsAreTimed(t *testing.T) {
	var told []time.Duration
	d := open(t, cuda.Options{Programs: func(took time.Duration) { told = append(told, took) }})
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.NewArena(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	x, err := a.Alloc(8, 64, kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	verbs := func() { s.SwiGLU(x, x, x) }
	p, err := s.(kernels.Recorder).Record(verbs)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := s.(kernels.Marker)
	for i, c := range []struct {
		do   func()
		wait func() error
		want int // runs that are told of
	}{
		{p.Run, s.Sync, 1},
		{verbs, s.Sync, 0},
		{p.Run, s.Sync, 1},
		{func() { p.Run(); m.Mark(); p.Run() }, m.Await, 1},
		{func() { m.Mark(); p.Run() }, m.Await, 1},
		{func() { m.Mark(); verbs() }, m.Await, 1},
		{m.Mark, m.Await, 0},
		{func() { p.Run(); m.Mark(); p.Run(); p.Run() }, m.Await, 0}, // two are kept, and the first is not among them
		{func() {}, s.Sync, 2},
		{func() { p.Run(); p.Run(); m.Mark(); p.Run() }, m.Await, 1},
		{func() {}, s.Sync, 1},
	} {
		told = nil
		c.do()
		if err := c.wait(); err != nil {
			t.Fatal(err)
		}
		if len(told) != c.want || slices.ContainsFunc(told, func(took time.Duration) bool { return took <= 0 }) {
			t.Errorf("wait %d: told of %v, want %d times", i, told, c.want)
		}
	}
}
