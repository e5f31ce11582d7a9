package runtime

import (
	"context"
	"errors"
	goruntime "runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eckart/kernels"
	"eckart/model"
)

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
				stays <- e.ask(t.Context(), Request{ID: "stays", Prompt: []int32{5, 6, 7}, MaxTokens: 40, IgnoreEOS: true, Logprobs: -1})
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
			e.await(1) // the loop stands before the model
			waits, cancelWaits := context.WithCancel(t.Context())
			never := make(chan answer)
			go func() { never <- e.ask(waits, Request{ID: "never", Prompt: []int32{1}, Logprobs: -1}) }()
			e.await(2)
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
			for came := false; ; { // until its first token was delivered, and the next step stands before the model
				pass <- struct{}{}
				<-about
				if find("never") != nil {
					t.Error("a cancelled request got a turn")
				}
				q := find("leaves")
				if came = came || q != nil; came && (q == nil || q.generated() > 0) {
					break // if q is nil it was quick, and left before this step was planned
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
			if a := <-stays; a.err != nil || len(a.tokens) != 40 {
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
	finish := e.finish
	e.finish = func(b *model.Batch) (kernels.Mat, []int32, error) {
		logits, picked, err := finish(b)
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
		return logits, picked, err
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
	finish := e.finish
	late := make(chan answer)
	e.finish = func(b *model.Batch) (kernels.Mat, []int32, error) {
		if steps++; steps == 4 {
			before := e.flight.Load() // one more comes, which the loop will never take
			go func() { late <- e.ask(t.Context(), Request{Prompt: []int32{1}}) }()
			for e.flight.Load() == before || len(e.calls) == 0 {
				goruntime.Gosched()
			}
			return kernels.Mat{}, nil, broken
		}
		return finish(b)
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
	e.holdsNothing(t)
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
		e.holdsNothing(t)
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
