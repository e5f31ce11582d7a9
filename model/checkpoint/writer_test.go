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
	"sync"
	"testing"
	"testing/iotest"

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

// write writes specs into dir, the tensors in turns from both ends, every other one in two pieces.
func write(t *testing.T, dir string, opts checkpoint.Options) {
	t.Helper()
	w, err := checkpoint.Create(dir, specs, opts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range specs {
		s := specs[i/2]
		if i%2 == 1 {
			s = specs[len(specs)-1-i/2]
		}
		data := contents(s.Name, bytesOf(s))
		if i%2 == 0 {
			err = w.Write(s.Name, bytes.NewReader(data))
		} else if err = w.WriteAt(s.Name, data[len(data)/3:], int64(len(data)/3)); err == nil {
			err = w.WriteAt(s.Name, data[:len(data)/3], 0)
		}
		if err != nil {
			t.Fatal(err)
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

// fails checks that err says what is wanted.
func fails(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestWriterRefuses checks that no byte is written twice or outside its tensor, and that nothing is committed before all
// are there.
func TestWriterRefuses(t *testing.T) {
	dir := t.TempDir()
	w, err := checkpoint.Create(dir, specs[:2], checkpoint.Options{ShardBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	fails(t, w.Commit(), `tensor "z" lacks 24 bytes`)
	fails(t, w.WriteAt("none", nil, 0), `write tensor "none": it was not declared`)
	fails(t, w.Write("none", strings.NewReader("")), `write tensor "none": it was not declared`)
	for _, span := range [][2]int64{{25, 0}, {24, 1}, {1, 24}, {1, -1}} {
		fails(t, w.WriteAt("z", make([]byte, span[0]), span[1]), `write tensor "z": want bytes within 24, have`)
	}
	fails(t, w.Write("a", bytes.NewReader(make([]byte, 17))), `want bytes within 16, have 0 to 17`)
	fails(t, w.Write("a", iotest.ErrReader(io.ErrNoProgress)), `write tensor "a": multiple Read`)
	if err := w.Write("z", bytes.NewReader(make([]byte, 24))); err != nil {
		t.Fatal(err)
	}
	fails(t, w.WriteAt("z", make([]byte, 1), 3), `write tensor "z": it is complete`)
	fails(t, w.Commit(), `tensor "a" lacks 16 bytes`)
	fails(t, w.Write("a", bytes.NewReader(make([]byte, 15))), `write tensor "a": want 16 bytes, have 15`)
	for name := range files(t, dir) {
		if strings.HasSuffix(name, ".safetensors") {
			t.Errorf("%s has its name before the commit", name)
		}
	}
	if _, err := checkpoint.Open(dir); err == nil {
		t.Error("opened before the commit")
	}
	if err := w.WriteAt("a", make([]byte, 1), 15); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	fails(t, w.Commit(), "it is closed")
	fails(t, w.WriteAt("a", nil, 0), "the checkpoint is closed")
}

// TestWriterConcurrent writes one tensor from many goroutines.
func TestWriterConcurrent(t *testing.T) {
	dir := t.TempDir()
	w, err := checkpoint.Create(dir, []checkpoint.Spec{{Name: "a", Type: checkpoint.U8, Shape: []int{64, 1000}}}, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	data := contents("a", 64000)
	var group sync.WaitGroup
	for i := range int64(64) {
		group.Go(func() {
			if err := w.WriteAt("a", data[1000*i:1000*i+1000], 1000*i); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir)["model.safetensors"]; !strings.HasSuffix(got, string(data)) {
		t.Error("the file has other bytes")
	}
}

// TestWriterResume breaks a run off after each tensor and in the middle of one, and has another finish it: the files are
// those of a run in one go, and complete shards are not written again.
func TestWriterResume(t *testing.T) {
	opts := checkpoint.Options{ShardBytes: 50, Metadata: map[string]string{"lm.plan": "{}"}}
	whole := t.TempDir()
	write(t, whole, opts)
	want := files(t, whole)
	opts.Resume = true
	for broken := range len(specs) + 1 {
		dir := t.TempDir()
		first, err := checkpoint.Create(dir, specs, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range specs[:broken] {
			if err := first.Write(s.Name, bytes.NewReader(contents(s.Name, bytesOf(s)))); err != nil {
				t.Fatal(err)
			}
		}
		if broken < len(specs) && bytesOf(specs[broken]) > 1 {
			if err := first.WriteAt(specs[broken].Name, []byte{1}, 0); err != nil {
				t.Fatal(err)
			}
		}
		// A crash: nothing of the first run is closed or removed before the second begins.
		second, err := checkpoint.Create(dir, specs, opts)
		if err != nil {
			t.Fatal(err)
		}
		var left []checkpoint.Spec
		for i, s := range specs {
			if !second.Written(s.Name) {
				left = append(left, s)
			} else if i > broken { // a tensor without bytes may follow
				t.Errorf("broken off at %d: %q is said to be written", broken, s.Name)
			}
			if path, ok := second.Shard(s.Name); ok {
				if data, err := os.ReadFile(path); err != nil || !bytes.Contains(data, contents(s.Name, bytesOf(s))) {
					t.Errorf("shard of %q lacks it, error %v", s.Name, err)
				}
			}
		}
		if written := len(specs) - len(left); written != []int{0, 0, 0, 3, 5, 5, 6, 7}[broken] {
			t.Errorf("broken off at %d: %d tensors are written", broken, written)
		}
		for _, s := range left {
			if err := second.Write(s.Name, bytes.NewReader(contents(s.Name, bytesOf(s)))); err != nil {
				t.Fatal(err)
			}
		}
		if err := second.Commit(); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(files(t, dir), want) {
			t.Errorf("broken off at %d: other files than those of one run", broken)
		}
	}
}

// TestWriterResumeRefuses takes over no shard of another checkpoint, and leaves it alone.
func TestWriterResumeRefuses(t *testing.T) {
	opts := checkpoint.Options{ShardBytes: 50, Metadata: map[string]string{"lm.plan": "{}"}, Resume: true}
	dir := t.TempDir()
	w, err := checkpoint.Create(dir, specs, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs[:3] {
		if err := w.Write(s.Name, bytes.NewReader(contents(s.Name, bytesOf(s)))); err != nil {
			t.Fatal(err)
		}
	}
	const left = "model-00001-of-00004.safetensors.complete"
	before := files(t, dir)
	if got := slices.Sorted(maps.Keys(before)); !slices.Equal(got, []string{left}) {
		t.Fatalf("the folder holds %q", got)
	}
	other := opts
	other.Metadata = map[string]string{"lm.plan": "[]"}
	_, err = checkpoint.Create(dir, specs, other)
	fails(t, err, left+" is there already, and is no part of the checkpoint")
	other = opts
	other.ShardBytes = 0
	_, err = checkpoint.Create(dir, specs, other)
	fails(t, err, left+" is there already, and is no part of the checkpoint")
	other = opts
	other.Resume = false
	_, err = checkpoint.Create(dir, specs, other)
	fails(t, err, left+" is there already: name another folder")
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = checkpoint.Create(dir, specs, opts)
	fails(t, err, "model.safetensors.index.json is there already")
	if err := os.Remove(filepath.Join(dir, "model.safetensors.index.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, left), int64(len(before[left])-1)); err != nil {
		t.Fatal(err)
	}
	_, err = checkpoint.Create(dir, specs, opts)
	fails(t, err, left+" is there already, and is no part of the checkpoint")
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
		if err := w.Write(s.Name, bytes.NewReader(contents(s.Name, bytesOf(s)))); err != nil {
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
		fails(t, w.WriteAt("a", make([]byte, 4), 0), "write shard model.safetensors: permission denied")
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
		if err := w.Write(s.Name, bytes.NewReader(contents(s.Name, bytesOf(s)))); err != nil {
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
