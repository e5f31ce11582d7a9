package kvcache

import (
	"fmt"

	"eckart/kernels"
)

// A Spec says how one layer keeps one token.
type Spec struct {
	Heads            int // key heads
	KeyDim, ValueDim int // features of a head
	Window           int // tokens attended to, 0 for all; blocks behind the window are kept all the same
}

// check returns an error that names what of the spec cannot be.
func (s Spec) check() error {
	switch {
	case s.Heads < 1:
		return fmt.Errorf("heads must be at least 1, got %d", s.Heads)
	case s.KeyDim < 1 || s.ValueDim < 1:
		return fmt.Errorf("key and value widths must be at least 1, got %d and %d", s.KeyDim, s.ValueDim)
	case s.Window < 0:
		return fmt.Errorf("window must not be negative, got %d", s.Window)
	}
	return nil
}

// BlockBytes returns the bytes that a block of blockTokens tokens takes over all layers, without the padding of Bytes.
func BlockBytes(specs []Spec, t kernels.DType, blockTokens int) int64 {
	var n int64
	for _, s := range specs {
		n += int64(s.Heads) * int64(s.KeyDim+s.ValueDim)
	}
	return n * int64(blockTokens) * int64(t.Bytes())
}

// Bytes returns the bytes that New takes from its arena, padding included.
func Bytes(specs []Spec, t kernels.DType, blockTokens, blocks int) int64 {
	var n int64
	for _, s := range specs {
		n += kernels.ArenaBytes(blocks, s.Heads*blockTokens*s.KeyDim, t)
		n += kernels.ArenaBytes(blocks, s.Heads*blockTokens*s.ValueDim, t)
	}
	return n
}
