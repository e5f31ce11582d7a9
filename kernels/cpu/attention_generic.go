package cpu

import (
	"math"
)

// The plain Go of attention: the reference for the assembly, and what runs where there is none or where heads or blocks
// have odd sizes.

// scoresGeneric computes the scores of n queries with the keys from up to to of a tile, in whole chunks.
func (t *attendTask) scoresGeneric(w *attendScratch, u *attendUnit, head, query, n, from, to int) {
	chunk, dim := t.layout.chunk, t.kv.KeyDim
	for c := from / chunk; c < to/chunk; c++ {
		keys := w.wide[:dim*chunk]
		t.layout.widen(keys, t.kv.K, w.keys[c])
		for i := query; i < query+n; i++ {
			q := t.q.Float32s(u.row + i/t.group)[(head*t.group+i%t.group)*dim:][:dim]
			s := w.scores[i*tileTokens+c*chunk:][:chunk]
			clear(s)
			for d, f := range q {
				for j, k := range keys[d*chunk:][:len(s)] {
					s[j] += f * k
				}
			}
		}
	}
}

// softmaxGeneric is the softmaxFunc of plain Go, over scores that all count; the first stands at place at of its tile.
func softmaxGeneric(scores []float32, at int, state []float32, width int, scale float32) {
	sums, top := state[width:width+stateSums], state[width+stateSums]
	for _, s := range scores {
		top = max(top, s)
	}
	if old := state[width+stateSums]; top != old {
		factor := float32(math.Exp(float64((old - top) * scale)))
		for i := range width + stateSums {
			state[i] *= factor
		}
		state[width+stateSums] = top
	}
	for i, s := range scores {
		scores[i] = float32(math.Exp(float64((s - top) * scale)))
		sums[(at+i)%stateSums] += scores[i]
	}
}

// valuesGeneric adds the weighted values of keys from up to to of a tile to n queries.
func (t *attendTask) valuesGeneric(w *attendScratch, query, n, from, to int, state []float32) {
	chunk, width := t.layout.chunk, t.kv.ValueDim
	for from < to {
		first := from % chunk
		tokens := min(chunk-first, to-from)
		values := w.wide[:tokens*width]
		t.layout.widen(values, t.kv.V, w.values[from/chunk]+first*width*t.layout.elementBytes)
		for i := query; i < query+n; i++ {
			y := t.state(state, i)[:width]
			for j, p := range w.scores[i*tileTokens+from:][:tokens] {
				for d, v := range values[j*width:][:len(y)] {
					y[d] += p * v
				}
			}
		}
		from += tokens
	}
}
