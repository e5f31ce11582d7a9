package cpu

import (
	"math"

	"eckart/kernels"
)

// The verbs that work on each row alone.

func biasGeneric(y, b kernels.Mat) {
	bias := b.Float32s(0)
	for i := range y.Rows {
		row := y.Float32s(i)
		for j, v := range bias {
			row[j] += v
		}
	}
}

func rmsNormGeneric(y, x, gain kernels.Mat, eps float32) {
	g := gain.Float32s(0)
	n := len(g)
	for i := range x.Rows {
		xr, yr := x.Float32s(i), y.Float32s(i)
		for at := 0; at < len(xr); at += n {
			xh, yh := xr[at:at+n], yr[at:at+n]
			var sum float32
			for _, v := range xh {
				sum += v * v
			}
			scale := float32(1 / math.Sqrt(float64(sum/float32(n)+eps)))
			for j, v := range xh {
				yh[j] = v * scale * g[j]
			}
		}
	}
}

func anglesGeneric(y, pos, freqs kernels.Mat, scale float32) {
	f := freqs.Float32s(0)
	for i := range y.Rows {
		p := float32(pos.Int32s(i)[0])
		row := y.Float32s(i)
		for j, freq := range f {
			// The product is rounded to F32 as the reference implementations round it: at long contexts the angle's
			// last bits decide the cosine.
			sin, cos := math.Sincos(float64(p * freq))
			row[j] = float32(cos) * scale
			row[len(f)+j] = float32(sin) * scale
		}
	}
}

func rotateGeneric(x, angles kernels.Mat, heads int) {
	half := angles.Cols / 2
	width := x.Cols / heads
	for i := range x.Rows {
		row, a := x.Float32s(i), angles.Float32s(i)
		for h := range heads {
			head := row[h*width:]
			for j := range half {
				c, s := a[j], a[half+j]
				u, v := head[j], head[half+j]
				head[j] = u*c - v*s
				head[half+j] = v*c + u*s
			}
		}
	}
}

func swiGLUGeneric(y, gate, up kernels.Mat) {
	for i := range y.Rows {
		yr, g, u := y.Float32s(i), gate.Float32s(i), up.Float32s(i)
		for j, v := range g {
			yr[j] = v / (1 + float32(math.Exp(float64(-v)))) * u[j]
		}
	}
}
