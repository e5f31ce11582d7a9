package quantized

import (
	"encoding/binary"

	"eckart/layers"
)

// unpack sets dst to codes of the given bits, which lie in little-endian words as one stream, low bits first.
func unpack(dst, words []byte, bits int) {
	switch bits {
	case 8:
		copy(dst, words)
		return
	case 4:
		n := len(dst) / 8
		for i := range n {
			binary.LittleEndian.PutUint64(dst[8*i:], nibbles(binary.LittleEndian.Uint32(words[4*i:])))
		}
		for i := 8 * n; i < len(dst); i++ {
			dst[i] = words[i/2] >> (i % 2 * 4) & 15
		}
		return
	}
	layers.UnpackBits(dst, words, len(dst), bits)
}

// nibbles spreads the eight nibbles of a word over bytes, the lowest first.
func nibbles(w uint32) uint64 {
	x := uint64(w)
	x = (x | x<<16) & 0x0000ffff_0000ffff
	x = (x | x<<8) & 0x00ff00ff_00ff00ff
	return (x | x<<4) & 0x0f0f0f0f_0f0f0f0f
}

// streamWords returns the words of 32 bits that n codes fill.
func streamWords(n, bits int) int { return (n*bits + 31) / 32 }
