package layers

import "eckart/kernels"

// Attention stores a layer's keys and values and attends to the cache. Query heads may outnumber key heads
// (grouped-query attention, Ainslie et al. 2023).
type Attention struct {
	Layer    int // whose cache it is
	ValueDim int // features of a head's value
	kernels.Attention
}

// RotaryStore is implemented by streams that rotate queries and keys and store keys and values in one pass: q is rotated in
// place, as Rotate does with heads, and keys on their way into the cache, as Store puts them there. k may be rotated or not
// afterwards. The bits are those of Rotate and Store.
type RotaryStore interface {
	RotateStore(kv kernels.Pages, q, k, v, angles, slots kernels.Mat, heads int)
}

// Out rotates q (tokens, heads·dim) and k (tokens, key heads·dim), stores k and v, and returns attention of q over all that
// is stored, in scratch: (tokens, heads·ValueDim). q and k are used up.
func (a *Attention) Out(p *Pass, r *Rope, q, k, v kernels.Mat) kernels.Mat {
	kv := p.KV(a.Layer)
	if s, ok := p.Stream.(RotaryStore); ok {
		s.RotateStore(kv, q, k, v, r.table(p), p.Slots, a.Heads)
	} else {
		r.Apply(p, q, a.Heads, k, kv.Heads)
		p.Store(kv, k, v, p.Slots)
	}
	y := p.Mat(q.Rows, a.Heads*a.ValueDim)
	p.Attend(y, q, kv, p.Seqs, a.Attention)
	return y
}
