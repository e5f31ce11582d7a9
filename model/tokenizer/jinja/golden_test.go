package jinja_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"eckart/model/tokenizer/jinja"
)

// published is a file of the shared goldens: a published chat template, and what
// the reference makes of each case.
type published struct {
	Template string `json:"template"`
	Rendered []struct {
		Case   string  `json:"case"`
		Output string  `json:"output"`
		Error  *string `json:"error"`
	} `json:"rendered"`
}

const sharedChat = "../../../../shared/golden/chat"

// fixedNow is the clock of the goldens.
func fixedNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC) }

func TestPublishedTemplates(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(sharedChat, "_inputs.json"))
	if os.IsNotExist(err) {
		t.Skip("no shared goldens beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	v, err := jinja.ParseJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	inputs := v.(*jinja.Map)
	files, err := filepath.Glob(filepath.Join(sharedChat, "[^_]*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens in %s: %v", sharedChat, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var p published
			if err := json.Unmarshal(raw, &p); err != nil {
				t.Fatal(err)
			}
			tmpl, err := jinja.Parse(p.Template)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range p.Rendered {
				in, ok := inputs.Get(want.Case)
				if !ok {
					t.Fatalf("no input for case %s", want.Case)
				}
				vars := jinja.NewMap()
				vars.Set("tools", nil)
				vars.Set("documents", nil)
				vars.Set("bos_token", jinja.String("<s>"))
				vars.Set("eos_token", jinja.String("</s>"))
				for k, v := range in.(*jinja.Map).All() {
					vars.Set(k, v)
				}
				got, err := tmpl.Render(vars, jinja.Options{Now: fixedNow})
				switch {
				case want.Error != nil && err == nil:
					t.Errorf("%s: rendered %q, want the error %s", want.Case, got, *want.Error)
				case want.Error == nil && err != nil:
					t.Errorf("%s: %v", want.Case, err)
				case want.Error == nil && got != want.Output:
					t.Errorf("%s: differs\ngot  %q\nwant %q", want.Case, got, want.Output)
				case want.Error != nil:
					t.Logf("%s: %v (reference: %s)", want.Case, err, *want.Error)
				}
			}
		})
	}
}
