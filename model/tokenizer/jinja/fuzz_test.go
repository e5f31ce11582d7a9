package jinja_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"eckart/model/tokenizer/jinja"
)

// FuzzRender feeds any text as a template: it must not panic, and what it prints
// must stay within the limits and be text.
func FuzzRender(f *testing.F) {
	p, vars := readProbes(f)
	for _, probe := range p.Probes {
		f.Add(probe.Template)
	}
	f.Add(typical)
	limits := jinja.Options{Now: fixedNow, MaxSteps: 1 << 16, MaxOutput: 1 << 16, MaxBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := jinja.Parse(source)
		if err != nil {
			checkError(t, err)
			return
		}
		out, err := tmpl.Render(vars, limits)
		if err != nil {
			checkError(t, err)
			return
		}
		if int64(len(out)) > limits.MaxOutput {
			t.Errorf("printed %d bytes, more than %d", len(out), limits.MaxOutput)
		}
		if !utf8.ValidString(out) {
			t.Errorf("printed %q, which is not UTF-8", out)
		}
		again, err := tmpl.Render(vars, limits)
		if err != nil || again != out {
			t.Errorf("printed %q, then %q, %v", out, again, err)
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); strings.Contains(s, "BUG") {
		t.Errorf("error %q", s)
	}
}

// FuzzParseJSON compares with encoding/json what is JSON, and reads back what is
// written.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.5,-0,1e5,true,false,null,"x\n\u00e9\ud83d\ude42"],"b":{}}`, `[]`, `"\ud800"`, `01`, `1.`, `-`, `{"a":1,}`,
		`[1 2]`, `"\x"`, "\"\x01\"", `tru`, ``, ` 1 `, `1 2`, `{"a" 1}`, `{1:2}`, `123456789012345678901234567890`, `1e999`, "\xff",
		strings.Repeat("[", 200), strings.Repeat("[", 100) + strings.Repeat("]", 100),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := jinja.ParseJSON(b)
		if (err == nil) != json.Valid(b) {
			// The limits are ours alone, and encoding/json repairs text.
			if err != nil && (!utf8.Valid(b) || strings.Contains(err.Error(), "limit")) {
				return
			}
			t.Fatalf("%q: %v, encoding/json says %v", b, err, json.Valid(b))
		}
		if err != nil {
			return
		}
		s, err := jinja.JSON(v)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if strings.Contains(s, "Infinity") {
			return // 1e999: Python writes what JSON cannot hold
		}
		v, err = jinja.ParseJSON([]byte(s))
		if err != nil {
			t.Fatalf("%q, written of %q: %v", s, b, err)
		}
		if again, err := jinja.JSON(v); err != nil || again != s {
			t.Fatalf("%q came back as %q, %v", s, again, err)
		}
	})
}
