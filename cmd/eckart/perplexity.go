package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"eckart/cmd/internal/launch"
	"eckart/internal/divergence"
	"eckart/kernels"
)

// A scorer says how likely a model finds text. The text comes in windows of equally many tokens, each a sequence of its
// own, of which the first token is context and not scored.
type scorer struct {
	*launch.Instance
	window int     // tokens
	step   int     // most tokens of a step
	blocks []int32 // the cache's, in order
	losses []float64
	logits []float32 // of the rows that are there at once, on the host
}

const (
	// maxScoreStep is the most tokens of a step: what is read for it is spread over enough of them, and the workspace
	// stays small for any window.
	maxScoreStep = 512
	// scoreRows are the rows whose logits are there at once; the logits of a whole window would take 260 MB where the
	// vocabulary has 128,000 tokens.
	scoreRows = 64
	// keptBytes bounds the logits of a step that a comparison keeps, unless scoreRows take more.
	keptBytes = 64 << 20
)

// scoreSizing returns the sizing that a scorer of such windows needs.
func scoreSizing(window int, cache kernels.DType) launch.Sizing {
	step := min(window, maxScoreStep)
	return launch.Sizing{Context: window, Slots: 1, StepTokens: step, Samples: min(step, scoreRows), CacheType: cache}
}

// compareSizing returns the sizing that each scorer of a comparison needs: as scoreSizing, with steps so short that the
// logits of one can be kept.
func compareSizing(window, vocab int, cache kernels.DType) launch.Sizing {
	s := scoreSizing(window, cache)
	s.StepTokens = min(s.StepTokens, max(scoreRows, keptBytes/4/vocab))
	return s
}

// newScorer returns a scorer over an instance that was started with a scoreSizing or compareSizing. The instance's engine
// must not run.
func newScorer(i *launch.Instance, window int) *scorer {
	s := &scorer{
		Instance: i, window: window, step: i.Plan.StepTokens, losses: make([]float64, window-1),
		logits: make([]float32, i.Plan.Limits.Samples*i.Model.Config.Vocab),
	}
	for b := range i.Cache.BlocksFor(window) {
		s.blocks = append(s.blocks, int32(b))
	}
	return s
}

// windows calls f for each window of ids in order; a rest that is shorter than a window is left out.
func windows(ctx context.Context, ids []int32, window int, f func(done int, ids []int32) error) error {
	for done := 0; (done+1)*window <= len(ids); done++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := f(done+1, ids[done*window:(done+1)*window]); err != nil {
			return fmt.Errorf("score window %d: %w", done+1, err)
		}
	}
	return nil
}

// score scores the windows of ids. After each window it calls progress with the windows done and what came of them so far.
func (s *scorer) score(ctx context.Context, ids []int32, progress func(done int, sum divergence.Score)) (divergence.Score, error) {
	var sum divergence.Score
	err := windows(ctx, ids, s.window, func(done int, ids []int32) error {
		for from := 0; from < len(ids); from += s.step {
			err := s.run(ids, from, func(at int, logits []float32, next []int32) error {
				divergence.Losses(s.losses[at:at+len(next)], logits, next, s.Threads)
				return nil
			})
			if err != nil {
				return err
			}
		}
		for i, l := range s.losses {
			if math.IsNaN(l) || math.IsInf(l, 0) {
				return fmt.Errorf("the logits of token %d are not finite", i+1)
			}
			sum.Add(l)
		}
		progress(done, sum)
		return nil
	})
	return sum, err
}

// run computes the step of a window that begins with token from; the steps before must have been computed. It calls use
// with logits (len(next), vocab) for the tokens from at on that are followed by next; the last of a window is followed by
// none.
func (s *scorer) run(ids []int32, from int, use func(at int, logits []float32, next []int32) error) error {
	piece := ids[from:min(from+s.step, len(ids))]
	s.Batch.Reset()
	s.Batch.Add(piece, from, s.blocks, nil)
	return s.Decoder.ForwardAll(s.Batch, func(first int, logits kernels.Mat) error {
		rows := s.logits[:logits.Rows*logits.Cols]
		s.Stream.Download(kernels.Float32Bytes(rows), logits)
		if err := s.Stream.Sync(); err != nil {
			return err
		}
		at := from + first
		next := ids[at+1 : min(at+1+logits.Rows, len(ids))]
		return use(at, rows[:len(next)*logits.Cols], next)
	})
}

// A comparer holds what a model predicts against what a reference does. The two run in turns, a step each.
type comparer struct {
	model, reference *scorer // of one window and step
	kept             []float32
}

func newComparer(model, reference *scorer) *comparer {
	return &comparer{model, reference, make([]float32, model.step*model.Model.Config.Vocab)}
}

// compare compares the windows of ids as score scores them.
func (c *comparer) compare(ctx context.Context, ids []int32, progress func(done int, m *divergence.Meter)) (*divergence.Meter, error) {
	m, vocab := new(divergence.Meter), c.model.Model.Config.Vocab
	err := windows(ctx, ids, c.model.window, func(done int, ids []int32) error {
		for from := 0; from < len(ids); from += c.model.step {
			err := c.reference.run(ids, from, func(at int, logits []float32, _ []int32) error {
				copy(c.kept[(at-from)*vocab:], logits)
				return nil
			})
			if err != nil {
				return fmt.Errorf("run --against: %w", err)
			}
			err = c.model.run(ids, from, func(at int, logits []float32, next []int32) error {
				err := m.AddRows(c.kept[(at-from)*vocab:][:len(logits)], logits, next, c.model.Threads)
				var bad *divergence.NotFiniteError
				if !errors.As(err, &bad) {
					return err
				}
				of := "the model"
				if bad.Reference {
					of = "--against"
				}
				return fmt.Errorf("the logits of %s for token %d are not finite", of, at+bad.Row+1)
			})
			if err != nil {
				return err
			}
		}
		progress(done, m)
		return nil
	})
	return m, err
}
