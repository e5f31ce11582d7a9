package model_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/factored"
	"eckart/model/modeltest"
)

// A stored is a tensor as these tests write it, apart from the program's own writer.
type stored struct {
	dtype string
	shape []int
	data  []byte
}

func storedF32(rows, cols int, values []float32) stored {
	s := stored{"F32", []int{rows, cols}, nil}
	for _, v := range values {
		s.data = binary.LittleEndian.AppendUint32(s.data, math.Float32bits(v))
	}
	return s
}

func storedI64(values []int) stored {
	s := stored{"I64", []int{len(values)}, nil}
	for _, v := range values {
		s.data = binary.LittleEndian.AppendUint64(s.data, uint64(v))
	}
	return s
}

// writeFile writes a safetensors file.
func writeFile(t *testing.T, path string, tensors map[string]stored) {
	t.Helper()
	header := map[string]any{}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		x := tensors[name]
		header[name] = map[string]any{"dtype": x.dtype, "shape": x.shape, "data_offsets": []int{len(data), len(data) + len(x.data)}}
		data = append(data, x.data...)
	}
	text := must(json.Marshal(header))(t)
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if err := os.WriteFile(path, append(file, data...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A factorization is a checkpoint of factors, and the same with their products.
type factorization struct {
	tensors map[string]stored
	dense   map[string]stored
	config  map[string]any
	ranks   map[string]int
	rng     *rand.Rand
}

// factorize reads a tiny checkpoint and replaces its projections by products of random factors, which put lays out.
func factorize(t *testing.T, dir string, put func(f *factorization, module string, out, in int) (product []float64)) *factorization {
	t.Helper()
	c := must(checkpoint.Open(dir))(t)
	defer c.Close()
	f := &factorization{map[string]stored{}, map[string]stored{}, map[string]any{}, map[string]int{}, rand.New(rand.NewPCG(7, 7))}
	if err := json.Unmarshal(must(c.ReadFile("config.json", 1<<20))(t), &f.config); err != nil {
		t.Fatal(err)
	}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		raw := make([]byte, x.Bytes())
		if err := c.ReadAt(raw, x, 0); err != nil {
			t.Fatal(err)
		}
		s := stored{string(x.Type), x.Shape, raw}
		if module, ok := strings.CutSuffix(name, "_proj.weight"); ok {
			module += "_proj"
			var values []float32
			for _, v := range put(f, module, x.Shape[0], x.Shape[1]) {
				values = append(values, float32(v))
			}
			f.dense[name] = storedF32(x.Shape[0], x.Shape[1], values)
			continue
		}
		f.tensors[name], f.dense[name] = s, s
	}
	return f
}

// random returns rows·cols numbers and stores them as name.
func (f *factorization) random(name string, rows, cols int) []float32 {
	values := make([]float32, rows*cols)
	for i := range values {
		values[i] = float32(f.rng.NormFloat64() / 4)
	}
	f.tensors[name] = storedF32(rows, cols, values)
	return values
}

// multiply returns left (out, rank) times right (rank, in).
func multiply(left, right []float32, rank int) []float64 {
	out, in := len(left)/rank, len(right)/rank
	y := make([]float64, out*in)
	for o := range out {
		for i := range in {
			for k := range rank {
				y[o*in+i] += float64(left[o*rank+k]) * float64(right[k*in+i])
			}
		}
	}
	return y
}

// write writes one of the two checkpoints to a new folder.
func (f *factorization) write(t *testing.T, tensors map[string]stored, config map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "model.safetensors"), tensors)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), must(json.Marshal(config))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func asvd(f *factorization, module string, out, in int) []float64 {
	f.ranks[module] = 5
	// The bias stands at the left factor.
	if bias, ok := f.tensors[module+".bias"]; ok {
		delete(f.tensors, module+".bias")
		f.tensors[module+".ALinear.bias"] = bias
	}
	return multiply(f.random(module+".ALinear.weight", out, 5), f.random(module+".BLinear.weight", 5, in), 5)
}

func lems(f *factorization, module string, out, in int) []float64 {
	f.ranks[module] = 8
	return multiply(f.random(module+".mod_b.weight", out, 8), f.random(module+".mod_a.weight", 8, in), 8)
}

func svdLLM(f *factorization, module string, out, in int) []float64 {
	stem := strings.TrimSuffix(module, "_proj")
	return multiply(f.random(stem+"_u_proj.weight", out, 6), f.random(stem+"_v_proj.weight", 6, in), 6)
}

func pifa(f *factorization, module string, out, in int) []float64 {
	const rank = 7
	var combined []int
	pivots := f.rng.Perm(out)[:rank]
	slices.Sort(pivots)
	for row := range out {
		if !slices.Contains(pivots, row) {
			combined = append(combined, row)
		}
	}
	f.tensors[module+".false_idx"], f.tensors[module+".true_idx"] = storedI64(pivots), storedI64(combined)
	right := f.random(module+".BLinear.weight", rank, in)
	rest := multiply(f.random(module+".ALinear.weight", out-rank, rank), right, rank)
	y := make([]float64, out*in)
	for i, row := range pivots {
		for j := range in {
			y[row*in+j] = float64(right[i*in+j])
		}
	}
	for i, row := range combined {
		copy(y[row*in:], rest[i*in:][:in])
	}
	return y
}

// TestFactored reads checkpoints of factors as each tool lays them out, and holds matrices and logits against those of a
// checkpoint of the products.
func TestFactored(t *testing.T) {
	dev, err := cpu.Open(cpu.Options{Threads: 2, Activations: cpu.ActivationsF32})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for _, row := range []struct {
		name, kind string
		put        func(f *factorization, module string, out, in int) []float64
		config     func(f *factorization)
		note       string
	}{
		{"ASVD", "lowrank", asvd, func(f *factorization) {
			f.config["architectures"] = []string{"ASVDQwen2ForCausalLM"}
			f.config["truncation_ranks"] = f.ranks
			f.config["auto_map"] = map[string]string{"AutoConfig": "configuration_asvd_qwen2.ASVDQwen2Config"}
		}, "14 matrices factorized as ASVD stores them"},
		{"LEMS", "lowrank", lems, func(f *factorization) {
			f.config = map[string]any{
				"architectures": []string{"LowRankCausalLM"}, "model_type": "low_rank_compressed", "base_model_type": "qwen2",
				"base_config": f.config, "rank_dict": f.ranks,
			}
			for name, x := range maps.Clone(f.tensors) {
				delete(f.tensors, name)
				f.tensors["wrapped_model."+name] = x
			}
		}, "14 matrices factorized as LEMS stores them"},
		{"SVD-LLM", "lowrank", svdLLM, func(*factorization) {}, "14 matrices factorized as SVD-LLM stores them"},
		{"PIFA", "pifa", pifa, func(*factorization) {}, "14 matrices factorized as PIFA stores them"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := factorize(t, "testdata/qwen2", row.put)
			plain := f.write(t, f.dense, f.config)
			row.config(f)
			got, want := modeltest.OpenSource(t, f.write(t, f.tensors, f.config)), modeltest.OpenSource(t, plain)
			compareSources(t, dev, got, want, row.kind)
			if notes := model.Notes(got); !slices.Equal(notes, []string{row.note}) {
				t.Errorf("notes are %q", notes)
			}
			if a, b := model.Parameters(got), model.Parameters(want); a != b {
				t.Errorf("%d parameters, want %d", a, b)
			}
			// Packed with one matrix in another form, the rest stays as the tool has it.
			rounded := model.Quantize(modeltest.OpenSource(t, f.write(t, f.tensors, f.config)), model.Quantization{Tables: rounding(8)})
			same(t, modeltest.OpenSource(t, pack(t, rounded, []string{"model.embed_tokens"}, 0)), rounded)
			replacement := replaced(t, got, kinds["grouped"])
			for module := range replacement.weights {
				if !strings.HasSuffix(module, "0.mlp.up_proj") {
					delete(replacement.weights, module)
				}
			}
			same(t, modeltest.OpenSource(t, pack(t, replacement, slices.Collect(maps.Keys(replacement.weights)), 0)), replacement)
		})
	}
}

// compareSources holds the projections and the logits of a source against those of one with dense matrices.
func compareSources(t *testing.T, dev kernels.Device, got, want model.Source, kind string) {
	t.Helper()
	if !slices.Equal(got.Names(), want.Names()) {
		t.Fatalf("names are %q, want %q", got.Names(), want.Names())
	}
	for _, name := range want.Names() {
		if !strings.HasSuffix(name, "_proj.weight") {
			continue
		}
		w := must(got.Weight(name))(t)
		if w.Kind() != kind {
			t.Fatalf("%s is %s, want %s", name, w.Kind(), kind)
		}
		a, b := must(w.Dense())(t), must(must(want.Weight(name))(t).Dense())(t)
		for i, v := range a {
			if d := math.Abs(float64(v - b[i])); !(d <= 1e-5) {
				t.Fatalf("%s: element %d is %g, want %g", name, i, v, b[i])
			}
		}
	}
	tokens := make([]int32, 20)
	for i := range tokens {
		tokens[i] = int32(7 * i % 90)
	}
	logits := func(src model.Source) [][]float32 {
		return modeltest.LoadSource(t, dev, src, kernels.F32).Logits(t, tokens, 0)
	}
	if off := distance(logits(got), logits(want)); !(off < 1e-4) {
		t.Errorf("off by %g of the logits of the products, want at most 1e-4", off)
	}
}

// TestFactoredRefuses names what is wrong with a checkpoint of factors.
func TestFactoredRefuses(t *testing.T) {
	up := "model.layers.1.mlp.up_proj"
	for _, row := range []struct {
		put    func(f *factorization, module string, out, in int) []float64
		change func(f *factorization)
		want   string
	}{
		{asvd, func(f *factorization) { delete(f.tensors, up+".BLinear.weight") }, up + ".ALinear.weight is a factor as ASVD has them, and " + up + ".BLinear.weight is missing"},
		{asvd, func(f *factorization) { delete(f.tensors, up+".ALinear.weight") }, up + ".BLinear.weight is a factor as ASVD has them, and " + up + ".ALinear.weight is missing"},
		{asvd, func(f *factorization) { f.random(up+".weight", 96, 64) }, up + ".weight is there, and so is its factor"},
		{asvd, func(f *factorization) { f.random(up+".BLinear.weight", 6, 64) }, "has shape [96 5], want 6 columns"},
		{asvd, func(f *factorization) { f.tensors[up+".BLinear.weight"] = storedI64([]int{1}) }, "want the two dimensions of a factor"},
		{asvd, func(f *factorization) {
			f.tensors[up+".BLinear.weight"] = stored{"I8", []int{5, 64}, make([]byte, 320)}
		}, "unsupported tensor type I8"},
		{asvd, func(f *factorization) { f.config["truncation_ranks"] = map[string]int{up: 5} }, "truncation_ranks: model.layers.0.mlp.down_proj is factorized, and it has no rank"},
		{asvd, func(f *factorization) { f.ranks[up] = 4; f.config["truncation_ranks"] = f.ranks }, "truncation_ranks: " + up + " has rank 4, and its factors have 5"},
		{asvd, func(f *factorization) { f.ranks["lm_head"] = 4; f.config["truncation_ranks"] = f.ranks }, "it names lm_head, which is not factorized"},
		{lems, func(f *factorization) { f.config["model_type"] = "low_rank_compressed" }, "base_config is missing"},
		{svdLLM, func(f *factorization) { delete(f.tensors, strings.TrimSuffix(up, "_proj")+"_v_proj.weight") }, "up_v_proj.weight is missing"},
		{pifa, func(f *factorization) { delete(f.tensors, up+".true_idx") }, up + ".true_idx is missing"},
		{pifa, func(f *factorization) { f.tensors[up+".false_idx"] = storedI64([]int{1, 2}) }, "has type I64 and shape [2], want I64 and [7]"},
		{pifa, func(f *factorization) { f.tensors[up+".false_idx"] = storedI64([]int{1, 2, 3, 4, 5, 6, 6}) }, "out of the 96 rows or twice"},
		{pifa, func(f *factorization) { f.tensors[up+".false_idx"] = storedI64([]int{1, 2, 3, 4, 5, 6, -1}) }, "element 6 is -1, want the number of a row"},
		{pifa, func(f *factorization) {
			x := f.tensors[up+".true_idx"]
			x.data = bytes.Clone(x.data)
			copy(x.data, x.data[8:16])
			f.tensors[up+".true_idx"] = x
		}, "is the next that is no pivot"},
		{asvd, func(f *factorization) {
			f.tensors[up+".BLinear.weight"].data[3] = 0x7f
			f.tensors[up+".BLinear.weight"].data[2] = 0x80
		}, up + ".BLinear.weight in model.safetensors: element 0 is not a finite number"},
	} {
		f := factorize(t, "testdata/llama", row.put)
		row.change(f)
		err := load(t, f.write(t, f.tensors, f.config))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("error is %v, want %s", err, row.want)
		}
	}
	// A pickle is refused in a sentence.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), []byte("PK\x03\x04"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := load(t, dir); err == nil || !strings.Contains(err.Error(), "a pickle can run code and is not read") {
		t.Errorf("error is %v", err)
	}
}

// load opens a checkpoint and reads all of its matrices.
func load(t *testing.T, dir string) error {
	t.Helper()
	c, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	src, err := model.NewSource(c)
	if err != nil {
		return err
	}
	for _, name := range src.Names() {
		if strings.HasSuffix(name, "norm.weight") || strings.HasSuffix(name, ".bias") {
			continue
		}
		w, err := src.Weight(name)
		if err == nil {
			_, err = w.Dense()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// adapterConfig is adapter_config.json as PEFT writes it.
func adapterConfig(more map[string]any) map[string]any {
	config := map[string]any{
		"alpha_pattern": map[string]any{}, "auto_mapping": nil, "base_model_name_or_path": "x/y", "bias": "none", "corda_config": nil,
		"eva_config": nil, "exclude_modules": nil, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
		"layer_replication": nil, "layers_pattern": nil, "layers_to_transform": nil, "loftq_config": map[string]any{}, "lora_alpha": 12,
		"lora_bias": false, "lora_dropout": 0.05, "megatron_config": nil, "megatron_core": "megatron.core", "modules_to_save": nil,
		"peft_type": "LORA", "peft_version": "0.17.0", "qalora_group_size": 16, "r": 4, "rank_pattern": map[string]any{}, "revision": nil,
		"target_modules": []string{"q_proj"}, "target_parameters": nil, "task_type": "CAUSAL_LM", "trainable_token_indices": nil,
		"use_dora": false, "use_qalora": false, "use_rslora": false,
	}
	maps.Copy(config, more)
	return config
}

// writeAdapter writes an adapter to a new folder.
func writeAdapter(t *testing.T, tensors map[string]stored, config any) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "adapter_model.safetensors"), tensors)
	text, ok := config.(string)
	if !ok {
		text = string(must(json.Marshal(config))(t))
	}
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openAdapter opens the adapter in dir until the test ends.
func openAdapter(t *testing.T, dir string) (*factored.Adapter, error) {
	t.Helper()
	c, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return factored.NewAdapter(c)
}

// TestAdapter adds adapters to a model and holds the sums against W + s·B·A, computed here; on a rounded model the rounded
// matrix is the base.
func TestAdapter(t *testing.T) {
	for _, row := range []struct {
		name   string
		config map[string]any
		before string
		rank   func(module string) int
		scale  func(module string) float64
	}{
		{"LoRA", nil, "base_model.model.", func(string) int { return 4 }, func(string) float64 { return 3 }},
		{"rank-stabilized", map[string]any{"use_rslora": true}, "base_model.model.", func(string) int { return 4 }, func(string) float64 { return 6 }},
		{"EoRA", map[string]any{"lora_alpha": 4}, "", func(string) int { return 4 }, func(string) float64 { return 1 }},
		{"patterns", map[string]any{
			"rank_pattern":  map[string]any{"q_proj": 8, "layers.1.mlp.up_proj": 2},
			"alpha_pattern": map[string]any{`^model\.layers\.0\..*`: 24},
		}, "base_model.model.", func(module string) int {
			switch {
			case strings.HasSuffix(module, "q_proj"):
				return 8
			case module == "model.layers.1.mlp.up_proj":
				return 2
			}
			return 4
		}, func(module string) float64 {
			alpha := 12.0
			if strings.HasPrefix(module, "model.layers.0.") {
				alpha = 24
			}
			switch {
			case strings.HasSuffix(module, "q_proj"):
				return alpha / 8
			case module == "model.layers.1.mlp.up_proj":
				return alpha / 2
			}
			return alpha / 4
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			base := model.Quantize(modeltest.OpenSource(t, "testdata/qwen3"), model.Quantization{Blocks: rounding(4)})
			f := &factorization{tensors: map[string]stored{}, rng: rand.New(rand.NewPCG(3, 3))}
			truth := map[string][]float64{}
			for _, module := range modules(base) {
				if !strings.HasSuffix(module, "q_proj") && !strings.HasSuffix(module, "up_proj") {
					continue
				}
				out, in := must(base.Weight(module + ".weight"))(t).Dims()
				r := row.rank(module)
				b := f.random(row.before+module+".lora_B.weight", out, r)
				y := multiply(b, f.random(row.before+module+".lora_A.weight", r, in), r)
				for i, v := range must(must(base.Weight(module + ".weight"))(t).Dense())(t) {
					y[i] = float64(v) + row.scale(module)*y[i]
				}
				truth[module+".weight"] = y
			}
			a := must(openAdapter(t, writeAdapter(t, f.tensors, adapterConfig(row.config))))(t)
			got := must(model.Adapt(base, a))(t)
			for _, name := range base.Names() {
				w, err := got.Weight(name)
				if err != nil {
					continue
				}
				want, ok := truth[name]
				if (w.Kind() == "sum") != ok {
					t.Fatalf("%s is %s", name, w.Kind())
				}
				if ok {
					for i, v := range must(w.Dense())(t) {
						if d := math.Abs(float64(v) - want[i]); !(d <= 1e-5*(1+math.Abs(want[i]))) {
							t.Fatalf("%s: element %d is %g, want %g", name, i, v, want[i])
						}
					}
				}
			}
			// It runs, and can be packed.
			same(t, modeltest.OpenSource(t, pack(t, got, modules(got), 0)), got)
		})
	}
}

// TestAdapterRefuses names what keeps an adapter from being added.
func TestAdapterRefuses(t *testing.T) {
	const q = "base_model.model.model.layers.0.self_attn.q_proj"
	good := func() map[string]stored {
		f := &factorization{tensors: map[string]stored{}, rng: rand.New(rand.NewPCG(3, 3))}
		f.random(q+".lora_A.weight", 4, 64)
		f.random(q+".lora_B.weight", 64, 4)
		return f.tensors
	}
	with := func(name string, s stored) map[string]stored {
		all := good()
		all[name] = s
		return all
	}
	without := func(name string) map[string]stored {
		all := good()
		delete(all, name)
		return all
	}
	matrix := func(rows, cols int) stored { return storedF32(rows, cols, make([]float32, rows*cols)) }
	for _, row := range []struct {
		tensors map[string]stored
		config  any
		want    string
	}{
		{good(), adapterConfig(nil), ""},
		{good(), adapterConfig(map[string]any{"use_dora": true}), "DoRA: not supported"},
		{good(), adapterConfig(map[string]any{"peft_type": "IA3"}), `peft_type "IA3": not supported`},
		{good(), adapterConfig(map[string]any{"fan_in_fan_out": true}), "fan_in_fan_out true: not supported"},
		{good(), adapterConfig(map[string]any{"bias": "all"}), `bias "all": not supported`},
		{good(), adapterConfig(map[string]any{"modules_to_save": []string{"lm_head"}}), `modules_to_save ["lm_head"]: not supported`},
		{good(), adapterConfig(map[string]any{"init_lora_weights": "pissa_niter_4"}), `init_lora_weights "pissa_niter_4": not supported, since it changes the model`},
		{good(), adapterConfig(map[string]any{"init_lora_weights": "gaussian"}), ""},
		{good(), adapterConfig(map[string]any{"use_something_new": 1}), "use_something_new 1: not supported"},
		{good(), adapterConfig(map[string]any{"r": nil}), "r or lora_alpha is missing"},
		{good(), adapterConfig(map[string]any{"r": 0}), "want a positive rank"},
		{good(), adapterConfig(map[string]any{"r": 5}), "has 4 rows, and adapter_config.json says rank 5"},
		{good(), adapterConfig(map[string]any{"rank_pattern": []int{1}}), "rank_pattern: want an object"},
		{good(), adapterConfig(map[string]any{"rank_pattern": map[string]any{"(": 4}}), "rank_pattern: error parsing regexp"},
		{good(), adapterConfig(map[string]any{"rank_pattern": map[string]any{"q_proj": 1.5}}), "rank_pattern has rank 1.5"},
		{good(), "[]", "cannot unmarshal array"},
		{with(q+".lora_magnitude_vector", matrix(1, 64)), adapterConfig(nil), "belongs to DoRA"},
		{with("base_model.model.model.embed_tokens.lora_embedding_A", matrix(4, 64)), adapterConfig(nil), "an adapter of an embedding"},
		{with("base_model.model.lm_head.weight", matrix(4, 64)), adapterConfig(nil), "is no factor of LoRA"},
		{with(q+".lora_A.default.weight", matrix(4, 64)), adapterConfig(nil), "are the same factor"},
		{with(q+".lora_A.weight", stored{"I8", []int{4, 64}, make([]byte, 256)}), adapterConfig(nil), "unsupported tensor type I8"},
		{with(q+".lora_A.weight", stored{"F32", []int{256}, make([]byte, 1024)}), adapterConfig(nil), "want the two dimensions of a factor"},
		{with(q+".lora_A.weight", matrix(3, 64)), adapterConfig(nil), "which have to be equal"},
		{with(q+".lora_A.weight", matrix(4, 65)), adapterConfig(nil), "it adds [64 65] to model.layers.0.self_attn.q_proj.weight, which has shape [64 64]"},
		{without(q + ".lora_B.weight"), adapterConfig(nil), "model.layers.0.self_attn.q_proj has one factor of two"},
		{map[string]stored{}, adapterConfig(nil), "it has no tensors"},
		{map[string]stored{"model.layers.7.x.lora_A.weight": matrix(4, 64), "model.layers.7.x.lora_B.weight": matrix(64, 4)}, adapterConfig(nil), "it adds to model.layers.7.x: model.layers.7.x.weight is missing"},
	} {
		a, err := openAdapter(t, writeAdapter(t, row.tensors, row.config))
		if err == nil {
			_, err = model.Adapt(modeltest.OpenSource(t, "testdata/llama"), a)
		}
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%v: %v", row.config, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("error is %v, want %s", err, row.want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "adapter_model.bin"), []byte("PK\x03\x04"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openAdapter(t, dir); err == nil || !strings.Contains(err.Error(), "a pickle can run code and is not read") {
		t.Errorf("error is %v", err)
	}
	if _, err := openAdapter(t, "testdata/llama"); err == nil || !strings.Contains(err.Error(), "adapter_config.json") {
		t.Errorf("error is %v", err)
	}
}
