//go:build !purego

package grid

import "golang.org/x/sys/cpu"

var hasWideVector = cpu.X86.HasAVX512F

// spreadVector is spread for at least a column, where the processor has the instructions.
func spreadVector(x *Panel, e, u [][Side]float32) bool {
	switch {
	case hasWideVector:
		spreadAVX512(&x[0][0], &e[0][0], &u[0][0], len(e))
	case hasVector:
		spreadAVX2(&x[0][0], &e[0][0], &u[0][0], len(e))
	default:
		return false
	}
	return true
}

// roundVector is roundPanel where the processor has the instructions.
func roundVector(codes *[Side][Side]byte, x, u *Panel, g *Grids, top float32) bool {
	if !hasVector {
		return false
	}
	roundAVX2(&codes[0][0], &x[0][0], &u[0][0], &g.Scale[0], top)
	return true
}
