package compress_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"eckart/layers"
	"eckart/model"
	"eckart/model/compress"
	"eckart/model/modeltest"
)

// TestNotes: what is kept comes back, under its kind and digest alone, and what is damaged is as if it were not there.
func TestNotes(t *testing.T) {
	s := store(t, compress.DefaultLimit)
	key := compress.Key("m", nil, compress.KindText)
	want := [][]int32{{1, 2, 3}, {4}}
	var got [][]int32
	recall := func(kind, key string) bool {
		t.Helper()
		got = nil
		ok, err := s.Recall(kind, key, &got)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if recall(compress.KindText, key) {
		t.Error("a note of an empty store")
	}
	if err := s.Keep(compress.KindText, key, want); err != nil {
		t.Fatal(err)
	}
	if !recall(compress.KindText, key) || !reflect.DeepEqual(got, want) {
		t.Errorf("recalled %v, want %v", got, want)
	}
	if recall(compress.KindCosts, key) || recall(compress.KindText, compress.Key("n", nil)) {
		t.Error("a note is recalled as another")
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Kind != compress.KindText || list[0].Digest != key || list[0].Damage != nil {
		t.Fatalf("list %+v, %v", list, err)
	}
	path := filepath.Join(s.Dir, key+"."+compress.KindText)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, damaged := range map[string]string{
		"cut short":          string(whole[:len(whole)-1]),
		"changed":            strings.Replace(string(whole), "3", "5", 1),
		"of another version": strings.Replace(string(whole), "note 2", "note 1", 1),
		"empty":              "",
		"without a line":     strings.TrimSpace(strings.Repeat("x ", 10)),
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if recall(compress.KindText, key) {
			t.Errorf("a note that is %s is recalled as %v", what, got)
		}
		list, err := s.List()
		var damage *compress.DamagedError
		if err != nil || len(list) != 1 || !errors.As(list[0].Damage, &damage) || damage.Obsolete != (what == "of another version") {
			t.Errorf("a note that is %s is listed as %+v, %v", what, list, err)
		}
	}
	if _, err := s.Recall(compress.KindText, "../x", &got); err == nil || !strings.Contains(err.Error(), "not a digest") {
		t.Errorf("a name that leads elsewhere: %v", err)
	}
	if n, _, err := s.Clear(); n != 1 || err != nil {
		t.Errorf("cleared %d files, %v", n, err)
	}
}

// TestNotesMakeRoom: notes count as statistics do, and the file that was not used for longest goes.
func TestNotesMakeRoom(t *testing.T) {
	s := store(t, 400)
	for i := range 3 {
		if err := s.Keep(compress.KindText, compress.Key("m", nil, i), strings.Repeat("x", 60)); err != nil {
			t.Fatal(err)
		}
	}
	var bytes int64
	list, err := s.List()
	for _, e := range list {
		bytes += e.Bytes
	}
	if err != nil || len(list) != 2 || bytes > 400 {
		t.Errorf("%d files of %d bytes, %v", len(list), bytes, err)
	}
	if err := s.Keep(compress.KindText, compress.Key("m", nil), strings.Repeat("x", 400)); err == nil || !strings.Contains(err.Error(), "more than the 400") {
		t.Errorf("a note larger than the store: %v", err)
	}
	if left, err := os.ReadDir(s.Dir); err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestPlanFromPredictions: what was predicted gives the same plan without a matrix being read, and what was not is predicted.
func TestPlanFromPredictions(t *testing.T) {
	src := &countingSource{Source: modeltest.OpenSource(t, tinyDir)}
	w := walker(t, src, 40)
	known, err := compress.Survey(t.Context(), w, someWindows(w.Config().Vocab, 40, 40), nil)
	if err != nil {
		t.Fatal(err)
	}
	sensitivities := map[string]float64{"model.layers.0.mlp.down_proj.weight": 3}
	sum, err := compress.Matrices(w)
	if err != nil {
		t.Fatal(err)
	}
	plan := func(forms []string, predictions compress.Predictions) (*compress.Plan, int) {
		t.Helper()
		src.read = 0
		p, err := compress.NewPlanner(t.Context(), w, known, sensitivities, compress.Space{Forms: forms, Known: predictions}, func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(compress.Policy{Bytes: sum.Bytes / 2, MaxError: 0.25})
		if err != nil {
			t.Fatal(err)
		}
		return plan, src.read
	}
	some, both := []string{"round"}, []string{"lowrank", "round"}
	want, read := plan(both, nil)
	if read == 0 {
		t.Fatal("no matrix was read")
	}
	made := compress.Predictions{}
	plan(some, made)
	first := made.Count()
	if got, read := plan(both, made); !reflect.DeepEqual(got, want) || read == 0 || made.Count() <= first {
		t.Errorf("with %d predictions of %d, %d matrices were read; planned %+v, want %+v", first, made.Count(), read, got, want)
	}
	s := store(t, compress.DefaultLimit)
	key := compress.Key("m", nil)
	if err := s.Keep(compress.KindPredictions, key, made); err != nil {
		t.Fatal(err)
	}
	kept := compress.Predictions{}
	if ok, err := s.Recall(compress.KindPredictions, key, &kept); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if got, read := plan(both, kept); !reflect.DeepEqual(got, want) || read != 0 {
		t.Errorf("from what was kept, after %d matrices were read, %+v, want %+v", read, got, want)
	}
}

// A countingSource counts the matrices that are read as a whole.
type countingSource struct {
	model.Source
	read int
}

func (s *countingSource) Weight(name string) (layers.Weight, error) {
	w, err := s.Source.Weight(name)
	return &countingWeight{w, &s.read}, err
}

type countingWeight struct {
	layers.Weight
	read *int
}

func (w *countingWeight) Dense() ([]float32, error) {
	*w.read++
	return w.Weight.Dense()
}
