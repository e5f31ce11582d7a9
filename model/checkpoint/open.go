package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNoWeights is wrapped by the errors about folders without a safetensors
// file.
var ErrNoWeights = errors.New("no weights")

const (
	singleName = "model.safetensors"
	suffix     = ".safetensors"
)

// convertHint tells the owner of a pickle what to do.
const convertHint = "a pickle can run code and is not read; convert it on a machine where you trust it, " +
	"with transformers: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"

// Open opens the checkpoint at name: a folder, a single .safetensors file, or
// the cache folder of a model as Hugging Face's tools lay it out
// (models--org--name, or one of its snapshots). It reads the index and all
// headers, and no tensor. The error names the file and the rule it breaks; it
// wraps ErrNoWeights for a folder without safetensors, fs.ErrNotExist for a name
// that does not exist.
//
// In a folder, links must stay inside it, or inside the cache folder of the
// model. A file that is named outright may be a link to anywhere.
func Open(name string) (*Checkpoint, error) {
	c, err := open(name)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", name, err)
	}
	return c, nil
}

func open(name string) (*Checkpoint, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, hint(name, cause(err))
	}
	if info.IsDir() {
		dir, err := snapshot(name)
		if err != nil {
			return nil, err
		}
		f, err := openDir(dir)
		if err != nil {
			return nil, err
		}
		return load(f)
	}
	if err := checkRegular(info.Mode()); err != nil {
		return nil, err
	}
	f, err := openDir(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, errors.Join(cause(err), f.close())
	}
	return loadFile(f, filepath.Base(name), file)
}

// OpenFS is Open for a file system, such as one of embedded files: name is a
// folder in it, "." for its root, or a .safetensors file. Its files must
// implement io.ReaderAt, as those of package embed and of os.DirFS do. A Hugging
// Face cache folder is no special case here.
func OpenFS(fsys fs.FS, name string) (*Checkpoint, error) {
	c, err := openFS(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", name, err)
	}
	return c, nil
}

func openFS(fsys fs.FS, name string) (*Checkpoint, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, cause(err)
	}
	if info.IsDir() {
		return load(folder{fsys: fsys, dir: name, path: name})
	}
	dir := path.Dir(name)
	f := folder{fsys: fsys, dir: dir, path: dir}
	file, _, err := f.open(path.Base(name))
	if err != nil {
		return nil, err
	}
	return loadFile(f, path.Base(name), file)
}

// loadFile makes a checkpoint of one open file. It takes over f and file.
func loadFile(f folder, name string, file fs.File) (*Checkpoint, error) {
	c := newCheckpoint(f)
	info, err := file.Stat()
	if err == nil {
		err = checkRegular(info.Mode())
	}
	if err != nil {
		return nil, errors.Join(cause(err), file.Close(), c.Close())
	}
	if err := c.addFile(name, file, info.Size()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.finish()
	return c, nil
}

// load makes a checkpoint of the files of a folder, which it takes over.
func load(f folder) (*Checkpoint, error) {
	c := newCheckpoint(f)
	if err := c.addFolder(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.finish()
	return c, nil
}

// addFolder finds the weights among the folder's files. Where there are an index
// and a model.safetensors that it does not name, the single file is taken, as
// transformers does.
func (c *Checkpoint) addFolder() error {
	if c.folder.has(indexName) {
		index, err := readIndex(c.folder)
		if err != nil {
			return err
		}
		if index.names(singleName) || !c.folder.has(singleName) {
			return c.addIndexed(index)
		}
		c.notices = append(c.notices, fmt.Sprintf("ignore %s: it does not name %s, which is there too", indexName, singleName))
	}
	if c.folder.has(singleName) {
		return c.addShard(singleName)
	}
	entries, err := fs.ReadDir(c.folder.fsys, c.folder.dir)
	if err != nil {
		return cause(err)
	}
	var names, all []string
	for _, e := range entries {
		all = append(all, e.Name())
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	switch {
	case len(names) == 0:
		return noWeights(all)
	case len(names) > 1:
		if err := checkSet(names); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := c.addShard(name); err != nil {
			return err
		}
	}
	return nil
}

// shardPattern matches the name of one shard of several: what they are part of,
// its number and how many there are.
var shardPattern = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})\.safetensors$`)

// checkSet returns nil if names are all shards of one set, which can do without
// an index. Names come sorted.
func checkSet(names []string) error {
	first := shardPattern.FindStringSubmatch(names[0])
	if first == nil {
		return fmt.Errorf("it holds %s, %s and no %s: name the file to load", names[0], names[1], indexName)
	}
	count, err := strconv.Atoi(first[3])
	if err != nil {
		return err
	}
	for i := range count {
		want := shardName(first[1], i, count)
		if _, ok := slices.BinarySearch(names, want); !ok {
			return fmt.Errorf("shard %s is missing, and there is no %s", want, indexName)
		}
	}
	if len(names) > count {
		return fmt.Errorf("it holds files besides the %d shards of %s, and no %s: name the file to load", count, first[1], indexName)
	}
	return nil
}

// shardName returns the name of shard i, counted from 0, of count.
func shardName(prefix string, i, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d%s", prefix, i+1, count, suffix)
}

// noWeights says what a folder without safetensors holds instead.
func noWeights(names []string) error {
	first := func(suffixes ...string) string {
		for _, name := range names {
			if slices.Contains(suffixes, filepath.Ext(name)) {
				return name
			}
		}
		return ""
	}
	if name := first(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"); name != "" {
		return fmt.Errorf("%w in safetensors, only %s: %s", ErrNoWeights, name, convertHint)
	}
	if name := first(".gguf"); name != "" {
		return fmt.Errorf("%w in safetensors, only %s: name the original Hugging Face checkpoint instead of a GGUF file", ErrNoWeights, name)
	}
	if slices.Contains(names, "config.json") {
		return fmt.Errorf("%w: config.json is there, but neither %s nor %s", ErrNoWeights, singleName, indexName)
	}
	return fmt.Errorf("%w: the folder has neither config.json nor a %s file", ErrNoWeights, suffix)
}

// modelID matches the name of a model on the Hugging Face hub.
var modelID = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$`)

// hint adds to the error about a name that does not exist what to do where it
// looks like that of a model on the hub.
func hint(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) && modelID.MatchString(name) {
		return fmt.Errorf("%w; if it is a model of the Hugging Face hub, fetch it first: hf download %s --local-dir %s", err, name, path.Base(name))
	}
	return err
}
