package model

import (
	"errors"
	"fmt"
	"slices"

	"eckart/kernels"
	"eckart/layers"
)

// A spareArena is kept from a block that was closed for the next one: blocks are bound again and again, and new memory takes
// the system longer to find than weights take to be read into it.
type spareArena struct {
	kernels.Arena
	size int64
}

func (s *spareArena) close() error {
	a := s.Arena
	*s = spareArena{}
	if a == nil {
		return nil
	}
	return a.Close()
}

// A WalkedBlock is a block of a Walker, bound to the device.
type WalkedBlock struct {
	w       *Walker
	layer   int
	weights spareArena
	block   Block
	ropes   []*layers.Rope
	sites   []Site
	scratch int64 // bytes that it needs for a sequence of Walker.Window tokens
}

// bind binds the block's weights in the walker's spare arena, or in one made anew where that is too small.
func (b *WalkedBlock) bind(src Source) error {
	var count kernels.Counter
	if err := b.build(src, &count); err != nil {
		return err
	}
	w := b.w
	b.weights, w.spare = w.spare, spareArena{}
	if need := count.Used(); b.weights.size < need {
		if err := b.weights.close(); err != nil {
			return err
		}
		a, err := w.device.NewArena(need)
		if err != nil {
			return err
		}
		b.weights = spareArena{a, need}
	}
	if err := b.build(src, b.weights); err != nil {
		return errors.Join(err, b.weights.close())
	}
	return nil
}

// build binds the block's weights in a and finds out, on a stream that does nothing, what it reads and needs.
func (b *WalkedBlock) build(src Source, a kernels.Arena) error {
	l := newLoader(src, a, b.w.streamFor(a))
	b.block = l.block(b.w.config, b.layer)
	if err := l.failure(); err != nil {
		return err
	}
	b.ropes = l.ropes
	b.sites = nil
	p := layers.NewPass(kernels.Discard{}, layers.Scratch{})
	p.KV = func(int) kernels.Pages { return kernels.Pages{} }
	p.Probe = func(name string, _ kernels.Mat) {
		if i := slices.IndexFunc(l.sites, func(s Site) bool { return s.Name == name }); i >= 0 {
			site := l.sites[i]
			site.Layer = b.layer
			b.sites = append(b.sites, site)
		}
	}
	n := b.w.Window()
	b.forward(p, kernels.Mat{Rows: n, Cols: b.w.config.Dim, Stride: b.w.config.Dim}, kernels.Mat{Rows: n, Cols: 1, Stride: 1, Type: kernels.I32})
	b.scratch = p.PeakScratch()
	return nil
}

// forward runs the block on x, whose rows have the given positions.
func (b *WalkedBlock) forward(p *layers.Pass, x, positions kernels.Mat) {
	p.Tables = p.Tables[:0]
	for _, r := range b.ropes {
		p.Tables = append(p.Tables, r.Out(p, positions))
	}
	b.block.Forward(p, x)
}

// Close frees the block's weights. The larger of their memory and what is spare is kept for another block, while the walker is
// open.
func (b *WalkedBlock) Close() error {
	w, keep, drop := b.w, b.weights, b.w.spare
	b.weights, w.spare = spareArena{}, spareArena{}
	if keep.size < drop.size {
		keep, drop = drop, keep
	}
	if w.inputs == nil || keep.Arena == nil {
		return errors.Join(drop.close(), keep.close())
	}
	if err := keep.Reset(); err != nil {
		return errors.Join(err, drop.close(), keep.close())
	}
	w.spare = keep
	return drop.close()
}

// Sites returns the block's sites in the order in which it reads them.
func (b *WalkedBlock) Sites() []Site { return b.sites }

// Forward replaces hidden (tokens, dim), the state of one sequence, by the next one. probe, unless it is nil, is shown
// the input x (tokens, Site.In) of each site in turn, as it is computed; x may have gaps between its rows (Read has none)
// and is valid until probe returns, whose error ends the pass and leaves hidden as it was.
func (b *WalkedBlock) Forward(hidden []float32, probe func(site string, x kernels.Mat) error) error {
	return b.replace(probe, hidden)
}

// ForwardAll is Forward for several states, without a probe. As many of them go through the block at once as a window has
// room for, with the same results: short ones take less time so.
func (b *WalkedBlock) ForwardAll(hidden ...[]float32) error {
	limits := b.w.batch.limits
	for len(hidden) > 0 {
		n, rows, blocks := 0, 0, 0
		for ; n < len(hidden); n++ {
			tokens := b.w.rows(hidden[n])
			if rows, blocks = rows+tokens, blocks+blocksOf(tokens); rows > limits.Rows || blocks > limits.Blocks {
				break
			}
		}
		if err := b.replace(nil, hidden[:n]...); err != nil {
			return err
		}
		hidden = hidden[n:]
	}
	return nil
}

// replace does Forward for states that a window has room for together.
func (b *WalkedBlock) replace(probe func(site string, x kernels.Mat) error, hidden ...[]float32) error {
	x, err := b.run(probe, hidden...)
	if err != nil {
		return err
	}
	row := 0
	for _, h := range hidden {
		n := b.w.rows(h)
		b.w.stream.Download(kernels.Float32Bytes(h), x.Slice(row, n))
		row += n
	}
	return b.named(b.w.stream.Sync())
}

// errStop ends a pass of which no more is wanted.
var errStop = errors.New("stop")

// Until runs the block on hidden (tokens, dim) up to the input x (tokens, Site.In) of a site, and no further. x is as
// Forward shows it to a probe. hidden stays as it is.
func (b *WalkedBlock) Until(hidden []float32, site string, use func(x kernels.Mat) error) error {
	if !slices.ContainsFunc(b.sites, func(s Site) bool { return s.Name == site }) {
		return b.named(fmt.Errorf("there is no site %s", site))
	}
	_, err := b.run(func(name string, x kernels.Mat) error {
		if name != site {
			return nil
		}
		if err := use(x); err != nil {
			return err
		}
		return errStop
	}, hidden)
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// run runs the block on copies of states and returns the results below one another. Once probe has returned an error, the
// verbs that are left do nothing.
func (b *WalkedBlock) run(probe func(site string, x kernels.Mat) error, hidden ...[]float32) (kernels.Mat, error) {
	w := b.w
	if err := w.keep(b.block.KV()); err != nil {
		return kernels.Mat{}, b.named(err)
	}
	sequences := make([][]int32, len(hidden))
	for i, h := range hidden {
		sequences[i] = make([]int32, w.rows(h))
	}
	x, err := w.begin(b.scratch, sequences...)
	if err != nil {
		return kernels.Mat{}, b.named(err)
	}
	p := w.batch.pass
	row := 0
	for i, h := range hidden {
		p.Upload(x.Slice(row, len(sequences[i])), kernels.Float32Bytes(h))
		row += len(sequences[i])
	}
	p.KV = func(int) kernels.Pages { return w.pages }
	p.Probe = func(name string, m kernels.Mat) {
		if probe == nil || err != nil || !slices.ContainsFunc(b.sites, func(s Site) bool { return s.Name == name }) {
			return
		}
		if err = p.Sync(); err == nil {
			err = probe(name, m)
		}
		if err != nil {
			p.Stream = kernels.Discard{}
		}
	}
	b.forward(p, x, w.batch.pos.mat)
	p.Stream, p.Probe = w.stream, nil
	return x, b.named(errors.Join(err, p.Sync()))
}

// named returns err with the name of the block.
func (b *WalkedBlock) named(err error) error {
	if err == nil || errors.Is(err, errStop) {
		return err
	}
	return fmt.Errorf("walk block %d: %w", b.layer, err)
}
