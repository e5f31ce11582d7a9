package model

import (
	"errors"
	"fmt"
	"slices"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/layers"
)

// A Site is an input that matrices of a block read: the hidden state after a norm (q, k and v; gate and up), or a single
// matrix's own (o; down). What is known of it holds for all matrices that read it.
type Site struct {
	Name    string // layers.Group.Site: "model.layers.0.self_attn.q_proj"
	Layer   int
	In      int          // columns
	Weights []SiteWeight // that read it, as the group lists them
}

// A SiteWeight is a matrix (Out, Site.In) that reads a site.
type SiteWeight struct {
	Name string // "model.layers.0.self_attn.q_proj.weight"
	Out  int
}

// walkBlockTokens is the number of tokens of a block of a Walker's cache, that of the commands: attention sums in the
// same order then.
const walkBlockTokens = 16

// LogitsRows are the rows whose logits a Walker has at once: those of a whole window would take 260 MB where the
// vocabulary has 128,000 tokens, and few rows a head that is widened for each of them.
const LogitsRows = 128

// A Walker runs a model one block at a time, so that memory holds one block and what belongs to one sequence; the hidden
// states of all sequences are the caller's, on the host. It computes what a Decoder computes, bit for bit. All sequences
// take a step before any takes the next: first Embed for each of them, then, block by block, Forward, and Logits at last.
// One goroutine at a time may use a Walker and its blocks.
type Walker struct {
	src    Source
	device kernels.Device
	stream kernels.Stream
	config Config

	inputs kernels.Arena
	batch  *Batch      // sequences of at most window tokens together
	x      kernels.Mat // their hidden states: (window, dim)

	// What blocks and tables share, made anew where one asks for more or for another.
	scratch kernels.Arena
	room    int64 // bytes of it
	spare   spareArena
	cache   kernels.Arena
	spec    kvcache.Spec
	pages   kernels.Pages
	table   *walkedTable
}

// NewWalker returns a walker over the weights of src for sequences of at most window tokens. It reads headers and no
// matrix, and holds the checkpoint against its config as Load does: all that is missing, misshapen or unknown comes in one
// *LoadError. Close frees what it holds.
func NewWalker(src Source, d kernels.Device, window int) (*Walker, error) {
	c, err := ParseConfig(src.Config())
	if err != nil {
		return nil, err
	}
	if window < 1 || window > c.MaxPositions {
		return nil, fmt.Errorf("walk model: a window of %d tokens is not within the %d positions that it was trained for", window, c.MaxPositions)
	}
	if _, err := load(c, src, new(kernels.Counter), kernels.Discard{}, nil, 0); err != nil {
		return nil, err
	}
	w := &Walker{src: src, device: d, config: c}
	if w.stream, err = d.NewStream(); err != nil {
		return nil, err
	}
	blocks := blocksOf(window)
	limits := Limits{Rows: window, Seqs: blocks, Blocks: blocks, BlockTokens: walkBlockTokens}
	w.inputs, err = reserve(d, func(a kernels.Arena) (err error) {
		if w.batch, err = newBatch(a, limits); err != nil {
			return err
		}
		w.x, err = a.Alloc(window, c.Dim, kernels.F32)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.batch.pass = layers.NewPass(w.stream, layers.Scratch{})
	return w, nil
}

// reserve makes an arena of the size that alloc takes from it. alloc runs twice, first on an arena that counts.
func reserve(d kernels.Device, alloc func(kernels.Arena) error) (kernels.Arena, error) {
	var count kernels.Counter
	if err := alloc(&count); err != nil {
		return nil, err
	}
	a, err := d.NewArena(count.Used())
	if err != nil {
		return nil, err
	}
	if err := alloc(a); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close frees what the walker holds. Its blocks are closed on their own.
func (w *Walker) Close() error {
	err := w.closeTable()
	for _, a := range []kernels.Arena{w.inputs, w.scratch, w.cache} {
		if a != nil {
			err = errors.Join(err, a.Close())
		}
	}
	w.inputs, w.scratch, w.cache = nil, nil, nil
	return errors.Join(err, w.spare.close())
}

// Config returns what config.json says.
func (w *Walker) Config() Config { return w.config }

// Source returns the source that the walker was made for.
func (w *Walker) Source() Source { return w.src }

// Layers returns the number of blocks.
func (w *Walker) Layers() int { return w.config.Layers }

// Window returns the most tokens of a sequence.
func (w *Walker) Window() int { return w.batch.limits.Rows }

// Device returns the device that the walker runs on.
func (w *Walker) Device() kernels.Device { return w.device }

// Stream returns the walker's stream, on which a probe may run verbs of its own.
func (w *Walker) Stream() kernels.Stream { return w.stream }

// Read copies the matrix x (rows, columns), which a probe was shown, to dst on the host, row by row without gaps.
func (w *Walker) Read(dst []float32, x kernels.Mat) error {
	if len(dst) != x.Rows*x.Cols {
		panic(fmt.Sprintf("BUG: read %d x %d elements into %d", x.Rows, x.Cols, len(dst)))
	}
	if x.Stride == x.Cols {
		w.stream.Download(kernels.Float32Bytes(dst), x)
	} else { // only packed matrices can be downloaded, and a single row is one
		for i := range x.Rows {
			w.stream.Download(kernels.Float32Bytes(dst[i*x.Cols:][:x.Cols]), x.Slice(i, 1))
		}
	}
	return w.stream.Sync()
}

// rows returns the tokens of a hidden state (tokens, dim).
func (w *Walker) rows(hidden []float32) int {
	n := len(hidden) / w.config.Dim
	if n < 1 || n > w.Window() || n*w.config.Dim != len(hidden) {
		panic(fmt.Sprintf("BUG: a hidden state of %d elements, width %d, at most %d rows", len(hidden), w.config.Dim, w.Window()))
	}
	return n
}

// begin makes the pass ready for sequences and returns their hidden states on the device, to be filled: (tokens, dim).
func (w *Walker) begin(scratch int64, sequences ...[]int32) (kernels.Mat, error) {
	b := w.batch
	if w.room < scratch {
		if err := w.grow(scratch); err != nil {
			return kernels.Mat{}, err
		}
	}
	b.Reset()
	blocks := make([]int32, b.limits.Blocks)
	for i := range blocks {
		blocks[i] = int32(i)
	}
	for _, ids := range sequences {
		n := blocksOf(len(ids))
		b.Add(ids, 0, blocks[:n], nil)
		blocks = blocks[n:]
	}
	b.upload()
	b.pass.Release(0)
	return w.x.Slice(0, b.Rows()), nil
}

// blocksOf returns the blocks of the cache that so many tokens take.
func blocksOf(tokens int) int { return (tokens + walkBlockTokens - 1) / walkBlockTokens }

// grow makes the scratch anew, with room for the given bytes.
func (w *Walker) grow(bytes int64) error {
	if w.scratch != nil {
		err := w.scratch.Close()
		w.scratch, w.room = nil, 0
		w.batch.pass = layers.NewPass(w.stream, layers.Scratch{})
		if err != nil {
			return err
		}
	}
	var err error
	if w.scratch, err = w.device.NewArena(bytes); err != nil {
		return err
	}
	s, err := layers.NewScratch(w.scratch, bytes)
	if err != nil {
		return err
	}
	w.batch.pass, w.room = layers.NewPass(w.stream, s), bytes
	return nil
}

// keep makes sure that the cache is one for a layer that keeps its tokens as spec says. Keys and values are kept in F32.
func (w *Walker) keep(spec kvcache.Spec) error {
	spec.Window = 0 // does not change what is kept
	if w.cache != nil {
		if spec == w.spec {
			return nil
		}
		err := w.cache.Close()
		w.cache = nil
		if err != nil {
			return err
		}
	}
	var err error
	w.cache, err = reserve(w.device, func(a kernels.Arena) error {
		c, err := kvcache.New(a, []kvcache.Spec{spec}, kernels.F32, walkBlockTokens, w.batch.limits.Blocks)
		if err == nil {
			w.spec, w.pages = spec, c.Layer(0)
		}
		return err
	})
	return err
}

// Embed sets hidden (tokens, dim) to the embeddings of ids, the tokens of one sequence.
func (w *Walker) Embed(hidden []float32, ids []int32) error {
	if n := w.rows(hidden); n != len(ids) {
		panic(fmt.Sprintf("BUG: a hidden state of %d rows for %d ids", n, len(ids)))
	}
	if i := slices.IndexFunc(ids, func(id int32) bool { return id < 0 || int(id) >= w.config.Vocab }); i >= 0 {
		return fmt.Errorf("embed tokens: id %d is not in the vocabulary of %d", ids[i], w.config.Vocab)
	}
	t, err := w.bindTable(embedName)
	if err != nil {
		return err
	}
	x, err := w.begin(t.scratch, ids)
	if err != nil {
		return err
	}
	t.table.(layers.Rows).Embed(w.batch.pass, x, w.batch.ids.mat)
	w.stream.Download(kernels.Float32Bytes(hidden), x)
	if err := w.stream.Sync(); err != nil {
		return fmt.Errorf("embed tokens: %w", err)
	}
	return nil
}

// Logits hands use the logits (rows, vocab) that follow from hidden (tokens, dim), states after the last block of whatever
// sequences, at most Window rows: some rows at a time and in order; first is the row of hidden that they begin with. They are
// valid until use returns, whose error ends it. hidden stays as it is.
func (w *Walker) Logits(hidden []float32, use func(first int, logits kernels.Mat) error) error {
	name := headName
	if w.config.TiedHead {
		name = embedName
	}
	t, err := w.bindTable(name)
	if err != nil {
		return err
	}
	n := w.rows(hidden)
	x, err := w.begin(t.scratch, make([]int32, n))
	if err != nil {
		return err
	}
	p := w.batch.pass
	p.Upload(x, kernels.Float32Bytes(hidden))
	t.norm.Apply(p, x)
	logits := p.Mat(min(n, LogitsRows), w.config.Vocab)
	for first := 0; first < n; first += logits.Rows {
		part := logits.Slice(0, min(logits.Rows, n-first))
		t.table.Apply(p, part, x.Slice(first, part.Rows), kernels.Set)
		if err := p.Sync(); err != nil {
			return fmt.Errorf("compute logits: %w", err)
		}
		if err := use(first, part); err != nil {
			return err
		}
	}
	return nil
}

// A walkedTable is the embedding or the head, bound while the states of all sequences pass it.
type walkedTable struct {
	name    string
	arena   kernels.Arena
	table   layers.Linear
	norm    layers.RMSNorm // before the head
	scratch int64          // bytes that it needs
}

// bindTable returns the table called name. It stays bound until another is, or a block.
func (w *Walker) bindTable(name string) (*walkedTable, error) {
	if w.table != nil && w.table.name == name {
		return w.table, nil
	}
	if err := errors.Join(w.closeTable(), w.spare.close()); err != nil {
		return nil, err
	}
	t := &walkedTable{name: name}
	var err error
	t.arena, err = reserve(w.device, func(a kernels.Arena) error {
		l := newLoader(w.src, a, w.streamFor(a))
		t.table = l.Table(name, w.config.Vocab, w.config.Dim)
		t.norm = l.RMSNorm(normName, w.config.Dim, w.config.Eps)
		if w.config.TiedHead {
			if err := l.tiedHead(); err != nil {
				return err
			}
		}
		return l.failure()
	})
	if err != nil {
		return nil, err
	}
	p := layers.NewPass(kernels.Discard{}, layers.Scratch{})
	rows := min(w.Window(), LogitsRows)
	t.table.Apply(p, p.Mat(rows, w.config.Vocab), kernels.Mat{Rows: rows, Cols: w.config.Dim, Stride: w.config.Dim}, kernels.Set)
	t.scratch = p.PeakScratch()
	w.table = t
	return t, nil
}

func (w *Walker) closeTable() error {
	if w.table == nil {
		return nil
	}
	err := w.table.arena.Close()
	w.table = nil
	return err
}

// streamFor returns the stream on which weights are brought into a.
func (w *Walker) streamFor(a kernels.Arena) kernels.Stream {
	if _, counts := a.(*kernels.Counter); counts {
		return kernels.Discard{}
	}
	return w.stream
}

// Sites returns the sites of block i in the order in which it reads them. It reads headers and no matrix.
func (w *Walker) Sites(i int) ([]Site, error) {
	b := &WalkedBlock{w: w, layer: i}
	if err := b.build(w.src, new(kernels.Counter)); err != nil {
		return nil, fmt.Errorf("walk block %d: %w", i, err)
	}
	return b.sites, nil
}

// Block binds block i with the weights of src, which is the walker's source or one that wraps it. Several blocks may be
// bound at once, of different sources too; each runs the sequence that it is given from its start. The embedding and the
// head are freed until they are asked for again.
func (w *Walker) Block(i int, src Source) (*WalkedBlock, error) {
	if i < 0 || i >= w.config.Layers {
		panic(fmt.Sprintf("BUG: block %d of %d", i, w.config.Layers))
	}
	if err := w.closeTable(); err != nil {
		return nil, err
	}
	b := &WalkedBlock{w: w, layer: i}
	if err := b.bind(src); err != nil {
		return nil, fmt.Errorf("walk block %d: %w", i, err)
	}
	return b, nil
}
