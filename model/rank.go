package model

import (
	"errors"
	"fmt"

	"eckart/layers"
	"eckart/layers/lowrank"
)

// A RankedSource gives nested factors of another source cut to a share of their rank. Of their rows, the rest is never read.
type RankedSource struct {
	Source
	share  float64
	Before int64 // bytes of the nested factors of the source
	After  int64 // of what is left of them
	Nested int   // matrices that are nested
}

// CutRank returns src with the rank of its nested factors cut to a share, above 0 and at most 1: the most important
// directions, at least one. It is an error where no weight of src has nested factors.
func CutRank(src Source, share float64) (*RankedSource, error) {
	if !(share > 0 && share <= 1) {
		return nil, fmt.Errorf("cut the rank: a share of %g, want one above 0 and at most 1", share)
	}
	r := &RankedSource{Source: src, share: share}
	for _, name := range src.Names() {
		w, err := src.Weight(name)
		if err != nil {
			continue // a vector, or what loading will name
		}
		n, ok := w.(*lowrank.Nested)
		if !ok {
			continue
		}
		cut, err := n.Truncate(r.rank(n))
		if err != nil {
			return nil, fmt.Errorf("cut the rank of %s: %w", name, err)
		}
		r.Nested++
		r.Before += layers.StoredBytes(n)
		r.After += layers.StoredBytes(cut)
	}
	if r.Nested == 0 {
		return nil, errors.New("cut the rank: the model has no nested factors, which alone can be cut while they are loaded")
	}
	return r, nil
}

// rank returns what is left of the rank of n.
func (r *RankedSource) rank(n *lowrank.Nested) int { return max(1, int(r.share*float64(n.Rank())+0.5)) }

// Unwrap returns the source whose factors are cut.
func (r *RankedSource) Unwrap() Source { return r.Source }

// Weight implements Source.
func (r *RankedSource) Weight(name string) (layers.Weight, error) {
	w, err := r.Source.Weight(name)
	if err != nil {
		return nil, err
	}
	if n, ok := w.(*lowrank.Nested); ok {
		return n.Truncate(r.rank(n))
	}
	return w, nil
}
