package demo_test

import (
	"testing"

	"eckart/cmd/internal/demo"
	"eckart/model"
)

// TestOpen reads every weight of the embedded model into a counting arena.
func TestOpen(t *testing.T) {
	c, err := demo.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, err := model.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	f, err := model.Measure(src, model.Limits{Rows: 8, Seqs: 1, Samples: 1, Blocks: 4, BlockTokens: 16})
	if err != nil {
		t.Fatal(err)
	}
	const parameters = 6953216 // two bytes each, gains four
	if f.Weights < 2*parameters || f.Weights > 3*parameters {
		t.Errorf("weights take %d bytes, want from %d to %d", f.Weights, 2*parameters, 3*parameters)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "NOTICE"} {
		if _, err := c.ReadFile(name, 1<<20); err != nil {
			t.Errorf("read %s: %v", name, err)
		}
	}
}
