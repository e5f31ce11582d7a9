//go:build !amd64 || purego

package grid

// Everything is left to plain Go.

func (t *Trial) runVector(_, _, _ []float32, _, _ float32) (best int, ok bool) { return 0, false }
func encodeVector(_ []byte, _ []float32, _, _, _ float32) (n int)              { return 0 }
func extremesVector([]float32) (lo, hi float32, n int)                         { return 0, 0, 0 }

func spreadVector(_ *Panel, _, _ [][Side]float32) bool                       { return false }
func roundVector(_ *[Side][Side]byte, _, _ *Panel, _ *Grids, _ float32) bool { return false }
