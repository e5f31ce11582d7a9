package model

import (
	"slices"

	"eckart/layers"
)

// The tables of a model: a row for each id of the vocabulary.
const (
	embedName = "model.embed_tokens"
	headName  = "lm_head"
)

// A Quantization says how the matrices of a model are rounded. nil leaves them as they are stored.
type Quantization struct {
	Blocks *layers.Rounding // the matrices of the blocks
	Tables *layers.Rounding // the embedding and the head, which may be one matrix
}

// A QuantizedSource gives the dense matrices of another source rounded. They are rounded as they are bound, row by row,
// so that the model never exists unrounded in memory.
type QuantizedSource struct {
	Source
	how  Quantization
	kept map[string]bool
}

// Quantize returns src with its dense matrices rounded. Norms, biases, and matrices of other kinds stay as they are.
func Quantize(src Source, how Quantization) *QuantizedSource {
	return &QuantizedSource{src, how, map[string]bool{}}
}

// Unwrap returns the source that this one rounds.
func (q *QuantizedSource) Unwrap() Source { return q.Source }

// Kept returns the names of the matrices that were asked for so far and are stored in another kind than dense, so that
// they were left alone.
func (q *QuantizedSource) Kept() []string {
	var names []string
	for name := range q.kept {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Weight implements Source.
func (q *QuantizedSource) Weight(name string) (layers.Weight, error) {
	w, err := q.Source.Weight(name)
	if err != nil {
		return nil, err
	}
	r := q.how.Blocks
	if name == embedName+".weight" || name == headName+".weight" {
		r = q.how.Tables
	}
	if r == nil {
		return w, nil
	}
	dense, ok := w.(*layers.Dense)
	if !ok {
		q.kept[name] = true
		return w, nil
	}
	return layers.Quantize(dense, *r, nil)
}
