package launch

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"eckart/kernels"
	"eckart/model/checkpoint"
	"eckart/runtime"
)

// numbers reads a tensor of 4-byte elements as their bits.
func numbers(t *testing.T, c *checkpoint.Checkpoint, name string) []uint32 {
	t.Helper()
	tensor, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("golden file has no %s", name)
	}
	raw := make([]byte, tensor.Bytes())
	if err := c.ReadAt(raw, tensor, 0); err != nil {
		t.Fatal(err)
	}
	if len(raw) != 4*tensor.Elements() {
		t.Fatalf("%s is %s, want 4-byte elements", name, tensor.Type)
	}
	bits := make([]uint32, tensor.Elements())
	for i := range bits {
		bits[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return bits
}

func ids(bits []uint32) []int32 {
	all := make([]int32, len(bits))
	for i, b := range bits {
		all[i] = int32(b)
	}
	return all
}

// TestGoldenReplies brings every golden checkpoint up as `serve` would, with a tokenizer beside it, and holds the
// engine's greedy reply against that of the reference implementation, as far as the likeliest token leads clearly.
func TestGoldenReplies(t *testing.T) {
	const data = "../../../model/testdata"
	folders, err := filepath.Glob(filepath.Join(data, "*", "golden.safetensors"))
	if err != nil || len(folders) < 5 {
		t.Fatalf("%d golden folders, error %v", len(folders), err)
	}
	for _, golden := range folders {
		dir := filepath.Dir(golden)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			served := t.TempDir()
			for from, name := range map[string]string{
				filepath.Join(dir, "config.json"):       "config.json",
				filepath.Join(dir, "model.safetensors"): "model.safetensors",
				"testdata/tokenizer.json":               "tokenizer.json",
			} {
				text, err := os.ReadFile(from)
				if err == nil {
					err = os.WriteFile(filepath.Join(served, name), text, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			c, err := checkpoint.Open(golden)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			compareReply(t, served, ids(numbers(t, c, "ids"))[:24], ids(numbers(t, c, "greedy")), numbers(t, c, "greedy_margin"))
		})
	}
}

func compareReply(t *testing.T, dir string, prompt, want []int32, margins []uint32) {
	t.Helper()
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	i, err := Start(t.Context(), m, Options{Sizing: Sizing{Slots: 2, StepTokens: 10, CacheType: kernels.F32}, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	var got []int32
	for token, err := range i.Engine.Generate(ctx, runtime.Request{Prompt: prompt, MaxTokens: len(want), IgnoreEOS: true, Logprobs: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, token.ID)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}

	// Beyond an id that could as well be another, the replies are of different texts.
	const bound = 2e-4 // of a logit, so twice as much between two of them
	clear := slices.IndexFunc(margins, func(bits uint32) bool { return math.Float32frombits(bits) < 2*bound })
	if clear < 0 {
		clear = len(want)
	}
	if clear < 4 {
		t.Fatalf("only %d ids lead clearly", clear)
	}
	if len(got) != len(want) || !slices.Equal(got[:clear], want[:clear]) {
		t.Errorf("reply %v, want %v, the first %d of them", got, want, clear)
	}
}
