package model_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/modeltest"
)

// walker returns a walker over src that is closed when the test ends.
func walker(t *testing.T, dev kernels.Device, src model.Source, window int) *model.Walker {
	t.Helper()
	w, err := model.NewWalker(src, dev, window)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// walked returns block i of w, bound to src until the test ends.
func walked(t *testing.T, w *model.Walker, i int, src model.Source) *model.WalkedBlock {
	t.Helper()
	b, err := w.Block(i, src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// someIDs returns n ids of a vocabulary.
func someIDs(n, vocab, seed int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32((i*i*31 + i*17 + seed*101) % vocab)
	}
	return ids
}

// trace is what a model computes of one sequence, by name: rows of all sites, hidden states after blocks, logits.
type trace map[string][]float32

func flat(m kernels.Mat) []float32 {
	var out []float32
	for i := range m.Rows {
		out = append(out, m.Float32s(i)...)
	}
	return out
}

// decoded runs the whole model.
func decoded(t *testing.T, m *modeltest.Model, ids []int32) trace {
	t.Helper()
	all := trace{}
	m.Batch.SetProbe(func(name string, x kernels.Mat) { all[name] = flat(x) })
	for _, row := range m.Logits(t, ids, 0) {
		all["logits"] = append(all["logits"], row...)
	}
	m.Batch.SetProbe(nil)
	delete(all, "model.norm")
	return all
}

// walkedAll takes sequences through the model, block by block.
func walkedAll(t *testing.T, w *model.Walker, src model.Source, sequences [][]int32) []trace {
	t.Helper()
	traces := make([]trace, len(sequences))
	hidden := make([][]float32, len(sequences))
	for s, ids := range sequences {
		hidden[s] = make([]float32, len(ids)*w.Config().Dim)
		if err := w.Embed(hidden[s], ids); err != nil {
			t.Fatal(err)
		}
		traces[s] = trace{"model.embed_tokens": slices.Clone(hidden[s])}
	}
	for i := range w.Layers() {
		b := walked(t, w, i, src)
		for s := range sequences {
			err := b.Forward(hidden[s], func(site string, x kernels.Mat) error {
				rows := make([]float32, x.Rows*x.Cols)
				traces[s][site] = rows
				return w.Read(rows, x)
			})
			if err != nil {
				t.Fatal(err)
			}
			traces[s][fmt.Sprintf("model.layers.%d", i)] = slices.Clone(hidden[s])
		}
	}
	for s := range sequences {
		before := slices.Clone(hidden[s])
		err := w.Logits(hidden[s], func(first int, logits kernels.Mat) error {
			if got := len(traces[s]["logits"]) / logits.Cols; got != first {
				t.Errorf("logits from row %d on, want %d", first, got)
			}
			traces[s]["logits"] = append(traces[s]["logits"], flat(logits)...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		sameBits(t, "hidden state after Logits", hidden[s], before)
	}
	return traces
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i, v := range want {
		if math.Float32bits(got[i]) != math.Float32bits(v) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], v)
		}
	}
}

func sameTrace(t *testing.T, got, want trace) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d named values, want %d", len(got), len(want))
	}
	for name, values := range want {
		sameBits(t, name, got[name], values)
	}
}

// checkpoints returns the small models there are: those of the tests, and a trained one where it is.
func checkpoints(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/golden.safetensors")
	if err != nil || len(files) == 0 {
		t.Fatalf("no checkpoints in testdata: %v", err)
	}
	var dirs []string
	for _, f := range files {
		dirs = append(dirs, filepath.Dir(f))
	}
	const trained = "../../shared/models/gopher-dense"
	if _, err := os.Stat(trained); err == nil {
		dirs = append(dirs, trained)
	}
	return dirs
}

// TestWalkerIsTheDecoder holds every input of a site, every hidden state and the logits of a walk against the model run
// as a whole, bit for bit, for sequences as long as the window and shorter.
func TestWalkerIsTheDecoder(t *testing.T) {
	dev := openCPU(t)
	for _, dir := range checkpoints(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m := modeltest.Load(t, dev, dir, kernels.F32)
			src := modeltest.OpenSource(t, dir)
			window := min(m.Config().MaxPositions, 40)
			w := walker(t, dev, src, window)
			sequences := [][]int32{
				someIDs(window, m.Config().Vocab, 1), someIDs(7, m.Config().Vocab, 2), someIDs(window, m.Config().Vocab, 3), someIDs(1, m.Config().Vocab, 4),
			}
			for s, got := range walkedAll(t, w, src, sequences) {
				sameTrace(t, got, decoded(t, m, sequences[s]))
			}
		})
	}
}

// TestWalkerOfRoundedSource walks the original and a rounded copy side by side: blocks of both are bound at once, with
// weights of other kinds, and each sees only its own sequence.
func TestWalkerOfRoundedSource(t *testing.T) {
	const dir = "testdata/llama"
	dev := openCPU(t)
	plain := modeltest.OpenSource(t, dir)
	rounding := &layers.Rounding{Bits: 4, Group: 32}
	rounded := func() model.Source { return model.Quantize(plain, model.Quantization{Blocks: rounding}) }
	w := walker(t, dev, plain, 16)
	ids := someIDs(16, w.Config().Vocab, 5)
	hidden := make([]float32, 16*w.Config().Dim)
	if err := w.Embed(hidden, ids); err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(hidden)
	src := rounded()
	for i := range w.Layers() {
		a, b := walked(t, w, i, plain), walked(t, w, i, src)
		for _, step := range []struct {
			b      *model.WalkedBlock
			hidden []float32
		}{{a, hidden}, {b, other}} {
			if err := step.b.Forward(step.hidden, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := fmt.Sprintf("model.layers.%d", w.Layers()-1)
	sameBits(t, "original", hidden, decoded(t, modeltest.LoadSource(t, dev, plain, kernels.F32), ids)[last])
	sameBits(t, "rounded", other, decoded(t, modeltest.LoadSource(t, dev, rounded(), kernels.F32), ids)[last])
	if slices.Equal(hidden, other) {
		t.Error("rounding changed nothing")
	}
}

// TestForwardAll takes sequences of many lengths through blocks, several at a time and each alone: the same bits.
func TestForwardAll(t *testing.T) {
	dev := openCPU(t)
	for _, dir := range checkpoints(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			src := modeltest.OpenSource(t, dir)
			const window = 40 // three blocks of the cache, the last not full
			w := walker(t, dev, src, window)
			var alone, together [][]float32
			for i, tokens := range []int{16, 16, 8, 1, 1, 1, 1, window, 17, 20, 3, 33, 7, 2} {
				hidden := make([]float32, tokens*w.Config().Dim)
				if err := w.Embed(hidden, someIDs(tokens, w.Config().Vocab, i)); err != nil {
					t.Fatal(err)
				}
				alone, together = append(alone, hidden), append(together, slices.Clone(hidden))
			}
			for i := range w.Layers() {
				b := walked(t, w, i, src)
				for _, hidden := range alone {
					if err := b.Forward(hidden, nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := b.ForwardAll(together...); err != nil {
					t.Fatal(err)
				}
			}
			for i := range alone {
				sameBits(t, fmt.Sprintf("sequence %d", i), together[i], alone[i])
			}
		})
	}
}

// TestUntil stops at every site of a block, sees there what a whole pass shows, and leaves the hidden state alone.
func TestUntil(t *testing.T) {
	dev := openCPU(t)
	src := modeltest.OpenSource(t, "testdata/qwen3")
	w := walker(t, dev, src, 24)
	hidden := make([]float32, 24*w.Config().Dim)
	if err := w.Embed(hidden, someIDs(24, w.Config().Vocab, 6)); err != nil {
		t.Fatal(err)
	}
	b := walked(t, w, 0, src)
	before := slices.Clone(hidden)
	want := trace{}
	next := slices.Clone(hidden)
	if err := b.Forward(next, func(site string, x kernels.Mat) error { want[site] = flat(x); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(b.Sites()) {
		t.Errorf("the pass shows %d sites, the block has %d", len(want), len(b.Sites()))
	}
	for _, site := range b.Sites() {
		calls := 0
		err := b.Until(hidden, site.Name, func(x kernels.Mat) error {
			calls++
			sameBits(t, site.Name, flat(x), want[site.Name])
			return nil
		})
		if err != nil || calls != 1 {
			t.Errorf("%s: used %d times, error %v", site.Name, calls, err)
		}
		sameBits(t, "hidden state after Until", hidden, before)
	}

	bad := errors.New("bad")
	for _, err := range []error{
		b.Until(hidden, b.Sites()[1].Name, func(kernels.Mat) error { return bad }),
		b.Forward(hidden, func(site string, _ kernels.Mat) error {
			if site == b.Sites()[2].Name {
				return bad
			}
			return nil
		}),
	} {
		if !errors.Is(err, bad) || !strings.Contains(err.Error(), "block 0") {
			t.Errorf("error of a probe comes back as %v", err)
		}
		sameBits(t, "hidden state after an error", hidden, before)
	}
	if err := b.Until(hidden, "model.layers.1.mlp.down_proj", func(kernels.Mat) error { return nil }); err == nil || !strings.Contains(err.Error(), "model.layers.1.mlp.down_proj") {
		t.Errorf("a site of another block: %v", err)
	}
	if err := b.Forward(hidden, nil); err != nil {
		t.Fatal(err)
	}
	sameBits(t, "next state", hidden, next)
}

// unreadable is a source whose matrices have shapes and no content.
type unreadable struct{ model.Source }

func (u unreadable) Weight(name string) (layers.Weight, error) {
	w, err := u.Source.Weight(name)
	if err != nil {
		return nil, err
	}
	p := w.Parts()[0]
	p.Read = func([]byte, int) error { return fmt.Errorf("read %s: there is nothing", name) }
	return layers.NewDense(p), nil
}

func TestSites(t *testing.T) {
	w := walker(t, openCPU(t), unreadable{tiny(t, nil)}, 8)
	got, err := w.Sites(1)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return "model.layers.1." + name }
	want := []model.Site{
		{Name: at("self_attn.q_proj"), Layer: 1, In: 64, Weights: []model.SiteWeight{
			{Name: at("self_attn.q_proj.weight"), Out: 64}, {Name: at("self_attn.k_proj.weight"), Out: 32}, {Name: at("self_attn.v_proj.weight"), Out: 32},
		}},
		{Name: at("self_attn.o_proj"), Layer: 1, In: 64, Weights: []model.SiteWeight{{Name: at("self_attn.o_proj.weight"), Out: 64}}},
		{Name: at("mlp.gate_proj"), Layer: 1, In: 64, Weights: []model.SiteWeight{
			{Name: at("mlp.gate_proj.weight"), Out: 96}, {Name: at("mlp.up_proj.weight"), Out: 96},
		}},
		{Name: at("mlp.down_proj"), Layer: 1, In: 96, Weights: []model.SiteWeight{{Name: at("mlp.down_proj.weight"), Out: 64}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sites %+v\nwant  %+v", got, want)
	}
	if _, err := w.Block(1, w.Source()); err == nil || !strings.Contains(err.Error(), "block 1: read model.layers.1.self_attn.q_proj.weight") {
		t.Errorf("a block that cannot be read: %v", err)
	}
}

func TestNewWalkerRefuses(t *testing.T) {
	dev := openCPU(t)
	for _, window := range []int{0, base()["max_position_embeddings"].(int) + 1} {
		if _, err := model.NewWalker(tiny(t, nil), dev, window); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("window of %d tokens", window)) {
			t.Errorf("window of %d: %v", window, err)
		}
	}
	src := tiny(t, nil)
	delete(src.of, "model.layers.1.mlp.up_proj.weight")
	src.of["model.layers.1.mlp.side_proj.weight"] = []int{3, 3}
	var load *model.LoadError
	if _, err := model.NewWalker(src, dev, 8); !errors.As(err, &load) || len(load.Missing) != 1 || len(load.Unused) != 1 {
		t.Errorf("a checkpoint with a missing and an unknown tensor: %v", err)
	}

	w := walker(t, dev, tiny(t, nil), 8)
	if err := w.Embed(make([]float32, 2*64), []int32{1, 320}); err == nil || !strings.Contains(err.Error(), "id 320") {
		t.Errorf("an id beyond the vocabulary: %v", err)
	}
}

// TestWalkerNamesBadWeights: a weight that is not finite is refused by name when its block is bound, not before.
func TestWalkerNamesBadWeights(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		text, err := os.ReadFile(filepath.Join("testdata/llama", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const bad = "model.layers.1.self_attn.o_proj.weight"
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tensor, _ := c.Tensor(bad)
	raw := make([]byte, tensor.Bytes())
	if err := c.ReadAt(raw, tensor, 0); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	file := filepath.Join(dir, "model.safetensors")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(text), string(raw))
	for i := range 4 { // 0xffff is not a number in F32, and in F16 and BF16 neither
		text[at+8+i] = 0xff
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	src := modeltest.OpenSource(t, dir)
	w := walker(t, openCPU(t), src, 8)
	walked(t, w, 0, src)
	if _, err := w.Block(1, src); err == nil || !strings.Contains(err.Error(), "block 1") || !strings.Contains(err.Error(), bad) {
		t.Errorf("a weight that is not a number: %v", err)
	}
}

// countingDevice adds up what its open arenas hold.
type countingDevice struct {
	kernels.Device
	open, most int64
}

type countedArena struct {
	kernels.Arena
	d     *countingDevice
	bytes int64
}

func (d *countingDevice) NewArena(bytes int64) (kernels.Arena, error) {
	a, err := d.Device.NewArena(bytes)
	d.open += bytes
	d.most = max(d.most, d.open)
	return &countedArena{a, d, bytes}, err
}

func (a *countedArena) Close() error {
	a.d.open -= a.bytes
	return a.Arena.Close()
}

// TestWalkerHoldsOneBlock: a model of many blocks takes no more memory than one of a few.
func TestWalkerHoldsOneBlock(t *testing.T) {
	most := func(layers int) int64 {
		src := tiny(t, fields{"num_hidden_layers": layers})
		for i := range layers {
			for name, shape := range tiny(t, nil).of {
				if rest, ok := strings.CutPrefix(name, "model.layers.0."); ok {
					src.of[fmt.Sprintf("model.layers.%d.%s", i, rest)] = shape
				}
			}
		}
		for name := range src.of {
			var i int
			if n, _ := fmt.Sscanf(name, "model.layers.%d.", &i); n == 1 && i >= layers {
				delete(src.of, name)
			}
		}
		dev := &countingDevice{Device: openCPU(t)}
		w, err := model.NewWalker(src, dev, 8)
		if err != nil {
			t.Fatal(err)
		}
		hidden := make([]float32, 8*64)
		if err := w.Embed(hidden, make([]int32, 8)); err != nil {
			t.Fatal(err)
		}
		for i := range layers {
			b, err := w.Block(i, src)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(b.Forward(hidden, nil), b.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Logits(hidden, func(int, kernels.Mat) error { return nil }), w.Close()); err != nil {
			t.Fatal(err)
		}
		if dev.open != 0 {
			t.Errorf("%d bytes are still held", dev.open)
		}
		return dev.most
	}
	if few, many := most(1), most(9); many != few {
		t.Errorf("9 blocks take %d bytes, one takes %d", many, few)
	}
}
