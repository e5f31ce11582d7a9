package kerneltest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/kernels"
)

// pick is a row of Choose: logits, and how a token is picked from them.
type pick struct {
	name   string
	logits []float32
	kernels.Choice
}

// testChoose holds tokens that a device picks against a plain way to pick them, and to be the same alone. A device that
// does not choose passes.
func testChoose(b *bench) {
	s, ok := b.stream.(kernels.Chooser)
	if !ok {
		return
	}
	sizes := []int{1, 33, 513, 12_000}
	if !testing.Short() {
		sizes = append(sizes, 2, 31, 512, 8*512+1, 128_256)
	}
	for _, vocab := range sizes {
		b.each(fmt.Sprintf("vocabulary of %d", vocab), func(name string, f frame) {
			large := vocab > 100_000 // they take long, and memory
			if large && f != packed {
				return
			}
			picks := b.picks(vocab)
			if large {
				picks = picks[:10]
			}
			ids := b.choose(s, f, picks)
			for i, p := range picks {
				if !p.allows(ids[i]) {
					b.Fatalf("%s, %s: chose %d, want %v (%+v)", name, p.name, ids[i], p.wanted(), p.Choice)
				}
			}
			for i, p := range picks {
				if i%6 != 0 {
					continue
				}
				if id := b.choose(s, f, []pick{p})[0]; id != ids[i] {
					b.Fatalf("%s, %s: chose %d alone and %d in company", name, p.name, id, ids[i])
				}
			}
		})
	}
	testFollow(b, s)
}

// choose has a device choose.
func (b *bench) choose(s kernels.Chooser, f frame, picks []pick) []int32 {
	b.Helper()
	used := b.used
	defer func() { b.used = used }()
	var logits []float32
	how := make([]int32, len(picks)*kernels.ChoiceWords)
	for i, p := range picks {
		logits = append(logits, p.logits...)
		p.Put(how[i*kernels.ChoiceWords:])
	}
	vocab := len(picks[0].logits)
	x := b.floats(f, len(picks), vocab, kernels.F32, logits)
	h := b.place(f, len(picks), kernels.ChoiceWords, kernels.I32, func(i int) uint32 { return uint32(how[i]) })
	y := b.blank(packed, len(picks), 1)
	y.Type = kernels.I32
	s.Choose(y.Mat, x.Mat, h.Mat)
	b.sync()
	var ids []int32
	for _, v := range b.read(y) {
		ids = append(ids, int32(math.Float32bits(v)))
	}
	return ids
}

// picks returns rows of every kind for a vocabulary.
func (b *bench) picks(vocab int) []pick {
	inf := float32(math.Inf(1))
	normal := func(spread float32) []float32 {
		x := b.normal(vocab)
		for i := range x {
			x[i] *= spread
		}
		return x
	}
	tied := func() []float32 { // integers: many of each, and zeros of both signs
		x := normal(2)
		for i := range x {
			x[i] = float32(math.RoundToEven(float64(x[i])))
		}
		return x
	}
	with := func(x []float32, at int, v float32) []float32 {
		x = slices.Clone(x)
		x[at%vocab] = v
		return x
	}
	all := kernels.Choice{Scale: 1, Low: -inf, TopP: 1}
	draw := func() uint64 { return b.rand.Uint64() >> 11 }
	var picks []pick
	add := func(name string, logits []float32, c kernels.Choice) { picks = append(picks, pick{name, logits, c}) }

	for _, c := range []kernels.Choice{{}, all} {
		c.Draw = draw()
		add("not a number", with(normal(1), vocab/2, float32(math.NaN())), c)
		add("infinite", with(normal(1), vocab-1, inf), c)
		add("nothing possible", slices.Repeat([]float32{-inf}, vocab), c)
		add("one possible", with(slices.Repeat([]float32{-inf}, vocab), 7*vocab/9, -3), c)
	}
	add("none", normal(1), kernels.NoChoice)
	add("none of what is not a number", with(normal(1), 0, float32(math.NaN())), kernels.NoChoice)
	add("greedy", normal(3), kernels.Choice{})
	add("greedy with ties", tied(), kernels.Choice{})
	add("greedy with equals", slices.Repeat([]float32{-2}, vocab), kernels.Choice{})
	for _, u := range []uint64{0, 1<<53 - 1} {
		for _, k := range []int{0, 3} {
			for _, p := range []float32{1, 0.6} {
				c := all
				c.TopK, c.TopP, c.Draw = k, p, u
				add("ends of the draw", normal(2), c)
			}
		}
	}
	for i := range 16 {
		c := all
		c.Draw = draw()
		logits, name := normal(3), "spread"
		switch i % 4 {
		case 1:
			logits, name = tied(), "tied"
		case 2:
			logits, name = normal(0.1), "flat"
		case 3:
			logits, name = slices.Repeat([]float32{1.5}, vocab), "equal"
		}
		c.Scale = []float32{1, 0.4, 2.5}[i%3]
		if i%2 == 1 {
			c.Low = -float32(b.rand.Float64() * 5)
			name += ", low"
		}
		if i/4%3 != 0 {
			c.TopK = []int{1, 5, 40, vocab / 2, vocab - 1, vocab, 1 << 40}[b.rand.IntN(7)]
			name += fmt.Sprintf(", top-k %d", c.TopK)
		}
		p := pick{name, logits, c}
		if i/8%2 != 0 {
			p.TopP = b.nucleus(p)
			p.name += fmt.Sprintf(", top-p %g", p.TopP)
		}
		picks = append(picks, p)
	}
	for i := range picks { // neighbours of other kinds
		j := b.rand.IntN(i + 1)
		picks[i], picks[j] = picks[j], picks[i]
	}
	return picks
}

// nucleus returns a top-p whose last token does not depend on rounding: it falls into the middle of that token's weight.
func (b *bench) nucleus(p pick) float32 {
	p.TopP = 1
	kept, weights := p.kept()
	var sum, total float64
	for _, id := range kept {
		total += weights[id]
	}
	n := 1 + b.rand.IntN(min(len(kept), 1+b.rand.IntN(len(kept))))
	for _, id := range kept[:n] {
		sum += weights[id]
	}
	return float32((sum - weights[kept[n-1]]/2) / total)
}

// kept returns the ids that may be picked, the likeliest first, and all weights, in float64.
func (p *pick) kept() (ids []int, weights []float64) {
	top := slices.Max(p.logits)
	low := top + p.Low // as the verb says, in F32
	weights = make([]float64, len(p.logits))
	for i, x := range p.logits {
		if x >= low {
			ids = append(ids, i)
			weights[i] = math.Exp(float64(x-top) * float64(p.Scale))
		}
	}
	slices.SortFunc(ids, func(i, j int) int {
		switch {
		case p.logits[i] > p.logits[j]:
			return -1
		case p.logits[i] < p.logits[j]:
			return 1
		}
		return i - j
	})
	if p.TopK > 0 {
		ids = ids[:min(p.TopK, len(ids))]
	}
	var total, sum float64
	for _, id := range ids {
		total += weights[id]
	}
	if p.TopP > 0 && p.TopP < 1 {
		for n, id := range ids {
			if sum += weights[id]; sum >= float64(p.TopP)*total {
				return ids[:n+1], weights
			}
		}
	}
	return ids, weights
}

// wanted returns the ids that may be picked: one, or two neighbours where the draw falls to the border between them.
func (p *pick) wanted() []int32 {
	possible := false
	for _, x := range p.logits {
		if x != x || float64(x) > math.MaxFloat32 {
			return []int32{-1}
		}
		possible = possible || float64(x) >= -math.MaxFloat32
	}
	if !possible || p.Scale < 0 {
		return []int32{-1}
	}
	if p.Scale == 0 {
		return []int32{int32(slices.Index(p.logits, slices.Max(p.logits)))}
	}
	ids, weights := p.kept()
	slices.Sort(ids)
	var total float64
	for _, id := range ids {
		total += weights[id]
	}
	const rounding = 2e-6 // of weights in F32
	u := float64(p.Draw) * 0x1p-53
	var wanted []int32
	var before float64
	for _, id := range ids {
		after := before + weights[id]/total
		if weights[id] > math.Exp(-87.5) && before-rounding <= u && u < after+rounding {
			wanted = append(wanted, int32(id))
		}
		before = after
	}
	return wanted
}

func (p *pick) allows(id int32) bool { return slices.Contains(p.wanted(), id) }

// testFollow holds that ids below 0 become those of the step before, and others stay.
func testFollow(b *bench, s kernels.Chooser) {
	for _, n := range []int{1, 5, 64, 300} {
		b.reset()
		chosen, ids, want := make([]int32, 70), make([]int32, n), make([]float32, n)
		for i := range chosen {
			chosen[i] = b.rand.Int32N(200_000) - 1
		}
		chosen[3] = -1
		for i := range ids {
			ids[i] = b.rand.Int32N(140) - 70
			v := ids[i]
			if v < 0 {
				v = max(0, chosen[-1-v])
			}
			want[i] = math.Float32frombits(uint32(v))
		}
		y := b.ints(ids)
		s.Follow(y.Mat, b.ints(chosen).Mat)
		b.sync()
		sameBits(b.T, fmt.Sprintf("Follow of %d ids", n), b.read(y), want)
	}
}
