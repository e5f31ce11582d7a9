// Package runtime owns requests: their order, how they share the steps of a model, and how tokens are chosen and become
// text.
//
// An Engine runs a model in one goroutine on one locked thread (Run); nothing else touches the model, the cache or the
// device. Other goroutines send on its one channel and read from their own mailbox (Generate). A step is plan, start,
// forward, choose, finish, deliver: the scheduler decides, the cache claims, the model computes, a sampler picks each
// sequence's token, a text holds back what is not certain, and the mailbox hands out the rest. Where the device picks tokens
// itself, the next step is started before this one is finished (step, scheduler.follow). In steady state a step allocates
// nothing but the text it delivers.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/model"
	"eckart/model/tokenizer"
)

// Options are what an engine is made of. All fields are needed unless they say otherwise.
type Options struct {
	Stream    kernels.Stream // the one that Batch runs on
	Decoder   *model.Decoder
	Batch     *model.Batch // its limits hold Slots sequences and samples, StepTokens rows and the blocks of Context
	Cache     *kvcache.Cache
	Tokenizer *tokenizer.Tokenizer

	Context    int     // most tokens of one sequence; what the cache holds if that is less
	Slots      int     // sequences that run at once
	StepTokens int     // tokens of a step, at least Slots
	Queue      int     // requests that may wait besides those that run
	EOS        []int32 // tokens with which the model ends its text; may be empty

	Logger *slog.Logger // nil for none
}

// check returns an error that names the first option that cannot be.
func (o *Options) check() error {
	switch {
	case o.Stream == nil || o.Decoder == nil || o.Batch == nil || o.Cache == nil || o.Tokenizer == nil:
		return errors.New("make engine: stream, decoder, batch, cache and tokenizer are all needed")
	case o.Context < 2:
		return fmt.Errorf("make engine: context is %d tokens, want at least 2", o.Context)
	case o.Slots < 1:
		return fmt.Errorf("make engine: slots is %d, want at least 1", o.Slots)
	case o.StepTokens < o.Slots:
		return fmt.Errorf("make engine: tokens of a step is %d, want at least the %d slots", o.StepTokens, o.Slots)
	case o.Queue < 0:
		return fmt.Errorf("make engine: queue is %d, want at least 0", o.Queue)
	}
	l := o.Batch.Limits()
	context := min(o.Context, o.Cache.Blocks()*o.Cache.BlockTokens())
	switch {
	case l.Rows < o.StepTokens || l.Seqs < o.Slots || l.Samples < o.Slots:
		return fmt.Errorf("make engine: batch holds %d rows, %d sequences and %d samples, want %d, %d and %d",
			l.Rows, l.Seqs, l.Samples, o.StepTokens, o.Slots, o.Slots)
	case l.BlockTokens != o.Cache.BlockTokens() || l.Blocks < o.Cache.BlocksFor(context):
		return fmt.Errorf("make engine: batch holds %d blocks of %d tokens, want %d of %d",
			l.Blocks, l.BlockTokens, o.Cache.BlocksFor(context), o.Cache.BlockTokens())
	}
	return nil
}

// An Engine turns requests into tokens. Run must run for as long as requests are to be served.
type Engine struct {
	o       Options
	context int // most tokens of a sequence
	vocab   int // logits of a token

	// Of the loop alone.
	sched   *scheduler
	start   func(*model.Batch)                               // Decoder.Start
	finish  func(*model.Batch) (kernels.Mat, []int32, error) // Decoder.Finish
	flying  *step                                            // started, and to be finished by the next call of step
	out     outcome
	scratch *scratch
	host    []float32 // logits, where the device does not share the host's memory

	// Shared with the goroutines that generate.
	calls    chan call
	flight   atomic.Int64  // requests taken and not ended
	draining chan struct{} // closed by Drain: no more requests are taken
	aborted  chan struct{} // closed when what is left is to be given up
	done     chan struct{} // closed when Run has ended
	drain    sync.Once
	abort    sync.Once
	started  atomic.Bool
	fault    atomic.Pointer[error]
	counters counters
}

// A call is what other goroutines tell the loop: here is a sequence, or nobody waits for it any more.
type call struct {
	q     *sequence
	leave bool
}

// New returns an engine that is not running yet.
func New(o Options) (*Engine, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	vocab := o.Decoder.Config().Vocab
	for _, id := range o.EOS {
		if id < 0 || int(id) >= vocab {
			return nil, fmt.Errorf("make engine: end of sequence is token %d, want an id below %d", id, vocab)
		}
	}
	e := &Engine{
		o: o, vocab: vocab,
		context:  min(o.Context, o.Cache.Blocks()*o.Cache.BlockTokens()),
		sched:    newScheduler(o.Cache, o.Slots),
		start:    o.Decoder.Start,
		finish:   o.Decoder.Finish,
		out:      outcome{ids: make([]int32, 0, o.Slots), stop: make([]bool, 0, o.Slots)},
		scratch:  newScratch(vocab),
		calls:    make(chan call, 2*(o.Slots+o.Queue)),
		draining: make(chan struct{}),
		aborted:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	return e, nil
}

// Context returns the most tokens a sequence may have, its prompt included.
func (e *Engine) Context() int { return e.context }

// Run serves requests until Drain and then the last request's end, which returns nil; until ctx is done, which returns
// its cause; or until the device fails, which returns that error, and the engine is of no further use. Requests that
// have not ended by then fail. Run can be called once.
func (e *Engine) Run(ctx context.Context) error {
	if !e.started.CompareAndSwap(false, true) {
		return errors.New("run engine: it was run before")
	}
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	err := e.loop(ctx)
	e.end(err)
	return err
}

func (e *Engine) loop(ctx context.Context) error {
	for {
		e.listen()
		for e.sched.idle() && e.flying == nil { // parked: no turn of the loop, no time spent
			select {
			case c := <-e.calls:
				e.take(c)
				e.listen()
			case <-e.draining:
				return nil
			case <-e.aborted:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.aborted:
			return nil
		default:
		}
		if err := e.step(); err != nil {
			err = fmt.Errorf("%w: %w", ErrFault, err)
			e.fault.Store(&err)
			e.o.Logger.Error("device fault", "err", err, "running", len(e.sched.running), "waiting", len(e.sched.waiting))
			return err
		}
	}
}

// listen takes the calls that are there.
func (e *Engine) listen() {
	for {
		select {
		case c := <-e.calls:
			e.take(c)
		default:
			return
		}
	}
}

func (e *Engine) take(c call) {
	if c.leave {
		if e.sched.cancel(c.q) {
			e.flight.Add(-1)
			e.publish()
		}
		return
	}
	if err := e.sched.submit(c.q); err != nil {
		e.flight.Add(-1)
		c.q.out.end(err)
	}
}

// publish makes what runs and what it holds known to Stats.
func (e *Engine) publish() {
	e.counters.running.Store(int64(len(e.sched.running)))
	e.counters.blocksUsed.Store(int64(e.o.Cache.Used()))
}

// end lets the requests that are left fail and tells those that still come. The cache is left without references.
func (e *Engine) end(err error) {
	if !errors.Is(err, ErrFault) {
		err = ErrClosed
	}
	e.Drain()
	if e.flying != nil {
		_, _, _ = e.finish(e.o.Batch) // nobody waits for what it finds, only for the device to be done with it
		e.flying = nil
	}
	for _, q := range e.sched.abandon() {
		e.flight.Add(-1)
		q.out.end(err)
	}
	e.publish()
	close(e.done)
}

// step finishes one step, which it has started, unless it is under way already, and starts the one after it before that
// where it can: then the device has something to do while the host reads what it found. Its error is the device's.
func (e *Engine) step() error {
	begin := time.Now()
	st := e.flying
	if st == nil {
		st = e.sched.plan(e.o.StepTokens)
		if len(st.work) == 0 {
			panic(fmt.Sprintf("BUG: nothing to do for %d running and %d waiting sequences", len(e.sched.running), len(e.sched.waiting)))
		}
		e.counters.preemptions.Add(int64(len(st.preempt)))
		e.sched.start(st, e.o.Batch)
		e.pick(st)
		e.publish()
	}
	forward := time.Now()
	if e.flying == nil {
		e.start(e.o.Batch)
	}
	e.flying = e.follow(st)
	logits, picked, err := e.finish(e.o.Batch)
	if err == nil {
		logits, err = e.download(st, logits)
	}
	if err != nil {
		return err
	}
	e.counters.forward.Add(int64(time.Since(forward)))

	e.out.ids, e.out.stop = e.out.ids[:0], e.out.stop[:0]
	for at := range st.work {
		w := &st.work[at]
		w.dropped = w.seq.over
		for range w.sample {
			i := len(e.out.ids)
			id, stop := int32(-1), true
			switch {
			case w.dropped:
			case w.picked:
				id, stop = e.accept(w.seq, picked[i], nil)
			default:
				id, stop = e.choose(w.seq, logits.Float32s(i))
			}
			e.out.ids = append(e.out.ids, id)
			e.out.stop = append(e.out.stop, stop)
		}
	}
	ended := e.sched.finish(st, e.out)
	e.flight.Add(-int64(len(ended)))
	e.publish()
	e.counters.steps.Add(1)
	e.counters.rows.Add(int64(st.rows()))
	for _, w := range st.work {
		if len(w.sample) > 0 && !w.dropped {
			w.seq.deliver()
		}
	}
	e.counters.step.Add(int64(time.Since(begin)))
	return nil
}

// follow starts the step after st, which is under way, where the device can go on without the host; it returns nil where it
// cannot.
func (e *Engine) follow(st *step) *step {
	if !e.o.Batch.Ahead() {
		return nil
	}
	next := e.sched.follow(st)
	if next == nil {
		return nil
	}
	e.sched.startAhead(next, e.o.Batch)
	for i, w := range next.work {
		e.o.Batch.Pick(i, w.seq.sampler.choice())
	}
	e.start(e.o.Batch)
	return next
}

// pick has the device pick the tokens of the step, as far as it can: it adjusts no logits and reports none.
func (e *Engine) pick(st *step) {
	if !e.o.Batch.Picks() {
		return
	}
	i := 0
	for at := range st.work {
		w := &st.work[at]
		if w.picked = len(w.sample) == 1 && w.seq.plain(w.seq.generated()); w.picked {
			e.o.Batch.Pick(i, w.seq.sampler.choice())
		}
		i += len(w.sample)
	}
}

// download returns the logits of the tokens that the host chooses, in host memory, in their places.
func (e *Engine) download(st *step, logits kernels.Mat) (kernels.Mat, error) {
	if logits.Host != nil || logits.Rows == 0 {
		return logits, nil
	}
	if e.host == nil {
		e.host = make([]float32, e.o.Batch.Limits().Samples*logits.Cols)
	}
	i, waits := 0, false
	for _, w := range st.work {
		if n := len(w.sample); n > 0 && !w.picked {
			e.o.Stream.Download(kernels.Float32Bytes(e.host[i*logits.Cols:(i+n)*logits.Cols]), logits.Slice(i, n))
			waits = true
		}
		i += len(w.sample)
	}
	logits.Span = kernels.Span{Host: kernels.Float32Bytes(e.host)}
	if !waits {
		return logits, nil
	}
	return logits, e.o.Stream.Sync()
}

// choose picks the next token of q from its logits, which it changes, and prepares what is delivered, as accept does.
func (e *Engine) choose(q *sequence, logits []float32) (id int32, last bool) {
	banned := q.banned(q.generated())
	var r *report
	if q.logprobs >= 0 {
		r = observe(logits, q.logprobs, q.sampler.adjusts(banned), e.scratch)
	}
	id, err := q.sampler.choose(logits, banned, e.scratch)
	if err != nil {
		id = -1
	}
	return e.accept(q, id, r)
}

// accept takes the token that was chosen for q, below 0 when there is none, and prepares what is delivered. r, which may be
// nil, tells the log-probabilities. It returns the token and whether it is the last one.
func (e *Engine) accept(q *sequence, id int32, r *report) (_ int32, last bool) {
	if q.generated() == 0 {
		e.counters.promptTokens.Add(int64(q.prompt))
		e.counters.cachedTokens.Add(int64(q.cached))
	}
	if id < 0 {
		q.failed = ErrLogits
		return -1, true
	}
	q.sampler.accept(id)
	e.counters.generatedTokens.Add(1)

	t := &q.token
	*t = Token{ID: id, StopID: -1}
	if q.generated() == 0 {
		t.Cached = q.cached
	}
	if r != nil {
		t.Logprob, t.Top = r.logprob(id), r.top
	}
	q.read(t)
	return id, t.Finish != ""
}

// Drain lets the engine take no more requests: they fail with ErrClosed. Run returns when the ones it has have ended.
func (e *Engine) Drain() { e.drain.Do(func() { close(e.draining) }) }

// Close drains the engine and waits for Run to return. When ctx is done first, the requests that are left fail with
// ErrClosed, and Close returns the cause. An engine that never ran is closed at once.
func (e *Engine) Close(ctx context.Context) error {
	e.Drain()
	if !e.started.Load() {
		return nil
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
	}
	e.abort.Do(func() { close(e.aborted) })
	<-e.done
	return context.Cause(ctx)
}

// Healthy returns nil, or the device fault that ended Run.
func (e *Engine) Healthy() error {
	if err := e.fault.Load(); err != nil {
		return *err
	}
	return nil
}
