package linalg

import "math"

// WithSingle calls f while products of Quadratic and BlockFactor are in single precision whatever the size, or while they never
// are.
func WithSingle(always bool, f func()) {
	products, rows := singleQuadratic, singleFactor
	defer func() { singleQuadratic, singleFactor = products, rows }()
	singleQuadratic, singleFactor = math.MaxInt64, math.MaxInt
	if always {
		singleQuadratic, singleFactor = 0, 0
	}
	f()
}
