package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"eckart/model/checkpoint"
)

// folderOf makes a folder of files. A content that begins with "->" makes a
// symbolic link to the rest.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// one returns a shard with a single tensor of four bytes.
func one(name string) string {
	return string(shard(fmt.Sprintf(`{"%s":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, name), 4))
}

// mustOpen opens path and checks its tensors, each with its shard.
func mustOpen(t *testing.T, path, want string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	mustHold(t, c, want)
	return c
}

func mustHold(t *testing.T, c *checkpoint.Checkpoint, want string) {
	t.Helper()
	var have []string
	for _, name := range c.Names() {
		x, ok := c.Tensor(name)
		if !ok {
			t.Fatalf("tensor %s is listed and absent", name)
		}
		have = append(have, x.Name+" in "+x.Shard)
		dst := make([]byte, 4)
		if err := c.ReadAt(dst, x, 0); err != nil {
			t.Error(err)
		} else if string(dst) != "\x00\x01\x02\x03" {
			t.Errorf("tensor %s has bytes %v", name, dst)
		}
	}
	if got := strings.Join(have, ", "); got != want {
		t.Errorf("tensors are %q, want %q", got, want)
	}
}

const (
	shardA = "model-00001-of-00002.safetensors"
	shardB = "model-00002-of-00002.safetensors"
	index  = "model.safetensors.index.json"
)

// indexOf returns an index that places a in shard sa and b in shard sb.
func indexOf(sa, sb string) string {
	return fmt.Sprintf(`{"metadata":{"total_size":8},"weight_map":{"a":%q,"b":%q}}`, sa, sb)
}

// TestF11Index holds the bad input F11: indexes and shards that do not agree.
func TestF11Index(t *testing.T) {
	good := indexOf(shardA, shardB)
	outside := writeFile(t, "outside.safetensors", []byte(one("b")))
	rows := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"shard missing", map[string]string{index: good, shardA: one("a")}, []string{"open shard " + shardB + ": no such file", "named in " + index}},
		{"shard with a path", map[string]string{index: indexOf(shardA, "../x.safetensors"), shardA: one("a")}, []string{index, `tensor "b": shard "../x.safetensors" leaves the folder`}},
		{"shard in a folder", map[string]string{index: indexOf(shardA, "d/x.safetensors"), shardA: one("a"), "d/x.safetensors": one("b")}, []string{index, "leaves the folder"}},
		{"shard with a backslash", map[string]string{index: indexOf(shardA, `..\x.safetensors`), shardA: one("a")}, []string{index, "leaves the folder"}},
		{"shard with a drive", map[string]string{index: indexOf(shardA, `C:x.safetensors`), shardA: one("a")}, []string{index, "leaves the folder"}},
		{"shard is ..", map[string]string{index: indexOf(shardA, ".."), shardA: one("a")}, []string{index, "leaves the folder"}},
		{"shard absolute", map[string]string{index: indexOf(shardA, outside), shardA: one("a")}, []string{index, "leaves the folder"}},
		{"shard empty", map[string]string{index: indexOf(shardA, ""), shardA: one("a")}, []string{index, "leaves the folder"}},
		{"shard of another kind", map[string]string{index: indexOf(shardA, "x.bin"), shardA: one("a")}, []string{index, `shard "x.bin" does not end in .safetensors`}},
		{"link out of the folder", map[string]string{index: good, shardA: one("a"), shardB: "->" + outside}, []string{shardB, "follow the symbolic link to " + outside, "leaves the folder"}},
		{"relative link out of the folder", map[string]string{index: good, shardA: one("a"), shardB: "->../../x.safetensors"}, []string{shardB, "leaves the folder"}},
		{"link to nowhere", map[string]string{index: good, shardA: one("a"), shardB: "->gone"}, []string{shardB, "follow the symbolic link to gone", "download may be incomplete"}},
		{"link in a circle", map[string]string{index: good, shardA: one("a"), shardB: "->" + shardB}, []string{shardB, "symbolic link"}},
		{"tensor twice in the index", map[string]string{index: `{"weight_map":{"a":"` + shardA + `","a":"` + shardB + `"}}`}, []string{index, `tensor "a" occurs twice`, shardA, shardB}},
		{"tensor in two shards", map[string]string{index: good, shardA: one("a"), shardB: one("a")}, []string{"read shard " + shardB, `tensor "a" is in shard ` + shardA + " too"}},
		{"tensor in the other shard", map[string]string{index: indexOf(shardB, shardA), shardA: one("a"), shardB: one("b")}, []string{"read shard " + shardB, `tensor "a" is in shard ` + shardA + " instead"}},
		{"tensor not in its shard", map[string]string{index: good, shardA: one("a"), shardB: string(shard("{}", 0))}, []string{"read shard " + shardB, `tensor "b", which ` + index + ` places there, is missing`}},
		{"tensor not in the index", map[string]string{index: `{"weight_map":{"a":"` + shardA + `"}}`, shardA: string(shard(
			`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"c":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}`, 4))}, []string{"read shard " + shardA, `tensor "c" is not in ` + index}},
		{"index is a list", map[string]string{index: "[]"}, []string{index, "at byte 0: want an object, have '['"}},
		{"index is empty", map[string]string{index: ""}, []string{index, "want an object, have the end"}},
		{"index without a map", map[string]string{index: `{"metadata":{"total_size":8}}`}, []string{index, "weight_map is missing"}},
		{"index with an empty map", map[string]string{index: `{"weight_map":{}}`}, []string{index, "weight_map is empty"}},
		{"index with two maps", map[string]string{index: `{"weight_map":{},"weight_map":{}}`}, []string{index, "weight_map occurs twice"}},
		{"map is a list", map[string]string{index: `{"weight_map":["a"]}`}, []string{index, "weight_map: at byte 14: want an object"}},
		{"shard is a number", map[string]string{index: `{"weight_map":{"a":1}}`}, []string{index, `tensor "a": at byte 19: want a string`}},
		{"index with a tail", map[string]string{index: good + "x"}, []string{index, "want the end, have 'x'"}},
		{"index nested deep", map[string]string{index: `{"metadata":` + strings.Repeat("[", 10_000)}, []string{index, "nested more than 64 deep"}},
		{"index is no UTF-8", map[string]string{index: "{\"\xff\":1}"}, []string{index, "want UTF-8"}},
		{"shard is cut", map[string]string{index: good, shardA: one("a"), shardB: one("b")[:64]}, []string{"read shard " + shardB, "its tensors need 4 bytes after the header, it has 3"}},
		{"shard of a set missing without an index", map[string]string{shardB: one("b")[:0], "model-00003-of-00003.safetensors": ""}, []string{"model-00001-of-00002.safetensors is missing"}},
		{"two files without an index", map[string]string{"x.safetensors": one("a"), "y.safetensors": one("b")}, []string{"it holds x.safetensors, y.safetensors and no " + index, "name the file"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := folderOf(t, row.files)
			mustFail(t, dir, smallRefusal, append(row.want, dir)...)
		})
	}

	t.Run("index too long", func(t *testing.T) {
		dir := folderOf(t, map[string]string{index: good})
		if err := os.Truncate(filepath.Join(dir, index), 64<<20+1); err != nil {
			t.Fatal(err)
		}
		mustFail(t, dir, smallRefusal, dir, index, "it has 67108865 bytes, want at most 67108864")
	})

	// A wrong total is told, not refused: see addIndexed.
	t.Run("total_size wrong", func(t *testing.T) {
		dir := folderOf(t, map[string]string{index: strings.Replace(good, "8", "9", 1), shardA: one("a"), shardB: one("b")})
		c := mustOpen(t, dir, "a in "+shardA+", b in "+shardB)
		want := "ignore total_size in model.safetensors.index.json: it says 9 bytes, the shards' tensors have 8"
		if n := c.Notices(); len(n) != 1 || n[0] != want {
			t.Errorf("notices are %q, want %q", n, want)
		}
	})
}

// TestFolders checks the shapes of folder that must load.
func TestFolders(t *testing.T) {
	both := "a in " + shardA + ", b in " + shardB
	rows := []struct {
		name    string
		files   map[string]string
		open    string
		want    string
		notices int
	}{
		{"single file", map[string]string{"model.safetensors": one("a"), "other.safetensors": one("b")}, "", "a in model.safetensors", 0},
		{"index", map[string]string{index: indexOf(shardA, shardB), shardA: one("a"), shardB: one("b"), "adapter_model.safetensors": one("c")}, "", both, 0},
		{"index with other fields", map[string]string{
			index:  `{"x":[1,-2.5e3,true,null,{"y":"z"}],"metadata":{"total_size":1e3,"total_parameters":2},"weight_map":{"a":"` + shardA + `"}}` + "\n",
			shardA: one("a"),
		}, "", "a in " + shardA, 0},
		{"index of one", map[string]string{index: `{"weight_map":{"a":"model.safetensors"}}`, "model.safetensors": one("a")}, "", "a in model.safetensors", 0},
		{"index beside a single file", map[string]string{index: indexOf(shardA, shardB), "model.safetensors": one("a")}, "", "a in model.safetensors", 1},
		{"set without an index", map[string]string{shardA: one("a"), shardB: one("b")}, "", both, 0},
		{"file of another name", map[string]string{"weights.safetensors": one("a"), "pytorch_model.bin": "x"}, "", "a in weights.safetensors", 0},
		{"file named outright", map[string]string{"x.safetensors": one("a"), "y.safetensors": one("b")}, "y.safetensors", "b in y.safetensors", 0},
		{"link inside the folder", map[string]string{"model.safetensors": "->real/weights", "real/weights": one("a")}, "", "a in model.safetensors", 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := folderOf(t, row.files)
			c := mustOpen(t, filepath.Join(dir, row.open), row.want)
			if c.Dir() != dir {
				t.Errorf("folder is %s, want %s", c.Dir(), dir)
			}
			if len(c.Notices()) != row.notices {
				t.Errorf("notices are %q, want %d", c.Notices(), row.notices)
			}
		})
	}
}

// TestFileLink checks that a file the user names outright may be a link that
// leads anywhere, unlike one that a folder brings along.
func TestFileLink(t *testing.T) {
	target := writeFile(t, "target", []byte(one("a")))
	dir := folderOf(t, map[string]string{"model.safetensors": "->" + target})
	mustOpen(t, filepath.Join(dir, "model.safetensors"), "a in model.safetensors")
	mustFail(t, dir, smallRefusal, dir, "open shard model.safetensors", "leaves the folder")
}

// TestCache checks the layout in which Hugging Face's tools keep what they
// download: links from a snapshot to blobs, both in the model's folder.
func TestCache(t *testing.T) {
	const model = "models--org--name"
	files := map[string]string{
		model + "/refs/main":                                 "c0ffee",
		model + "/blobs/1":                                   one("a"),
		model + "/blobs/2":                                   `{"hidden_size":64}`,
		model + "/snapshots/c0ffee/model.safetensors":        "->../../blobs/1",
		model + "/snapshots/c0ffee/config.json":              "->../../blobs/2",
		model + "/snapshots/decade/model.safetensors":        "->../../blobs/missing",
		model + "/snapshots/facade/model.safetensors":        "->../../../secret",
		model + "/snapshots/facade/config.json":              "->../../../secret",
		"models--org--single/snapshots/1/model.safetensors":  one("a"),
		"models--org--several/snapshots/1/model.safetensors": one("a"),
		"models--org--several/snapshots/2/model.safetensors": one("a"),
		"models--org--gone/snapshots/1/model.safetensors":    one("a"),
		"models--org--gone/refs/main":                        "2\n",
		"models--org--climb/snapshots/1/model.safetensors":   one("a"),
		"models--org--climb/refs/main":                       "../../models--org--name/snapshots/c0ffee",
		"secret":                                             one("s"),
	}
	dir := folderOf(t, files)
	for _, name := range []string{model, model + "/snapshots/c0ffee", model + "/snapshots/c0ffee/model.safetensors"} {
		c := mustOpen(t, filepath.Join(dir, name), "a in model.safetensors")
		if want := filepath.Join(dir, model, "snapshots", "c0ffee"); c.Dir() != want {
			t.Errorf("%s: folder is %s, want %s", name, c.Dir(), want)
		}
		config, err := c.ReadFile("config.json", 100)
		if err != nil || string(config) != files[model+"/blobs/2"] {
			t.Errorf("%s: config is %q, error %v", name, config, err)
		}
	}
	mustOpen(t, filepath.Join(dir, "models--org--single"), "a in model.safetensors")
	for name, want := range map[string]string{
		model + "/snapshots/decade": "follow the symbolic link to ../../blobs/missing: no such file",
		model + "/snapshots/facade": "follow the symbolic link to ../../../secret: it leaves the folder",
		"models--org--several":      "it holds 2 snapshots and no refs/main",
		"models--org--gone":         `refs/main names snapshot "2", which is not there`,
		"models--org--climb":        "which is not there",
	} {
		mustFail(t, filepath.Join(dir, name), smallRefusal, name, want)
	}
}

// TestF18Disguised holds the bad input F18, and other things that are not
// safetensors: each is told by what it is.
func TestF18Disguised(t *testing.T) {
	pickle := "a pickle can run code"
	rows := []struct{ name, content, want string }{
		{"GGUF", "GGUF\x03\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00", "a GGUF file: name the original Hugging Face checkpoint"},
		{"pickle", "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", pickle},
		{"new pickle", "\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00}", pickle},
		{"zip", "PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00", "a zip archive, as torch.save writes a pickle"},
		{"zip bomb", "PK\x03\x04\x14\x00\x00\x00\x08\x00" + strings.Repeat("\x00", 100), "a zip archive"},
		{"gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "a gzip archive: unpack it first"},
		{"git-lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"},
		{"web page", "<!DOCTYPE html><title>404", "a web page: download the file again"},
		{"text", "hello, this is not a checkpoint", "header says it has"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := writeFile(t, "model.safetensors", []byte(row.content))
			mustFail(t, path, smallRefusal, path, "read shard model.safetensors: ", row.want)
			mustFail(t, filepath.Dir(path), smallRefusal, "read shard model.safetensors: ", row.want)
		})
	}
	t.Run("length that looks like a pickle", func(t *testing.T) {
		header := declare(`"U8"`, "[4]", "[0,4]")
		header += strings.Repeat(" ", 0x280-len(header))
		mustOpen(t, writeFile(t, "x.safetensors", shard(header, 4)), "t in x.safetensors")
	})
	t.Run("directory", func(t *testing.T) {
		dir := folderOf(t, map[string]string{"model.safetensors/config.json": "{}"})
		mustFail(t, dir, smallRefusal, "open shard model.safetensors: want a regular file, have a directory")
		mustFail(t, filepath.Join(dir, "model.safetensors"), smallRefusal, "no weights: config.json is there")
	})
	t.Run("named pipe", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "model.safetensors")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Skip(err)
		}
		// Opening a pipe without a writer would never return.
		mustFail(t, path, smallRefusal, path+": want a regular file, have a named pipe")
		mustFail(t, dir, smallRefusal, "open shard model.safetensors: want a regular file, have a named pipe")
	})
	t.Run("device", func(t *testing.T) {
		mustFail(t, os.DevNull, smallRefusal, os.DevNull+": want a regular file, have a device")
	})
}

// TestNoWeights checks what is said of folders without safetensors.
func TestNoWeights(t *testing.T) {
	for name, want := range map[string]string{
		"pytorch_model.bin":                "no weights in safetensors, only pytorch_model.bin: a pickle can run code",
		"pytorch_model-00001-of-00002.bin": "save_pretrained(NEW)",
		"consolidated.00.pth":              "only consolidated.00.pth: a pickle",
		"model.pt":                         "only model.pt: a pickle",
		"last.ckpt":                        "only last.ckpt: a pickle",
		"model-q4.gguf":                    "only model-q4.gguf: name the original Hugging Face checkpoint",
		"config.json":                      "no weights: config.json is there, but neither model.safetensors nor model.safetensors.index.json",
		"README.md":                        "no weights: the folder has neither config.json nor a .safetensors file",
	} {
		dir := folderOf(t, map[string]string{"config.json": "{}", name: "x"})
		if name == "README.md" {
			dir = folderOf(t, map[string]string{name: "x"})
		}
		mustFail(t, dir, smallRefusal, dir, want)
		if _, err := checkpoint.Open(dir); !errors.Is(err, checkpoint.ErrNoWeights) {
			t.Errorf("%s: error %v does not wrap ErrNoWeights", name, err)
		}
	}
}

// TestAbsent checks names that do not exist, and the hint for those that look
// like models of the hub.
func TestAbsent(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := checkpoint.Open("nothing")
	if !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "hf download") {
		t.Errorf("error is %v", err)
	}
	_, err = checkpoint.Open("org/name-1.5B")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "hf download org/name-1.5B --local-dir name-1.5B") {
		t.Errorf("error is %v", err)
	}
}

// TestReadFile checks side files: their cap, and that nothing outside the folder
// can be had.
func TestReadFile(t *testing.T) {
	dir := folderOf(t, map[string]string{
		"m/model.safetensors": one("a"),
		"m/config.json":       "0123456789",
		"m/climb.json":        "->../secret",
		"m/d/x.json":          "{}",
		"secret":              "secret",
	})
	c := mustOpen(t, filepath.Join(dir, "m"), "a in model.safetensors")
	if data, err := c.ReadFile("config.json", 10); err != nil || string(data) != "0123456789" {
		t.Errorf("config.json is %q, error %v", data, err)
	}
	if data, err := c.ReadFile("d/x.json", 10); err != nil || string(data) != "{}" {
		t.Errorf("d/x.json is %q, error %v", data, err)
	}
	if _, err := c.ReadFile("absent.json", 10); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(dir, "m", "absent.json")) {
		t.Errorf("error is %v", err)
	}
	for name, want := range map[string]string{
		"config.json": "it has 10 bytes, want at most 9",
		"climb.json":  "it leaves the folder",
		"d":           "have a directory",
		"d/none.json": "no such file",
		"../secret":   "want the name of a file in the folder",
		"d/../../m":   "want the name of a file in the folder",
		"":            "want the name of a file in the folder",
		".":           "have a directory",
	} {
		if _, err := c.ReadFile(name, 9); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", name, err, want)
		}
	}
}

// TestOpenFS checks that a file system other than the disk's gives the same.
func TestOpenFS(t *testing.T) {
	fsys := fstest.MapFS{
		"demo/" + index:          {Data: []byte(indexOf(shardA, shardB))},
		"demo/" + shardA:         {Data: []byte(one("a"))},
		"demo/" + shardB:         {Data: []byte(one("b"))},
		"demo/config.json":       {Data: []byte("{}")},
		"bad/model.safetensors":  {Data: []byte("GGUF\x03\x00\x00\x00")},
		"pipe/model.safetensors": {Mode: fs.ModeNamedPipe},
	}
	c, err := checkpoint.OpenFS(fsys, "demo")
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, c, "a in "+shardA+", b in "+shardB)
	if data, err := c.ReadFile("config.json", 100); err != nil || string(data) != "{}" {
		t.Errorf("config.json is %q, error %v", data, err)
	}
	if c.Dir() != "demo" {
		t.Errorf("folder is %s", c.Dir())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	file, err := checkpoint.OpenFS(fsys, "demo/"+shardB)
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, file, "b in "+shardB)
	if _, err := file.ReadFile("config.json", 100); err != nil {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{
		"bad":     "open checkpoint bad: read shard model.safetensors: want a safetensors file, have a GGUF file",
		"pipe":    "have a named pipe",
		"absent":  "open checkpoint absent: file does not exist",
		"../demo": "open checkpoint ../demo: ",
	} {
		if _, err := checkpoint.OpenFS(fsys, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", name, err, want)
		}
	}
}

// TestMetadata checks that what shards agree on is merged, and what they do not
// agree on is taken from none.
func TestMetadata(t *testing.T) {
	with := func(metadata, tensor string) string {
		return string(shard(fmt.Sprintf(`{"__metadata__":%s,"%s":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, metadata, tensor), 4))
	}
	dir := folderOf(t, map[string]string{
		"model-00001-of-00003.safetensors": with(`{"format":"pt","plan":"x","one":"1"}`, "a"),
		"model-00002-of-00003.safetensors": with(`{"format":"pt","plan":"y"}`, "b"),
		"model-00003-of-00003.safetensors": with(`{"format":"pt","plan":"x","three":"3"}`, "c"),
	})
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := fmt.Sprint(c.Metadata()); got != "map[format:pt one:1 three:3]" {
		t.Errorf("metadata is %s", got)
	}
	if n := c.Notices(); len(n) != 1 || !strings.Contains(n[0], `ignore metadata "plan": shard model-00002-of-00003.safetensors disagrees`) {
		t.Errorf("notices are %q", n)
	}
}

// TestDigest changes with a header, with the first bytes of a tensor, and with nothing else.
func TestDigest(t *testing.T) {
	digest := func(metadata string, change func(name string, data []byte)) string {
		t.Helper()
		dir := t.TempDir()
		w, err := checkpoint.Create(dir, specs, checkpoint.Options{ShardBytes: 50, Metadata: map[string]string{"a": metadata}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range specs {
			data := contents(s.Name, bytesOf(s))
			change(s.Name, data)
			if err := w.Write(s.Name, bytes.NewReader(data)); err != nil {
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
		d, err := c.Digest()
		if err != nil || !regexp.MustCompile("^sha256:[0-9a-f]{64}$").MatchString(d) {
			t.Errorf("digest is %q, error %v", d, err)
		}
		return d
	}
	same := func(string, []byte) {}
	first := digest("1", same)
	if digest("1", same) != first {
		t.Error("equal checkpoints have two digests")
	}
	if digest("2", same) == first {
		t.Error("another header has the same digest")
	}
	if digest("1", func(name string, data []byte) {
		if name == "last" {
			data[7] ^= 1
		}
	}) == first {
		t.Error("other bytes have the same digest")
	}
}
