package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eckart/kernels"
)

// picker is a stream that picks tokens, as a GPU's does, over the processor's: what is downloaded arrives when it is waited
// for and not before, and it may fail then.
type picker struct {
	kernels.Stream
	w       *scratch
	pending []arrival
	marked  int // of pending, -1 for no mark
	awaits  int // waits with a step enqueued behind

	choose func(id int32) int32 // what becomes of a choice; nil for nothing
	await  func() error         // what a wait returns; nil for none of its own
}

type arrival struct{ dst, src []byte }

// pickers returns a shape whose engines run on a picker, and where the last one is.
func (s shape) pickers() (shape, **picker) {
	var p *picker
	s.wrap = func(stream kernels.Stream) kernels.Stream {
		p = &picker{Stream: stream, w: newScratch(320), marked: -1}
		return p
	}
	return s, &p
}

func (p *picker) Choose(ids, logits, how kernels.Mat) {
	for i := range logits.Rows {
		words := how.Int32s(i)
		float := func(i int) float32 { return math.Float32frombits(uint32(words[i])) }
		c := kernels.Choice{
			Scale: float(0), Low: float(1), TopP: float(2), TopK: int(words[3]),
			Draw: uint64(uint32(words[5]))<<32 | uint64(uint32(words[4])),
		}
		id := int32(-1)
		if best := largest(logits.Float32s(i)); best >= 0 && c.Scale >= 0 {
			id = pick(c, logits.Float32s(i), best, p.w)
			if p.choose != nil {
				id = p.choose(id)
			}
		}
		ids.Int32s(i)[0] = id
	}
}

func (p *picker) Follow(ids, chosen kernels.Mat) {
	for i := range ids.Rows {
		if id := ids.Int32s(i); id[0] < 0 {
			id[0] = max(0, chosen.Int32s(int(-1 - id[0]))[0])
		}
	}
}

func (p *picker) Download(dst []byte, src kernels.Mat) {
	p.pending = append(p.pending, arrival{dst, slices.Clone(src.Host[:len(dst)])})
}

func (p *picker) arrive(n int) {
	for _, a := range p.pending[:n] {
		copy(a.dst, a.src)
	}
	p.pending = slices.Delete(p.pending, 0, n)
}

func (p *picker) Mark() {
	if p.marked >= 0 {
		panic("BUG: two marks")
	}
	p.marked = len(p.pending)
}

func (p *picker) Await() error {
	if p.marked < 0 {
		panic("BUG: no mark")
	}
	p.awaits++
	p.arrive(p.marked)
	p.marked = -1
	return p.wait()
}

func (p *picker) Sync() error {
	p.arrive(len(p.pending))
	p.marked = -1
	return errors.Join(p.wait(), p.Stream.Sync())
}

func (p *picker) wait() error {
	if p.await == nil {
		return nil
	}
	return p.await()
}

// plain are requests whose tokens a device can choose, and that end in every way, and their answers alone. Some start alike.
var plain struct {
	sync.Once
	all  []Request
	want []answer
}

// plainMixture returns plain.
func plainMixture(t *testing.T) ([]Request, []answer) {
	plain.Do(func() {
		all := mixture(24)
		for i := range all {
			r := &all[i]
			r.Logprobs, r.MinTokens, r.IgnoreEOS = -1, 0, i%4 == 0
			r.Sampling.LogitBias, r.Sampling.RepetitionPenalty, r.Sampling.FrequencyPenalty = nil, 1, 0
		}
		for i, a := range alone(t, roomy, all) { // ends that are met
			r := &all[i]
			at := len(a.tokens) / 2
			switch {
			case i%4 == 1:
				r.StopIDs = []int32{a.tokens[at].ID}
			case i%4 == 2 && at > 0 && a.tokens[at].Text != "":
				r.Stop = []string{a.tokens[at-1].Text + a.tokens[at].Text}
			case i%8 == 3:
				r.MinTokens, r.StopIDs = at, []int32{a.tokens[at].ID}
			}
		}
		plain.all, plain.want = all, alone(t, roomy, all)
	})
	return plain.all, plain.want
}

// TestAheadEqualsAlone holds that a request gets the same tokens and text from an engine that runs ahead, as seeds give them,
// in any company: with others that the host chooses for, in chunks, after preemptions, from the cache.
func TestAheadEqualsAlone(t *testing.T) {
	plain, answers := plainMixture(t)
	others := mixture(9)
	for _, test := range []struct {
		name   string
		change func(*shape)
		more   []Request
	}{
		{"together", func(*shape) {}, nil},
		{"chunked", func(s *shape) { s.slots, s.rows = 5, 7 }, nil},
		{"preempted", func(s *shape) { s.slots, s.rows, s.blocks = 8, 64, 34 }, nil},
		{"with the host", func(s *shape) { s.slots, s.rows = 6, 64 }, others},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, want := slices.Concat(plain, test.more), slices.Concat(answers, alone(t, roomy, test.more))
			s, p := roomy.pickers()
			test.change(&s)
			e := newEngine(t, s)
			var wg sync.WaitGroup
			for i, r := range all {
				wg.Go(func() {
					if diff := e.ask(t.Context(), r).same(want[i]); diff != "" {
						t.Errorf("request %d: ahead and alone: %s", i, diff)
					}
				})
			}
			e.await(len(all))
			e.serve(t)
			wg.Wait()
			e.drained()
			stats := e.Stats()
			if (*p).awaits == 0 {
				t.Error("no step was started ahead")
			}
			if test.name == "preempted" && stats.Preemptions == 0 {
				t.Error("nothing was preempted")
			}
			tokens := 0
			for _, a := range want {
				tokens += len(a.tokens)
			}
			if stats.GeneratedTokens != int64(tokens) {
				t.Errorf("%d tokens were generated, want %d", stats.GeneratedTokens, tokens)
			}
			t.Logf("%d of %d steps were waited for with the next one under way", (*p).awaits, stats.Steps)
		})
	}
}

// TestAheadRows holds how many rows a reply costs: limits are known, so nothing runs beyond them; other ends cost a row.
func TestAheadRows(t *testing.T) {
	request := Request{Prompt: []int32{5, 6, 7}, MaxTokens: 12, IgnoreEOS: true, Logprobs: -1}
	free := alone(t, roomy, []Request{request})[0]
	last, at := int32(-1), 0
	for i := 5; last < 0; i++ { // the first token of its kind
		if !slices.ContainsFunc(free.tokens[:i], func(x Token) bool { return x.ID == free.tokens[i].ID }) {
			last, at = free.tokens[i].ID, i
		}
	}
	if at+2 >= len(free.tokens) {
		t.Fatalf("token %d of %d is the first that no token before equals", at, len(free.tokens))
	}
	for _, test := range []struct {
		name   string
		change func(*Request)
		tokens int
		rows   int // beyond those of the prompt
		awaits int
	}{
		{"limit", func(*Request) {}, 12, 11, 11},
		{"one token", func(r *Request) { r.MaxTokens = 1 }, 1, 0, 0},
		{"stop id", func(r *Request) { r.StopIDs = []int32{last} }, at + 1, at + 1, at + 1},
		{"stop string", func(r *Request) { r.Stop = []string{free.tokens[at-1].Text + free.tokens[at].Text} }, at + 1, at + 1, at + 1},
		{"min tokens", func(r *Request) { r.MinTokens, r.StopIDs = 9, []int32{319} }, 12, 11, 2},
		{"log-probabilities", func(r *Request) { r.Logprobs = 0 }, 12, 11, 0},
		{"penalty", func(r *Request) { r.Sampling.PresencePenalty = 1e-6 }, 12, 11, 0},
		{"bias", func(r *Request) { r.Sampling.LogitBias = map[int32]float32{0: 0} }, 12, 11, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, p := roomy.pickers()
			e := newEngine(t, s).serve(t)
			r := request
			test.change(&r)
			a := e.ask(t.Context(), r)
			check(t, a.err)
			if len(a.tokens) != test.tokens {
				t.Errorf("%d tokens, want %d", len(a.tokens), test.tokens)
			}
			e.drained()
			if rows := int(e.Stats().Rows) - len(r.Prompt); rows != test.rows || (*p).awaits != test.awaits {
				t.Errorf("%d rows and %d steps ahead, want %d and %d", rows, (*p).awaits, test.rows, test.awaits)
			}
		})
	}
}

// TestLeavingAhead holds that what a client held that leaves while a step is under way with it is free after that step, and
// that nobody else notices.
func TestLeavingAhead(t *testing.T) {
	s, p := roomy.pickers()
	stays := Request{ID: "stays", Prompt: []int32{5, 6, 7}, MaxTokens: 40, IgnoreEOS: true, Logprobs: -1}
	want := alone(t, roomy, []Request{stays})[0]
	e := newEngine(t, s)
	var leaver *sequence
	steps, left, held := 0, 0, 0
	e.before(func() {
		steps++
		for _, q := range e.sched.running {
			if q.id == "leaves" && q.generated() == 5 && q.underway == 2 && leaver == nil {
				leaver, left = q, steps
				go e.leave(q)
				e.await(1)
			}
		}
		if leaver != nil && steps > left && steps <= left+2 {
			held = max(held, len(leaver.kv.Blocks()))
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if diff := e.ask(t.Context(), stays).same(want); diff != "" {
			t.Errorf("the one that stays: %s", diff)
		}
	})
	e.await(1)
	wg.Go(func() {
		n := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range e.Generate(ctx, Request{ID: "leaves", Prompt: make([]int32, 20), MaxTokens: 50, IgnoreEOS: true, Logprobs: -1}) {
			if n++; n == 6 {
				break
			}
		}
	})
	e.await(2)
	e.serve(t)
	wg.Wait()
	e.drained()
	if leaver == nil || (*p).awaits == 0 {
		t.Fatal("nobody left while a step was under way")
	}
	if held == 0 {
		t.Error("blocks of a sequence that left were free while a step was under way with it")
	}
	if len(leaver.kv.Blocks()) != 0 {
		t.Errorf("%d blocks are still held", len(leaver.kv.Blocks()))
	}
}

// TestBadLogitsAhead holds that a request without a next token fails alone, though the step after has begun with it.
func TestBadLogitsAhead(t *testing.T) {
	s, p := roomy.pickers()
	r := Request{Prompt: []int32{5, 6, 7}, MaxTokens: 20, IgnoreEOS: true, Logprobs: -1}
	other := Request{Prompt: []int32{9, 8, 7, 6}, MaxTokens: 30, IgnoreEOS: true, Logprobs: -1}
	want := alone(t, roomy, []Request{other})[0]
	e := newEngine(t, s)
	bad := 0
	(*p).choose = func(id int32) int32 {
		rows := 0
		for _, q := range e.sched.running {
			if !q.over {
				rows++
			}
		}
		if bad++; bad == 11 && rows == 2 { // the eleventh choice is of the first of two
			return -1
		}
		return id
	}
	var first answer
	var wg sync.WaitGroup
	wg.Go(func() { first = e.ask(t.Context(), r) })
	e.await(1)
	wg.Go(func() {
		if diff := e.ask(t.Context(), other).same(want); diff != "" {
			t.Errorf("the other: %s", diff)
		}
	})
	e.await(2)
	e.serve(t)
	wg.Wait()
	if !errors.Is(first.err, ErrLogits) || len(first.tokens) != 5 {
		t.Errorf("%d tokens, then %v", len(first.tokens), first.err)
	}
}

// TestFaultAhead holds that a fault while the next step is under way ends the engine, and leaves nothing behind.
func TestFaultAhead(t *testing.T) {
	s, p := roomy.pickers()
	e := newEngine(t, s)
	broken := errors.New("the device fell off the bus")
	waits := 0
	(*p).await = func() error {
		if waits++; waits >= 5 {
			return broken
		}
		return nil
	}
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			a := e.ask(t.Context(), Request{Prompt: []int32{int32(i)}, IgnoreEOS: true, Logprobs: -1})
			if !errors.Is(a.err, ErrFault) || !errors.Is(a.err, broken) {
				t.Errorf("request %d: %v after %d tokens", i, a.err, len(a.tokens))
			}
		})
	}
	e.await(5)
	if err := e.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("run ended with %v", err)
	}
	wg.Wait()
	if (*p).awaits == 0 || waits != 6 { // the step at fault, and the one behind it
		t.Errorf("%d waits, %d of them with a step behind", waits, (*p).awaits)
	}
	e.holdsNothing(t)
}

// TestStopAhead holds that an engine whose context ends waits for the step that is under way.
func TestStopAhead(t *testing.T) {
	s, p := roomy.pickers()
	e := newEngine(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	starts, waits := 0, 0
	e.before(func() {
		if starts++; starts == 6 {
			cancel()
		}
	})
	(*p).await = func() error { waits++; return nil }
	a := make(chan answer)
	go func() { a <- e.ask(t.Context(), Request{Prompt: []int32{1}, IgnoreEOS: true, Logprobs: -1}) }()
	if err := e.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("run ended with %v", err)
	}
	if a := <-a; !errors.Is(a.err, ErrClosed) {
		t.Errorf("the request ended with %v", a.err)
	}
	if starts != waits || (*p).awaits == 0 {
		t.Errorf("%d steps were started and %d waited for", starts, waits)
	}
	e.holdsNothing(t)
}

// TestHammerAhead lets clients of all kinds come and go as they like while the engine runs ahead.
func TestHammerAhead(t *testing.T) {
	s, p := roomy.pickers()
	s.slots, s.rows, s.blocks, s.queue, s.context = 6, 24, 60, 10, 60
	all, want := plainMixture(t)
	more := mixture(6)
	all, want = slices.Concat(all, more), slices.Concat(want, alone(t, roomy, more))
	e := newEngine(t, s).serve(t)
	e.hammer(t, 7, 8, all, want, func(rng *rand.Rand, _ func()) int { return rng.IntN(20) })
	// While clients come and go it may be that no step can be foreseen. Those of one that is alone can.
	i := slices.IndexFunc(all, func(r Request) bool { return len(r.Prompt)+r.MaxTokens <= s.context && r.MaxTokens > 4 })
	for _, err := range e.Generate(t.Context(), all[i]) {
		check(t, err)
	}
	e.drained()
	if (*p).awaits == 0 {
		t.Error("no step was started ahead")
	}
}

// TestFollow holds which steps can be foreseen.
func TestFollow(t *testing.T) {
	type setting struct {
		s *scheduler
		b *rows
	}
	make2 := func(blocks int) (setting, []*sequence) {
		s := newScheduler(newTestCache(t, 4, blocks), 2)
		var all []*sequence
		for i, n := range []int{3, 5} {
			q := newSequence(fmt.Sprint(i), s.cache, "", testPrompt(fmt.Sprint(i), n), 12)
			check(t, s.submit(q))
			all = append(all, q)
		}
		return setting{s, &rows{}}, all
	}
	begin := func(x setting, budget int) *step {
		st := x.s.plan(budget)
		x.s.start(st, x.b)
		for i := range st.work {
			st.work[i].picked = len(st.work[i].sample) > 0
		}
		return st
	}
	describe := func(st *step) string {
		if st == nil {
			return "none"
		}
		var words []string
		for _, w := range st.work {
			words = append(words, fmt.Sprintf("%s@%d<%d", w.seq.id, w.from, w.after))
		}
		return strings.Join(words, " ")
	}
	expect := func(name string, st *step, want string) {
		t.Helper()
		if got := describe(st); got != want {
			t.Errorf("%s: the next step is %q, want %q", name, got, want)
		}
	}

	x, all := make2(20)
	st := begin(x, 16)
	next := x.s.follow(st)
	expect("prompts", next, "0@3<0 1@5<1")
	x.s.startAhead(next, x.b)
	if !slices.Equal(x.b.ids, []int32{-1, -2}) || !slices.Equal(x.b.from, []int{3, 5}) {
		t.Errorf("the batch has %v at %v", x.b.ids, x.b.from)
	}
	x.s.finish(st, outcome{ids: []int32{7, 8}, stop: []bool{true, false}}) // the first ends
	if !all[0].over || len(all[0].kv.Blocks()) == 0 || all[1].computed != 5 || all[1].left() != 1 {
		t.Errorf("the first is over: %v, with %d blocks; the second has %d left", all[0].over, len(all[0].kv.Blocks()), all[1].left())
	}
	st, next = next, x.s.follow(next)
	expect("one is over", next, "1@6<1")
	x.s.startAhead(next, x.b)
	x.s.finish(st, outcome{ids: []int32{-1, 9}, stop: []bool{true, false}})
	if len(all[0].kv.Blocks()) != 0 || all[1].computed != 6 {
		t.Error("the first is over and still has blocks")
	}
	check(t, x.s.cache.Check())
	for range 4 { // up to the limit of 12 tokens
		st, next = next, x.s.follow(next)
		x.s.startAhead(next, x.b)
		x.s.finish(st, outcome{ids: []int32{9}, stop: []bool{false}})
	}
	expect("the limit", x.s.follow(next), "none")
	x.s.finish(next, outcome{ids: []int32{9}, stop: []bool{false}})
	if !x.s.idle() || len(all[1].tokens) != 12 || x.s.cache.Used() != 0 {
		t.Errorf("idle: %v, %d tokens, %d blocks are used", x.s.idle(), len(all[1].tokens), x.s.cache.Used())
	}

	x, _ = make2(20)
	expect("within a prompt", x.s.follow(begin(x, 6)), "none")

	x, _ = make2(20)
	st = begin(x, 16)
	st.work[1].picked = false
	expect("the host chooses", x.s.follow(st), "none")

	x, _ = make2(20)
	x.s.slots = 3
	st = begin(x, 16)
	expect("a slot is free and nobody waits", x.s.follow(st), "0@3<0 1@5<1")
	check(t, x.s.submit(newSequence("2", x.s.cache, "", testPrompt("2", 4), 9)))
	expect("one waits", x.s.follow(st), "none")
	x.s.slots = 2
	expect("one waits for a slot", x.s.follow(st), "0@3<0 1@5<1")

	x, _ = make2(6)
	x.s.slots = 3
	st = begin(x, 16)
	check(t, x.s.submit(newSequence("2", x.s.cache, "", testPrompt("2", 12), 13)))
	expect("one waits, and 3 of 6 blocks are held", x.s.follow(st), "none")
	x.s.waiting[0].tokens = append(x.s.waiting[0].tokens, 1)
	expect("one waits for room", x.s.follow(st), "0@3<0 1@5<1")

	x, all = make2(20)
	st = begin(x, 16)
	next = x.s.follow(st)
	x.s.startAhead(next, x.b)
	x.s.cancel(all[0])
	if len(all[0].kv.Blocks()) == 0 || slices.Contains(x.s.running, all[0]) {
		t.Error("a sequence that was cancelled lost its blocks during a step, or runs")
	}
	x.s.finish(st, outcome{ids: []int32{-1, 8}, stop: []bool{true, false}})
	x.s.finish(next, outcome{ids: []int32{-1, 8}, stop: []bool{true, false}})
	if len(all[0].kv.Blocks()) != 0 || len(all[1].tokens) != 7 {
		t.Error("a sequence that was cancelled keeps blocks, or the other lost tokens")
	}

	x, all = make2(5) // of 4 tokens each: the first has no room for its ninth
	st = begin(x, 16)
	for range 6 {
		next = x.s.follow(st)
		if next == nil {
			break
		}
		x.s.startAhead(next, x.b)
		x.s.finish(st, outcome{ids: slices.Repeat([]int32{9}, len(st.work)), stop: make([]bool, len(st.work))})
		st = next
	}
	if next != nil || len(all[0].tokens) != 8 {
		t.Errorf("the cache is full with %d tokens, and the next step is %q", len(all[0].tokens), describe(next))
	}
	if left := x.s.abandon(); len(left) != 2 || x.s.cache.Used() != 0 || !x.s.idle() || all[0].underway != 0 {
		t.Errorf("%d were left; %d blocks are used", len(left), x.s.cache.Used())
	}
	check(t, x.s.cache.Check())
}

// rows is a batch that notes what it is given.
type rows struct {
	ids  []int32
	from []int
}

func (r *rows) Reset() { *r = rows{} }
func (r *rows) Add(tokens []int32, from int, _ []int32, _ []int) {
	r.ids, r.from = append(r.ids, tokens...), append(r.from, from)
}
