package runtime

import (
	"slices"

	"eckart/kvcache"
)

// A sequence is a request on its way. The scheduler sees its tokens, and how many of them the cache holds; the engine
// what becomes of them.
type sequence struct {
	id       string
	tokens   []int32 // the prompt and what was generated
	prompt   int     // tokens of the prompt
	limit    int     // most tokens it may have
	computed int     // leading tokens whose keys and values are in the cache
	kv       *kvcache.Seq

	underway int  // steps that were started with tokens of it and not finished
	over     bool // it has ended, and holds its blocks for such a step

	cached    int // tokens that the cache held when it first started, -1 before
	preempted int // times it gave its blocks back

	sampler   *sampler
	text      text
	ends      []int32 // tokens that end the text
	stopIDs   []int32 // those of them that the request named
	minTokens int     // tokens before which nothing ends the text
	logprobs  int     // alternatives wanted, -1 for no log-probabilities

	token  Token // of this step
	failed error // why there is none
	out    mailbox
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

// banned returns the tokens that may not come after n generated ones.
func (q *sequence) banned(n int) []int32 {
	if n < q.minTokens {
		return q.ends
	}
	return nil
}

// plain reports whether the token after n generated ones takes the logits as they are and nothing more of them, so that a
// device can choose it.
func (q *sequence) plain(n int) bool {
	return q.logprobs < 0 && !q.sampler.penalizes() && !q.sampler.adjusts(q.banned(n))
}

// admit grows the token list once, for all that will come: from here on a step does not allocate for it. A sequence
// that waits takes no more memory than its prompt.
func (q *sequence) admit() { q.tokens = slices.Grow(q.tokens, q.limit-len(q.tokens)) }

// read adds the token to the text: it fills in what became certain, and why the text ends if it does. The token is not
// yet among those of q.
func (q *sequence) read(t *Token) {
	n := q.generated() + 1
	heed := n > q.minTokens
	if slices.Contains(q.ends, t.ID) && heed {
		t.Finish = FinishStop
		if slices.Contains(q.stopIDs, t.ID) {
			t.StopID = t.ID
		}
		if q.text.include {
			t.Text, t.StopString = q.text.push(t.ID, heed)
		}
	} else {
		t.Text, t.StopString = q.text.push(t.ID, heed)
		if q.prompt+n >= q.limit {
			t.Finish = FinishLength
		}
	}
	if t.Finish != "" && t.StopString == "" {
		var rest string
		rest, t.StopString = q.text.flush()
		t.Text += rest
	}
	if t.StopString != "" {
		t.Finish, t.StopID = FinishStop, -1
	}
}

// deliver hands out what the step found for q.
func (q *sequence) deliver() {
	if q.failed != nil {
		q.out.end(q.failed)
		return
	}
	q.out.put(q.token)
	q.token = Token{}
}
