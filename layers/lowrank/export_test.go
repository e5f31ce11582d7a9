package lowrank

import "eckart/internal/linalg"

// WithSingle calls f while products are made in single precision whatever their size.
func WithSingle(f func()) {
	as := precision
	defer func() { precision = as }()
	precision = func(_, _, _ int) linalg.Trait { return linalg.Single }
	f()
}
