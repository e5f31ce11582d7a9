package grid

import "math"

//go:generate go -C ../gen run ./feedback -out ../../internal/grid/feedback_vector_amd64.s -stubs ../../internal/grid/feedback_vector_amd64.go -pkg grid

// Side is the number of rows that are rounded side by side, and of columns of a panel.
const Side = 16

// A Panel is the numbers of some columns of a matrix, a column after the other: element (c, r) is in row r. Rows lie side
// by side because they have nothing to do with one another, while a column waits for the errors of the one before.
type Panel [Side][Side]float32

// Grids is a grid for each row of a panel.
type Grids struct {
	Scale, Inverse [Side]float32 // s and 1/s
	Zero           [Side]float32 // z, a whole number from 0 to 255
}

// Spread takes the errors of earlier columns off a panel: x(c, r) -= e(j, r)·u(j, c) for one column j after the other, each
// product and each difference rounded. e (columns, Side) has a number for each row, u (columns, Side) for each column of x.
func Spread(x *Panel, e, u [][Side]float32) {
	u = u[:len(e)]
	if len(e) > 0 && !spreadVector(x, e, u) {
		spread(x, e, u)
	}
}

// spread is Spread in plain Go. The conversions keep products from being fused into the differences, which would round
// otherwise.
func spread(x *Panel, e, u [][Side]float32) {
	for c := 0; c < Side; c += 2 {
		for r := 0; r < Side; r += 4 {
			a, b := (*[4]float32)(x[c][r:]), (*[4]float32)(x[c+1][r:])
			a0, a1, a2, a3 := a[0], a[1], a[2], a[3]
			b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
			for j := range e {
				f, ua, ub := (*[4]float32)(e[j][r:]), u[j][c], u[j][c+1]
				a0 -= float32(f[0] * ua)
				a1 -= float32(f[1] * ua)
				a2 -= float32(f[2] * ua)
				a3 -= float32(f[3] * ua)
				b0 -= float32(f[0] * ub)
				b1 -= float32(f[1] * ub)
				b2 -= float32(f[2] * ub)
				b3 -= float32(f[3] * ub)
			}
			*a, *b = [4]float32{a0, a1, a2, a3}, [4]float32{b0, b1, b2, b3}
		}
	}
}

// RoundPanel rounds the columns of x to codes up to top, one after the other, and spreads the error of each over those
// after it: with d the number less s·(q - z), the error e(j, r) = d / u(j, j) goes off them as in Spread. u (columns,
// columns) is upper triangular. The errors take the place of x. The code of what is not a number is 0.
func RoundPanel(codes *[Side][Side]byte, x, u *Panel, g *Grids, top int) {
	if !roundVector(codes, x, u, g, float32(top)) {
		roundPanel(codes, x, u, g, float32(top))
	}
}

// roundPanel is RoundPanel in plain Go.
func roundPanel(codes *[Side][Side]byte, x, u *Panel, g *Grids, top float32) {
	const low = whole
	high := low + top
	for j := range x {
		for r, v := range x[j] {
			shift := low + g.Zero[r]
			q := float32(v*g.Inverse[r]) + shift
			if !(q > low) { // also where q is not a number
				q = low
			}
			q = min(q, high)
			codes[j][r] = byte(math.Float32bits(q)) // the lowest bits of the sum
			x[j][r] = (v - float32(g.Scale[r]*(q-shift))) / u[j][j]
		}
		for c := j + 1; c < Side; c++ {
			for r, e := range x[j] {
				x[c][r] -= float32(e * u[j][c])
			}
		}
	}
}
