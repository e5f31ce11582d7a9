package openai

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"eckart/runtime"
)

// A sequence is one choice of one prompt, as the engine runs it.
type sequence struct {
	runtime.Request
	prompt int  // which prompt of the request
	lead   bool // the first choice of its prompt
}

// A tally is what became of a sequence.
type tally struct {
	generated int
	cached    int       // tokens of the prompt that were served from the cache
	first     time.Time // when the first token came
	finish    runtime.Finish
}

// errGone is a client that no longer takes what is written to it.
var errGone = fmt.Errorf("write to the client: %w", context.Canceled)

// generate runs the sequences of a request and hands their tokens to emit, in order within a sequence; emit is called
// by several goroutines when there are several sequences, and ends the request by an error. It returns when all have
// ended: with the first error, after which the others were cancelled.
//
// At most Parallel of them are in the engine at once, so that a request of many prompts cannot fill the queue by
// itself. The choices of one prompt wait for the first token of the first: by then the prompt's blocks are in the
// cache, and it is computed once instead of n times.
func (s *Server) generate(ctx context.Context, w *response, all []sequence, emit func(i int, t *runtime.Token) error) ([]tally, error) {
	tallies := make([]tally, len(all))
	if len(all) == 1 {
		return tallies, s.run(ctx, w, &all[0], &tallies[0], nil, func(t *runtime.Token) error { return emit(0, t) })
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	places := make(chan struct{}, s.o.Parallel)
	computed := make(map[int]chan struct{})
	for i := range all {
		if all[i].lead {
			computed[all[i].prompt] = make(chan struct{})
		}
	}
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			var first func()
			if ready := computed[all[i].prompt]; all[i].lead {
				first = sync.OnceFunc(func() { close(ready) })
				defer first()
			} else {
				select {
				case <-ready:
				case <-ctx.Done():
					return
				}
			}
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			case <-ctx.Done():
				return
			}
			if err := s.run(ctx, w, &all[i], &tallies[i], first, func(t *runtime.Token) error { return emit(i, t) }); err != nil {
				cancel(err)
			}
		})
	}
	wait.Wait()
	return tallies, context.Cause(ctx)
}

// run runs one sequence to its end. first, if any, is called at its first token. A panic ends the sequence as an error:
// it may be on a goroutine of its own, where it would end the process, and a stream under way must say that it broke.
func (s *Server) run(ctx context.Context, w *response, q *sequence, to *tally, first func(), emit func(t *runtime.Token) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panics.Inc()
			err = fmt.Errorf("panic in a sequence: %v\n%s", p, debug.Stack())
		}
	}()
	var last time.Time
	for t, err := range s.o.Engine.Generate(ctx, q.Request) {
		if err != nil {
			return err
		}
		now := time.Now()
		if to.generated == 0 {
			to.first, to.cached = now, t.Cached
			s.metrics.firstToken.Observe(now.Sub(w.start).Seconds())
			if first != nil {
				first()
			}
		} else {
			s.metrics.nextToken.Observe(now.Sub(last).Seconds())
		}
		last = now
		to.generated++
		to.finish = t.Finish
		if err := emit(&t); err != nil {
			return err
		}
	}
	switch {
	case to.finish != "":
		s.metrics.sequence(q, to, last)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errors.New("BUG: the engine ended a sequence without a reason")
}

// count puts the sums of a request into its log line and returns them as usage: a prompt counts once, however many
// choices it has.
func count(w *response, all []sequence, tallies []tally) usage {
	var u usage
	for i := range all {
		if all[i].lead {
			u.prompt += len(all[i].Prompt)
			u.cached += tallies[i].cached
		}
		u.completion += tallies[i].generated
		if first := tallies[i].first; !first.IsZero() && (w.first == 0 || first.Sub(w.start) < w.first) {
			w.first = first.Sub(w.start)
		}
	}
	w.seq, w.prompt, w.cached, w.generated = len(all), u.prompt, u.cached, u.completion
	w.finish = string(tallies[0].finish)
	return u
}

// usage is OpenAI's usage object.
type usage struct{ prompt, completion, cached int }

func (u usage) append(b []byte) []byte {
	b = append(b, `{"prompt_tokens":`...)
	b = appendInt(b, u.prompt)
	b = append(b, `,"completion_tokens":`...)
	b = appendInt(b, u.completion)
	b = append(b, `,"total_tokens":`...)
	b = appendInt(b, u.prompt+u.completion)
	b = append(b, `,"prompt_tokens_details":{"cached_tokens":`...)
	b = appendInt(b, u.cached)
	return append(b, "}}"...)
}
