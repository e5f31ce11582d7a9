//go:build !amd64 || purego

package cpu

// pause has no instruction here; the load that follows it is wait enough.
func pause() {}
