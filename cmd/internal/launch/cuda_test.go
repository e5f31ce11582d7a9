package launch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"eckart/internal/race"
	"eckart/kernels"
	"eckart/kernels/cuda/shim"
	"eckart/model/tokenizer"
	"eckart/runtime"
)

// useShim has --device cuda run on the shim for the rest of the test, or skips it.
func useShim(t *testing.T) {
	t.Helper()
	t.Setenv(libraryVariable, shim.ForTest(t))
}

// A reply is what a device generated, and how clearly the likeliest id led at each place, in nats.
type reply struct {
	ids     []int32
	margins []float32
}

// serving calls f while an engine runs the model on a device.
func serving(t *testing.T, m *Model, device string, sizing Sizing, f func(*Instance)) {
	t.Helper()
	sizing.CacheType = kernels.F16
	o := Options{Sizing: sizing, Threads: 2}
	var err error
	if o.Device, err = ParseDevice(device); err != nil {
		t.Fatal(err)
	}
	i, err := Start(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	f(i)
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

// greedyReplies has a model answer prompts side by side.
func greedyReplies(t *testing.T, m *Model, device string, prompts []string, n int) []reply {
	t.Helper()
	replies := make([]reply, len(prompts))
	serving(t, m, device, Sizing{Slots: len(prompts), StepTokens: 72, Context: 128}, func(i *Instance) {
		var all sync.WaitGroup
		for at, text := range prompts {
			all.Go(func() {
				r := &replies[at]
				prompt := i.Tokenizer.Encode(text, tokenizer.EncodeOptions{})
				for token, err := range i.Engine.Generate(t.Context(), runtime.Request{Prompt: prompt, MaxTokens: n, IgnoreEOS: true, Logprobs: 2}) {
					if err != nil {
						t.Error(err)
						return
					}
					r.ids = append(r.ids, token.ID)
					r.margins = append(r.margins, token.Top[0].Logprob-token.Top[1].Logprob)
				}
			})
		}
		all.Wait()
	})
	return replies
}

// TestCUDAReplies holds what the demo model says on a GPU's kernels against what it says on the processor, as far as the
// likeliest id leads clearly, for kinds of weight that together use every kernel: prompts of a step and of several, and
// steps of several sequences.
func TestCUDAReplies(t *testing.T) {
	if race.Enabled {
		t.Skip("what runs at once is what does in TestCUDAChoices")
	}
	useShim(t)
	prompts := []string{"The gopher went down to the river and", "Once there was a compiler"}
	long := "In the beginning there was a long list of things to do, and the first of them was to write a list of things to do. " +
		"The second was to find out who had written the first, and why there were so many gophers in it. After a while they sat down."
	for _, test := range []struct {
		name     string
		compress CompressFlags
		prompts  []string
		slow     bool
	}{
		{"dense", CompressFlags{}, append([]string{long}, prompts...), false},
		{"int4", CompressFlags{Method: "int4"}, append([]string{long}, prompts...), true},
		{"pifa", CompressFlags{Method: "pifa:svd", Ratio: 0.8}, prompts, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.slow && testing.Short() {
				t.Skip("a minute of emulation")
			}
			m, err := Open("")
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if f := test.compress; f.Method != "" {
				f.Calibration, f.Verify = "none", "none"
				if err := Compress(t.Context(), m, Options{Device: DeviceChoice{kind: "cpu"}, Compress: &f}); err != nil {
					t.Fatal(err)
				}
			}
			const n = 8
			want := greedyReplies(t, m, "cpu", test.prompts, n)
			got := greedyReplies(t, m, "cuda", test.prompts, n)
			compared := 0
			for i, w := range want {
				// A GPU rounds activations to bf16, which moves a logit by some hundredths.
				const clear = 0.15
				for at, id := range w.ids {
					if w.margins[at] < clear {
						break
					}
					if got[i].ids[at] != id {
						t.Errorf("reply %d, token %d: got %d, want %d, which leads by %.2f", i, at, got[i].ids[at], id, w.margins[at])
						break
					}
					compared++
				}
			}
			if compared < n {
				t.Errorf("only %d tokens lead clearly", compared)
			}
		})
	}
}

// TestCUDAChoices holds that tokens which the device chooses, a step ahead of the host, are those that the host chooses from
// the same logits, for every way to choose, side by side, from a seed.
func TestCUDAChoices(t *testing.T) {
	useShim(t)
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	samplings := []runtime.Sampling{
		{},
		{Temperature: 1},
		{Temperature: 1.2, TopP: 0.9},
		{Temperature: 1, TopK: 50, TopP: 0.95, MinP: 0.01},
	}
	var host, device [][]int32
	serving(t, m, "cuda", Sizing{Slots: len(samplings), StepTokens: 40, Context: 64}, func(i *Instance) {
		prompt := i.Tokenizer.Encode("The gopher went down to the river and", tokenizer.EncodeOptions{})
		ask := func(logprobs int) [][]int32 {
			replies := make([][]int32, len(samplings))
			var all sync.WaitGroup
			for at, s := range samplings {
				all.Go(func() {
					seed := uint64(at)
					s.Seed = &seed
					r := runtime.Request{Prompt: prompt, Sampling: s, MaxTokens: 2 + at, IgnoreEOS: true, Logprobs: logprobs}
					for token, err := range i.Engine.Generate(t.Context(), r) {
						if err != nil {
							t.Error(err)
							return
						}
						replies[at] = append(replies[at], token.ID)
					}
				})
			}
			all.Wait()
			return replies
		}
		host, device = ask(0), ask(-1)
	})
	for at := range samplings {
		if !slices.Equal(host[at], device[at]) || len(host[at]) != 2+at {
			t.Errorf("sampling %+v: the host chose %v, the device %v", samplings[at], host[at], device[at])
		}
	}
}
