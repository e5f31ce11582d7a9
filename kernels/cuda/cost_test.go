//go:build linux && (amd64 || arm64)

package cuda

import (
	"runtime"
	"testing"

	"eckart/internal/race"
	"eckart/kernels/cuda/shim"
)

// emptyArgs are the arguments of the kernel that does nothing.
type emptyArgs struct {
	a    uint64
	_, _ uint32
}

// TestNothingIsAllocated holds the promise of kernels.Stream for what every step does.
func TestNothingIsAllocated(t *testing.T) {
	if race.Enabled {
		t.Skip("purego keeps what it needs for a call in a sync.Pool, which forgets at random under the race detector")
	}
	s := fakes{}.stream(t, Options{})
	m, free := memory(t, s.device, 1000)
	defer free()
	src, dst := make([]byte, 1000), make([]byte, 1000)
	args := emptyArgs{a: 1}
	run := func() { launch(s, s.f.empty, dim{1, 1, 1}, 32, 0, &args) }
	p, err := s.Record(run)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"launch", func() { launch(s, s.f.empty, dim{1, 1, 1}, 32, 0, &emptyArgs{a: 1}) }},
		{"Upload", func() { s.Upload(m, src) }},
		{"Download", func() { s.Download(dst, m) }},
		{"Run", p.Run},
		{"Mark and Await", func() { s.Download(dst, m); s.Mark(); p.Run(); _ = s.Await() }},
	} {
		if n := testing.AllocsPerRun(20, c.do); n != 0 {
			t.Errorf("%s allocates %v times", c.name, n)
		}
		if n := testing.AllocsPerRun(20, func() { c.do(); _ = s.Sync() }); n != 0 {
			t.Errorf("%s and Sync allocate %v times", c.name, n)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
}

// nothing puts an entry point that does nothing in the place of another: what is left is what Go adds to a call from C.
func nothing(b *testing.B, e *entry) {
	b.Helper()
	handle, err := openLibrary(shim.ForTest(b))
	if err != nil {
		b.Fatal(err)
	}
	if e.addr = lookup(handle, "eckart_shim_nothing"); e.addr == 0 {
		b.Fatal("the shim lacks eckart_shim_nothing")
	}
}

// BenchmarkLaunch measures a launch over the shim's driver, and without one; and what it costs if the context has to be
// made current each time.
func BenchmarkLaunch(b *testing.B) {
	for _, c := range []struct {
		name              string
		nothing, switches bool
	}{
		{"shim", false, false},
		{"Go alone", true, false},
		{"Go alone, context switches", true, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := fakes{}.stream(b, Options{})
			if c.nothing {
				nothing(b, &s.driver.launchKernel)
			}
			runtime.LockOSThread() // as the engine does
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			for b.Loop() {
				if c.switches {
					current.Store(0)
				}
				launch(s, s.f.empty, dim{1, 1, 1}, 32, 0, &emptyArgs{a: 1})
			}
			if err := s.Sync(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkRun measures the replay of a program of 300 launches, with the wait for it; and what Go adds.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name    string
		nothing bool
	}{{"shim", false}, {"Go alone", true}} {
		b.Run(c.name, func(b *testing.B) {
			s := fakes{}.stream(b, Options{})
			p, err := s.Record(func() {
				for range 300 {
					launch(s, s.f.empty, dim{1, 1, 1}, 32, 0, &emptyArgs{a: 1})
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			if c.nothing {
				nothing(b, &s.driver.graphLaunch)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			for b.Loop() {
				p.Run()
				if !c.nothing {
					_ = s.Sync()
				}
			}
			if err := s.Sync(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
