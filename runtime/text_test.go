package runtime

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// pieces is a decoder whose token i is the i-th piece of a text, which may end within a character.
type pieces struct {
	all  []string
	rest []byte
}

func (p *pieces) Push(id int32) string {
	p.rest = append(p.rest, p.all[id]...)
	n := len(p.rest)
	for i := max(0, n-utf8.UTFMax); i < n; i++ {
		if utf8.RuneStart(p.rest[i]) && !utf8.FullRune(p.rest[i:]) {
			n = i
			break
		}
	}
	out := string(p.rest[:n])
	p.rest = p.rest[n:]
	return out
}

func (p *pieces) Flush() string {
	if len(p.rest) == 0 {
		return ""
	}
	p.rest = nil
	return "\uFFFD"
}

// read pushes all pieces and returns what came out after each, the flush last, and the stop string.
func read(all []string, stops []string, include bool) (outs []string, hit string) {
	t := newText(&pieces{all: all}, stops, include)
	for i := range all {
		out, hit := t.push(int32(i), true)
		outs = append(outs, out)
		if hit != "" {
			return outs, hit
		}
	}
	out, hit := t.flush()
	return append(outs, out), hit
}

func TestText(t *testing.T) {
	for _, test := range []struct {
		name   string
		pieces []string
		stops  []string
		outs   []string // after each piece, then the flush
		hit    string
	}{
		{"no stops", []string{"a", "bc", ""}, nil, []string{"a", "bc", "", ""}, ""},
		{"inside a token", []string{"abcd"}, []string{"bc"}, []string{"a"}, "bc"},
		{"a whole token", []string{"a", "bc"}, []string{"bc"}, []string{"a", ""}, "bc"},
		{"the first token", []string{"bc", "d"}, []string{"bc"}, []string{""}, "bc"},
		{"across two", []string{"xb", "cx"}, []string{"bc"}, []string{"x", ""}, "bc"},
		{"across three", []string{"a#", "#", "#b"}, []string{"###"}, []string{"a", "", ""}, "###"},
		{"held back, then not", []string{"a#", "#", "b"}, []string{"###"}, []string{"a", "", "##b", ""}, ""},
		{"only as much as needed", []string{"##", "#a"}, []string{"##a#"}, []string{"", "#", "##a"}, ""},
		{"falls back to a border", []string{"aab", "aab", "aac"}, []string{"aabaac"}, []string{"", "aab", ""}, "aabaac"},
		{"held at the end", []string{"ab"}, []string{"bc"}, []string{"a", "b"}, ""},
		{"the one that ends first", []string{"xabcd"}, []string{"abcd", "bc"}, []string{"xa"}, "bc"},
		{"the longest of those that end together", []string{"xabc"}, []string{"c", "abc", "bc"}, []string{"x"}, "abc"},
		{"a character in two", []string{"a\xc3", "\xa9b"}, nil, []string{"a", "éb", ""}, ""},
		{"an emoji stop cut in two", []string{"a\xf0\x9f", "\x98\x80b"}, []string{"😀"}, []string{"a", ""}, "😀"},
		{"not the same emoji", []string{"a\xf0\x9f", "\x98\x81b"}, []string{"😀"}, []string{"a", "😁b", ""}, ""},
		{"an unfinished character", []string{"a\xf0\x9f"}, nil, []string{"a", "\uFFFD"}, ""},
		{"unfinished, and a stop", []string{"a\xf0\x9f"}, []string{"\uFFFD"}, []string{"a", ""}, "\uFFFD"},
		{"newlines", []string{"a\n", "\nb"}, []string{"\n\n"}, []string{"a", ""}, "\n\n"},
		{"long", []string{strings.Repeat("ab", 5000), "a", "c"}, []string{strings.Repeat("ab", 4000) + "ac"}, []string{strings.Repeat("ab", 1000), "", ""}, strings.Repeat("ab", 4000) + "ac"},
	} {
		t.Run(test.name, func(t *testing.T) {
			outs, hit := read(test.pieces, test.stops, false)
			if !slices.Equal(outs, test.outs) || hit != test.hit {
				t.Errorf("%.60q, stop %.20q; want %.60q, stop %.20q", outs, hit, test.outs, test.hit)
			}
			outs, hit = read(test.pieces, test.stops, true)
			if got, want := strings.Join(outs, ""), strings.Join(test.outs, "")+test.hit; got != want || hit != test.hit {
				t.Errorf("with the stop: %.60q, stop %.20q; want %.60q", got, hit, want)
			}
		})
	}
}

func TestTextBeforeMinTokens(t *testing.T) {
	all := []string{"ab", "ab", "a", "b"}
	x := newText(&pieces{all: all}, []string{"ab"}, false)
	var outs []string
	for i := range all {
		out, hit := x.push(int32(i), i >= 2)
		outs = append(outs, out)
		if want := i == 3; (hit != "") != want {
			t.Errorf("token %d: stop %q", i, hit)
		}
	}
	if want := []string{"ab", "ab", "", ""}; !slices.Equal(outs, want) {
		t.Errorf("%q, want %q", outs, want)
	}
}

// cut is where stop strings end a text, by trying every end.
func cut(s string, stops []string) (out, hit string) {
	for end := 1; end <= len(s); end++ {
		for _, stop := range stops {
			if strings.HasSuffix(s[:end], stop) && len(stop) > len(hit) {
				hit = stop
			}
		}
		if hit != "" {
			return s[:end-len(hit)], hit
		}
	}
	return s, ""
}

func FuzzText(f *testing.F) {
	f.Add("abacabadabacaba", "abad", "aca", []byte{1, 2, 3})
	f.Add("h\u00e9llo w\u00f6rld \u4e16\u754c", "\u4e16", "o w", []byte{1})
	f.Add("aaaaaaaab", "aaab", "aaaaaaaaa", []byte{2, 5})
	f.Fuzz(func(t *testing.T, s, a, b string, cuts []byte) {
		if !utf8.ValidString(s) || !utf8.ValidString(a) || !utf8.ValidString(b) || len(s) > 2000 {
			return
		}
		stops := slices.DeleteFunc([]string{a, b}, func(s string) bool { return s == "" })
		want, wantHit := cut(s, stops)
		var all []string
		for rest, i := s, 0; rest != ""; i++ {
			n := len(rest)
			if len(cuts) > 0 {
				n = min(n, int(cuts[i%len(cuts)]))
			}
			all = append(all, rest[:n])
			rest = rest[n:]
			if i > len(s)+len(cuts) { // every cut was empty
				all = append(all, rest)
				break
			}
		}
		outs, hit := read(all, stops, false)
		if got := strings.Join(outs, ""); got != want || hit != wantHit {
			t.Errorf("%q in %q with %q: %q, stop %q; want %q, stop %q", all, s, stops, got, hit, want, wantHit)
		}
		for i, out := range outs {
			if !utf8.ValidString(out) {
				t.Errorf("piece %d is %q", i, out)
			}
		}
		outs, _ = read(all, stops, true)
		if got := strings.Join(outs, ""); got != want+wantHit {
			t.Errorf("with the stop: %q, want %q", got, want+wantHit)
		}
	})
}
