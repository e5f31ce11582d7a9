package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/kernels"
	"eckart/model"
	"eckart/model/tokenizer/chat"
)

// inspectCommand is `eckart inspect`.
type inspectCommand struct {
	launch.SizeFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// An inspection is what there is to say about a checkpoint. What is wrong with a part stands in the part's place.
type inspection struct {
	Name       string           `json:"name"`
	Folder     string           `json:"folder"`
	Config     *shape           `json:"config,omitempty"`
	Parameters int              `json:"parameters"`
	Tensors    []tensorType     `json:"tensors"`
	Quantized  []string         `json:"quantized,omitempty"` // what matrices that are stored quantized are computed as
	Tokenizer  part             `json:"tokenizer"`
	Template   part             `json:"chat_template"`
	Rounding   *launch.Rounding `json:"rounding,omitempty"` // what --quantize makes of the matrices
	Cut        string           `json:"cut,omitempty"`      // what --rank-share leaves
	Adapter    string           `json:"adapter,omitempty"`  // what --adapter adds
	Memory     *memory          `json:"memory,omitempty"`
	Notices    []string         `json:"notices,omitempty"`
	Refusal    string           `json:"refusal,omitempty"` // why the model cannot be served, if it cannot
}

type shape struct {
	Architecture string `json:"architecture"`
	Layers       int    `json:"layers"`
	Dim          int    `json:"dim"`
	Heads        int    `json:"heads"`
	KVHeads      int    `json:"kv_heads"`
	HeadDim      int    `json:"head_dim"`
	Hidden       int    `json:"hidden"`
	Vocab        int    `json:"vocab"`
	MaxPositions int    `json:"max_positions"`
	TiedHead     bool   `json:"tied_head"`
	Rope         string `json:"rope"`
}

// tensorType sums up the tensors of one type.
type tensorType struct {
	Type  string `json:"type"`
	Count int    `json:"count"`
	Bytes int64  `json:"bytes"`
}

// part is a side file: what was found, or why it is of no use.
type part struct {
	Found string `json:"found,omitempty"`
	Error string `json:"error,omitempty"`
}

type memory struct {
	Context     int     `json:"context"`
	Slots       int     `json:"slots"`
	StepTokens  int     `json:"step_tokens"`
	CacheType   string  `json:"cache_type"`
	Weights     int64   `json:"weights_bytes"`
	Cache       int64   `json:"cache_bytes"`
	Workspace   int64   `json:"workspace_bytes"`
	Free        int64   `json:"free_bytes"`
	Concurrency float64 `json:"concurrency"`
}

// Run prints what there is to say. It fails, after printing, for a checkpoint that cannot be served.
func (c *inspectCommand) Run(_ context.Context, env command.Env) error {
	o, err := c.SizeOptions()
	if err != nil {
		return err
	}
	m, err := launch.OpenFiles(c.Model)
	if err != nil {
		return err
	}
	defer m.Close()
	r := inspect(m, o, &c.ModelFlags)
	if c.JSON {
		err = command.WriteJSON(env.Stdout, r)
	} else {
		err = r.print(env.Stdout)
	}
	if err == nil && r.Refusal != "" {
		err = errors.New(r.Refusal)
	}
	return err
}

// inspect collects what can be said without reading a weight.
func inspect(m *launch.Model, o launch.Options, f *launch.ModelFlags) inspection {
	r := inspection{Name: m.Name, Folder: m.Checkpoint.Dir(), Parameters: m.Parameters(), Notices: m.Checkpoint.Notices()}
	if m.Demo {
		r.Folder = "built in"
	}
	types := map[string]*tensorType{}
	for _, name := range m.Checkpoint.Names() {
		t, _ := m.Checkpoint.Tensor(name)
		sum := types[string(t.Type)]
		if sum == nil {
			sum = &tensorType{Type: string(t.Type)}
			types[sum.Type] = sum
		}
		sum.Count++
		sum.Bytes += t.Bytes()
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		r.Tensors = append(r.Tensors, *types[name])
	}
	refuse := func(err error) {
		if r.Refusal == "" {
			r.Refusal = err.Error()
		}
	}

	if t, err := m.Tokenizer(); err != nil {
		r.Tokenizer.Error = err.Error()
		refuse(err)
	} else {
		r.Tokenizer.Found = fmt.Sprintf("%d ids", t.VocabSize())
	}
	switch _, err := m.Template(""); {
	case errors.Is(err, chat.ErrNone):
		r.Template.Found = "none: completions only"
	case err != nil:
		r.Template.Error = err.Error()
		refuse(err)
	default:
		r.Template.Found = "understood"
	}

	if err := m.Read(); err != nil {
		refuse(err)
		return r
	}
	r.Parameters, r.Quantized = m.Parameters(), model.Notes(m.Source)
	if err := m.Prepare(f); err != nil {
		refuse(err)
		return r
	}
	r.Cut, r.Adapter = m.Cut, m.Adapter
	k := m.Config
	r.Config = &shape{
		Architecture: k.Architecture, Layers: k.Layers, Dim: k.Dim, Heads: k.Heads, KVHeads: k.KVHeads, HeadDim: k.HeadDim,
		Hidden: k.Hidden, Vocab: k.Vocab, MaxPositions: k.MaxPositions, TiedHead: k.TiedHead, Rope: k.Rope.Type,
	}
	p, err := plan(m, o)
	var fit *launch.FitError
	if errors.As(err, &fit) {
		p = fit.Plan
	} else if err != nil {
		refuse(err)
		return r
	}
	if err != nil {
		refuse(err)
	}
	r.Rounding = m.Rounding()
	r.Memory = &memory{
		Context: p.Context, Slots: p.Slots, StepTokens: p.StepTokens, CacheType: p.CacheType.String(),
		Weights: p.Weights, Cache: p.Cache, Workspace: p.Workspace, Free: p.Free, Concurrency: p.Concurrency(),
	}
	return r
}

// plan plans memory as `serve` would with the same flags.
func plan(m *launch.Model, o launch.Options) (p launch.Plan, err error) {
	err = launch.WithDevice(o, func(d kernels.Device) (err error) {
		free, _ := d.Memory()
		p, err = m.Plan(o.Sizing, free)
		return err
	})
	return p, err
}

// print writes the inspection for people.
func (r *inspection) print(w io.Writer) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("model", "%s (%s)", r.Name, r.Folder)
	if k := r.Config; k != nil {
		line("architecture", "%s, rope %s", k.Architecture, k.Rope)
		line("", "%d layers of width %d, MLP %d", k.Layers, k.Dim, k.Hidden)
		line("", "%d heads of %d, %d key and value heads", k.Heads, k.HeadDim, k.KVHeads)
		head := "a head of its own"
		if k.TiedHead {
			head = "the embedding as head"
		}
		line("", "vocabulary of %d, %s", k.Vocab, head)
		line("", "trained for %d positions", k.MaxPositions)
	}
	line("parameters", "%s", launch.Count(r.Parameters))
	for i, t := range r.Tensors {
		line([]string{"tensors", ""}[min(i, 1)], "%4d of %-5s %v", t.Count, t.Type, launch.Bytes(t.Bytes))
	}
	for i, note := range r.Quantized {
		line([]string{"quantized", ""}[min(i, 1)], "%s", note)
	}
	line("tokenizer", "%s%s", r.Tokenizer.Found, r.Tokenizer.Error)
	line("chat template", "%s%s", r.Template.Found, r.Template.Error)
	if r.Cut != "" {
		line("rank", "%s", r.Cut)
	}
	if r.Adapter != "" {
		line("adapter", "%s", r.Adapter)
	}
	if r.Rounding != nil {
		for n, text := range r.Rounding.Lines() {
			line([]string{"rounded", ""}[n], "%s", text)
		}
	}
	if m := r.Memory; m != nil {
		line("memory", "weights    %v", launch.Bytes(m.Weights))
		line("", "cache      %v (context %d, %s; %.1f sequences of it)", launch.Bytes(m.Cache), m.Context, m.CacheType, m.Concurrency)
		line("", "workspace  %v (steps of %d tokens of %d sequences)", launch.Bytes(m.Workspace), m.StepTokens, m.Slots)
		line("", "in all     %v, of %v free", launch.Bytes(m.Weights+m.Cache+m.Workspace), launch.Bytes(m.Free))
	}
	for _, n := range r.Notices {
		line("notice", "%s", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
