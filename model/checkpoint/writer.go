package checkpoint

import (
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
	"sync"
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
	// Resume takes over the complete shards that a run which was broken off
	// has left in the folder. They must have the very headers that this run
	// would write.
	Resume bool
}

// Writer writes the shards of a checkpoint, the tensors in any order, and holds
// none of them in memory. Nothing has its final name before Commit, so a run
// that is broken off leaves no checkpoint that looks whole. The same
// declarations and bytes give the same files. WriteAt and Write may be called
// from several goroutines at once.
type Writer struct {
	dir     string
	tensors map[string]*writtenTensor
	shards  []*writtenShard
	indexed bool // a run that was broken off has written the index

	mu      sync.Mutex
	err     error // the first failure to write; it is final
	settled bool  // by Commit or Abort
}

// writtenShard is one shard in the making. Its file is called name+partialSuffix
// until all bytes are on the disk, name+completeSuffix until Commit.
type writtenShard struct {
	name    string
	header  []byte // with the length before it
	tensors []*Tensor
	bytes   int64 // of its tensors

	// Guarded by the Writer's mu.
	file *os.File
	left int64  // bytes that are not written yet
	path string // of the file as it is called now; empty while there is none
	done bool   // complete and on the disk
}

// writtenTensor is a tensor that has been declared; its offset counts from the
// first byte after the header.
type writtenTensor struct {
	*Tensor
	shard *writtenShard
	left  int64 // bytes that are not written yet; guarded by the Writer's mu
}

// partialSuffix ends the names of files that are not complete, completeSuffix
// those of shards that are, in a checkpoint that is not.
const (
	partialSuffix  = ".partial"
	completeSuffix = ".complete"
)

// Create prepares the writing of a checkpoint into the folder dir, which is made
// if need be and must not hold a checkpoint already. All tensors are declared
// here; shards are filled with them in this order. In a shard those of larger
// elements lie first, so that the offset of each is a multiple of its element's
// size. Side files such as config.json are for the caller to write.
func Create(dir string, specs []Spec, opts Options) (*Writer, error) {
	w := &Writer{dir: dir, tensors: make(map[string]*writtenTensor, len(specs))}
	err := w.plan(specs, opts)
	if err == nil {
		err = w.claim(opts.Resume)
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
	for i, spec := range specs {
		switch {
		case w.tensors[spec.Name] != nil:
			return fmt.Errorf("tensor %s is declared twice", quote(spec.Name))
		case spec.Name == metadataKey || !utf8.ValidString(spec.Name):
			return fmt.Errorf("tensor %s has a name that the format does not allow", quote(spec.Name))
		case spec.Type.BitSize() == 0:
			return fmt.Errorf("tensor %s has the unknown type %s", quote(spec.Name), quote(string(spec.Type)))
		case len(spec.Shape) > maxRank:
			return fmt.Errorf("tensor %s has %d dimensions, want at most %d", quote(spec.Name), len(spec.Shape), maxRank)
		}
		size, err := byteCount(spec.Type, spec.Shape)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", quote(spec.Name), err)
		}
		last := len(w.shards) - 1
		if i == 0 || w.shards[last].bytes > 0 && size > limit-w.shards[last].bytes {
			w.shards = append(w.shards, &writtenShard{})
			last++
		}
		s := w.shards[last]
		t := &Tensor{Name: spec.Name, Type: spec.Type, Shape: slices.Clone(spec.Shape), bytes: size}
		w.tensors[spec.Name] = &writtenTensor{Tensor: t, shard: s, left: size}
		s.tensors = append(s.tensors, t)
		s.bytes += size
	}
	for i, s := range w.shards {
		s.name, s.left = singleName, s.bytes
		if len(w.shards) > 1 {
			s.name = shardName("model", i, len(w.shards))
		}
		slices.SortStableFunc(s.tensors, func(a, b *Tensor) int { return b.Type.BitSize() - a.Type.BitSize() })
		offset := int64(0)
		for _, t := range s.tensors {
			t.Shard, t.offset = s.name, offset
			offset += t.bytes
		}
		var err error
		if s.header, err = makeHeader(s.tensors, opts.Metadata); err != nil {
			return fmt.Errorf("shard %s: %w", s.name, err)
		}
	}
	return nil
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

// claim makes the folder and refuses one that holds a checkpoint, or shards that
// are not to be resumed.
func (w *Writer) claim(resume bool) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	ours := make(map[string]*writtenShard)
	for _, s := range w.shards {
		ours[s.name] = s
	}
	found := 0
	for _, e := range entries {
		name, complete := strings.CutSuffix(e.Name(), completeSuffix)
		switch {
		case e.Name() == indexName:
			w.indexed = true
			continue
		case !strings.HasSuffix(name, suffix):
			continue
		case !resume:
			return fmt.Errorf("%s is there already: name another folder, or remove it", e.Name())
		}
		s := ours[name]
		if s == nil || s.done || !s.matches(filepath.Join(w.dir, e.Name())) {
			return fmt.Errorf("%s is there already, and is no part of the checkpoint that is to be written: name another folder, or remove it", e.Name())
		}
		s.path, s.left, s.done = filepath.Join(w.dir, e.Name()), 0, true
		for _, t := range s.tensors {
			w.tensors[t.Name].left = 0
		}
		if !complete {
			found++
		}
	}
	// A run that was broken off within Commit has renamed all shards before it
	// wrote the index.
	if w.indexed && found < len(w.shards) {
		return fmt.Errorf("%s is there already: name another folder, or remove it", indexName)
	}
	return nil
}

// matches reports whether the file at path is the shard: it has the same header,
// and as many bytes. That those are the right ones is what its name stands for:
// no file is called so before it is complete.
func (s *writtenShard) matches(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(s.header))+s.bytes {
		return false
	}
	header := make([]byte, len(s.header))
	return readFull(file, header, 0) == nil && bytes.Equal(header, s.header)
}

// Written reports whether the tensor lies in a shard that is complete. Its bytes
// need not, and cannot, be written any more.
func (w *Writer) Written(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tensors[name]
	return t != nil && t.shard.done
}

// Shard returns the path of the complete shard that holds the tensor, to read
// what has been written, and whether there is one. Commit moves it.
func (w *Writer) Shard(name string) (path string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.tensors[name]; t != nil && t.shard.done {
		return t.shard.path, true
	}
	return "", false
}

// WriteAt writes p as bytes of the tensor from offset on. Each byte of a tensor
// must be written exactly once; the last one of a shard brings it to the disk.
func (w *Writer) WriteAt(name string, p []byte, offset int64) error {
	t, file, err := w.begin(name, int64(len(p)), offset)
	if err != nil || len(p) == 0 {
		return err
	}
	_, err = file.WriteAt(p, int64(len(t.shard.header))+t.offset+offset)

	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		t.shard.left -= int64(len(p))
		if t.shard.left == 0 && w.err == nil && !w.settled {
			err = w.endShard(t.shard)
		}
	}
	if err != nil {
		err = fmt.Errorf("write tensor %s to shard %s: %w", quote(name), t.Shard, cause(err))
		if w.err == nil {
			w.err = err
		}
	}
	return err
}

// begin checks what WriteAt is given, counts the bytes as written, and returns
// the file to write them to.
func (w *Writer) begin(name string, length, offset int64) (*writtenTensor, *os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tensors[name]
	switch {
	case w.err != nil:
		return nil, nil, w.err
	case w.settled:
		return nil, nil, fmt.Errorf("write tensor %s: the checkpoint is closed", quote(name))
	case t == nil:
		return nil, nil, fmt.Errorf("write tensor %s: it was not declared", quote(name))
	case offset < 0 || length > t.bytes || offset > t.bytes-length:
		return nil, nil, fmt.Errorf("write tensor %s: want bytes within %d, have %d to %d", quote(name), t.bytes, offset, offset+length)
	case length > t.left:
		return nil, nil, fmt.Errorf("write tensor %s: it is complete", quote(name))
	}
	if t.shard.file == nil && length > 0 {
		if err := w.startShard(t.shard); err != nil {
			w.err = err
			return nil, nil, err
		}
	}
	t.left -= length
	return t, t.shard.file, nil
}

// Write writes the whole tensor from r, which must give exactly its bytes.
func (w *Writer) Write(name string, r io.Reader) error {
	w.mu.Lock()
	t := w.tensors[name]
	w.mu.Unlock()
	if t == nil {
		return fmt.Errorf("write tensor %s: it was not declared", quote(name))
	}
	// A byte more than the tensor has is asked for, to see that there is none.
	buffer := make([]byte, min(copyBytes, t.bytes+1))
	for at := int64(0); ; {
		n, err := io.ReadFull(r, buffer)
		if n > 0 {
			if err := w.WriteAt(name, buffer[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("write tensor %s: %w", quote(name), err)
		case at < t.bytes:
			return fmt.Errorf("write tensor %s: want %d bytes, have %d", quote(name), t.bytes, at)
		default:
			return nil
		}
	}
}

// copyBytes is what Write holds in memory.
const copyBytes = 4 << 20

// startShard creates the file of a shard.
func (w *Writer) startShard(s *writtenShard) error {
	path := filepath.Join(w.dir, s.name+partialSuffix)
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write shard %s: %w", s.name, cause(err))
	}
	s.file, s.path = file, path
	if _, err := file.Write(s.header); err != nil {
		return fmt.Errorf("write shard %s: %w", s.name, cause(err))
	}
	return nil
}

// endShard brings a shard of which all bytes are written to the disk.
func (w *Writer) endShard(s *writtenShard) error {
	// Without Sync, a crash after the rename could leave a name with no bytes.
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	if err != nil {
		return err
	}
	if err := w.rename(s, s.name+completeSuffix); err != nil {
		return err
	}
	s.done = true
	return syncDir(w.dir)
}

// rename gives the file of a shard another name.
func (w *Writer) rename(s *writtenShard, name string) error {
	path := filepath.Join(w.dir, name)
	if path == s.path {
		return nil
	}
	if err := os.Rename(s.path, path); err != nil {
		return err
	}
	s.path = path
	return nil
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
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.settled:
		return errors.New("it is closed")
	}
	for _, s := range w.shards {
		for _, t := range s.tensors {
			if left := w.tensors[t.Name].left; left > 0 {
				return fmt.Errorf("tensor %s lacks %d bytes", quote(t.Name), left)
			}
		}
		if !s.done { // no tensor of it has any byte
			err := w.startShard(s)
			if err == nil {
				err = w.endShard(s)
			}
			if err != nil {
				w.err = err
				return err
			}
		}
	}
	index := filepath.Join(w.dir, indexName)
	if len(w.shards) > 1 {
		if err := w.writeIndex(index + partialSuffix); err != nil {
			return err
		}
	}
	for _, s := range w.shards {
		if err := w.rename(s, s.name); err != nil {
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
	shardOf := make(map[string]string, len(w.tensors))
	for _, t := range w.tensors {
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

// Abort removes what has been written, by this run or one that it resumed, unless
// Commit has succeeded; it may be deferred. The folder stays.
func (w *Writer) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settled {
		return nil
	}
	w.settled = true
	var errs []error
	remove := func(path string) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, s := range w.shards {
		if s.file != nil {
			errs = append(errs, s.file.Close())
			s.file = nil
		}
		if s.path != "" {
			remove(s.path)
		}
	}
	if len(w.shards) > 1 {
		remove(filepath.Join(w.dir, indexName+partialSuffix))
	}
	if w.indexed {
		remove(filepath.Join(w.dir, indexName))
	}
	return errors.Join(errs...)
}
