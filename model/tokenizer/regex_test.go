package tokenizer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// known are the patterns that have a scanner.
var known = []string{
	gpt2Pattern, deepseekPattern,
	contractionPart + `|` + llamaWordPart + `|\p{N}{1,3}` + llamaSignPart + spacePart,
	contractionPart + `|` + llamaWordPart + `|\p{N}` + llamaSignPart + spacePart,
	contractionPart + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + spacePart,
	casedPart + contractionPart + `?|` + capitalPart + contractionPart + `?|\p{N}{1,3}` + slashSignPart + spacePart,
	casedPart + `|` + capitalPart + `|\p{N}` + slashSignPart + spacePart,
	`\p{N}`, `\p{N}{1,3}`, `[一-龥぀-ゟ゠-ヿ]+`,
}

// others are patterns that run on the engine, in the part of the syntax where regexp2, which follows .NET, means the same.
var others = []string{
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`,
	`\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|\z))`, `(?:ab|a)(?:bc|c)?`, `a*?b|a{2,4}?|a`, `(?<=\s)\S+|(?<!a)b`, `(?:a|ab)(?=b)|.`, `x{0,3}y|x`,
	`[^a-c\s]+?(?=[a-c]|\z)`, `a+b|a`, `\Aa+|b+\z`, `(?:a|b|ab)*c|[ab]`, `(?!b)\p{L}(?=a|\s)`, `\s*[\r\n]+|\s+(?!\S)|\s`,
	`(?=(a|b))(?!bb)[ab]{1,2}`, `(?i:k|s+)`, `[\x20-\x40\u3042é-ï]+`, `(?:(?:a|b)c?|d)+`, `.+`, `(?=.*c)a|b`,
}

// spans returns the matches of a pattern.
func spans(p pattern, text string) (all [][2]int) {
	p.matches(text, func(start, end int) bool {
		all = append(all, [2]int{start, end})
		return true
	})
	return all
}

// oracle returns the matches that regexp2 finds.
func oracle(t testing.TB, re *regexp2.Regexp, text string) (all [][2]int) {
	t.Helper()
	// It counts in characters.
	at := make([]int, 0, len(text)+1)
	for i := range text {
		at = append(at, i)
	}
	at = append(at, len(text))
	m, err := re.FindStringMatch(text)
	for ; m != nil; m, err = re.FindNextMatch(m) {
		all = append(all, [2]int{at[m.RuneIndex], at[m.RuneIndex+m.RuneLength]})
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// FuzzPatterns holds scanners to the engine and the engine to regexp2.
func FuzzPatterns(f *testing.F) {
	for _, seed := range []string{
		"", "Hello, World! it's don'T 'LL 've'RE 'ſ", "  a  b\n\n c \r\n\t\tx", "1234 12,345.678 ½²１２３４", "camelCaseHTTPServer ǅuro ʰʱ ÀÉ",
		"中文、日本語ひらがなカタカナ한국어", "हिन्दी e\u0301\u0301x \u0301", "a/b//c\r\n/\n!?/'s", "abcabab aab bbc aaaab d", "\u00a0\u2028\u3000x \u0085", "\x00\x01\x7f\u200d\ufeff",
		"#include <a> --flag=1 $x @y [\\]^_`{|}~", "AbcDEFgʰH'sI'mj", "xxxy xxxxy KkKss", "ab\r\n", "\U0001F600\U00020000\U000E0001",
	} {
		f.Add(seed)
	}
	c := newClasses()
	type triple struct {
		text   string
		fast   pattern
		plain  pattern
		oracle *regexp2.Regexp
	}
	var all []triple
	for i, text := range slices.Concat(known, others) {
		re, err := compile(text)
		if err != nil {
			f.Fatal(err)
		}
		peer, err := regexp2.Compile(text)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, triple{text, re, re, peer})
		if i < len(known) {
			scan := c.scanner(text)
			if scan == nil {
				f.Fatalf("no scanner for %q", text)
			}
			all[i].fast = scan
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = lossy(text)
		for _, p := range all {
			plain := spans(p.plain, text)
			if fast := spans(p.fast, text); !slices.Equal(fast, plain) {
				t.Errorf("scan %q for %q: %v, the engine says %v", text, p.text, fast, plain)
			}
			// The two differ in which characters (?i: joins to s and k, and in what . and \w take.
			if strings.ContainsAny(text, "ſK\n\u200c\u200d²³¹¼½¾") {
				continue
			}
			if want := oracle(t, p.oracle, text); !slices.Equal(plain, want) {
				t.Errorf("match %q for %q: %v, regexp2 says %v", text, p.text, plain, want)
			}
		}
	})
}

// TestMemory checks that what a search writes down does not change what it finds: each pattern runs with and without.
func TestMemory(t *testing.T) {
	for _, text := range others {
		re, err := compile(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			var b strings.Builder
			for j := range 30 {
				b.WriteString([]string{"a", "b", "c", "ab", " ", "1", "é", "x", "y", "\n"}[(i*i*7+j*j*(i%13+1)+j)%10])
			}
			s := b.String()
			want := spans(re, s)
			var got [][2]int
			search := search{regex: re, text: s, steps: 1 << 40}
			for range re.runs {
				search.known = append(search.known, frame{-1, -1})
			}
			for at := 0; at < len(s); {
				if end := search.match(0, at, false); end > at {
					got = append(got, [2]int{at, end})
					at = end
					continue
				}
				_, size := utf8.DecodeRuneInString(s[at:])
				at += size
			}
			if !slices.Equal(got, want) {
				t.Errorf("match %q for %q with memory: %v, without %v", s, text, got, want)
			}
			if search.failed == nil && len(want) == 0 {
				t.Errorf("match %q for %q: nothing was written down", s, text)
			}
		}
	}
}

// TestRefusedPatterns checks that what the engine does not know is an error.
func TestRefusedPatterns(t *testing.T) {
	for pattern, want := range map[string]string{
		`(?<name>a)`: "group", `(?i)a`: "group", `(?>a)`: "group", `a**`: "repeat of a repeat", `a{2}+`: "{n,m}", `a{2}?`: "{n}",
		`(ab)++`: "possessive", `[a&&b]`: "&&", `[[:alpha:]]`: "POSIX", `\R`: `\R`, `\X`: `\X`, `\K`: `\K`, `\G`: `\G`, `\h`: `\h`, `\Z`: `\Z`,
		`\p{Greek_Extended}`: "Greek_Extended", `\pL`: `\p`, `(?<=ab)c`: "behind", `(?i:straße)`: "(?i:", `(?i:fish)`: "fi", `(?i:[^a])`: "set",
		`(?i:[a-z])`: "range", `a{,}`: "repeat", `a{x}`: "repeat", `a{5,2}`: "repeat", `a{1001}`: "repeat", `a{`: "}", `[b-a]`: "range", `[\d-z]`: "range",
		`[a`: "closed", `[]a]`: "empty", `(a`: "closed", `a)`: "unbalanced", `+`: "nothing", `a\`: "backslash", `\x{110000}`: "character", `\xff`: `\xff`,
		`\u12`: "cut", `\uD800`: "character", `^+`: "assertion", `a|`: "empty", ``: "empty", `(?=a)`: "empty", `\1`: `\1`, `\p{Cn}`: "Cn",
	} {
		if _, err := compile(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("compile %q: %v, want an error that says %q", pattern, err, want)
		}
	}
}

// TestBehaviors checks how matches and gaps become pieces against the table in the documentation of the reference.
func TestBehaviors(t *testing.T) {
	for b, want := range map[behavior]string{
		removed:            `["the" "final" "countdown"]`,
		isolated:           `["the" "-" "final" "-" "-" "countdown"]`,
		mergedWithPrevious: `["the-" "final-" "-" "countdown"]`,
		mergedWithNext:     `["the" "-final" "-" "-countdown"]`,
		contiguous:         `["the" "-" "final" "--" "countdown"]`,
	} {
		var got []string
		split("the-final--countdown", text("-"), b, false, func(start, end int) { got = append(got, "the-final--countdown"[start:end]) })
		if fmt.Sprintf("%q", got) != want {
			t.Errorf("behavior %d: %q, want %s", b, got, want)
		}
	}
}
