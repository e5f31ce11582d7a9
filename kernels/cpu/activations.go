package cpu

import "fmt"

// Activations says what a product may round activations to before it multiplies them. Sums are F32 in any case.
type Activations uint8

// What there is to choose from. Grouped weights are stored as integers, and INT8 activations beside them are several times as fast;
// 2^-126 is the smallest number that BF16 activations tell from zero.
const (
	ActivationsAuto Activations = iota // F32 beside plain weights, INT8 with a scale for each 32 columns beside grouped ones
	ActivationsF32                     // F32 beside all weights
	ActivationsBF16                    // BF16 beside BF16 weights, where the processor has AVX512_BF16: twice the products a second; else as Auto
)

// String returns the name as flags spell it: auto, f32, bf16.
func (a Activations) String() string {
	switch a {
	case ActivationsAuto:
		return "auto"
	case ActivationsF32:
		return "f32"
	case ActivationsBF16:
		return "bf16"
	}
	return fmt.Sprintf("Activations(%d)", uint8(a))
}
