package compress

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
)

// driftAlpha damps the correction of drift where inputs are few (weight-compression.md 18.1).
const driftAlpha = 0.03

// driftStrengths are the strengths of the correction that are tried for each matrix.
var driftStrengths = []float64{1, 0.75, 0.5, 0.25, 0}

// A drift collects how far the inputs of a site in the compressed model are from those in the model itself. Windows go to
// two halves by turns: how strongly to correct is found on one for the correction by the other.
type drift struct {
	products *multiplier // of the walk: for 2·in columns and as many tokens as a half holds at once
	halves   [2]pairs
	windows  int
	both     residual.Drift

	// The correction by the first half, whose strength the second shows, and that by both. They are kept for the other matrices
	// that read the site, if there are any: they take as much as two Gram matrices.
	keep      bool
	half, all *residual.Correction
}

// pairs collects the moments of inputs x of the model and y of the compressed one.
type pairs struct {
	x, y  *accumulator  // y.gram is the one Gram matrix that is made; x has none
	shift linalg.Matrix // xᵀ·y, and in the end (x - y)ᵀ·y
}

// newDrift returns a drift that is to correct one matrix that reads the site, or several. A half holds at most batch tokens at
// once.
func newDrift(products *multiplier, site string, in, batch int, several bool) *drift {
	d := &drift{products: products, keep: several}
	for i := range d.halves {
		d.halves[i] = pairs{newColumns(site, in, batch), newAccumulator(site, in, batch), linalg.New(in, in)}
	}
	return d
}

// add takes in a window: the inputs x of the model and y of the compressed one for the same tokens, (tokens, in).
func (d *drift) add(x, y []float32) error {
	p := &d.halves[d.windows%2]
	d.windows++
	if p.x.held+len(x)/p.x.in > p.x.batch {
		if err := p.flush(d.products); err != nil {
			return err
		}
	}
	if err := p.x.collect(x); err != nil {
		return err
	}
	return p.y.collect(y)
}

// flush adds the tokens that are held to the sums.
func (p *pairs) flush(m *multiplier) error {
	if p.x.held == 0 {
		return nil
	}
	in, stride := p.x.in, p.x.stride
	both := shaped(m.columns, 2*in, stride)
	m.stream.Upload(both.Slice(0, in), kernels.Float32Bytes(p.x.columns))
	m.stream.Upload(both.Slice(in, in), kernels.Float32Bytes(p.y.columns))
	both = both.Window(0, p.x.held)
	x, y := both.Slice(0, in), both.Slice(in, in)
	for row := 0; row < in; row += gramRows {
		n := min(gramRows, in-row)
		if err := m.addRows(p.shift, row, x.Slice(row, n), y); err != nil {
			return err
		}
		if err := m.addRows(p.y.gram, row, y.Slice(row, n), y.Slice(0, row+n)); err != nil {
			return err
		}
	}
	p.x.held, p.y.held = 0, 0
	return nil
}

// finish sums the halves up and returns the Gram matrix of the compressed model's inputs. Nothing can be added after it.
func (d *drift) finish() (*lowrank.Gram, error) {
	in, tokens := d.halves[0].x.in, 0
	d.both = residual.Drift{Shift: linalg.New(in, in), Gram: linalg.New(in, in)}
	for i := range d.halves {
		p := &d.halves[i]
		if err := p.flush(d.products); err != nil {
			return nil, err
		}
		p.x.columns, p.y.columns = nil, nil
		linalg.Mirror(p.y.gram)
		for j, v := range p.y.gram.Data {
			p.shift.Data[j] -= v
			d.both.Gram.Data[j] += v
			d.both.Shift.Data[j] += p.shift.Data[j]
		}
		tokens += p.x.tokens
	}
	return lowrank.NewGram(d.both.Gram, tokens, nil, shrinkage(in, tokens))
}

// correct has the target make up for the drift, and returns how strongly it does. What was found out about the target before is
// forgotten.
func (d *drift) correct(t *Target) (strength float64, err error) {
	strength = 0.5 // where a single window leaves nothing to check it on
	if d.windows > 1 {
		half, err := d.correction(&d.half, d.halves[0].moments())
		if err != nil {
			return 0, err
		}
		if strength, err = half.Strength(t.judged().scaled(), d.halves[1].moments(), driftStrengths...); err != nil {
			return 0, err
		}
	}
	if strength == 0 {
		return 0, nil
	}
	all, err := d.correction(&d.all, d.both)
	if err != nil {
		return 0, err
	}
	w, err := all.Corrected(t.W, strength)
	if err != nil {
		return 0, err
	}
	t.replace(w)
	return strength, nil
}

// correction returns the one by some moments, which is kept where others will ask for it.
func (d *drift) correction(kept **residual.Correction, by residual.Drift) (*residual.Correction, error) {
	if *kept != nil {
		return *kept, nil
	}
	c, err := residual.NewCorrection(by, driftAlpha)
	if err == nil && d.keep {
		*kept = c
	}
	return c, err
}

func (p pairs) moments() residual.Drift { return residual.Drift{Shift: p.shift, Gram: p.y.gram} }

// shrinkage returns what part of a Gram matrix of in inputs is replaced by its mean diagonal: less for more tokens.
func shrinkage(in, tokens int) float64 {
	return min(0.3, max(0.01, 0.16*float64(in)/float64(max(1, tokens))))
}

// Inputs gives what is known of the inputs of sites: *Statistics and *Reader do. Nil knows nothing.
type Inputs interface {
	// Moments returns the statistics of the site called name.
	Moments(name string) (*Moments, error)
}

// gramOf returns the Gram matrix of a site, nil where nothing is known of it.
func gramOf(in Inputs, site string) (*lowrank.Gram, error) {
	if in == nil {
		return nil, nil
	}
	m, err := in.Moments(site)
	if err != nil {
		return nil, err
	}
	g, err := lowrank.NewGram(m.Gram, m.Tokens, m.Mean, shrinkage(m.Gram.Rows, m.Tokens))
	if err != nil {
		return nil, fmt.Errorf("read statistics of %s: %w", site, err)
	}
	return g, nil
}
