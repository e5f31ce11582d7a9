package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/model"
)

// Names of the groups of figures of whole steps.
const (
	decodes  = "Steps: ms, share of the copy rate that weights and cache are read at"
	prefills = "Prompts: TFLOP/s of all products and of attention, from the beginning of the step to its end"
	around   = "Around steps"
)

// Names of the shares of the time in which the device runs no program: of steps that run ahead, and of such as wait for
// the one before.
const (
	idle      = "% idle"
	idleAlone = "% idle, not ahead"
)

// steps measures whole steps of models whose weights are noise, for each kind of weight, as a server runs them: inputs are
// uploaded, the step is a recorded program where it only generates, which ends with the choice of the likeliest tokens, and it
// is waited for when the one after it has been started.
func steps(s *session) error {
	if err := s.open(); err != nil {
		return err
	}
	copied, err := s.copyRate()
	if err != nil {
		return err
	}
	if err := s.add(Figure{Group: ceilings, Row: "copy, bytes read and written, before steps", Column: "rate", Value: copied / 1e9, Unit: "GB/s"}); err != nil {
		return err
	}
	r, cache := newRandom(), floats(kernels.F16)
	var errs []error
	for _, m := range s.models {
		for _, kind := range []string{dense, lowRank, int4} {
			if err := s.stepsOf(r.source(m, kind), cache, copied); err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", m.name, kind, err))
			}
			if s.ctx.Err() != nil {
				return errors.Join(append(errs, s.ctx.Err())...)
			}
		}
	}
	return errors.Join(errs...)
}

// room is how many tokens a sequence has in the cache beyond those it begins with.
func (s *session) room() int { return max((s.samples+1)*s.steps, s.timeline) }

// stepsOf measures the steps of one model.
func (s *session) stepsOf(src *source, cache noise, copied float64) (err error) {
	sequences := slices.Max(s.batches)
	tokens := max(sequences*(s.near+s.room()+blockTokens), s.far+s.room()+blockTokens, s.prefill+blockTokens)
	b, err := bind(s.device, s.stream, src, tokens)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	row := src.name + ", " + src.kind
	if err := errors.Join(
		s.add(Figure{Group: around, Row: row, Column: "GB of weights", Value: float64(b.weights) / 1e9}),
		s.add(Figure{Group: around, Row: row, Column: "s to load", Value: b.loading.Seconds()}),
		b.fill(cache),
	); err != nil {
		return err
	}
	d := &decoding{session: s, bound: b, source: src, row: row, copied: copied}
	var errs []error
	for _, n := range s.batches {
		errs = append(errs, d.measure(n, s.near, fmt.Sprintf("batch %d", n)))
	}
	if src.kind == dense {
		errs = append(errs, d.measure(1, s.far, fmt.Sprintf("batch 1, %d deep", s.far)))
	}
	return errors.Join(append(errs, d.prompt())...)
}

// decoding measures the steps of a bound model.
type decoding struct {
	*session
	*bound
	source *source
	row    string
	copied float64
}

// limits of steps of n sequences that reach so many tokens.
func (d *decoding) limits(rows, n, tokens int) model.Limits {
	return model.Limits{Rows: rows, Seqs: n, Samples: n, Blocks: d.cache.BlocksFor(tokens), BlockTokens: blockTokens}
}

// measure times steps of one token of each of n sequences, which have depth tokens in the cache; of one sequence also how
// long the device waits for the host, and how many kernels a layer takes.
func (d *decoding) measure(n, depth int, column string) error {
	trace := &trace{}
	if n == 1 {
		d.launch = trace.see
	}
	defer func() { d.launch = nil }()
	most := depth + d.room()
	return d.within(d.limits(n, n, most), func(batch *model.Batch) error {
		d.launch = nil
		g := &generating{decoder: d.decoder, batch: batch, tables: make([][]int32, n), at: depth}
		for i := range g.tables {
			var err error
			if g.tables[i], err = d.table(i, most); err != nil {
				return err
			}
		}
		var samples []time.Duration
		for turn := range d.samples + 1 {
			took, err := g.run(d.ctx, d.steps, true)
			if err != nil {
				return err
			}
			if turn > 0 {
				samples = append(samples, took)
			}
		}
		t := median(samples, d.steps)
		bytes := float64(d.decoder.ReadBytes() + int64(n)*d.depthBytes(depth+(d.samples+1)*d.steps/2))
		if err := d.add(Figure{
			Group: decodes, Row: d.row, Column: column, Value: t.seconds * 1e3, Unit: "ms", Seconds: t.seconds, Spread: t.spread,
			Share: bytes / t.seconds / d.copied,
		}); err != nil || n > 1 || depth != d.near {
			return err
		}
		for _, way := range []struct {
			column string
			ahead  bool
		}{{idle, true}, {idleAlone, false}} {
			g.at = depth
			share, err := d.idle(g, way.ahead)
			if err != nil {
				return err
			}
			if err := d.add(Figure{Group: around, Row: d.row, Column: way.column, Value: 100 * share}); err != nil {
				return err
			}
		}
		launches, kernels := trace.layer(d.source.layers)
		line := fmt.Sprintf("%s: a layer of a step at batch 1 is %s", d.row, kernels)
		if d.result.Log = append(d.result.Log, line); d.source.name == d.models[0].name {
			d.note("%s", line)
		}
		return d.add(Figure{Group: around, Row: d.row, Column: "launches a layer", Value: float64(launches)})
	})
}

// idle returns the share of the time of a row of steps in which the device runs no program.
func (d *decoding) idle(g *generating, ahead bool) (float64, error) {
	d.programs = d.programs[:0]
	wall, err := g.run(d.ctx, d.timeline, ahead)
	if err != nil {
		return 0, err
	}
	if len(d.programs) != d.timeline {
		return 0, fmt.Errorf("%d of %d steps ran as a program", len(d.programs), d.timeline)
	}
	var busy time.Duration
	for _, p := range d.programs {
		busy += p
	}
	return 1 - busy.Seconds()/wall.Seconds(), nil
}

// depthBytes returns the bytes of the cache that a sequence of so many tokens reads in a step.
func (d *decoding) depthBytes(tokens int) int64 {
	m := d.source.shape
	return int64(m.layers) * int64(tokens) * int64(m.keys) * int64(m.width) * 4
}

// prompt times a step of a whole prompt, with the logits of its last token.
func (d *decoding) prompt() error {
	n := d.prefill
	table, err := d.table(0, n)
	if err != nil {
		return err
	}
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i * 31 % d.source.vocab)
	}
	return d.within(d.limits(n, 1, n), func(batch *model.Batch) error {
		var samples []time.Duration
		for turn := range d.samples + 1 {
			start := time.Now()
			batch.Reset()
			batch.Add(ids, 0, table, []int{n - 1})
			if _, err := d.decoder.Forward(batch); err != nil {
				return err
			}
			if turn > 0 {
				samples = append(samples, time.Since(start))
			}
			if err := d.ctx.Err(); err != nil {
				return err
			}
		}
		t := median(samples, 1)
		return errors.Join(
			d.add(Figure{
				Group: prefills, Row: d.row, Column: fmt.Sprintf("%d tokens", n), Value: d.flops(n) / t.seconds / 1e12, Unit: "TFLOP/s",
				Seconds: t.seconds, Spread: t.spread,
			}),
			d.add(Figure{Group: prefills, Row: d.row, Column: "tokens a second", Value: float64(n) / t.seconds}),
		)
	})
}

// flops returns the operations of a prompt of n tokens: of the matrices that the weights stand for, or of the factors where
// they are of low rank, and of attention.
func (d *decoding) flops(n int) float64 {
	m := d.source.shape
	var elements float64
	for name, dims := range d.source.dims {
		if !strings.HasPrefix(name, "model.layers.") {
			continue // a row is looked up, and one row gets logits
		}
		share := 1.
		if d.source.kind == lowRank {
			share = 0.5
		}
		elements += share * float64(dims[0]) * float64(dims[1])
	}
	pairs := float64(n) * float64(n+1) / 2
	return 2*elements*float64(n) + 4*pairs*float64(m.layers*m.heads*m.width)
}

// A trace sees the kernels of steps as they are recorded.
type trace struct{ names []string }

func (t *trace) see(l cuda.Launch) { t.names = append(t.names, l.Kernel) }

// layer returns how many kernels a layer of a step takes, and their names: the longest stretch that comes again right after
// itself and is no longer than layers can be.
func (t *trace) layer(layers int) (launches int, kernels string) {
	for n := len(t.names) / layers; n > 0; n-- {
		for at := 0; at+2*n <= len(t.names); at++ {
			if slices.Equal(t.names[at:at+n], t.names[at+n:at+2*n]) {
				return n, strings.Join(t.names[at:at+n], " ")
			}
		}
	}
	return len(t.names), strings.Join(t.names, " ")
}
