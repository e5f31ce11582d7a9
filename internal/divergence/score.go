package divergence

import "math"

// Losses sets losses to the negative logarithms of the probabilities that rows of logits (len(losses), vocab) give to the
// tokens that follow, on as many goroutines as threads. Where logits have no softmax, the loss is not finite.
func Losses(losses []float64, logits []float32, next []int32, threads int) {
	if len(losses) == 0 {
		return
	}
	vocab := len(logits) / len(losses)
	forRows(len(losses), threads, func(_, r int) { losses[r] = loss(logits[r*vocab:(r+1)*vocab], next[r]) })
}

// loss returns the negative logarithm of id's probability under softmax(logits).
func loss(logits []float32, id int32) float64 {
	top := float64(logits[peak(logits)])
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return math.Log(sum) + top - float64(logits[id])
}

// A Score sums up the losses of tokens.
type Score struct {
	Tokens       int
	sum, squares float64 // of the losses, and of their squares
}

// Add counts a token with its loss.
func (s *Score) Add(loss float64) {
	s.Tokens++
	s.sum += loss
	s.squares += loss * loss
}

// Perplexity returns exp(mean loss), 0 for no token.
func (s Score) Perplexity() float64 {
	if s.Tokens == 0 {
		return 0
	}
	return math.Exp(s.sum / float64(s.Tokens))
}

// StandardError returns the standard error of the perplexity, as if losses were independent: that of the mean loss,
// times the perplexity (the delta method), which is what llama-perplexity prints.
func (s Score) StandardError() float64 {
	n := float64(s.Tokens)
	if n < 2 {
		return 0
	}
	mean := s.sum / n
	return s.Perplexity() * math.Sqrt(max(0, s.squares/n-mean*mean)/(n-1))
}
