package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"eckart/cmd/internal/command"
	"eckart/model/compress"
)

const (
	columns  = 100 // of the terminal
	labels   = 11  // columns of the labels of facts, as in the banner of a server
	mostRows = 24  // of the table, unless it is verbose; the first ones and the last ones are shown
	lastRows = 8
	nameMost = 16 // columns of the names of matrices
	kindMost = 28 // columns of a kind, such as int4/32+r16/int8:alternated2
)

// Text writes the report for a terminal. Matrices of a layer that became the same kind share a row, layers that were
// treated alike share rows, and a long table loses its middle; verbose has a row for every matrix.
func Text(w io.Writer, r *compress.Report, verbose bool) error {
	var b strings.Builder
	for _, f := range facts(r) {
		for i, line := range wrap(f.Text, columns-labels) {
			label := f.Label
			if i > 0 {
				label = ""
			}
			b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", labels, label, line), " ") + "\n")
		}
	}
	if len(r.Modules) > 0 {
		b.WriteByte('\n')
		rows := rowsOf(r.Modules, verbose)
		if err := table(rows, r.Modules, verbose).Text(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks text at blanks into lines of at most so many columns, or of one word that is longer.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// A row is matrices that became the same kind.
type row struct {
	first, last int // layers
	names, kind string
	modules     []compress.ModuleReport
}

// rowsOf returns the rows of the table; verbose, each matrix is one.
func rowsOf(modules []compress.ModuleReport, verbose bool) []row {
	if verbose {
		var all []row
		for _, m := range modules {
			all = append(all, row{m.Layer, m.Layer, nameIn(m), m.Kind, []compress.ModuleReport{m}})
		}
		return all
	}
	var layers [][]row // the rows of each run of layers that are alike
	for len(modules) > 0 {
		n := 1
		for n < len(modules) && modules[n].Layer == modules[0].Layer {
			n++
		}
		rows := rowsOfLayer(modules[:n])
		modules = modules[n:]
		if k := len(layers) - 1; k >= 0 && alike(layers[k], rows) {
			for i := range rows {
				layers[k][i].last = rows[i].last
				layers[k][i].modules = append(layers[k][i].modules, rows[i].modules...)
			}
			continue
		}
		layers = append(layers, rows)
	}
	return slices.Concat(layers...)
}

// rowsOfLayer groups the matrices of a layer by their kinds.
func rowsOfLayer(modules []compress.ModuleReport) []row {
	var rows []row
	for _, m := range modules {
		i := slices.IndexFunc(rows, func(r row) bool { return r.kind == m.Kind })
		if i < 0 {
			i = len(rows)
			rows = append(rows, row{first: m.Layer, last: m.Layer, kind: m.Kind})
		}
		rows[i].modules = append(rows[i].modules, m)
	}
	for i := range rows {
		var names []string
		for _, m := range rows[i].modules {
			name := m.Name[strings.LastIndexByte(m.Name, '.')+1:]
			if name = strings.TrimSuffix(name, "_proj"); !slices.Contains(names, name) { // experts have the same names
				names = append(names, name)
			}
		}
		if rows[i].names = strings.Join(names, " "); len(rows) == 1 && len(names) > 1 {
			rows[i].names = fmt.Sprintf("all %d", len(modules))
		}
	}
	return rows
}

// alike reports whether the next layer was treated as the ones before it.
func alike(a, b []row) bool {
	return b[0].first == a[0].last+1 &&
		slices.EqualFunc(a, b, func(a, b row) bool { return a.names == b.names && a.kind == b.kind })
}

// nameIn returns the name of a matrix in its layer: what follows the number of the layer.
func nameIn(m compress.ModuleReport) string {
	if _, in, ok := strings.Cut(m.Name, "."+strconv.Itoa(m.Layer)+"."); ok {
		return in
	}
	return m.Name
}

// table returns the table of rows, with a last one for all modules.
func table(rows []row, modules []compress.ModuleReport, verbose bool) command.Table {
	hidden := 0
	if !verbose && len(rows) > mostRows {
		hidden = len(rows) - mostRows
		rows = slices.Concat(rows[:mostRows-lastRows], rows[len(rows)-lastRows:])
	}
	// The first three columns are text, which a Table has one column of.
	text := [][3]string{{"layer", "matrices", "kind"}}
	for _, r := range rows {
		layer := strconv.Itoa(r.first)
		if r.last != r.first {
			layer += "-" + strconv.Itoa(r.last)
		}
		text = append(text, [3]string{layer, cut(r.names, nameMost), cut(r.kind, kindMost)})
	}
	all := row{modules: modules}
	text = append(text, [3]string{"all", fmt.Sprint(len(modules)), ""})
	var widths [3]int
	for _, cells := range text {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	pad := func(cells [3]string) string {
		return fmt.Sprintf("%-*s  %-*s  %-*s", widths[0], cells[0], widths[1], cells[1], widths[2], cells[2])
	}
	head := []string{pad(text[0]), "bytes", "of", "planned", "reached", "held"}
	if verbose { // a matrix has a correction of its own, for which the share makes room
		head[2] = "drift"
	}
	t := command.Table{head}
	for i, r := range append(rows, all) {
		if hidden > 0 && i == mostRows-lastRows {
			t = append(t, []string{fmt.Sprintf("... %d more rows, which --verbose shows", hidden)})
		}
		cells := append([]string{pad(text[i+1])}, figures(r.modules)...)
		if verbose && i < len(rows) {
			cells[2] = ""
			if l := r.modules[0].Lambda; l != 0 {
				cells[2] = fmt.Sprintf("%.2f", l)
			}
		}
		t = append(t, cells)
	}
	return t
}

// figures returns the bytes of matrices and the means of their errors, which are left open where there are none.
func figures(modules []compress.ModuleReport) []string {
	var bytes, before int64
	var planned, reached, held mean
	for _, m := range modules {
		bytes += m.Bytes
		before += m.BytesBefore
		if m.Form == kept {
			continue
		}
		planned.add(m.Predicted)
		reached.add(m.Reached)
		if m.HeldOut != nil {
			held.add(*m.HeldOut)
		}
	}
	return []string{command.Bytes(bytes).String(), percent(share(bytes, before)), planned.String(), reached.String(), held.String()}
}

// A mean is that of some figures.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(v float64) { m.sum, m.n = m.sum+v, m.n+1 }

// String prints the mean as an error, nothing for none.
func (m *mean) String() string {
	if m.n == 0 {
		return ""
	}
	return fmt.Sprintf("%.5f", m.sum/float64(m.n))
}

// cut shortens s to so many characters.
func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
