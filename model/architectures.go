package model

import (
	"maps"
	"slices"
)

// architectures maps the name in config.json to the function that builds block layer from the loader of its names.
var architectures = map[string]func(l Loader, c Config, layer int) Block{
	"LlamaForCausalLM":   llama,
	"MistralForCausalLM": llama,
	"Qwen2ForCausalLM":   qwen2,
	"Qwen3ForCausalLM":   qwen3,
}

// Architectures returns the names of the supported architectures, sorted.
func Architectures() []string { return slices.Sorted(maps.Keys(architectures)) }
