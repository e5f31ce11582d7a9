package layers

import (
	"fmt"
	"math"

	"eckart/kernels"
)

// RopeSettings say how positions become angles. The zero value of a field that its Type does not use is ignored.
type RopeSettings struct {
	Type  string  // "default", "linear", "llama3", "yarn"
	Theta float64 // base of the frequencies

	Factor      float64 // linear, llama3, yarn: how far the trained context is stretched
	OriginalMax int     // llama3, yarn: the context that was trained, in tokens

	LowFreqFactor, HighFreqFactor float64 // llama3

	BetaFast, BetaSlow   float64 // yarn: turns within the trained context between which frequencies are blended
	AttentionFactor      float64 // yarn: factor on cosines and sines; 0 to derive it
	MScale, MScaleAllDim float64 // yarn, as DeepSeek sets them; 0 for absent
	Truncate             bool    // yarn: the blend starts and ends at whole dimensions
}

// Frequencies returns the angle per position of each pair of a head of dim features, and the factor on the cosines and
// sines. It follows the published definitions: linear (Chen et al. 2023), llama3 (Llama 3.1's release), yarn (Peng et
// al. 2023, equations 17 to 24).
func (r RopeSettings) Frequencies(dim int) (freqs []float32, scale float32, err error) {
	freqs = make([]float32, dim/2)
	for i := range freqs {
		freqs[i] = float32(1 / math.Pow(r.Theta, float64(2*i)/float64(dim)))
	}
	switch r.Type {
	case "default":
		return freqs, 1, nil
	case "linear":
		for i := range freqs {
			freqs[i] /= float32(r.Factor)
		}
		return freqs, 1, nil
	case "llama3":
		r.llama3(freqs)
		return freqs, 1, nil
	case "yarn":
		return freqs, r.yarn(freqs, dim), nil
	}
	return nil, 0, fmt.Errorf("rope type %q is not supported", r.Type)
}

// llama3 keeps the frequencies of short waves, divides those of long ones and blends between.
func (r RopeSettings) llama3(freqs []float32) {
	for i, f := range freqs {
		turns := float64(r.OriginalMax) * float64(f) / (2 * math.Pi) // within the trained context
		switch {
		case turns > r.HighFreqFactor:
		case turns < r.LowFreqFactor:
			freqs[i] = float32(float64(f) / r.Factor)
		default:
			s := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			freqs[i] = float32((1-s)*float64(f)/r.Factor + s*float64(f))
		}
	}
}

// yarn blends kept and divided frequencies over a ramp of dimensions, and returns the factor on cosines and sines.
func (r RopeSettings) yarn(freqs []float32, dim int) (scale float32) {
	at := func(turns float64) float64 { // the dimension that turns so often within the trained context
		return float64(dim) * math.Log(float64(r.OriginalMax)/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := at(r.BetaFast), at(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dim-1))
	if low == high {
		high += 0.001 // the reference avoids the division by zero so
	}
	for i, f := range freqs {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		freqs[i] = float32(float64(f)/r.Factor*ramp + float64(f)*(1-ramp))
	}
	mscale := func(m float64) float64 {
		if r.Factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(r.Factor) + 1
	}
	switch {
	case r.AttentionFactor != 0:
		return float32(r.AttentionFactor)
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return float32(mscale(r.MScale) / mscale(r.MScaleAllDim))
	}
	return float32(mscale(1))
}

// Rope is rotary position embedding (Su et al. 2021) with one set of frequencies. The layers of a model share it, so
// that a step computes its cosines once.
type Rope struct {
	Index int // place of its table in Pass.Tables
	freqs kernels.Mat
	scale float32
}

// BindRope places the frequencies for heads of dim features in the arena.
func BindRope(a kernels.Arena, s kernels.Stream, r RopeSettings, dim, index int) (*Rope, error) {
	freqs, scale, err := r.Frequencies(dim)
	if err != nil {
		return nil, err
	}
	m, err := bindVector(a, s, freqs)
	return &Rope{Index: index, freqs: m, scale: scale}, err
}

// Out returns the step's rotary table in scratch, for positions pos (rows, 1).
func (r *Rope) Out(p *Pass, pos kernels.Mat) kernels.Mat {
	y := p.Mat(pos.Rows, 2*r.freqs.Cols)
	p.Angles(y, pos, r.freqs, r.scale)
	return y
}

// Apply rotates the heads of q and k in place.
func (r *Rope) Apply(p *Pass, q kernels.Mat, heads int, k kernels.Mat, keyHeads int) {
	p.Rotate(q, r.table(p), heads)
	p.Rotate(k, r.table(p), keyHeads)
}

// table returns the step's rotary table.
func (r *Rope) table(p *Pass) kernels.Mat { return p.Tables[r.Index] }
