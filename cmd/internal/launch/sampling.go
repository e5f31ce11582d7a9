package launch

import (
	"fmt"

	"eckart/api/openai"
	"eckart/cmd/internal/command"
)

// Sampling are the flags that choose what a request leaves open.
type Sampling struct {
	Temperature       *float32 `placeholder:"X" help:"0 takes the most likely token."`
	TopP              *float32 `name:"top-p" placeholder:"X" help:"Probability that the tokens to choose from reach together."`
	TopK              *int     `name:"top-k" placeholder:"N" help:"Number of tokens to choose from; 0 for all."`
	MinP              *float32 `name:"min-p" placeholder:"X" help:"Least probability of a token, relative to the most likely one."`
	RepetitionPenalty *float32 `placeholder:"X" help:"More than 1 makes tokens that occurred less likely."`
	MaxTokens         *int     `placeholder:"N" help:"Most tokens of an answer."`
}

// Defaults checks the flags and returns them in the server's form.
func (s *Sampling) Defaults() (openai.Defaults, error) {
	for _, f := range []struct {
		flag     string
		value    *float32
		low, top float32
	}{
		{"temperature", s.Temperature, 0, 100},
		{"top-p", s.TopP, 1e-6, 1},
		{"min-p", s.MinP, 0, 1},
		{"repetition-penalty", s.RepetitionPenalty, 0.01, 100},
	} {
		if f.value != nil && !(*f.value >= f.low && *f.value <= f.top) {
			return openai.Defaults{}, &command.UsageError{Err: fmt.Errorf("--%s must be from %g to %g, got %g", f.flag, f.low, f.top, *f.value)}
		}
	}
	if s.TopK != nil && (*s.TopK < 0 || *s.TopK > maxCount) {
		return openai.Defaults{}, &command.UsageError{Err: fmt.Errorf("--top-k must be from 0 to %d, got %d", maxCount, *s.TopK)}
	}
	if s.MaxTokens != nil && (*s.MaxTokens < 1 || *s.MaxTokens > maxCount) {
		return openai.Defaults{}, &command.UsageError{Err: fmt.Errorf("--max-tokens must be from 1 to %d, got %d", maxCount, *s.MaxTokens)}
	}
	return openai.Defaults{
		Temperature: s.Temperature, TopP: s.TopP, TopK: s.TopK, MinP: s.MinP, RepetitionPenalty: s.RepetitionPenalty, MaxTokens: s.MaxTokens,
	}, nil
}
