package model_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/modeltest"
	"eckart/model/packed"
)

// trained is the small trained model that is built into the commands.
const trained = "../cmd/internal/demo/gopher-dense"

// compressed gives some matrices of a source as others.
type compressed struct {
	model.Source
	weights map[string]func(w layers.Weight) (layers.Weight, error) // by module
}

func (c compressed) Unwrap() model.Source { return c.Source }

func (c compressed) Weight(name string) (layers.Weight, error) {
	w, err := c.Source.Weight(name)
	if how := c.weights[strings.TrimSuffix(name, ".weight")]; how != nil && err == nil {
		return how(w)
	}
	return w, err
}

// modules returns the matrices of the blocks, the embedding and the head.
func modules(src model.Source) []string {
	var all []string
	for _, name := range src.Names() {
		module, ok := strings.CutSuffix(name, ".weight")
		if ok && (strings.HasSuffix(module, "_proj") || strings.HasSuffix(module, "embed_tokens") || module == "lm_head") {
			all = append(all, module)
		}
	}
	return all
}

// pack writes the model that src is to a new folder.
func pack(t *testing.T, src model.Source, names []string, shardBytes int64) string {
	t.Helper()
	dir := t.TempDir()
	content := packed.Content{Manifest: packed.Manifest{Producer: "test", Plan: []byte(`{"seed":1}`)}, ShardBytes: shardBytes}
	if err := model.Pack(t.Context(), dir, src, names, content); err != nil {
		t.Fatal(err)
	}
	return dir
}

// same checks that two sources stand for the same model: the matrices of the first and the last block, and the tables,
// have the same parts and numbers, and a run over some tokens gives the same logits, all to the last bit.
func same(t *testing.T, got, want model.Source) {
	t.Helper()
	if !slices.Equal(got.Names(), want.Names()) {
		t.Fatalf("names are %q, want %q", got.Names(), want.Names())
	}
	for _, name := range want.Names() {
		if strings.Contains(name, ".layers.") && !strings.Contains(name, ".layers.0.") && !strings.Contains(name, ".layers.7.") {
			continue // the logits speak for the others
		}
		w, err := want.Weight(name)
		if err != nil {
			continue // a vector
		}
		g, err := got.Weight(name)
		if err != nil {
			t.Fatal(err)
		}
		if g.Kind() != w.Kind() {
			t.Fatalf("%s is %s, want %s", name, g.Kind(), w.Kind())
		}
		sameParts(t, name, g, w)
		a, err := g.Dense()
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Dense()
		if err != nil {
			t.Fatal(err)
		}
		if i := differ(a, b); i >= 0 {
			t.Fatalf("%s: element %d is %g, want %g", name, i, a[i], b[i])
		}
	}
	dev := openCPU(t)
	config := must(model.ParseConfig(want.Config()))(t)
	tokens := make([]int32, 40)
	for i := range tokens {
		tokens[i] = int32(7 * i % config.Vocab)
	}
	a := modeltest.LoadSource(t, dev, got, kernels.F32).Logits(t, tokens, 0)
	b := modeltest.LoadSource(t, dev, want, kernels.F32).Logits(t, tokens, 0)
	for row := range b {
		if i := differ(a[row], b[row]); i >= 0 {
			t.Fatalf("logit %d of row %d is %g, want %g", i, row, a[row][i], b[row][i])
		}
	}
}

// differ returns the first place where a and b have different bits, or -1.
func differ(a, b []float32) int {
	if len(a) != len(b) {
		return 0
	}
	for i, v := range a {
		if math.Float32bits(v) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

func sameParts(t *testing.T, name string, got, want layers.Weight) {
	t.Helper()
	p, q := got.Parts(), want.Parts()
	if len(p) != len(q) {
		t.Fatalf("%s has %d parts, want %d", name, len(p), len(q))
	}
	for i := range p {
		if p[i].Name != q[i].Name || p[i].Type != q[i].Type || p[i].Rows != q[i].Rows || p[i].Cols != q[i].Cols {
			t.Fatalf("%s: part %d is %+v, want %+v", name, i, p[i], q[i])
		}
		a, b := partBytes(t, p[i]), partBytes(t, q[i])
		if !bytes.Equal(a, b) {
			t.Fatalf("%s: part %s has other bytes", name, p[i].Name)
		}
	}
}

func partBytes(t *testing.T, p layers.Part) []byte {
	t.Helper()
	raw := make([]byte, p.Rows*p.Cols*p.Type.Bytes())
	if err := p.Read(raw, 0); err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestPackGrouped packs models rounded in every way and loads them again.
func TestPackGrouped(t *testing.T) {
	for _, r := range []layers.Rounding{
		{Bits: 8, Group: 32, ScaleType: kernels.F16},
		{Bits: 4, Group: 32, ScaleType: kernels.BF16, Zeros: true},
		{Bits: 3, Group: 64, ScaleType: kernels.F16},
		{Bits: 2, Group: 0, ScaleType: kernels.F32, Zeros: true},
	} {
		t.Run(fmt.Sprintf("%+v", r), func(t *testing.T) {
			src := model.Quantize(modeltest.OpenSource(t, "testdata/qwen2"), model.Quantization{Blocks: &r, Tables: &r})
			same(t, modeltest.OpenSource(t, pack(t, src, modules(src), 0)), src)
		})
	}
}

// random returns a dense matrix of random numbers.
func random(rng *rand.Rand, t kernels.DType, rows, cols int) *layers.Dense {
	raw := make([]byte, 0, rows*cols*t.Bytes())
	for range rows * cols {
		bits := math.Float32bits(float32(rng.NormFloat64() / 16))
		switch t {
		case kernels.F32:
			raw = binary.LittleEndian.AppendUint32(raw, bits)
		case kernels.BF16:
			raw = binary.LittleEndian.AppendUint16(raw, uint16(bits>>16))
		default: // F16: sign, an exponent near that of 1/16, ten bits
			raw = binary.LittleEndian.AppendUint16(raw, uint16(bits>>16&0x8000|uint32(10+rng.IntN(3))<<10|bits&0x3ff))
		}
	}
	return layers.NewDense(layers.Part{Name: "weight", Type: t, Rows: rows, Cols: cols, Read: func(dst []byte, row int) error {
		copy(dst, raw[row*cols*t.Bytes():])
		return nil
	}})
}

// rounded returns a random grouped matrix.
func rounded(rng *rand.Rand, r layers.Rounding, rows, cols int) (*layers.Grouped, error) {
	return layers.Quantize(random(rng, kernels.F32, rows, cols), r, nil)
}

// kinds makes a random matrix of each kind, of the shape of the one that it is given.
var kinds = map[string]func(rng *rand.Rand, out, in int) (layers.Weight, error){
	"dense": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		return random(rng, kernels.F16, out, in), nil
	},
	"grouped": func(rng *rand.Rand, out, in int) (layers.Weight, error) { return rounded(rng, *rounding(3), out, in) },
	"lowrank": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		return lowrank.New(random(rng, kernels.BF16, out, 13), random(rng, kernels.F32, 13, in))
	},
	"lowrank of codes": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		u, err := rounded(rng, layers.Rounding{Bits: 8, Group: 32, ScaleType: kernels.BF16}, out, 13)
		if err != nil {
			return nil, err
		}
		v, err := rounded(rng, layers.Rounding{Bits: 4, Group: 64, ScaleType: kernels.F16, Zeros: true}, 13, in)
		if err != nil {
			return nil, err
		}
		return lowrank.New(u, v)
	},
	"pifa": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		k, err := rounded(rng, *rounding(8), out-11, 11)
		if err != nil {
			return nil, err
		}
		return lowrank.NewPIFA(pivots(rng, out, 11), random(rng, kernels.BF16, 11, in), k)
	},
	"pifa of all rows": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		return lowrank.NewPIFA(pivots(rng, out, out), random(rng, kernels.BF16, out, in), random(rng, kernels.BF16, 0, out))
	},
	"nested": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		ut, v := random(rng, kernels.BF16, 9, out).Parts()[0], random(rng, kernels.F16, 9, in).Parts()[0]
		return lowrank.NewNested(ut, v, []float32{9, 8, 7, 6, 5, 4, 3, 2, 0})
	},
	"sum": func(rng *rand.Rand, out, in int) (layers.Weight, error) {
		a, err := rounded(rng, *rounding(4), out, in)
		if err != nil {
			return nil, err
		}
		u, err := rounded(rng, *rounding(8), out, 7)
		if err != nil {
			return nil, err
		}
		b, err := lowrank.New(u, random(rng, kernels.BF16, 7, in))
		if err != nil {
			return nil, err
		}
		return layers.NewSum(a, b)
	},
}

func pivots(rng *rand.Rand, rows, rank int) []int32 {
	var all []int32
	for _, row := range rng.Perm(rows)[:rank] {
		all = append(all, int32(row))
	}
	return all
}

// replaced returns src with its projections as matrices that make gives, made once.
func replaced(t *testing.T, src model.Source, make func(rng *rand.Rand, out, in int) (layers.Weight, error)) compressed {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	c := compressed{src, map[string]func(w layers.Weight) (layers.Weight, error){}}
	for _, module := range modules(src) {
		if !strings.HasSuffix(module, "_proj") {
			continue
		}
		out, in := must(src.Weight(module + ".weight"))(t).Dims()
		w := must(make(rng, out, in))(t)
		c.weights[module] = func(layers.Weight) (layers.Weight, error) { return w, nil }
	}
	return c
}

// TestPackKinds packs a tiny model, and the trained one, with every kind of matrix.
func TestPackKinds(t *testing.T) {
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			dirs := []string{"testdata/qwen3", trained}
			if testing.Short() {
				dirs = dirs[:1]
			}
			for _, dir := range dirs {
				src := replaced(t, modeltest.OpenSource(t, dir), make)
				same(t, modeltest.OpenSource(t, pack(t, src, slices.Collect(maps.Keys(src.weights)), 1<<20)), src)
			}
		})
	}
}

// TestPackShares packs matrices that have a factor in common: it is in the file once, and one matrix again when it is read.
func TestPackShares(t *testing.T) {
	src := modeltest.OpenSource(t, "testdata/qwen3")
	c := compressed{src, map[string]func(w layers.Weight) (layers.Weight, error){}}
	rng := rand.New(rand.NewPCG(1, 2))
	sites := map[string]layers.Weight{}
	var names []string
	for _, module := range modules(src) {
		for what, site := range map[string]string{"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"} {
			if !strings.HasSuffix(module, what) {
				continue
			}
			out, in := must(src.Weight(module + ".weight"))(t).Dims()
			site += strings.TrimSuffix(module, what)
			if sites[site] == nil {
				sites[site] = random(rng, kernels.BF16, 13, in)
				if strings.HasPrefix(site, "mlp") {
					sites[site] = must(rounded(rng, *rounding(8), 13, in))(t)
				}
			}
			names = append(names, module)
			var w layers.Weight = must(lowrank.New(random(rng, kernels.BF16, out, 13), sites[site]))(t)
			if what == "up_proj" || what == "gate_proj" {
				w = must(layers.NewSum(must(rounded(rng, *rounding(2), out, in))(t), w))(t)
			}
			c.weights[module] = func(layers.Weight) (layers.Weight, error) { return w, nil }
		}
	}
	dir := pack(t, c, names, 10000)
	got := modeltest.OpenSource(t, dir)
	same(t, got, c)
	v := func(module string) layers.Weight {
		w := must(got.Weight("model.layers.1." + module + ".weight"))(t)
		if s, ok := w.(*layers.Sum); ok {
			_, w = s.Terms()
		}
		_, v := w.(*lowrank.Weight).Factors()
		return v
	}
	if v("self_attn.q_proj") != v("self_attn.v_proj") || v("mlp.gate_proj") != v("mlp.up_proj") || v("mlp.up_proj") == v("self_attn.q_proj") {
		t.Error("factors are not shared as they were")
	}
	var shared []string
	for name := range tensors(t, dir) {
		if strings.HasPrefix(name, "shared.model.layers.1.") {
			shared = append(shared, name)
		}
	}
	slices.Sort(shared)
	want := []string{
		"shared.model.layers.1.mlp.gate_proj.sum.b.lowrank.v.grouped.codes",
		"shared.model.layers.1.mlp.gate_proj.sum.b.lowrank.v.grouped.scales",
		"shared.model.layers.1.self_attn.k_proj.lowrank.v",
	}
	if !slices.Equal(shared, want) {
		t.Errorf("shared tensors are %q", shared)
	}

	// A caller that says two share a factor, and gives them two, is told so.
	writer := must(model.CreatePacked(t.Context(), t.TempDir(), src, packed.Content{Manifest: packed.Manifest{
		Stored: must(packed.DescribeAll(map[string]layers.Weight{
			names[0]: must(c.Weight(names[0] + ".weight"))(t), names[1]: must(c.Weight(names[1] + ".weight"))(t),
		}))(t),
	}}))(t)
	defer writer.Abort()
	if err := writer.Write(t.Context(), names[0], must(c.Weight(names[0]+".weight"))(t)); err != nil {
		t.Fatal(err)
	}
	other := must(c.Weight(names[1] + ".weight"))(t)
	a, b := other.(*layers.Sum).Terms()
	u, first := b.(*lowrank.Weight).Factors()
	_, in := first.Dims()
	other = must(layers.NewSum(a, must(lowrank.New(u, must(rounded(rng, *rounding(8), 13, in))(t)))(t)))(t)
	if err := writer.Write(t.Context(), names[1], other); err == nil || !strings.Contains(err.Error(), "do not have one and the same") {
		t.Errorf("error is %v", err)
	}
}

// TestPackOrdered packs matrices whose columns have an order of their own.
func TestPackOrdered(t *testing.T) {
	src := compressed{modeltest.OpenSource(t, "testdata/llama"), map[string]func(w layers.Weight) (layers.Weight, error){}}
	for _, module := range modules(src)[1:] {
		src.weights[module] = func(w layers.Weight) (layers.Weight, error) {
			m, err := w.Dense()
			if err != nil {
				return nil, err
			}
			out, in := w.Dims()
			gram := make([]float64, in*in)
			for i := range in {
				gram[i*in+i] = float64(1 + i*7%11)
			}
			f := layers.Feedback{Rounding: layers.Rounding{Bits: 3, Group: 32, ScaleType: kernels.F16}, Descending: true}
			return f.Quantize(m, out, gram)
		}
	}
	same(t, modeltest.OpenSource(t, pack(t, src, modules(src), 20000)), src)
}

// TestPackTrained packs the trained model, in shards, with some matrices rounded and others as they are.
func TestPackTrained(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	how := model.Quantization{
		Blocks: &layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16, Zeros: true},
		Tables: &layers.Rounding{Bits: 8, Group: 64, ScaleType: kernels.F16},
	}
	src := model.Quantize(modeltest.OpenSource(t, trained), how)
	dir := pack(t, src, modules(src), 1<<20)
	same(t, modeltest.OpenSource(t, dir), src)
	if shards, _ := filepath.Glob(filepath.Join(dir, "*.safetensors")); len(shards) < 4 {
		t.Errorf("%d shards", len(shards))
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "NOTICE"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		want, _ := os.ReadFile(filepath.Join(trained, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another, error %v", name, err)
		}
	}
	got := model.Notes(modeltest.OpenSource(t, dir))
	if !slices.Equal(got, []string{"eckart 1.0, matrices: 57 grouped"}) {
		t.Errorf("notes are %q", got)
	}
	if a, b := model.Parameters(modeltest.OpenSource(t, dir)), model.Parameters(src); a != b {
		t.Errorf("%d parameters, want %d", a, b)
	}
}

// TestPackNothing copies a model with nothing compressed byte for byte.
func TestPackNothing(t *testing.T) {
	src := modeltest.OpenSource(t, "testdata/llama")
	dir := pack(t, src, nil, 0)
	same(t, modeltest.OpenSource(t, dir), src)
	a, b := tensors(t, "testdata/llama"), tensors(t, dir)
	if !maps.Equal(a, b) {
		t.Error("tensors differ")
	}
}

// tensors returns type, shape and bytes of each tensor of a checkpoint.
func tensors(t *testing.T, dir string) map[string]string {
	t.Helper()
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := map[string]string{}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		raw := make([]byte, x.Bytes())
		if err := c.ReadAt(raw, x, 0); err != nil {
			t.Fatal(err)
		}
		all[name] = fmt.Sprint(x.Type, x.Shape, raw)
	}
	return all
}

// TestPackAgain packs a packed model with some matrices in another form, and keeps the others.
func TestPackAgain(t *testing.T) {
	first := model.Quantize(modeltest.OpenSource(t, "testdata/llama"), model.Quantization{Blocks: rounding(8)})
	names := modules(first)
	once := modeltest.OpenSource(t, pack(t, first, names[2:6], 0))
	second := model.Quantize(once, model.Quantization{Blocks: rounding(4)})
	twice := modeltest.OpenSource(t, pack(t, second, names[4:10], 0))
	kinds := map[string]int{}
	for i, module := range names {
		w, err := twice.Weight(module + ".weight")
		if err != nil {
			t.Fatal(err)
		}
		kinds[w.Kind()]++
		if g, ok := w.(*layers.Grouped); ok && g.Format().Bits != map[bool]int{true: 8, false: 4}[i < 6] {
			t.Errorf("%s has %d bits", module, g.Format().Bits)
		}
	}
	if kinds["grouped"] != 8 || kinds["dense"] != len(names)-8 {
		t.Errorf("kinds are %v", kinds)
	}
}

// TestPackQuantized packs a model that another tool has quantized: what is left alone stays in that tool's layout.
func TestPackQuantized(t *testing.T) {
	src := modeltest.OpenSource(t, "quantized/testdata/llama-nf4")
	half := compressed{src, map[string]func(w layers.Weight) (layers.Weight, error){}}
	names := modules(src)
	for _, module := range names[:len(names)/2] {
		half.weights[module] = func(w layers.Weight) (layers.Weight, error) {
			return layers.Quantize(w.(*layers.Dense), layers.Rounding{Bits: 8, Group: 32, ScaleType: kernels.F16}, nil)
		}
	}
	dir := pack(t, half, names[:len(names)/2], 0)
	same(t, modeltest.OpenSource(t, dir), half)
	got := model.Notes(modeltest.OpenSource(t, dir))
	if len(got) != 2 || !strings.HasPrefix(got[1], "bitsandbytes, nf4") {
		t.Errorf("notes are %q", got)
	}
	// Where all of them are replaced, nothing is said of the other tool any more.
	all := model.Quantize(src, model.Quantization{Blocks: rounding(8), Tables: rounding(8)})
	dir = pack(t, all, names, 0)
	same(t, modeltest.OpenSource(t, dir), all)
}

// TestPackResumes breaks a run off at each matrix and finishes it: the files are those of a run in one go.
func TestPackResumes(t *testing.T) {
	src := model.Quantize(modeltest.OpenSource(t, "testdata/llama"), model.Quantization{Blocks: rounding(4)})
	names := modules(src)[1:]
	content := packed.Content{ShardBytes: 12000, Manifest: packed.Manifest{Stored: map[string]packed.Stored{}}}
	for _, module := range names {
		content.Stored[module] = must(packed.Describe(must(src.Weight(module + ".weight"))(t)))(t)
	}
	want := ""
	reused := 0
	for broken := range len(names) + 1 {
		dir := t.TempDir()
		// A crash: the first writer is neither committed nor aborted.
		first := must(model.CreatePacked(t.Context(), dir, src, content))(t)
		for _, module := range names[:broken] {
			if err := first.Write(t.Context(), module, must(src.Weight(module+".weight"))(t)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := checkpoint.Open(dir); err == nil {
			t.Error("a half-written model can be opened")
		}
		again := must(model.CreatePacked(t.Context(), dir, src, content))(t)
		for _, module := range names {
			if again.Written(module) {
				reused++
				sameParts(t, module, must(again.Weight(module))(t), must(src.Weight(module+".weight"))(t))
			}
		}
		if err := again.Abort(); err != nil {
			t.Fatal(err)
		}
		if left := must(os.ReadDir(dir))(t); len(left) > 0 && !strings.HasSuffix(left[0].Name(), ".partial") {
			t.Errorf("after Abort %v is left", left)
		}

		dir = t.TempDir()
		first = must(model.CreatePacked(t.Context(), dir, src, content))(t)
		for _, module := range names[:broken] {
			if err := first.Write(t.Context(), module, must(src.Weight(module+".weight"))(t)); err != nil {
				t.Fatal(err)
			}
		}
		if err := model.Pack(t.Context(), dir, src, names, packed.Content{ShardBytes: 12000}); err != nil {
			t.Fatal(err)
		}
		files := ""
		for _, e := range must(os.ReadDir(dir))(t) {
			files += e.Name() + "\n" + string(must(os.ReadFile(filepath.Join(dir, e.Name())))(t))
		}
		if want == "" {
			want = files
		}
		if files != want {
			t.Errorf("broken off at %d: other files", broken)
		}
	}
	if reused == 0 {
		t.Error("no run found anything of the one before")
	}
}

// must passes a value on and ends the test on an error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestPackCanceled leaves nothing when it is interrupted.
func TestPackCanceled(t *testing.T) {
	src := model.Quantize(modeltest.OpenSource(t, "testdata/llama"), model.Quantization{Blocks: rounding(4)})
	ctx, cancel := context.WithCancel(t.Context())
	cut := compressed{src, map[string]func(w layers.Weight) (layers.Weight, error){
		modules(src)[9]: func(w layers.Weight) (layers.Weight, error) { cancel(); return w, nil },
	}}
	dir := t.TempDir()
	err := model.Pack(ctx, dir, cut, modules(src)[1:], packed.Content{ShardBytes: 12000})
	if err == nil || ctx.Err() == nil {
		t.Errorf("error is %v", err)
	}
	if left := must(os.ReadDir(dir))(t); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestPackRefuses names what keeps a model from being written.
func TestPackRefuses(t *testing.T) {
	src := model.Quantize(modeltest.OpenSource(t, "testdata/llama"), model.Quantization{Blocks: rounding(4)})
	up := "model.layers.0.mlp.up_proj"
	fails := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	pack := func(dir string, content packed.Content, names ...string) error {
		return model.Pack(t.Context(), dir, src, names, content)
	}
	fails(pack(t.TempDir(), packed.Content{}, "model.layers.9.mlp.up_proj"), "model.layers.9.mlp.up_proj.weight is missing")
	fails(pack(t.TempDir(), packed.Content{Manifest: packed.Manifest{Plan: []byte(`{"stored":{}}`)}}), `plan: it has a member "stored"`)
	fails(pack(t.TempDir(), packed.Content{Manifest: packed.Manifest{Plan: []byte(`[]`)}}), "plan: want an object")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(pack(dir, packed.Content{}, up), "config.json is there already")

	w := must(src.Weight(up + ".weight"))(t)
	content := packed.Content{Manifest: packed.Manifest{Stored: map[string]packed.Stored{up: must(packed.Describe(w))(t)}}}
	writer := must(model.CreatePacked(t.Context(), t.TempDir(), src, content))(t)
	other := must(src.Source.Weight(up + ".weight"))(t)
	fails(writer.Write(t.Context(), up, other), `it is stored as {"shape":[96,64],"kind":"dense","type":"F32"}, and the plan says`)
	fails(writer.Write(t.Context(), "model.norm", w), "the plan does not name it")
	fails(writer.Commit(), `tensor "model.layers.0.mlp.up_proj.grouped.scales" lacks`)
	if err := writer.Abort(); err != nil {
		t.Error(err)
	}
}
