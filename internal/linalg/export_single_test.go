package linalg

import "math"

// WithSingle calls f while every product is Large, and those of BlockFactor are in single precision whatever the size, or while
// none is.
func WithSingle(always bool, f func()) {
	products, rows := manyProducts, singleFactor
	defer func() { manyProducts, singleFactor = products, rows }()
	manyProducts, singleFactor = math.MaxInt64, math.MaxInt
	if always {
		manyProducts, singleFactor = 0, 0
	}
	f()
}
