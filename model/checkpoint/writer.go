package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// DefaultShardBytes is the size at which a Writer starts another shard unless it
// is told otherwise.
const DefaultShardBytes = 5_000_000_000

// Spec declares a tensor that is to be written.
type Spec struct {
	// Name is the tensor's key: UTF-8, unique in the checkpoint.
	Name string
	// Type is the type of the elements as they will be written.
	Type DType
	// Shape holds the dimensions, outermost first; none for a scalar.
	Shape []int
}

// Options are the choices of Create; the zero value is useful.
type Options struct {
	// ShardBytes bounds the tensor bytes of one shard; 0 stands for
	// DefaultShardBytes. A tensor of more than that has a shard of its own.
	ShardBytes int64
	// Metadata is written into every shard, so that each can be told apart
	// from those of another checkpoint.
	Metadata map[string]string
}

// Writer writes the shards of a checkpoint in one pass, each tensor's bytes in
// the order the tensors were declared, and holds none of them in memory. Nothing
// has its final name before Commit, so a run that is broken off leaves no
// checkpoint that looks whole. The same declarations and bytes give the same
// files. A Writer is for one goroutine.
type Writer struct {
	dir    string
	specs  []*Tensor // with the offset in the shard's tensor bytes
	shards []*writtenShard
	next   int // the tensor to begin next

	file    *os.File // of the shard being written, with buffer before it
	buffer  *bufio.Writer
	left    int64 // bytes that the tensor begun last still lacks
	err     error // the first failure to write; it is final
	settled bool  // by Commit or Abort
}

// writtenShard is one shard in the making.
type writtenShard struct {
	name    string
	partial string // path of the file while it is being written
	header  []byte // with the length before it
	first   int    // index of its first tensor
	bytes   int64  // of its tensors
	created bool
}

// partialSuffix ends the names of files that are not complete.
const partialSuffix = ".partial"

// Create prepares the writing of a checkpoint into the folder dir, which is made
// if need be and must not hold a checkpoint already. All tensors are declared
// here, in the order in which they will be written; one whose offset should be a
// multiple of its element's size had better not follow one of a smaller type.
// Side files such as config.json are for the caller to write.
func Create(dir string, specs []Spec, opts Options) (*Writer, error) {
	w := &Writer{dir: dir}
	err := w.plan(specs, opts)
	if err == nil {
		err = w.claim()
	}
	if err != nil {
		return nil, fmt.Errorf("create checkpoint %s: %w", dir, err)
	}
	return w, nil
}

// plan checks the declarations, lays the tensors out in shards and makes the
// headers. It touches no file.
func (w *Writer) plan(specs []Spec, opts Options) error {
	if len(specs) == 0 {
		return errors.New("no tensors declared")
	}
	limit := opts.ShardBytes
	switch {
	case limit < 0:
		return fmt.Errorf("want a positive number of bytes in a shard, have %d", limit)
	case limit == 0:
		limit = DefaultShardBytes
	}
	for key, value := range opts.Metadata {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("metadata %s is not UTF-8", quote(key))
		}
	}
	seen := make(map[string]bool, len(specs))
	for i, spec := range specs {
		switch {
		case seen[spec.Name]:
			return fmt.Errorf("tensor %s is declared twice", quote(spec.Name))
		case spec.Name == metadataKey || !utf8.ValidString(spec.Name):
			return fmt.Errorf("tensor %s has a name that the format does not allow", quote(spec.Name))
		case spec.Type.BitSize() == 0:
			return fmt.Errorf("tensor %s has the unknown type %s", quote(spec.Name), quote(string(spec.Type)))
		case len(spec.Shape) > maxRank:
			return fmt.Errorf("tensor %s has %d dimensions, want at most %d", quote(spec.Name), len(spec.Shape), maxRank)
		}
		seen[spec.Name] = true
		size, err := byteCount(spec.Type, spec.Shape)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", quote(spec.Name), err)
		}
		last := len(w.shards) - 1
		if i == 0 || w.shards[last].bytes > 0 && size > limit-w.shards[last].bytes {
			w.shards = append(w.shards, &writtenShard{first: i})
			last++
		}
		w.specs = append(w.specs, &Tensor{
			Name: spec.Name, Type: spec.Type, Shape: slices.Clone(spec.Shape),
			offset: w.shards[last].bytes, bytes: size,
		})
		w.shards[last].bytes += size
	}
	for i, s := range w.shards {
		s.name = singleName
		if len(w.shards) > 1 {
			s.name = shardName("model", i, len(w.shards))
		}
		s.partial = filepath.Join(w.dir, s.name+partialSuffix)
		var err error
		if s.header, err = makeHeader(w.tensorsOf(i), opts.Metadata); err != nil {
			return fmt.Errorf("shard %s: %w", s.name, err)
		}
		for _, t := range w.tensorsOf(i) {
			t.Shard = s.name
		}
	}
	return nil
}

// tensorsOf returns the tensors of shard i.
func (w *Writer) tensorsOf(i int) []*Tensor {
	if i+1 < len(w.shards) {
		return w.specs[w.shards[i].first:w.shards[i+1].first]
	}
	return w.specs[w.shards[i].first:]
}

// makeHeader returns a shard's first bytes: length and header, padded with
// spaces so that the tensors begin at a multiple of eight.
func makeHeader(tensors []*Tensor, metadata map[string]string) ([]byte, error) {
	b := make([]byte, lengthBytes)
	b = append(b, '{')
	if len(metadata) > 0 {
		b = append(b, `"`+metadataKey+`":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, key), ':')
			b = appendText(b, metadata[key])
		}
		b = append(b, '}')
	}
	for i, t := range tensors {
		if i > 0 || len(metadata) > 0 {
			b = append(b, ',')
		}
		b = appendText(b, t.Name)
		shape := strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ",")
		b = fmt.Appendf(b, `:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, t.Type, shape, t.offset, t.offset+t.bytes)
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	length := len(b) - lengthBytes
	if length > maxHeaderBytes || len(tensors) > maxTensors {
		return nil, fmt.Errorf("%d tensors with a header of %d bytes, want at most %d and %d", len(tensors), length, maxTensors, maxHeaderBytes)
	}
	binary.LittleEndian.PutUint64(b, uint64(length))
	return b, nil
}

// appendText appends s as a JSON string; s is UTF-8.
func appendText(b []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("BUG: encode %q: %v", s, err))
	}
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte{'\n'})...)
}

// claim makes the folder and refuses one that holds a checkpoint.
func (w *Writer) claim() error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, suffix) || name == indexName {
			return fmt.Errorf("%s is there already: name another folder, or remove it", name)
		}
	}
	return nil
}

// Begin starts the next tensor and returns the writer of its bytes. Name must be
// the one declared next, and the tensor before it complete: a checkpoint whose
// bytes lie under the wrong name is worse than none. The result is good until
// the next call of Begin, and refuses bytes beyond the tensor's.
func (w *Writer) Begin(name string) (io.Writer, error) {
	switch {
	case w.err != nil:
		return nil, w.err
	case w.settled:
		return nil, fmt.Errorf("begin tensor %s: the checkpoint is closed", quote(name))
	case w.left > 0:
		return nil, fmt.Errorf("begin tensor %s: tensor %s lacks %d bytes", quote(name), quote(w.specs[w.next-1].Name), w.left)
	case w.next == len(w.specs):
		return nil, fmt.Errorf("begin tensor %s: all %d tensors are written", quote(name), len(w.specs))
	case w.specs[w.next].Name != name:
		return nil, fmt.Errorf("begin tensor %s: tensor %s is next", quote(name), quote(w.specs[w.next].Name))
	}
	// A shard is started by its first tensor, so that one whose tensors never
	// come is not created.
	i, ok := slices.BinarySearchFunc(w.shards, w.next, func(s *writtenShard, tensor int) int { return s.first - tensor })
	if ok {
		if err := w.startShard(i); err != nil {
			w.err = err
			return nil, err
		}
	}
	t := w.specs[w.next]
	w.next++
	w.left = t.bytes
	return &tensorWriter{w: w, t: t, index: w.next}, nil
}

// startShard completes the shard before and creates the next.
func (w *Writer) startShard(i int) error {
	if err := w.endShard(); err != nil {
		return err
	}
	s := w.shards[i]
	file, err := os.Create(s.partial)
	if err != nil {
		return fmt.Errorf("write shard %s: %w", s.name, cause(err))
	}
	s.created = true
	w.file, w.buffer = file, bufio.NewWriterSize(file, 1<<20)
	if _, err := w.buffer.Write(s.header); err != nil {
		return fmt.Errorf("write shard %s: %w", s.name, cause(err))
	}
	return nil
}

// endShard brings the shard being written to the disk and closes it.
func (w *Writer) endShard() error {
	if w.file == nil {
		return nil
	}
	// Without Sync, a crash after the rename could leave a name with no bytes.
	err := w.buffer.Flush()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	name := w.file.Name()
	w.file, w.buffer = nil, nil
	if err != nil {
		return fmt.Errorf("write %s: %w", name, cause(err))
	}
	return nil
}

// tensorWriter takes the bytes of one tensor.
type tensorWriter struct {
	w     *Writer
	t     *Tensor
	index int // w.next while this tensor is the current one
}

// Write appends p to the tensor.
func (tw *tensorWriter) Write(p []byte) (int, error) {
	w := tw.w
	switch {
	case w.err != nil:
		return 0, w.err
	case w.settled || w.next != tw.index:
		return 0, fmt.Errorf("write tensor %s: it is complete", quote(tw.t.Name))
	case int64(len(p)) > w.left:
		return 0, fmt.Errorf("write tensor %s: want %d bytes, have at least %d", quote(tw.t.Name), tw.t.bytes, tw.t.bytes-w.left+int64(len(p)))
	}
	n, err := w.buffer.Write(p)
	w.left -= int64(n)
	if err != nil {
		w.err = fmt.Errorf("write tensor %s to shard %s: %w", quote(tw.t.Name), tw.t.Shard, cause(err))
		return n, w.err
	}
	return n, nil
}

// Commit completes the checkpoint: all shards are on the disk before the first
// gets its name, and the index, without which a reader misses the rest, comes
// last. After an error the caller should Abort.
func (w *Writer) Commit() error {
	if err := w.commit(); err != nil {
		return fmt.Errorf("commit checkpoint %s: %w", w.dir, err)
	}
	return nil
}

func (w *Writer) commit() error {
	switch {
	case w.err != nil:
		return w.err
	case w.settled:
		return errors.New("it is closed")
	case w.left > 0:
		return fmt.Errorf("tensor %s lacks %d bytes", quote(w.specs[w.next-1].Name), w.left)
	case w.next < len(w.specs):
		return fmt.Errorf("tensor %s and %d after it are not written", quote(w.specs[w.next].Name), len(w.specs)-w.next-1)
	}
	if err := w.endShard(); err != nil {
		w.err = err
		return err
	}
	index := filepath.Join(w.dir, indexName)
	if len(w.shards) > 1 {
		if err := w.writeIndex(index + partialSuffix); err != nil {
			return err
		}
	}
	for _, s := range w.shards {
		if err := os.Rename(s.partial, filepath.Join(w.dir, s.name)); err != nil {
			return err
		}
	}
	if len(w.shards) > 1 {
		if err := os.Rename(index+partialSuffix, index); err != nil {
			return err
		}
	}
	w.settled = true
	return syncDir(w.dir)
}

// writeIndex writes the index in the layout that transformers gives it.
func (w *Writer) writeIndex(name string) error {
	var total int64
	shardOf := make(map[string]string, len(w.specs))
	for _, t := range w.specs {
		total += t.bytes
		shardOf[t.Name] = t.Shard
	}
	b := fmt.Appendf(nil, "{\n  \"metadata\": {\n    \"total_size\": %d\n  },\n  \"weight_map\": {", total)
	for i, tensor := range slices.Sorted(maps.Keys(shardOf)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(b, "\n    "...), tensor)
		b = appendText(append(b, ": "...), shardOf[tensor])
	}
	b = append(b, "\n  }\n}\n"...)
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir brings the names in dir to the disk, where the system can do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// Abort removes what has been written, unless Commit has succeeded; it may be
// deferred. The folder stays.
func (w *Writer) Abort() error {
	if w.settled {
		return nil
	}
	w.settled = true
	var errs []error
	if w.file != nil {
		errs = append(errs, w.file.Close())
		w.file = nil
	}
	remove := func(path string) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, s := range w.shards {
		if s.created {
			remove(s.partial)
			remove(filepath.Join(w.dir, s.name))
		}
	}
	if len(w.shards) > 1 {
		remove(filepath.Join(w.dir, indexName+partialSuffix))
	}
	return errors.Join(errs...)
}
