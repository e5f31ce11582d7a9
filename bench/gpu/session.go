package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"eckart/kernels"
	"eckart/kernels/cuda"
)

// A session is a part that is running: its result so far, and the GPU once it has been opened.
type session struct {
	options
	sizes
	ctx    context.Context
	result *Result

	device   *cuda.Device
	stream   kernels.Stream
	programs []time.Duration   // what the device took for the programs since the list was last cleared
	launch   func(cuda.Launch) // sees launches; nil for none
	loaded   []cuda.Loaded     // told of only where verbose is set
	verbose  bool
	copied   float64 // bytes a second, once measured
}

func newSession(ctx context.Context, p part, o options) *session {
	s := &session{options: o, sizes: full(), ctx: ctx, result: &Result{Part: p.name, Shim: o.shim, Started: time.Now(), Machine: Machine{Commit: commit()}}}
	if o.shim {
		s.sizes = small()
	}
	return s
}

// open opens the GPU, and a stream on it.
func (s *session) open() error {
	o := cuda.Options{
		Ordinal: s.ordinal, Library: s.library,
		Programs: func(took time.Duration) { s.programs = append(s.programs, took) },
		Trace: func(l cuda.Launch) {
			if s.launch != nil {
				s.launch(l)
			}
		},
	}
	if s.verbose {
		o.Loaded = func(l cuda.Loaded) { s.loaded = append(s.loaded, l) }
	}
	d, err := cuda.Open(o)
	if err != nil {
		return err
	}
	s.device = d
	s.result.Machine = machineOf(d.Info())
	s.stream, err = d.NewStream()
	return err
}

func (s *session) close() error {
	if s.device == nil {
		return nil
	}
	return s.device.Close()
}

func (s *session) save() error {
	s.result.Seconds = time.Since(s.result.Started).Seconds()
	return s.result.save(s.out)
}

// add keeps a figure, on disk too. It reports when the part's time is over.
func (s *session) add(f Figure) error {
	s.result.Figures = append(s.result.Figures, f)
	if err := s.save(); err != nil {
		return err
	}
	return s.ctx.Err()
}

// note keeps a line for the reader of the report.
func (s *session) note(format string, args ...any) {
	s.result.Notes = append(s.result.Notes, fmt.Sprintf(format, args...))
}

// A timing is what calls took: seconds of one, and how far samples of it lie apart.
type timing struct{ seconds, spread float64 }

// median returns the timing of samples of so many calls each.
func median(samples []time.Duration, calls int) timing {
	samples = slices.Sorted(slices.Values(samples))
	middle := max(samples[len(samples)/2], 1).Seconds()
	return timing{middle / float64(calls), (samples[len(samples)-1] - samples[0]).Seconds() / middle}
}

// measure times a verb by the device's own clock: calls of it are recorded as a program, which is run some times, and once
// before that counts nothing. The verb is told which call it is, so that it can take other memory each time.
func (s *session) measure(calls int, verb func(call int)) (timing, error) {
	p, err := s.stream.(kernels.Recorder).Record(func() {
		for i := range calls {
			verb(i)
		}
	})
	if err != nil {
		return timing{}, err
	}
	s.programs = s.programs[:0]
	for range s.samples + 1 {
		p.Run()
		if err := s.stream.Sync(); err != nil {
			return timing{}, errors.Join(err, p.Close())
		}
	}
	if len(s.programs) != s.samples+1 {
		return timing{}, errors.Join(fmt.Errorf("%d times of %d runs", len(s.programs), s.samples+1), p.Close())
	}
	return median(s.programs[1:], calls), p.Close()
}

// calls returns how many calls a program has, of which one takes so many seconds at best and reads other memory than the
// copies-1 before it.
func (s *session) calls(seconds float64, copies int) int {
	n := int(s.programSeconds / max(seconds, 1e-7))
	return max(2, min(max(n, copies), s.mostCalls))
}

// copies returns how many matrices of so many bytes are gone through in turns, so that none is in the second-level cache
// when it comes to it again.
func (s *session) copies(bytes int64) int {
	all := 4*int64(s.device.Info().Cache) + bytes - 1
	return int(max(1, min(all/max(bytes, 1), int64(s.mostCopies))))
}

// copyRate returns the bytes a second that the driver's own copying reads and writes.
func (s *session) copyRate() (float64, error) {
	var err error
	if s.copied == 0 {
		s.copied, err = s.device.CopyRate(s.copyBytes)
	}
	return s.copied, err
}

// arena returns memory of so many bytes, for matrices that need no room beyond their own.
func (s *session) arena(bytes int64) (kernels.Arena, error) { return s.device.NewArena(bytes) }

// sizes say how much is measured.
type sizes struct {
	samples        int     // of a timing
	programSeconds float64 // that a program takes, about
	mostCalls      int     // of a program
	mostCopies     int     // of a matrix
	copyBytes      int64
	repeats        int // of a verb, whose bits are compared
	peak           int // rows, columns and tokens of the largest product
	warm           time.Duration

	matrices []matrix // of a model, as its groups are stacked
	tokens   []int    // of a product
	grouped  []int    // tokens of a product of codes
	depths   []int    // tokens that are attended to
	attend   attended
	prompt   int // tokens of a prompt that is attended to as a whole

	models     []shape
	batches    []int
	near       int // tokens in the cache before a step
	far        int
	prefill    int
	steps      int      // of a sample
	timeline   int      // steps
	compressed []string // kinds of weight of the replies
	replies    int      // prompts that are answered
	tokensOf   int      // generated by each reply

	coldModel shape
}

type matrix struct {
	name    string
	out, in int
}

type attended struct{ heads, keyHeads, dim int }

// full is for a GPU. The matrices are those of llama3.1-8b.
func full() sizes {
	return sizes{
		samples: 7, programSeconds: 4e-3, mostCalls: 400, mostCopies: 600, copyBytes: 2 << 30, repeats: 100, peak: 8192, warm: time.Second,
		matrices: []matrix{{"qkv", 6144, 4096}, {"o", 4096, 4096}, {"gate, up", 28672, 4096}, {"down", 4096, 14336}, {"head", 128256, 4096}},
		tokens:   []int{1, 8, 16, 64, 512, 2048}, grouped: []int{1, 16, 64, 512},
		depths: []int{128, 4096, 16384}, attend: attended{32, 8, 128}, prompt: 2048,
		models: []shape{llama8b, llama1b, smollm}, batches: []int{1, 4, 16, 64}, near: 128, far: 16384, prefill: 2048,
		steps: 20, timeline: 100, compressed: []string{"dense", "int8", "int4", "low rank", "pifa", "int4 + rank 8"}, replies: 3, tokensOf: 64, coldModel: llama1b,
	}
}

// small is for the shim: everything runs, and no figure means anything.
func small() sizes {
	return sizes{
		samples: 2, mostCalls: 2, mostCopies: 2, copyBytes: 1 << 20, repeats: 2, peak: 128,
		matrices: []matrix{{"qkv", 96, 64}}, tokens: []int{1, 16, 80}, grouped: []int{1, 16, 80},
		depths: []int{24}, attend: attended{4, 2, 64}, prompt: 40,
		models: []shape{tiny}, batches: []int{1, 4}, near: 4, far: 20, prefill: 20, steps: 1, timeline: 2, compressed: []string{"dense", "int4 + rank 8"}, replies: 2, tokensOf: 4, coldModel: wordy,
	}
}
