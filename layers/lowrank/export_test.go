package lowrank

// WithSingle calls f while products are made in single precision whatever their size.
func WithSingle(f func()) {
	most := singleProducts
	defer func() { singleProducts = most }()
	singleProducts = 0
	f()
}
