package quantized_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/model/checkpoint"
	"eckart/model/quantized"
)

// A sample is the tensors and the config of a case, to be spoiled.
type sample struct {
	tensors map[string]tensor
	config  map[string]any // quantization_config
}

type tensor struct {
	t     checkpoint.DType
	shape []int
	raw   []byte
}

func sampleOf(t *testing.T, name string) sample {
	t.Helper()
	c, _ := open(t, filepath.Join("testdata", name+".safetensors"))
	s := sample{tensors: map[string]tensor{}}
	for _, n := range c.Names() {
		x, _ := c.Tensor(n)
		raw := make([]byte, x.Bytes())
		if err := c.ReadAt(raw, x, 0); err != nil {
			t.Fatal(err)
		}
		s.tensors[n] = tensor{x.Type, slices.Clone(x.Shape), raw}
	}
	var all struct {
		Quantization map[string]any `json:"quantization_config"`
	}
	if err := json.Unmarshal([]byte(c.Metadata()["config"]), &all); err != nil {
		t.Fatal(err)
	}
	s.config = all.Quantization
	return s
}

// write makes a checkpoint of the sample, with the settings of quantize_config.json where there are any.
func (s sample) write(t *testing.T, side string) *checkpoint.Checkpoint {
	t.Helper()
	type entry struct {
		Type    checkpoint.DType `json:"dtype"`
		Shape   []int            `json:"shape"`
		Offsets [2]int           `json:"data_offsets"`
	}
	header, data := map[string]entry{}, []byte(nil)
	for name, x := range s.tensors {
		header[name] = entry{x.t, x.shape, [2]int{len(data), len(data) + len(x.raw)}}
		data = append(data, x.raw...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	if side != "" {
		if err := os.WriteFile(filepath.Join(dir, "quantize_config.json"), []byte(side), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// load opens the sample and reads its matrix.
func (s sample) load(t *testing.T) error {
	t.Helper()
	config, err := json.Marshal(map[string]any{"quantization_config": s.config})
	if err != nil {
		t.Fatal(err)
	}
	r, err := quantized.Open(s.write(t, ""), config)
	if err != nil {
		return err
	}
	w, ok := r.Weight("m.weight")
	if !ok {
		t.Fatal("no m.weight")
	}
	_, err = w.Dense()
	return err
}

func (s sample) shape(name string, shape ...int) {
	x := s.tensors[name]
	x.shape = shape
	s.tensors[name] = x
}

func (s sample) put16(name string, i int, v uint16) {
	binary.LittleEndian.PutUint16(s.tensors[name].raw[2*i:], v)
}

func (s sample) put32(name string, i int, v uint32) {
	binary.LittleEndian.PutUint32(s.tensors[name].raw[4*i:], v)
}

func (s sample) putF32(name string, i int, v float64) { s.put32(name, i, math.Float32bits(float32(v))) }

// weights returns the object of a compressed-tensors config that describes weights.
func (s sample) weights() map[string]any {
	return s.group()["weights"].(map[string]any)
}

func (s sample) group() map[string]any {
	return s.config["config_groups"].(map[string]any)["group_0"].(map[string]any)
}

func TestRefuses(t *testing.T) {
	set := func(field string, value any) func(sample) { return func(s sample) { s.config[field] = value } }
	weights := func(field string, value any) func(sample) { return func(s sample) { s.weights()[field] = value } }
	drop := func(name string) func(sample) { return func(s sample) { delete(s.tensors, name) } }
	inf, nan := math.Inf(1), math.NaN()
	sound := map[string]bool{} // samples that load as they are
	const state = "m.weight.quant_state.bitsandbytes__nf4"
	for _, row := range []struct {
		name, of    string
		change      func(s sample)
		want        string
		unsupported bool
	}{
		// what config.json says
		{"unknown method", "gptq-4bit", set("quant_method", "hqq"), `quant_method "hqq": not supported (supported: awq, bitsandbytes, compressed-tensors, fp8, gptq, mxfp4)`, true},
		{"no method", "gptq-4bit", set("quant_method", nil), `quant_method ""`, true},
		{"gptq says awq", "gptq-4bit", func(s sample) { s.config["quant_method"], s.config["version"] = "awq", "gemm" }, `quant_method "awq", and m.qweight (I32 [8 16]) is laid out as gptq`, false},
		{"awq says gptq", "awq-4bit", set("quant_method", "gptq"), `quant_method "gptq", and m.qweight (I32 [64 4]) is laid out as awq`, false},
		{"nf4 says fp8", "bnb-nf4", set("quant_method", "fp8"), `quant_method "fp8", and m.weight (U8 [788 1]) is laid out as bitsandbytes 4 bit`, false},
		{"int8 says nf4", "bnb-int8", func(s sample) { s.config["load_in_4bit"], s.config["load_in_8bit"] = true, false }, "is laid out as bitsandbytes 8 bit", false},
		{"fp4 says nf4", "bnb-fp4", set("bnb_4bit_quant_type", "nf4"), `bnb_4bit_quant_type "nf4", and m.weight (U8 [788 1]) is fp4`, false},
		{"plain tensors", "gptq-4bit", func(s sample) {
			for _, n := range []string{"m.qweight", "m.qzeros", "m.scales"} {
				delete(s.tensors, n)
			}
		}, "no tensor is laid out as gptq", false},
		{"no config", "gptq-4bit", func(s sample) { clear(s.config) }, "m.qweight (I32 [8 16]) is laid out as gptq, and config.json has no quantization_config", false},
		{"type of a field", "gptq-4bit", set("bits", "four"), "bits", false},
		{"type of the whole", "gptq-4bit", set("quant_method", 4), "quant_method", false},
		{"e5m2", "fp8-row", func(s sample) {
			x := s.tensors["m.weight"]
			x.t = checkpoint.F8E5M2
			s.tensors["m.weight"] = x
		}, "m.weight (F8_E5M2 [24 56]) is laid out as no layout that is known", false},

		{"gptq bits", "gptq-4bit", set("bits", 5), "bits 5: not supported (8 4 3 2 are)", true},
		{"gptq other bits", "gptq-4bit", set("bits", 8), "m.scales has shape [2 16], want [1 16]", false},
		{"gptq group", "gptq-4bit", set("group_size", 0), "group_size must be -1 or between 1", false},
		{"gptq other group", "gptq-4bit", set("group_size", 64), "m.scales has shape [2 16], want [1 16]", false},
		{"gptq marlin", "gptq-4bit", set("checkpoint_format", "marlin"), `checkpoint_format "marlin"`, true},
		{"gptq old marlin", "gptq-4bit", set("is_marlin_format", true), "is_marlin_format true", true},
		{"gptq two formats", "gptq-4bit", func(s sample) { s.config["format"], s.config["checkpoint_format"] = "gptq", "gptq_v2" }, "differ", false},
		{"gptq words", "gptq-4bit", set("pack_dtype", "int16"), `pack_dtype "int16"`, true},
		{"gptq overrides", "gptq-4bit", set("dynamic", map[string]any{"+:.*q_proj": map[string]any{"bits": 8}}), `dynamic "+:.*q_proj"`, true},
		{"gptq adapter", "gptq-4bit", set("adapter", map[string]any{"rank": 8}), "adapter", true},
		{"gptq rotation", "gptq-4bit", set("rotation", "hadamard"), "rotation", true},
		{"awq bits", "awq-4bit", set("bits", 3), "bits 3", true},
		{"awq gemv", "awq-4bit", set("version", "gemv"), `version "gemv": not supported (gemm is)`, true},
		{"awq marlin", "awq-4bit", set("version", "marlin"), `version "marlin"`, true},
		{"awq without zeros", "awq-4bit", set("zero_point", false), "zero_point false", true},
		{"awq of llm-awq", "awq-4bit", set("backend", "llm-awq"), `backend "llm-awq"`, true},
		{"awq group", "awq-4bit", set("group_size", 48), "m.qweight has shape [64 4], and group_size 48 does not divide its rows", false},

		{"sparse", "pack-4bit", set("sparsity_config", map[string]any{"format": "sparse-24-bitmask"}), `sparsity_config.format "sparse-24-bitmask"`, true},
		{"marlin-24", "pack-4bit", func(s sample) { s.config["format"] = "marlin-24" }, `format "marlin-24"`, true},
		{"frozen", "pack-4bit", set("quantization_status", "frozen"), `quantization_status "frozen"`, true},
		{"cache scales", "pack-4bit", set("kv_cache_scheme", map[string]any{"num_bits": 8}), "kv_cache_scheme", true},
		{"transforms", "pack-4bit", set("transform_config", map[string]any{"a": 1}), "transform_config", true},
		{"no groups", "pack-4bit", set("config_groups", nil), "config_groups is missing", false},
		{"pack says int", "pack-4bit", func(s sample) { s.config["format"] = "int-quantized" }, `format "int-quantized" for m, and m.weight_packed (I32 [16 8]) is laid out as pack-quantized`, false},
		{"no target", "pack-4bit", func(s sample) { s.group()["targets"] = []string{"re:model.*", "n.q_proj"} }, "no target of config_groups matches m", false},
		{"lookahead", "pack-4bit", func(s sample) { s.group()["targets"] = []string{"re:(?!lm_head)"} }, "targets", true},
		{"actorder", "pack-4bit", weights("actorder", "random"), `weights.actorder "random"`, true},
		{"pack bits", "pack-4bit", weights("num_bits", 9), "weights.num_bits 9: not supported (1 2 3 4 5 6 7 8 are) for pack-quantized", true},
		{"other pack bits", "pack-4bit", weights("num_bits", 3), "m.weight_packed has shape [16 8], want [16 6]", false},
		{"pack float", "pack-4bit", weights("type", "float"), `weights.type "float"`, true},
		{"dynamic weights", "pack-4bit", weights("dynamic", true), "weights.dynamic", true},
		{"pack strategy", "pack-4bit", weights("strategy", "token"), `weights.strategy "token"`, true},
		{"pack group", "pack-4bit", weights("group_size", 48), "m.weight_packed has 64 columns, which groups of 48 do not divide", false},
		{"float actorder", "float8-row", weights("actorder", "group"), "without actorder", true},
		{"block", "float8-block", weights("block_structure", []int{16}), "weights.block_structure", false},
		{"nvfp4 group", "nvfp4", weights("group_size", 32), "weights.group_size 32", true},

		{"fp8 semantics", "fp8-divided-row", set("weight_scale_semantics", "direct"), `weight_scale_semantics "direct"`, true},
		{"fp8 semantics missing", "fp8-divided-row", set("weight_scale_semantics", nil), `weight_scale_method "row" needs weight_scale_semantics`, false},
		{"fp8 format", "fp8-divided-row", set("format", "float8_e5m2"), `format "float8_e5m2"`, true},
		{"fp8 block", "fp8-block", set("weight_block_size", []int{16, 0}), "weight_block_size", false},
		{"fp8 other block", "fp8-block", set("weight_block_size", []int{8, 32}), "m.weight_scale_inv has shape [2 2], want [3 2]", false},
		{"fp8 scheme", "fp8-row", set("activation_scheme", "odd"), `activation_scheme "odd"`, true},
		{"fp8 cache scales", "fp8-row", set("kv_cache_scheme", "static"), "kv_cache_scheme", true},
		{"divided block", "fp8-divided-block", set("weight_block_size", []int{24, 32}), "blocks of [24 32] do not divide", false},
		{"bnb neither", "bnb-nf4", set("load_in_4bit", false), "one of load_in_4bit and load_in_8bit", false},
		{"bnb storage", "bnb-nf4", set("bnb_4bit_quant_storage", "bfloat16"), `bnb_4bit_quant_storage "bfloat16"`, true},
		{"bnb type", "bnb-nf4", set("bnb_4bit_quant_type", "af4"), `bnb_4bit_quant_type "af4"`, true},

		// tensors that do not fit
		{"gptq without scales", "gptq-4bit", drop("m.scales"), "m.scales is missing", false},
		{"gptq without zeros", "gptq-4bit", drop("m.qzeros"), "m.qzeros is missing", false},
		{"gptq shape", "gptq-3bit", func(s sample) {
			x := s.tensors["m.qweight"]
			x.shape, x.raw = []int{5, 32}, x.raw[:5*32*4]
			s.tensors["m.qweight"] = x
		}, "m.qweight has shape [5 32], which codes of 3 bits do not fill", false},
		{"gptq dimensions", "gptq-4bit", func(s sample) { s.shape("m.qweight", 128) }, "m.qweight has shape [128], want two dimensions", false},
		{"gptq zeros", "gptq-4bit", func(s sample) { s.shape("m.qzeros", 4, 1) }, "m.qzeros has shape [4 1], want [2 2]", false},
		{"gptq scale type", "gptq-4bit", func(s sample) { s.tensors["m.scales"] = tensor{checkpoint.F64, []int{2, 16}, make([]byte, 256)} }, "m.scales has type F64, want F32 or F16 or BF16", false},
		{"group below", "gptq-4bit-act-order", func(s sample) { s.put32("m.g_idx", 5, 0xffffffff) }, "m.g_idx: column 5 is of group -1, there are 3", false},
		{"group above", "gptq-4bit-act-order", func(s sample) { s.put32("m.g_idx", 95, 3) }, "m.g_idx: column 95 is of group 3, there are 3", false},
		{"group too large", "gptq-4bit-act-order", func(s sample) {
			for i := range 33 {
				s.put32("m.g_idx", i, 1)
			}
		}, "m.g_idx: group 1 has more than its 32 columns", false},
		{"groups too few", "gptq-4bit-act-order", func(s sample) {
			x := s.tensors["m.g_idx"]
			s.tensors["m.g_idx"] = tensor{x.t, []int{95}, x.raw[:95*4]}
		}, "m.g_idx has shape [95], want [96]", false},
		{"pack group", "pack-4bit-act-order", func(s sample) { s.put32("m.weight_g_idx", 5, 0xffffffff) }, "m.weight_g_idx: column 5 is of group -1", false},
		{"pack without order", "pack-4bit-act-order", drop("m.weight_g_idx"), "m.weight_g_idx is missing", false},
		{"pack without shape", "pack-4bit", drop("m.weight_shape"), "m.weight_shape is missing", false},
		{"pack shape", "pack-4bit", func(s sample) { binary.LittleEndian.PutUint64(s.tensors["m.weight_shape"].raw[8:], 1<<40) }, "m.weight_shape is [16 1099511627776]", false},
		{"pack negative shape", "pack-4bit", func(s sample) { binary.LittleEndian.PutUint64(s.tensors["m.weight_shape"].raw, math.MaxUint64) }, "m.weight_shape is [-1 64]", false},
		{"pack zeros", "pack-4bit-zeros", func(s sample) { s.shape("m.weight_zero_point", 2, 3) }, "m.weight_zero_point has shape [2 3], want [3 2]", false},
		{"pack without zeros", "pack-4bit-zeros", drop("m.weight_zero_point"), "m.weight_zero_point is missing", false},
		{"int8 scales", "int8-row", func(s sample) { s.shape("m.weight_scale", 1, 16) }, "m.weight_scale has shape [1 16], want [16 1]", false},
		{"nvfp4 global", "nvfp4", func(s sample) { s.tensors["m.weight_global_scale"] = tensor{checkpoint.F32, []int{2}, make([]byte, 8)} }, "m.weight_global_scale has shape [2], want [1]", false},
		{"mxfp4 scales", "mxfp4-blocks", func(s sample) { s.shape("m.weight_scales", 3, 16) }, "m.weight_scales has shape [3 16], want [16 3]", false},
		{"mxfp4 blocks", "mxfp4-blocks", func(s sample) { s.shape("m.weight_blocks", 16, 48, 1) }, "m.weight_blocks has shape [16 48 1]", false},
		{"nf4 shape", "bnb-nf4", func(s sample) { s.state(state, `"shape": [21, 76]`, `"shape": [21, 75]`) }, "m.weight has shape [788 1], want [798 1]", false},
		{"nf4 huge shape", "bnb-nf4", func(s sample) { s.state(state, `"shape": [2147483648, 2147483648]`, `"shape": [21, 75]`) }, "shape must be two numbers between 1", false},
		{"nf4 blocks", "bnb-nf4", func(s sample) { s.state(state, `"blocksize": 0`, `"blocksize": 64`) }, "blocksize 0", true},
		{"nf4 other blocks", "bnb-nf4", func(s sample) { s.state(state, `"blocksize": 128`, `"blocksize": 64`) }, "m.weight.absmax has shape [25], want [13]", false},
		{"nf4 state", "bnb-nf4", func(s sample) { s.state(state, `[`, `{`) }, "read " + state, false},
		{"nf4 without state", "bnb-nf4", drop(state), "m.weight.quant_state.bitsandbytes__nf4 or __fp4 is missing", false},
		{"nf4 in name only", "bnb-nf4", func(s sample) { s.state(state, `"quant_type": "fp4"`, `"quant_type": "nf4"`) }, state + ` has quant_type "fp4"`, false},
		{"nf4 table", "bnb-nf4", func(s sample) { s.putF32("m.weight.quant_map", 3, 0.5) }, "m.weight.quant_map: code 3 stands for 0.5, want -0.394", false},
		{"nested blocks", "bnb-nf4-nested", func(s sample) { s.state(state, `"nested_blocksize": 3`, `"nested_blocksize": 256`) }, "nested_blocksize 3", true},
		{"int8 tiles", "bnb-int8", func(s sample) { s.tensors["m.weight_format"].raw[0] = 2 }, "m.weight_format is [2]", true},
		{"int8 magnitudes", "bnb-int8", func(s sample) { s.shape("m.SCB", 16, 1) }, "m.SCB has shape [16 1], want [16]", false},

		// numbers that are none, or no scales
		{"gptq zero", "gptq-4bit", func(s sample) { s.put16("m.scales", 17, 0) }, "read m.scales in model.safetensors: element 17 is 0, want a positive finite scale", false},
		{"gptq negative", "gptq-4bit-act-order", func(s sample) { s.put16("m.scales", 3, 0xb800) }, "m.scales in model.safetensors: element 3 is -0.5", false},
		{"awq infinite", "awq-4bit", func(s sample) { s.put16("m.scales", 40, 0x7c00) }, "m.scales in model.safetensors: element 40 is +Inf", false},
		{"pack NaN", "pack-4bit", func(s sample) { s.put16("m.weight_scale", 9, 0x7fc0) }, "m.weight_scale in model.safetensors: element 9 is NaN", false},
		{"int8 zero", "int8-zeros-matrix", func(s sample) { s.putF32("m.weight_scale", 0, 0) }, "m.weight_scale in model.safetensors: element 0 is 0", false},
		{"float8 NaN", "float8-row", func(s sample) { s.tensors["m.weight"].raw[57] = 0x7f }, "read m.weight: row 1, column 1 is NaN, no finite bf16", false},
		{"fp8 negative", "fp8-block", func(s sample) { s.putF32("m.weight_scale_inv", 3, -1) }, "m.weight_scale_inv in model.safetensors: element 3 is -1", false},
		{"fp8 too large", "fp8-matrix", func(s sample) { s.putF32("m.weight_scale", 0, 3e38) }, "no finite bf16", false},
		{"fp8 power", "fp8-transformers-powers", func(s sample) { s.tensors["m.weight_scale_inv"].raw[1] = 0xff }, "m.weight_scale_inv in model.safetensors: element 1 is NaN", false},
		{"nvfp4 scale", "nvfp4", func(s sample) { s.tensors["m.weight_scale"].raw[7] = 0x80 }, "m.weight_scale in model.safetensors: element 7 is", false},
		{"nvfp4 global infinite", "nvfp4", func(s sample) { s.putF32("m.weight_global_scale", 0, inf) }, "m.weight_global_scale in model.safetensors: element 0 is +Inf", false},
		{"mxfp4 NaN", "mxfp4", func(s sample) { s.tensors["m.weight_scale"].raw[4] = 0xff }, "m.weight_scale in model.safetensors: element 4 is 2^128, want at most 2^125", false},
		{"nf4 magnitude", "bnb-nf4", func(s sample) { s.putF32("m.weight.absmax", 2, -1) }, "m.weight.absmax in model.safetensors: element 2 is -1, want a finite magnitude", false},
		{"nested magnitude", "bnb-nf4-nested", func(s sample) { s.putF32("m.weight.nested_absmax", 1, nan) }, "m.weight.nested_absmax in model.safetensors: element 1 is NaN", false},
		{"nested table", "bnb-nf4-nested", func(s sample) { s.putF32("m.weight.nested_quant_map", 7, nan) }, "m.weight.nested_quant_map: code 7 stands for NaN", false},
		{"int8 magnitude", "bnb-int8", func(s sample) { s.putF32("m.SCB", 4, inf) }, "m.SCB in model.safetensors: element 4 is +Inf", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := sampleOf(t, row.of)
			if !sound[row.of] {
				if err := s.load(t); err != nil {
					t.Fatalf("unspoiled: %v", err)
				}
				sound[row.of] = true
			}
			row.change(s)
			err := s.load(t)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %v, want an error with %q", err, row.want)
			}
			if errors.Is(err, quantized.ErrUnsupported) != row.unsupported {
				t.Errorf("%v: unsupported is %v, want %v", err, !row.unsupported, row.unsupported)
			}
		})
	}
}

// state replaces text in a quant_state.
func (s sample) state(name, to, from string) {
	x := s.tensors[name]
	x.raw = []byte(strings.Replace(string(x.raw), from, to, 1))
	x.shape = []int{len(x.raw)}
	s.tensors[name] = x
}

// TestPlainBeside keeps the names of what is not quantized, and of tensors that belong to nothing.
func TestPlainBeside(t *testing.T) {
	s := sampleOf(t, "gptq-4bit")
	delete(s.tensors, "truth")
	for _, name := range []string{"lm_head.weight", "m.bias", "m.k_scale", "m2.weight"} {
		s.tensors[name] = tensor{checkpoint.F16, []int{2}, []byte{1, 2, 3, 4}}
	}
	c := s.write(t, `{"bits": 4, "group_size": 32, "desc_act": false}`)
	r, err := quantized.Open(c, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(r.Names(), " "), "lm_head.weight m.bias m.k_scale m.weight m2.weight"; got != want {
		t.Errorf("names %s, want %s", got, want)
	}
	for name, want := range map[string]bool{"m.weight": true, "m2.weight": false, "lm_head.weight": false} {
		if _, ok := r.Weight(name); ok != want {
			t.Errorf("%s: quantized is %v, want %v", name, ok, want)
		}
	}
}

// TestPlain opens a checkpoint without anything quantized.
func TestPlain(t *testing.T) {
	s := sample{tensors: map[string]tensor{"a.weight": {checkpoint.F16, []int{2}, []byte{1, 2, 3, 4}}}}
	r, err := quantized.Open(s.write(t, ""), []byte(`{"quantization_config": null}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Names(), " "); got != "a.weight" || r.Notes() != nil {
		t.Errorf("names %s, notes %q", got, r.Notes())
	}
}

// TestNamesOfBlocks reads the layout of gpt-oss by every name that its tensors go by.
func TestNamesOfBlocks(t *testing.T) {
	for _, names := range [][2]string{
		{"m.weight_blocks", "m.weight_scales"},
		{"m.weight.blocks", "m.weight.scales"},
		{"m_blocks", "m_scales"},
		{"m.blocks", "m.scales"},
	} {
		s := sampleOf(t, "mxfp4-blocks")
		blocks, scales := s.tensors["m.weight_blocks"], s.tensors["m.weight_scales"]
		delete(s.tensors, "m.weight_blocks")
		delete(s.tensors, "m.weight_scales")
		s.tensors[names[0]], s.tensors[names[1]] = blocks, scales
		if err := s.load(t); err != nil {
			t.Errorf("%s: %v", names[0], err)
		}
	}
}
