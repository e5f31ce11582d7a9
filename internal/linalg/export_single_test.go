package linalg

// WithSingle calls f while Quadratic and BlockFactor use products in single precision whatever the size, or while they never do.
func WithSingle(always bool, f func()) {
	products, rows := singleQuadratic, singleFactor
	defer func() { singleQuadratic, singleFactor = products, rows }()
	singleQuadratic, singleFactor = 1<<62, 1<<62
	if always {
		singleQuadratic, singleFactor = 0, 0
	}
	f()
}
