package cpu

// code holds the routines that differ between instruction sets, chosen once when a device is opened. Each subject
// declares its own part and the function that fills it, beside its assembly.
type code struct {
	matMul    matMulCode
	rows      rowsCode
	attention attentionCode
}

// codeFor returns the routines for isa; bf16 is Options.BF16Activations.
func codeFor(isa ISA, bf16 bool) code {
	return code{matMul: matMulFor(isa, bf16), rows: rowsFor(isa), attention: attentionFor(isa)}
}
