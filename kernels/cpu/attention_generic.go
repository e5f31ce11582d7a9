package cpu

import (
	"math"

	"eckart/kernels"
)

// Inside a block keys lie as (head, feature, token) and values as (head, token, feature): scores of neighbouring
// tokens are then one vector, and so are the features of a value.

func keyAt(kv kernels.Pages, head, feature, token int) int {
	return (head*kv.KeyDim+feature)*kv.BlockTokens + token
}

func valueAt(kv kernels.Pages, head, token, feature int) int {
	return (head*kv.BlockTokens+token)*kv.ValueDim + feature
}

func storeGeneric(kv kernels.Pages, k, v, slots kernels.Mat) {
	for i := range k.Rows {
		slot := int(slots.Int32s(i)[0])
		if slot < 0 {
			continue
		}
		block, token := slot/kv.BlockTokens, slot%kv.BlockTokens
		kr, vr := k.Float32s(i), v.Float32s(i)
		for h := range kv.Heads {
			for d := range kv.KeyDim {
				put(kv.K, block, keyAt(kv, h, d, token), kr[h*kv.KeyDim+d])
			}
			for d := range kv.ValueDim {
				put(kv.V, block, valueAt(kv, h, token, d), vr[h*kv.ValueDim+d])
			}
		}
	}
}

func put(m kernels.Mat, row, at int, f float32) {
	switch m.Type {
	case kernels.F32:
		m.Float32s(row)[at] = f
	case kernels.F16:
		m.Uint16s(row)[at] = f16FromFloat32(f)
	case kernels.BF16:
		m.Uint16s(row)[at] = bf16FromFloat32(f)
	}
}

func get(m kernels.Mat, row, at int) float32 {
	switch m.Type {
	case kernels.F32:
		return m.Float32s(row)[at]
	case kernels.F16:
		return float32FromF16(m.Uint16s(row)[at])
	default:
		return float32FromBF16(m.Uint16s(row)[at])
	}
}

// attendGeneric computes softmax(scale·q·kᵀ)·v with every score of a row at hand: two passes, no blocking.
func attendGeneric(y, q kernels.Mat, kv kernels.Pages, s kernels.Seqs, a kernels.Attention) {
	for i := range s.Count {
		from := int(s.From.Int32s(i)[0])
		first, last := int(s.Rows.Int32s(i)[0]), int(s.Rows.Int32s(i + 1)[0])
		blocks := s.Blocks.Int32s(i)
		for r := first; r < last; r++ {
			pos := from + r - first
			low := 0
			if a.Window > 0 {
				low = max(0, pos-a.Window+1)
			}
			scores := make([]float32, pos+1-low)
			for h := range a.Heads {
				attendRow(y.Float32s(r)[h*kv.ValueDim:(h+1)*kv.ValueDim], q.Float32s(r)[h*kv.KeyDim:(h+1)*kv.KeyDim],
					kv, h*kv.Heads/a.Heads, blocks, low, a.Scale, scores)
			}
		}
	}
}

// attendRow is one head of one row: positions low up to low+len(scores).
func attendRow(y, q []float32, kv kernels.Pages, head int, blocks []int32, low int, scale float32, scores []float32) {
	top := float32(math.Inf(-1))
	for j := range scores {
		block, token := int(blocks[(low+j)/kv.BlockTokens]), (low+j)%kv.BlockTokens
		var dot float32
		for d, f := range q {
			dot += f * get(kv.K, block, keyAt(kv, head, d, token))
		}
		scores[j] = dot * scale
		top = max(top, scores[j])
	}
	var sum float32
	for j, v := range scores {
		scores[j] = float32(math.Exp(float64(v - top)))
		sum += scores[j]
	}
	clear(y)
	for j, p := range scores {
		block, token := int(blocks[(low+j)/kv.BlockTokens]), (low+j)%kv.BlockTokens
		for d := range y {
			y[d] += p / sum * get(kv.V, block, valueAt(kv, head, token, d))
		}
	}
}
