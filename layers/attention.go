package layers

import "eckart/kernels"

// Attention stores a layer's keys and values and attends to the cache. Query heads may outnumber key heads
// (grouped-query attention, Ainslie et al. 2023).
type Attention struct {
	Layer    int // whose cache it is
	ValueDim int // features of a head's value
	kernels.Attention
}

// Out stores k and v (tokens, key heads·dim) and returns attention of q (tokens, heads·dim) over all that is stored, in
// scratch: (tokens, heads·ValueDim).
func (a *Attention) Out(p *Pass, q, k, v kernels.Mat) kernels.Mat {
	kv := p.KV(a.Layer)
	p.Store(kv, k, v, p.Slots)
	y := p.Mat(q.Rows, a.Heads*a.ValueDim)
	p.Attend(y, q, kv, p.Seqs, a.Attention)
	return y
}
