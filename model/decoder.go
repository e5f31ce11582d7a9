package model

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/layers"
)

// A Block is one layer of a decoder.
type Block interface {
	// Forward replaces the hidden state x (tokens, dim) by the next one.
	Forward(p *layers.Pass, x kernels.Mat)
	// KV says how the block keeps a token in the cache.
	KV() kvcache.Spec
}

// A Decoder is a model bound to a device: an embedding table, blocks, a norm and a head. It may be used by one
// goroutine at a time.
type Decoder struct {
	config Config
	embed  layers.Rows
	ropes  []*layers.Rope
	blocks []Block
	norm   layers.RMSNorm
	head   layers.Linear
	names  []string // of the probes after each block
	read   int64    // bytes of weights that a step reads
}

// Load binds the weights of src to the device that arena and stream belong to. progress, which may be nil, hears the
// bytes bound so far and in all. All that is missing, misshapen or unknown comes in one *LoadError.
func Load(src Source, a kernels.Arena, s kernels.Stream, progress func(done, total int64)) (*Decoder, error) {
	c, err := ParseConfig(src.Config())
	if err != nil {
		return nil, err
	}
	var total int64
	if progress != nil {
		var count kernels.Counter
		if _, err := load(c, src, &count, kernels.Discard{}, nil, 0); err != nil {
			return nil, err
		}
		total = count.Used()
	}
	return load(c, src, a, s, progress, total)
}

func load(c Config, src Source, a kernels.Arena, s kernels.Stream, progress func(done, total int64), total int64) (*Decoder, error) {
	l := newLoader(src, a, s)
	l.progress, l.total = progress, total
	d := &Decoder{config: c}
	table := l.Table(embedName, c.Vocab, c.Dim)
	for i := range c.Layers {
		d.blocks = append(d.blocks, l.block(c, i))
		d.names = append(d.names, blockName(i))
	}
	d.norm = l.RMSNorm(normName, c.Dim, c.Eps)
	if c.TiedHead {
		d.head = table
		if err := l.tiedHead(); err != nil {
			return nil, err
		}
	} else {
		d.head = l.Table(headName, c.Vocab, c.Dim)
	}
	if err := l.finish(); err != nil {
		return nil, err
	}
	d.embed = table.(layers.Rows)
	d.read = l.read + d.head.Bytes()
	d.ropes = l.ropes
	return d, nil
}

// blockName returns the name of block layer, under which its weights are.
func blockName(layer int) string { return "model.layers." + strconv.Itoa(layer) }

// block builds block layer.
func (l Loader) block(c Config, layer int) Block {
	return architectures[c.Architecture](l.In(blockName(layer)), c, layer)
}

// tiedHead accepts an lm_head beside tie_word_embeddings only as a copy of the embedding table: some exporters write
// one. Where the two differ, config.json and the weights contradict each other, and either choice could be wrong.
func (l Loader) tiedHead() error {
	const head, table = headName + ".weight", embedName + ".weight"
	src := innermost(l.src) // what is stored is compared, not what a wrapper makes of it
	w, err := src.Weight(head)
	if err != nil {
		return nil // absent, as it should be
	}
	l.asked[head] = true
	t, err := src.Weight(table)
	if err != nil {
		return nil // reported as missing
	}
	p, q := w.Parts(), t.Parts()
	same := slices.EqualFunc(p, q, func(p, q layers.Part) bool {
		return p.Name == q.Name && p.Type == q.Type && p.Rows == q.Rows && p.Cols == q.Cols
	})
	// The bytes are compared once, when the weights are bound: a pass that only counts reads none.
	if _, counts := l.arena.(*kernels.Counter); !counts {
		for i := 0; same && err == nil && i < len(p); i++ {
			same, err = equalBytes(p[i], q[i])
		}
	}
	if err == nil && !same {
		err = fmt.Errorf("load weights: tie_word_embeddings is true and lm_head.weight differs from model.embed_tokens.weight")
	}
	return layers.Named(err, head)
}

// equalBytes reports whether two parts of one type and shape hold the same bytes.
func equalBytes(p, q layers.Part) (bool, error) {
	rowBytes := p.Cols * p.Type.Bytes()
	n := max(1, (1<<20)/rowBytes)
	x, y := make([]byte, n*rowBytes), make([]byte, n*rowBytes)
	for row := 0; row < p.Rows; row += n {
		size := min(n, p.Rows-row) * rowBytes
		if err := p.Read(x[:size], row); err != nil {
			return false, err
		}
		if err := q.Read(y[:size], row); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:size], y[:size]) {
			return false, nil
		}
	}
	return true, nil
}

// Config returns what config.json says.
func (d *Decoder) Config() Config { return d.config }

// ReadBytes returns the bytes of weights that a step reads: all of them, but for an embedding table that is not the head
// too, of which a step looks up some rows.
func (d *Decoder) ReadBytes() int64 { return d.read }

// Specs returns how each layer keeps a token in the cache.
func (d *Decoder) Specs() []kvcache.Spec {
	specs := make([]kvcache.Spec, len(d.blocks))
	for i, b := range d.blocks {
		specs[i] = b.KV()
	}
	return specs
}

// A Footprint is what a model needs of a device besides its cache.
type Footprint struct {
	Weights   int64 // bytes
	Workspace int64 // bytes of step inputs and scratch
	Specs     []kvcache.Spec
}

// Measure returns the footprint of a model whose steps stay within l. It reads headers and no weights, and allocates
// nothing on a device.
func Measure(src Source, l Limits) (Footprint, error) {
	var weights, workspace kernels.Counter
	d, err := Load(src, &weights, kernels.Discard{}, nil)
	if err != nil {
		return Footprint{}, err
	}
	if _, err := d.NewBatch(&workspace, kernels.Discard{}, nil, l); err != nil {
		return Footprint{}, err
	}
	return Footprint{Weights: weights.Used(), Workspace: workspace.Used(), Specs: d.Specs()}, nil
}

// Forward runs the model over a batch and returns the logits (samples, vocab) of the rows that asked for them, in the
// order they were added. They are valid until the next Forward of the batch. Without samples there are no logits.
func (d *Decoder) Forward(b *Batch) (kernels.Mat, error) {
	d.Start(b)
	logits, _, err := d.Finish(b)
	return logits, err
}

// ForwardAll runs the model over a batch and hands use the logits (rows, vocab) of every row of it, at most
// Limits.Samples of them at a time and in order; first is the row of the batch that they begin with. They are valid
// until use returns. An error of use ends it.
func (d *Decoder) ForwardAll(b *Batch, use func(first int, logits kernels.Mat) error) error {
	b.upload()
	p := b.pass
	p.Release(0)
	n := b.Rows()
	logits := p.Mat(min(n, b.limits.Samples), d.config.Vocab)
	x := d.hidden(b)
	d.norm.Apply(p, x)
	p.Tap(normName, x)
	for first := 0; first < n; first += logits.Rows {
		part := logits.Slice(0, min(logits.Rows, n-first))
		d.head.Apply(p, part, x.Slice(first, part.Rows), kernels.Set)
		if err := p.Sync(); err != nil {
			return err
		}
		if err := use(first, part); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) forward(b *Batch) kernels.Mat {
	p := b.pass
	p.Release(0)
	samples := len(b.samples.host)
	logits := p.Mat(samples, d.config.Vocab)
	x := d.hidden(b)
	if samples == 0 {
		return logits
	}
	h := p.Mat(samples, d.config.Dim)
	p.Gather(h, x, b.samples.mat)
	d.norm.Apply(p, h)
	p.Tap(normName, h)
	d.head.Apply(p, logits, h, kernels.Set)
	return logits
}

// hidden returns the hidden states after the last block, in scratch: (rows, dim).
func (d *Decoder) hidden(b *Batch) kernels.Mat {
	p := b.pass
	x := p.Mat(b.Rows(), d.config.Dim)
	d.embed.Embed(p, x, b.ids.mat)
	p.Tap(embedName, x)
	for i, r := range d.ropes {
		p.Tables[i] = r.Out(p, b.pos.mat)
	}
	for i, blk := range d.blocks {
		blk.Forward(p, x)
		p.Tap(d.names[i], x)
	}
	return x
}
