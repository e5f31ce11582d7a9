package jinja_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"eckart/model/tokenizer/jinja"
)

// probes is testdata/probes.json, which testdata/generate.py makes with jinja2.
type probes struct {
	Vars   json.RawMessage `json:"vars"`
	Probes []struct {
		Template string  `json:"template"`
		Output   string  `json:"output"`
		Error    *string `json:"error"`
	} `json:"probes"`
}

func readProbes(t testing.TB) (probes, *jinja.Map) {
	t.Helper()
	raw, err := os.ReadFile("testdata/probes.json")
	if err != nil {
		t.Fatal(err)
	}
	var p probes
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	vars, err := jinja.ParseJSON(p.Vars)
	if err != nil {
		t.Fatal(err)
	}
	m := vars.(*jinja.Map)
	m.Set("inf", jinja.Float(math.Inf(1)))
	m.Set("nan", jinja.Float(math.NaN()))
	return p, m
}

// stricter lists the probes that jinja2 renders and this engine refuses.
var stricter = map[string]string{
	"{{ dict(a=1).__class__ is defined }}": "an attribute with two underscores is refused before it is asked about",
	"{{ i.__str__ is defined and f }}":     "the same",
}

// TestProbes renders every probe and compares with jinja2: the same text, or an
// error where jinja2 has one.
func TestProbes(t *testing.T) {
	p, vars := readProbes(t)
	if len(p.Probes) < 1000 {
		t.Fatalf("only %d probes", len(p.Probes))
	}
	for _, probe := range p.Probes {
		got, err := render(probe.Template, vars)
		why, refused := stricter[probe.Template]
		switch {
		case refused:
			if err == nil || probe.Error != nil {
				t.Errorf("%q: not stricter than jinja2 (%s): got %q, %v", probe.Template, why, got, err)
			}
		case probe.Error != nil && err == nil:
			t.Errorf("%q: got %q, want the error %s", probe.Template, got, *probe.Error)
		case probe.Error == nil && err != nil:
			t.Errorf("%q: got error %v, want %q", probe.Template, err, probe.Output)
		case probe.Error == nil && got != probe.Output:
			t.Errorf("%q:\ngot  %q\nwant %q", probe.Template, got, probe.Output)
		}
	}
}

func render(source string, vars *jinja.Map) (string, error) {
	tmpl, err := jinja.Parse(source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(vars, jinja.Options{Now: fixedNow})
}
