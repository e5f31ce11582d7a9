//go:build !purego

package grid

// withEachVector runs f, a test or a benchmark, with each set of kernels that the processor has.
func withEachVector[T interface{ Run(string, func(T)) bool }](t T, f func(t T)) {
	vector, wide := hasVector, hasWideVector
	defer func() { hasVector, hasWideVector = vector, wide }()
	for _, k := range []struct {
		name         string
		vector, wide bool
	}{{"plain", false, false}, {"avx2", true, false}, {"avx512", vector, true}} {
		if k.vector && !vector || k.wide && !wide {
			continue
		}
		hasVector, hasWideVector = k.vector, k.wide
		t.Run(k.name, f)
	}
}
