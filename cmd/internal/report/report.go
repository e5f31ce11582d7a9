// Package report shows people what compression did to a model: it owns the lines and the table of the terminal, and the
// page for a browser. Programs read the report itself, as JSON.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"eckart/cmd/internal/command"
	"eckart/model/compress"
)

// kept is the form of matrices that stay as they are, whose errors say nothing.
const kept = compress.FormKeep

// A fact is a line of what there is to say of the whole model.
type fact struct{ Label, Text string }

// facts returns what the report says of the whole model.
func facts(r *compress.Report) []fact {
	bytes := func(n int64) string { return command.Bytes(n).String() }
	a, b := r.Before, r.After
	all := []fact{
		{"model", r.Model},
		{"asked for", r.Policy},
		{"size", fmt.Sprintf("%s became %s", bytes(a.Bytes), bytes(b.Bytes))},
		{"matrices", fmt.Sprintf("%s of the blocks became %s (%s), %.2f bits a weight became %.2f",
			bytes(a.LinearBytes), bytes(b.LinearBytes), percent(share(b.LinearBytes, a.LinearBytes)), a.BitsPerWeight, b.BitsPerWeight)},
	}
	if v := r.Verified; v == nil {
		all = append(all, fact{"quality", "not measured"})
	} else {
		all = append(
			all,
			fact{"quality", fmt.Sprintf("perplexity %.4f became %.4f, over %d tokens", v.PerplexityBefore, v.PerplexityAfter, v.Tokens)},
			fact{"", fmt.Sprintf("KL to the original %.5f nats: median %.5f, %.5f at 99 %%, %.5f at most", v.KLMean, v.KLP50, v.KLP99, v.KLMax)},
			fact{"", fmt.Sprintf("the same token most likely at %.2f %%", 100*v.Top1)},
		)
	}
	if w := worst(r.Modules, 3); w != "" {
		all = append(all, fact{"worst", w})
	}
	if a.TokensPerSecond > 0 && b.TokensPerSecond > 0 {
		all = append(all, fact{"speed", fmt.Sprintf("%.1f tokens a second became %.1f", a.TokensPerSecond, b.TokensPerSecond)})
	}
	all = append(all, fact{"learned", learned(r.Calibration)})
	if t := times(r.Seconds); t != "" {
		all = append(all, fact{"time", t})
	}
	return all
}

// stages are those of a run, in its order, and what they do.
var stages = [][2]string{
	{"write", "writing a text"},
	{"calibrate", "calibrating"},
	{"sensitivities", "sensitivities"},
	{"plan", "planning"},
	{"kernels", "measuring kernels"},
	{"compress", "compressing"},
	{"verify", "comparing"},
}

// times says how long the stages took that took any time worth naming.
func times(seconds map[string]float64) string {
	var parts []string
	var all float64
	for _, s := range stages {
		if took := seconds[s[0]]; took >= 0.05 {
			all += took
			parts = append(parts, fmt.Sprintf("%s %.1f s", s[1], took))
		}
	}
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return fmt.Sprintf("%.1f s: %s", all, strings.Join(parts, ", "))
}

// learned says what was learned from.
func learned(c compress.CalibrationReport) string {
	from := "from " + c.Source
	switch c.Source {
	case compress.FromNone:
		return "nothing: the weights alone decided"
	case compress.FromSelf:
		from = "from text that the model wrote"
	case compress.FromProject:
		from = "from the documentation and source of this program, as the whole model does not fit into memory to write a text"
	case compress.FromFile:
		from = "from a text"
	}
	text := fmt.Sprintf("%s, %d tokens", from, c.Tokens)
	if c.Shrinkage > 0 {
		text += fmt.Sprintf(", shrinkage up to %.3g", c.Shrinkage)
	}
	if c.Cached {
		text += ", by an earlier run"
	}
	return text
}

// worst names the n matrices with the largest errors.
func worst(modules []compress.ModuleReport, n int) string {
	s := slices.DeleteFunc(slices.Clone(modules), func(m compress.ModuleReport) bool { return m.Form == kept })
	slices.SortStableFunc(s, func(a, b compress.ModuleReport) int { return cmp.Compare(b.Reached, a.Reached) })
	var parts []string
	for _, m := range s[:min(n, len(s))] {
		parts = append(parts, fmt.Sprintf("%s %.5f", m.Name, m.Reached))
	}
	return strings.Join(parts, ", ")
}

// family returns what kinds with the same base are called together, without group, rank and method: "int4" for
// "int4/32:feedback", "int4 + residual" for "int4/32+r16/int8:eora".
func family(m compress.ModuleReport) string {
	base, rest := m.Kind, ""
	if at := strings.IndexAny(m.Kind, "/@:"); at >= 0 {
		base, rest = m.Kind[:at], m.Kind[at:]
	}
	if strings.Contains(rest, "+r") {
		base += " + residual"
	}
	return base
}

// share returns part/whole, 0 of nothing.
func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
