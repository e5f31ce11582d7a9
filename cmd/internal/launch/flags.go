package launch

import (
	"fmt"

	"eckart/cmd/internal/command"
	"eckart/kernels"
)

// SizeFlags name a model and decide how much memory serving it takes. Their defaults are in plan.go.
type SizeFlags struct {
	Model       string `arg:"" optional:"" help:"Folder of a Hugging Face checkpoint, one .safetensors file, or a model's folder in the hub's cache. Without it, the small model that is built in."`
	Context     int    `placeholder:"N" help:"Most tokens of a prompt and its answer. Default: what the model was trained for, at most 32768, and what memory holds."`
	Slots       int    `placeholder:"N" help:"Sequences that run at once. Default: 16."`
	CacheType   string `enum:"f32,f16,bf16" default:"f16" help:"How keys and values are kept: f32, f16 (the default) or bf16."`
	CacheMemory Bytes  `placeholder:"SIZE" help:"Memory of the cache, such as 2GiB. Default: the context of every slot, at most a quarter of free memory."`
	StepTokens  int    `placeholder:"N" help:"Most tokens of one step; longer prompts are computed in pieces. Default: 256."`
}

// Sizing checks the flags and returns what they say.
func (f *SizeFlags) Sizing() (Sizing, error) {
	for _, n := range []struct {
		flag  string
		value int
	}{{"context", f.Context}, {"slots", f.Slots}, {"step-tokens", f.StepTokens}} {
		if err := CheckCount(n.flag, n.value); err != nil {
			return Sizing{}, err
		}
	}
	types := map[string]kernels.DType{"f32": kernels.F32, "f16": kernels.F16, "bf16": kernels.BF16}
	return Sizing{
		Context: f.Context, Slots: f.Slots, StepTokens: f.StepTokens,
		CacheType: types[f.CacheType], CacheMemory: int64(f.CacheMemory),
	}, nil
}

// Flags are the flags by which every command that runs a model brings it up.
type Flags struct {
	SizeFlags
	Threads      int    `placeholder:"N" help:"Processor threads. Default: the cores that this process may use."`
	Activations  string `enum:"f32,bf16" default:"f32" help:"What activations are multiplied by bf16 weights as: f32 (the default), or bf16, which is faster on processors with AVX512_BF16."`
	ChatTemplate string `placeholder:"FILE" help:"Chat template to use instead of the checkpoint's."`
}

// Options checks the flags and returns them as options.
func (f *Flags) Options() (Options, error) {
	sizing, err := f.Sizing()
	if err == nil {
		err = CheckCount("threads", f.Threads)
	}
	return Options{Sizing: sizing, Threads: f.Threads, BF16Activations: f.Activations == "bf16", Template: f.ChatTemplate}, err
}

// CheckCount returns an error for a count that cannot be; 0 stands for "choose".
func CheckCount(flag string, n int) error {
	if n < 0 || n > maxCount {
		return &command.UsageError{Err: fmt.Errorf("--%s must be from 1 to %d, got %d", flag, maxCount, n)}
	}
	return nil
}

// maxCount bounds counts, so that products of them cannot overflow.
const maxCount = 1 << 24
