package compress

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"eckart/internal/divergence"
	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model"
)

// Options say how a plan is carried out.
type Options struct {
	// Drift is the windows of tokens on which the inputs of the compressed model are compared with those of the model
	// itself, so that each matrix makes up for what those before it lost (weight-compression.md 18.1). Nil for none: then
	// every matrix is made for the inputs that the statistics know.
	Drift [][]int32
	// Verify is the windows on which the result is compared with the model: none of the calibration. Nil for no comparison.
	Verify [][]int32
	// Importance, unless it is nil, is what the methods diagonal and weighted go by.
	Importance *Importance
	// Tables is the source of the embedding and the head of the result; nil for those of the model.
	Tables model.Source
	// Progress hears what is being done, and how much of it is done.
	Progress func(stage string, done, total int)
}

// A Result is a compressed model.
type Result struct {
	Source model.Source // the model with the weights of the plan
	Plan   *Plan
	Report *Report
}

// Run carries out a plan in one walk over the blocks: original and compressed model go side by side, if there are windows
// to run them on. Memory holds a block of each, the hidden states of all windows, and what has been made so far.
func Run(ctx context.Context, w *model.Walker, p *Plan, known Inputs, o Options) (*Result, error) {
	if o.Tables == nil {
		o.Tables = w.Source()
	}
	r := &run{
		Options: o, w: w, known: known, plan: map[string]PlannedModule{}, overlay: model.NewOverlay(o.Tables),
		report: &Report{Policy: p.Policy, Seconds: map[string]float64{}},
		// Windows to correct the drift on come first, so that they are one range.
		windows: append(append([][]int32{}, o.Drift...), o.Verify...),
	}
	for _, m := range p.Modules {
		r.plan[m.Name] = m
	}
	var err error
	if r.compressed, err = model.NewWalker(r.overlay, w.Device(), w.Window()); err != nil {
		return nil, err
	}
	err = r.walk(ctx)
	r.sum()
	err = errors.Join(err, r.products.close(), r.compressed.Close())
	if err != nil {
		return nil, err
	}
	return &Result{r.overlay, p, r.report}, nil
}

// run is a plan being carried out.
type run struct {
	Options
	w, compressed *model.Walker
	known         Inputs
	plan          map[string]PlannedModule
	overlay       *model.Overlay
	report        *Report
	windows       [][]int32
	true, made    states // hidden states of the windows in both models

	products *multiplier            // for the drift of sites of products.widest/2 columns; nil until there are any
	captured map[string][][]float32 // inputs of the sites of the block at hand, for every window; nil where they take too much
}

// sum sums the modules up.
func (r *run) sum() {
	var elements int64
	for _, m := range r.report.Modules {
		r.report.Before.LinearBytes += m.BytesBefore
		r.report.After.LinearBytes += m.Bytes
		elements += m.elements
	}
	if elements > 0 {
		r.report.Before.BitsPerWeight = 8 * float64(r.report.Before.LinearBytes) / float64(elements)
		r.report.After.BitsPerWeight = 8 * float64(r.report.After.LinearBytes) / float64(elements)
	}
}

func (r *run) walk(ctx context.Context) error {
	if len(r.windows) > 0 {
		if err := r.true.embed(r.w, r.windows); err != nil {
			return err
		}
		if err := r.made.embed(r.compressed, r.windows); err != nil {
			return err
		}
	}
	start := time.Now()
	for i := range r.w.Layers() {
		if err := r.block(ctx, i); err != nil {
			return err
		}
		r.Progress("compressing", i+1, r.w.Layers())
	}
	r.report.Seconds["compress"] = time.Since(start).Seconds()
	err := r.products.close()
	r.products = nil
	if err != nil || len(r.Verify) == 0 {
		return err
	}
	debug.FreeOSMemory() // the heads of both models and their logits take the place of what the last blocks took
	start = time.Now()
	m, err := diverge(r.w, r.compressed, r.Verify, r.true[len(r.Drift):], r.made[len(r.Drift):])
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	r.report.Verified = verification(m)
	r.report.Seconds["verify"] = time.Since(start).Seconds()
	return nil
}

// block compresses block i, and moves the hidden states past it.
func (r *run) block(ctx context.Context, i int) error {
	sites, err := r.w.Sites(i)
	if err != nil {
		return err
	}
	if len(r.windows) == 0 {
		for _, s := range sites {
			if err := r.site(ctx, s, nil); err != nil {
				return err
			}
		}
		return nil
	}
	return walkBlock(r.w, i, r.w.Source(), func(b *model.WalkedBlock) error {
		if err := r.capture(b); err != nil {
			return err
		}
		for _, s := range sites {
			if err := r.site(ctx, s, b); err != nil {
				return err
			}
		}
		if r.captured == nil {
			if err := r.true.forward(b); err != nil {
				return err
			}
		}
		return walkBlock(r.compressed, i, r.overlay, r.made.forward)
	})
}

// site compresses the matrices that read a site. b is the block of the model itself, nil where nothing is run.
func (r *run) site(ctx context.Context, s model.Site, b *model.WalkedBlock) error {
	changes := false
	for _, sw := range s.Weights {
		m, ok := r.plan[moduleName(sw.Name)]
		if !ok {
			return fmt.Errorf("compress: %s is not in the plan", sw.Name)
		}
		changes = changes || m.Form != FormKeep
	}
	var inputs *siteInputs
	if changes {
		var err error
		if inputs, err = r.inputs(s, b); err != nil {
			return err
		}
		if inputs.gram != nil {
			r.report.Calibration.Shrinkage = max(r.report.Calibration.Shrinkage, inputs.gram.Shrinkage())
		}
	}
	g := &group{size: len(s.Weights), load: func(i int) (*Target, error) {
		w, err := r.w.Source().Weight(s.Weights[i].Name)
		if err != nil {
			return nil, err
		}
		t, _, err := r.target(s.Weights[i].Name, w, inputs)
		return t, err
	}}
	for i := range s.Weights {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := r.matrix(s, i, inputs, g); err != nil {
			return err
		}
	}
	return nil
}

// siteInputs is what is known of the inputs of a site.
type siteInputs struct {
	gram  *lowrank.Gram // of the inputs that the compressed model gives, or of the model's own
	drift *drift        // nil where it is not corrected
	held  [][]float32   // inputs of the model itself on some windows of Verify
}

// heldTokens is the number of tokens on which the error of each matrix is measured beside that on the calibration's inputs.
const heldTokens = 1024

// inputs finds out about the inputs of s.
func (r *run) inputs(s model.Site, b *model.WalkedBlock) (*siteInputs, error) {
	in := new(siteInputs)
	var err error
	corrected := b != nil && r.corrects(s)
	if !corrected {
		if in.gram, err = gramOf(r.known, s.Name); err != nil || b == nil {
			return in, err
		}
	}
	for i, tokens := len(r.Drift), 0; i < len(r.windows) && tokens < heldTokens; i++ {
		x, err := r.trueInput(s.Name, b, i)
		if err != nil {
			return nil, err
		}
		in.held = append(in.held, x)
		tokens += len(r.windows[i])
	}
	if !corrected {
		return in, nil
	}
	d, err := r.drift(s)
	if err != nil {
		return nil, err
	}
	err = walkBlock(r.compressed, s.Layer, r.overlay, func(c *model.WalkedBlock) error {
		for i := range r.Drift {
			x, err := r.trueInput(s.Name, b, i)
			if err != nil {
				return err
			}
			y, err := inputOf(r.compressed, c, s.Name, r.made[i])
			if err != nil {
				return err
			}
			if err := d.add(x, y); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		in.drift = d
		in.gram, err = r.weighing(s, d)
	}
	return in, err
}

// drift returns an empty drift for a site.
func (r *run) drift(s model.Site) (*drift, error) {
	batch := batchOf(r.w.Window(), (len(r.Drift)+1)/2) // windows of the larger half
	if r.products == nil || r.products.widest < 2*s.In {
		err := r.products.close()
		if err == nil {
			r.products, err = newMultiplier(r.w.Device(), r.w.Stream(), 2*s.In, batch)
		}
		if err != nil {
			return nil, err
		}
	}
	return newDrift(r.products, s.Name, s.In, batch, len(s.Weights) > 1), nil
}

// weighing returns the Gram matrix by which errors count where drift is corrected: that of the compressed model's inputs, or of
// the model's own if more of those are known. For the correction few windows will do; errors weighed by few come out larger than
// what it gains.
func (r *run) weighing(s model.Site, d *drift) (*lowrank.Gram, error) {
	g, err := d.finish()
	if err != nil || r.known == nil {
		return g, err
	}
	known, err := gramOf(r.known, s.Name)
	if err != nil || known.Tokens() <= g.Tokens() {
		return g, err
	}
	return known, nil
}

// corrects reports whether drift is corrected at a site. For wide inputs it is not, where there are statistics: that takes
// eight matrices of their square, in float64, and factorizations of them: for 8192 columns, those of down_proj of a model of a
// billion parameters, 4 GB and longer than all else that is done for the block.
func (r *run) corrects(s model.Site) bool {
	return len(r.Drift) > 0 && (s.In <= wideInputs || r.known == nil)
}

// inputOf returns the input (tokens, in) of a site for a sequence that is at the given state before block b.
func inputOf(w *model.Walker, b *model.WalkedBlock, site string, state []float32) (x []float32, err error) {
	err = b.Until(state, site, func(m kernels.Mat) error {
		x = make([]float32, m.Rows*m.Cols)
		return w.Read(x, m)
	})
	return x, err
}

// trueInput returns the input of a site of b, a block of the model itself, for a window.
func (r *run) trueInput(site string, b *model.WalkedBlock, window int) ([]float32, error) {
	if r.captured != nil {
		return r.captured[site][window], nil
	}
	return inputOf(r.w, b, site, r.true[window])
}

// captureBytes bounds the inputs of a block that are kept while it is compressed, so that the model itself runs it once and
// not up to each site.
const captureBytes = 768 << 20

// capture moves the states of the model itself past b and keeps the inputs of its sites that are asked for again, if there is
// room for them: on all windows to correct the drift on, and on those of the held inputs.
func (r *run) capture(b *model.WalkedBlock) error {
	r.captured = nil
	wanted := func(site model.Site, window int) bool {
		if window < len(r.Drift) {
			return r.corrects(site)
		}
		before := 0
		for _, ids := range r.windows[len(r.Drift):window] {
			before += len(ids)
		}
		return before < heldTokens
	}
	var bytes int64
	sites := map[string]model.Site{}
	for _, s := range b.Sites() {
		sites[s.Name] = s
		for i, ids := range r.windows {
			if wanted(s, i) {
				bytes += 4 * int64(len(ids)) * int64(s.In)
			}
		}
	}
	if bytes > captureBytes {
		return nil
	}
	captured := map[string][][]float32{}
	for name := range sites {
		captured[name] = make([][]float32, len(r.windows))
	}
	for i, state := range r.true {
		err := b.Forward(state, func(site string, m kernels.Mat) error {
			if !wanted(sites[site], i) {
				return nil
			}
			x := make([]float32, m.Rows*m.Cols)
			captured[site][i] = x
			return r.w.Read(x, m)
		})
		if err != nil {
			return err
		}
	}
	r.captured = captured
	return nil
}

// target returns what a weight is to be made of, corrected for drift, and how strongly it is.
func (r *run) target(name string, w layers.Weight, in *siteInputs) (t *Target, lambda float64, err error) {
	if t, err = NewTarget(name, w, in.gram); err != nil {
		return nil, 0, err
	}
	t.Importance = r.Importance
	if in.drift != nil {
		if lambda, err = in.drift.correct(t); err != nil {
			return nil, 0, fmt.Errorf("compress %s: %w", moduleName(name), err)
		}
	}
	return t, lambda, nil
}

// matrix compresses weight i of a site, whose matrices are g, as the plan says.
func (r *run) matrix(s model.Site, i int, in *siteInputs, g *group) error {
	sw, choice := s.Weights[i], func(i int) Choice { return r.plan[moduleName(s.Weights[i].Name)].Choice }
	m := r.plan[moduleName(sw.Name)]
	w, err := r.w.Source().Weight(sw.Name)
	if err != nil {
		return err
	}
	done := ModuleReport{Name: m.Name, Layer: s.Layer, Form: m.Form, Kind: m.Choice.String(), BytesBefore: layers.StoredBytes(w), Bytes: layers.StoredBytes(w), elements: int64(sw.Out) * int64(s.In)}
	defer func() { r.report.Modules = append(r.report.Modules, done) }()
	if m.Form == FormKeep {
		return nil
	}
	f, err := formOf(m.Choice)
	if err != nil {
		return fmt.Errorf("compress %s: %w", m.Name, err)
	}
	done.Predicted = m.Error
	var t *Target
	if t, done.Lambda, err = r.target(sw.Name, w, in); err != nil {
		return err
	}
	made, err := f.Make(t.in(g, i), m.Choice)
	if err != nil {
		return err
	}
	if done.Reached, err = t.Error(made); err != nil {
		return err
	}
	if done.HeldOut, err = heldOut(w, made, in.held, t.judged()); err != nil {
		return err
	}
	done.Bytes = layers.StoredBytes(made)
	if shares(i, choice) {
		size, err := f.Footprint(sw.Out, s.In, m.Choice)
		if err != nil {
			return err
		}
		done.Bytes -= size.Bytes() - size.Own().Bytes()
	}
	r.overlay.Set(sw.Name, made)
	return nil
}

// heldOut returns the relative squared error of made, which stands for of, on inputs (tokens, in), judged on the rows of s; nil
// without inputs.
func heldOut(of, made layers.Weight, inputs [][]float32, s *sample) (*float64, error) {
	if len(inputs) == 0 {
		return nil, nil
	}
	w, err := s.matrix(of)
	if err != nil {
		return nil, err
	}
	e, err := s.matrix(made)
	if err != nil {
		return nil, err
	}
	for i, v := range e.Data {
		e.Data[i] = w.Data[i] - v
	}
	lost, whole := make([]float64, w.Rows), make([]float64, w.Rows)
	for _, x := range inputs {
		m := linalg.FromFloat32s(x, len(x)/w.Cols, w.Cols)
		t := linalg.Precision(m.Rows, m.Cols, w.Rows)
		addSquares(lost, linalg.MulT(m, e, t))
		addSquares(whole, linalg.MulT(m, w, t))
	}
	relative := s.sum(lost) / s.sum(whole)
	return &relative, nil
}

// addSquares adds the squares of each column of m to sums.
func addSquares(sums []float64, m linalg.Matrix) {
	for i := range m.Rows {
		for j, v := range m.Row(i) {
			sums[j] += v * v
		}
	}
}

// moduleName returns the name of the module that a weight belongs to.
func moduleName(weight string) string { return strings.TrimSuffix(weight, ".weight") }

func verification(m *divergence.Meter) *Verification {
	r := m.Result()
	return &Verification{
		Tokens: r.Tokens, KLMean: r.KLMean, KLP50: r.KLP50, KLP90: r.KLP90, KLP99: r.KLP99, KLMax: r.KLMax, Top1: r.Top1,
		PerplexityBefore: r.Reference.Perplexity(), PerplexityAfter: r.Model.Perplexity(),
	}
}
