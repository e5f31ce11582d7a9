package jinja

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

func isWord(c rune) bool { return c == '_' || unicode.IsLetter(c) || isNumeric(c) }

// filterWordWrap wraps each line of a text as Python's textwrap.wrap does.
func filterWordWrap(r *run, v Value, a []Value) (Value, error) {
	s, err := needText("wordwrap", v)
	if err != nil {
		return nil, err
	}
	width, err := intOr("wordwrap", a[0], 79)
	if err != nil {
		return nil, err
	}
	wrap := "\n"
	if orNone(a[2]) != nil {
		if wrap, err = needText("wordwrap", a[2]); err != nil {
			return nil, err
		}
	}
	breakLong := a[1] == missing || r.truth(a[1])
	hyphens := a[3] == missing || r.truth(a[3])
	if err := r.step(len(s)); err != nil {
		return nil, err
	}
	lines, err := r.lines(s, false)
	if err != nil {
		return nil, err
	}
	t := text{m: &r.meter}
	for i, line := range lines {
		if i > 0 {
			t.write(wrap)
		}
		if err := r.alloc(32 * int64(len(line))); err != nil {
			return nil, err
		}
		wrapped, err := wrapLine(line, int(min(width, math.MaxInt32)), breakLong, hyphens)
		if err != nil {
			return nil, err
		}
		for j, w := range wrapped {
			if j > 0 {
				t.write(wrap)
			}
			t.write(w)
		}
	}
	out, err := t.result()
	return strValue(out), err
}

// wrapLine is TextWrapper._wrap_chunks: fill lines with chunks, drop white space
// where a line begins or ends.
func wrapLine(line string, width int, breakLong, hyphens bool) ([]string, error) {
	if width <= 0 {
		return nil, limitf("a width of %d, not above 0", width)
	}
	chunks := wrapChunks([]rune(line), hyphens)
	blank := func(c []rune) bool {
		return !slices.ContainsFunc(c, func(r rune) bool { return !isSpace(r) })
	}
	var lines []string
	for len(chunks) > 0 {
		var cur [][]rune
		n := 0
		if len(lines) > 0 && blank(chunks[0]) {
			chunks = chunks[1:]
		}
		for len(chunks) > 0 && n+len(chunks[0]) <= width {
			n += len(chunks[0])
			cur = append(cur, chunks[0])
			chunks = chunks[1:]
		}
		if len(chunks) > 0 && len(chunks[0]) > width {
			space := max(width-n, 0)
			switch {
			case breakLong:
				end := space
				if hyphens && len(chunks[0]) > space {
					for h := space - 1; h > 0; h-- {
						if chunks[0][h] == '-' {
							if slices.ContainsFunc(chunks[0][:h], func(r rune) bool { return r != '-' }) {
								end = h + 1
							}
							break
						}
					}
				}
				cur = append(cur, chunks[0][:end])
				chunks[0] = chunks[0][end:]
			case len(cur) == 0:
				cur = append(cur, chunks[0])
				chunks = chunks[1:]
			}
		}
		if len(cur) > 0 && blank(cur[len(cur)-1]) {
			cur = cur[:len(cur)-1]
		}
		if len(cur) > 0 {
			var b strings.Builder
			for _, c := range cur {
				b.WriteString(string(c))
			}
			lines = append(lines, b.String())
		}
	}
	return lines, nil
}

// wrapChunks cuts a line where it may be wrapped: at white space, behind hyphens
// inside of words and around dashes (TextWrapper.wordsep_re).
func wrapChunks(s []rune, hyphens bool) [][]rune {
	space := func(c rune) bool { return c < utf8.RuneSelf && strings.ContainsRune("\t\n\v\f\r ", c) }
	at := func(i int) rune {
		if i < 0 || i >= len(s) {
			return 0
		}
		return s[i]
	}
	letter := func(c rune) bool { return isWord(c) && !isNumeric(c) }
	punct := func(c rune) bool { return isWord(c) || c != 0 && strings.ContainsRune("!\"'&.,?", c) }
	// dash returns the end of an em-dash that begins at i, if a word follows.
	runEnd := 0 // of the last run of hyphens that was measured
	dash := func(i int) (int, bool) {
		if at(i) != '-' {
			return i, false
		}
		if i >= runEnd {
			for runEnd = i; at(runEnd) == '-'; {
				runEnd++
			}
		}
		return runEnd, runEnd-i >= 2 && isWord(at(runEnd))
	}
	var chunks [][]rune
	for i := 0; i < len(s); {
		j := i + 1
		switch end, isDash := dash(i); {
		case space(s[i]):
			for j < len(s) && space(s[j]) {
				j++
			}
		case hyphens && isDash && punct(at(i-1)):
			j = end
		default:
			for j < len(s) && !space(s[j]) {
				if hyphens {
					if at(j) == '-' && hyphenated(at, letter, j) {
						j++
						break
					}
					if _, isDash := dash(j); isDash && punct(s[j-1]) {
						break
					}
				}
				j++
			}
		}
		chunks = append(chunks, s[i:j:j])
		i = j
	}
	return chunks
}

// hyphenated says whether the hyphen at j lets a word break behind it: letters
// stand before it, and at least two, maybe hyphenated themselves, follow.
func hyphenated(at func(int) rune, letter func(rune) bool, j int) bool {
	before := letter(at(j-1)) && (letter(at(j-2)) || at(j-2) == '-' && letter(at(j-3)))
	after := letter(at(j+1)) && (letter(at(j+2)) || at(j+2) == '-' && letter(at(j+3)))
	return before && after
}
