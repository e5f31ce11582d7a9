package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/ptx"
)

// device finds out what the driver makes of the program: the GPU, the compilation of the kernels and what they take up,
// and what a launch, a wait and a transfer cost.
func device(s *session) error {
	list, err := cuda.List(cuda.Options{Library: s.library})
	if err != nil {
		return err
	}
	for _, gpu := range list {
		s.note("%s, %.1f GiB, second-level cache %.0f MiB", gpu, float64(gpu.Memory)/(1<<30), float64(gpu.Cache)/(1<<20))
	}
	start := time.Now()
	s.verbose = true
	if err := s.open(); err != nil {
		return err
	}
	took := time.Since(start)
	free, total := s.device.Memory()
	s.note("%.1f of %.1f GiB of memory are free", float64(free)/(1<<30), float64(total)/(1<<30))
	if err := s.compilation(took); err != nil {
		return err
	}
	if err := s.registers(s.device, ""); err != nil {
		return err
	}
	return errors.Join(s.older(), s.costs())
}

// starting is the group of figures of what precedes all work.
const starting = "Start, seconds"

// compilation reports how long the driver took for the kernels, now and when it finds them in its own cache.
func (s *session) compilation(opening time.Duration) error {
	var all time.Duration
	bytes := 0
	for i, l := range s.loaded {
		all, bytes = all+l.Took, bytes+l.Bytes
		s.result.Log = append(s.result.Log, fmt.Sprintf("module %d: %d bytes of PTX in %v", i, l.Bytes, l.Took), l.Log)
	}
	// Once as every other part opens it, as the driver may keep what it compiles for one set of options alone; then again.
	var again time.Duration
	for range 2 {
		start := time.Now()
		other, err := cuda.Open(cuda.Options{Ordinal: s.ordinal, Library: s.library})
		if err != nil {
			return err
		}
		again = time.Since(start)
		if err := other.Close(); err != nil {
			return err
		}
	}
	return errors.Join(
		s.add(Figure{Group: starting, Row: "opening the GPU", Column: "first", Value: opening.Seconds(), Unit: "s"}),
		s.add(Figure{Group: starting, Row: "opening the GPU", Column: "again", Value: again.Seconds(), Unit: "s"}),
		s.add(Figure{Group: starting, Row: fmt.Sprintf("of it, compiling %d modules, %d KB of PTX", len(s.loaded), bytes>>10), Column: "first", Value: all.Seconds(), Unit: "s"}),
	)
}

// registers reports what the kernels take up. Numbers that lie in memory instead of registers are wrong but in kernels that
// are not fast anyway.
func (s *session) registers(d *cuda.Device, which string) error {
	all, err := d.Kernels()
	if err != nil {
		return err
	}
	var spills []string
	most := all[0]
	for _, k := range all {
		s.result.Log = append(s.result.Log, fmt.Sprintf("%s: %d registers, %d bytes of local memory, at most %d threads, for %d", k.Name, k.Registers, k.Local, k.Threads, k.Binary))
		if k.Local > 0 {
			spills = append(spills, fmt.Sprintf("%s %d", k.Name, k.Local))
		}
		if k.Registers > most.Registers {
			most = k
		}
	}
	s.note("%d kernels%s, of up to %d registers (%s), compiled for sm_%d", len(all), which, most.Registers, most.Name, most.Binary)
	if len(spills) > 0 {
		s.note("kernels%s that keep numbers in local memory, with bytes of a thread: %s", which, brief(strings.Join(spills, ", "), 600))
	}
	return s.add(Figure{Group: "Kernels", Row: "with local memory" + which, Column: "count", Value: float64(len(spills))})
}

// older has the driver compile the kernels that GPUs before this one run, which it must take as well.
func (s *session) older() error {
	var errs []error
	for _, t := range ptx.Targets() {
		if t.Capability > s.device.Info().Capability() {
			continue
		}
		start := time.Now()
		d, err := cuda.Open(cuda.Options{Ordinal: s.ordinal, Library: s.library, Capability: t.Capability})
		if err != nil {
			errs = append(errs, fmt.Errorf("kernels for sm_%d: %w", t.Capability, err))
			continue
		}
		which := fmt.Sprintf(" made for sm_%d", t.Capability)
		errs = append(errs,
			s.add(Figure{Group: starting, Row: "opening the GPU with kernels" + which, Column: "first", Value: time.Since(start).Seconds(), Unit: "s"}),
			s.registers(d, which), d.Close())
	}
	return errors.Join(errs...)
}

// costs reports what is paid beside the work: for launches, waits and transfers.
func (s *session) costs() (err error) {
	const rows, cols = 1, 1024
	bytes := s.copyBytes / 8
	a, err := s.arena(bytes + 1<<16)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	x, err := a.Alloc(rows, cols, kernels.F32)
	if err != nil {
		return err
	}
	large, err := a.Alloc(1, int(bytes), kernels.U8)
	if err != nil {
		return err
	}
	calls := s.mostCalls
	small := func(int) { s.stream.SwiGLU(x, x, x) }
	recorded, err := s.measure(calls, small)
	if err != nil {
		return err
	}
	host, err := s.wall(func() error {
		for i := range calls {
			small(i)
		}
		return nil
	})
	if err != nil {
		return err
	}
	wait, err := s.wall(func() error { small(0); return s.stream.Sync() })
	if err != nil {
		return err
	}
	mem := make([]byte, bytes)
	newRandom().bf16.fill(mem, 0)
	up, err := s.wall(func() error { s.stream.Upload(large, mem); return s.stream.Sync() })
	if err != nil {
		return err
	}
	down, err := s.wall(func() error { s.stream.Download(mem, large); return s.stream.Sync() })
	if err != nil {
		return err
	}
	const group = "Costs beside the work"
	us := func(row string, t timing, calls int) Figure {
		return Figure{Group: group, Row: row, Column: "median", Value: t.seconds * 1e6 / float64(calls), Unit: "us", Spread: t.spread}
	}
	rate := func(row string, t timing) Figure {
		return Figure{Group: group, Row: row, Column: "median", Value: float64(bytes) / t.seconds / 1e9, Unit: "GB/s", Spread: t.spread}
	}
	return errors.Join(
		s.add(us("small kernel in a program, on the device", recorded, 1)), s.add(us("launch, on the host", host, calls)),
		s.add(us("launch and wait, on the host", wait, 1)), s.add(rate("upload", up)), s.add(rate("download", down)),
	)
}

// wall times work by the host's clock, once before that for nothing. The device is idle when it begins.
func (s *session) wall(work func() error) (timing, error) {
	var samples []time.Duration
	for turn := range s.samples + 1 {
		start := time.Now()
		if err := work(); err != nil {
			return timing{}, err
		}
		took := time.Since(start)
		if err := s.stream.Sync(); err != nil {
			return timing{}, err
		}
		if turn > 0 {
			samples = append(samples, took)
		}
	}
	return median(samples, 1), nil
}
