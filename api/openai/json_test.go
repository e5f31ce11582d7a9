package openai

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

// valid says what RFC 8259 says, by the standard library, less what checkJSON refuses on purpose.
func valid(text string) bool {
	return json.Valid([]byte(text))
}

func TestCheckJSON(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `null`, ` {"a" : [1, -0, 0.5, 1e9, -1.25E-3, "x\u00e9\n", true, false, null] } `, `""`, `0`,
		"", " ", "{", "[", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `[1,]`, `[,1]`, `[1 2]`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `1e+`,
		`tru`, `nul`, `NaN`, `Infinity`, `"`, `"\x"`, `"\u12g4"`, `"\u12`, "\"\x01\"", `{"a":1}{"b":2}`, `{"a":1} x`, `'a'`, `{a:1}`, `[1]]`,
		"\"\xff\"", "{\"a\":\"\xc3\"}", "\xef\xbb\xbf{}", `"\ud800"`, "/* */ {}", "[\v]",
	} {
		err := checkJSON([]byte(text))
		want := valid(text) && utf8.ValidString(text)
		if (err == nil) != want {
			t.Errorf("%q: got %v, want valid %v", text, err, want)
		}
	}
	refused := map[string]string{
		`{"a":1,"b":2,"a":3}`:                   "twice",
		`{"x":{"k":1,"\u006b":2}}`:              "twice",
		strings.Repeat("[", 1<<16):              "nests deeper",
		strings.Repeat(`{"a":`, maxJSONDepth+2): "nests deeper",
		`{"model":"m"} trailing`:                "goes on",
		"\"\x80\"":                              "not UTF-8",
	}
	many := "{"
	for i := range 100 {
		many += `"k` + strings.Repeat("x", i) + `":1,`
	}
	refused[many+`"k`+strings.Repeat("x", 70)+`":2}`] = "twice"
	for text, want := range refused {
		if err := checkJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want an error with %q", text, err, want)
		}
	}
	deep := strings.Repeat("[", maxJSONDepth) + strings.Repeat("]", maxJSONDepth)
	if err := checkJSON([]byte(deep)); err != nil {
		t.Errorf("depth %d: %v", maxJSONDepth, err)
	}
}

// TestValue walks a text by offsets and compares with the tree of encoding/json.
func TestValue(t *testing.T) {
	text := ` { "a" : [ 1 , {"b": "x]}\"" , "c":[]} , "" , [ [ ] ] ] , "é\n" : { } , "z":-12.5e3 , "t":true }  `
	if err := checkJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var want any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	got := tree(value{text: trimBlank([]byte(text))})
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got %s, want %s", a, b)
	}
}

func tree(v value) any {
	switch v.kind() {
	case '{':
		m := map[string]any{}
		for k, e := range v.members() {
			m[k] = tree(e)
		}
		return m
	case '[':
		l := []any{}
		for _, e := range v.elements() {
			l = append(l, tree(e))
		}
		return l
	case '"':
		s, _ := v.str()
		return s
	case 't', 'f':
		b, _ := v.boolean()
		return b
	case 'n':
		return nil
	}
	var f float64
	_ = json.Unmarshal(v.text, &f) // not number, which makes -0 a 0
	return f
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2,{"b":null}],"c":"\ud83d\ude00"}`, `[[[]]]`, `"x`, `{"a":1,"a":2}`, `-0.0e-0`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := checkJSON(text); err != nil {
			return
		}
		var want any
		if err := json.Unmarshal(text, &want); err != nil {
			if strings.Contains(err.Error(), "cannot unmarshal number") { // 1e400 is a number to RFC 8259
				return
			}
			t.Fatalf("%q passes, and encoding/json says %v", text, err)
		}
		a, _ := json.Marshal(tree(value{text: trimBlank(text)}))
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("%q: got %s, want %s", text, a, b)
		}
	})
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{
		"", "plain", "quo\"te \\ back", "tab\tline\nret\r\b\f\x00\x1f\x7f", "é 漢字 😀", "\u2028\u2029", "bad \xff\xc3(\xe2\x82", "<>&", "\uFFFD",
	} {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); got != want && len(want) == len(s) {
			t.Errorf("%q came back as %q", s, got)
		}
		var std string
		b, _ := json.Marshal(s)
		_ = json.Unmarshal(b, &std)
		if got != std {
			t.Errorf("%q: got %q, encoding/json %q", s, got, std)
		}
	}
	for p, want := range map[float32]string{
		0: "0", -0.5: "-0.5", float32(math.Inf(-1)): "-9999.0", float32(math.NaN()): "-9999.0", -1e-9: "-1e-09",
	} {
		got := string(appendLogprob(nil, p))
		if got != want || !json.Valid([]byte(got)) {
			t.Errorf("log-probability %v: got %s, want %s", p, got, want)
		}
	}
}
