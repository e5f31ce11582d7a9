package runtime

import (
	"slices"

	"eckart/kvcache"
)

// A sequence is a request on its way: the tokens known, and how many of them the cache holds.
type sequence struct {
	id       string
	tokens   []int32 // the prompt and what was generated
	prompt   int     // tokens of the prompt
	limit    int     // most tokens it may have
	computed int     // leading tokens whose keys and values are in the cache
	kv       *kvcache.Seq

	cached    int // tokens that the cache held when it first started, -1 before
	preempted int // times it gave its blocks back
}

// newSequence returns a sequence of prompt that ends with limit tokens. It keeps the slice.
func newSequence(id string, cache *kvcache.Cache, salt string, prompt []int32, limit int) *sequence {
	return &sequence{
		id: id, tokens: prompt, prompt: len(prompt), limit: limit, cached: -1,
		kv: cache.NewSeq(salt, limit),
	}
}

// left returns how many known tokens are to be computed.
func (q *sequence) left() int { return len(q.tokens) - q.computed }

// generated returns how many tokens were sampled.
func (q *sequence) generated() int { return len(q.tokens) - q.prompt }

// admit grows the token list once, for all that will come: from here on a step does not allocate for it. A sequence
// that waits takes no more memory than its prompt.
func (q *sequence) admit() { q.tokens = slices.Grow(q.tokens, q.limit-len(q.tokens)) }
