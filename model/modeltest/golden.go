// Package modeltest runs decoders on a device against golden files: activations and replies of a reference
// implementation for small checkpoints (scripts/golden makes them).
package modeltest

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
	"eckart/model/checkpoint"
)

// Bound is the largest difference allowed between a value and the reference, both computed in F32 from F32 weights in
// different orders.
const Bound = 2e-4

const blockTokens = 16

// A Model is a small checkpoint loaded for tests, with a cache of one sequence.
type Model struct {
	*model.Decoder
	Batch  *model.Batch
	Blocks []int32 // block table of the one sequence
}

// Load loads the checkpoint in dir on dev with a cache of the given type for one sequence of the trained context.
func Load(t testing.TB, dev kernels.Device, dir string, cache kernels.DType) *Model {
	t.Helper()
	return LoadSource(t, dev, OpenSource(t, dir), cache)
}

// LoadSource is Load for a source.
func LoadSource(t testing.TB, dev kernels.Device, src model.Source, cache kernels.DType) *Model {
	t.Helper()
	s := must(dev.NewStream())(t)
	fp := must(model.Measure(src, limits(src, t)))(t)
	weights := arena(t, dev, fp.Weights)
	d := must(model.Load(src, weights, s, nil))(t)
	if weights.Used() != fp.Weights {
		t.Errorf("weights take %d bytes, measured %d", weights.Used(), fp.Weights)
	}
	l := limits(src, t)
	var pages []kernels.Pages
	kv := arena(t, dev, kvBytes(fp, l, cache))
	for _, spec := range fp.Specs {
		pages = append(pages, kernels.Pages{
			K:     must(kv.Alloc(l.Blocks, spec.Heads*blockTokens*spec.KeyDim, cache))(t),
			V:     must(kv.Alloc(l.Blocks, spec.Heads*blockTokens*spec.ValueDim, cache))(t),
			Heads: spec.Heads, KeyDim: spec.KeyDim, ValueDim: spec.ValueDim, BlockTokens: blockTokens,
		})
	}
	workspace := arena(t, dev, fp.Workspace)
	b := must(d.NewBatch(workspace, s, func(i int) kernels.Pages { return pages[i] }, l))(t)
	if workspace.Used() != fp.Workspace {
		t.Errorf("workspace takes %d bytes, measured %d", workspace.Used(), fp.Workspace)
	}
	m := &Model{Decoder: d, Batch: b}
	for i := range l.Blocks { // not in order of address, as in a cache in use
		m.Blocks = append(m.Blocks, int32(l.Blocks-1-i))
	}
	return m
}

func limits(src model.Source, t testing.TB) model.Limits {
	c := must(model.ParseConfig(src.Config()))(t)
	blocks := (c.MaxPositions + blockTokens - 1) / blockTokens
	rows := min(c.MaxPositions, 64)
	return model.Limits{Rows: rows, Seqs: 1, Samples: rows, Blocks: blocks, BlockTokens: blockTokens}
}

func kvBytes(fp model.Footprint, l model.Limits, t kernels.DType) int64 {
	var count kernels.Counter
	for _, s := range fp.Specs {
		_, _ = count.Alloc(l.Blocks, s.Heads*blockTokens*s.KeyDim, t)
		_, _ = count.Alloc(l.Blocks, s.Heads*blockTokens*s.ValueDim, t)
	}
	return count.Used()
}

func arena(t testing.TB, dev kernels.Device, bytes int64) kernels.Arena {
	a := must(dev.NewArena(bytes))(t)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// OpenSource opens the checkpoint in dir until the test ends.
func OpenSource(t testing.TB, dir string) model.Source {
	c := must(checkpoint.Open(dir))(t)
	t.Cleanup(func() { _ = c.Close() })
	return must(model.NewSource(c))(t)
}

// must passes a value on and ends the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Logits runs tokens at positions from on and returns the logits of every one: (tokens, vocab).
func (m *Model) Logits(t testing.TB, tokens []int32, from int) [][]float32 {
	t.Helper()
	m.Batch.Reset()
	all := make([]int, len(tokens))
	for i := range all {
		all[i] = i
	}
	m.Batch.Add(tokens, from, m.Blocks, all)
	y := must(m.Forward(m.Batch))(t)
	var out [][]float32
	for i := range y.Rows {
		out = append(out, slices.Clone(y.Float32s(i)))
	}
	return out
}

// A golden is what golden.safetensors holds.
type golden struct {
	ids, greedy []int32
	logits      []float32 // (ids, vocab)
	margin      []float32 // per greedy id: top-1 minus top-2 logit
	hidden      [][]float32
}

func readGolden(t testing.TB, dir string) golden {
	f := must(checkpoint.Open(filepath.Join(dir, "golden.safetensors")))(t)
	defer f.Close()
	read := func(name string) []byte {
		tensor, ok := f.Tensor(name)
		if !ok {
			t.Fatalf("%s/golden.safetensors has no %s", dir, name)
		}
		raw := make([]byte, tensor.Bytes())
		if err := f.ReadAt(raw, tensor, 0); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	floats := func(name string) []float32 { return layers.Float32s(read(name), kernels.F32) }
	ids := func(name string) []int32 {
		raw := read(name)
		out := make([]int32, len(raw)/4)
		for i := range out {
			out[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		return out
	}
	g := golden{ids: ids("ids"), greedy: ids("greedy"), logits: floats("logits"), margin: floats("greedy_margin")}
	for i := 0; ; i++ {
		if _, ok := f.Tensor("hidden." + strconv.Itoa(i)); !ok {
			return g
		}
		g.hidden = append(g.hidden, floats("hidden."+strconv.Itoa(i)))
	}
}

// RunGolden compares the model in dir with its golden file at every block, for the logits and for a greedy reply, with
// the prompt in one piece and in pieces.
func RunGolden(t *testing.T, dev kernels.Device, dir string) {
	g := readGolden(t, dir)
	m := Load(t, dev, dir, kernels.F32)
	vocab := m.Config().Vocab

	names := []string{"model.embed_tokens"}
	for i := range m.Config().Layers - 1 {
		names = append(names, "model.layers."+strconv.Itoa(i))
	}
	names = append(names, "model.norm")
	if len(names) != len(g.hidden) {
		t.Fatalf("golden has %d hidden states, want %d", len(g.hidden), len(names))
	}
	m.Batch.SetProbe(func(name string, v kernels.Mat) {
		i := slices.Index(names, name)
		if i < 0 || t.Failed() {
			return // stop at the first name that differs
		}
		for r := range v.Rows {
			compare(t, name+" row "+strconv.Itoa(r), v.Float32s(r), g.hidden[i][r*v.Cols:(r+1)*v.Cols])
		}
	})
	logits := m.Logits(t, g.ids, 0)
	for r, row := range logits {
		compare(t, "logits row "+strconv.Itoa(r), row, g.logits[r*vocab:(r+1)*vocab])
	}
	m.Batch.SetProbe(nil)
	if t.Failed() {
		return
	}

	for from, n := 0, 1; from < len(g.ids); from, n = from+n, n+3 {
		n = min(n, len(g.ids)-from)
		for r, row := range m.Logits(t, g.ids[from:from+n], from) {
			for j, v := range row {
				if v != logits[from+r][j] {
					t.Fatalf("prompt in pieces: row %d logit %d is %g, in one piece %g", from+r, j, v, logits[from+r][j])
				}
			}
		}
	}

	prompt := len(g.ids) - 16 // the reference continues the first 24 of 40 ids
	next := argmax(logits[prompt-1])
	for i, want := range g.greedy {
		if next != want {
			if g.margin[i] > 2*Bound {
				t.Fatalf("greedy id %d is %d, want %d (margin %g)", i, next, want, g.margin[i])
			}
			return // a tie within the bound: what follows may differ
		}
		next = argmax(m.Logits(t, []int32{next}, prompt+i)[0])
	}
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	worst, at := 0.0, 0
	for i, v := range want {
		d := math.Abs(float64(got[i] - v))
		if !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= Bound) {
		t.Fatalf("%s: element %d is %g, want %g: off by %g, bound %g", what, at, got[at], want[at], worst, Bound)
	}
}

func argmax(v []float32) int32 {
	best := 0
	for i, f := range v {
		if f > v[best] {
			best = i
		}
	}
	return int32(best)
}
