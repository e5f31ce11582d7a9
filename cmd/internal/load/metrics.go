package load

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// A Record is what is known of one request.
type Record struct {
	Start   time.Time   // when it was sent
	Outputs []time.Time // when each streamed output came
	Input   int         // tokens of the prompt, as the server counts them
	Output  int         // tokens of the answer, as the server counts them; 0 when it does not
	Err     error       // why there is no answer, or no whole one
}

// A Spread is the distribution of a time in milliseconds.
type Spread struct{ Mean, Deviation, Median, P90, P99 float64 }

// A Failure is an error, and how often it came.
type Failure struct {
	Message string `json:"message"`
	Count   int    `json:"count"`
}

// A Result sums up a level. The definitions are those of vLLM's benchmark (vllm/benchmarks/serve.py), over the requests
// that were answered.
type Result struct {
	Level
	Seconds     float64
	Done        int
	Failed      int
	Input       int // tokens of all prompts
	Output      int // tokens of all answers
	MostAtOnce  int // requests under way at the same time
	Uncounted   int // requests of which the server did not say how many tokens it generated: outputs count in their place
	Failures    []Failure
	TTFT        Spread // from sending to the first output
	TPOT        Spread // (E2EL - TTFT) / (output tokens - 1) of each request that has more than one
	ITL         Spread // between two outputs, of all requests together
	E2EL        Spread // from sending to the last output
	RequestRate float64
	OutputRate  float64 // tokens of answers a second
	TotalRate   float64 // tokens of prompts and answers a second
}

// maxFailures is how many different errors a result lists, the most frequent ones.
const maxFailures = 10

// Summarize sums up the requests of a level that took so long.
func Summarize(l Level, took time.Duration, records []Record) Result {
	r := Result{Level: l, Seconds: took.Seconds()}
	var ttft, tpot, itl, e2el []float64
	failures := map[string]int{}
	type change struct {
		at time.Time
		by int
	}
	var changes []change // of the number of requests under way
	for _, q := range records {
		if q.Err != nil {
			r.Failed++
			failures[q.Err.Error()]++
			continue
		}
		r.Done++
		tokens := q.Output
		if tokens == 0 {
			tokens = len(q.Outputs)
			r.Uncounted++
		}
		r.Input += q.Input
		r.Output += tokens
		first, last := milliseconds(q.Outputs[0].Sub(q.Start)), milliseconds(q.Outputs[len(q.Outputs)-1].Sub(q.Start))
		ttft, e2el = append(ttft, first), append(e2el, last)
		if tokens > 1 {
			tpot = append(tpot, (last-first)/float64(tokens-1))
		}
		for i := 1; i < len(q.Outputs); i++ {
			itl = append(itl, milliseconds(q.Outputs[i].Sub(q.Outputs[i-1])))
		}
		changes = append(changes, change{q.Start, 1}, change{q.Outputs[len(q.Outputs)-1], -1})
	}
	r.TTFT, r.TPOT, r.ITL, r.E2EL = spread(ttft), spread(tpot), spread(itl), spread(e2el)
	r.RequestRate = float64(r.Done) / r.Seconds
	r.OutputRate = float64(r.Output) / r.Seconds
	r.TotalRate = float64(r.Input+r.Output) / r.Seconds
	// A request that ends at the moment when another one begins is not at once with it.
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.by, b.by)) })
	now := 0
	for _, c := range changes {
		now += c.by
		r.MostAtOnce = max(r.MostAtOnce, now)
	}
	for _, message := range slices.Sorted(maps.Keys(failures)) {
		r.Failures = append(r.Failures, Failure{message, failures[message]})
	}
	slices.SortStableFunc(r.Failures, func(a, b Failure) int { return cmp.Compare(b.Count, a.Count) })
	r.Failures = r.Failures[:min(len(r.Failures), maxFailures)]
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spread returns the distribution of samples; zeros for none. The deviation is that of a whole population.
func spread(samples []float64) Spread {
	if len(samples) == 0 {
		return Spread{}
	}
	s := slices.Sorted(slices.Values(samples))
	n := float64(len(s))
	var mean, squares float64
	for _, v := range s {
		mean += v / n
	}
	for _, v := range s {
		squares += (v - mean) * (v - mean) / n
	}
	return Spread{Mean: mean, Deviation: math.Sqrt(squares), Median: percentile(s, 50), P90: percentile(s, 90), P99: percentile(s, 99)}
}

// percentile returns the p-th percentile of sorted samples, interpolated between neighbours as numpy does.
func percentile(s []float64, p float64) float64 {
	at := p / 100 * float64(len(s)-1)
	low := int(at)
	if low+1 == len(s) {
		return s[low]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}
