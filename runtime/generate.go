package runtime

import (
	"context"
	"iter"
	"slices"
	"sync"
)

// Generate returns the tokens that continue a prompt, as they are generated. Nothing happens before the iteration
// starts. An error ends it: ErrInvalid or a *ContextError for a request that cannot be, ErrQueueFull, ErrClosed,
// ErrLogits, ErrFault, or the cause of ctx. A caller that breaks out, or whose ctx is done, gives its blocks back
// before the engine's next step. Reading slowly holds nobody up.
func (e *Engine) Generate(ctx context.Context, r Request) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		q, err := e.enqueue(ctx, r)
		if err != nil {
			yield(Token{}, err)
			return
		}
		ended := false
		defer func() {
			if !ended {
				e.leave(q)
			}
		}()
		var tokens []Token
		for {
			var over bool
			tokens, over, err = q.out.take(tokens)
			for _, t := range tokens {
				if ctx.Err() != nil {
					break
				}
				if t.Finish != "" {
					ended = true
				}
				if !yield(t, nil) || ended {
					return
				}
			}
			if over {
				ended = true
				yield(Token{}, err)
				return
			}
			select {
			case <-q.out.ready:
			case <-ctx.Done():
				// The engine learns it now, not after the caller has dealt with the error.
				ended = true
				e.leave(q)
				yield(Token{}, context.Cause(ctx))
				return
			case <-e.done:
				// What was delivered before the engine ended is read first.
				select {
				case <-q.out.ready:
				default:
					ended = true
					yield(Token{}, e.closed())
					return
				}
			}
		}
	}
}

// closed says why no more requests are taken.
func (e *Engine) closed() error {
	if err := e.Healthy(); err != nil {
		return err
	}
	return ErrClosed
}

// enqueue checks a request and sends it to the loop.
func (e *Engine) enqueue(ctx context.Context, r Request) (*sequence, error) {
	select {
	case <-e.draining:
		return nil, e.closed()
	default:
	}
	if err := r.check(e.vocab); err != nil {
		return nil, err
	}
	// Without a limit of its own a reply may fill the context.
	if len(r.Prompt) >= e.context || r.MaxTokens > e.context-len(r.Prompt) {
		return nil, &ContextError{Prompt: len(r.Prompt), MaxTokens: r.MaxTokens, Context: e.context}
	}
	limit := e.context
	if r.MaxTokens > 0 {
		limit = len(r.Prompt) + r.MaxTokens
	}
	for most := int64(e.o.Slots + e.o.Queue); ; {
		n := e.flight.Load()
		if n >= most {
			e.counters.rejected.Add(1)
			return nil, ErrQueueFull
		}
		if e.flight.CompareAndSwap(n, n+1) {
			break
		}
	}
	q := newSequence(r.ID, e.o.Cache, r.Salt, slices.Clone(r.Prompt), limit)
	q.sampler = newSampler(r.Sampling, r.Prompt)
	// The end of the prompt tells the decoder that this text does not begin a text: a leading space stays.
	before := r.Prompt[max(0, len(r.Prompt)-decoderContext):]
	q.text = newText(e.o.Tokenizer.NewStream(!r.KeepSpecial, before...), r.Stop, r.IncludeStop)
	q.stopIDs = slices.Clone(r.StopIDs)
	q.ends = slices.Clone(r.StopIDs)
	if !r.IgnoreEOS {
		q.ends = append(q.ends, e.o.EOS...)
	}
	q.minTokens, q.logprobs = r.MinTokens, r.Logprobs
	q.out.ready = make(chan struct{}, 1)
	select {
	case e.calls <- call{q: q}:
		return q, nil
	case <-ctx.Done():
		e.flight.Add(-1)
		return nil, context.Cause(ctx)
	case <-e.done:
		return nil, e.closed()
	}
}

// decoderContext is how many tokens of the prompt the decoder sees: more than special tokens stand in a row.
const decoderContext = 16

// leave tells the loop that nobody reads q any more.
func (e *Engine) leave(q *sequence) {
	select {
	case e.calls <- call{q: q, leave: true}:
	case <-e.done:
	}
}

// A mailbox carries tokens from the loop to the goroutine that reads them. The loop never waits for the reader: what
// is not read stays, at most the tokens of one sequence. The reader waits on ready.
type mailbox struct {
	mu     sync.Mutex
	tokens []Token
	over   bool // err ended the sequence, after tokens
	err    error
	ready  chan struct{} // holds one signal
}

// put adds a token.
func (m *mailbox) put(t Token) {
	m.mu.Lock()
	m.tokens = append(m.tokens, t)
	m.mu.Unlock()
	m.signal()
}

// end adds the error that ended the sequence.
func (m *mailbox) end(err error) {
	m.mu.Lock()
	m.over, m.err = true, err
	m.mu.Unlock()
	m.signal()
}

func (m *mailbox) signal() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take returns the tokens that are there, and the error after them. read is what the last take returned: its memory is
// used for the tokens to come.
func (m *mailbox) take(read []Token) (tokens []Token, over bool, err error) {
	clear(read)
	m.mu.Lock()
	defer m.mu.Unlock()
	tokens, m.tokens = m.tokens, read[:0]
	return tokens, m.over, m.err
}
