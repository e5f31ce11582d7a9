package tokenizer

import "unicode/utf8"

// Hand-written scanners for the split patterns that published tokenizers use, chosen by the exact text of the pattern. Each
// stands for one regular expression and gives its matches, leftmost and in the order of its alternatives; regex.go is the
// oracle beside them.

// scanner finds the matches of a pattern.
type scanner struct {
	// next finds the match that begins exactly at s[i:] and returns its end, or i when none begins there.
	next func(s string, i int) int
	// starts, if there is one, tells which bytes a match may begin with.
	starts *[256]bool
}

const (
	gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

	contractionPart = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	spacePart       = `|\s*[\r\n]+|\s+(?!\S)|\s+`
	llamaWordPart   = `[^\r\n\p{L}\p{N}]?\p{L}+`
	llamaSignPart   = `| ?[^\s\p{L}\p{N}]+[\r\n]*`
	upperPart       = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
	lowerPart       = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
	casedPart       = `[^\r\n\p{L}\p{N}]?` + upperPart + `*` + lowerPart + `+`
	capitalPart     = `[^\r\n\p{L}\p{N}]?` + upperPart + `+` + lowerPart + `*`
	slashSignPart   = `| ?[^\s\p{L}\p{N}]+[\r\n/]*`
	deepseekPattern = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
		`| ?[\p{P}\p{S}]+[\r\n]*` + spacePart
)

// scanner returns the hand-written scanner for a pattern, nil when there is none.
func (c *classes) scanner(pattern string) *scanner {
	switch pattern {
	case gpt2Pattern:
		return &scanner{next: c.gpt2}
	case contractionPart + `|` + llamaWordPart + `|\p{N}{1,3}` + llamaSignPart + spacePart: // Llama 3, Phi 4 (cl100k)
		return &scanner{next: llama{classes: c, digits: 3, word: letter}.next}
	case contractionPart + `|` + llamaWordPart + `|\p{N}` + llamaSignPart + spacePart: // Qwen 2, Qwen 3
		return &scanner{next: llama{classes: c, digits: 1, word: letter}.next}
	case contractionPart + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + spacePart: // Qwen 3.5
		return &scanner{next: llama{classes: c, digits: 1, word: letter | mark}.next}
	case casedPart + contractionPart + `?|` + capitalPart + contractionPart + `?|\p{N}{1,3}` + slashSignPart + spacePart: // o200k
		return &scanner{next: cased{classes: c, digits: 3, suffix: true}.next}
	case casedPart + `|` + capitalPart + `|\p{N}` + slashSignPart + spacePart: // Mistral's tekken
		return &scanner{next: cased{classes: c, digits: 1}.next}
	case deepseekPattern:
		return &scanner{next: c.deepseek}
	case `\p{N}`:
		return c.numbers(1)
	case `\p{N}{1,3}`:
		return c.numbers(3)
	case `[一-龥぀-ゟ゠-ヿ]+`: // DeepSeek
		return startingAt(eastAsian, 0xE3, 0xE9)
	}
	return nil
}

// contraction returns the end of 's, 't, 're, 've, 'm, 'll or 'd at s[i:], i when there is none. With fold set letters match
// in either case, and s also as U+017F (ſ), its other case variant.
func contraction(s string, i int, fold bool) int {
	if i+1 >= len(s) || s[i] != '\'' {
		return i
	}
	a, b := s[i+1], byte(0)
	if i+2 < len(s) {
		b = s[i+2]
	}
	if fold {
		if a == 0xC5 && b == 0xBF {
			return i + 3
		}
		a, b = lowerASCII(a), lowerASCII(b)
	}
	switch {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return i + 2
	case a == 'r' && b == 'e', a == 'v' && b == 'e', a == 'l' && b == 'l':
		return i + 3
	}
	return i
}

func lowerASCII(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// run returns the end of the characters at s[i:] that are of one of the kinds in k, at most most of them (0: any number).
func (c *classes) run(s string, i int, k class, most int) int {
	for n := 0; i < len(s) && (most == 0 || n < most); n++ {
		if b := s[i]; b < utf8.RuneSelf {
			if c[b]&k == 0 {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if c.of(r)&k == 0 {
			return i
		}
		i += size
	}
	return i
}

// runOut returns the end of the characters at s[i:] that are of no kind in k.
func (c *classes) runOut(s string, i int, k class) int {
	for i < len(s) {
		if b := s[i]; b < utf8.RuneSelf {
			if c[b]&k != 0 {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if c.of(r)&k != 0 {
			return i
		}
		i += size
	}
	return i
}

// at returns the character at s[i:], its width and its class; the width is 0 at the end.
func (c *classes) at(s string, i int) (rune, int, class) {
	if i >= len(s) {
		return 0, 0, other
	}
	if b := s[i]; b < utf8.RuneSelf {
		return rune(b), 1, c[b]
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	return r, size, c.of(r)
}

// blanks matches \s+(?!\S)|\s+ at s[i:], given that s[i:end] is the longest run of space there: all of it at the end of the
// text, else all but its last character, which stays with the word that follows, unless it is the only one.
func blanks(s string, i, end int) int {
	if end == len(s) {
		return end
	}
	_, size := utf8.DecodeLastRuneInString(s[i:end])
	if end-size > i {
		return end - size
	}
	return end
}

// spaces matches \s*[\r\n]+|\s+(?!\S)|\s+: up to the last line end of the run, if there is one.
func (c *classes) spaces(s string, i int) int {
	end := c.run(s, i, space, 0)
	if end == i {
		return i
	}
	for j := end; j > i; j-- {
		if s[j-1] == '\n' || s[j-1] == '\r' {
			return j
		}
	}
	return blanks(s, i, end)
}

// lineEnds returns the end of the line ends (and slashes) at s[i:].
func lineEnds(s string, i int, slash bool) int {
	for i < len(s) && (s[i] == '\r' || s[i] == '\n' || slash && s[i] == '/') {
		i++
	}
	return i
}

// signs matches ` ?[^\s...]+[\r\n]*`, the class being all that is not in k.
func (c *classes) signs(s string, i int, k class, slash bool) int {
	start := i
	if s[i] == ' ' {
		start++
	}
	if end := c.runOut(s, start, k); end > start {
		return lineEnds(s, end, slash)
	}
	return i
}

// gpt2 scans the pattern of GPT-2, which pre-tokenizers of type ByteLevel use too.
func (c *classes) gpt2(s string, i int) int {
	if end := contraction(s, i, false); end > i {
		return end
	}
	start := i
	if s[i] == ' ' {
		start++
	}
	_, size, k := c.at(s, start)
	switch {
	case size == 0:
	case k&letter != 0:
		return c.run(s, start, letter, 0)
	case k&number != 0:
		return c.run(s, start, number, 0)
	case k&space == 0:
		return c.runOut(s, start, space|letter|number)
	}
	return blanks(s, i, c.run(s, i, space, 0))
}

// llama scans the pattern of Llama 3 and its kin.
type llama struct {
	*classes
	// digits is how many digits stand together at most.
	digits int
	// word is what words are made of.
	word class
}

func (l llama) next(s string, i int) int {
	if end := contraction(s, i, true); end > i {
		return end
	}
	r, size, k := l.at(s, i)
	if k&l.word != 0 && k&letter != 0 {
		return l.run(s, i+size, l.word, 0)
	}
	if k&number != 0 {
		return l.run(s, i, number, l.digits)
	}
	if r != '\r' && r != '\n' {
		// One character that is neither letter nor digit may lead a word.
		if end := l.run(s, i+size, l.word, 0); end > i+size {
			return end
		}
		if k&l.word != 0 {
			return i + size
		}
	}
	if end := l.signs(s, i, space|number|l.word, false); end > i {
		return end
	}
	return l.spaces(s, i)
}

// cased scans the pattern of o200k and its kin, which starts a new word where small letters are followed by a capital.
type cased struct {
	*classes
	digits int
	// suffix lets a contraction end a word.
	suffix bool
}

func (d cased) next(s string, i int) int {
	r, size, k := d.at(s, i)
	if k&number != 0 {
		return d.run(s, i, number, d.digits)
	}
	// The leading character is optional and taken first; a mark can be it, or the start of the word.
	leads := k&letter == 0 && r != '\r' && r != '\n'
	if leads {
		if end := d.mixed(s, i+size); end > 0 {
			return d.tail(s, end)
		}
	}
	if end := d.mixed(s, i); end > 0 {
		return d.tail(s, end)
	}
	if leads {
		if end := d.capital(s, i+size); end > 0 {
			return d.tail(s, end)
		}
	}
	if end := d.capital(s, i); end > 0 {
		return d.tail(s, end)
	}
	if end := d.signs(s, i, space|letter|number, true); end > i {
		return end
	}
	return d.spaces(s, i)
}

// mixed matches upper*lower+ at s[i:] and returns its end, 0 when there is no match. When nothing lower follows the longest run
// of upper, the match ends with the last character of that run which is both.
func (d cased) mixed(s string, i int) int {
	last := 0
	for {
		_, size, k := d.at(s, i)
		if size == 0 || k&upper == 0 {
			break
		}
		i += size
		if k&lower != 0 {
			last = i
		}
	}
	if end := d.run(s, i, lower, 0); end > i {
		return end
	}
	return last
}

// capital matches upper+lower* at s[i:] and returns its end, 0 when there is no match.
func (d cased) capital(s string, i int) int {
	end := d.run(s, i, upper, 0)
	if end == i {
		return 0
	}
	return d.run(s, end, lower, 0)
}

func (d cased) tail(s string, i int) int {
	if d.suffix {
		return contraction(s, i, true)
	}
	return i
}

// deepseek scans the third pattern of DeepSeek V3; digits and some controls are in no match of it.
func (c *classes) deepseek(s string, i int) int {
	r, size, k := c.at(s, i)
	if r < utf8.RuneSelf && k&sign != 0 {
		end := i + 1
		for end < len(s) && lowerASCII(s[end]) >= 'a' && lowerASCII(s[end]) <= 'z' {
			end++
		}
		if end > i+1 {
			return end
		}
	}
	if k&(letter|sign) == 0 && r != '\r' && r != '\n' {
		if end := c.run(s, i+size, letter|mark, 0); end > i+size {
			return end
		}
	}
	if end := c.run(s, i, letter|mark, 0); end > i {
		return end
	}
	start := i
	if r == ' ' {
		start++
	}
	if end := c.run(s, start, sign, 0); end > start {
		return lineEnds(s, end, false)
	}
	return c.spaces(s, i)
}

// numbers scans up to most digits.
func (c *classes) numbers(most int) *scanner {
	n := startingAt(func(s string, i int) int { return c.run(s, i, number, most) }, 0x80, 0xFF)
	for b := '0'; b <= '9'; b++ {
		n.starts[b] = true
	}
	return n
}

// startingAt returns a scanner for matches that begin with a byte from low to high.
func startingAt(next func(s string, i int) int, low, high int) *scanner {
	n := &scanner{next: next, starts: new([256]bool)}
	for b := low; b <= high; b++ {
		n.starts[b] = true
	}
	return n
}

// eastAsian scans Han characters of the first block, hiragana and katakana.
func eastAsian(s string, i int) int {
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if (r < 0x4E00 || r > 0x9FA5) && (r < 0x3040 || r > 0x30FF) {
			return i
		}
		i += size
	}
	return i
}
