package model_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
	"eckart/model/checkpoint"
)

// shapes is a Source of zeros with the given shapes.
type shapes struct {
	config []byte
	of     map[string][]int
}

func (s shapes) Config() []byte { return s.config }

func (s shapes) Names() []string {
	var names []string
	for n := range s.of {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (s shapes) Weight(name string) (layers.Weight, error) {
	shape, ok := s.of[name]
	if !ok {
		return nil, model.MissingError(name)
	}
	return layers.NewDense(layers.Part{
		Name: "weight", Type: kernels.F32, Rows: shape[0], Cols: shape[1],
		Read: func(dst []byte, _ int) error { clear(dst); return nil },
	}), nil
}

func (s shapes) Vector(name string) ([]float32, error) {
	shape, ok := s.of[name]
	if !ok {
		return nil, model.MissingError(name)
	}
	return make([]float32, shape[0]), nil
}

func tiny(t *testing.T, change fields) shapes {
	c := base()
	for k, v := range change {
		c[k] = v
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string][]int{"model.embed_tokens.weight": {320, 64}, "model.norm.weight": {64}}
	for i := range 2 {
		for name, shape := range map[string][]int{
			"input_layernorm.weight": {64}, "post_attention_layernorm.weight": {64},
			"self_attn.q_proj.weight": {64, 64}, "self_attn.k_proj.weight": {32, 64}, "self_attn.v_proj.weight": {32, 64},
			"self_attn.o_proj.weight": {64, 64},
			"mlp.gate_proj.weight":    {96, 64}, "mlp.up_proj.weight": {96, 64}, "mlp.down_proj.weight": {64, 96},
		} {
			of[fmt.Sprintf("model.layers.%d.%s", i, name)] = shape
		}
	}
	return shapes{text, of}
}

func TestLoadTellsAllAtOnce(t *testing.T) {
	s := tiny(t, nil)
	if _, err := model.Measure(s, oneRow); err != nil {
		t.Fatalf("the whole model: %v", err)
	}
	delete(s.of, "model.layers.1.mlp.up_proj.weight")
	delete(s.of, "model.norm.weight")
	s.of["model.layers.0.self_attn.q_proj.weight"] = []int{64, 32}
	s.of["model.vision.weight"] = []int{1, 1}
	s.of["model.layers.0.self_attn.rotary_emb.inv_freq"] = []int{8}
	_, err := model.Measure(s, oneRow)
	var le *model.LoadError
	if !errors.As(err, &le) {
		t.Fatalf("got %v, want a LoadError", err)
	}
	if want := []string{"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}; !slices.Equal(le.Missing, want) {
		t.Errorf("missing %v, want %v", le.Missing, want)
	}
	if want := []string{"model.layers.0.self_attn.q_proj.weight has shape [64 32], want [64 64]"}; !slices.Equal(le.Wrong, want) {
		t.Errorf("wrong %v, want %v", le.Wrong, want)
	}
	if want := []string{"model.vision.weight"}; !slices.Equal(le.Unused, want) {
		t.Errorf("unused %v, want %v", le.Unused, want)
	}
}

var oneRow = model.Limits{Rows: 1, Seqs: 1, Samples: 1, Blocks: 1, BlockTokens: 16}

func TestLoadRefuses(t *testing.T) {
	for _, row := range []struct {
		name   string
		config fields
		change func(map[string][]int)
		want   string
	}{
		{"F13 hidden size", fields{"hidden_size": 128}, nil, "has shape [320 64], want [320 128]"},
		{"F13 vocabulary above the rows", fields{"vocab_size": 321}, nil, "model.embed_tokens.weight has shape [320 64], want [321 64]"},
		{"F13 vocabulary below the rows", fields{"vocab_size": 319}, nil, "want [319 64]"},
		{"F13 missing layer", fields{"num_hidden_layers": 3}, nil, "missing: model.layers.2."},
		{"F13 untied without head", fields{"tie_word_embeddings": false}, nil, "missing: lm_head.weight"},
		{"F13 tied with another head", nil, func(of map[string][]int) { of["lm_head.weight"] = []int{319, 64} }, "tie_word_embeddings is true and lm_head.weight differs"},
		{"F15 factor files", nil, func(of map[string][]int) {
			delete(of, "model.layers.0.mlp.down_proj.weight")
			of["model.layers.0.mlp.down_proj.lowrank.u"] = []int{64, 8}
		}, "unknown: model.layers.0.mlp.down_proj.lowrank.u"},
		{"biases without attention_bias", nil, func(of map[string][]int) { of["model.layers.0.self_attn.q_proj.bias"] = []int{64} }, "unknown: model.layers.0.self_attn.q_proj.bias"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := tiny(t, row.config)
			if row.change != nil {
				row.change(s.of)
			}
			_, err := model.Measure(s, oneRow)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want an error with %q", err, row.want)
			}
		})
	}
}

// TestTiedCopy accepts an lm_head that repeats the table, and binds the table once.
func TestTiedCopy(t *testing.T) {
	plain, err := model.Measure(tiny(t, nil), oneRow)
	if err != nil {
		t.Fatal(err)
	}
	s := tiny(t, nil)
	s.of["lm_head.weight"] = []int{320, 64}
	tied, err := model.Measure(s, oneRow)
	if err != nil {
		t.Fatal(err)
	}
	if plain.Weights != tied.Weights {
		t.Errorf("a copied head takes %d bytes", tied.Weights-plain.Weights)
	}
}

// TestStepAllocs holds a forward pass at zero allocations.
func TestStepAllocs(t *testing.T) {
	dev := openCPU(t)
	s := tiny(t, nil)
	stream, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	arena, err := dev.NewArena(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer arena.Close()
	d, err := model.Load(s, arena, stream, nil)
	if err != nil {
		t.Fatal(err)
	}
	var pages []kernels.Pages
	for _, spec := range d.Specs() {
		k, err := arena.Alloc(1, spec.Heads*spec.KeyDim*16, kernels.F16)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, kernels.Pages{K: k, V: k, Heads: spec.Heads, KeyDim: spec.KeyDim, ValueDim: spec.ValueDim, BlockTokens: 16})
	}
	b, err := d.NewBatch(arena, stream, func(i int) kernels.Pages { return pages[i] }, oneRow)
	if err != nil {
		t.Fatal(err)
	}
	ids, blocks, sample := []int32{1}, []int32{0}, []int{0}
	step := func() {
		b.Reset()
		b.Add(ids, 0, blocks, sample)
		if _, err := d.Forward(b); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(20, step); n != 0 {
		t.Errorf("a step allocates %v times", n)
	}
}

// TestTiedHeadDiffers refuses an lm_head of the table's shape and other bytes when the weights are bound.
func TestTiedHeadDiffers(t *testing.T) {
	s := tiny(t, nil)
	s.of["lm_head.weight"] = []int{320, 64}
	arena, err := openCPU(t).NewArena(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer arena.Close()
	if _, err := model.Load(s, arena, kernels.Discard{}, nil); err != nil {
		t.Fatalf("a copy: %v", err)
	}
	_, err = model.Load(otherHead{s}, arena, kernels.Discard{}, nil)
	if want := "lm_head.weight differs"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
	}
}

// otherHead has ones as its lm_head.
type otherHead struct{ shapes }

func (s otherHead) Weight(name string) (layers.Weight, error) {
	w, err := s.shapes.Weight(name)
	if err != nil || name != "lm_head.weight" {
		return w, err
	}
	part := w.Parts()[0]
	part.Read = func(dst []byte, _ int) error {
		for i := range dst {
			dst[i] = 1
		}
		return nil
	}
	return layers.NewDense(part), nil
}

// TestNotFinite refuses F12: a weight or a gain that is infinite or not a number is named with its file.
func TestNotFinite(t *testing.T) {
	for _, row := range []struct {
		name string
		bits uint32
	}{{"model.layers.1.mlp.up_proj.weight", 0x7fc00000}, {"model.norm.weight", 0xff800000}} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("testdata/llama")); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "model.safetensors")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var header map[string]struct {
			Offsets []int `json:"data_offsets"`
		}
		size := int(binary.LittleEndian.Uint64(raw))
		if err := json.Unmarshal(raw[8:8+size], &header); err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(raw[8+size+header[row.name].Offsets[0]+4*3:], row.bits)
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := checkpoint.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		src, err := model.NewSource(c)
		if err != nil {
			t.Fatal(err)
		}
		arena, err := openCPU(t).NewArena(4 << 20)
		if err != nil {
			t.Fatal(err)
		}
		defer arena.Close()
		_, err = model.Load(src, arena, kernels.Discard{}, nil)
		if want := row.name + " in model.safetensors: element 3 is not a finite number"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
