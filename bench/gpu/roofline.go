package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"eckart/kernels"
	"eckart/layers"
)

// A kind is how the matrices of a product are stored.
type kind struct {
	name   string
	weight func(r *random, salt int64, m matrix) (layers.Weight, error)
}

var kinds = []kind{
	{dense, func(r *random, salt int64, m matrix) (layers.Weight, error) { return r.dense(salt, m.out, m.in), nil }},
	{"int8", func(r *random, salt int64, m matrix) (layers.Weight, error) { return r.grouped(salt, m.out, m.in, 8) }},
	{int4, func(r *random, salt int64, m matrix) (layers.Weight, error) { return r.grouped(salt, m.out, m.in, 4) }},
	{lowRank, func(r *random, salt int64, m matrix) (layers.Weight, error) { return r.lowRank(salt, m.out, m.in, 0.5) }},
	{"int4 + rank 64", residual},
}

// residual returns codes of 4 bits with a residual of rank 64, or what fits.
func residual(r *random, salt int64, m matrix) (layers.Weight, error) {
	base, err := r.grouped(salt, m.out, m.in, 4)
	if err != nil {
		return nil, err
	}
	share := 64 * float64(m.out+m.in) / float64(m.out) / float64(m.in)
	low, err := r.lowRank(salt, m.out, m.in, min(share, 0.5))
	if err != nil {
		return nil, err
	}
	return layers.NewSum(base, low)
}

// few is the most tokens of which a product is measured against the copy rate: beyond, arithmetic takes longer.
const few = 64

// Names of the groups of figures that goals are read from.
const (
	ceilings    = "Rates of the machine"
	productsFew = "Products of %s: GB/s, share of the copy rate"
	products    = "Products of %s: TFLOP/s, share of the largest product's"
	attends     = "Attention to a cache: GB/s, share of the copy rate"
)

// roofline measures kernels against what the machine reaches at best: the driver's copying, and our own largest product.
func roofline(s *session) error {
	if err := s.open(); err != nil {
		return err
	}
	r := newRandom()
	copied, err := s.copyRate()
	if err != nil {
		return err
	}
	if err := s.add(Figure{Group: ceilings, Row: "copy, bytes read and written", Column: "rate", Value: copied / 1e9, Unit: "GB/s"}); err != nil {
		return err
	}
	peak, err := s.largest(r)
	if err != nil {
		return err
	}
	var errs []error
	for _, k := range kinds {
		for _, m := range s.matrices {
			if k.name != dense && m.name == "head" {
				continue
			}
			tokens := s.grouped
			if k.name == dense {
				tokens = s.tokens
			}
			if err := s.products(r, k, m, tokens, copied, peak); err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", k.name, m.name, err))
			}
			if s.ctx.Err() != nil {
				return errors.Join(append(errs, s.ctx.Err())...)
			}
		}
	}
	for _, depth := range s.depths {
		for _, sequences := range []int{1, 16} {
			errs = append(errs, s.attends(depth, sequences, copied))
		}
	}
	return errors.Join(append(errs, s.attendPrompt(peak))...)
}

// largest measures a product that is large enough to hide everything but the arithmetic, and returns its FLOP/s.
func (s *session) largest(r *random) (float64, error) {
	m := matrix{"", s.peak, s.peak}
	p, err := s.product([]layers.Weight{r.dense(0, m.out, m.in)}, m, s.peak, r)
	if err != nil {
		return 0, err
	}
	for start := time.Now(); time.Since(start) < s.warm && err == nil; err = s.stream.Sync() {
		p.apply(0) // clocks rise with load
	}
	var t timing
	if err == nil {
		t, err = s.measure(2, p.apply)
	}
	if err := errors.Join(err, p.arena.Close()); err != nil {
		return 0, err
	}
	peak := 2 * float64(s.peak) * float64(s.peak) * float64(s.peak) / t.seconds
	return peak, s.add(Figure{
		Group: ceilings, Row: fmt.Sprintf("product of %d x %d x %d, bf16", s.peak, s.peak, s.peak), Column: "rate",
		Value: peak / 1e12, Unit: "TFLOP/s", Seconds: t.seconds, Spread: t.spread,
	})
}

// A product is matrices of one shape in the device's memory, what they are multiplied by, and the result.
type product struct {
	arena kernels.Arena
	pass  *layers.Pass
	all   []layers.Linear
	y, x  kernels.Mat
}

// apply multiplies by the matrices in turns.
func (p *product) apply(call int) { p.all[call%len(p.all)].Apply(p.pass, p.y, p.x, kernels.Set) }

// product brings matrices to the device.
func (s *session) product(ws []layers.Weight, m matrix, tokens int, r *random) (p *product, err error) {
	var count kernels.Counter
	for _, w := range ws {
		if _, err := w.Bind(&count, kernels.Discard{}); err != nil {
			return nil, err
		}
	}
	scratch := int64(tokens)*int64(m.out+m.in)*4 + 1<<20
	need := count.Used() + scratch + kernels.ArenaBytes(tokens, m.in, kernels.F32) + kernels.ArenaBytes(tokens, m.out, kernels.F32) + 1<<16
	p = &product{}
	if p.arena, err = s.arena(need); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.arena.Close())
		}
	}()
	for _, w := range ws {
		l, err := w.Bind(p.arena, s.stream)
		if err != nil {
			return nil, err
		}
		p.all = append(p.all, l)
	}
	if p.y, err = p.arena.Alloc(tokens, m.out, kernels.F32); err != nil {
		return nil, err
	}
	if p.x, err = p.arena.Alloc(tokens, m.in, kernels.F32); err != nil {
		return nil, err
	}
	memory, err := layers.NewScratch(p.arena, scratch)
	if err != nil {
		return nil, err
	}
	p.pass = layers.NewPass(s.stream, memory)
	return p, s.randomRows(p.x)
}

// randomRows fills an F32 matrix with normal numbers.
func (s *session) randomRows(x kernels.Mat) error {
	rng := rand.New(rand.NewPCG(5, 6))
	some := make([]float32, 1<<16-1)
	for i := range some {
		some[i] = float32(rng.NormFloat64())
	}
	values := make([]float32, x.Rows*x.Cols)
	for to := values; len(to) > 0; {
		to = to[copy(to, some):]
	}
	s.stream.Upload(x, kernels.Float32Bytes(values))
	return s.stream.Sync()
}

// products measures products by a matrix for some numbers of tokens.
func (s *session) products(r *random, k kind, m matrix, tokens []int, copied, peak float64) error {
	first, err := k.weight(r, 0, m)
	if err != nil {
		return err
	}
	var count kernels.Counter
	if _, err := first.Bind(&count, kernels.Discard{}); err != nil {
		return err
	}
	ws := []layers.Weight{first}
	for range s.copies(count.Used()) - 1 {
		w, err := k.weight(r, int64(1000003*len(ws)), m)
		if err != nil {
			return err
		}
		ws = append(ws, w)
	}
	// The matrices stay, what they are multiplied by changes: loading takes longer than measuring.
	most := tokens[len(tokens)-1]
	p, err := s.product(ws, m, most, r)
	if err != nil {
		return err
	}
	flops := 2 * float64(m.out) * float64(m.in) // of a token, and of the matrix that the kind stands for
	row := fmt.Sprintf("%s %dx%d", m.name, m.out, m.in)
	y, x := p.y, p.x
	for _, n := range tokens {
		p.y, p.x = y.Slice(0, n), x.Slice(0, n)
		weight := float64(p.all[0].Bytes())
		bytes := weight + float64(p.y.Bytes()+p.x.Bytes())
		if k.name != dense {
			flops = weight // two factors of bf16: a multiplication and an addition for two bytes of weight
			if k.name != lowRank {
				flops = 2 * float64(m.out) * float64(m.in)
			}
		}
		t, err := s.measure(s.calls(max(bytes/3e12, flops*float64(n)/4e14), len(p.all)), p.apply)
		if err != nil {
			return errors.Join(fmt.Errorf("%d tokens: %w", n, err), p.arena.Close())
		}
		f := Figure{Row: row, Column: fmt.Sprint(n), Seconds: t.seconds, Spread: t.spread}
		if n <= few {
			f.Group, f.Value, f.Unit = fmt.Sprintf(productsFew, k.name), bytes/t.seconds/1e9, "GB/s"
			f.Share = bytes / t.seconds / copied
		} else {
			f.Group, f.Value, f.Unit = fmt.Sprintf(products, k.name), flops*float64(n)/t.seconds/1e12, "TFLOP/s"
			f.Share = flops * float64(n) / t.seconds / peak
		}
		if err := s.add(f); err != nil {
			return errors.Join(err, p.arena.Close())
		}
	}
	return p.arena.Close()
}

// An attention is a cache of one layer, and rows that attend to it.
type attention struct {
	arena     kernels.Arena
	stream    kernels.Stream
	y, q      kernels.Mat
	kv        kernels.Pages
	seqs      []kernels.Seqs // in turns
	attention kernels.Attention
}

func (a *attention) apply(call int) {
	a.stream.Attend(a.y, a.q, a.kv, a.seqs[call%len(a.seqs)], a.attention)
}

// attention makes a cache of F16 with so many sequences of depth tokens, the last rows of which attend; cold has several
// sets of sequences that take turns, so that none is in the second-level cache.
func (s *session) attention(depth, sequences, rows int, cold bool) (a *attention, err error) {
	h := s.attend
	blocks := (depth + blockTokens - 1) / blockTokens // of a sequence
	sets := 1
	if cold {
		sets = s.copies(int64(sequences*blocks*blockTokens*h.keyHeads*h.dim) * 4)
	}
	all := sets * sequences * blocks
	wide := h.keyHeads * blockTokens * h.dim
	need := 2*kernels.ArenaBytes(all, wide, kernels.F16) + 2*kernels.ArenaBytes(sequences*rows, h.heads*h.dim, kernels.F32) +
		int64(sets)*kernels.ArenaBytes(sequences, blocks, kernels.I32) + 1<<16
	a = &attention{stream: s.stream, attention: kernels.Attention{Heads: h.heads, Scale: 1 / 8.}}
	if a.arena, err = s.arena(need); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.arena.Close())
		}
	}()
	alloc := func(rows, cols int, t kernels.DType) (m kernels.Mat) {
		if err == nil {
			m, err = a.arena.Alloc(rows, cols, t)
		}
		return m
	}
	a.kv = kernels.Pages{K: alloc(all, wide, kernels.F16), V: alloc(all, wide, kernels.F16), Heads: h.keyHeads, KeyDim: h.dim, ValueDim: h.dim, BlockTokens: blockTokens}
	a.y, a.q = alloc(sequences*rows, h.heads*h.dim, kernels.F32), alloc(sequences*rows, h.heads*h.dim, kernels.F32)
	starts, from := alloc(sequences+1, 1, kernels.I32), alloc(sequences, 1, kernels.I32)
	tables := make([]kernels.Mat, sets)
	for i := range tables {
		tables[i] = alloc(sequences, blocks, kernels.I32)
	}
	if err != nil {
		return nil, err
	}
	n := floats(kernels.F16)
	buf := make([]byte, a.kv.K.Slice(0, 1).Bytes()*int64(min(all, 256)))
	for i, m := range []kernels.Mat{a.kv.K, a.kv.V} {
		for row := 0; row < all; row += 256 {
			part := m.Slice(row, min(256, all-row))
			n.fill(buf[:part.Bytes()], int64(2*(i+row)*wide))
			s.stream.Upload(part, buf[:part.Bytes()])
			if err := s.stream.Sync(); err != nil {
				return nil, err
			}
		}
	}
	at, before := make([]int32, sequences+1), make([]int32, sequences)
	for i := range sequences {
		at[i+1], before[i] = int32((i+1)*rows), int32(depth-rows)
	}
	s.stream.Upload(starts, kernels.Int32Bytes(at))
	s.stream.Upload(from, kernels.Int32Bytes(before))
	order := rand.New(rand.NewPCG(7, 8)).Perm(all) // as blocks lie when sequences have come and gone
	table := make([]int32, sequences*blocks)
	for set, m := range tables {
		for i := range table {
			table[i] = int32(order[set*len(table)+i])
		}
		s.stream.Upload(m, kernels.Int32Bytes(table))
		if err := s.stream.Sync(); err != nil {
			return nil, err
		}
		a.seqs = append(a.seqs, kernels.Seqs{Count: sequences, Rows: starts, From: from, Blocks: m})
	}
	return a, s.randomRows(a.q)
}

// attends measures a token of each of some sequences that attends to depth of them.
func (s *session) attends(depth, sequences int, copied float64) error {
	a, err := s.attention(depth, sequences, 1, true)
	if err != nil {
		return err
	}
	bytes := float64(4 * depth * sequences * s.attend.keyHeads * s.attend.dim)
	t, err := s.measure(s.calls(bytes/3e12, len(a.seqs)), a.apply)
	if err := errors.Join(err, a.arena.Close()); err != nil {
		return err
	}
	return s.add(Figure{
		Group: attends, Row: fmt.Sprintf("%d sequences", sequences), Column: fmt.Sprintf("%d deep", depth),
		Value: bytes / t.seconds / 1e9, Unit: "GB/s", Seconds: t.seconds, Spread: t.spread, Share: bytes / t.seconds / copied,
	})
}

// attendPrompt measures a prompt that attends to itself.
func (s *session) attendPrompt(peak float64) error {
	n := s.prompt
	a, err := s.attention(n, 1, n, false)
	if err != nil {
		return err
	}
	flops := 2 * float64(n) * float64(n+1) * float64(s.attend.heads*s.attend.dim) // of pairs of a query and a key before it
	t, err := s.measure(s.calls(flops/2e14, 1), a.apply)
	if err := errors.Join(err, a.arena.Close()); err != nil {
		return err
	}
	return s.add(Figure{
		Group: "Attention of a prompt: TFLOP/s, share of the largest product's", Row: fmt.Sprintf("%d heads of %d", s.attend.heads, s.attend.dim),
		Column: fmt.Sprintf("%d tokens", n), Value: flops / t.seconds / 1e12, Unit: "TFLOP/s", Seconds: t.seconds, Spread: t.spread, Share: flops / t.seconds / peak,
	})
}
