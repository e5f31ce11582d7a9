package compress

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"eckart/internal/divergence"
	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
)

// probeRounding is how a weight is disturbed to see what its error costs: coarsely enough that the difference stands out
// of the arithmetic's own noise, and quick to make.
var probeRounding = layers.Rounding{Bits: 3, Group: 32, ScaleType: kernels.F16}

// Sensitivities measures what a unit of relative squared error of each weight of the blocks costs, in nats of KL
// divergence from the undisturbed model: the weight alone is rounded to 3 bits, and the divergence on windows is divided by
// the error, for small errors add up and cost in proportion to their squares. Errors are those on the inputs that are known.
//
// All disturbed models are walked side by side: each begins at its weight's block as a copy of the true hidden states, and
// every block is bound once. That is as many hidden states as weights.
func Sensitivities(ctx context.Context, w *model.Walker, known Inputs, windows [][]int32, progress func(done, total int)) (map[string]float64, error) {
	s := &sensing{w: w, known: known, windows: windows}
	if err := s.true.embed(w, windows); err != nil {
		return nil, err
	}
	for i := range w.Layers() {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := s.block(ctx, i); err != nil {
			return nil, err
		}
		progress(i+1, w.Layers())
	}
	return s.finish()
}

// sensing is what Sensitivities has in hand.
type sensing struct {
	w       *model.Walker
	known   Inputs
	windows [][]int32
	true    states
	streams []disturbed
}

// disturbed is the model with one weight rounded.
type disturbed struct {
	weight string
	err    float64
	at     states
}

// states are the hidden states of some windows, each (tokens, dim).
type states [][]float32

// embed fills s with the embeddings of windows.
func (s *states) embed(w *model.Walker, windows [][]int32) error {
	*s = make(states, len(windows))
	for i, ids := range windows {
		(*s)[i] = make([]float32, len(ids)*w.Config().Dim)
		if err := w.Embed((*s)[i], ids); err != nil {
			return err
		}
	}
	return nil
}

// clone returns a copy.
func (s states) clone() states {
	c := make(states, len(s))
	for i, h := range s {
		c[i] = append([]float32(nil), h...)
	}
	return c
}

// forward runs b on all windows.
func (s states) forward(b *model.WalkedBlock) error { return b.ForwardAll(s...) }

// block moves all streams past block i, with those that begin there.
func (s *sensing) block(ctx context.Context, i int) (err error) {
	sites, err := s.w.Sites(i)
	if err != nil {
		return err
	}
	var begun []disturbed
	for _, site := range sites {
		g, err := gramOf(s.known, site.Name)
		if err != nil {
			return err
		}
		for _, sw := range site.Weights {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			weight, err := s.w.Source().Weight(sw.Name)
			if err != nil {
				return err
			}
			t, err := NewTarget(sw.Name, weight, g)
			if err != nil {
				return err
			}
			rounded, err := probeRounding.Quantize(t.W.Float32s(), t.W.Rows, nil)
			if err != nil {
				return fmt.Errorf("measure sensitivity of %s: %w", sw.Name, err)
			}
			d := disturbed{weight: sw.Name, at: s.true.clone()}
			if d.err, err = t.Error(rounded); err != nil {
				return err
			}
			o := model.NewOverlay(s.w.Source())
			o.Set(sw.Name, rounded)
			if err := walkBlock(s.w, i, o, d.at.forward); err != nil {
				return err
			}
			begun = append(begun, d)
		}
	}
	err = walkBlock(s.w, i, s.w.Source(), func(b *model.WalkedBlock) error {
		all := slices.Clone(s.true)
		for _, d := range s.streams {
			all = append(all, d.at...)
		}
		return all.forward(b)
	})
	s.streams = append(s.streams, begun...)
	return err
}

// walkBlock binds block i of src, and frees it after use.
func walkBlock(w *model.Walker, i int, src model.Source, use func(*model.WalkedBlock) error) (err error) {
	b, err := w.Block(i, src)
	if err != nil {
		return err
	}
	defer func() {
		if e := b.Close(); err == nil {
			err = e
		}
	}()
	return use(b)
}

// finish compares the streams with the true model, whose logits are computed once for all of them.
func (s *sensing) finish() (map[string]float64, error) {
	from := make([]states, len(s.streams))
	for i, d := range s.streams {
		from[i] = d.at
	}
	meters, err := divergeAll(s.w, s.w, s.windows, s.true, from)
	if err != nil {
		return nil, fmt.Errorf("measure sensitivities: %w", err)
	}
	result := map[string]float64{}
	for i, d := range s.streams {
		if d.err > 0 {
			result[d.weight] = max(meters[i].Mean(), math.SmallestNonzeroFloat32) / d.err
		}
	}
	return result, nil
}

// diverge compares the logits that follow from hidden states of two models on the same windows: those of a, the reference,
// and of b.
func diverge(a, b *model.Walker, windows [][]int32, of, from states) (*divergence.Meter, error) {
	m, err := divergeAll(a, b, windows, of, []states{from})
	if err != nil {
		return nil, err
	}
	return m[0], nil
}

// divergeAll is diverge for several states of b.
func divergeAll(a, b *model.Walker, windows [][]int32, of states, from []states) ([]*divergence.Meter, error) {
	meters := make([]*divergence.Meter, len(from))
	for i := range meters {
		meters[i] = new(divergence.Meter)
	}
	rows := min(model.LogitsRows, a.Window())
	dim, vocab, threads := a.Config().Dim, a.Config().Vocab, runtime.GOMAXPROCS(0)
	original, logits := make([]float32, rows*vocab), make([]float32, rows*vocab)
	hidden := make([]float32, rows*dim)
	next := followers(windows)
	var reference divergence.Reference
	for first := 0; first < len(next); first += rows {
		n := min(rows, len(next)-first)
		of.part(hidden[:n*dim], first*dim)
		if err := read(a, original[:n*vocab], hidden[:n*dim]); err != nil {
			return nil, err
		}
		reference.Set(original[:n*vocab], n, threads)
		for j, m := range meters {
			from[j].part(hidden[:n*dim], first*dim)
			if err := read(b, logits[:n*vocab], hidden[:n*dim]); err != nil {
				return nil, err
			}
			if err := m.AddPrepared(&reference, logits[:n*vocab], next[first:first+n], threads); err != nil {
				return nil, err
			}
		}
	}
	return meters, nil
}

// followers returns the token that follows each of windows, one window after the other: -1 where nothing does.
func followers(windows [][]int32) (next []int32) {
	for _, ids := range windows {
		next = append(append(next, ids[1:]...), -1)
	}
	return next
}

// part copies elements from one on to dst, as if the states of all windows lay one behind the other.
func (s states) part(dst []float32, first int) {
	for _, h := range s {
		if first >= len(h) {
			first -= len(h)
			continue
		}
		dst = dst[copy(dst, h[first:]):]
		first = 0
	}
}

// read sets dst to the logits that follow from hidden.
func read(w *model.Walker, dst, hidden []float32) error {
	vocab := w.Config().Vocab
	return w.Logits(hidden, func(first int, logits kernels.Mat) error {
		return w.Read(dst[first*vocab:][:logits.Rows*vocab], logits)
	})
}
