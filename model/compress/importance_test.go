package compress_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/compress"
)

// importance writes a file of numbers for every matrix of w's blocks, shaped as shape says, and opens it. It returns the numbers.
func importance(t testing.TB, w *model.Walker, shape func(out, in int) []int) (*compress.Importance, map[string][]float32) {
	t.Helper()
	rng := rand.New(rand.NewPCG(8, 1))
	var specs []checkpoint.Spec
	numbers := map[string][]float32{}
	for i := range w.Layers() {
		for _, s := range must(w.Sites(i))(t) {
			for _, sw := range s.Weights {
				spec := checkpoint.Spec{Name: sw.Name, Type: checkpoint.F32, Shape: shape(sw.Out, s.In)}
				n := 1
				for _, d := range spec.Shape {
					n *= d
				}
				ofColumn := make([]float64, s.In)
				for j := range ofColumn {
					ofColumn[j] = 2 * rng.NormFloat64()
				}
				values := make([]float32, n)
				for j := range values {
					values[j] = float32(math.Exp(ofColumn[j%s.In] + rng.NormFloat64()))
				}
				specs, numbers[sw.Name] = append(specs, spec), values
			}
		}
	}
	dir := t.TempDir()
	c := must(checkpoint.Create(dir, specs, checkpoint.Options{}))(t)
	for _, s := range specs {
		if err := c.WriteAt(s.Name, kernels.Float32Bytes(numbers[s.Name]), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	m := must(compress.OpenImportance(dir))(t)
	t.Cleanup(func() { m.Close() })
	return m, numbers
}

// lost returns the sum over elements of what errors of got cost, for weights of elements or of columns.
func lost(t testing.TB, w model.Source, got model.Source, name string, weights []float32) float64 {
	t.Helper()
	of := must(must(w.Weight(name))(t).Dense())(t)
	is := must(must(got.Weight(name))(t).Dense())(t)
	var sum float64
	for i, v := range of {
		e := float64(v) - float64(is[i])
		sum += float64(weights[i%len(weights)]) * e * e
	}
	return sum
}

// TestImportance has both methods that go by a file lose less, by its numbers, than those that do not: by far, for most of
// what there is to lose lies in a few elements.
func TestImportance(t *testing.T) {
	if testing.Short() {
		t.Skip("alternates least squares for a block's matrices")
	}
	w := open(t, 1)
	known := survey(t, w, windows(t, 0, 1))
	elements, ofElements := importance(t, w, func(out, in int) []int { return []int{out, in} })
	columns, ofColumns := importance(t, w, func(_, in int) []int { return []int{in} })
	compressed := func(form string, m *compress.Importance) *compress.Result {
		only := must(compress.ParseChoice(form, true))(t)
		p := must(compress.NewPlanner(t.Context(), w, known, nil, compress.Space{Only: &only, Importance: m}, quiet))(t)
		r := must(compress.Run(t.Context(), w, must(p.Plan(compress.Policy{}))(t), known, compress.Options{
			Importance: m, Progress: func(string, int, int) {},
		}))(t)
		for _, done := range r.Report.Modules {
			if math.Abs(done.Reached-done.Predicted) > 0.05*done.Predicted {
				t.Errorf("%s as %s: error %g, predicted %g", done.Name, done.Kind, done.Reached, done.Predicted)
			}
		}
		return r
	}
	without := compressed("lowrank@8:svd", nil)
	for _, c := range []struct {
		form    string
		m       *compress.Importance
		numbers map[string][]float32
	}{{"lowrank@8:weighted", elements, ofElements}, {"lowrank@8:diagonal", columns, ofColumns}, {"lowrank@8:diagonal", elements, ofElements}} {
		if err := c.m.Check(w); err != nil {
			t.Fatal(err)
		}
		with := compressed(c.form, c.m)
		for name, numbers := range c.numbers {
			got, plain := lost(t, w.Source(), with.Source, name, numbers), lost(t, w.Source(), without.Source, name, numbers)
			if got > 0.8*plain {
				t.Errorf("%s as %s loses %g, without weights %g", name, c.form, got, plain)
			}
		}
	}

	p := planFor(t, w, known, "lowrank@8:svd", 0)
	for i := range p.Modules {
		p.Modules[i].Method = "weighted"
	}
	for _, c := range []struct {
		m    *compress.Importance
		want string
	}{{nil, "--importance"}, {columns, "a weight for every element"}} {
		_, err := compress.Run(t.Context(), w, p, known, compress.Options{Importance: c.m, Progress: func(string, int, int) {}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("weighted: %v, want it to say %q", err, c.want)
		}
	}
	deeper := open(t, 2)
	if err := elements.Check(deeper); err == nil || !strings.Contains(err.Error(), "no tensor model.layers.1.") {
		t.Errorf("a file about one block for two: %v", err)
	}
	wrong, _ := importance(t, w, func(_, in int) []int { return []int{1, in + 1} })
	if err := wrong.Check(w); err == nil || !strings.Contains(err.Error(), "has shape [1 257]") {
		t.Errorf("a column too many: %v", err)
	}
}

// TestImportanceNegative names the element that is below 0.
func TestImportanceNegative(t *testing.T) {
	dir := t.TempDir()
	c := must(checkpoint.Create(dir, []checkpoint.Spec{{Name: "w", Type: checkpoint.F32, Shape: []int{2, 2}}}, checkpoint.Options{}))(t)
	if err := errors.Join(c.WriteAt("w", kernels.Float32Bytes([]float32{1, 2, -3, 4}), 0), c.Commit()); err != nil {
		t.Fatal(err)
	}
	m := must(compress.OpenImportance(dir))(t)
	defer m.Close()
	if _, err := m.Of("w", 2, 2); err == nil || !strings.Contains(err.Error(), "element 2 of w is -3") {
		t.Errorf("got %v", err)
	}
}
