package compress_test

import (
	"strings"
	"testing"

	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model/compress"
)

// rightFactor returns the factor of a compressed matrix that its inputs meet first.
func rightFactor(t testing.TB, w layers.Weight) layers.Weight {
	t.Helper()
	if s, ok := w.(*layers.Sum); ok {
		_, w = s.Terms()
	}
	p, ok := w.(*lowrank.Weight)
	if !ok {
		t.Fatalf("a matrix is of kind %s, want factors", w.Kind())
	}
	_, v := p.Factors()
	return v
}

// TestCommonFactor has matrices that read one input share the factor that is theirs together, drift corrected or not, and
// counts it once.
func TestCommonFactor(t *testing.T) {
	w := open(t, 1)
	learn := windows(t, 0, 2)
	known := survey(t, w, learn)
	for _, c := range []struct {
		form   string
		drift  [][]int32
		shared bool
	}{
		{"joint@40", nil, true},
		{"joint@40/int8", learn, true},
		{"int3+r16", nil, true},
		{"int3+r8/bf16", learn, true},
		{"int3+r8:eora", nil, false},
		{"lowrank@40", nil, false},
	} {
		if testing.Short() && c.drift != nil {
			continue
		}
		p := planFor(t, w, known, c.form, 0)
		r := run(t, w, known, p, c.drift, nil)
		if r.Report.After.LinearBytes != p.Bytes {
			t.Errorf("%s: %d bytes, planned %d", c.form, r.Report.After.LinearBytes, p.Bytes)
		}
		var bytes int64
		for _, s := range must(w.Sites(0))(t) {
			var first layers.Weight
			for i, sw := range s.Weights {
				made := must(r.Source.Weight(sw.Name))(t)
				for _, part := range made.Parts() {
					bytes += int64(part.Rows) * int64(part.Cols) * int64(part.Type.Bytes())
				}
				v := rightFactor(t, made)
				switch {
				case i == 0:
					first = v
				case (v == first) != c.shared:
					t.Errorf("%s: %s shares its factor: %v", c.form, sw.Name, v == first)
				case c.shared:
					for _, part := range v.Parts() {
						bytes -= int64(part.Rows) * int64(part.Cols) * int64(part.Type.Bytes())
					}
				}
			}
		}
		if bytes != p.Bytes {
			t.Errorf("%s: parts of %d bytes, planned %d", c.form, bytes, p.Bytes)
		}
	}
}

// TestJointPlan refuses a plan that gives one matrix of an input another choice than joint factors.
func TestJointPlan(t *testing.T) {
	w := open(t, 1)
	p := planFor(t, w, nil, "joint@40", 0)
	bytes := p.Bytes
	if err := p.Check(w, ""); err != nil || p.Bytes != bytes {
		t.Errorf("%v; %d bytes, planned %d", err, p.Bytes, bytes)
	}
	for _, change := range []compress.Choice{{Form: "joint", Method: "svd", Rank: 48, Factors: "bf16"}, {Form: "keep"}} {
		for _, i := range []int{0, 1} {
			edited := *p
			edited.Modules = append([]compress.PlannedModule(nil), p.Modules...)
			edited.Modules[i].Choice = change
			if err := edited.Check(w, ""); err == nil || !strings.Contains(err.Error(), "joint factors are those of all") {
				t.Errorf("module %d as %s: %v", i, change, err)
			}
		}
	}
}
