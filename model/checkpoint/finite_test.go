package checkpoint_test

import (
	"encoding/binary"
	"math"
	"testing"

	"eckart/model/checkpoint"
)

// TestF12NonFinite holds what this package has to say on the bad input F12:
// infinities and not-a-numbers are found wherever they stand, and no other bit
// pattern is taken for one.
func TestF12NonFinite(t *testing.T) {
	// Every 16-bit pattern, judged by its exponent field alone; bfloat16 is also
	// judged by the float32 whose upper half it is.
	for bits := range 1 << 16 {
		data := binary.LittleEndian.AppendUint16(nil, uint16(bits))
		value := float64(math.Float32frombits(uint32(bits) << 16))
		if got, want := checkpoint.FirstNonFinite(checkpoint.BF16, data) == 0, math.IsNaN(value) || math.IsInf(value, 0); got != want {
			t.Fatalf("bfloat16 %#04x: non-finite %v, want %v", bits, got, want)
		}
		if got, want := checkpoint.FirstNonFinite(checkpoint.F16, data) == 0, bits>>10&0x1f == 0x1f; got != want {
			t.Fatalf("float16 %#04x: non-finite %v, want %v", bits, got, want)
		}
	}
	// The finite values next to infinity, of either sign, and subnormals: none of
	// them may carry into its neighbour.
	put := map[checkpoint.DType]func([]byte, uint32) []byte{
		checkpoint.F32:  binary.LittleEndian.AppendUint32,
		checkpoint.F16:  func(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint16(b, uint16(v)) },
		checkpoint.BF16: func(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint16(b, uint16(v)) },
	}
	finite := map[checkpoint.DType][]uint32{
		checkpoint.F32:  {0x7f7fffff, 0xff7fffff, 1, 0x80000000, 0x3f800000},
		checkpoint.F16:  {0x7bff, 0xfbff, 1, 0x8000, 0x3c00},
		checkpoint.BF16: {0x7f7f, 0xff7f, 1, 0x8000, 0x3f80},
	}
	others := map[checkpoint.DType][]uint32{
		checkpoint.F32:  {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff},
		checkpoint.F16:  {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff},
		checkpoint.BF16: {0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff},
	}
	for dtype, put := range put {
		for count := range 40 {
			var data []byte
			for i := range count {
				data = put(data, finite[dtype][i%5])
			}
			if got := checkpoint.FirstNonFinite(dtype, data); got != -1 {
				t.Errorf("%s: element %d of %d finite ones", dtype, got, count)
			}
			for place := range count {
				width := len(data) / count
				for _, bad := range others[dtype] {
					changed := append(put(append([]byte(nil), data[:place*width]...), bad), data[(place+1)*width:]...)
					if got := checkpoint.FirstNonFinite(dtype, changed); got != place {
						t.Errorf("%s: %#x at %d of %d found at %d", dtype, bad, place, count, got)
					}
				}
			}
		}
	}
	if got := checkpoint.FirstNonFinite(checkpoint.I32, []byte{0xff, 0xff, 0xff, 0xff}); got != -1 {
		t.Errorf("an integer is not finite at %d", got)
	}
}

func BenchmarkFirstNonFinite(b *testing.B) {
	data := make([]byte, 4<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if checkpoint.FirstNonFinite(checkpoint.BF16, data) != -1 {
			b.Fatal("found one among zeros")
		}
	}
}
