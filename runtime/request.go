package runtime

import (
	"fmt"
	"math"
	"slices"
)

// A Request asks for the continuation of a prompt.
type Request struct {
	ID       string  // for logs
	Prompt   []int32 // at least one token; it is copied
	Sampling Sampling

	MaxTokens   int      // most tokens to generate; 0 for as many as the context holds
	MinTokens   int      // tokens before which no end of sequence, stop id or stop string counts
	Stop        []string // the text ends before the first of these, wherever tokens begin and end
	IncludeStop bool     // the text ends after it, and the text of a stop id is shown
	StopIDs     []int32  // tokens that end the text
	IgnoreEOS   bool     // the model's own end of sequence does not end the text

	Logprobs    int    // most likely alternatives wanted per token, at most MaxLogprobs; -1 for no log-probabilities at all
	KeepSpecial bool   // special tokens appear in the text
	Salt        string // prompts share their cached prefix only with those of equal salt
}

// MaxLogprobs is the most alternatives a request may ask for.
const MaxLogprobs = 20

// Sampling says how a token is chosen. Its fields apply in the order of vLLM: logit bias, penalties, temperature,
// min_p, top_k, top_p. DefaultSampling returns the neutral value; the zero value is greedy.
type Sampling struct {
	Temperature float32 // below MinTemperature the most likely token is chosen, of equal ones that with the lowest id
	TopK        int     // only the k most likely tokens; 0 for all
	TopP        float32 // only the most likely tokens that together reach this probability; 1, or 0, for all
	MinP        float32 // only tokens at least this likely relative to the most likely one; 0 for all

	RepetitionPenalty float32 // divides positive and multiplies negative logits of tokens in prompt or output; 1, or 0, for none
	PresencePenalty   float32 // subtracted from the logits of tokens in the output
	FrequencyPenalty  float32 // subtracted once per occurrence in the output
	LogitBias         map[int32]float32

	Seed *uint64 // makes the choice repeatable; nil for another one each time
}

// MinTemperature is the temperature below which sampling is greedy, as in vLLM: smaller ones choose the same token but
// for rounding.
const MinTemperature = 1e-5

// DefaultSampling returns sampling from the model's own distribution: temperature 1 and nothing else.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 1, TopP: 1, RepetitionPenalty: 1}
}

// A Token is one generated token, and the text that became certain with it.
type Token struct {
	ID      int32
	Text    string      // may be empty, while the end of a character or the rest of a stop string is outstanding
	Logprob float32     // of ID under the model's own distribution, when asked for
	Top     []Candidate // the most likely tokens, likeliest first, when asked for

	Finish     Finish // "" until the last token
	StopString string // the stop string that ended the text, if one did
	StopID     int32  // the stop id of the request that ended it, -1 when none did
	Cached     int    // tokens of the prompt that the cache held; set on the first token
}

// A Candidate is a token that could have been chosen. Logprob is the logarithm of its probability: log-softmax of the
// raw logits, before bias, penalties, temperature and filters.
type Candidate struct {
	ID      int32
	Logprob float32
}

// Finish says why a text ended.
type Finish string

// FinishStop is an end by the model, a stop id or a stop string; FinishLength by a limit.
const (
	FinishStop   Finish = "stop"
	FinishLength Finish = "length"
)

// check returns an error of ErrInvalid that names the first field that cannot be, for a vocabulary of vocab tokens.
func (r *Request) check(vocab int) error {
	if len(r.Prompt) == 0 {
		return fmt.Errorf("%w: prompt has no tokens", ErrInvalid)
	}
	for i, id := range r.Prompt {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("%w: token %d of the prompt is %d, want an id below %d", ErrInvalid, i, id, vocab)
		}
	}
	for _, id := range r.StopIDs {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("%w: stop id is %d, want an id below %d", ErrInvalid, id, vocab)
		}
	}
	if slices.Contains(r.Stop, "") {
		return fmt.Errorf("%w: stop string is empty", ErrInvalid)
	}
	switch {
	case r.MaxTokens < 0:
		return fmt.Errorf("%w: max tokens is %d, want at least 0", ErrInvalid, r.MaxTokens)
	case r.MinTokens < 0:
		return fmt.Errorf("%w: min tokens is %d, want at least 0", ErrInvalid, r.MinTokens)
	case r.MaxTokens > 0 && r.MinTokens > r.MaxTokens:
		return fmt.Errorf("%w: min tokens is %d, want at most max tokens, %d", ErrInvalid, r.MinTokens, r.MaxTokens)
	case r.Logprobs < -1 || r.Logprobs > MaxLogprobs:
		return fmt.Errorf("%w: logprobs is %d, want -1 to %d", ErrInvalid, r.Logprobs, MaxLogprobs)
	}
	return r.Sampling.check(vocab)
}

// check returns an error of ErrInvalid that names the first field that cannot be.
func (s *Sampling) check(vocab int) error {
	for _, f := range []struct {
		name     string
		value    float32
		low, top float64
	}{
		{"temperature", s.Temperature, 0, math.MaxFloat32},
		{"top_p", s.TopP, 0, 1},
		{"min_p", s.MinP, 0, 1},
		{"repetition penalty", s.RepetitionPenalty, 0, math.MaxFloat32},
		{"presence penalty", s.PresencePenalty, -math.MaxFloat32, math.MaxFloat32},
		{"frequency penalty", s.FrequencyPenalty, -math.MaxFloat32, math.MaxFloat32},
	} {
		// The comparison is so put that it refuses what is not a number.
		if v := float64(f.value); !(v >= f.low && v <= f.top) {
			return fmt.Errorf("%w: %s is %g, want %.4g to %.4g", ErrInvalid, f.name, f.value, f.low, f.top)
		}
	}
	if s.TopK < 0 {
		return fmt.Errorf("%w: top_k is %d, want at least 0", ErrInvalid, s.TopK)
	}
	for id, bias := range s.LogitBias {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("%w: logit bias for token %d, want an id below %d", ErrInvalid, id, vocab)
		}
		if b := float64(bias); math.IsNaN(b) || math.IsInf(b, 0) {
			return fmt.Errorf("%w: logit bias of token %d is %g", ErrInvalid, id, bias)
		}
	}
	return nil
}
