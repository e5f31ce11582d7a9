package linalg

import "math"

// solveSecular finds the eigenvalues of diag(poles) + rho·weightsᵀ·weights, for ascending poles (k) and rho above 0, and
// its eigenvectors: row j of s (k, k) belongs to values[j], and its element for pole i stands in column[i].
func solveSecular(values []float64, s Matrix, poles, weights []float64, rho float64, column []int) {
	k := len(poles)
	if k == 0 {
		return
	}
	if k == 1 {
		values[0], s.Data[0] = poles[0]+rho*weights[0]*weights[0], 1
		return
	}
	// First, row j of s holds how far each pole lies above root j: that difference has full relative accuracy.
	const rootsAtATime = 16
	parallel(ceil(k, rootsAtATime), func(block int) {
		for j := block * rootsAtATime; j < min((block+1)*rootsAtATime, k); j++ {
			values[j] = secularRoot(j, s.Row(j), poles, weights, rho)
		}
	})
	// The weights for which these roots are exact.
	exact := make([]float64, k)
	const columnsAtATime = 128
	parallel(ceil(k, columnsAtATime), func(block int) {
		first, last := block*columnsAtATime, min((block+1)*columnsAtATime, k)
		w, p := exact[first:last], poles[first:last]
		for i := range w {
			w[i] = -1
		}
		for j := range k {
			row := s.Row(j)[first:last]
			for i, x := range row {
				if first+i == j {
					w[i] *= x
				} else {
					w[i] *= x / (p[i] - poles[j])
				}
			}
		}
		for i, x := range w {
			w[i] = math.Copysign(math.Sqrt(x), weights[first+i])
		}
	})
	parallel(ceil(k, rootsAtATime), func(block int) {
		vector := make([]float64, k)
		for j := block * rootsAtATime; j < min((block+1)*rootsAtATime, k); j++ {
			row := s.Row(j)
			var square float64
			for i, x := range row {
				vector[i] = exact[i] / x
				square += vector[i] * vector[i]
			}
			factor := 1 / math.Sqrt(square)
			for i, at := range column {
				row[at] = vector[i] * factor
			}
		}
	})
}

// secularRoot returns root j of f(x) = 1/rho + Σ weights[i]²/(poles[i]-x), which lies between poles j and j+1, the last one
// above the last pole, and sets above[i] to poles[i] less the root.
//
// The root is looked for as a distance from the nearer pole. Each step interpolates f by c + s/(pole-x) + t/(next pole-x),
// so that value and slope are those of the sums over the poles on either side (Bunch, Nielsen and Sorensen, 1978), and
// falls back to bisection where that leaves the interval. It stops where f is no larger than the rounding errors of its own
// sum (the bound of LAPACK's dlaed4).
func secularRoot(j int, above, poles, weights []float64, rho float64) float64 {
	k := len(poles)
	last := j == k-1
	lower, upper := j, j+1 // the poles of the interpolation
	if last {
		lower, upper = k-2, k-1
	}
	gap := poles[upper] - poles[lower]
	w1, w2 := weights[lower]*weights[lower], weights[upper]*weights[upper]

	// f at the middle of the interval says which pole is nearer; without the two poles it is the first guess of c.
	var reach float64
	if last {
		for _, w := range weights {
			reach += w * w
		}
		reach *= rho
	}
	middle := gap / 2
	if last {
		middle = gap + reach/2
	}
	c := 1 / rho
	for i, p := range poles {
		if i != lower && i != upper {
			c += weights[i] * weights[i] / ((p - poles[lower]) - middle)
		}
	}
	origin, low, high, x := upper, 0.0, reach, 0.0
	switch {
	case last:
		a := c*gap - w1 - w2
		x = positiveRoot(c, a, -w2*gap)
	case c+w1/-middle+w2/(gap-middle) > 0:
		origin, high = lower, gap/2
		a, b := c*gap+w1+w2, w1*gap
		root := math.Sqrt(math.Abs(a*a - 4*b*c))
		if a > 0 {
			x = 2 * b / (a + root)
		} else {
			x = (a - root) / (2 * c)
		}
	default:
		low, high = -gap/2, 0
		x = -positiveRoot(c, -(c*gap - w1 - w2), -w2*gap)
	}

	for range 200 {
		if !(x > low && x < high) {
			x = low + (high-low)/2
		}
		var psi, phi, slopePsi, slopePhi, sums float64
		base := poles[origin]
		for i := 0; i <= lower; i++ {
			distance := (poles[i] - base) - x
			above[i] = distance
			t := weights[i] / distance
			psi += weights[i] * t
			slopePsi += t * t
			sums -= psi
		}
		for i := k - 1; i >= upper; i-- {
			distance := (poles[i] - base) - x
			above[i] = distance
			t := weights[i] / distance
			phi += weights[i] * t
			slopePhi += t * t
			sums += math.Abs(phi)
		}
		f, slope := 1/rho+psi+phi, slopePsi+slopePhi
		if math.Abs(f) <= epsilon*(8*(math.Abs(phi)-psi)+sums+2/rho+math.Abs(x)*slope) {
			break
		}
		if f < 0 {
			low = x
		} else {
			high = x
		}
		d1, d2 := above[lower], above[upper]
		c := f - d1*slopePsi - d2*slopePhi
		a := (d1+d2)*f - d1*d2*slope
		b := d1 * d2 * f
		root := math.Sqrt(math.Abs(a*a - 4*b*c))
		var step float64
		switch {
		case c == 0:
			step = b / a
		case last && a >= 0:
			step = (a + root) / (2 * c)
		case last:
			step = 2 * b / (a - root)
		case a <= 0:
			step = (a - root) / (2 * c)
		default:
			step = 2 * b / (a + root)
		}
		if !(f*step < 0) {
			step = -f / slope
		}
		next := x + step
		if !(next > low && next < high) {
			next = low + (high-low)/2
		}
		if next == x || !(next > low && next < high) {
			break
		}
		x = next
	}
	return poles[origin] + x
}

// positiveRoot returns the root above 0 of c·x² + a·x + b for b below 0 and c above 0; for other c the caller checks it.
func positiveRoot(c, a, b float64) float64 {
	root := math.Sqrt(math.Abs(a*a - 4*b*c))
	if a < 0 {
		return (root - a) / (2 * c)
	}
	return -2 * b / (a + root)
}
