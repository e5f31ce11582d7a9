package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"eckart/layers"
	"eckart/model/quantized"
)

// ErrUnsupported marks what a checkpoint asks for and this runtime does not do: an architecture, a format, or a field of
// config.json that would change the result. What config.json says of quantization is NewSource's to judge.
var ErrUnsupported = quantized.ErrUnsupported

// A Config is what config.json says of a decoder, in one form whichever form the file has.
type Config struct {
	Architecture string // "LlamaForCausalLM"
	ModelType    string // "llama"

	Dim          int // hidden_size
	Layers       int // num_hidden_layers
	Heads        int // num_attention_heads
	KVHeads      int // num_key_value_heads
	HeadDim      int // features of a head; Heads·HeadDim may differ from Dim
	Hidden       int // intermediate_size
	Vocab        int // vocab_size, rows of the embedding table
	MaxPositions int // max_position_embeddings, the context that was trained

	Eps           float32 // rms_norm_eps
	TiedHead      bool    // tie_word_embeddings
	AttentionBias bool    // attention_bias
	MLPBias       bool    // mlp_bias

	Rope    layers.RopeSettings
	Windows []int // per layer: tokens attended to, 0 for all

	BOS int32   // -1 when there is none
	EOS []int32 // ids that end a reply
}

// Bounds on what config.json may ask for; a file beyond them is broken or hostile.
const (
	maxLayers = 1 << 12
	maxDim    = 1 << 20
	maxVocab  = 1 << 24
)

// rawConfig is config.json as it is written. Pointers tell an absent field from a zero one.
type rawConfig struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`

	HiddenSize       int  `json:"hidden_size"`
	HiddenLayers     *int `json:"num_hidden_layers"`
	AttentionHeads   int  `json:"num_attention_heads"`
	KeyValueHeads    *int `json:"num_key_value_heads"`
	HeadDim          *int `json:"head_dim"`
	IntermediateSize int  `json:"intermediate_size"`
	VocabSize        int  `json:"vocab_size"`
	MaxPositions     *int `json:"max_position_embeddings"`

	Eps           *float64 `json:"rms_norm_eps"`
	HiddenAct     *string  `json:"hidden_act"`
	Tied          *bool    `json:"tie_word_embeddings"`
	AttentionBias bool     `json:"attention_bias"`
	MLPBias       bool     `json:"mlp_bias"`

	RopeTheta      *float64 `json:"rope_theta"`
	RopeScaling    *rawRope `json:"rope_scaling"`    // the older form
	RopeParameters *rawRope `json:"rope_parameters"` // the newer one, theta inside

	SlidingWindow    nullable `json:"sliding_window"`
	UseSlidingWindow *bool    `json:"use_sliding_window"`
	MaxWindowLayers  *int     `json:"max_window_layers"`
	LayerTypes       []string `json:"layer_types"`

	BOS ids `json:"bos_token_id"`
	EOS ids `json:"eos_token_id"`
}

type rawRope struct {
	RopeType *string  `json:"rope_type"`
	Type     *string  `json:"type"` // the name of rope_type before transformers 4.45
	Theta    *float64 `json:"rope_theta"`

	Factor          *float64 `json:"factor"`
	OriginalMax     *int     `json:"original_max_position_embeddings"`
	LowFreqFactor   *float64 `json:"low_freq_factor"`
	HighFreqFactor  *float64 `json:"high_freq_factor"`
	BetaFast        *float64 `json:"beta_fast"`
	BetaSlow        *float64 `json:"beta_slow"`
	AttentionFactor *float64 `json:"attention_factor"`
	MScale          *float64 `json:"mscale"`
	MScaleAllDim    *float64 `json:"mscale_all_dim"`
	Truncate        *bool    `json:"truncate"`
	PartialRotary   *float64 `json:"partial_rotary_factor"`
}

// nullable is a number that may be absent, null or there: for a window the three differ.
type nullable struct {
	present bool
	value   *int
}

func (n *nullable) UnmarshalJSON(b []byte) error {
	n.present = true
	return json.Unmarshal(b, &n.value)
}

// ids reads one id or a list of them, as eos_token_id comes.
type ids []int32

func (v *ids) UnmarshalJSON(b []byte) error {
	var one *int32
	if json.Unmarshal(b, &one) == nil {
		if one != nil {
			*v = ids{*one}
		}
		return nil
	}
	var many []int32
	if err := json.Unmarshal(b, &many); err != nil {
		return fmt.Errorf("want an id or a list of ids, got %s", b)
	}
	*v = many
	return nil
}

// changesResult lists fields that other members of these families use, with the value at which they do nothing. A
// field with another value is refused: leaving it out would change what the model says.
var changesResult = map[string]string{
	"attention_chunk_size":    "null",
	"attention_multiplier":    "null",
	"attn_logit_softcapping":  "null",
	"clip_qkv":                "null",
	"embedding_multiplier":    "1",
	"final_logit_softcapping": "null",
	"logit_scale":             "1",
	"logits_scaling":          "1",
	"no_rope_layers":          "null",
	"num_experts":             "0",
	"num_local_experts":       "0",
	"partial_rotary_factor":   "1",
	"query_pre_attn_scalar":   "null",
	"residual_multiplier":     "1",
	"rotary_pct":              "1",
}

// ParseConfig reads config.json, in the form of transformers 4 or 5. What it asks for and is not implemented is an
// ErrUnsupported that names the field.
func ParseConfig(text []byte) (Config, error) {
	var raw rawConfig
	if err := json.Unmarshal(text, &raw); err != nil {
		return Config{}, fmt.Errorf("read config.json: %w", err)
	}
	c, err := raw.config()
	if err == nil {
		err = refuseUnknownEffects(text)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config.json: %w", err)
	}
	return c, nil
}

func refuseUnknownEffects(text []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	var found []string
	for name, neutral := range changesResult {
		value, ok := fields[name]
		if !ok || string(value) == "null" || string(value) == "[]" || string(value) == "{}" {
			continue
		}
		var a, b float64
		if json.Unmarshal(value, &a) == nil && json.Unmarshal([]byte(neutral), &b) == nil && neutral != "null" && a == b {
			continue
		}
		found = append(found, fmt.Sprintf("%s %.40s", name, value))
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return fmt.Errorf("%s: %w", strings.Join(found, ", "), ErrUnsupported)
}

func (r *rawConfig) config() (Config, error) {
	if len(r.Architectures) != 1 {
		return Config{}, fmt.Errorf("architectures must name one architecture, got %q", r.Architectures)
	}
	c := Config{
		Architecture: r.Architectures[0], ModelType: r.ModelType,
		Dim: r.HiddenSize, Heads: r.AttentionHeads, Hidden: r.IntermediateSize, Vocab: r.VocabSize,
		AttentionBias: r.AttentionBias, MLPBias: r.MLPBias,
		BOS: -1, EOS: r.EOS,
	}
	if _, ok := architectures[c.Architecture]; !ok {
		return Config{}, fmt.Errorf("architecture %q: %w (supported: %s)", c.Architecture, ErrUnsupported, strings.Join(Architectures(), ", "))
	}
	if len(r.BOS) > 0 {
		c.BOS = r.BOS[0]
	}
	if r.HiddenLayers == nil {
		return Config{}, errors.New("num_hidden_layers is missing")
	}
	c.Layers = *r.HiddenLayers
	c.KVHeads = c.Heads
	if r.KeyValueHeads != nil {
		c.KVHeads = *r.KeyValueHeads
	}
	if r.MaxPositions == nil {
		return Config{}, errors.New("max_position_embeddings is missing")
	}
	c.MaxPositions = *r.MaxPositions
	for _, f := range []struct {
		name       string
		value, max int
	}{
		{"num_hidden_layers", c.Layers, maxLayers},
		{"hidden_size", c.Dim, maxDim},
		{"num_attention_heads", c.Heads, maxDim},
		{"num_key_value_heads", c.KVHeads, maxDim},
		{"intermediate_size", c.Hidden, maxDim},
		{"vocab_size", c.Vocab, maxVocab},
		{"max_position_embeddings", c.MaxPositions, math.MaxInt32},
	} {
		if f.value < 1 || f.value > f.max {
			return Config{}, fmt.Errorf("%s must be between 1 and %d, got %d", f.name, f.max, f.value)
		}
	}
	if r.HeadDim != nil {
		c.HeadDim = *r.HeadDim
	} else if c.Dim%c.Heads == 0 {
		c.HeadDim = c.Dim / c.Heads
	} else {
		return Config{}, fmt.Errorf("head_dim is missing and num_attention_heads %d does not divide hidden_size %d", c.Heads, c.Dim)
	}
	if c.HeadDim < 2 || c.HeadDim%2 != 0 || c.HeadDim > maxDim {
		return Config{}, fmt.Errorf("head_dim must be even and between 2 and %d, got %d", maxDim, c.HeadDim)
	}
	if c.KVHeads > c.Heads || c.Heads%c.KVHeads != 0 {
		return Config{}, fmt.Errorf("num_key_value_heads %d must divide num_attention_heads %d", c.KVHeads, c.Heads)
	}
	if r.HiddenAct != nil && *r.HiddenAct != "silu" && *r.HiddenAct != "swish" {
		return Config{}, fmt.Errorf("hidden_act %q: %w", *r.HiddenAct, ErrUnsupported)
	}
	eps := 1e-6 // what transformers takes when the field is absent
	if r.Eps != nil {
		eps = *r.Eps
	}
	if !(eps > 0) || eps >= 1 {
		return Config{}, fmt.Errorf("rms_norm_eps must be between 0 and 1, got %g", eps)
	}
	c.Eps = float32(eps)
	c.TiedHead = r.Tied != nil && *r.Tied
	for _, id := range append(slices.Clone(c.EOS), c.BOS) {
		if id < -1 || int(id) >= c.Vocab {
			return Config{}, fmt.Errorf("bos_token_id and eos_token_id must be below vocab_size %d, got %d", c.Vocab, id)
		}
	}
	var err error
	if c.Windows, err = r.windows(c); err != nil {
		return Config{}, err
	}
	c.Rope, err = r.rope(c)
	return c, err
}

// windows returns the sliding window of each layer.
func (r *rawConfig) windows(c Config) ([]int, error) {
	w := make([]int, c.Layers)
	window := r.SlidingWindow.value
	if !r.SlidingWindow.present && c.ModelType != "llama" {
		window = new(4096) // what transformers takes when the field is absent
	}
	switch c.ModelType {
	case "qwen2", "qwen3": // their configs carry a window that is off unless this field says otherwise
		if r.UseSlidingWindow == nil || !*r.UseSlidingWindow {
			window = nil
		}
	case "llama":
		if window != nil {
			return nil, fmt.Errorf("sliding_window %d in a %s: %w", *window, c.Architecture, ErrUnsupported)
		}
	}
	if window != nil && *window < 1 {
		return nil, fmt.Errorf("sliding_window must be at least 1, got %d", *window)
	}
	if r.LayerTypes != nil {
		if len(r.LayerTypes) != c.Layers {
			return nil, fmt.Errorf("layer_types lists %d layers, num_hidden_layers says %d", len(r.LayerTypes), c.Layers)
		}
		for i, t := range r.LayerTypes {
			switch t {
			case "full_attention":
			case "sliding_attention":
				if window == nil {
					return nil, fmt.Errorf("layer_types asks for sliding_attention in layer %d, and sliding_window is not set", i)
				}
				w[i] = *window
			default:
				return nil, fmt.Errorf("layer_types %q in layer %d: %w", t, i, ErrUnsupported)
			}
		}
		return w, nil
	}
	if window == nil {
		return w, nil
	}
	first := 0
	if strings.HasPrefix(c.ModelType, "qwen") {
		first = 28 // what transformers takes when the field is absent
		if r.MaxWindowLayers != nil {
			first = *r.MaxWindowLayers
		}
	}
	for i := max(first, 0); i < len(w); i++ {
		w[i] = *window
	}
	return w, nil
}

// rope returns the rotary settings, from rope_parameters or from rope_theta and rope_scaling.
func (r *rawConfig) rope(c Config) (layers.RopeSettings, error) {
	raw, field := r.RopeParameters, "rope_parameters"
	if raw == nil {
		raw, field = r.RopeScaling, "rope_scaling"
	}
	if raw == nil {
		raw = &rawRope{}
	}
	s := layers.RopeSettings{Type: "default", Theta: 10000, Truncate: true, BetaFast: 32, BetaSlow: 1}
	for _, t := range []*string{raw.Type, raw.RopeType} {
		if t != nil {
			s.Type = *t
		}
	}
	for _, t := range []*float64{r.RopeTheta, raw.Theta} {
		if t != nil {
			s.Theta = *t
		}
	}
	set := func(dst *float64, src *float64) {
		if src != nil {
			*dst = *src
		}
	}
	if raw.Factor == nil && s.Type == "yarn" && raw.OriginalMax != nil && *raw.OriginalMax > 0 {
		raw.Factor = new(float64(c.MaxPositions) / float64(*raw.OriginalMax))
	}
	set(&s.Factor, raw.Factor)
	set(&s.LowFreqFactor, raw.LowFreqFactor)
	set(&s.HighFreqFactor, raw.HighFreqFactor)
	set(&s.BetaFast, raw.BetaFast)
	set(&s.BetaSlow, raw.BetaSlow)
	set(&s.AttentionFactor, raw.AttentionFactor)
	set(&s.MScale, raw.MScale)
	set(&s.MScaleAllDim, raw.MScaleAllDim)
	if raw.Truncate != nil {
		s.Truncate = *raw.Truncate
	}
	s.OriginalMax = c.MaxPositions
	if raw.OriginalMax != nil {
		s.OriginalMax = *raw.OriginalMax
	}
	if s.OriginalMax < 1 {
		return s, fmt.Errorf("%s.original_max_position_embeddings must be at least 1, got %d", field, s.OriginalMax)
	}
	if raw.PartialRotary != nil && *raw.PartialRotary != 1 {
		return s, fmt.Errorf("%s.partial_rotary_factor %g: %w", field, *raw.PartialRotary, ErrUnsupported)
	}
	if !(s.Theta > 1) || math.IsInf(s.Theta, 0) {
		return s, fmt.Errorf("rope_theta must be greater than 1, got %g", s.Theta)
	}
	needsFactor := func() error {
		if raw.Factor == nil || !(s.Factor >= 1) || math.IsInf(s.Factor, 0) {
			return fmt.Errorf("%s.factor must be at least 1 for rope type %q, got %s", field, s.Type, show(raw.Factor))
		}
		return nil
	}
	switch s.Type {
	case "default":
	case "linear":
		return s, needsFactor()
	case "dynamic":
		// The frequencies change only beyond the trained context, and no more than that is served.
		s.Type = "default"
		return s, needsFactor()
	case "llama3":
		if err := needsFactor(); err != nil {
			return s, err
		}
		if !(s.LowFreqFactor > 0) || !(s.HighFreqFactor > s.LowFreqFactor) {
			return s, fmt.Errorf("%s: low_freq_factor %g must be above 0 and below high_freq_factor %g", field, s.LowFreqFactor, s.HighFreqFactor)
		}
	case "yarn":
		if !(s.BetaSlow > 0) || !(s.BetaFast >= s.BetaSlow) {
			return s, fmt.Errorf("%s: beta_slow %g must be above 0 and at most beta_fast %g", field, s.BetaSlow, s.BetaFast)
		}
		return s, needsFactor()
	default:
		return s, fmt.Errorf("%s: rope type %q: %w", field, s.Type, ErrUnsupported)
	}
	return s, nil
}

func show(f *float64) string {
	if f == nil {
		return "none"
	}
	return fmt.Sprint(*f)
}
