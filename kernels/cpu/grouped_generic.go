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
	c := groupedCode{panel: genericPanel, record: recordGeneric}
	for _, bits := range []int{8, 4, 3, 2} {
		f := func(sums *float32, x, w *byte, tokens, blocks, groupBlocks, scaleType int, zeros bool) {
			productsGeneric(sums, x, w, tokens, blocks, groupBlocks, scaleType, zeros, bits)
		}
		c.one[bits], c.some[bits] = f, f
	}
	return c
}

// withFloats returns c with plain Go for what it lacks to multiply floats; panels have 8 rows then.
func withFloats(c groupedCode) groupedCode {
	if c.floats != nil {
		return c
	}
	c.floats = floatsGeneric
	for _, bits := range []int{8, 4, 3, 2} {
		c.unpack[bits] = func(dst *float32, w *byte, blocks, groupBlocks, scaleType int, zeros bool) {
			unpackGeneric(dst, w, blocks, groupBlocks, scaleType, zeros, bits)
		}
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

// genericPanel is the rows of a panel in plain Go.
const genericPanel = 8

// panelOf returns the matrix that a panel is.
func panelOf(w *byte, blocks, groupBlocks, scaleType int, zeros bool, bits int) (kernels.Grouped, groupedLayout) {
	g := kernels.Grouped{
		Rows: genericPanel, Cols: blocks * kernels.GroupedBlock, Bits: bits, Group: groupBlocks * kernels.GroupedBlock,
		ScaleType: kernels.DType(scaleType), Zeros: zeros,
	}
	l := groupedLayoutOf(g, genericPanel)
	g.Packed.Host = unsafe.Slice(w, l.panelBytes)
	return g, l
}

// productsGeneric is a groupedFunc for codes of bits bits.
func productsGeneric(sums *float32, x, w *byte, tokens, blocks, groupBlocks, scaleType int, zeros bool, bits int) {
	const rows = genericPanel
	g, l := panelOf(w, blocks, groupBlocks, scaleType, zeros, bits)
	panel := g.Packed.Host
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

// unpackGeneric is an unpackFunc for codes of bits bits.
func unpackGeneric(dst *float32, w *byte, blocks, groupBlocks, scaleType int, zeros bool, bits int) {
	g, l := panelOf(w, blocks, groupBlocks, scaleType, zeros, bits)
	to := unsafe.Slice(dst, g.Rows*g.Cols)
	for r := range g.Rows {
		unpackGroupedRow(to[r:], g.Rows, g, &l, r)
	}
}

// floatsGeneric is a floatsFunc.
func floatsGeneric(sums, x, w *float32, tokens, xStride, cols int) {
	const rows = genericPanel
	weights := unsafe.Slice(w, cols*rows)
	to := unsafe.Slice(sums, tokens*rows)
	for t := range tokens {
		x := unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(x), t*xStride)), cols)
		var s [4][rows]float32
		for j, v := range x {
			i := j % 4
			if j >= cols/4*4 {
				i = 0
			}
			row := weights[j*rows:][:rows]
			for r := range s[i] {
				s[i][r] += v * row[r]
			}
		}
		for r := range rows {
			to[t*rows+r] = s[0][r] + s[2][r] + (s[1][r] + s[3][r])
		}
	}
}
