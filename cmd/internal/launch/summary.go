package launch

import (
	"fmt"
	"strings"

	"eckart/cmd/internal/demo"
	"eckart/model"
)

// Summary says in a few lines what was brought up: model, device, memory, and the limits that are enforced.
func (i *Instance) Summary() string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	p := i.Plan
	if i.Model.Demo {
		line("model", "%s, built in: %s", i.Model.Name, demo.About)
	} else {
		line("model", "%s, from %s", i.Model.Name, i.Model.Checkpoint.Dir())
	}
	line("", "%s, %s parameters, %v of tensors", i.Model.Config.Architecture, Count(i.Model.Parameters()), Bytes(i.Model.Checkpoint.Bytes()))
	for _, notice := range i.Model.Checkpoint.Notices() {
		line("", "%s", notice)
	}
	for n, note := range model.Notes(i.Model.Source) {
		line([]string{"quantized", ""}[min(n, 1)], "%s", note)
	}
	if r := i.Model.Rounding(); r != nil {
		for n, text := range r.Lines() {
			line([]string{"rounded", ""}[n], "%s", text)
		}
	}
	if i.Model.Cut != "" {
		line("rank", "%s", i.Model.Cut)
	}
	if i.Model.Adapter != "" {
		line("adapter", "%s", i.Model.Adapter)
	}
	if i.Template == nil {
		line("", "no chat template: /v1/chat/completions is refused, /v1/completions works (--chat-template names one)")
	}
	line("device", "%s", i.Device.Name())
	if i.NoGPU != nil {
		line("", "%v", i.NoGPU)
	}
	free := ""
	if p.Free > 0 {
		free = fmt.Sprintf(", of %v free", Bytes(p.Free))
	}
	line("memory", "weights %v, cache %v, workspace %v%s", Bytes(p.Weights), Bytes(p.Cache), Bytes(p.Workspace), free)
	line("context", "%d tokens (%s)", p.Context, p.ContextFrom)
	line("cache", "%d tokens of %v; maximum concurrency for %d tokens: %.1f", p.Blocks*blockTokens, p.CacheType, p.Context, p.Concurrency())
	line("steps", "up to %d tokens of up to %d sequences; %d requests may wait", p.StepTokens, p.Slots, i.Queue)
	return b.String()
}

// Count prints a number of parameters as people say it: 7.0 M, 1.24 B.
func Count(n int) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f B", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	}
	return fmt.Sprint(n)
}
