package launch

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda/shim"
	"eckart/model/tokenizer"
	"eckart/runtime"
)

// useShim has --device cuda run on the shim for the rest of the test, or skips it.
func useShim(t *testing.T) {
	t.Helper()
	library, err := shim.Build()
	if errors.Is(err, shim.ErrNoCompiler) && os.Getenv("REQUIRE_SHIM") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(libraryVariable, library)
}

// A reply is what a device generated, and how clearly the likeliest id led at each place, in nats.
type reply struct {
	ids     []int32
	margins []float32
}

// greedyReplies has the demo model answer prompts side by side.
func greedyReplies(t *testing.T, device string, change func(*Model, *Options), prompts []string, n int) []reply {
	t.Helper()
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	o := Options{Sizing: Sizing{Slots: len(prompts), StepTokens: 80, Context: 256, CacheType: kernels.F16}, Threads: 2}
	if o.Device, err = ParseDevice(device); err != nil {
		t.Fatal(err)
	}
	change(m, &o)
	i, err := Start(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	replies := make([]reply, len(prompts))
	var all sync.WaitGroup
	for at, text := range prompts {
		all.Go(func() {
			r := &replies[at]
			for token, err := range i.Engine.Generate(ctx, runtime.Request{Prompt: i.Tokenizer.Encode(text, tokenizer.EncodeOptions{}), MaxTokens: n, IgnoreEOS: true, Logprobs: 2}) {
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
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	return replies
}

// TestCUDAReplies holds what the demo model says on a GPU's kernels against what it says on the processor, as far as the
// likeliest id leads clearly, for every kind of weight: prompts of one step and of several, steps of several sequences.
func TestCUDAReplies(t *testing.T) {
	useShim(t)
	prompts := []string{
		"The gopher went down to the river and",
		"Once there was a compiler",
		"In the beginning there was a long list of things to do, and the first of them was to write a list of things to do. " +
			"The second was to find out who had written the first, and why there were so many gophers in it. After a while they sat down.",
	}
	for name, method := range map[string]string{"dense": "", "int8": "int8", "int4": "int4", "lowrank": "lowrank:svd", "pifa": "pifa:svd", "residual": "int4+r8:eora_near"} {
		t.Run(name, func(t *testing.T) {
			change := func(m *Model, o *Options) {
				if method != "" {
					o.Compress = &CompressFlags{Method: method, Calibration: "none", Verify: "none", Gate: 100}
					if name == "lowrank" || name == "pifa" {
						o.Compress.Ratio = 0.8
					}
				}
			}
			const n = 16
			want := greedyReplies(t, "cpu", change, prompts, n)
			got := greedyReplies(t, "cuda", change, prompts, n)
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
