package linalg

// Kernels do the inner loops, each in the widest instructions that the processor has: kernels_amd64.go chooses, and the
// functions here say in plain Go what all of them do. One process uses one set of kernels throughout, so its results do not
// change; another set rounds elsewhere.

// tileGeneric adds to c (2, 4), whose rows lie stride apart, the product of a packed panel a (k, 2) by a packed panel b
// (k, 4), both read from end to end. The sums are made in the type of the panels.
func tileGeneric[T number](c []float64, stride int, a, b []T, k int) {
	var c00, c01, c02, c03, c10, c11, c12, c13 T
	for ; k > 0; k-- {
		a0, a1 := a[0], a[1]
		b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
		c00 += a0 * b0
		c01 += a0 * b1
		c02 += a0 * b2
		c03 += a0 * b3
		c10 += a1 * b0
		c11 += a1 * b1
		c12 += a1 * b2
		c13 += a1 * b3
		a, b = a[2:], b[4:]
	}
	top, bottom := c[:4], c[stride:stride+4]
	top[0] += float64(c00)
	top[1] += float64(c01)
	top[2] += float64(c02)
	top[3] += float64(c03)
	bottom[0] += float64(c10)
	bottom[1] += float64(c11)
	bottom[2] += float64(c12)
	bottom[3] += float64(c13)
}

// scaleSingle sets dst to factor times src, rounded to nearest.
func scaleSingle(dst []float32, src []float64, factor float64) {
	n := narrowVector(dst, src, factor)
	for i, x := range src[n:] {
		dst[n+i] = float32(factor * x)
	}
}

// scaleDouble sets dst to factor times src.
func scaleDouble(dst, src []float64, factor float64) {
	if factor == 1 {
		copy(dst, src)
		return
	}
	for i, x := range src {
		dst[i] = factor * x
	}
}

// dots4 adds to sums[i] the product of row i of a (4, len(x)), whose rows lie stride apart, with x.
func dots4(a []float64, stride int, x []float64, sums *[4]float64) {
	n := dotsVector(a, stride, x, sums)
	for i := range sums {
		row := a[i*stride:][:len(x)]
		var s float64
		for j := n; j < len(x); j++ {
			s += row[j] * x[j]
		}
		sums[i] += s
	}
}

// axpys4 adds to y the sum of factors[i] times row i of a (4, len(y)), whose rows lie stride apart.
func axpys4(a []float64, stride int, y []float64, factors *[4]float64) {
	n := axpysVector(a, stride, y, factors)
	if n == len(y) {
		return
	}
	r0, r1 := a[:len(y)], a[stride:][:len(y)]
	r2, r3 := a[2*stride:][:len(y)], a[3*stride:][:len(y)]
	for j := n; j < len(y); j++ {
		y[j] += factors[0]*r0[j] + factors[1]*r1[j] + factors[2]*r2[j] + factors[3]*r3[j]
	}
}

// dotsAxpys4 is dots4 and axpys4 in one pass over a (4, len(x)); y is as long as x.
func dotsAxpys4(a []float64, stride int, x []float64, sums *[4]float64, y []float64, factors *[4]float64) {
	n := dotsAxpysVector(a, stride, x, sums, y, factors)
	if n == len(x) {
		return
	}
	var s [4]float64
	r0, r1 := a[:len(x)], a[stride:][:len(x)]
	r2, r3 := a[2*stride:][:len(x)], a[3*stride:][:len(x)]
	y = y[:len(x)]
	for j := n; j < len(x); j++ {
		s[0] += r0[j] * x[j]
		s[1] += r1[j] * x[j]
		s[2] += r2[j] * x[j]
		s[3] += r3[j] * x[j]
		y[j] += factors[0]*r0[j] + factors[1]*r1[j] + factors[2]*r2[j] + factors[3]*r3[j]
	}
	for i := range s {
		sums[i] += s[i]
	}
}

// dot returns the product of x and y, which are equally long.
func dot(x, y []float64) float64 {
	// Four sums, so that one addition need not wait for the one before.
	var s0, s1, s2, s3 float64
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s0 += x[i] * y[i]
		s1 += x[i+1] * y[i+1]
		s2 += x[i+2] * y[i+2]
		s3 += x[i+3] * y[i+3]
	}
	for ; i < len(x); i++ {
		s0 += x[i] * y[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// axpy adds f times x to y, which is as long.
func axpy(y []float64, f float64, x []float64) {
	x = x[:len(y)]
	for i := range y {
		y[i] += f * x[i]
	}
}

// multiplyRows sets out[i] to the product of row i of a (len(out), len(x)) with x.
func multiplyRows(out []float64, a view, x []float64) {
	i := 0
	for ; i+4 <= len(out); i += 4 {
		var s [4]float64
		dots4(a.data[i*a.stride:], a.stride, x, &s)
		copy(out[i:], s[:])
	}
	for ; i < len(out); i++ {
		out[i] = dot(x, a.row(i)[:len(x)])
	}
}

// addRows adds to y the sum of factors[i] times row i of a (len(factors), len(y)).
func addRows(y []float64, a view, factors []float64) {
	i := 0
	for ; i+4 <= len(factors); i += 4 {
		axpys4(a.data[i*a.stride:], a.stride, y, (*[4]float64)(factors[i:]))
	}
	for ; i < len(factors); i++ {
		axpy(y, factors[i], a.row(i)[:len(y)])
	}
}
