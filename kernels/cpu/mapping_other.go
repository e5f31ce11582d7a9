//go:build !linux

package cpu

// adviseHuge does nothing: the system chooses its pages alone.
func adviseHuge([]byte) {}
