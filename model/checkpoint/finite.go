package checkpoint

import (
	"encoding/binary"
	"fmt"
)

// ReadFinite is ReadAt for whole elements of weights. One that is infinite or not
// a number would spoil every result, so it is an error, which names it.
func (c *Checkpoint) ReadFinite(dst []byte, t *Tensor, offset int64) error {
	if err := c.ReadAt(dst, t, offset); err != nil {
		return err
	}
	if i := FirstNonFinite(t.Type, dst); i >= 0 {
		element := offset*8/int64(t.Type.BitSize()) + int64(i)
		return fmt.Errorf("read %s in %s: element %d is not a finite number", t.Name, t.Shard, element)
	}
	return nil
}

// FirstNonFinite returns the index of the first element of data that is infinite
// or not a number, or -1 if all are finite, as they are for types other than
// F32, F16 and BF16. Data holds whole elements of type t. It is meant for the
// pass in which a loader has the bytes at hand: sixteen 16-bit elements are
// judged at a time, faster than one thread can read them (BenchmarkReadAt).
func FirstNonFinite(t DType, data []byte) int {
	// An element is not finite where all bits of its exponent are set. With
	// the other bits masked away, adding the exponent's lowest bit carries
	// into the sign bit in that case alone, and never into the next element.
	var exponent, lowest, sign uint64
	width := 2
	switch t {
	case F32:
		exponent, lowest, sign, width = 0x7f800000_7f800000, 0x00800000_00800000, 0x80000000_80000000, 4
	case F16:
		exponent, lowest, sign = 0x7c00_7c00_7c00_7c00, 0x0400_0400_0400_0400, 0x8000_8000_8000_8000
	case BF16:
		exponent, lowest, sign = 0x7f80_7f80_7f80_7f80, 0x0080_0080_0080_0080, 0x8000_8000_8000_8000
	default:
		return -1
	}
	i := 0
	for ; i+32 <= len(data); i += 32 {
		b := data[i : i+32 : i+32]
		carries := binary.LittleEndian.Uint64(b)&exponent + lowest
		carries |= binary.LittleEndian.Uint64(b[8:])&exponent + lowest
		carries |= binary.LittleEndian.Uint64(b[16:])&exponent + lowest
		carries |= binary.LittleEndian.Uint64(b[24:])&exponent + lowest
		if carries&sign != 0 {
			break
		}
	}
	// Here are the elements of the first block that has such an element, or
	// those after the last whole block.
	for ; i+width <= len(data); i += width {
		var word [8]byte
		copy(word[:], data[i:i+width])
		if (binary.LittleEndian.Uint64(word[:])&exponent+lowest)&sign != 0 {
			return i / width
		}
	}
	return -1
}
