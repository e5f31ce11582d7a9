package runtime

import (
	"fmt"
	"slices"

	"eckart/kvcache"
)

// A scheduler decides which tokens of which sequences a step computes. It knows no device and no clock: it sees token
// counts and cache blocks. The rule has no phases (as in vLLM's V1 scheduler): a sequence has tokens known and tokens
// computed, and a step computes some of the difference, for running sequences first, then for waiting ones.
//
// Running and waiting sequences together are always in order of arrival: waiting ones start in order, and the sequence
// that gives its blocks back is always the youngest running one, which becomes the first to wait. So the oldest
// sequence only ever moves forward, and since each fits into the cache alone, every sequence ends.
//
// Steps are planned and started, and finished in that order, one after the other or, by follow, with the next one started
// before the one before is finished. What holds then: a plan is made when no step is under way, so that all tokens are
// known to it. A step that follows has one token of each sequence, the one that the step before it will find, so its id is
// not known yet; a sequence whose limit ends it is not in it. It takes nobody in and preempts nobody. A sequence that ends
// for another reason while a step is under way with it is over: it has left those that run, what the step finds for it is
// dropped, and its blocks are free when the step is finished. Blocks are sealed as steps are finished, when their tokens are
// known, and never by a sequence that is over.
type scheduler struct {
	cache   *kvcache.Cache
	slots   int // most sequences that run at once
	running []*sequence
	waiting []*sequence

	step     step // reused by plan
	next     step // follow takes turns with both
	id       [1]int32
	samples  []int // behind work.sample
	finished []*sequence
	over     []*sequence // hold blocks for a step that is under way
}

// one is the sample of a step that follows: of a single token.
var one = []int{0}

// work is what a step computes of one sequence: n tokens from position from on. sample lists, as offsets into them,
// the positions whose logits are wanted: one, none in the middle of a prompt, several once drafts are checked.
type work struct {
	seq     *sequence
	from, n int
	sample  []int
	picked  bool // the device chooses what comes after
	after   int  // in a step that follows: the sample of the step before that is its token
	dropped bool // its sequence was over before it was finished
}

// A step is a decision. It is valid until the next plan.
type step struct {
	work    []work
	preempt []*sequence // give their blocks back, youngest first
	admit   int         // leading waiting sequences that start
	claim   *kvcache.Claim
}

// rows returns the tokens that the step computes.
func (st *step) rows() int {
	n := 0
	for _, w := range st.work {
		n += w.n
	}
	return n
}

// An outcome is what a step found, per sampled position in order: the token, and whether it is the sequence's last for
// a reason that the scheduler cannot see. A token below 0 stands for none: the sequence failed.
type outcome struct {
	ids  []int32
	stop []bool
}

// rower takes the rows of a step; *model.Batch does.
type rower interface {
	Reset()
	Add(tokens []int32, from int, blocks []int32, sample []int)
}

func newScheduler(cache *kvcache.Cache, slots int) *scheduler {
	return &scheduler{
		cache: cache, slots: slots,
		running: make([]*sequence, 0, slots),
		step:    step{work: make([]work, 0, slots), preempt: make([]*sequence, 0, slots)},
		next:    step{work: make([]work, 0, slots)},
		samples: make([]int, 0, slots),
	}
}

// submit adds a sequence to those that wait, or refuses one that would not fit into the cache alone.
func (s *scheduler) submit(q *sequence) error {
	if s.room(q) > s.cache.Blocks() {
		return &ContextError{Prompt: q.prompt, MaxTokens: q.limit - q.prompt, Context: s.cache.Blocks() * s.cache.BlockTokens()}
	}
	s.waiting = append(s.waiting, q)
	return nil
}

// room returns the blocks q holds when it ends. Its last token is never computed.
func (s *scheduler) room(q *sequence) int { return s.cache.BlocksFor(q.limit - 1) }

// idle reports whether there is nothing to do.
func (s *scheduler) idle() bool { return len(s.running) == 0 && len(s.waiting) == 0 }

// plan decides on a step of at most budget tokens; budget is at least the number of slots. It changes nothing. Unless
// the scheduler is idle, the step has work.
func (s *scheduler) plan(budget int) *step {
	st := &s.step
	*st = step{work: st.work[:0], preempt: st.preempt[:0], claim: s.cache.Begin()}
	s.samples = s.samples[:0]
	keep := len(s.running) // running sequences that keep their blocks

	// One token each for the sequences that generate: nobody's reply waits for another's prompt.
	for i := 0; i < keep; i++ {
		q := s.running[i]
		if q.left() > 1 {
			continue
		}
		for st.claim.Add(q.kv, 0, 1) != nil {
			keep = s.preemptYoungest(keep)
			if keep == i {
				break // q was the youngest
			}
		}
		if i < keep {
			s.give(q, q.computed, 1)
			budget--
		}
	}
	// Then prompts, in order, as far as the budget goes.
	for i := 0; i < keep && budget > 0; i++ {
		q := s.running[i]
		if q.left() == 1 {
			continue
		}
		// Without room it waits. There is work in this step then: only the youngest can be within its prompt, since
		// none starts before the budget has reached the end of those before, and alone it would have room.
		if n := min(budget, q.left()); st.claim.Add(q.kv, 0, n) == nil {
			s.give(q, q.computed, n)
			budget -= n
		}
	}
	if len(st.preempt) == 0 {
		s.admit(budget)
	}
	return st
}

// preemptYoungest lets the last of the first keep running sequences give its blocks back.
func (s *scheduler) preemptYoungest(keep int) int {
	q := s.running[keep-1]
	s.step.claim.Drop(q.kv)
	s.step.preempt = append(s.step.preempt, q)
	return keep - 1
}

// give puts n tokens of q from position from on into the step.
func (s *scheduler) give(q *sequence, from, n int) {
	w := work{seq: q, from: from, n: n}
	if from+n == len(q.tokens) {
		s.samples = append(s.samples, n-1)
		w.sample = s.samples[len(s.samples)-1:]
	}
	s.step.work = append(s.step.work, w)
}

// admit starts waiting sequences in order, as long as there are slots, budget and room. A sequence needs room for all
// its known tokens, after what the running ones still need for theirs and one block more for each that goes on
// growing: a sequence that was preempted does not come back only to be preempted again.
func (s *scheduler) admit(budget int) {
	st := &s.step
	reserve := 0
	for _, q := range s.running {
		reserve += s.unclaimed(q, q.computed)
	}
	for _, w := range st.work {
		reserve -= s.cache.BlocksFor(w.from+w.n) - s.cache.BlocksFor(w.from)
	}
	for budget > 0 && st.admit < len(s.waiting) && len(s.running)+st.admit < s.slots {
		q := s.waiting[st.admit]
		cached := s.cache.Match(q.kv, q.tokens)
		if s.awaits(q, cached) {
			return
		}
		whole := st.claim.Need(q.kv, cached, len(q.tokens)-cached)
		alone := len(s.running)+st.admit == 0
		if !alone && whole+s.growth(q)+reserve > st.claim.Room() {
			return
		}
		n := min(budget, len(q.tokens)-cached)
		if st.claim.Add(q.kv, cached, n) != nil {
			return
		}
		s.give(q, cached, n)
		budget -= n
		reserve += s.unclaimed(q, cached+n)
		st.admit++
	}
}

// unclaimed returns the blocks q needs soon, beyond those for its first computed tokens.
func (s *scheduler) unclaimed(q *sequence, computed int) int {
	return s.cache.BlocksFor(len(q.tokens)) - s.cache.BlocksFor(computed) + s.growth(q)
}

// growth is 1 when q will need a block for tokens that are not known yet.
func (s *scheduler) growth(q *sequence) int {
	if s.room(q) > s.cache.BlocksFor(len(q.tokens)) {
		return 1
	}
	return 0
}

// awaits reports whether a running sequence is about to compute the tokens that q needs next. Then q waits for them:
// of several equal prompts that come at once, one is computed.
func (s *scheduler) awaits(q *sequence, cached int) bool {
	for _, o := range s.running {
		if s.cache.Awaits(q.kv, cached, o.kv) {
			return true
		}
	}
	for _, o := range s.waiting[:s.step.admit] {
		if s.cache.Awaits(q.kv, cached, o.kv) {
			return true
		}
	}
	return false
}

// start makes the step so and fills the batch.
func (s *scheduler) start(st *step, b rower) {
	st.claim.Commit()
	for _, q := range st.preempt {
		q.computed = 0
		q.preempted++
		s.running = s.running[:len(s.running)-1]
		s.waiting = slices.Insert(s.waiting, 0, q)
	}
	for _, q := range s.waiting[:st.admit] {
		q.admit()
		s.running = append(s.running, q)
	}
	s.waiting = slices.Delete(s.waiting, 0, st.admit)
	b.Reset()
	for _, w := range st.work {
		w.seq.computed = w.from
		w.seq.underway++
		if w.seq.cached < 0 {
			w.seq.cached = w.from
		}
		b.Add(w.seq.tokens[w.from:w.from+w.n], w.from, w.seq.kv.Blocks(), w.sample)
	}
}

// follow decides on the step after st, which is under way and will find the next token of every sequence that runs. It
// returns nil, and changes nothing, where that step cannot be foreseen: one that waits may come in, a prompt goes on, the
// host chooses, the cache is full; or where there is nothing to do. st stays valid.
func (s *scheduler) follow(st *step) *step {
	next := &s.step
	if st == next {
		next = &s.next
	}
	*next = step{work: next.work[:0], preempt: next.preempt[:0], claim: s.cache.Begin()}
	if s.admissible(next.claim) {
		return nil
	}
	live, sample := 0, 0
	for _, w := range st.work {
		q := w.seq
		switch {
		case q.over:
		case !w.picked:
			return nil
		case len(q.tokens)+1 < q.limit:
			if next.claim.Add(q.kv, 0, 1) != nil {
				return nil
			}
			next.work = append(next.work, work{seq: q, from: w.from + w.n, n: 1, sample: one, picked: true, after: sample})
			live++
		default:
			live++ // the step is its last
		}
		sample += len(w.sample)
	}
	if live < len(s.running) || len(next.work) == 0 {
		return nil
	}
	return next
}

// admissible reports whether a plan may let the first of those that wait come in, given an empty claim. It says so whenever
// a plan would, and more often: nobody waits for a plan that never comes.
func (s *scheduler) admissible(claim *kvcache.Claim) bool {
	if len(s.waiting) == 0 || len(s.running) == s.slots {
		return false
	}
	q := s.waiting[0]
	cached := s.cache.Match(q.kv, q.tokens)
	return claim.Need(q.kv, cached, len(q.tokens)-cached)+s.growth(q) <= claim.Room()
}

// startAhead makes a step of follow so and fills the batch: an id of -1-i stands for the i-th that the step before finds.
func (s *scheduler) startAhead(st *step, b rower) {
	st.claim.Commit()
	b.Reset()
	for _, w := range st.work {
		w.seq.underway++
		s.id[0] = -1 - int32(w.after)
		b.Add(s.id[:], w.from, w.seq.kv.Blocks(), w.sample)
	}
}

// finish records what the step found and returns the sequences that ended with it. Their blocks are free again, unless
// a step is under way with them. The slice is valid until the next finish.
func (s *scheduler) finish(st *step, out outcome) []*sequence {
	s.finished = s.finished[:0]
	at := 0
	for _, w := range st.work {
		q := w.seq
		q.underway--
		if q.over {
			at += len(w.sample)
			continue
		}
		q.computed += w.n
		s.cache.Seal(q.kv, q.tokens[:q.computed])
		for range w.sample {
			id, stop := out.ids[at], out.stop[at]
			at++
			if id >= 0 {
				q.tokens = append(q.tokens, id)
			}
			if stop || id < 0 || len(q.tokens) >= q.limit {
				s.finished = append(s.finished, q)
			}
		}
	}
	if at != len(out.ids) {
		panic(fmt.Sprintf("BUG: %d tokens for %d samples", len(out.ids), at))
	}
	if len(s.finished)+len(s.over) > 0 {
		for _, q := range s.finished {
			s.running = remove(s.running, q)
			q.over = true
		}
		s.over = append(s.over, s.finished...)
		s.release()
	}
	return s.finished
}

// release frees the blocks of sequences that are over, as far as no step is under way with them.
func (s *scheduler) release() {
	claim := s.cache.Begin()
	s.over = slices.DeleteFunc(s.over, func(q *sequence) bool {
		if q.underway > 0 {
			return false
		}
		claim.Drop(q.kv)
		return true
	})
	claim.Commit()
}

// cancel takes q away, wherever it is, and frees its blocks, unless a step is under way with it: then when that is
// finished. It reports whether q was still here.
func (s *scheduler) cancel(q *sequence) bool {
	if i := slices.Index(s.waiting, q); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		return true
	}
	if !slices.Contains(s.running, q) {
		return false
	}
	s.running = remove(s.running, q)
	q.over = true
	s.over = append(s.over, q)
	s.release()
	return true
}

// abandon gives up all sequences, and the steps that are under way, which will not be finished. It returns those that had
// not ended. The cache is left without references.
func (s *scheduler) abandon() []*sequence {
	left := append(slices.Clone(s.running), s.waiting...)
	s.over = append(s.over, s.running...)
	for _, q := range s.over {
		q.underway, q.over = 0, true
	}
	s.running, s.waiting = s.running[:0], s.waiting[:0]
	s.release()
	return left
}

func remove(all []*sequence, q *sequence) []*sequence {
	i := slices.Index(all, q)
	return slices.Delete(all, i, i+1)
}
