package kerneltest

import (
	"fmt"
	"slices"

	"eckart/kernels"
)

// layer is what a step of a model does, with most verbs in it: two sequences of two tokens each go through a layer of
// attention and one of products, and what comes out is added up.
type layer struct {
	ids, pos, slots, rows, from, blocks, picked kernels.Mat // inputs of a step

	table, gain, freqs, query, key, value, out, bias, cols kernels.Mat // weights
	packed                                                 kernels.Grouped
	x, n, q, k, v, y, angles, up, act, few, sum            kernels.Mat // activations
	kv                                                     kernels.Pages
}

const (
	layerTokens    = 4
	layerSequences = 2
	layerWidth     = 48
	layerHeads     = 2
	layerDim       = 16
	layerBlock     = 4 // tokens
	layerSteps     = 3
)

func (b *bench) layer() *layer {
	zeros := func(rows, cols int) kernels.Mat {
		return b.floats(packed, rows, cols, kernels.F32, make([]float32, rows*cols)).Mat
	}
	weight := func(rows, cols int, t kernels.DType) kernels.Mat {
		return b.floats(packed, rows, cols, t, b.normal(rows*cols)).Mat
	}
	ints := func(n int) kernels.Mat { return b.ints(make([]int32, n)).Mat }
	const blocks = layerSequences * (layerTokens/layerSequences*layerSteps + layerBlock - 1) / layerBlock
	l := &layer{
		ids: ints(layerTokens), pos: ints(layerTokens), slots: ints(layerTokens), picked: ints(2),
		rows: ints(layerSequences + 1), from: ints(layerSequences),
		blocks: b.place(packed, layerSequences, 2, kernels.I32, func(i int) uint32 { return uint32(i) }).Mat,
		table:  weight(7, layerWidth, kernels.F16), gain: weight(1, layerWidth, kernels.F32), freqs: weight(1, layerDim/2, kernels.F32),
		query: weight(layerHeads*layerDim, layerWidth, kernels.BF16), key: weight(layerDim, layerWidth, kernels.F32),
		value: weight(layerDim, layerWidth, kernels.F16), out: weight(layerWidth, layerHeads*layerDim, kernels.BF16),
		bias: weight(1, layerDim, kernels.F32),
		x:    zeros(layerTokens, layerWidth), n: zeros(layerTokens, layerWidth), q: zeros(layerTokens, layerHeads*layerDim),
		k: zeros(layerTokens, layerDim), v: zeros(layerTokens, layerDim), y: zeros(layerTokens, layerHeads*layerDim),
		angles: zeros(layerTokens, layerDim), up: zeros(layerTokens, 2*layerWidth), act: zeros(layerTokens, layerWidth),
		few: zeros(2, layerWidth), sum: zeros(2, layerWidth+5),
	}
	l.cols = b.place(packed, 1, layerWidth, kernels.I32, func(i int) uint32 { return uint32(layerWidth + 4 - i) }).Mat
	l.packed = b.pack(b.quantized(grouped{layerTokens, 2 * layerWidth, layerWidth, 4, 32, kernels.F16, true, false}), 2*layerWidth)
	l.kv = kernels.Pages{Heads: 1, KeyDim: layerDim, ValueDim: layerDim, BlockTokens: layerBlock}
	l.kv.K = b.floats(packed, blocks+2, layerBlock*layerDim, kernels.F16, make([]float32, (blocks+2)*layerBlock*layerDim)).Mat
	l.kv.V = b.floats(packed, blocks+2, layerBlock*layerDim, kernels.F16, make([]float32, (blocks+2)*layerBlock*layerDim)).Mat
	return l
}

// set uploads the inputs of a step. Each sequence has two blocks of its own.
func (l *layer) set(b *bench, step int) {
	const each = layerTokens / layerSequences
	var ids, pos, slots []int32
	for i := range layerTokens {
		at := each*step + i%each
		ids = append(ids, int32((i*3+step*5)%7))
		pos = append(pos, int32(at))
		slots = append(slots, int32((i/each*2+at/layerBlock)*layerBlock+at%layerBlock))
	}
	for _, u := range []struct {
		to kernels.Mat
		v  []int32
	}{
		{l.ids, ids},
		{l.pos, pos},
		{l.slots, slots},
		{l.rows, []int32{0, each, layerTokens}},
		{l.from, []int32{int32(each * step), int32(each * step)}},
		{l.picked, []int32{int32(step % layerTokens), 3}},
	} {
		b.Upload(u.to, kernels.Int32Bytes(u.v))
	}
	b.sync()
}

// run calls the verbs of a step on s.
func (l *layer) run(s kernels.Stream) {
	s.Embed(l.x, l.table, l.ids)
	s.RMSNorm(l.n, l.x, l.gain, 1e-5)
	s.MatMul(l.q, l.n, l.query, kernels.Set)
	s.MatMul(l.k, l.n, l.key, kernels.Set)
	s.MatMul(l.v, l.n, l.value, kernels.Set)
	s.Bias(l.v, l.bias)
	s.Angles(l.angles, l.pos, l.freqs, 1)
	s.Rotate(l.q, l.angles, layerHeads)
	s.Rotate(l.k, l.angles, 1)
	s.Store(l.kv, l.k, l.v, l.slots)
	s.Attend(l.y, l.q, l.kv, kernels.Seqs{Count: layerSequences, Rows: l.rows, From: l.from, Blocks: l.blocks},
		kernels.Attention{Heads: layerHeads, Scale: 0.25})
	s.MatMul(l.x, l.y, l.out, kernels.Add)
	s.GroupedMatMul(l.up, l.x, l.packed, kernels.Set)
	s.SwiGLU(l.act, l.up.Window(0, layerWidth), l.up.Window(layerWidth, layerWidth))
	s.Gather(l.few, l.act, l.picked)
	s.Scatter(l.sum, l.few, l.cols, kernels.Add)
}

// testRecord holds that a program gives the bits that its verbs give when they are called: in steps whose inputs change,
// on a cache that grows, and in runs that nobody waits for in between. A device that records nothing passes.
func testRecord(b *bench) {
	r, ok := b.stream.(kernels.Recorder)
	if !ok {
		return
	}
	l := b.layer()
	forget := func() {
		for _, m := range []kernels.Mat{l.kv.K, l.kv.V, l.sum} {
			b.Upload(m, make([]byte, m.Bytes()))
		}
		b.sync()
	}
	sum := func() []float32 {
		v := make([]float32, l.sum.Rows*l.sum.Cols)
		b.Download(kernels.Float32Bytes(v), l.sum)
		b.sync()
		return v
	}
	const repeats = 3
	steps := func(run func(), times int) (sums [][]float32) {
		forget()
		for step := range layerSteps {
			l.set(b, step)
			for range times {
				run()
			}
			sums = append(sums, sum())
		}
		return sums
	}
	want := steps(func() { l.run(b.Stream) }, 1)
	repeated := steps(func() { l.run(b.Stream) }, repeats)
	if slices.Equal(want[0], want[1]) || slices.Equal(want[2], repeated[2]) {
		b.Fatal("steps do not differ: the test shows nothing")
	}
	before := sum()
	p, err := r.Record(func() { l.run(b.stream) })
	if err != nil {
		b.Fatal(err)
	}
	sameBits(b.T, "sum after recording", sum(), before)
	for round := range 2 {
		for step, got := range steps(p.Run, 1) {
			sameBits(b.T, fmt.Sprintf("round %d, step %d", round, step), got, want[step])
		}
	}
	for step, got := range steps(p.Run, repeats) {
		sameBits(b.T, fmt.Sprintf("step %d, run %d times", step, repeats), got, repeated[step])
	}
	if err := p.Close(); err != nil {
		b.Error(err)
	}
}
