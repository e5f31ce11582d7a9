package cpu

import (
	"unsafe"

	"eckart/kernels"
)

// chunkTokens is how many tokens the assembly of attention takes for the unit of the cache.
const chunkTokens = 16

// layout says how elements lie in a block of the cache: keys as (head, chunk, feature, token of the chunk), values as
// (head, chunk, token, feature). The scores of neighbouring tokens are then one vector, and so are the features of a
// value; and what a head reads of a chunk is one stretch.
type layout struct {
	chunk        int // tokens of a chunk: a power of two that divides a block, chunkTokens at most
	chunks       int // of a block
	elementBytes int
}

func layoutOf(kv kernels.Pages) layout {
	chunk := kv.BlockTokens & -kv.BlockTokens
	chunk = min(chunk, chunkTokens)
	return layout{chunk, kv.BlockTokens / chunk, kv.K.Type.Bytes()}
}

// widen sets dst to the elements at byte n of m as F32.
func (l layout) widen(dst []float32, m kernels.Mat, n int) {
	switch p := at(m, n); m.Type {
	case kernels.F32:
		copy(dst, unsafe.Slice((*float32)(p), len(dst)))
	case kernels.F16:
		for i, b := range unsafe.Slice((*uint16)(p), len(dst)) {
			dst[i] = float32FromF16(b)
		}
	case kernels.BF16:
		for i, b := range unsafe.Slice((*uint16)(p), len(dst)) {
			dst[i] = float32FromBF16(b)
		}
	}
}

// storeTask is Store in pieces of some rows.
type storeTask struct {
	kv          kernels.Pages
	k, v, slots kernels.Mat
	code        *attentionCode
	layout      layout
	rows        int        // of a chunk
	halves      [][]uint16 // for each worker: a row, narrowed
}

// Store implements kernels.Stream.
func (s *Stream) Store(kv kernels.Pages, k, v, slots kernels.Mat) {
	t := &s.store
	t.kv, t.k, t.v, t.slots, t.code, t.layout = kv, k, v, slots, &s.code.attention, layoutOf(kv)
	width := max(k.Cols, v.Cols)
	if t.halves == nil {
		t.halves = make([][]uint16, s.pool.threads)
	}
	if len(t.halves[0]) < width {
		for i := range t.halves {
			t.halves[i] = make([]uint16, width)
		}
	}
	t.rows = 1 + chunkElements/(k.Cols+v.Cols)
	s.pool.run((k.Rows+t.rows-1)/t.rows, t)
	t.kv, t.k, t.v, t.slots = kernels.Pages{}, kernels.Mat{}, kernels.Mat{}, kernels.Mat{}
}

func (t *storeTask) do(worker, chunk int) {
	for i := chunk * t.rows; i < min((chunk+1)*t.rows, t.k.Rows); i++ {
		slot := int(t.slots.Int32s(i)[0])
		if slot < 0 {
			continue
		}
		block, token := slot/t.kv.BlockTokens, slot%t.kv.BlockTokens
		place, token := token/t.layout.chunk, token%t.layout.chunk
		if t.kv.K.Type == kernels.F32 {
			storeRow(t, t.kv.K.Float32s(block), t.kv.V.Float32s(block), t.k.Float32s(i), t.v.Float32s(i), place, token)
			continue
		}
		halves := t.halves[worker]
		t.narrow(halves, t.k.Float32s(i))
		storeKeys(t, t.kv.K.Uint16s(block), halves, place, token)
		t.narrow(halves, t.v.Float32s(i))
		storeValues(t, t.kv.V.Uint16s(block), halves, place, token)
	}
}

func storeRow(t *storeTask, keys, values, k, v []float32, place, token int) {
	storeKeys(t, keys, k, place, token)
	storeValues(t, values, v, place, token)
}

// storeKeys puts the keys of a token into a block.
func storeKeys[T float32 | uint16](t *storeTask, block, k []T, place, token int) {
	dim, chunk := t.kv.KeyDim, t.layout.chunk
	for h := range t.kv.Heads {
		to := block[(h*t.layout.chunks+place)*chunk*dim:][:chunk*dim]
		for _, f := range k[h*dim : (h+1)*dim] {
			to[token] = f
			to = to[min(chunk, len(to)):]
		}
	}
}

// storeValues puts the values of a token into a block.
func storeValues[T float32 | uint16](t *storeTask, block, v []T, place, token int) {
	dim, chunk := t.kv.ValueDim, t.layout.chunk
	for h := range t.kv.Heads {
		copy(block[((h*t.layout.chunks+place)*chunk+token)*dim:][:dim], v[h*dim:(h+1)*dim])
	}
}

// narrow rounds src to the type of the cache.
func (t *storeTask) narrow(dst []uint16, src []float32) {
	n := 0
	if f := t.code.narrow[t.kv.K.Type]; f != nil && len(src) >= 16 {
		n = len(src) / 16 * 16
		f(&dst[0], &src[0], n)
	}
	for i, f := range src[n:] {
		if t.kv.K.Type == kernels.F16 {
			dst[n+i] = f16FromFloat32(f)
		} else {
			dst[n+i] = bf16FromFloat32(f)
		}
	}
}
