// Package kernels is the vocabulary of device work: matrices, the memory they lie in, and the closed set of verbs a
// device must know to run a transformer. It holds nouns and verbs, with no behaviour beyond size arithmetic.
//
// A batch is rows of tokens by columns of features; heads are a number in the verb. So there are matrices here and no
// tensors, and the order of arguments is always destination, input, weight. Shapes are checked when weights are
// bound; kerneltest.Checked checks them again in every verb.
package kernels

import (
	"fmt"
	"unsafe"
)

// A DType is the type of a matrix's elements.
type DType uint8

// The element types that verbs read and write.
const (
	F32 DType = iota
	F16
	BF16
	I32
	U8
)

// Bytes returns the bytes of one element.
func (t DType) Bytes() int {
	switch t {
	case F16, BF16:
		return 2
	case U8:
		return 1
	}
	return 4
}

// String returns the name as flags spell it: f32, f16, bf16, i32, u8.
func (t DType) String() string {
	switch t {
	case F32:
		return "f32"
	case F16:
		return "f16"
	case BF16:
		return "bf16"
	case I32:
		return "i32"
	case U8:
		return "u8"
	}
	return fmt.Sprintf("DType(%d)", uint8(t))
}

// A Span is a stretch of device memory.
type Span struct {
	Host []byte // the bytes themselves on a device that shares the host's memory, else nil
	Addr uint64 // the address on a device that does not
}

// A Mat is a row-major matrix in device memory. It is a description: copying a Mat never copies data.
type Mat struct {
	Span
	Rows, Cols int
	Stride     int // elements between the starts of two rows; Cols when packed
	Type       DType
}

// Bytes returns the bytes from the first element to the last, the gaps of a strided window included.
func (m Mat) Bytes() int64 {
	if m.Rows == 0 || m.Cols == 0 {
		return 0
	}
	return (int64(m.Rows-1)*int64(m.Stride) + int64(m.Cols)) * int64(m.Type.Bytes())
}

// offset returns the span that starts n elements into m.
func (m Mat) offset(n int) Span {
	s := m.Span
	if s.Host != nil {
		s.Host = s.Host[n*m.Type.Bytes():]
	}
	if s.Addr != 0 {
		s.Addr += uint64(n) * uint64(m.Type.Bytes())
	}
	return s
}

// Slice returns the window of n rows from row on.
func (m Mat) Slice(row, n int) Mat {
	if row < 0 || n < 0 || row+n > m.Rows {
		panic(fmt.Sprintf("BUG: rows [%d, %d) of %d", row, row+n, m.Rows))
	}
	if n > 0 {
		m.Span = m.offset(row * m.Stride)
	}
	m.Rows = n
	return m
}

// Window returns the window of n columns from col on; its stride is m's.
func (m Mat) Window(col, n int) Mat {
	if col < 0 || n < 0 || col+n > m.Cols {
		panic(fmt.Sprintf("BUG: columns [%d, %d) of %d", col, col+n, m.Cols))
	}
	if m.Rows > 0 && n > 0 {
		m.Span = m.offset(col)
	}
	m.Cols = n
	return m
}

// Float32s returns row i of an F32 matrix in host memory, without copying.
func (m Mat) Float32s(i int) []float32 { return hostRow[float32](m, i) }

// Int32s returns row i of an I32 matrix in host memory, without copying.
func (m Mat) Int32s(i int) []int32 { return hostRow[int32](m, i) }

// Uint16s returns the bits of row i of an F16 or BF16 matrix in host memory, without copying.
func (m Mat) Uint16s(i int) []uint16 { return hostRow[uint16](m, i) }

func hostRow[T float32 | int32 | uint16](m Mat, i int) []T {
	if m.Cols == 0 {
		return nil
	}
	start := i * m.Stride * m.Type.Bytes()
	row := m.Host[start : start+m.Cols*m.Type.Bytes()]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(row))), m.Cols)
}

// Int32Bytes returns the bytes of v in the host's order, for Upload.
func Int32Bytes(v []int32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*4)
}

// Float32Bytes returns the bytes of v in the host's order, for Upload and Download.
func Float32Bytes(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*4)
}
