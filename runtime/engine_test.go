package runtime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/kvcache"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/tokenizer"
)

// shape is what differs between the engines of the tests.
type shape struct {
	context, slots, rows, queue int
	blocks, blockTokens         int
	eos                         []int32
	wrap                        func(kernels.Stream) kernels.Stream // what the model runs on, in place of the processor's stream
}

var roomy = shape{context: 128, slots: 32, rows: 512, queue: 64, blocks: 1024, blockTokens: 4, eos: []int32{2}}

// newEngine returns an engine over the small llama checkpoint. Before each forward pass the cache is checked.
func newEngine(t testing.TB, s shape) *Engine {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{Threads: 1})
	check(t, err)
	t.Cleanup(func() { check(t, dev.Close()) })
	c, err := checkpoint.Open("../model/testdata/llama")
	check(t, err)
	defer c.Close()
	src, err := model.NewSource(c)
	check(t, err)
	l := model.Limits{
		Rows: s.rows, Seqs: s.slots, Samples: s.slots,
		Blocks: (s.context + s.blockTokens - 1) / s.blockTokens, BlockTokens: s.blockTokens,
	}
	fp, err := model.Measure(src, l)
	check(t, err)
	stream, err := dev.NewStream()
	check(t, err)
	if s.wrap != nil {
		stream = s.wrap(stream)
	}
	arena := func(bytes int64) kernels.Arena {
		a, err := dev.NewArena(bytes)
		check(t, err)
		t.Cleanup(func() { check(t, a.Close()) })
		return a
	}
	d, err := model.Load(src, arena(fp.Weights), stream, nil)
	check(t, err)
	cache, err := kvcache.New(arena(kvcache.Bytes(fp.Specs, kernels.F16, s.blockTokens, s.blocks)), fp.Specs, kernels.F16, s.blockTokens, s.blocks)
	check(t, err)
	b, err := d.NewBatch(arena(fp.Workspace), stream, cache.Layer, l)
	check(t, err)
	text, err := os.ReadFile("testdata/tokenizer.json")
	check(t, err)
	tok, err := tokenizer.New(text)
	check(t, err)
	e, err := New(Options{
		Stream: stream, Decoder: d, Batch: b, Cache: cache, Tokenizer: tok,
		Context: s.context, Slots: s.slots, StepTokens: s.rows, Queue: s.queue, EOS: s.eos,
	})
	check(t, err)
	e.before(func() { check(t, cache.Check()) })
	return e
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// before lets f run in the loop before every step is started.
func (e *Engine) before(f func()) {
	start := e.start
	e.start = func(b *model.Batch) {
		f()
		start(b)
	}
}

// fake replaces the model: the logits of a row are what f returns for its sequence.
func (e *Engine) fake(f func(q *sequence) []float32) {
	rows := make([]float32, e.o.Slots*e.vocab)
	e.start = func(*model.Batch) {}
	e.finish = func(*model.Batch) (kernels.Mat, []int32, error) {
		m := kernels.Mat{Span: kernels.Span{Host: kernels.Float32Bytes(rows)}, Cols: e.vocab, Stride: e.vocab, Type: kernels.F32}
		for _, w := range e.sched.step.work {
			for range w.sample {
				m.Rows++
				copy(m.Float32s(m.Rows-1), f(w.seq))
			}
		}
		return m, nil, nil
	}
}

// says returns logits that make the n-th token of every sequence the n-th of ids.
func (e *Engine) says(ids ...int32) func(q *sequence) []float32 {
	logits := make([]float32, e.vocab)
	return func(q *sequence) []float32 {
		clear(logits)
		logits[ids[q.generated()%len(ids)]] = 10
		return logits
	}
}

// serve runs the engine for the length of the test, and checks in the end that everything was given back.
func (e *Engine) serve(t testing.TB) *Engine {
	t.Helper()
	done := make(chan error)
	go func() { done <- e.Run(context.Background()) }()
	t.Cleanup(func() {
		check(t, e.Close(context.Background()))
		check(t, <-done)
		e.holdsNothing(t)
		if s := e.Stats(); s.Running != 0 || s.Waiting != 0 || s.BlocksUsed != 0 {
			t.Errorf("in the end stats are %+v", s)
		}
	})
	return e
}

// holdsNothing checks that the cache is in order and none of its blocks is held.
func (e *Engine) holdsNothing(t testing.TB) {
	t.Helper()
	check(t, e.o.Cache.Check())
	if n := e.o.Cache.Used(); n != 0 {
		t.Errorf("%d blocks are used", n)
	}
}

// drained waits until an engine that serves has answered everything, and takes nothing more.
func (e *Engine) drained() {
	e.Drain()
	<-e.done
}

// await waits until the loop finds n calls when it looks for them next.
func (e *Engine) await(n int) {
	for len(e.calls) < n {
		goruntime.Gosched()
	}
}

// answer is all that a request was answered.
type answer struct {
	tokens []Token
	err    error
}

func (e *Engine) ask(ctx context.Context, r Request) (a answer) {
	for t, err := range e.Generate(ctx, r) {
		if err != nil {
			a.err = err
			break
		}
		a.tokens = append(a.tokens, t)
	}
	return a
}

func (a answer) text() string {
	var b strings.Builder
	for _, t := range a.tokens {
		b.WriteString(t.Text)
	}
	return b.String()
}

func (a answer) last() Token { return a.tokens[len(a.tokens)-1] }

// same reports in words how two answers differ. What the cache held is not part of an answer.
func (a answer) same(b answer) string {
	if a.err != nil || b.err != nil {
		return fmt.Sprintf("errors %v and %v", a.err, b.err)
	}
	if len(a.tokens) != len(b.tokens) {
		return fmt.Sprintf("%d and %d tokens", len(a.tokens), len(b.tokens))
	}
	for i, x := range a.tokens {
		y := b.tokens[i]
		if x.ID != y.ID || x.Text != y.Text || x.Logprob != y.Logprob || x.Finish != y.Finish ||
			x.StopID != y.StopID || x.StopString != y.StopString || !slices.Equal(x.Top, y.Top) {
			return fmt.Sprintf("token %d is %+v and %+v", i, x, y)
		}
	}
	return ""
}

// mixture returns requests of many kinds; some start alike.
func mixture(n int) []Request {
	rng := rand.New(rand.NewPCG(1, 2))
	shared := make([]int32, 40)
	for i := range shared {
		shared[i] = int32(3 + rng.IntN(317))
	}
	var all []Request
	for i := range n {
		prompt := slices.Clone(shared[:rng.IntN(len(shared))])
		for range 1 + rng.IntN(30) {
			prompt = append(prompt, int32(3+rng.IntN(317)))
		}
		r := Request{
			ID: fmt.Sprint(i), Prompt: prompt, MaxTokens: 1 + rng.IntN(48), Logprobs: i%7 - 1, IgnoreEOS: i%3 == 0,
			Sampling: DefaultSampling(), Salt: []string{"", "a"}[i%2],
		}
		r.Sampling.Seed = seed(uint64(i))
		switch i % 6 {
		case 0:
			r.Sampling = Sampling{}
		case 1:
			r.Sampling.TopK = 7
		case 2:
			r.Sampling.TopP, r.Sampling.Temperature = 0.8, 0.7
		case 3:
			r.Sampling.RepetitionPenalty, r.Sampling.FrequencyPenalty = 1.3, 0.4
		case 4:
			r.Sampling.MinP, r.MinTokens = 0.05, 1
			r.Sampling.LogitBias = map[int32]float32{9: 2, 2: 3}
		}
		all = append(all, r)
	}
	return all
}

// alone answers each request in an engine that serves nothing else: one sequence, whole prompts, nothing cached.
func alone(t *testing.T, one shape, all []Request) []answer {
	one.slots, one.blocks, one.wrap = 1, 64, nil
	e := newEngine(t, one).serve(t)
	var answers []answer
	for i, r := range all {
		r.Salt = fmt.Sprint("nobody else's ", i)
		a := e.ask(t.Context(), r)
		check(t, a.err)
		answers = append(answers, a)
	}
	if s := e.Stats(); s.CachedTokens != 0 || s.Preemptions != 0 {
		t.Errorf("alone, %+v", s)
	}
	return answers
}

// TestBatchEqualsAlone holds that a request gets the same ids, text and log-probabilities, bit for bit, however it is
// served: with others, in chunks, after preemptions, from the cache.
func TestBatchEqualsAlone(t *testing.T) {
	for _, blockTokens := range []int{4, 16} {
		t.Run(fmt.Sprintf("blocks of %d", blockTokens), func(t *testing.T) { batchEqualsAlone(t, blockTokens) })
	}
}

func batchEqualsAlone(t *testing.T, blockTokens int) {
	roomy := roomy
	roomy.blockTokens = blockTokens
	all := mixture(32)
	want := alone(t, roomy, all)
	run := func(t *testing.T, e *Engine) Stats {
		var wg sync.WaitGroup
		for i, r := range all {
			wg.Go(func() {
				if diff := e.ask(t.Context(), r).same(want[i]); diff != "" {
					t.Errorf("request %d: together and alone: %s", i, diff)
				}
			})
		}
		if !e.started.Load() { // the first time all come at once
			e.await(len(all))
			e.serve(t)
		}
		wg.Wait()
		return e.Stats()
	}
	t.Run("together", func(t *testing.T) {
		e := newEngine(t, roomy)
		run(t, e)
		before := e.Stats()
		after := run(t, e) // again, with all prompts in the cache
		if cached := after.CachedTokens - before.CachedTokens; cached < 800 {
			t.Errorf("%d tokens came from the cache", cached)
		}
		if after.Steps == 0 || after.Rows <= after.Steps || after.StepSeconds < after.ForwardSeconds || after.ForwardSeconds <= 0 {
			t.Errorf("stats are %+v", after)
		}
		var prompts, tokens int
		for i, r := range all {
			prompts += 2 * len(r.Prompt)
			tokens += 2 * len(want[i].tokens)
		}
		if after.PromptTokens != int64(prompts) || after.GeneratedTokens != int64(tokens) {
			t.Errorf("stats count %d and %d tokens, want %d and %d", after.PromptTokens, after.GeneratedTokens, prompts, tokens)
		}
	})
	t.Run("chunked", func(t *testing.T) {
		s := roomy
		s.slots, s.rows = 5, 7
		run(t, newEngine(t, s))
	})
	t.Run("preempted", func(t *testing.T) {
		s := roomy
		s.slots, s.rows, s.blocks = 8, 64, 136/blockTokens
		if s := run(t, newEngine(t, s)); s.Preemptions == 0 {
			t.Error("nothing was preempted")
		}
	})
}

func TestSalt(t *testing.T) {
	e := newEngine(t, roomy).serve(t)
	prompt := mixture(1)[0].Prompt
	prompt = append(prompt, prompt...)
	whole := (len(prompt) - 1) / 4 * 4
	for i, test := range []struct {
		salt string
		want int
	}{{"", 0}, {"", whole}, {"a", 0}, {"a", whole}, {"b", 0}, {"", whole}} {
		a := e.ask(t.Context(), Request{Prompt: prompt, MaxTokens: 2, Salt: test.salt, Logprobs: -1})
		check(t, a.err)
		if got := a.tokens[0].Cached; got != test.want {
			t.Errorf("request %d with salt %q: %d of %d tokens cached, want %d", i, test.salt, got, len(prompt), test.want)
		}
		if a.tokens[1].Cached != 0 {
			t.Error("the second token says something was cached")
		}
	}
}
