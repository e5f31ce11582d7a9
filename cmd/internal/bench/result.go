package bench

import (
	"math"
	"slices"
	"strings"
	"time"

	"eckart/cmd/internal/command"
	"eckart/kernels"
	"eckart/kvcache"
)

// A Result is what a test came to. Its JSON has the keys of llama-bench where they mean the same.
type Result struct {
	Build         string  `json:"build_commit"` // the version of the program
	CPU           string  `json:"cpu_info"`     // the device, with the instruction set in use
	Backend       string  `json:"backends"`
	Model         string  `json:"model_name"`
	File          string  `json:"model_filename"` // "" for the built-in model
	Type          string  `json:"model_type"`     // the architecture
	ModelBytes    int64   `json:"model_size"`     // of the weights as they are in memory
	Parameters    int     `json:"model_n_params"`
	StepTokens    int     `json:"n_ubatch"`
	Threads       int     `json:"n_threads"`
	TypeK         string  `json:"type_k"`
	TypeV         string  `json:"type_v"`
	Prompt        int     `json:"n_prompt"`
	Tokens        int     `json:"n_gen"`
	Depth         int     `json:"n_depth"`
	Batch         int     `json:"n_seqs"` // sequences that generate at once
	Test          string  `json:"test"`
	Path          string  `json:"path"`
	Time          string  `json:"test_time"`
	WeightBytes   int64   `json:"weight_bytes"`            // of weights that a step reads
	BytesPerToken int64   `json:"bytes_per_token"`         // read to generate a token: weights, shared by the sequences, and cache; 0 for prompts
	CacheBytes    int64   `json:"cache_bytes_per_token"`   // of those, of the cache
	ReadRate      int64   `json:"read_rate"`               // bytes a second that the machine reads, measured beside the test; 0 where the device cannot tell
	SweepBytes    int64   `json:"read_rate_bytes"`         // over which the read rate was measured
	ReadShare     float64 `json:"read_share"`              // of the read rate that the median reaches; 0 for prompts
	ForwardShare  float64 `json:"forward_share,omitempty"` // of the time, what the engine spent in the model; the median

	AverageNS   int64     `json:"avg_ns"`
	DeviationNS int64     `json:"stddev_ns"`
	Average     float64   `json:"avg_ts"` // tokens a second
	Deviation   float64   `json:"stddev_ts"`
	Median      float64   `json:"median_ts"`
	SamplesNS   []int64   `json:"samples_ns"`
	Samples     []float64 `json:"samples_ts"`

	forward []float64 // share of each sample
}

// newResult says what is known of a test before it runs.
func (b *bench) newResult(t Test) Result {
	r := Result{
		Build: command.Version(), CPU: b.Device.Name(), Backend: backend(b.Device), Model: b.Model.Name, Type: b.Model.Config.Architecture,
		ModelBytes: b.Plan.Weights, Parameters: b.Model.Parameters(), StepTokens: b.Plan.StepTokens, Threads: t.Threads,
		TypeK: b.Plan.CacheType.String(), TypeV: b.Plan.CacheType.String(), Prompt: t.Prompt, Tokens: t.Tokens,
		Depth: t.Depth, Batch: t.Batch, Test: t.String(), Path: t.Path, Time: time.Now().UTC().Format(time.RFC3339),
		WeightBytes: b.Decoder.ReadBytes(), SweepBytes: b.meter.bytes(),
	}
	if !b.Model.Demo {
		r.File = b.Model.Checkpoint.Dir()
	}
	if t.Tokens > 0 {
		r.CacheBytes = cacheBytes(b.Plan.Specs, t, int64(b.Plan.CacheType.Bytes()))
		r.BytesPerToken = r.CacheBytes + r.WeightBytes/int64(t.Batch)
	}
	return r
}

// backend returns the kind of a device, as llama-bench spells it: CPU, CUDA.
func backend(d kernels.Device) string {
	kind, _, _ := strings.Cut(d.Name(), ":")
	return strings.ToUpper(kind)
}

// cacheBytes returns the bytes of the cache that a generated token reads, on average over the test: the keys and values
// of every token that it attends to, itself included.
func cacheBytes(specs []kvcache.Spec, t Test, element int64) int64 {
	var all int64
	for i := range t.Tokens {
		for _, s := range specs {
			n := t.Depth + i + 1
			if s.Window > 0 {
				n = min(n, s.Window)
			}
			all += int64(n) * int64(s.Heads) * int64(s.KeyDim+s.ValueDim) * element
		}
	}
	return all / int64(t.Tokens)
}

// add records a repetition that took so long, of which the engine spent forward seconds in the model.
func (r *Result) add(took time.Duration, forward float64) {
	r.SamplesNS = append(r.SamplesNS, took.Nanoseconds())
	r.Samples = append(r.Samples, float64(r.Batch*max(r.Prompt, r.Tokens))/took.Seconds())
	r.forward = append(r.forward, forward/took.Seconds())
}

// finish sums the repetitions up, and sets them against the read rate in bytes a second.
func (r *Result) finish(t Test, rate float64) {
	var ns []float64
	for _, n := range r.SamplesNS {
		ns = append(ns, float64(n))
	}
	mean, deviation := moments(ns)
	r.AverageNS, r.DeviationNS = int64(mean), int64(deviation)
	r.Average, r.Deviation = moments(r.Samples)
	r.Median = median(r.Samples)
	r.ReadRate = int64(rate)
	if rate > 0 {
		r.ReadShare = r.Median * float64(r.BytesPerToken) / rate
	}
	if t.Path != Decoder {
		r.ForwardShare = median(r.forward)
	}
}

// moments returns the mean and the standard deviation of samples, as of a sample: 0 for a single one.
func moments(samples []float64) (mean, deviation float64) {
	for _, s := range samples {
		mean += s / float64(len(samples))
	}
	if len(samples) < 2 {
		return mean, 0
	}
	for _, s := range samples {
		deviation += (s - mean) * (s - mean)
	}
	return mean, math.Sqrt(deviation / float64(len(samples)-1))
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}
