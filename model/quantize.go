package model

import "eckart/layers"

// What stands before and after the blocks. The embedding and the head are tables: a row for each id of the vocabulary.
const (
	embedName = "model.embed_tokens"
	normName  = "model.norm"
	headName  = "lm_head"
)

// Tables returns the modules of the tables, the head first: one where it is the embedding too.
func Tables(c Config) []string {
	if c.TiedHead {
		return []string{embedName}
	}
	return []string{headName, embedName}
}

// A Quantization says how the matrices of a model are rounded; nil leaves them as they are stored.
type Quantization struct {
	Blocks *layers.Rounding // the matrices of the blocks
	Tables *layers.Rounding // the embedding and the head, which may be one matrix
}

// A QuantizedSource gives the dense matrices of another source rounded. They are rounded as they are bound, row by row,
// so that the model is never in memory unrounded.
type QuantizedSource struct {
	Source
	how   Quantization
	asked map[string]roundedMatrix
}

type roundedMatrix struct {
	elements, before, after int64
	kept                    bool
}

// Quantize returns src with its dense matrices rounded. Norms, biases, and matrices of other kinds stay as they are.
func Quantize(src Source, how Quantization) *QuantizedSource {
	return &QuantizedSource{src, how, map[string]roundedMatrix{}}
}

// Unwrap returns the source that this one rounds.
func (q *QuantizedSource) Unwrap() Source { return q.Source }

// Weight implements Source.
func (q *QuantizedSource) Weight(name string) (layers.Weight, error) {
	w, err := q.Source.Weight(name)
	if err != nil {
		return nil, err
	}
	out, in := w.Dims()
	bytes := layers.StoredBytes(w)
	m := roundedMatrix{elements: int64(out) * int64(in), before: bytes, after: bytes}
	r := q.how.Blocks
	if name == embedName+".weight" || name == headName+".weight" {
		r = q.how.Tables
	}
	if r != nil {
		if dense, ok := w.(*layers.Dense); ok {
			rounded, err := layers.Quantize(dense, *r, nil)
			if err != nil {
				return nil, err
			}
			w, m.after = rounded, layers.StoredBytes(rounded)
		} else {
			m.kept = true
		}
	}
	q.asked[name] = m
	return w, nil
}

// A QuantizedSum is what rounding comes to, over the matrices that a model asked for.
type QuantizedSum struct {
	Elements      int64
	Before, After int64 // bytes
	Kept          int   // matrices left alone because they are stored in another kind than dense
}

// Sum returns what rounding comes to. A model has asked for all of its matrices once it was measured.
func (q *QuantizedSource) Sum() QuantizedSum {
	var s QuantizedSum
	for _, m := range q.asked {
		s.Elements += m.elements
		s.Before += m.before
		s.After += m.after
		if m.kept {
			s.Kept++
		}
	}
	return s
}

// BitsPerWeight returns the mean bits of an element after rounding, scales and zero points included.
func (s QuantizedSum) BitsPerWeight() float64 {
	return 8 * float64(s.After) / float64(max(1, s.Elements))
}
