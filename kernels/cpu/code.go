package cpu

// code holds the routines that differ between instruction sets, chosen once when a device is opened. Each subject
// declares its own part and the function that fills it, beside its assembly.
type code struct {
	matMul    matMulCode
	grouped   groupedCode
	rows      rowsCode
	attention attentionCode
	sweep     sweepFunc // nil for plain Go
}

// codeFor returns the routines for isa and for what activations may be rounded to.
func codeFor(isa ISA, a Activations) code {
	c := code{
		matMul: matMulFor(isa, a == ActivationsBF16), grouped: withFloats(groupedFor(isa)), rows: rowsFor(isa),
		attention: attentionFor(isa), sweep: sweepFor(isa),
	}
	c.grouped.integer = a != ActivationsF32
	return c
}
