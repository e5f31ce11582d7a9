package model_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/model"
)

// base is a small valid config in the older form; rows of the tables below change fields of it.
func base() map[string]any {
	return map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama",
		"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
		"intermediate_size": 96, "vocab_size": 320, "max_position_embeddings": 256,
		"rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": true,
		"bos_token_id": 1, "eos_token_id": 2,
	}
}

type fields = map[string]any

func parse(t *testing.T, change fields) (model.Config, error) {
	t.Helper()
	c := base()
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return model.ParseConfig(text)
}

func qwen(change fields) fields {
	c := fields{"architectures": []string{"Qwen2ForCausalLM"}, "model_type": "qwen2"}
	maps.Copy(c, change)
	return c
}

func mistral(change fields) fields {
	c := fields{"architectures": []string{"MistralForCausalLM"}, "model_type": "mistral"}
	maps.Copy(c, change)
	return c
}

var null = json.RawMessage("null")

func TestConfigRefuses(t *testing.T) {
	rope := func(change fields) fields { return fields{"rope_scaling": change} }
	llama3 := func(change fields) fields {
		c := fields{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}
		maps.Copy(c, change)
		return rope(c)
	}
	for _, row := range []struct {
		name        string
		change      fields
		want        string // in the error
		unsupported bool
	}{
		{"F13 heads not dividing", fields{"num_attention_heads": 5, "num_key_value_heads": 2}, "num_key_value_heads 2 must divide num_attention_heads 5", false},
		{"F13 more key heads than heads", fields{"num_key_value_heads": 8}, "num_key_value_heads 8", false},
		{"F13 no head_dim and no division", fields{"head_dim": nil, "num_attention_heads": 6}, "head_dim is missing", false},
		{"F13 odd head_dim", fields{"head_dim": 15}, "head_dim must be even", false},
		{"F13 no layers", fields{"num_hidden_layers": 0}, "num_hidden_layers must be between 1 and", false},
		{"F13 negative layers", fields{"num_hidden_layers": -1}, "num_hidden_layers must be between 1 and", false},
		{"F13 layers beyond bound", fields{"num_hidden_layers": 1000000000}, "num_hidden_layers must be between 1 and", false},
		{"F13 layers missing", fields{"num_hidden_layers": nil}, "num_hidden_layers is missing", false},
		{"F13 vocabulary missing", fields{"vocab_size": nil}, "vocab_size must be", false},
		{"F13 layers as string", fields{"num_hidden_layers": "2"}, "num_hidden_layers", false},
		{"F13 eos beyond vocabulary", fields{"eos_token_id": []int{2, 320}}, "eos_token_id", false},
		{"F14 experts", fields{"num_local_experts": 8}, "num_local_experts 8", true},
		{"F16 factor 0", rope(fields{"type": "linear", "factor": 0}), "rope_scaling.factor must be at least 1", false},
		{"F16 factor negative", rope(fields{"rope_type": "linear", "factor": -2}), "rope_scaling.factor", false},
		{"F16 factor missing", rope(fields{"rope_type": "yarn"}), "rope_scaling.factor", false},
		{"F16 low equals high", llama3(fields{"high_freq_factor": 1}), "low_freq_factor 1", false},
		{"F16 original negative", llama3(fields{"original_max_position_embeddings": -1}), "original_max_position_embeddings", false},
		{"F16 unknown type", rope(fields{"rope_type": "spiral", "factor": 2}), `rope type "spiral"`, true},
		{"F16 longrope", rope(fields{"rope_type": "longrope", "factor": 2}), `rope type "longrope"`, true},
		{"F16 theta 0", fields{"rope_theta": 0}, "rope_theta must be greater than 1", false},
		{"F16 partial rotary", fields{"rope_parameters": fields{"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor", true},
		{"F17 eps 0", fields{"rms_norm_eps": 0}, "rms_norm_eps", false},
		{"F17 eps negative", fields{"rms_norm_eps": -1e-5}, "rms_norm_eps", false},
		{"F17 softcap", fields{"final_logit_softcapping": 30}, "final_logit_softcapping 30", true},
		{"F17 window 0", mistral(fields{"sliding_window": 0}), "sliding_window must be at least 1", false},
		{"F17 window negative", mistral(fields{"sliding_window": -4}), "sliding_window must be at least 1", false},
		{"F17 window in llama", fields{"sliding_window": 16}, "sliding_window 16", true},
		{"F17 layer_types too short", qwen(fields{"layer_types": []string{"full_attention"}}), "layer_types lists 1 layers", false},
		{"F17 layer_types unknown", qwen(fields{"layer_types": []string{"full_attention", "linear_attention"}}), "linear_attention", true},
		{"F17 layer_types without window", qwen(fields{"layer_types": []string{"full_attention", "sliding_attention"}}), "sliding_window is not set", false},
		{"architecture unknown", fields{"architectures": []string{"GPT2LMHeadModel"}}, `"GPT2LMHeadModel"`, true},
		{"architecture missing", fields{"architectures": nil}, "architectures must name one", false},
		{"activation", fields{"hidden_act": "gelu"}, `hidden_act "gelu"`, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parse(t, row.change)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got error %v, want one with %q", err, row.want)
			}
			if errors.Is(err, model.ErrUnsupported) != row.unsupported {
				t.Errorf("error %v: unsupported is %v, want %v", err, !row.unsupported, row.unsupported)
			}
		})
	}
	if _, err := model.ParseConfig([]byte(`[]`)); err == nil {
		t.Error("a list was read as config.json")
	}
}

func TestConfigForms(t *testing.T) {
	for _, row := range []struct {
		name   string
		change fields
		check  func(c model.Config) bool
	}{
		{"older", nil, func(c model.Config) bool { return c.Rope.Type == "default" && c.Rope.Theta == 10000 && c.TiedHead }},
		{
			"newer",
			fields{"rope_theta": nil, "rope_parameters": fields{"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
			func(c model.Config) bool { return c.Rope.Theta == 5e5 && c.Rope.Type == "linear" && c.Rope.Factor == 2 },
		},
		{"before rope_type", fields{"rope_scaling": fields{"type": "linear", "factor": 4}}, func(c model.Config) bool { return c.Rope.Type == "linear" }},
		{"dynamic is default within the trained context", fields{"rope_scaling": fields{"type": "dynamic", "factor": 4}}, func(c model.Config) bool { return c.Rope.Type == "default" }},
		{"yarn derives its factor", fields{"rope_scaling": fields{"rope_type": "yarn", "original_max_position_embeddings": 64}}, func(c model.Config) bool { return c.Rope.Factor == 4 }},
		{"head_dim derived", fields{"head_dim": nil}, func(c model.Config) bool { return c.HeadDim == 16 }},
		{"head_dim null", fields{"head_dim": null}, func(c model.Config) bool { return c.HeadDim == 16 }},
		{"key heads default to heads", fields{"num_key_value_heads": nil}, func(c model.Config) bool { return c.KVHeads == 4 }},
		{"several eos", fields{"eos_token_id": []int{2, 3}}, func(c model.Config) bool { return slices.Equal(c.EOS, []int32{2, 3}) }},
		{"no bos", fields{"bos_token_id": null}, func(c model.Config) bool { return c.BOS == -1 }},
		{"window absent", mistral(nil), func(c model.Config) bool { return slices.Equal(c.Windows, []int{4096, 4096}) }},
		{"window null", mistral(fields{"sliding_window": null}), func(c model.Config) bool { return slices.Equal(c.Windows, []int{0, 0}) }},
		{"window off", qwen(fields{"sliding_window": 8, "use_sliding_window": false}), func(c model.Config) bool { return slices.Equal(c.Windows, []int{0, 0}) }},
		{"window in upper layers", qwen(fields{"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1}), func(c model.Config) bool { return slices.Equal(c.Windows, []int{0, 8}) }},
		{
			"window by layer_types", qwen(fields{"sliding_window": 8, "use_sliding_window": true, "layer_types": []string{"sliding_attention", "full_attention"}}),
			func(c model.Config) bool { return slices.Equal(c.Windows, []int{8, 0}) },
		},
		{"neutral fields", fields{"partial_rotary_factor": 1.0, "logit_scale": 1}, func(model.Config) bool { return true }},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := parse(t, row.change)
			if err != nil {
				t.Fatal(err)
			}
			if !row.check(c) {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestGenerationConfig(t *testing.T) {
	g, err := model.ParseGeneration([]byte(`{"eos_token_id": 7, "temperature": 0.6, "top_k": 20, "do_sample": true, "pad_token_id": 0}`))
	if err != nil || !slices.Equal(g.EOS, []int32{7}) || *g.Temperature != 0.6 || *g.TopK != 20 || !*g.DoSample || g.TopP != nil {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := model.ParseGeneration([]byte(`{"temperature": "hot"}`)); err == nil {
		t.Error("a temperature in words was read")
	}
}

func FuzzConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/config.json")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := model.ParseConfig(text)
		if err == nil && (c.Layers < 1 || len(c.Windows) != c.Layers || c.KVHeads < 1 || c.Heads%c.KVHeads != 0) {
			t.Errorf("accepted %+v", c)
		}
	})
}
