package launch

import (
	"fmt"
	"strings"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/model"
)

// blockTokens is the number of tokens of a cache block. A prefix is reused in whole blocks, and a sequence wastes half a
// block on average.
const blockTokens = 16

// Defaults of what the user left open.
const (
	defaultSlots      = 16
	defaultStepTokens = 256
	maxDefaultContext = 32768 // tokens; a longer one is served when --context asks for it
	minContext        = 256   // tokens; a context that has to shrink below is a refusal
)

// A Sizing is what decides how much memory serving takes. Zero stands for "choose" everywhere.
type Sizing struct {
	Context     int           // most tokens of one sequence
	Slots       int           // sequences that run at once
	StepTokens  int           // tokens of one step
	CacheType   kernels.DType // F32, F16 or BF16
	CacheMemory int64         // bytes of the cache
	Samples     int           // rows of a step whose logits are there at once; 0 for one of each slot, which is what generating takes
}

// A Plan is a sizing with nothing left open, and the bytes that it takes. Plans are made before anything is allocated.
type Plan struct {
	Sizing
	ContextFrom string // what set the context, for the user
	Weights     int64  // bytes
	Workspace   int64
	Cache       int64
	Blocks      int // of the cache
	Limits      model.Limits
	Free        int64 // bytes that could be had when the plan was made; 0 when unknown
	Specs       []kvcache.Spec
}

// Need returns the bytes of weights, workspace and cache.
func (p Plan) Need() int64 { return p.Weights + p.Workspace + p.Cache }

// Concurrency returns how many sequences of the full context the cache holds at once.
func (p Plan) Concurrency() float64 { return float64(p.Blocks*blockTokens) / float64(p.Context) }

// measure returns the footprint of a model for steps within limits: model.Measure with its source filled in.
type measure func(model.Limits) (model.Footprint, error)

// margin is what is left alone of free bytes: the tokenizer, requests, and the rest of the machine.
func margin(free int64) int64 { return 64<<20 + free/20 }

// NewPlan decides what s leaves open for a model that was trained for maxPositions tokens, on a device with free bytes
// (0: unknown). The rules:
//
//   - The context is what the model was trained for, at most maxDefaultContext, and less where memory does not hold
//     one sequence of it. A context that the user asked for is never changed.
//   - The cache holds every slot at full context if a quarter of what weights and workspace leave suffices for that,
//     else it takes that quarter, and in any case it holds one sequence.
//   - A margin stays free.
//
// A model that does not fit is a *FitError.
func NewPlan(m measure, maxPositions int, s Sizing, free int64) (Plan, error) {
	if s.Slots == 0 {
		s.Slots = defaultSlots
	}
	if s.StepTokens == 0 {
		s.StepTokens = max(defaultStepTokens, s.Slots)
	}
	from := "--context"
	if s.Context == 0 {
		s.Context, from = maxPositions, "all that the model was trained for"
		if s.Context > maxDefaultContext {
			s.Context = maxDefaultContext
			from = fmt.Sprintf("the default; the model was trained for %d, --context raises it", maxPositions)
		}
	}
	switch {
	case s.Context > maxPositions:
		return Plan{}, fmt.Errorf("plan memory: --context %d is more than the %d positions that the model was trained for", s.Context, maxPositions)
	case s.StepTokens < s.Slots:
		return Plan{}, fmt.Errorf("plan memory: --step-tokens %d is less than --slots %d, and each running sequence takes a token of a step", s.StepTokens, s.Slots)
	}

	p, err := size(m, s, free)
	if err != nil {
		return Plan{}, err
	}
	p.ContextFrom = from
	if p.fits() {
		return p, nil
	}
	largest, err := largestContext(m, s, free)
	if err != nil {
		return Plan{}, err
	}
	if from != "--context" && largest >= minContext {
		s.Context = largest
		p, err := size(m, s, free)
		p.ContextFrom = fmt.Sprintf("what memory holds; the model was trained for %d", maxPositions)
		return p, err
	}
	return Plan{}, refuse(m, p, largest)
}

// fits reports whether the plan leaves the margin free.
func (p Plan) fits() bool { return p.Free == 0 || p.Need()+margin(p.Free) <= p.Free }

// size fills a plan for a sizing, whether it fits or not.
func size(m measure, s Sizing, free int64) (Plan, error) {
	samples := s.Samples
	if samples == 0 {
		samples = s.Slots
	}
	perSequence := (s.Context + blockTokens - 1) / blockTokens
	p := Plan{Sizing: s, Free: free, Limits: model.Limits{
		Rows: s.StepTokens, Seqs: s.Slots, Samples: samples, Blocks: perSequence, BlockTokens: blockTokens,
	}}
	f, err := m(p.Limits)
	if err != nil {
		return Plan{}, err
	}
	p.Weights, p.Workspace, p.Specs = f.Weights, f.Workspace, f.Specs

	block := kvcache.BlockBytes(f.Specs, s.CacheType, blockTokens)
	budget := (free - margin(free) - p.Weights - p.Workspace) / 4
	if free == 0 {
		budget = 1 << 30
	}
	if s.CacheMemory > 0 {
		budget = s.CacheMemory
	}
	p.Blocks = perSequence * s.Slots
	if most := max(0, budget) / block; int64(p.Blocks) > most {
		p.Blocks = max(int(most), perSequence)
	}
	p.Cache = kvcache.Bytes(f.Specs, s.CacheType, blockTokens, p.Blocks)
	return p, nil
}

// largestContext returns the most tokens of context, in whole blocks, with which s fits; 0 if none does.
func largestContext(m measure, s Sizing, free int64) (int, error) {
	fits, none := 0, s.Context/blockTokens+1 // in blocks: fits is known to, none is known not to
	for none-fits > 1 {
		try := s
		blocks := (fits + none) / 2
		try.Context = blocks * blockTokens
		p, err := size(m, try, free)
		if err != nil {
			return 0, err
		}
		if p.fits() {
			fits = blocks
		} else {
			none = blocks
		}
	}
	return fits * blockTokens, nil
}

// A FitError says that a model does not fit in memory, and which flags would make it fit.
type FitError struct {
	Plan
	Advice []string // flags with values, each of which suffices
}

// Error gives the numbers and the way out.
func (e *FitError) Error() string {
	text := fmt.Sprintf("fit model into memory: weights %v, workspace %v and a cache of %v for a context of %d tokens need %v, "+
		"and of %v free memory %v are kept back: %v are missing", Bytes(e.Weights), Bytes(e.Workspace), Bytes(e.Cache), e.Context, Bytes(e.Need()),
		Bytes(e.Free), Bytes(margin(e.Free)), Bytes(e.Need()+margin(e.Free)-e.Free))
	if room := e.Free - margin(e.Free); len(e.Advice) == 0 {
		return text + fmt.Sprintf("; no setting of these makes it fit: free memory, or have --memory %dMiB compress the weights while they are loaded", max(room, 0)>>20)
	}
	return text + "; it would fit with " + strings.Join(e.Advice, ", or with ")
}

// refuse explains that p does not fit. Each piece of advice has been tried; where no single flag helps, all of them
// together may.
func refuse(m measure, p Plan, largest int) error {
	e := &FitError{Plan: p}
	least := min(minContext, p.Context)
	if largest >= least {
		e.Advice = append(e.Advice, fmt.Sprintf("--context %d", largest))
	}
	try := func(change func(*Sizing)) bool {
		s := p.Sizing
		change(&s)
		q, err := size(m, s, p.Free)
		return err == nil && q.fits()
	}
	if p.CacheMemory > 0 && try(func(s *Sizing) { s.CacheMemory = 1 }) { // one sequence is the least there is
		e.Advice = append(e.Advice, "a smaller --cache-memory")
	}
	if p.CacheType == kernels.F32 && try(func(s *Sizing) { s.CacheType = kernels.F16 }) {
		e.Advice = append(e.Advice, "--cache-type f16")
	}
	for n := p.StepTokens / 2; n >= max(16, p.Slots); n /= 2 {
		if try(func(s *Sizing) { s.StepTokens = n }) {
			e.Advice = append(e.Advice, fmt.Sprintf("--step-tokens %d", n))
			break
		}
	}
	for n := p.Slots / 2; n >= 1; n /= 2 {
		if try(func(s *Sizing) { s.Slots = n }) {
			e.Advice = append(e.Advice, fmt.Sprintf("--slots %d", n))
			break
		}
	}
	if len(e.Advice) > 0 {
		return e
	}
	s := p.Sizing
	s.CacheMemory, s.Slots, s.StepTokens = 0, 1, min(p.StepTokens, 16)
	if s.CacheType == kernels.F32 {
		s.CacheType = kernels.F16
	}
	if n, err := largestContext(m, s, p.Free); err == nil && n >= least {
		e.Advice = append(e.Advice, fmt.Sprintf("--context %d --slots %d --step-tokens %d --cache-type %v together", n, s.Slots, s.StepTokens, s.CacheType))
	}
	return e
}
