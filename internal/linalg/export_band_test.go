package linalg

import "math"

// WithBand calls f while Eigenvalues goes by way of a band whatever the size, or while it never does.
func WithBand(always bool, f func()) {
	rows := directRows
	defer func() { directRows = rows }()
	directRows = math.MaxInt
	if always {
		directRows = 0
	}
	f()
}
