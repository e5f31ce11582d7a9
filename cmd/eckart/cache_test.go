package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eckart/cmd/internal/launch"
	"eckart/internal/linalg"
	"eckart/model/compress"
)

// TestCache lists and clears what a store in the user's cache directory holds.
func TestCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	store, err := launch.StatisticsStore()
	if err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := eckart(t, "", "cache", "list")
	if want := store.Dir + " holds 0 B of at most 10.0 GiB\n"; status != 0 || stdout != want || stderr != "" {
		t.Errorf("without a folder: status %d, %q, %q, want %q", status, stdout, stderr, want)
	}
	st := &compress.Statistics{
		Tokens: 77, Source: compress.FromSelf, Digest: compress.Key("m", nil), Influence: []float64{1},
		Sites: map[string]*compress.Moments{"a": {Tokens: 77, Gram: linalg.New(2, 2), Mean: make([]float64, 2)}},
	}
	if err := store.Save(st); err != nil {
		t.Fatal(err)
	}
	note := compress.Key("n", nil)
	if err := store.Keep(compress.KindText, note, [][]int32{{1, 2}}); err != nil {
		t.Fatal(err)
	}
	damaged := strings.Repeat("0", 64)
	if err := os.WriteFile(filepath.Join(store.Dir, damaged+".statistics"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	earlier := strings.Repeat("1", 64)
	if err := os.WriteFile(filepath.Join(store.Dir, earlier+".costs"), []byte("eckart note 1 costs "+earlier+" 00000000\n{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr = eckart(t, "", "cache", "list")
	for _, want := range []string{st.Digest[:12] + "  statistics", "self", "77      1", "000000000000  statistics", "damaged", note[:12] + "  text", "111111111111  costs       of another version"} {
		if status != 0 || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("status %d, %q, %q, want %q", status, stdout, stderr, want)
		}
	}
	status, stdout, _ = eckart(t, "", "cache", "list", "--json")
	var list cacheList
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || status != 0 || len(list.Entries) != 4 {
		t.Fatalf("status %d, %v: %s", status, err, stdout)
	}
	want := map[string]string{st.Digest: "", note: "", damaged: "too few", earlier: "version 1"}
	for _, e := range list.Entries {
		if damage, ok := want[e.Digest]; !ok || (damage == "") != (e.Damage == "") || !strings.Contains(e.Damage, damage) {
			t.Errorf("entry %+v, want damage %q", e, damage)
		}
		if e.Digest == st.Digest && (e.Tokens != 77 || e.Kind != compress.KindStatistics) || e.Digest == note && e.Kind != compress.KindText {
			t.Errorf("entry %+v", e)
		}
	}
	if status, stdout, stderr = eckart(t, "", "cache", "clear"); status != 0 || !strings.HasPrefix(stdout, "removed 4 files, ") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	if left, err := os.ReadDir(store.Dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
