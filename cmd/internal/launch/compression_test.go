package launch

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/model/compress"
)

// testCompression returns one of the built-in model with a store of its own, and what is heard of its stages.
func testCompression(t *testing.T, f *CompressFlags) (*compression, *[]string) {
	t.Helper()
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	d, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		d.Close()
	})
	stages := new([]string)
	o := &Options{Sizing: Sizing{CacheType: kernels.F16}, Threads: 2, Stage: func(s string) {
		if !slices.Contains(*stages, s) {
			*stages = append(*stages, s)
		}
	}}
	digest, err := m.Checkpoint.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return &compression{
		flags: f, model: m, device: d, options: o, seconds: map[string]float64{}, bar: newStageBar(nil), digest: digest,
		store: compress.Store{Dir: filepath.Join(t.TempDir(), "kept"), Limit: compress.DefaultLimit},
	}, stages
}

// TestWriteOnce: a model writes its text once, and fewer windows are the first of more.
func TestWriteOnce(t *testing.T) {
	c, stages := testCompression(t, new(CompressFlags))
	const window = 64
	two, err := c.write(t.Context(), window, 2)
	if err != nil || len(*stages) != 1 || c.source != compress.FromSelf {
		t.Fatalf("stages %q, source %s, %v", *stages, c.source, err)
	}
	*stages = nil
	one, err := c.write(t.Context(), window, 1)
	if err != nil || !reflect.DeepEqual(one, two[:1]) || len(*stages) != 0 {
		t.Errorf("stages %q, %v; windows %v, want the first of %v", *stages, err, one, two)
	}
	if _, err := c.write(t.Context(), window/2, 1); err != nil || len(*stages) != 1 {
		t.Errorf("shorter windows: stages %q, %v", *stages, err)
	}
}

// TestTooLargeToWrite: a model that does not fit into memory as a whole learns from the project's own text, of which no two
// windows are the same.
func TestTooLargeToWrite(t *testing.T) {
	c, stages := testCompression(t, new(CompressFlags))
	const window = 512
	size := writingSize(c.options.CacheType, window, 40)
	p, err := c.model.Plan(size, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.free = p.Need() // without the margin
	if err := c.texts(t.Context(), window); err != nil {
		t.Fatal(err)
	}
	if c.source != compress.FromProject || len(*stages) != 0 || len(c.learn) != defaultWindows || len(c.verify)*(window-1) < verifyTokens {
		t.Errorf("source %s, stages %q, %d windows to learn from, %d to compare on", c.source, *stages, len(c.learn), len(c.verify))
	}
	all := append(slices.Clone(c.learn), c.verify...)
	for i, a := range all {
		for j, b := range all[:i] {
			if slices.Equal(a, b) {
				t.Errorf("windows %d and %d are the same", j, i)
			}
		}
	}
	if _, err := c.projectText(window, 1<<20); err == nil {
		t.Error("more windows than the text fills")
	}
}

// TestKnownOnce: statistics, sensitivities, predictions and costs are found out once.
func TestKnownOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("surveys and plans a model")
	}
	c, stages := testCompression(t, &CompressFlags{Ratio: 0.4, Windows: 1, Verify: "none"})
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	var plans []*compress.Plan
	for round := range 2 {
		*stages = nil
		again, err := newCompression(t.Context(), c.flags, c.model, c.device, c.options)
		if err != nil {
			t.Fatal(err)
		}
		p, err := again.plan(t.Context())
		if err == nil {
			err = again.measureCosts()
		}
		if err := again.close(); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
		if round == 0 && len(*stages) != 5 || round == 1 && len(*stages) != 0 {
			t.Errorf("start %d: stages %q", round, *stages)
		}
	}
	if !reflect.DeepEqual(plans[0], plans[1]) {
		t.Errorf("plans differ: %+v and %+v", plans[0], plans[1])
	}
}
