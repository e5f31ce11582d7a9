package launch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"eckart/model"
	"eckart/model/compress"
)

// meet plans and compresses until the goal is met.
func (c *compression) meet(ctx context.Context) (*compress.Result, error) {
	if c.flags.KL != 0 && !c.met {
		return c.bisect(ctx)
	}
	p, err := c.plan(ctx)
	if err != nil {
		return nil, err
	}
	return c.run(ctx, p)
}

// meets reports whether the model as it is stored is within what is asked for, so that nothing has to be learned or planned.
func (c *compression) meets() (bool, error) {
	f := c.flags
	if f.Method != "" || f.Plan != "" || f.KL != 0 {
		return false, nil // these ask for a form, or for the smallest
	}
	p, err := c.policy()
	if err != nil {
		return false, err
	}
	keep, err := compress.Keep(c.walker)
	if err != nil {
		return false, err
	}
	if p.Seconds == 0 {
		return p.Bytes >= keep.Bytes, nil
	}
	before, _, err := keep.Seconds(c.walker, p.Costs)
	return before <= p.Seconds, err
}

// plan makes the plan, or reads that of --plan.
func (c *compression) plan(ctx context.Context) (*compress.Plan, error) {
	if c.met {
		p, err := compress.Keep(c.walker)
		if err == nil {
			p.Model, p.Policy = c.digest, c.flags.words()
		}
		return p, err
	}
	if f := c.flags.Plan; f != "" {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read --plan: %w", err)
		}
		p, err := compress.ParsePlan(text)
		if err == nil {
			err = p.Check(c.walker, c.digest)
		}
		if err != nil {
			return nil, fmt.Errorf("--plan %s: %w", f, err)
		}
		return p, nil
	}
	planner, err := c.planner(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	return c.choose(planner, policy)
}

// choose has planner choose, and says what the plan is for.
func (c *compression) choose(planner *compress.Planner, policy compress.Policy) (*compress.Plan, error) {
	p, err := planner.Plan(policy)
	var short *compress.BudgetError
	if errors.As(err, &short) {
		least, e := c.smallest(short)
		if e != nil {
			return nil, errors.Join(err, e)
		}
		return nil, fmt.Errorf("%w; the least is %s", err, least)
	}
	if err != nil {
		return nil, err
	}
	p.Model = c.digest
	if c.known != nil {
		p.Calibration = c.known.Statistics().Digest
	}
	return p, nil
}

// smallest returns the flag that asks for the least there is, in the place of one that asks for less: a little more, so that
// its value is short.
func (c *compression) smallest(e *compress.BudgetError) (string, error) {
	sum, err := compress.Matrices(c.walker)
	if err != nil {
		return "", err
	}
	switch f := c.flags; {
	case f.Ratio != 0:
		ratio := shortest(1e4, e.Least/float64(sum.Bytes), func(r float64) bool { return ratioBytes(r, sum) >= int64(e.Least) })
		return fmt.Sprintf("--ratio %.4f", ratio), nil
	case f.Bits != 0:
		bits := shortest(1e3, 8*e.Least/float64(sum.Elements), func(b float64) bool { return bitsBytes(b, sum) >= int64(e.Least) })
		return fmt.Sprintf("--bits %.3f", bits), nil
	case f.Latency != 0:
		const step = 10 * time.Microsecond
		missing := time.Duration((e.Least - e.Want) * float64(time.Microsecond))
		return fmt.Sprintf("--latency %v", (f.Latency + missing + step).Truncate(step)), nil
	}
	// A context and a cache that are left open grow with memory.
	for memory := int64(c.flags.Memory); ; {
		s := c.asked
		rest, err := c.model.besides(&s, memory, sum.Bytes)
		if err != nil {
			return "", err
		}
		least := (rest + int64(e.Least) + 1<<20 - 1) >> 20 << 20
		if least <= memory {
			return fmt.Sprintf("--memory %dMiB", memory>>20), nil
		}
		memory = least
	}
}

// shortest returns the least multiple of 1/parts, from a number on, that meets what is asked for.
func shortest(parts, from float64, meets func(float64) bool) float64 {
	n := math.Ceil(from * parts)
	for !meets(n / parts) {
		n++
	}
	return n / parts
}

// ratioBytes and bitsBytes return the bytes that flags grant to matrices.
func ratioBytes(ratio float64, of compress.Sum) int64 { return int64(ratio * float64(of.Bytes)) }

func bitsBytes(bits float64, of compress.Sum) int64 { return int64(bits / 8 * float64(of.Elements)) }

// space returns what the planner chooses from.
func (c *compression) space() (compress.Space, error) {
	if c.flags.Method == "" {
		return compress.Space{Importance: c.importance}, nil
	}
	only, err := compress.ParseChoice(c.flags.Method, c.known != nil)
	return compress.Space{Only: &only, Ratio: c.flags.Ratio, Importance: c.importance}, err
}

// maxMatrixError is the most of itself that a matrix may lose where there is another choice: beyond it, errors no longer
// add up as the plan assumes.
const maxMatrixError = 0.25

// policy returns what the plan is made for.
func (c *compression) policy() (compress.Policy, error) {
	f := c.flags
	p := compress.Policy{Words: f.words(), MaxError: maxMatrixError}
	sum, err := compress.Matrices(c.walker)
	if err != nil {
		return p, err
	}
	switch {
	case f.Ratio != 0:
		p.Bytes = ratioBytes(f.Ratio, sum)
	case f.Bits != 0:
		p.Bytes = bitsBytes(f.Bits, sum)
	case f.Memory != 0:
		rest, err := c.model.besides(&c.options.Sizing, int64(f.Memory), sum.Bytes)
		if err != nil {
			return p, err
		}
		p.Bytes, p.InMemory = int64(f.Memory)-rest, true
	case f.Latency != 0:
		if err := c.measureCosts(); err != nil {
			return p, err
		}
		p.Costs = *c.costs
		head, err := c.model.Source.Weight(model.Tables(c.model.Config)[0] + ".weight")
		if err != nil {
			return p, err
		}
		p.Seconds = f.Latency.Seconds() - p.Costs.Seconds(compress.FootprintOf(head))
	case f.KL != 0:
		p.Loss = f.KL
	}
	return p, nil
}

// klRounds bounds how often a plan is tried for --kl.
const klRounds = 5

// bisect looks for the smallest model that stays under --kl: what plans predict is off by a factor that differs from model
// to model, and hardly from plan to plan.
func (c *compression) bisect(ctx context.Context) (*compress.Result, error) {
	planner, err := c.planner(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	goal := c.flags.KL
	low, high := 0.0, math.Inf(1) // predicted losses: what was under the goal, and what was above it
	var best *compress.Result
	nearest := math.Inf(1)
	for range klRounds {
		p, err := c.choose(planner, policy)
		if err != nil {
			return nil, err
		}
		r, err := c.run(ctx, p)
		if err != nil {
			return nil, err
		}
		reached := r.Report.Verified.KLMean
		nearest = min(nearest, reached)
		c.rounds++
		c.progress(fmt.Sprintf("compressed to a divergence of %.4f", reached), c.rounds, klRounds)
		if reached <= goal {
			low = policy.Loss
			if best == nil || r.Report.After.LinearBytes < best.Report.After.LinearBytes {
				best = r
			}
			if reached > 0.9*goal {
				break
			}
		} else {
			high = policy.Loss
		}
		next := policy.Loss * goal / max(reached, goal/16)
		if next <= low || next >= high {
			next = (low + min(high, 4*max(low, goal))) / 2
		}
		policy.Loss = next
	}
	if best == nil {
		return nil, fmt.Errorf("compress: none of %d plans stayed under --kl %g, the nearest came to %.3g: ask for more, or for a size", c.rounds, goal, nearest)
	}
	return best, nil
}

// besides returns the bytes that the model takes for anything but the matrices of its blocks, which are stored in so many
// bytes, to be served within memory. A context and a cache that s leaves open are chosen: as much of the context as a
// quarter of memory holds for one sequence.
func (m *Model) besides(s *Sizing, memory, matrices int64) (int64, error) {
	if s.Slots == 0 {
		s.Slots = defaultSlots
	}
	if s.StepTokens == 0 {
		s.StepTokens = max(defaultStepTokens, s.Slots)
	}
	measure := func(l model.Limits) (model.Footprint, error) { return model.Measure(m.Source, l) }
	quarter := max(1, memory/4) // a cache of 0 bytes would stand for one that is left open
	if s.CacheMemory > 0 {
		quarter = s.CacheMemory
	} else {
		s.CacheMemory = quarter
	}
	open := s.Context == 0
	if open {
		s.Context = min(m.Config.MaxPositions, maxDefaultContext)
	}
	for {
		p, err := size(measure, *s, 0)
		if err != nil {
			return 0, err
		}
		if p.Cache <= quarter || !open || s.Context <= minContext {
			return p.Need() - matrices, nil
		}
		s.Context = max(minContext, min(s.Context-blockTokens, int(float64(s.Context)*float64(quarter)/float64(p.Cache))))
	}
}
