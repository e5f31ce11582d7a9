package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Tensor is one tensor of a checkpoint: where it lies, not its bytes. It must
// not be changed.
type Tensor struct {
	// Name is the tensor's key, unique in its checkpoint.
	Name string
	// Type is the type of its elements.
	Type DType
	// Shape holds the dimensions, outermost first; it is empty for a scalar.
	// Their product fits an int.
	Shape []int
	// Shard is the name of the file that holds the tensor.
	Shard string

	shard  *shard
	offset int64 // of the first byte, from the start of the file
	bytes  int64
}

// Bytes returns the size of the tensor in its file.
func (t *Tensor) Bytes() int64 { return t.bytes }

// Elements returns the product of the dimensions, 1 for a scalar.
func (t *Tensor) Elements() int {
	elements := 1
	for _, n := range t.Shape {
		elements *= n
	}
	return elements
}

// Checkpoint is an opened checkpoint. Its methods may be called at the same
// time from several goroutines, but for Close.
type Checkpoint struct {
	folder   folder
	shards   []*shard
	tensors  map[string]*Tensor
	names    []string
	metadata map[string]string
	disputed map[string]bool // metadata keys on which shards disagree
	notices  []string
	bytes    int64
}

func newCheckpoint(f folder) *Checkpoint {
	return &Checkpoint{
		folder:   f,
		tensors:  make(map[string]*Tensor),
		metadata: make(map[string]string),
		disputed: make(map[string]bool),
	}
}

// shard is an open file of tensors.
type shard struct {
	name  string
	file  fs.File
	bytes io.ReaderAt // the same file
	size  int64       // when it was opened
}

// Dir returns the folder of config.json and the other side files, as the user
// can find it: for a Hugging Face cache, the snapshot.
func (c *Checkpoint) Dir() string { return c.folder.path }

// Names returns the names of all tensors, sorted. The caller must not change it.
func (c *Checkpoint) Names() []string { return c.names }

// Tensor returns the tensor called name, and whether there is one.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.tensors[name]
	return t, ok
}

// Bytes returns the sum of all tensors' bytes.
func (c *Checkpoint) Bytes() int64 { return c.bytes }

// Metadata returns the metadata of all shards together. A key that two shards
// give different values is left out, and named in Notices. The caller must not
// change the map.
func (c *Checkpoint) Metadata() map[string]string { return c.metadata }

// Notices returns sentences about what is wrong with the checkpoint without
// putting any tensor in doubt. They are for the user to see.
func (c *Checkpoint) Notices() []string { return c.notices }

// digestBytes is what Digest reads of each tensor.
const digestBytes = 4096

// Digest returns a name for the checkpoint, "sha256:" and 64 digits: of the
// headers of its shards and of the first bytes of each tensor. Headers alone are
// the same for all models that were trained from one.
func (c *Checkpoint) Digest() (string, error) {
	h := sha256.New()
	shards := slices.SortedFunc(slices.Values(c.shards), func(a, b *shard) int { return strings.Compare(a.name, b.name) })
	for _, s := range shards {
		var length [lengthBytes]byte
		if err := readFull(s.bytes, length[:], 0); err != nil {
			return "", fmt.Errorf("read shard %s: %w", s.name, cause(err))
		}
		// The file may have changed since its header was checked.
		n := int64(binary.LittleEndian.Uint64(length[:]))
		if n < 0 || n > maxHeaderBytes {
			return "", fmt.Errorf("read shard %s: the file was changed while in use", s.name)
		}
		if _, err := io.Copy(h, io.NewSectionReader(s.bytes, 0, lengthBytes+n)); err != nil {
			return "", fmt.Errorf("read shard %s: %w", s.name, cause(err))
		}
	}
	buffer := make([]byte, digestBytes)
	for _, name := range c.names {
		t := c.tensors[name]
		first := buffer[:min(digestBytes, t.bytes)]
		if err := t.read(first, 0); err != nil {
			return "", err
		}
		h.Write(first)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// ReadFile returns a side file such as config.json, which lies beside the
// tensors or, named with slashes, in a folder there. A file of more than limit bytes is an error, and so is anything but a
// regular file. The error wraps fs.ErrNotExist where there is no such file.
func (c *Checkpoint) ReadFile(name string, limit int64) ([]byte, error) {
	return c.folder.read(name, limit)
}

// Close closes the files. Reads fail from then on.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, s := range c.shards {
		errs = append(errs, s.file.Close())
	}
	if c.folder.close != nil {
		errs = append(errs, c.folder.close())
	}
	return errors.Join(errs...)
}

// addShard opens the file called name and adds its tensors.
func (c *Checkpoint) addShard(name string) error {
	file, size, err := c.folder.open(name)
	if err != nil {
		return fmt.Errorf("open shard %s: %w", name, err)
	}
	return c.addFile(name, file, size)
}

// addFile adds the tensors of an open file, which it takes over.
func (c *Checkpoint) addFile(name string, file fs.File, size int64) error {
	s := &shard{name: name, file: file, size: size}
	c.shards = append(c.shards, s) // from here on Close closes it
	var ok bool
	if s.bytes, ok = file.(io.ReaderAt); !ok {
		return fmt.Errorf("read shard %s: its file system cannot read at an offset", name)
	}
	tensors, metadata, err := readHeader(s.bytes, size)
	if err != nil {
		return fmt.Errorf("read shard %s: %w", name, err)
	}
	for _, t := range tensors {
		if other, ok := c.tensors[t.Name]; ok {
			return fmt.Errorf("read shard %s: tensor %s is in shard %s too", name, quote(t.Name), other.Shard)
		}
		t.Shard, t.shard = name, s
		c.tensors[t.Name] = t
		c.bytes += t.bytes
	}
	c.mergeMetadata(name, metadata)
	return nil
}

// mergeMetadata adds the metadata of one shard. A value that shards disagree on
// is taken from neither, for it may describe the other's tensors.
func (c *Checkpoint) mergeMetadata(shard string, metadata map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		value := metadata[key]
		switch have, ok := c.metadata[key]; {
		case c.disputed[key] || ok && have == value:
		case ok:
			delete(c.metadata, key)
			c.disputed[key] = true
			c.notices = append(c.notices, fmt.Sprintf("ignore metadata %s: shard %s disagrees with another on its value", quote(key), shard))
		default:
			c.metadata[key] = value
		}
	}
}

// finish sorts the names once all shards are in.
func (c *Checkpoint) finish() {
	c.names = slices.Sorted(maps.Keys(c.tensors))
}
