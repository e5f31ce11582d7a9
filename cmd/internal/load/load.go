// Package load measures a server that speaks OpenAI's API from outside, as its clients see it: it owns the requests, when
// they are sent, and what their times are summed up to. The server may be anybody's.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Level is a load on the server: so many clients, each of which sends its next request when it has the answer to the
// last one; or, where Rate is set, requests that arrive at random with that mean rate a second, answered or not.
type Level struct {
	Clients int
	Rate    float64
}

// String names the level, as "4 clients" or "2.5/s".
func (l Level) String() string {
	switch {
	case l.Rate > 0:
		return fmt.Sprintf("%g/s", l.Rate)
	case l.Clients == 1:
		return "1 client"
	}
	return fmt.Sprintf("%d clients", l.Clients)
}

// Options say what to ask the server for.
type Options struct {
	Client    Client
	Levels    []Level
	Input     int           // tokens of a prompt, as nearly as words allow
	Output    int           // tokens of an answer
	Requests  int           // of a level; 0 for 4 of each client, and at least 16
	Duration  time.Duration // for which a level sends requests; 0 for until there are Requests
	Seed      uint64        // of prompts and arrivals
	Progress  io.Writer     // terminal for a line on how far it is; nil for none
	IgnoreEOS bool          // answers have all their tokens, where the server knows ignore_eos
}

// Run puts each level on the server in turn. On an error it returns the results until then too.
func Run(ctx context.Context, o Options) ([]Result, error) {
	random := rand.New(rand.NewPCG(o.Seed, 0))
	words, err := o.calibrate(ctx, random)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, l := range o.Levels {
		r, err := o.level(ctx, l, words, random)
		if o.Progress != nil {
			fmt.Fprint(o.Progress, "\r\x1b[K")
		}
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

// level runs one level.
func (o *Options) level(ctx context.Context, l Level, words int, random *rand.Rand) (Result, error) {
	var mu sync.Mutex // over records and random
	var records []Record
	send := func() {
		mu.Lock()
		prompt := prompt(random, words)
		mu.Unlock()
		r := o.Client.Send(ctx, Request{Prompt: prompt, Tokens: o.Output, IgnoreEOS: o.IgnoreEOS})
		if r.Input == 0 {
			r.Input = o.Input
		}
		mu.Lock()
		defer mu.Unlock()
		records = append(records, r)
		if o.Progress != nil {
			fmt.Fprintf(o.Progress, "\r%v: %d done\x1b[K", l, len(records))
		}
	}
	start := time.Now()
	requests := o.Requests
	if requests == 0 {
		requests = max(16, 4*l.Clients)
	}
	if l.Rate > 0 {
		if o.Duration > 0 {
			requests = max(1, int(l.Rate*o.Duration.Seconds()))
		}
		open(ctx, arrivals(random, requests, l.Rate), send)
	} else {
		o.closed(ctx, l.Clients, requests, send)
	}
	took := time.Since(start)
	if ctx.Err() != nil {
		return Result{}, errors.New("interrupted")
	}
	return Summarize(l, took, records), nil
}

// closed lets clients send one request after the other, so many in all, or as long as Duration says.
func (o *Options) closed(ctx context.Context, clients, requests int, send func()) {
	start := time.Now()
	var sent atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				n := int(sent.Add(1))
				if o.Duration > 0 && time.Since(start) >= o.Duration || o.Duration == 0 && n > requests {
					return
				}
				send()
			}
		})
	}
	all.Wait()
}

// open sends requests at their times after the start, and waits for all answers.
func open(ctx context.Context, at []time.Duration, send func()) {
	start := time.Now()
	var all sync.WaitGroup
	for _, d := range at {
		select {
		case <-time.After(d - time.Since(start)):
			all.Go(send)
		case <-ctx.Done():
		}
	}
	all.Wait()
}

// arrivals returns when n requests arrive: the gaps between them are exponential, a Poisson process, and scaled so that
// the last one arrives after n/rate seconds, as in vLLM's benchmark.
func arrivals(random *rand.Rand, n int, rate float64) []time.Duration {
	at, sum := make([]float64, n), 0.0
	for i := range at {
		sum += random.ExpFloat64()
		at[i] = sum
	}
	times := make([]time.Duration, n)
	for i, a := range at {
		times[i] = time.Duration(a / sum * float64(n) / rate * float64(time.Second))
	}
	return times
}
