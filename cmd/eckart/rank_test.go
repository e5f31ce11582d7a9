package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model"
)

// TestRankShare writes a model with nested factors and loads a half of them: the plan has fewer bytes, no more rows are read,
// and each matrix is the product of what is left.
func TestRankShare(t *testing.T) {
	if testing.Short() {
		t.Skip("decomposes a model and scores it")
	}
	goText(t)
	dir := filepath.Join(t.TempDir(), "nested")
	status, _, stderr := eckart(t, "", "compress", "--method", "nested@24", "--calibration", "none", "--verify", "none", "--threads", "2", "-o", dir)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	open := func(share float64) *launch.Model {
		t.Helper()
		m, err := (&launch.ModelFlags{Model: dir, RankShare: share}).Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	whole, half := open(0), open(0.5)
	if want := "56 matrices with nested factors to 0.5 of their rank: "; !strings.HasPrefix(half.Cut, want) || whole.Cut != "" {
		t.Errorf("said of the rank: %q, want %q", half.Cut, want)
	}
	bytes := func(m *launch.Model) int64 {
		t.Helper()
		f, err := model.Measure(m.Source, model.Limits{Rows: 1, Seqs: 1, Samples: 1, Blocks: 1, BlockTokens: 16})
		if err != nil {
			t.Fatal(err)
		}
		return f.Weights
	}
	const name = "model.layers.3.mlp.down_proj.weight"
	nested := func(m *launch.Model) *lowrank.Nested {
		t.Helper()
		w, err := m.Source.Weight(name)
		n, ok := w.(*lowrank.Nested)
		if err != nil || !ok {
			t.Fatalf("%s is a %T, %v", name, w, err)
		}
		return n
	}
	w, cut := nested(whole), nested(half)
	out, in := w.Dims()
	if w.Rank() != 24 || cut.Rank() != 12 || !slices.Equal(cut.Energy(), w.Energy()[:12]) {
		t.Errorf("rank %d cut to %d", w.Rank(), cut.Rank())
	}
	var matrices int64 // bytes of all factors
	for _, n := range whole.Source.Names() {
		if w, err := whole.Source.Weight(n); err == nil && w.Kind() == "nested" {
			o, i := w.Dims()
			matrices += 24 * int64(o+i) * 2
		}
	}
	// Arenas align what they hold, so that the difference need not be exact.
	if saved := bytes(whole) - bytes(half); saved < matrices*45/100 || saved > matrices*55/100 {
		t.Errorf("half of the rank takes %d bytes less, of %d", saved, matrices)
	}

	// What is left is utᵀ·v of the first rows, computed here from the whole.
	ut, v := make([]byte, 12*out*2), make([]byte, 12*in*2)
	for i, to := range [][]byte{ut, v} {
		if err := w.Parts()[i].Read(to, 0); err != nil {
			t.Fatal(err)
		}
	}
	u32, v32 := layers.Float32s(ut, w.Parts()[0].Type), layers.Float32s(v, w.Parts()[1].Type)
	got, err := cut.Dense()
	if err != nil {
		t.Fatal(err)
	}
	for at, g := range got {
		var want float64
		for r := range 12 {
			want += float64(u32[r*out+at/in]) * float64(v32[r*in+at%in])
		}
		if d := float64(g) - want; d > 1e-6 || d < -1e-6 {
			t.Fatalf("element %d is %g, want %g", at, g, want)
		}
	}
	// It is served as it is planned.
	if status, stdout, stderr := eckart(t, "", "inspect", dir, "--rank-share", "0.5"); status != 0 || !strings.Contains(stdout, half.Cut) {
		t.Errorf("status %d, stderr %q, inspected as\n%s", status, stderr, stdout)
	}
	for _, c := range []struct{ args, want string }{
		{"inspect --rank-share 0.5", "--rank-share 0.5: cut the rank: the model has no nested factors, which alone can be cut while they are loaded"},
		{"inspect --rank-share 1.5", "--rank-share must be above 0 and at most 1, got 1.5"},
		{"compress --ratio 0.5 --rank-share 0.5 -o x", "--rank-share cuts what a compression has left"},
	} {
		if status, _, stderr := eckart(t, "", strings.Fields(c.args)...); status == command.OK || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: status %d, stderr %q, want %q", c.args, status, stderr, c.want)
		}
	}
}
