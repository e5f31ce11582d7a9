package command

import (
	"io"
	"strings"
	"unicode/utf8"
)

// A Table is rows of figures under a row of names, for people to read: the first column is aligned to the left, the
// others to the right.
type Table [][]string

// Text writes the table with its columns aligned, two spaces between them.
func (t Table) Text(w io.Writer) error {
	var b strings.Builder
	widths := t.widths()
	for _, row := range t {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + gap)
			} else {
				line.WriteString("  " + gap + cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown writes the table in Markdown.
func (t Table) Markdown(w io.Writer) error {
	var b strings.Builder
	for i, row := range t {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---|" + strings.Repeat("---:|", len(row)-1) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// widths returns the width of each column in characters.
func (t Table) widths() []int {
	var widths []int
	for _, row := range t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}
