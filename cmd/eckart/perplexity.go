package main

import (
	"context"
	"fmt"
	"math"
	"sync"

	"eckart/cmd/internal/launch"
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
)

// scoreSizing returns the sizing that a scorer of such windows needs.
func scoreSizing(window int, cache kernels.DType) launch.Sizing {
	step := min(window, maxScoreStep)
	return launch.Sizing{Context: window, Slots: 1, StepTokens: step, Samples: min(step, scoreRows), CacheType: cache}
}

// newScorer returns a scorer over an instance that was started with a scoreSizing. The instance's engine must not run.
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

// score scores the windows of ids in order; a rest that is shorter than a window is left out. After each window it
// calls progress with the windows done and what came of them so far.
func (s *scorer) score(ctx context.Context, ids []int32, progress func(done int, sum score)) (score, error) {
	var sum score
	for done := 0; (done+1)*s.window <= len(ids); {
		if err := context.Cause(ctx); err != nil {
			return sum, err
		}
		if err := s.run(ids[done*s.window : (done+1)*s.window]); err != nil {
			return sum, fmt.Errorf("score window %d: %w", done+1, err)
		}
		for i, l := range s.losses {
			if math.IsNaN(l) || math.IsInf(l, 0) {
				return sum, fmt.Errorf("score window %d: the logits of token %d are not finite", done+1, i+1)
			}
			sum.add(l)
		}
		done++
		progress(done, sum)
	}
	return sum, nil
}

// run fills losses with those of every token of a window but the first.
func (s *scorer) run(ids []int32) error {
	for from := 0; from < len(ids); from += s.step {
		piece := ids[from:min(from+s.step, len(ids))]
		s.Batch.Reset()
		s.Batch.Add(piece, from, s.blocks, nil)
		err := s.Decoder.ForwardAll(s.Batch, func(first int, logits kernels.Mat) error {
			rows := s.logits[:logits.Rows*logits.Cols]
			s.Stream.Download(kernels.Float32Bytes(rows), logits)
			if err := s.Stream.Sync(); err != nil {
				return err
			}
			s.lose(from+first, rows, ids)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lose computes the losses under logits (rows, vocab), whose first row belongs to token at of ids, on as many threads as
// the model.
func (s *scorer) lose(at int, logits []float32, ids []int32) {
	threads, vocab := s.Device.Threads(), s.Model.Config.Vocab
	rows := len(logits) / vocab
	var all sync.WaitGroup
	for t := range threads {
		all.Go(func() {
			for r := t; r < rows && at+r+1 < len(ids); r += threads {
				s.losses[at+r] = logLoss(logits[r*vocab:(r+1)*vocab], ids[at+r+1])
			}
		})
	}
	all.Wait()
}

// logLoss returns the negative logarithm of id's probability under softmax(logits).
func logLoss(logits []float32, id int32) float64 {
	top := float32(math.Inf(-1))
	for _, v := range logits {
		top = max(top, v)
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(top))
	}
	return math.Log(sum) + float64(top) - float64(logits[id])
}

// A score sums up the losses of tokens.
type score struct {
	tokens       int
	sum, squares float64 // of the losses, and of their squares
}

func (s *score) add(loss float64) {
	s.tokens++
	s.sum += loss
	s.squares += loss * loss
}

// perplexity returns exp(mean loss).
func (s score) perplexity() float64 { return math.Exp(s.sum / float64(s.tokens)) }

// standardError returns the standard error of the perplexity, as if losses were independent: that of the mean loss,
// times the perplexity (the delta method), which is what llama-perplexity prints.
func (s score) standardError() float64 {
	n := float64(s.tokens)
	if n < 2 {
		return 0
	}
	mean := s.sum / n
	return s.perplexity() * math.Sqrt(max(0, s.squares/n-mean*mean)/(n-1))
}
