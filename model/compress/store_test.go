package compress_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"eckart/internal/linalg"
	"eckart/model/compress"
	"eckart/model/modeltest"
)

// someStatistics returns statistics of made-up sites.
func someStatistics(seed uint64, columns ...int) *compress.Statistics {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &compress.Statistics{
		Tokens: 123, Sites: map[string]*compress.Moments{}, Source: compress.FromFile, Influence: []float64{rng.Float64(), rng.Float64()},
		Digest: compress.Key("a model", [][]int32{{int32(seed)}}),
	}
	for i, in := range columns {
		m := &compress.Moments{Tokens: 123, Chosen: 45, Gram: linalg.New(in, in), Mean: make([]float64, in)}
		for j := range in {
			m.Mean[j] = rng.NormFloat64()
			for k := range j + 1 {
				v := float64(float32(rng.NormFloat64()))
				m.Gram.Row(j)[k], m.Gram.Row(k)[j] = v, v
			}
		}
		s.Sites[string(rune('a'+i))] = m
	}
	return s
}

func store(t *testing.T, limit int64) compress.Store {
	return compress.Store{Dir: filepath.Join(t.TempDir(), "statistics"), Limit: limit}
}

func save(t *testing.T, s compress.Store, st *compress.Statistics) {
	t.Helper()
	if err := s.Save(st); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	s := store(t, compress.DefaultLimit)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("a store without a folder holds %v, %v", list, err)
	}
	want := someStatistics(1, 1, 7, 64)
	if _, err := s.Load(want.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("statistics that were never written: %v", err)
	}
	save(t, s, want)
	got, err := s.Load(want.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}

	r, err := s.Open(want.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if names := r.Sites(); !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("sites %q", names)
	}
	if m, err := r.Moments("b"); err != nil || !reflect.DeepEqual(m, want.Sites["b"]) {
		t.Errorf("site b: %v, %v", m, err)
	}
	if _, err := r.Moments("d"); err == nil {
		t.Error("a site that is not there is read")
	}

	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Digest != want.Digest || list[0].Sites != 3 || list[0].Tokens != 123 || list[0].Source != compress.FromFile || list[0].Damage != nil {
		t.Errorf("list %+v, %v", list, err)
	}
	if n, bytes, err := s.Clear(); n != 1 || bytes != list[0].Bytes || err != nil {
		t.Errorf("cleared %d files of %d bytes, %v", n, bytes, err)
	}
	if left, _ := os.ReadDir(s.Dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestStoreOfSurvey: statistics that are written block by block come back as the bits that the survey returned.
func TestStoreOfSurvey(t *testing.T) {
	w := walker(t, modeltest.OpenSource(t, tinyDir), 40)
	windows := someWindows(w.Config().Vocab, 40, 11)
	want, err := compress.Survey(t.Context(), w, windows, nil)
	if err != nil {
		t.Fatal(err)
	}
	want.Digest, want.Source = compress.Key("m", windows), compress.FromSelf
	s := store(t, compress.DefaultLimit)
	to, err := s.Create(want.Digest, want.Source)
	if err != nil {
		t.Fatal(err)
	}
	err = compress.SurveyBlocks(t.Context(), w, windows, nil, to.Add)
	if err := errors.Join(err, to.Commit(want.Tokens), to.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(want.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("what was read is not what was surveyed")
	}
	if err := got.Check(w); err != nil {
		t.Error(err)
	}
	if err := got.Check(walker(t, modeltest.OpenSource(t, "../testdata/mistral-one-key-head"), 8)); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("statistics of another model: %v", err)
	}
}

// TestStoreRefuses: what was changed, cut short or put in the place of other statistics is a *DamagedError.
func TestStoreRefuses(t *testing.T) {
	st := someStatistics(1, 3, 40)
	// reseal gives changed bytes of the index a checksum that fits.
	reseal := func(b []byte) []byte {
		trailer := b[len(b)-24:]
		n := int(binary.LittleEndian.Uint32(trailer[8:]))
		index := b[len(b)-24-n : len(b)-24]
		binary.LittleEndian.PutUint32(trailer[12:], crc32.Checksum(index, crc32.MakeTable(crc32.Castagnoli)))
		return b
	}
	replace := func(b []byte, old, by string) []byte {
		i := strings.LastIndex(string(b), old)
		copy(b[i:], by)
		return reseal(b)
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		says   string
	}{
		"empty":             {func([]byte) []byte { return nil }, "too few"},
		"something else":    {func([]byte) []byte { return []byte(strings.Repeat("text ", 50)) }, "something else"},
		"cut short":         {func(b []byte) []byte { return b[:len(b)-1] }, "cut short"},
		"start is missing":  {func(b []byte) []byte { return b[16:] }, "does not end where the file does"},
		"a number":          {func(b []byte) []byte { b[100] ^= 1; return b }, "numbers of site"},
		"the last number":   {func(b []byte) []byte { b[8*43+4*(6+820)-1] ^= 1; return b }, "numbers of site b"},
		"the index":         {func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, "index is damaged"},
		"another version":   {func(b []byte) []byte { return replace(b, `"version":2`, `"version":1`) }, "version 1, want 2"},
		"another digest":    {func(b []byte) []byte { return replace(b, st.Digest, strings.Repeat("0", 64)) }, "digest 000000000000"},
		"a wider site":      {func(b []byte) []byte { return replace(b, `"in":40`, `"in":99`) }, "sites take"},
		"a site of nothing": {func(b []byte) []byte { return replace(b, `"in":3`, `"in":0`) }, "has 0 columns"},
		"no JSON":           {func(b []byte) []byte { return replace(b, `"sites"`, `'sites'`) }, "index is not one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t, compress.DefaultLimit)
			save(t, s, st)
			file := filepath.Join(s.Dir, st.Digest+".statistics")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, c.change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			var damaged *compress.DamagedError
			if _, err := s.Load(st.Digest); !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want %q", err, c.says)
			} else if damaged.Obsolete != (name == "another version") {
				t.Errorf("%v is said to be obsolete: %v", err, damaged.Obsolete)
			}
			save(t, s, st) // made anew in its place
			if _, err := s.Load(st.Digest); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := store(t, 1).Load("../x"); err == nil || !strings.Contains(err.Error(), "not a digest") {
		t.Errorf("a name that is no digest: %v", err)
	}
}

// TestStoreMakesRoom: the file not used for longest goes first, and reading is a use.
func TestStoreMakesRoom(t *testing.T) {
	s := store(t, compress.DefaultLimit)
	var all []*compress.Statistics
	for i := range 4 {
		all = append(all, someStatistics(uint64(i), 50))
	}
	for i, st := range all[:3] {
		save(t, s, st)
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(s.Dir, st.Digest+".statistics"), used, used); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Load(all[0].Digest); err != nil { // now 1 was not used for longest
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || list[0].Digest != all[0].Digest || list[2].Digest != all[1].Digest {
		t.Fatalf("list %+v, %v", list, err)
	}
	stale := filepath.Join(s.Dir, all[0].Digest+".statistics.tmp-1")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(stale, long, long); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(s.Dir, "notes.txt")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	s.Limit = 3*list[0].Bytes + 10
	save(t, s, all[0]) // takes the room of itself
	for i, st := range all[:3] {
		if _, err := s.Open(st.Digest); err != nil {
			t.Errorf("statistics %d: %v", i, err)
		}
	}
	for i, name := range []int{2, 0, 1} {
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(s.Dir, all[name].Digest+".statistics"), used, used); err != nil {
			t.Fatal(err)
		}
	}
	save(t, s, all[3])
	for i, st := range all {
		if _, err := s.Load(st.Digest); errors.Is(err, fs.ErrNotExist) != (i == 2) {
			t.Errorf("statistics %d: %v", i, err)
		}
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an abandoned file is still there: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file that is not the store's: %v", err)
	}

	s.Limit = 100
	if err := s.Save(all[2]); err == nil || !strings.Contains(err.Error(), "more than the 100") {
		t.Errorf("statistics beyond the limit: %v", err)
	}
	if _, err := s.Load(all[3].Digest); err != nil {
		t.Errorf("what was there before: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(s.Dir, "*tmp*")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// TestKey tells apart windows that are cut differently.
func TestKey(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []string{
		compress.Key("m", nil), compress.Key("n", nil), compress.Key("m", [][]int32{{1, 2}, {3}}), compress.Key("m", [][]int32{{1}, {2, 3}}),
		compress.Key("m", [][]int32{{1, 2, 3}}), compress.Key("m", [][]int32{{1, 2, 3}, {}}),
	} {
		if seen[k] || len(k) != 64 {
			t.Errorf("key %s", k)
		}
		seen[k] = true
	}
}
