package model

import (
	"encoding/json"
	"fmt"
)

// Generation is what generation_config.json recommends; nil where it says nothing.
type Generation struct {
	EOS               []int32
	DoSample          *bool
	Temperature       *float32
	TopP              *float32
	MinP              *float32
	TopK              *int
	RepetitionPenalty *float32
}

// ParseGeneration reads generation_config.json.
func ParseGeneration(text []byte) (Generation, error) {
	var raw struct {
		EOS               ids      `json:"eos_token_id"`
		DoSample          *bool    `json:"do_sample"`
		Temperature       *float32 `json:"temperature"`
		TopP              *float32 `json:"top_p"`
		MinP              *float32 `json:"min_p"`
		TopK              *int     `json:"top_k"`
		RepetitionPenalty *float32 `json:"repetition_penalty"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return Generation{}, fmt.Errorf("read generation_config.json: %w", err)
	}
	return Generation{
		EOS: raw.EOS, DoSample: raw.DoSample, Temperature: raw.Temperature, TopP: raw.TopP, MinP: raw.MinP,
		TopK: raw.TopK, RepetitionPenalty: raw.RepetitionPenalty,
	}, nil
}
