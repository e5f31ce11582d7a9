package packed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"eckart/layers"
	"eckart/model/checkpoint"
)

// Content is what a checkpoint is to hold.
type Content struct {
	Manifest
	// Config is config.json, without our quantization_config.
	Config []byte
	// Base is the quantization_config that matrices need which stay as another tool has quantized them; nil for none.
	Base json.RawMessage
	// Keep lists the tensors of the source that are copied. Those of a stored matrix may be among them.
	Keep []string
	// ShardBytes bounds the tensor bytes of one shard; 0 stands for DefaultShardBytes.
	ShardBytes int64
}

// DefaultShardBytes is small beside a large model, so that a run which resumes another has little to do again.
const DefaultShardBytes = 1_000_000_000

// A Writer writes a compressed checkpoint. Matrices may come in any order, and from several goroutines. Until Commit
// the folder has no config.json and no shard under its final name, so that nothing can load what is there.
type Writer struct {
	dir     string
	source  *checkpoint.Checkpoint
	content Content
	config  []byte             // with our quantization_config
	w       *checkpoint.Writer // nil until the content was checked

	mu     sync.Mutex
	open   map[string]*checkpoint.Checkpoint // complete shards that matrices were read from again, by path
	shared map[string]layers.Weight          // matrices with several users that were written, by name
}

// Create prepares the writing of a compressed checkpoint into the folder dir, and copies the tensors of source that stay
// as they are. Complete shards that a run of the same content has left there are taken over: Written tells which matrices
// they hold. The source must stay open until Commit. Where Create fails, nothing of either run is left.
func Create(ctx context.Context, dir string, source *checkpoint.Checkpoint, content Content) (*Writer, error) {
	w := &Writer{dir: dir, source: source, content: content, open: map[string]*checkpoint.Checkpoint{}, shared: map[string]layers.Weight{}}
	if err := w.create(); err != nil {
		return nil, fmt.Errorf("write model %s: %w", dir, err)
	}
	if err := w.copyKept(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("write model %s: %w", dir, err), w.Abort())
	}
	return w, nil
}

func (w *Writer) create() error {
	meta, err := w.content.metadata()
	if err != nil {
		return err
	}
	if w.config, err = withSettings(w.content.Config, w.content.Base); err != nil {
		return err
	}
	var specs []checkpoint.Spec
	keep := map[string]bool{}
	for _, name := range w.content.Keep {
		keep[name] = true
	}
	declared := maps.Clone(keep) // a shared matrix has several users
	for module, s := range w.content.Stored {
		err := s.walk(module, func(tensor string, a array) error {
			if declared[tensor] {
				return nil
			}
			declared[tensor] = true
			specs = append(specs, checkpoint.Spec{Name: tensor, Type: a.typ, Shape: []int{a.rows, a.cols}})
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := checkShared(w.content.Stored); err != nil {
		return err
	}
	for _, name := range w.content.Keep {
		t, ok := w.source.Tensor(name)
		if !ok {
			return fmt.Errorf("the source has no tensor %s", name)
		}
		specs = append(specs, checkpoint.Spec{Name: name, Type: t.Type, Shape: t.Shape})
	}
	// Shards hold neighbouring blocks, so that one is complete when a walk over the blocks has passed it.
	slices.SortFunc(specs, func(a, b checkpoint.Spec) int {
		return naturally(strings.TrimPrefix(a.Name, sharedPrefix), strings.TrimPrefix(b.Name, sharedPrefix))
	})
	if _, err := os.Lstat(filepath.Join(w.dir, configFile)); err == nil {
		return fmt.Errorf("%s is there already: name another folder, or remove it", configFile)
	}
	w.w, err = checkpoint.Create(w.dir, specs, checkpoint.Options{
		ShardBytes: cmp.Or(w.content.ShardBytes, DefaultShardBytes), Metadata: meta, Resume: true,
	})
	return err
}

// naturally compares names with runs of digits taken as numbers, so that block 2 comes before block 10.
func naturally(a, b string) int {
	number := func(s string) int { // the digits at the start of s
		return len(s) - len(strings.TrimLeft(s, "0123456789"))
	}
	for i := 0; i < len(a) && i < len(b); {
		m, n := number(a[i:]), number(b[i:])
		switch {
		case m != n && m > 0 && n > 0:
			return m - n
		case m > 0 && n > 0 && a[i:i+m] != b[i:i+m]:
			return strings.Compare(a[i:i+m], b[i:i+m])
		case m > 0 && n > 0:
			i += m
		case a[i] != b[i]:
			return int(a[i]) - int(b[i])
		default:
			i++
		}
	}
	return len(a) - len(b)
}

// copyKept copies the tensors that stay as they are.
func (w *Writer) copyKept(ctx context.Context) error {
	for _, name := range w.content.Keep {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.w.Written(name) {
			continue
		}
		t, _ := w.source.Tensor(name)
		if err := w.w.Write(name, w.source.Reader(t)); err != nil {
			return err
		}
	}
	return nil
}

// stored returns what the content says of a module.
func (w *Writer) stored(module string) (Stored, error) {
	s, ok := w.content.Stored[module]
	if !ok {
		return s, fmt.Errorf("write %s: the plan does not name it", module)
	}
	return s, nil
}

// tensors returns the names of a module's tensors.
func (w *Writer) tensors(module string, s Stored) []string {
	var names []string
	_ = s.walk(module, func(tensor string, _ array) error { // went well in create
		names = append(names, tensor)
		return nil
	})
	return names
}

// Written reports whether the matrix of a module lies in complete shards, and need not be written any more.
func (w *Writer) Written(module string) bool {
	s, err := w.stored(module)
	return err == nil && !slices.ContainsFunc(w.tensors(module, s), func(t string) bool { return !w.w.Written(t) })
}

// Weight returns the matrix of a module that is Written, until the writer is closed.
func (w *Writer) Weight(module string) (layers.Weight, error) {
	s, err := w.stored(module)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	places := map[string]place{}
	for _, name := range w.tensors(module, s) {
		path, ok := w.w.Shard(name)
		if !ok {
			return nil, fmt.Errorf("read %s: it is not written yet", name)
		}
		c := w.open[path]
		if c == nil {
			if c, err = checkpoint.Open(path); err != nil {
				return nil, err
			}
			w.open[path] = c
		}
		t, ok := c.Tensor(name)
		if !ok {
			return nil, fmt.Errorf("read %s: shard %s does not have it", name, path)
		}
		places[name] = place{c, t}
	}
	return build(places, nil, s.root(module), s.Form, s.Shape[0], s.Shape[1])
}

// Write writes the matrix of a module, which must have the form that the content says. It is read in pieces of rows.
func (w *Writer) Write(ctx context.Context, module string, weight layers.Weight) error {
	s, err := w.stored(module)
	if err != nil {
		return err
	}
	have, err := Describe(weight)
	if err != nil {
		return fmt.Errorf("write %s: %w", module, err)
	}
	if !have.equal(s) {
		return fmt.Errorf("write %s: it is stored as %v, and the plan says %v", module, have, s)
	}
	return layers.Named(w.write(ctx, s.root(module), s.Form, weight), module)
}

// equal reports whether two matrices are stored alike.
func (s Stored) equal(o Stored) bool { return s.Shape == o.Shape && s.Form.equal(o.Form) }

func (f Form) equal(o Form) bool {
	if len(f.Of) != len(o.Of) || foreign(f, o) != nil || f.Kind != o.Kind {
		return false
	}
	for name, of := range f.Of {
		if other, ok := o.Of[name]; !ok || !of.equal(other) {
			return false
		}
	}
	return true
}

// write writes the matrix called name, of form f.
func (w *Writer) write(ctx context.Context, name string, f Form, weight layers.Weight) error {
	_, terms, err := kinds[f.Kind].describe(weight)
	if err != nil {
		return err
	}
	for part, t := range terms {
		root := f.root(name, part)
		if f.Of[part].Shared != "" {
			if first, err := w.first(root, t); err != nil {
				return err
			} else if !first {
				continue
			}
		}
		if err := w.write(ctx, root, f.Of[part], t); err != nil {
			return err
		}
	}
	var own []layers.Part
	for _, p := range weight.Parts() {
		if first, _, _ := strings.Cut(p.Name, "."); terms[first] == nil {
			own = append(own, p)
		}
	}
	if g, ok := weight.(*layers.Grouped); ok {
		// A matrix that is rounded as it is read is rounded once, not once for each of its arrays.
		var rows []layers.Part
		for len(own) > 0 && own[0].Rows == weight.Parts()[0].Rows && own[0].Name != "order" {
			rows, own = append(rows, own[0]), own[1:]
		}
		if err := w.writeRows(ctx, name, f, rows, g.ReadParts); err != nil {
			return err
		}
	}
	for _, p := range own {
		err := w.writeRows(ctx, name, f, []layers.Part{p}, func(dst [][]byte, row, _ int) error { return p.Read(dst[0], row) })
		if err != nil {
			return err
		}
	}
	return nil
}

// first reports whether the shared matrix called name has to be written yet: its first user does.
func (w *Writer) first(name string, matrix layers.Weight) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, ok := w.shared[name]
	if ok && have != matrix {
		return false, fmt.Errorf("write %s: matrices that share it do not have one and the same", name)
	}
	w.shared[name] = matrix
	return !ok, nil
}

// pieceElements is what is read of a matrix at once, by each processor.
const pieceElements = 1 << 20

// writeRows writes arrays of equal rows in pieces, one on each processor at a time: read fills a slice for each of them
// with n rows from a row on. A matrix may be worked out as it is read, which is the time that this takes.
func (w *Writer) writeRows(ctx context.Context, name string, f Form, all []layers.Part, read func(dst [][]byte, row, n int) error) error {
	var (
		rows    = all[0].Rows
		n       = max(1, pieceElements/max(1, all[0].Cols))
		mu      sync.Mutex
		next    int
		failed  error // of the first rows that failed, at
		at      int
		working sync.WaitGroup
	)
	missing := 0
	skip := make([]bool, len(all)) // arrays that a run which was broken off has written
	for i, p := range all {
		if skip[i] = w.w.Written(f.below(name, p.Name)); !skip[i] {
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	piece := func(row int) error {
		n := min(n, rows-row)
		dst := make([][]byte, len(all))
		for i, p := range all {
			if !skip[i] {
				dst[i] = make([]byte, n*p.Cols*p.Type.Bytes())
			}
		}
		if err := read(dst, row, n); err != nil {
			return err
		}
		for i, p := range all {
			if skip[i] {
				continue
			}
			at := int64(row) * int64(p.Cols*p.Type.Bytes())
			if err := w.w.WriteAt(f.below(name, p.Name), dst[i], at); err != nil {
				return err
			}
		}
		return nil
	}
	for range min(runtime.GOMAXPROCS(0), (rows+n-1)/n) {
		working.Go(func() {
			for {
				mu.Lock()
				row := next
				next += n
				stop := row >= rows || failed != nil
				mu.Unlock()
				if stop {
					return
				}
				err := ctx.Err()
				if err == nil {
					err = piece(row)
				}
				if err != nil {
					mu.Lock()
					if failed == nil || row < at {
						failed, at = err, row
					}
					mu.Unlock()
				}
			}
		})
	}
	working.Wait()
	return failed
}

// configFile is written last: without it a folder is no model.
const configFile = "config.json"

// sideFiles are the other files of a model: its tokenizer, its templates, and what its licence wants to go with it.
var sideFiles = []string{
	"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
	"vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json",
	"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "NOTICE.txt", "USE_POLICY.md",
}

// maxSideBytes bounds each of them; the largest tokenizers have some 30 MB.
const maxSideBytes = 256 << 20

// Commit completes the checkpoint. After an error the caller should Abort.
func (w *Writer) Commit() error {
	if err := w.commit(); err != nil {
		return fmt.Errorf("write model %s: %w", w.dir, err)
	}
	return nil
}

func (w *Writer) commit() error {
	for _, name := range sideFiles {
		text, err := w.source.ReadFile(name, maxSideBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = writeFile(filepath.Join(w.dir, name), text)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(w.closeShards(), w.w.Commit()); err != nil {
		return err
	}
	return writeFile(filepath.Join(w.dir, configFile), w.config)
}

// writeFile writes a file under another name first, so that none is there in part.
func writeFile(path string, text []byte) error {
	partial := path + ".partial"
	file, err := os.Create(partial)
	if err != nil {
		return err
	}
	_, err = file.ReadFrom(bytes.NewReader(text))
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return nil
}

// closeShards closes what Weight has opened.
func (w *Writer) closeShards() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for path, c := range w.open {
		errs = append(errs, c.Close())
		delete(w.open, path)
	}
	return errors.Join(errs...)
}

// Abort removes what has been written, unless Commit has succeeded; it may be deferred.
func (w *Writer) Abort() error { return errors.Join(w.closeShards(), w.w.Abort()) }
