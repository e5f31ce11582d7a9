// Command step measures tokens a second of a model at three depths: the decoder alone, the engine over it, and the HTTP
// server over that, in turns, so that what each layer adds can be read off one run. The decoder's tests are those of
// llama-bench: pp512 computes 512 prompt tokens in an empty cache, tg64 then 64 tokens one by one, in another empty
// cache. It prints JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"eckart/cmd/internal/launch"
	"eckart/kernels"
	"eckart/kernels/cpu"
)

// A result is the measurements of one test on one path.
type result struct {
	Path    string    `json:"path"` // decoder, engine or http
	Test    string    `json:"test"` // pp512, tg64, tg64x16
	Threads int       `json:"threads"`
	Samples []float64 `json:"samples"` // tokens a second
	Median  float64   `json:"median"`
	Forward float64   `json:"forward,omitempty"` // part of the time that the model took, as the engine counts it; the median
	shares  []float64
}

// A bench is a model that is up, and what to do with it.
type bench struct {
	*launch.Instance
	prompt  int // tokens of the prompt test
	tokens  int // tokens of the generation test
	streams int // generations at once
	random  *rand.Rand
}

// A path runs the tests at one depth. They return the tokens of a test and the time it took.
type path struct {
	prefill, decode func(b *bench) (tokens int, took time.Duration, err error)
}

var cacheTypes = map[string]kernels.DType{"f32": kernels.F32, "f16": kernels.F16, "bf16": kernels.BF16}

func main() {
	prompt := flag.Int("p", 512, "prompt `tokens`")
	tokens := flag.Int("n", 64, "generated `tokens`")
	threads := flag.Int("t", 1, "`threads`")
	repeat := flag.Int("r", 3, "`repetitions`, after one that is not counted")
	streams := flag.Int("streams", 1, "generations at `once`; more than one leaves the decoder's path out")
	paths := flag.String("paths", "decoder", "`depths` to measure, of decoder,engine,http")
	cache := flag.String("cache-type", "f16", "f32, f16 or bf16")
	activations := flag.String("activations", "auto", "auto, f32 or bf16")
	flag.Parse()
	rounding, ok := launch.ActivationTypes[*activations]
	if flag.NArg() > 1 || !ok || cacheTypes[*cache] == 0 && *cache != "f32" {
		flag.Usage()
		os.Exit(2)
	}
	results, err := run(flag.Arg(0), *prompt, *tokens, *threads, *repeat, *streams, strings.Split(*paths, ","), cacheTypes[*cache], rounding)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(results)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "step: %v\n", err)
		os.Exit(1)
	}
}

func run(model string, prompt, tokens, threads, repeat, streams int, names []string, cache kernels.DType, rounding cpu.Activations) ([]result, error) {
	m, err := launch.Open(model)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	i, err := launch.Start(m, launch.Options{
		Sizing:  launch.Sizing{Context: (max(prompt, tokens) + 31) / 16 * 16, Slots: streams, StepTokens: max(prompt, streams), CacheType: cache},
		Threads: threads, Activations: rounding,
	})
	if err != nil {
		return nil, err
	}
	defer i.Close()
	b := &bench{Instance: i, prompt: prompt, tokens: tokens, streams: streams, random: rand.New(rand.NewPCG(1, 2))}
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(running) }()
	results, err := b.measure(names, repeat)
	stop()
	if fault := <-ended; !errors.Is(fault, context.Canceled) {
		err = errors.Join(err, fault)
	}
	return results, err
}

// measure runs every test of the named paths in turns.
func (b *bench) measure(names []string, repeat int) ([]result, error) {
	var results []result
	for _, name := range names {
		for _, test := range []struct {
			name string
			n    int
		}{{"pp", b.prompt}, {"tg", b.tokens}} {
			if test.n == 0 || test.name == "pp" && b.streams > 1 {
				continue
			}
			label := fmt.Sprintf("%s%d", test.name, test.n)
			if b.streams > 1 {
				label = fmt.Sprintf("%sx%d", label, b.streams)
			}
			results = append(results, result{Path: name, Test: label, Threads: b.Device.Threads()})
		}
	}
	paths := map[string]path{"decoder": {decoderPrefill, decoderDecode}, "engine": {enginePrefill, engineDecode}}
	if slices.Contains(names, "http") {
		server, err := newServer(b)
		if err != nil {
			return nil, err
		}
		defer server.Close()
		paths["http"] = path{server.prefill, server.decode}
	}
	for turn := range repeat + 1 { // the first one does not count
		for _, name := range names {
			p, ok := paths[name]
			if !ok {
				return nil, fmt.Errorf("path %q is not one of decoder, engine, http", name)
			}
			if err := b.turn(name, p, results, turn > 0); err != nil {
				return nil, err
			}
		}
	}
	for i := range results {
		r := &results[i]
		r.Median = median(r.Samples)
		if r.Path != "decoder" {
			r.Forward = median(r.shares)
		}
	}
	return results, nil
}

// turn runs each test of a path once and, if it counts, records it.
func (b *bench) turn(name string, p path, results []result, counts bool) error {
	for i := range results {
		r := &results[i]
		if r.Path != name {
			continue
		}
		test := p.decode
		if strings.HasPrefix(r.Test, "pp") {
			test = p.prefill
		}
		before := b.Engine.Stats().ForwardSeconds
		tokens, took, err := test(b)
		if err != nil {
			return fmt.Errorf("%s %s: %w", name, r.Test, err)
		}
		if counts {
			r.Samples = append(r.Samples, float64(tokens)/took.Seconds())
			r.shares = append(r.shares, (b.Engine.Stats().ForwardSeconds-before)/took.Seconds())
		}
	}
	return nil
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// ids returns n random tokens.
func (b *bench) ids(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(b.random.IntN(b.Model.Config.Vocab))
	}
	return ids
}
