package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A goal is what a figure should reach: at first, and to lead.
type goal struct {
	text               string
	first, lead        float64 // lead is 0 where there is no more to reach
	unit               string
	atMost             bool
	group, row, column string
	value              func(f Figure) float64
	against            [3]string // where not empty, value is of the ratio to the figure there
}

func share(f Figure) float64   { return 100 * f.Share }
func value(f Figure) float64   { return f.Value }
func seconds(f Figure) float64 { return f.Seconds }

// goals lists the goals of the project for a GPU of the class of an H100 or H200.
func goals() []goal {
	step := func(kind string) (group, row, column string) { return decodes, llama8b.name + ", " + kind, "batch 1" }
	var all []goal
	for _, g := range []struct {
		kind        string
		first, lead float64
	}{{dense, 72, 80}, {int4, 60, 0}, {lowRank, 70, 85}} {
		group, row, column := step(g.kind)
		all = append(all, goal{
			text: "step at batch 1, " + row + ": share of the copy rate", first: g.first, lead: g.lead, unit: "%",
			group: group, row: row, column: column, value: share,
		})
	}
	group, row, column := step(dense)
	all = append(all, goal{
		text: fmt.Sprintf("step at batch 1, %s: %d deep against %d, longer by", row, full().far, full().near), first: 15, unit: "%", atMost: true,
		group: group, row: row, column: fmt.Sprintf("batch 1, %d deep", full().far), value: seconds, against: [3]string{group, row, column},
	})
	for _, m := range full().matrices[:4] {
		all = append(all, goal{
			text: fmt.Sprintf("product of 2048 tokens, bf16, %s", m.name), first: 300, lead: 450, unit: "TFLOP/s",
			group: fmt.Sprintf(products, dense), row: fmt.Sprintf("%s %dx%d", m.name, m.out, m.in), column: "2048", value: value,
		})
	}
	for _, g := range []struct {
		kind string
		most float64
	}{{dense, 7}, {int4, 7}, {lowRank, 10}} {
		_, row, _ := step(g.kind)
		all = append(all,
			goal{text: "launches a layer, " + row, first: g.most, atMost: true, group: around, row: row, column: "launches a layer", value: value},
			goal{text: "idle between steps at batch 1, " + row, first: 3, unit: "%", atMost: true, group: around, row: row, column: idle, value: value})
	}
	return append(all, goal{
		text: "start to first token, " + llama1b.name, first: 3, unit: "s", atMost: true, group: "Cold start", row: llama1b.name, column: "first token", value: value,
	})
}

// reached says what became of a goal.
func (g goal) reached(find func(group, row, column string) (Figure, bool)) (figure, verdict string) {
	f, ok := find(g.group, g.row, g.column)
	if !ok {
		return "-", "not measured"
	}
	v := g.value(f)
	if g.against != [3]string{} {
		other, ok := find(g.against[0], g.against[1], g.against[2])
		if !ok || g.value(other) == 0 {
			return "-", "not measured"
		}
		v = 100 * (v/g.value(other) - 1)
	}
	better := func(limit float64) bool { return (v >= limit) != g.atMost || v == limit }
	switch {
	case !better(g.first):
		verdict = "MISSED"
	case g.lead == 0:
		verdict = "reached"
	case better(g.lead):
		verdict = "leads"
	default:
		verdict = "reached at first"
	}
	return number(v) + " " + g.unit, verdict
}

// wanted spells what the goal is.
func (g goal) wanted() string {
	sign := "at least "
	if g.atMost {
		sign = "at most "
	}
	text := sign + number(g.first) + " " + g.unit + " at first"
	if g.lead == 0 {
		return strings.TrimSpace(sign + number(g.first) + " " + g.unit)
	}
	return text + ", " + number(g.lead) + " to lead"
}

// number spells a number with three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e6:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.01:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.1e", v)
}

// cell spells a figure: its value, its share of the ceiling, and a mark where the samples lie far apart.
func (f Figure) cell() string {
	text := number(f.Value)
	if f.Unit != "" && f.Share == 0 {
		text += " " + f.Unit
	}
	if f.Share != 0 {
		text += fmt.Sprintf(" (%.0f%%)", 100*f.Share)
	}
	if f.Spread > 0.1 {
		text += "~"
	}
	if f.Wrong != "" {
		text += " WRONG"
	}
	return text
}

// Files of the report in the folder of the results.
const (
	reportFile = "report.md"
	allFile    = "results.json"
)

// results returns the results that lie in a folder, in the order of the parts.
func results(out string) ([]*Result, error) {
	var all []*Result
	for _, p := range parts() {
		r, err := load(out, p.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// report writes all results into one file, and a report in Markdown.
func report(out string) error {
	all, err := results(out)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	if err := write(filepath.Join(out, allFile), text); err != nil {
		return err
	}
	return write(filepath.Join(out, reportFile), []byte(markdown(all)))
}

// most is the bytes of the report that are printed.
const most = 10 << 10

// show prints the report, as far as it may go.
func show(out string, to io.Writer) error {
	text, err := os.ReadFile(filepath.Join(out, reportFile))
	if err != nil {
		return err
	}
	rest := ""
	if len(text) > most {
		text = text[:most]
		rest = "\n... the rest is in " + filepath.Join(out, reportFile) + "\n"
	}
	_, err = fmt.Fprintf(to, "\n%s%s", text, rest)
	return err
}

// markdown spells the results: how the parts ended, the goals, the notes, and a table for each group of figures.
func markdown(all []*Result) string {
	var b strings.Builder
	b.WriteString("# Checks and measurements on a GPU\n")
	machines(&b, all)
	b.WriteString("\n| part | outcome |\n|---|---|\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| %s | %s |\n", r.Part, strings.ReplaceAll(r.state(), "|", "/"))
	}
	figures := map[[3]string]Figure{}
	var groups []string
	byGroup := map[string][]Figure{}
	for _, r := range all {
		for _, f := range r.Figures {
			if f.Quiet && f.Wrong == "" {
				continue
			}
			figures[[3]string{f.Group, f.Row, f.Column}] = f
			if byGroup[f.Group] == nil {
				groups = append(groups, f.Group)
			}
			byGroup[f.Group] = append(byGroup[f.Group], f)
		}
	}
	b.WriteString("\n| goal (for an H100 or H200) | wanted | measured | |\n|---|---|---|---|\n")
	for _, g := range goals() {
		figure, verdict := g.reached(func(group, row, column string) (Figure, bool) {
			f, ok := figures[[3]string{group, row, column}]
			return f, ok
		})
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.text, g.wanted(), figure, verdict)
	}
	for _, group := range groups {
		table(&b, group, byGroup[group])
	}
	b.WriteString("\n~: the samples lie apart by more than a tenth of the median.\n")
	for _, r := range all {
		for i, note := range r.Notes {
			if i == 0 {
				fmt.Fprintf(&b, "\nNotes of %s:\n", r.Part)
			}
			fmt.Fprintf(&b, "- %s\n", note)
		}
	}
	return b.String()
}

// machines names what the results are of: more than one machine only if parts ran on several.
func machines(b *strings.Builder, all []*Result) {
	var seen []Machine
	for _, r := range all {
		if r.Machine.GPU == "" || slices.Contains(seen, r.Machine) {
			continue
		}
		seen = append(seen, r.Machine)
		shim := ""
		if r.Shim {
			shim = " **On the shim: no figure here is of a GPU.**"
		}
		fmt.Fprintf(b, "\n%s; %s; commit %s; %s, from part %s on.%s\n", r.Machine.GPU, r.Machine.Host, r.Machine.Commit,
			r.Started.UTC().Format(time.DateOnly+" 15:04 UTC"), r.Part, shim)
	}
}

// table spells the figures of a group, with a column for each that there is.
func table(b *strings.Builder, group string, figures []Figure) {
	var rows, columns []string
	cells := map[[2]string]string{}
	for _, f := range figures {
		if !slices.Contains(rows, f.Row) {
			rows = append(rows, f.Row)
		}
		if !slices.Contains(columns, f.Column) {
			columns = append(columns, f.Column)
		}
		cells[[2]string{f.Row, f.Column}] = f.cell()
	}
	fmt.Fprintf(b, "\n| %s | %s |\n|---|%s\n", group, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |", row)
		for _, column := range columns {
			fmt.Fprintf(b, " %s |", cells[[2]string{row, column}])
		}
		b.WriteByte('\n')
	}
}
