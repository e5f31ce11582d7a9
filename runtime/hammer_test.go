package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"sync"
	"testing"
	"time"
)

// hammer lets 16 clients come and go, each of which asks for some of all at random, and holds what they read to want. For each
// request leave says after how many tokens they lose interest, 0 for never; it may also cancel it at any time.
func (e *Engine) hammer(t *testing.T, seed uint64, turns int, all []Request, want []answer, leave func(rng *rand.Rand, cancel func()) int) {
	t.Helper()
	ask := func(client, i int, leave func(cancel func()) int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n, last := 0, leave(cancel)
		for got, err := range e.Generate(ctx, all[i]) {
			if errors.Is(err, ErrQueueFull) || errors.Is(err, context.Canceled) {
				return
			}
			if w := want[i].tokens[n]; err != nil || got.ID != w.ID || got.Text != w.Text || got.Logprob != w.Logprob {
				t.Errorf("client %d, request %d, token %d: %+v, error %v, want %+v", client, i, n, got, err, w)
				return
			}
			if n++; n == last {
				return
			}
		}
	}
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(client), seed))
			for range turns {
				if i := rng.IntN(len(all)); len(all[i].Prompt)+all[i].MaxTokens <= e.o.Context {
					ask(client, i, func(cancel func()) int { return leave(rng, cancel) })
				}
			}
		})
	}
	wg.Wait()
}

// TestHammer lets many clients come and go as they like. Afterwards no block is held and no goroutine is left.
func TestHammer(t *testing.T) {
	before := goruntime.NumGoroutine()
	t.Run("clients", func(t *testing.T) {
		s := roomy
		s.slots, s.rows, s.blocks, s.queue, s.context = 6, 24, 40, 10, 60
		e := newEngine(t, s).serve(t)
		all := mixture(32)
		want := alone(t, roomy, all)
		e.hammer(t, 4, 12, all, want, func(rng *rand.Rand, cancel func()) int {
			if rng.IntN(2) > 0 {
				return 0
			}
			leave := rng.IntN(6)
			if rng.IntN(2) > 0 {
				return leave
			}
			turns := rng.IntN(2000)
			go func() {
				for range turns {
					goruntime.Gosched()
				}
				cancel()
			}()
			return 0
		})
	})
	for i := 0; goruntime.NumGoroutine() > before; i++ {
		if i > 1000 {
			t.Fatalf("%d goroutines are left, %d were there", goruntime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond) // ending goroutines are counted until they are gone
	}
}

// TestSamePrefix lets many clients share a prompt while some leave.
func TestSamePrefix(t *testing.T) {
	e := newEngine(t, roomy).serve(t)
	r := Request{Prompt: make([]int32, 50), MaxTokens: 8, IgnoreEOS: true, Logprobs: -1}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			n := 0
			for _, err := range e.Generate(t.Context(), r) {
				check(t, err)
				if n++; i%4 == 0 && n == i/8 {
					return
				}
			}
		})
	}
	wg.Wait()
	if s := e.Stats(); s.CachedTokens < 50*48 {
		t.Errorf("of %d prompt tokens %d were shared", s.PromptTokens, s.CachedTokens)
	}
}

// silent is a decoder that allocates nothing.
type silent struct{}

func (silent) Push(int32) string { return "x" }
func (silent) Flush() string     { return "" }

// TestStepAllocs holds that a step of sequences that generate allocates nothing, from plan to delivery, the device
// included; only text that a stop string held back is a new string.
func TestStepAllocs(t *testing.T) {
	e := newEngine(t, roomy)
	e.start = e.o.Decoder.Start // without the check of the cache, which allocates
	var boxes []*sequence
	for i, s := range samplings[:8] {
		q := newSequence("", e.o.Cache, "", make([]int32, 5+i), 128)
		q.sampler = newSampler(s.s, q.tokens)
		q.text = newText(silent{}, []string{"xxy"}, false)
		q.logprobs = -1
		q.out.ready = make(chan struct{}, 1)
		e.take(call{q: q})
		boxes = append(boxes, q)
	}
	read := make([][]Token, len(boxes))
	step := func() {
		if err := e.step(); err != nil {
			t.Fatal(err)
		}
		for i, q := range boxes {
			if len(q.out.tokens) >= 2 {
				read[i], _, _ = q.out.take(read[i])
			}
		}
	}
	for range 30 {
		step()
	}
	allocs := testing.AllocsPerRun(60, step)
	if len(e.sched.running) != len(boxes) {
		t.Fatalf("%d sequences run, want %d", len(e.sched.running), len(boxes))
	}
	if allocs > float64(len(boxes)) {
		t.Errorf("a step of %d sequences allocates %v times", len(boxes), allocs)
	}
	for _, q := range boxes {
		q.text = newText(silent{}, nil, false)
	}
	if allocs := testing.AllocsPerRun(20, step); allocs != 0 {
		t.Errorf("a step without stop strings allocates %v times", allocs)
	}
}

// BenchmarkOverhead is a step in which the model takes no time: scheduler, cache, batch, greedy choice, delivery.
func BenchmarkOverhead(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := newEngine(b, roomy)
			e.context = 128
			logits := make([]float32, e.vocab)
			logits[5] = 1
			e.fake(func(*sequence) []float32 { return logits })
			fill := func() {
				for len(e.sched.running) < n {
					q := newSequence("", e.o.Cache, "", make([]int32, 5), 128)
					q.sampler = newSampler(Sampling{}, nil)
					q.text = newText(silent{}, nil, false)
					q.logprobs = -1
					q.out.ready = make(chan struct{}, 1)
					e.take(call{q: q})
					check(b, e.step())
				}
			}
			for b.Loop() {
				if len(e.sched.running) < n {
					b.StopTimer()
					fill()
					b.StartTimer()
				}
				check(b, e.step())
			}
		})
	}
}
