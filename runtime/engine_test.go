package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// before lets f run in the loop before every forward pass.
func (e *Engine) before(f func()) {
	forward := e.forward
	e.forward = func(b *model.Batch) (kernels.Mat, error) {
		f()
		return forward(b)
	}
}

// fake replaces the model: the logits of a row are what f returns for its sequence.
func (e *Engine) fake(f func(q *sequence) []float32) {
	rows := make([]float32, e.o.Slots*e.vocab)
	e.forward = func(*model.Batch) (kernels.Mat, error) {
		m := kernels.Mat{Span: kernels.Span{Host: kernels.Float32Bytes(rows)}, Cols: e.vocab, Stride: e.vocab, Type: kernels.F32}
		for _, w := range e.sched.step.work {
			for range w.sample {
				m.Rows++
				copy(m.Float32s(m.Rows-1), f(w.seq))
			}
		}
		return m, nil
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
		check(t, e.o.Cache.Check())
		if s := e.Stats(); e.o.Cache.Used() != 0 || s.Running != 0 || s.Waiting != 0 || s.BlocksUsed != 0 {
			t.Errorf("in the end %d blocks are used, stats are %+v", e.o.Cache.Used(), s)
		}
	})
	return e
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

func (a answer) ids() (ids []int32) {
	for _, t := range a.tokens {
		ids = append(ids, t.ID)
	}
	return ids
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
	one.slots, one.blocks = 1, 64
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
		wg.Wait()
		return e.Stats()
	}
	t.Run("together", func(t *testing.T) {
		e := newEngine(t, roomy).serve(t)
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
		run(t, newEngine(t, s).serve(t))
	})
	t.Run("preempted", func(t *testing.T) {
		s := roomy
		s.slots, s.rows, s.blocks = 8, 64, 136/blockTokens
		if s := run(t, newEngine(t, s).serve(t)); s.Preemptions == 0 {
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

// id returns the id of a character of the test's tokenizer.
func id(c rune) int32 { return int32(c - '\u4e00') }

func TestEnds(t *testing.T) {
	const a, b, c, d = '\u4e05', '\u4e06', '\u4e07', '\u4e08'
	const eos = '\u4e02'
	for _, test := range []struct {
		name   string
		says   string
		r      Request
		text   string
		n      int // tokens
		finish Finish
		stop   string
		stopID int32
	}{
		{"limit", string(a), Request{MaxTokens: 3}, strings.Repeat(string(a), 3), 3, FinishLength, "", -1},
		{"one token", string(a), Request{MaxTokens: 1}, string(a), 1, FinishLength, "", -1},
		{"context", string(a), Request{}, strings.Repeat(string(a), 127), 127, FinishLength, "", -1},
		{"end of sequence", string([]rune{a, b, eos, c}), Request{MaxTokens: 9}, string([]rune{a, b}), 3, FinishStop, "", -1},
		{"at once", string(eos), Request{MaxTokens: 9}, "", 1, FinishStop, "", -1},
		{"ignored", string([]rune{a, eos}), Request{MaxTokens: 4, IgnoreEOS: true}, string([]rune{a, eos, a, eos}), 4, FinishLength, "", -1},
		{"stop id", string([]rune{a, b, c}), Request{MaxTokens: 9, StopIDs: []int32{id(c)}}, string([]rune{a, b}), 3, FinishStop, "", id(c)},
		{"stop id shown", string([]rune{a, b, c}), Request{MaxTokens: 9, StopIDs: []int32{id(c)}, IncludeStop: true}, string([]rune{a, b, c}), 3, FinishStop, "", id(c)},
		{"stop id that is the model's own", string([]rune{a, eos}), Request{MaxTokens: 9, StopIDs: []int32{id(eos)}}, string(a), 2, FinishStop, "", id(eos)},
		{"stop id though the model's own are ignored", string([]rune{a, eos}), Request{MaxTokens: 9, StopIDs: []int32{id(eos)}, IgnoreEOS: true}, string(a), 2, FinishStop, "", id(eos)},
		{"stop string", string([]rune{a, b, c, d}), Request{MaxTokens: 9, Stop: []string{string([]rune{b, c})}}, string(a), 3, FinishStop, string([]rune{b, c}), -1},
		{"stop string shown", string([]rune{a, b, c, d}), Request{MaxTokens: 9, Stop: []string{string([]rune{b, c})}, IncludeStop: true}, string([]rune{a, b, c}), 3, FinishStop, string([]rune{b, c}), -1},
		{"stop string with the last token", string([]rune{a, b, c, d}), Request{MaxTokens: 3, Stop: []string{string([]rune{b, c})}}, string(a), 3, FinishStop, string([]rune{b, c}), -1},
		{"held back until the limit", string([]rune{a, b, c, d}), Request{MaxTokens: 2, Stop: []string{string([]rune{b, c})}}, string([]rune{a, b}), 2, FinishLength, "", -1},
		{"held back until the end of sequence", string([]rune{a, b, eos}), Request{MaxTokens: 9, Stop: []string{string([]rune{b, c})}}, string([]rune{a, b}), 3, FinishStop, "", -1},
		{"not before min tokens", string([]rune{a, b, eos}), Request{MaxTokens: 9, MinTokens: 4, Stop: []string{string(b)}}, "", 5, FinishStop, string(b), -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEngine(t, roomy)
			var ids []int32
			for _, c := range test.says {
				ids = append(ids, id(c))
			}
			e.fake(e.says(ids...))
			e.serve(t)
			r := test.r
			r.Prompt, r.Logprobs = []int32{7}, -1
			got := e.ask(t.Context(), r)
			check(t, got.err)
			last := got.last()
			if test.name == "not before min tokens" {
				// Of a, b, eos, eos is banned in the third place: then the lowest id, 0, is as likely as any other. The
				// fourth is a again, the fifth b.
				test.text = string([]rune{a, b, '\u4e00', a})
			}
			if got.text() != test.text || len(got.tokens) != test.n || last.Finish != test.finish || last.StopString != test.stop || last.StopID != test.stopID {
				t.Errorf("%q, %d tokens, last %+v; want %q, %d, %q, stop %q, id %d", got.text(), len(got.tokens), last, test.text, test.n, test.finish, test.stop, test.stopID)
			}
			for _, x := range got.tokens[:len(got.tokens)-1] {
				if x.Finish != "" {
					t.Errorf("a token before the last: %+v", x)
				}
			}
		})
	}
}

func TestContext(t *testing.T) {
	small := roomy
	small.blocks = 10 // forty tokens: less than the context asked for
	e := newEngine(t, small).serve(t)
	if e.Context() != 40 {
		t.Errorf("context is %d tokens, want 40", e.Context())
	}
	for _, test := range []struct{ prompt, most, want int }{{40, 0, 0}, {41, 0, 0}, {39, 0, 1}, {39, 1, 1}, {39, 2, 0}, {30, 11, 0}, {30, 10, 10}, {1, 1 << 40, 0}} {
		a := e.ask(t.Context(), Request{Prompt: make([]int32, test.prompt), MaxTokens: test.most, IgnoreEOS: true, Logprobs: -1})
		var refused *ContextError
		switch {
		case test.want > 0 && (a.err != nil || len(a.tokens) != test.want || a.last().Finish != FinishLength):
			t.Errorf("prompt %d, at most %d: %d tokens, error %v, want %d", test.prompt, test.most, len(a.tokens), a.err, test.want)
		case test.want == 0 && (!errors.As(a.err, &refused) || *refused != ContextError{test.prompt, test.most, 40}):
			t.Errorf("prompt %d, at most %d: error %v, want a ContextError", test.prompt, test.most, a.err)
		}
	}
	if a := e.ask(t.Context(), Request{Prompt: []int32{320}}); !errors.Is(a.err, ErrInvalid) {
		t.Errorf("a token outside the vocabulary: %v", a.err)
	}
}

// gate lets the test decide when each forward pass happens: it receives when one is about to, and sends to let it.
func (e *Engine) gate() (about <-chan struct{}, pass chan<- struct{}) {
	a, p := make(chan struct{}), make(chan struct{})
	e.before(func() {
		a <- struct{}{}
		<-p
	})
	return a, p
}

// TestLeaving holds that what a client held is free before the next step after it left, and that one which waited never
// gets a turn.
func TestLeaving(t *testing.T) {
	for name, leave := range map[string]func(cancel func()) bool{
		"breaks out": func(func()) bool { return true },
		"cancels":    func(cancel func()) bool { cancel(); return false },
	} {
		t.Run(name, func(t *testing.T) {
			two := roomy
			two.slots, two.rows = 2, 8
			e := newEngine(t, two)
			about, pass := e.gate()
			e.serve(t)
			stays := make(chan answer)
			go func() {
				stays <- e.ask(t.Context(), Request{ID: "stays", Prompt: []int32{5, 6, 7}, MaxTokens: 12, IgnoreEOS: true, Logprobs: -1})
			}()
			<-about
			gone := make(chan error)
			go func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				for _, err := range e.Generate(ctx, Request{ID: "leaves", Prompt: make([]int32, 20), IgnoreEOS: true, Logprobs: -1}) {
					if err != nil {
						gone <- err
						return
					}
					if leave(func() { cancel(errors.New("had enough")) }) {
						break
					}
				}
				gone <- nil
			}()
			for e.Stats().Waiting == 0 {
				goruntime.Gosched() // until it waits; the loop stands before the model
			}
			waits, cancelWaits := context.WithCancel(t.Context())
			never := make(chan answer)
			go func() { never <- e.ask(waits, Request{ID: "never", Prompt: []int32{1}, Logprobs: -1}) }()
			for e.Stats().Waiting < 2 {
				goruntime.Gosched()
			}
			cancelWaits()
			if a := <-never; !errors.Is(a.err, context.Canceled) || len(a.tokens) > 0 {
				t.Errorf("waiting and cancelled: %+v", a)
			}
			find := func(name string) *sequence {
				i := slices.IndexFunc(e.sched.running, func(q *sequence) bool { return q.id == name })
				if i < 0 {
					return nil
				}
				return e.sched.running[i]
			}
			for { // until its first token was delivered, and the next step stands before the model
				pass <- struct{}{}
				<-about
				if find("never") != nil {
					t.Error("a cancelled request got a turn")
				}
				if q := find("leaves"); q != nil && q.generated() > 0 {
					break
				}
			}
			if err, want := <-gone, name == "cancels"; (err != nil) != want || want && err.Error() != "had enough" {
				t.Errorf("left with error %v", err)
			}
			pass <- struct{}{} // the step that was planned before it left
			<-about
			if q := find("leaves"); q != nil || e.o.Cache.Used() != e.o.Cache.BlocksFor(find("stays").computed+1) {
				t.Errorf("a step after it left it runs: %v; %d blocks are used", q != nil, e.o.Cache.Used())
			}
			go func() {
				for range about {
					pass <- struct{}{}
				}
			}()
			pass <- struct{}{}
			if a := <-stays; a.err != nil || len(a.tokens) != 12 {
				t.Errorf("the other: %+v", a)
			}
		})
	}
}

func TestQueueFull(t *testing.T) {
	s := roomy
	s.slots, s.queue = 2, 3
	e := newEngine(t, s)
	about, pass := e.gate()
	e.serve(t)
	answers := make(chan answer)
	for i := range 5 {
		go func() {
			answers <- e.ask(t.Context(), Request{Prompt: []int32{int32(i)}, MaxTokens: 2, IgnoreEOS: true, Logprobs: -1})
		}()
	}
	<-about
	for e.flight.Load() < 5 {
		goruntime.Gosched()
	}
	if a := e.ask(t.Context(), Request{Prompt: []int32{1}, MaxTokens: 2, Logprobs: -1}); !errors.Is(a.err, ErrQueueFull) {
		t.Errorf("one too many: %+v", a)
	}
	if s := e.Stats(); s.Rejected != 1 || s.Running+s.Waiting != 5 {
		t.Errorf("stats are %+v", s)
	}
	go func() {
		pass <- struct{}{}
		for range about {
			pass <- struct{}{}
		}
	}()
	for range 5 {
		if a := <-answers; a.err != nil || len(a.tokens) != 2 {
			t.Errorf("one of those taken: %+v", a)
		}
	}
	if a := e.ask(t.Context(), Request{Prompt: []int32{1}, MaxTokens: 2, IgnoreEOS: true, Logprobs: -1}); a.err != nil {
		t.Errorf("after the queue has emptied: %v", a.err)
	}
}

// TestSlowReader holds that a client that does not read holds nobody up, and finds everything when it does.
func TestSlowReader(t *testing.T) {
	e := newEngine(t, roomy).serve(t)
	slow := 0
	for _, err := range e.Generate(t.Context(), Request{Prompt: []int32{1}, MaxTokens: 100, IgnoreEOS: true, Logprobs: -1}) {
		check(t, err)
		if slow == 0 {
			for range 3 {
				if a := e.ask(t.Context(), Request{Prompt: []int32{2}, MaxTokens: 50, IgnoreEOS: true, Logprobs: -1}); a.err != nil || len(a.tokens) != 50 {
					t.Errorf("another: %+v", a)
				}
			}
		}
		slow++
	}
	if slow != 100 {
		t.Errorf("the slow reader got %d tokens, want 100", slow)
	}
}

func TestBadLogitsFailOneRequest(t *testing.T) {
	all := mixture(6)
	want := alone(t, roomy, all)
	e := newEngine(t, roomy)
	forward := e.forward
	e.forward = func(b *model.Batch) (kernels.Mat, error) {
		logits, err := forward(b)
		row := 0
		for _, w := range e.sched.step.work {
			for range w.sample {
				if w.seq.id == "bad" && w.seq.generated() == 2 {
					clear(logits.Float32s(row))
					logits.Float32s(row)[17] /= 0
				}
				row++
			}
		}
		return logits, err
	}
	e.serve(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		a := e.ask(t.Context(), Request{ID: "bad", Prompt: []int32{9, 8, 7}, Logprobs: 3, IgnoreEOS: true})
		if !errors.Is(a.err, ErrLogits) || len(a.tokens) != 2 {
			t.Errorf("the request with bad logits: %+v", a)
		}
	})
	for i, r := range all {
		wg.Go(func() {
			if diff := e.ask(t.Context(), r).same(want[i]); diff != "" {
				t.Errorf("request %d: %s", i, diff)
			}
		})
	}
	wg.Wait()
	check(t, e.Healthy())
	allBanned := Request{Prompt: []int32{1}, MinTokens: 1, MaxTokens: 3, Logprobs: 2}
	for id := range int32(320) {
		allBanned.StopIDs = append(allBanned.StopIDs, id)
	}
	if a := e.ask(t.Context(), allBanned); !errors.Is(a.err, ErrLogits) {
		t.Errorf("all tokens banned: %+v", a)
	}
}

func TestFault(t *testing.T) {
	e := newEngine(t, roomy)
	broken := errors.New("the device fell off the bus")
	steps := 0
	forward := e.forward
	late := make(chan answer)
	e.forward = func(b *model.Batch) (kernels.Mat, error) {
		if steps++; steps == 4 {
			before := e.flight.Load() // one more comes, which the loop will never take
			go func() { late <- e.ask(t.Context(), Request{Prompt: []int32{1}}) }()
			for e.flight.Load() == before || len(e.calls) == 0 {
				goruntime.Gosched()
			}
			return kernels.Mat{}, broken
		}
		return forward(b)
	}
	ended := make(chan error)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			a := e.ask(t.Context(), Request{Prompt: []int32{int32(i)}, IgnoreEOS: true, Logprobs: -1})
			if !errors.Is(a.err, ErrFault) || !errors.Is(a.err, broken) {
				t.Errorf("request %d: %v after %d tokens", i, a.err, len(a.tokens))
			}
		})
	}
	check(t, e.Healthy())
	go func() { ended <- e.Run(t.Context()) }()
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("run ended with %v", err)
	}
	wg.Wait()
	if a := <-late; !errors.Is(a.err, broken) {
		t.Errorf("a request that came during the fault: %v", a.err)
	}
	if err := e.Healthy(); !errors.Is(err, broken) {
		t.Errorf("health is %v", err)
	}
	if a := e.ask(t.Context(), Request{Prompt: []int32{1}}); !errors.Is(a.err, ErrFault) {
		t.Errorf("a request after the fault: %v", a.err)
	}
	check(t, e.o.Cache.Check())
	if e.o.Cache.Used() != 0 {
		t.Errorf("%d blocks are used", e.o.Cache.Used())
	}
	check(t, e.Close(t.Context()))
}

// slowly makes every step take a tenth of a second of the bubble's time.
func (e *Engine) slowly() {
	e.fake(e.says(5))
	e.before(func() { time.Sleep(100 * time.Millisecond) })
}

func TestDrain(t *testing.T) {
	e := newEngine(t, roomy)
	synctest.Test(t, func(t *testing.T) {
		e := remake(t, e)
		e.slowly()
		done := make(chan error)
		go func() { done <- e.Run(context.Background()) }()
		synctest.Wait() // the idle loop is parked: in a bubble, one that spins would never let this return
		answers := make(chan answer)
		go func() { answers <- e.ask(t.Context(), Request{Prompt: []int32{1}, MaxTokens: 30, Logprobs: -1}) }()
		time.Sleep(time.Second)
		e.Drain()
		if a := e.ask(t.Context(), Request{Prompt: []int32{1}, Logprobs: -1}); !errors.Is(a.err, ErrClosed) {
			t.Errorf("a request after drain: %+v", a)
		}
		start := time.Now()
		if a := <-answers; a.err != nil || len(a.tokens) != 30 {
			t.Errorf("a request before drain: %d tokens, error %v", len(a.tokens), a.err)
		}
		check(t, <-done)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("draining took %v, want the twenty steps that were left", d)
		}
		check(t, e.Close(context.Background()))
		if err := e.Run(context.Background()); err == nil {
			t.Error("the engine ran twice")
		}
	})
}

// remake returns a new engine with the parts of e, made in this bubble.
func remake(t *testing.T, e *Engine) *Engine {
	t.Helper()
	e, err := New(e.o)
	check(t, err)
	return e
}

func TestCloseWithDeadline(t *testing.T) {
	e := newEngine(t, roomy)
	synctest.Test(t, func(t *testing.T) {
		e := remake(t, e)
		e.slowly()
		done := make(chan error)
		go func() { done <- e.Run(context.Background()) }()
		answers := make(chan answer)
		for _, n := range []int{10, 100} {
			go func() {
				answers <- e.ask(t.Context(), Request{Prompt: []int32{1}, MaxTokens: n, IgnoreEOS: true, Logprobs: -1})
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := e.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		check(t, <-done)
		for range 2 {
			a := <-answers
			if short := len(a.tokens) == 10 && a.err == nil; !short && (!errors.Is(a.err, ErrClosed) || len(a.tokens) < 28) {
				t.Errorf("%d tokens, error %v", len(a.tokens), a.err)
			}
		}
		if e.o.Cache.Used() != 0 {
			t.Errorf("%d blocks are used", e.o.Cache.Used())
		}
	})
}

func TestRunContext(t *testing.T) {
	e := newEngine(t, roomy)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	stop := errors.New("stop")
	tokens := 0
	for _, err := range e.Generate(t.Context(), Request{Prompt: []int32{1}, IgnoreEOS: true, Logprobs: -1}) {
		if tokens++; tokens == 3 {
			cancel(stop)
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("the request failed with %v", err)
		}
	}
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("run ended with %v", err)
	}
	check(t, e.Healthy())
	check(t, remake(t, e).Close(t.Context())) // one that never ran
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
		var wg sync.WaitGroup
		for client := range 16 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(client), 4))
				for range 12 {
					i := rng.IntN(len(all))
					r := all[i]
					if len(r.Prompt)+r.MaxTokens > s.context {
						continue
					}
					ctx, cancel := context.WithCancel(t.Context())
					leave := -1
					if rng.IntN(2) == 0 {
						leave = rng.IntN(6)
					}
					if leave >= 0 && rng.IntN(2) == 0 {
						turns := rng.IntN(2000)
						go func() {
							for range turns {
								goruntime.Gosched()
							}
							cancel()
						}()
						leave = -1
					}
					n := 0
					for tok, err := range e.Generate(ctx, r) {
						if errors.Is(err, ErrQueueFull) || errors.Is(err, context.Canceled) {
							break
						}
						if err != nil || tok.ID != want[i].tokens[n].ID || tok.Logprob != want[i].tokens[n].Logprob {
							t.Errorf("client %d, request %d, token %d: %+v, error %v, want %+v", client, i, n, tok, err, want[i].tokens[n])
							break
						}
						if n++; n == leave {
							break
						}
					}
					cancel()
				}
			})
		}
		wg.Wait()
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

// TestStepAllocs holds that a step of sequences that generate allocates nothing, the text of a token aside.
func TestStepAllocs(t *testing.T) {
	e := newEngine(t, roomy)
	e.fake(e.says(5)) // the device answers for its own
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
	// The text that the stop string lets go is one string for each sequence.
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
