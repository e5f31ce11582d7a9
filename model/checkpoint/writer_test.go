package checkpoint_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"

	"eckart/model/checkpoint"
)

// libraryKnows reports whether the safetensors library can parse the type.
func libraryKnows(dtype checkpoint.DType) bool {
	_, err := safetensors.ParseDType(string(dtype))
	return err == nil
}

// compareWithLibrary checks that the library sees in one file what c does.
func compareWithLibrary(t *testing.T, c *checkpoint.Checkpoint, file []byte) {
	t.Helper()
	other, err := safetensors.Deserialize(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(slices.Values(other.Names())), c.Names(); !slices.Equal(got, want) {
		t.Fatalf("the library has tensors %q, want %q", got, want)
	}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		view, _ := other.Tensor(name)
		data := make([]byte, x.Bytes())
		if err := c.ReadAt(data, x, 0); err != nil {
			t.Fatal(err)
		}
		if view.DType().String() != string(x.Type) || fmt.Sprint(view.Shape()) != fmt.Sprint(x.Shape) || !bytes.Equal(view.Data(), data) {
			t.Errorf("the library reads tensor %q differently", name)
		}
	}
}

// contents returns bytes for a tensor, different for each name.
func contents(name string, size int64) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i) ^ name[i%len(name)]
	}
	return b
}

var specs = []checkpoint.Spec{
	{Name: "z", Type: checkpoint.F32, Shape: []int{3, 2}},         // 24 bytes
	{Name: "a", Type: checkpoint.BF16, Shape: []int{4, 2}},        // 16 bytes
	{Name: `q"\<é>` + "\n", Type: checkpoint.I8, Shape: []int{7}}, // 7 bytes
	{Name: "scalar", Type: checkpoint.F64},                        // 8 bytes
	{Name: "none", Type: checkpoint.F16, Shape: []int{0, 5}},      // 0 bytes
	{Name: "big", Type: checkpoint.U8, Shape: []int{5, 20}},       // 100 bytes
	{Name: "last", Type: checkpoint.I64, Shape: []int{1}},         // 8 bytes
}

// write writes specs into dir, each tensor in two parts.
func write(t *testing.T, dir string, opts checkpoint.Options) {
	t.Helper()
	w, err := checkpoint.Create(dir, specs, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		out, err := w.Begin(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		data := contents(s.Name, bytesOf(s))
		for _, part := range [][]byte{data[:len(data)/3], data[len(data)/3:]} {
			if n, err := out.Write(part); err != nil || n != len(part) {
				t.Fatal(n, err)
			}
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil { // has nothing left to do
		t.Error(err)
	}
}

func bytesOf(s checkpoint.Spec) int64 {
	n := int64(s.Type.BitSize())
	for _, d := range s.Shape {
		n *= int64(d)
	}
	return n / 8
}

// files returns the contents of a folder by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	return all
}

// TestWriter writes a checkpoint in one file and in several, and reads it with
// this package and with the library.
func TestWriter(t *testing.T) {
	for _, row := range []struct {
		shardBytes int64
		shards     string // the tensors, shard by shard
	}{
		{0, "z a q scalar none big last"},
		{163, "z a q scalar none big last"},
		{162, "z a q scalar none big|last"},
		{50, "z a q|scalar none|big|last"},
		{40, "z a|q scalar none|big|last"},
		{1, "z|a|q|scalar|none big|last"},
	} {
		t.Run(fmt.Sprint(row.shardBytes), func(t *testing.T) {
			opts := checkpoint.Options{ShardBytes: row.shardBytes, Metadata: map[string]string{"format": "pt", "lm.plan": `{"a":"é"}`}}
			dir := filepath.Join(t.TempDir(), "new", "folder")
			write(t, dir, opts)
			c, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if !maps.Equal(c.Metadata(), opts.Metadata) {
				t.Errorf("metadata is %q", c.Metadata())
			}
			if len(c.Notices()) > 0 {
				t.Errorf("notices are %q", c.Notices())
			}
			if len(c.Names()) != len(specs) {
				t.Errorf("tensors are %q", c.Names())
			}
			var shards strings.Builder
			for i, s := range specs {
				x, ok := c.Tensor(s.Name)
				if !ok || x.Type != s.Type || fmt.Sprint(x.Shape) != fmt.Sprint(s.Shape) {
					t.Fatalf("tensor %q is %+v", s.Name, x)
				}
				data := make([]byte, x.Bytes())
				if err := c.ReadAt(data, x, 0); err != nil || !bytes.Equal(data, contents(s.Name, bytesOf(s))) {
					t.Errorf("tensor %q has other bytes, error %v", s.Name, err)
				}
				if i > 0 {
					before, _ := c.Tensor(specs[i-1].Name)
					if x.Shard != before.Shard {
						shards.WriteByte('|')
					} else {
						shards.WriteByte(' ')
					}
				}
				word, _, _ := strings.Cut(s.Name, `"`)
				shards.WriteString(word)
			}
			if got := shards.String(); got != row.shards {
				t.Errorf("shards are %q, want %q", got, row.shards)
			}

			all := files(t, dir)
			for name, data := range all {
				if strings.HasSuffix(name, ".safetensors") {
					one, err := checkpoint.Open(filepath.Join(dir, name))
					if err != nil {
						t.Fatal(err)
					}
					compareWithLibrary(t, one, []byte(data))
					if err := one.Close(); err != nil {
						t.Error(err)
					}
				} else if name != "model.safetensors.index.json" || !json.Valid([]byte(data)) || !strings.Contains(row.shards, "|") {
					t.Errorf("unexpected file %s: %s", name, data)
				}
			}

			again := t.TempDir()
			write(t, again, opts)
			if !maps.Equal(files(t, again), all) {
				t.Error("a second run gives other files")
			}
		})
	}
}

// TestWriterOrder checks that bytes cannot come to lie under a wrong name, and
// that nothing is committed before all are there.
func TestWriterOrder(t *testing.T) {
	dir := t.TempDir()
	w, err := checkpoint.Create(dir, specs[:2], checkpoint.Options{ShardBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	fails := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	begin := func(name string) io.Writer {
		t.Helper()
		out, err := w.Begin(name)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	_, err = w.Begin("a")
	fails(err, `begin tensor "a": tensor "z" is next`)
	fails(w.Commit(), `tensor "z" and 1 after it are not written`)
	z := begin("z")
	_, err = z.Write(make([]byte, 25))
	fails(err, `write tensor "z": want 24 bytes, have at least 25`)
	if _, err := z.Write(make([]byte, 23)); err != nil {
		t.Fatal(err)
	}
	_, err = w.Begin("a")
	fails(err, `begin tensor "a": tensor "z" lacks 1 bytes`)
	if _, err := z.Write(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_, err = z.Write(make([]byte, 1))
	fails(err, "want 24 bytes")
	a := begin("a")
	_, err = z.Write(nil)
	fails(err, "it is complete")
	fails(w.Commit(), `tensor "a" lacks 16 bytes`)
	if _, err := a.Write(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	_, err = w.Begin("more")
	fails(err, "all 2 tensors are written")
	for name := range files(t, dir) {
		if !strings.HasSuffix(name, ".partial") {
			t.Errorf("%s has its name before the commit", name)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	fails(w.Commit(), "it is closed")
	_, err = a.Write(nil)
	fails(err, "it is complete")
	_, err = w.Begin("a")
	fails(err, "the checkpoint is closed")
}

// TestWriterAbort checks that a run that is broken off leaves nothing.
func TestWriterAbort(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := checkpoint.Create(dir, specs, checkpoint.Options{ShardBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs[:3] {
		out, err := w.Begin(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(contents(s.Name, bytesOf(s))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err == nil {
		t.Error("committed after Abort")
	}
	if got := slices.Sorted(maps.Keys(files(t, dir))); !slices.Equal(got, []string{"config.json"}) {
		t.Errorf("the folder holds %q", got)
	}
}

// TestCreate checks what Create refuses, before any file is there.
func TestCreate(t *testing.T) {
	f32 := func(name string, shape ...int) checkpoint.Spec {
		return checkpoint.Spec{Name: name, Type: checkpoint.F32, Shape: shape}
	}
	for _, row := range []struct {
		specs []checkpoint.Spec
		opts  checkpoint.Options
		want  string
	}{
		{nil, checkpoint.Options{}, "no tensors declared"},
		{[]checkpoint.Spec{f32("a", 1), f32("a", 1)}, checkpoint.Options{}, `tensor "a" is declared twice`},
		{[]checkpoint.Spec{f32("__metadata__", 1)}, checkpoint.Options{}, "a name that the format does not allow"},
		{[]checkpoint.Spec{f32("\xff", 1)}, checkpoint.Options{}, "a name that the format does not allow"},
		{[]checkpoint.Spec{{Name: "a", Type: "F7"}}, checkpoint.Options{}, `tensor "a" has the unknown type "F7"`},
		{[]checkpoint.Spec{f32("a", -1)}, checkpoint.Options{}, "has a negative dimension"},
		{[]checkpoint.Spec{f32("a", 1<<32, 1<<32)}, checkpoint.Options{}, "has a product that overflows"},
		{[]checkpoint.Spec{{Name: "a", Type: checkpoint.F4, Shape: []int{3}}}, checkpoint.Options{}, "ends within a byte"},
		{[]checkpoint.Spec{f32("a", make([]int, 33)...)}, checkpoint.Options{}, "has 33 dimensions, want at most 32"},
		{[]checkpoint.Spec{f32("a", 1)}, checkpoint.Options{ShardBytes: -1}, "want a positive number of bytes in a shard"},
		{[]checkpoint.Spec{f32("a", 1)}, checkpoint.Options{Metadata: map[string]string{"a": "\xff"}}, "metadata \"a\" is not UTF-8"},
		{[]checkpoint.Spec{f32("a", 1)}, checkpoint.Options{Metadata: map[string]string{"a": strings.Repeat("x", 16<<20)}}, "want at most 200000 and 16777216"},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := checkpoint.Create(dir, row.specs, row.opts); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("error is %v, want %s", err, row.want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("folder made before the refusal: %s", row.want)
		}
	}
	for _, name := range []string{"model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"} {
		dir := folderOf(t, map[string]string{name: "x"})
		_, err := checkpoint.Create(dir, []checkpoint.Spec{f32("a", 1)}, checkpoint.Options{})
		if err == nil || !strings.Contains(err.Error(), name+" is there already") {
			t.Errorf("error is %v", err)
		}
	}
	if os.Getuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		w, err := checkpoint.Create(dir, []checkpoint.Spec{f32("a", 1)}, checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Begin("a"); err == nil || !strings.Contains(err.Error(), "write shard model.safetensors: permission denied") {
			t.Errorf("error is %v", err)
		}
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	}
}

// TestWideTypes writes the types that the library does not know.
func TestWideTypes(t *testing.T) {
	dir := t.TempDir()
	wide := []checkpoint.Spec{
		{Name: "a", Type: checkpoint.C64, Shape: []int{2}},
		{Name: "b", Type: checkpoint.F8E4M3, Shape: []int{3, 3}},
		{Name: "c", Type: checkpoint.F6E2M3, Shape: []int{4}},
		{Name: "d", Type: checkpoint.F4, Shape: []int{2, 3}},
	}
	w, err := checkpoint.Create(dir, wide, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range wide {
		out, err := w.Begin(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(contents(s.Name, bytesOf(s))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, s := range wide {
		x, ok := c.Tensor(s.Name)
		if !ok || x.Type != s.Type {
			t.Fatalf("tensor %s is %+v", s.Name, x)
		}
		data, err := io.ReadAll(c.Reader(x))
		if err != nil || !bytes.Equal(data, contents(s.Name, bytesOf(s))) {
			t.Errorf("tensor %s has other bytes, error %v", s.Name, err)
		}
	}
}
