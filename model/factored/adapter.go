package factored

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model/checkpoint"
)

// An Adapter is products of two factors that are added to matrices of a model: LoRA (Hu et al. 2021, arXiv 2106.09685) in
// the layout of PEFT, which adapters that compensate for quantization have too (EoRA, arXiv 2410.21271). With A (r, in)
// and B (out, r) it adds s·B·A, s = alpha/r, or alpha/√r where use_rslora is set.
type Adapter struct {
	c       *checkpoint.Checkpoint
	modules map[string]pair
}

// A pair is the factors for one matrix.
type pair struct {
	a, b  *checkpoint.Tensor
	scale float64
}

// maxAdapterConfig bounds adapter_config.json; published ones have 1 KB.
const maxAdapterConfig = 1 << 20

// factorName matches the tensors of LoRA. Training code saves the adapter's own name, "default", in them; other tools
// leave out what PEFT wraps a model in.
var factorName = regexp.MustCompile(`^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$`)

// NewAdapter reads the adapter that c holds, which must stay open while its factors are read.
func NewAdapter(c *checkpoint.Checkpoint) (*Adapter, error) {
	text, err := c.ReadFile("adapter_config.json", maxAdapterConfig)
	if err != nil {
		return nil, fmt.Errorf("open adapter: %w", err)
	}
	set, err := parseAdapter(text)
	if err != nil {
		return nil, fmt.Errorf("open adapter: adapter_config.json: %w", err)
	}
	a := &Adapter{c, map[string]pair{}}
	if err := a.find(set); err != nil {
		return nil, fmt.Errorf("open adapter: %w", err)
	}
	return a, nil
}

// find pairs the tensors and holds them against the settings.
func (a *Adapter) find(set adapterSettings) error {
	for _, name := range a.c.Names() {
		t, _ := a.c.Tensor(name)
		m := factorName.FindStringSubmatch(name)
		switch {
		case m == nil && strings.Contains(name, "lora_magnitude_vector"):
			return fmt.Errorf("%s belongs to DoRA: %w", name, ErrUnsupported)
		case m == nil && strings.Contains(name, "lora_embedding_"):
			return fmt.Errorf("%s belongs to an adapter of an embedding: %w", name, ErrUnsupported)
		case m == nil:
			return fmt.Errorf("%s is no factor of LoRA: %w", name, ErrUnsupported)
		case len(t.Shape) != 2 || t.Shape[0] < 1 || t.Shape[1] < 1 || t.Shape[0] > maxDim || t.Shape[1] > maxDim:
			return fmt.Errorf("%s has shape %v, want the two dimensions of a factor", name, t.Shape)
		}
		if err := t.Unsupported(); err != nil {
			return err
		}
		p := a.modules[m[1]]
		which := &p.a
		if m[2] == "B" {
			which = &p.b
		}
		if *which != nil {
			return fmt.Errorf("%s and %s are the same factor", (*which).Name, name)
		}
		*which = t
		a.modules[m[1]] = p
	}
	if len(a.modules) == 0 {
		return errors.New("it has no tensors")
	}
	for _, module := range a.Modules() {
		p := a.modules[module]
		rank, alpha := set.of(module)
		switch {
		case p.a == nil || p.b == nil:
			return fmt.Errorf("%s has one factor of two", module)
		case p.a.Shape[0] != p.b.Shape[1]:
			return fmt.Errorf("%s has %d rows and %s %d columns, which have to be equal", p.a.Name, p.a.Shape[0], p.b.Name, p.b.Shape[1])
		case p.a.Shape[0] != rank:
			return fmt.Errorf("%s has %d rows, and adapter_config.json says rank %d", p.a.Name, p.a.Shape[0], rank)
		}
		p.scale = alpha / float64(rank)
		if set.rootRank {
			p.scale = alpha / math.Sqrt(float64(rank))
		}
		a.modules[module] = p
	}
	return nil
}

// ErrUnsupported marks what an adapter asks for and this runtime does not do.
var ErrUnsupported = errors.New("not supported")

// Modules returns the names of the modules whose matrices the adapter adds to, as it spells them, sorted.
func (a *Adapter) Modules() []string { return slices.Sorted(maps.Keys(a.modules)) }

// Dims returns the rows and columns of what is added to the matrix of a module.
func (a *Adapter) Dims(module string) (out, in int) {
	p := a.modules[module]
	return p.b.Shape[0], p.a.Shape[1]
}

// Weight returns what is added to the matrix of a module. Its left factor is scaled, in F32, unless the scale is 1.
func (a *Adapter) Weight(module string) (*lowrank.Weight, error) {
	p := a.modules[module]
	return lowrank.New(scaled(factor(a.c, p.b), p.scale), factor(a.c, p.a))
}

// scaled returns d times s, each element rounded once, to F32.
func scaled(d *layers.Dense, s float64) *layers.Dense {
	if s == 1 {
		return d
	}
	p := d.Parts()[0]
	read, stored := p.Read, p.Type
	p.Type = kernels.F32
	p.Read = func(dst []byte, row int) error {
		raw := make([]byte, len(dst)/4*stored.Bytes())
		if err := read(raw, row); err != nil {
			return err
		}
		for i, v := range layers.Float32s(raw, stored) {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(float32(s*float64(v))))
		}
		return nil
	}
	return layers.NewDense(p)
}

// adapterSettings is what adapter_config.json says.
type adapterSettings struct {
	rank     int
	alpha    float64
	rootRank bool // the scale is alpha/√rank
	ranks    []pattern
	alphas   []pattern
}

// A pattern is a value for the modules whose names end in what an expression matches.
type pattern struct {
	match *regexp.Regexp
	value float64
}

// of returns the rank and alpha of a module: the first pattern that matches has its way, as in PEFT (get_pattern_key).
func (s adapterSettings) of(module string) (rank int, alpha float64) {
	rank, alpha = s.rank, s.alpha
	for _, p := range s.ranks {
		if p.match.MatchString(module) {
			rank = int(p.value)
			break
		}
	}
	for _, p := range s.alphas {
		if p.match.MatchString(module) {
			alpha = p.value
			break
		}
	}
	return rank, alpha
}

// harmless lists the fields of adapter_config.json that change nothing of a trained adapter, or are read here.
var harmless = []string{
	"alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "layers_pattern",
	"layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size",
	"r", "rank_pattern", "revision", "target_modules", "task_type", "use_rslora",
}

// innocent lists the ways to initialize factors that leave the model as it was. PiSSA, OLoRA, CorDA and LoftQ change it,
// and the adapter is then one of that other model.
var innocent = []string{`true`, `false`, `null`, `"gaussian"`, `"eva"`, `"orthogonal"`}

// parseAdapter reads adapter_config.json. A field that is not known and is set to anything is refused: a variant of LoRA
// that was left out would change what the model says.
func parseAdapter(text []byte) (s adapterSettings, err error) {
	var raw struct {
		Type   string           `json:"peft_type"`
		Rank   *int             `json:"r"`
		Alpha  *float64         `json:"lora_alpha"`
		Root   bool             `json:"use_rslora"`
		Ranks  *json.RawMessage `json:"rank_pattern"`
		Alphas *json.RawMessage `json:"alpha_pattern"`
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return s, err
	}
	switch {
	case raw.Type != "LORA":
		return s, fmt.Errorf("peft_type %.40q: %w (LORA is)", raw.Type, ErrUnsupported)
	case raw.Rank == nil || raw.Alpha == nil:
		return s, errors.New("r or lora_alpha is missing")
	case math.IsInf(*raw.Alpha, 0) || *raw.Rank < 1:
		return s, fmt.Errorf("r %d and lora_alpha %g, want a positive rank", *raw.Rank, *raw.Alpha)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := string(bytes.TrimSpace(fields[name]))
		switch {
		case slices.Contains(harmless, name), neutral(value):
		case name == "bias" && value == `"none"`:
		case name == "init_lora_weights" && slices.Contains(innocent, value):
		case name == "init_lora_weights":
			return s, fmt.Errorf("init_lora_weights %.40s: %w, since it changes the model that the adapter is for", value, ErrUnsupported)
		case name == "use_dora":
			return s, fmt.Errorf("use_dora: DoRA: %w", ErrUnsupported)
		default:
			return s, fmt.Errorf("%.40s %.40s: %w", name, value, ErrUnsupported)
		}
	}
	s = adapterSettings{rank: *raw.Rank, alpha: *raw.Alpha, rootRank: raw.Root}
	if s.ranks, err = patterns("rank_pattern", fields["rank_pattern"]); err != nil {
		return s, err
	}
	for _, p := range s.ranks {
		if p.value < 1 || p.value > maxDim || p.value != math.Trunc(p.value) {
			return s, fmt.Errorf("rank_pattern has rank %g", p.value)
		}
	}
	s.alphas, err = patterns("alpha_pattern", fields["alpha_pattern"])
	return s, err
}

// neutral reports whether a value says nothing.
func neutral(value string) bool {
	return slices.Contains([]string{"null", "false", "{}", "[]", `""`}, value)
}

// patterns reads an object of expressions and values, in its order, which decides between two that match.
func patterns(field string, text json.RawMessage) ([]pattern, error) {
	if text == nil || neutral(string(bytes.TrimSpace(text))) {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%s: want an object, have %.40s", field, text)
	}
	var all []pattern
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		match, err := regexp.Compile(fmt.Sprintf(`^(?:.*\.)?(?:%s)$`, key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		all = append(all, pattern{match, value})
	}
	return all, nil
}
