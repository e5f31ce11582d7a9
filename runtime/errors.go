package runtime

import (
	"errors"
	"fmt"
)

var (
	// ErrQueueFull says that as many requests wait as may; the request was not taken.
	ErrQueueFull = errors.New("queue of requests is full")
	// ErrClosed says that the engine takes no more requests, or ended before the request did.
	ErrClosed = errors.New("engine is closed")
	// ErrInvalid marks a request that asks for what cannot be: a setting out of its range, an id that is no token.
	ErrInvalid = errors.New("invalid request")
	// ErrLogits marks a request whose next token cannot be chosen: a logit is not a number, or every token is banned.
	// Other requests are not touched by it.
	ErrLogits = errors.New("no token can be chosen")
	// ErrFault marks the device's failure, which ends Run and every request.
	ErrFault = errors.New("device fault")
)

// A ContextError says that a request does not fit into the context.
type ContextError struct {
	Prompt    int // tokens of the prompt
	MaxTokens int // tokens asked for, 0 when the request left it open
	Context   int // most tokens of a sequence
}

// Error names the numbers.
func (e *ContextError) Error() string {
	if e.MaxTokens > 0 {
		return fmt.Sprintf("prompt of %d tokens and %d to generate exceed the context of %d tokens", e.Prompt, e.MaxTokens, e.Context)
	}
	return fmt.Sprintf("prompt of %d tokens leaves no room in the context of %d tokens", e.Prompt, e.Context)
}
