package cpu

import "math"

// The plain Go of the verbs on rows: what is correct, and what runs where there is no assembly.

func biasGeneric(y, b []float32) {
	for j, v := range b {
		y[j] += v
	}
}

func rmsNormGeneric(y, x, gain []float32, eps float32) {
	var sum float32
	for _, v := range x {
		sum += v * v
	}
	scale := rmsScale(sum, len(x), eps)
	for j, v := range x {
		y[j] = v * scale * gain[j]
	}
}

func anglesGeneric(y []float32, pos int32, freqs []float32, scale float32) {
	for j, freq := range freqs {
		// The product is rounded to F32 as the reference implementations round it: at long contexts the angle's last
		// bits decide the cosine.
		sin, cos := math.Sincos(float64(float32(pos) * freq))
		y[j] = float32(cos) * scale
		y[len(freqs)+j] = float32(sin) * scale
	}
}

func rotateGeneric(x, angles []float32, heads int) {
	half, width := len(angles)/2, len(x)/heads
	for ; len(x) > 0; x = x[width:] {
		for j := range half {
			c, s := angles[j], angles[half+j]
			u, v := x[j], x[half+j]
			x[j] = u*c - v*s
			x[half+j] = v*c + u*s
		}
	}
}

func swiGLUGeneric(y, gate, up []float32) {
	for j, v := range gate {
		y[j] = v / (1 + float32(math.Exp(float64(-v)))) * up[j]
	}
}
