package runtime

import "sync/atomic"

// Stats are what an engine has done and is doing. Counts only grow.
type Stats struct {
	Running, Waiting        int   // sequences
	BlocksUsed, BlocksTotal int   // of the cache
	PromptTokens            int64 // of prompts whose first token was generated
	CachedTokens            int64 // of those, tokens that the cache held
	GeneratedTokens         int64
	Preemptions             int64   // times that a sequence gave its blocks back
	Rejected                int64   // requests refused because the queue was full
	Steps, Rows             int64   // steps, and the tokens computed in them
	StepSeconds             float64 // spent in steps
	ForwardSeconds          float64 // of those, in the model
}

// counters are the figures behind Stats, written by the loop and read by anyone.
type counters struct {
	running, blocksUsed                         atomic.Int64
	promptTokens, cachedTokens, generatedTokens atomic.Int64
	preemptions, rejected, steps, rows          atomic.Int64
	step, forward                               atomic.Int64 // nanoseconds
}

// Stats returns the present figures. It never holds the loop up; figures of one call may be a step apart.
func (e *Engine) Stats() Stats {
	c := &e.counters
	running := int(c.running.Load())
	return Stats{
		Running:         running,
		Waiting:         max(0, int(e.flight.Load())-running),
		BlocksUsed:      int(c.blocksUsed.Load()),
		BlocksTotal:     e.o.Cache.Blocks(),
		PromptTokens:    c.promptTokens.Load(),
		CachedTokens:    c.cachedTokens.Load(),
		GeneratedTokens: c.generatedTokens.Load(),
		Preemptions:     c.preemptions.Load(),
		Rejected:        c.rejected.Load(),
		Steps:           c.steps.Load(),
		Rows:            c.rows.Load(),
		StepSeconds:     float64(c.step.Load()) / 1e9,
		ForwardSeconds:  float64(c.forward.Load()) / 1e9,
	}
}
