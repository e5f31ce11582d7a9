package checkpoint

import (
	"errors"
	"fmt"
)

// ErrUnsupported is wrapped by the errors about tensors whose type is known to
// the format but cannot be read by this program.
var ErrUnsupported = errors.New("unsupported tensor type")

// DType is the type of a tensor's elements, by its name in safetensors.
type DType string

// The types a safetensors header may name. Elements are little-endian; those
// of less than a byte are packed.
const (
	Bool       DType = "BOOL"
	U8         DType = "U8"
	I8         DType = "I8"
	U16        DType = "U16"
	I16        DType = "I16"
	F16        DType = "F16"
	BF16       DType = "BF16"
	U32        DType = "U32"
	I32        DType = "I32"
	F32        DType = "F32"
	U64        DType = "U64"
	I64        DType = "I64"
	F64        DType = "F64"
	C64        DType = "C64" // two F32: real part, imaginary part
	F8E4M3     DType = "F8_E4M3"
	F8E5M2     DType = "F8_E5M2"
	F8E8M0     DType = "F8_E8M0" // exponent only, the scale of a block
	F8E4M3FNUZ DType = "F8_E4M3FNUZ"
	F8E5M2FNUZ DType = "F8_E5M2FNUZ"
	F6E2M3     DType = "F6_E2M3"
	F6E3M2     DType = "F6_E3M2"
	F4         DType = "F4"
)

// BitSize returns the bits of one element, or 0 for a type the format does not
// know.
func (t DType) BitSize() int {
	switch t {
	case F4:
		return 4
	case F6E2M3, F6E3M2:
		return 6
	case Bool, U8, I8, F8E4M3, F8E5M2, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ:
		return 8
	case U16, I16, F16, BF16:
		return 16
	case U32, I32, F32:
		return 32
	case U64, I64, F64, C64:
		return 64
	}
	return 0
}

// Supported reports whether weights of the type can be used today: F32, F16
// and BF16. The others are recognised, so that a checkpoint which holds them
// can be listed and refused by name.
func (t DType) Supported() bool {
	return t == F32 || t == F16 || t == BF16
}

// classic reports whether t is among the 13 types that the safetensors library
// parses; it refuses a whole file for one tensor of another type.
func (t DType) classic() bool {
	switch t {
	case Bool, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64:
		return true
	}
	return false
}

// Unsupported returns nil for a tensor whose type can be used, and otherwise an
// error that wraps ErrUnsupported and names the tensor, its type and shard.
func (t *Tensor) Unsupported() error {
	if t.Type.Supported() {
		return nil
	}
	return fmt.Errorf("use tensor %s of shard %s: %w %s, want F32, F16 or BF16", quote(t.Name), t.Shard, ErrUnsupported, t.Type)
}
