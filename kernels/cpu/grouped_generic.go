package cpu

import (
	"encoding/binary"
	"math"
	"unsafe"

	"eckart/kernels"
)

// The generic twins of the assembly for grouped matrices.

// groupedGeneric returns the code that runs where there is no assembly.
func groupedGeneric() groupedCode {
	c := groupedCode{panel: 8, record: recordGeneric}
	for _, bits := range []int{8, 4, 3, 2} {
		f := func(sums *float32, x, w *byte, tokens, blocks, groupBlocks, scaleType int, zeros bool) {
			productsGeneric(sums, x, w, tokens, blocks, groupBlocks, scaleType, zeros, bits)
		}
		c.one[bits], c.some[bits] = f, f
	}
	return c
}

// recordGeneric rounds blocks of GroupedBlock activations side by side to records that lie stride bytes apart.
func recordGeneric(dst *byte, x *float32, blocks, stride int) {
	all := unsafe.Slice(x, blocks*kernels.GroupedBlock)
	for i := range blocks {
		x := all[i*kernels.GroupedBlock:][:kernels.GroupedBlock]
		to := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(dst), i*stride)), recordBytes)
		var top uint32 // of magnitudes as bits: what is not finite is above all others
		for _, v := range x {
			top = max(top, math.Float32bits(v)&^(1<<31))
		}
		m := math.Float32frombits(top)
		scale, inverse := m/127, 127/m
		switch {
		case top >= 0x7f800000:
			scale = float32(math.NaN())
			inverse = 0
		case m < tiniest:
			scale, inverse = 0, 0
		}
		sum := int32(0)
		for j, v := range x {
			q := int32(0)
			if inverse != 0 {
				q = int32(math.RoundToEven(float64(v * inverse)))
			}
			to[j] = byte(q)
			sum += q
		}
		binary.NativeEndian.PutUint32(to[kernels.GroupedBlock:], math.Float32bits(scale))
		binary.NativeEndian.PutUint32(to[kernels.GroupedBlock+4:], uint32(sum))
	}
}

// productsGeneric is a groupedFunc for codes of bits bits and panels of 8 rows.
func productsGeneric(sums *float32, x, w *byte, tokens, blocks, groupBlocks, scaleType int, zeros bool, bits int) {
	const rows = 8
	l := groupedLayoutOf(kernels.Grouped{
		Rows: rows, Cols: blocks * kernels.GroupedBlock, Bits: bits, Group: groupBlocks * kernels.GroupedBlock, ScaleType: kernels.DType(scaleType), Zeros: zeros,
	}, rows)
	panel := unsafe.Slice(w, l.panelBytes)
	records := unsafe.Slice(x, blocks*tokens*recordBytes)
	to := unsafe.Slice(sums, tokens*rows)
	clear(to)
	var codes [kernels.GroupedBlock]byte
	for b := range blocks {
		group := panel[l.group(b/groupBlocks):]
		block := group[l.scaleBytes+l.zerosBytes+b%groupBlocks*l.blockBytes:]
		for r := range rows {
			l.unfold(&codes, block, r)
			scale, zero := groupedScale(group, kernels.DType(scaleType), r), int32(1)<<(bits-1)
			if zeros {
				zero = int32(group[l.scaleBytes+r])
			}
			for t := range tokens {
				record := records[(b*tokens+t)*recordBytes:][:recordBytes]
				dot := -zero * int32(binary.NativeEndian.Uint32(record[kernels.GroupedBlock+4:]))
				for c, q := range record[:kernels.GroupedBlock] {
					dot += int32(codes[c]) * int32(int8(q))
				}
				s := scale * math.Float32frombits(binary.NativeEndian.Uint32(record[kernels.GroupedBlock:]))
				to[t*rows+r] += float32(dot) * s
			}
		}
	}
}
