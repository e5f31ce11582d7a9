package jinja_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"eckart/model/tokenizer/jinja"
)

func TestParseJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"z":1,"a":{"y":[],"b":{}},"m":[1,2.0,"x"]}`:          `{"z": 1, "a": {"y": [], "b": {}}, "m": [1, 2.0, "x"]}`,
		`{"a":1,"b":2,"a":3}`:                                  `{"a": 3, "b": 2}`,
		`[-0, 0.0, -0.0, 1E2, 1e-7, 100000000000000000000000]`: `[0, 0.0, -0.0, 100.0, 1e-07, 100000000000000000000000]`,
		`"\u00e9\ud83d\ude42\ud800\"\\\/\b\f\n\r\t\u0001"`:     `"é🙂` + "\ufffd" + `\"\\/\b\f\n\r\t\u0001"`,
		" \t\r\n[ true , false , null ] ":                      `[true, false, null]`,
	} {
		v, err := jinja.ParseJSON([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := jinja.JSON(v); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
	for in, says := range map[string]string{
		``:                               "text ends early",
		`{"a":1`:                         "text ends early",
		`[1,]`:                           "unexpected ']' at byte 3",
		`{"a":NaN}`:                      "unexpected 'N'",
		`[01]`:                           "unexpected '1'",
		"[\"a\nb\"]":                     "unexpected '\\n'",
		`"\ud8"`:                         "unexpected",
		`1 2`:                            "unexpected '2'",
		"\"\xff\"":                       "not UTF-8",
		strings.Repeat("[", 1000):        "more than 128 deep",
		strings.Repeat("9", 5000):        "4300 digits",
		`{"a":` + strings.Repeat(" ", 9): "text ends early",
	} {
		_, err := jinja.ParseJSON([]byte(in))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: got %v, want %q", in, err, says)
		}
	}
	if _, err := jinja.ParseJSON([]byte(strings.Repeat("[", 1000))); !errors.Is(err, jinja.ErrLimit) {
		t.Errorf("deep text: %v is no ErrLimit", err)
	}
}

func TestMapKeepsOrder(t *testing.T) {
	m := jinja.NewMap()
	for i := range 50 {
		m.Set(fmt.Sprintf("k%d", (i*37)%50), jinja.Int(int64(i)))
	}
	m.Set("k0", jinja.String("again"))
	if m.Len() != 50 {
		t.Fatalf("%d keys", m.Len())
	}
	i := 0
	for key, v := range m.All() {
		if want := fmt.Sprintf("k%d", (i*37)%50); key != want {
			t.Fatalf("key %d is %s, want %s", i, key, want)
		}
		got, ok := m.Get(key)
		if !ok || got != v {
			t.Fatalf("%s: got %v", key, got)
		}
		i++
	}
	if _, ok := m.Get("nosuch"); ok {
		t.Error("found a key that was never set")
	}
	if s, _ := jinja.Text(func() jinja.Value { v, _ := m.Get("k0"); return v }()); s != "again" {
		t.Errorf("k0 is %q", s)
	}
}

// TestGrowingText adds to one text in several ways: what was there before must
// never change.
func TestGrowingText(t *testing.T) {
	vars := jinja.NewMap()
	vars.Set("s", jinja.String(strings.Repeat("s", 3000)))
	got, err := render(`{% set a = s ~ 'a' %}{% set b = a ~ 'b' %}{% set c = a + 'c' %}{% set d = b ~ 'd' %}{% set e = b + 'e' %}`+
		`{% set ns = namespace(t=a, u=a) %}{% for i in range(9) %}{% set ns.t = ns.t ~ i %}{% set ns.u = ns.u + 'u' %}{% endfor %}`+
		`{% for x in [a, b, c, d, e, ns.t, ns.u, s] %}{{ x[2999:] }} {% endfor %}`, vars)
	if want := "sa sab sac sabd sabe sa012345678 sauuuuuuuuu s "; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// TestGrowingTextIsLinear holds a template that adds to a text ten thousand times
// to the default limits.
func TestGrowingTextIsLinear(t *testing.T) {
	got, err := render(`{% set ns = namespace(s='') %}{% for i in range(10000) %}{% set ns.s = ns.s + 'some text of a message' %}{% endfor %}{{ ns.s|length }}`, nil)
	if err != nil || got != "220000" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestRenderLeavesValues checks that a render changes nothing it is given.
func TestRenderLeavesValues(t *testing.T) {
	p, vars := readProbes(t)
	before, err := jinja.JSON(vars)
	if err != nil {
		t.Fatal(err)
	}
	for _, probe := range p.Probes {
		render(probe.Template, vars)
	}
	if after, err := jinja.JSON(vars); err != nil || after != before {
		t.Errorf("values changed, %v:\n%s\n%s", err, before, after)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for source, says := range map[string]string{
		"a\nb\n{{ x.y.z }}":                                         "render template: line 3: 'x' is undefined",
		"a\n{% if true %}\n{{ 1 + 'a' }}{% endif %}":                "line 3: unsupported operand types for +: 'int' and 'str'",
		"{% macro m() %}\n{{ 1 + 'a' }}{% endmacro %}\n\n{{ m() }}": "line 2: ",
		"\n\n{% for x in 5 %}{% endfor %}":                          "line 3: 'int' object is not iterable",
		"\n{{ 'a' }}\n{{ 'b }}":                                     "parse template: line 3: close the string",
		"\n\n{% nosuch %}":                                          "parse template: line 3: unknown tag 'nosuch'",
		"{#\n\n#}{{ i i }}":                                         "line 3: expected '}}', got 'i'",
	} {
		_, err := render(source, nil)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", source, err, says)
		}
	}
}
