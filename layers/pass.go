// Package layers says what a layer computes and what a stored weight is. A Weight is a matrix as a checkpoint stores
// it, equal on every machine; bound to a device it becomes a Linear, which alone knows tile orders and padding. Layers
// speak to the device through the verbs of kernels.Stream, in scratch that a Pass hands out.
package layers

import (
	"fmt"

	"eckart/kernels"
)

// A Pass is one forward pass in flight: the stream its verbs run on, the sequences it serves, the cache, and scratch
// that is taken and released as a stack. Nothing in it allocates.
type Pass struct {
	kernels.Stream

	Seqs   kernels.Seqs
	Slots  kernels.Mat                      // (rows, 1): where each row's key and value go, -1 for padding
	KV     func(layer int) kernels.Pages    // the cache of one layer
	Tables []kernels.Mat                    // rotary tables of this step, by Rope.Index: (rows, 2·pairs)
	Probe  func(name string, m kernels.Mat) // sees named values as they are made; nil outside tests and calibration

	scratch Scratch
}

// NewPass returns a pass that runs on s with the given scratch.
func NewPass(s kernels.Stream, scratch Scratch) *Pass { return &Pass{Stream: s, scratch: scratch} }

// A Scratch is the memory behind Pass.Mat. Its zero value has no memory: it hands out matrices without any and counts,
// which together with kernels.Discard tells what a pass needs.
type Scratch struct {
	mem        kernels.Mat // (1, elements) F32
	used, peak int         // elements
}

// NewScratch returns a scratch of the given bytes from a.
func NewScratch(a kernels.Arena, bytes int64) (Scratch, error) {
	m, err := a.Alloc(1, int(bytes/4), kernels.F32)
	return Scratch{mem: m}, err
}

// Mark remembers how much scratch is in use, for Release.
func (p *Pass) Mark() int { return p.scratch.used }

// Mat takes an F32 matrix (rows, cols) from the scratch. Its old content is undefined.
func (p *Pass) Mat(rows, cols int) kernels.Mat {
	s := &p.scratch
	from := s.used
	s.used += int(kernels.ArenaBytes(rows, cols, kernels.F32) / 4)
	s.peak = max(s.peak, s.used)
	m := kernels.Mat{Rows: rows, Cols: cols, Stride: cols, Type: kernels.F32}
	if s.mem.Cols == 0 {
		return m
	}
	if s.used > s.mem.Cols {
		panic(fmt.Sprintf("BUG: scratch of %d elements, %d wanted", s.mem.Cols, s.used))
	}
	m.Span = s.mem.Window(from, s.used-from).Span
	return m
}

// Release gives back all scratch taken since mark.
func (p *Pass) Release(mark int) { p.scratch.used = mark }

// PeakScratch returns the most bytes of scratch that were in use at once.
func (p *Pass) PeakScratch() int64 { return int64(p.scratch.peak) * 4 }

// Tap shows m to the probe, if there is one.
func (p *Pass) Tap(name string, m kernels.Mat) {
	if p.Probe != nil {
		p.Probe(name, m)
	}
}
