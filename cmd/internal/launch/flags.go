package launch

import (
	"fmt"

	"eckart/cmd/internal/command"
	"eckart/kernels"
	"eckart/kernels/cpu"
)

// ModelFlags name a model and say how its numbers are kept and multiplied. Every command that opens a model has them, so
// a flag that is added here is a flag of all of them.
type ModelFlags struct {
	Model     string `arg:"" optional:"" help:"Folder of a Hugging Face checkpoint, one .safetensors file, or a model's folder in the hub's cache. Without it, the small model that is built in."`
	CacheType string `enum:"f32,f16,bf16" default:"f16" help:"How keys and values are kept: f32, f16 (the default) or bf16."`
	QuantizeFlags
	RankShare   float64 `placeholder:"S" help:"Load this share of the rank of nested factors, such as 0.5: the most important directions. The others are not read. For checkpoints that eckart compress --method nested wrote."`
	Adapter     string  `placeholder:"DIR" help:"Folder of an adapter to add to the model's matrices: LoRA or EoRA, as PEFT saves it. It is not rounded with --quantize."`
	Device      string  `default:"auto" placeholder:"DEVICE" help:"What runs the model: cpu, cuda or cuda:N (an NVIDIA GPU), or auto (the default): the first GPU that can, else the processor."`
	Activations string  `enum:"auto,f32,bf16" default:"auto" help:"What activations are multiplied as: auto (the default) is int8 beside quantized weights and f32 beside others; f32 is f32 everywhere; bf16 is as auto, but bf16 beside bf16 weights, which is faster on processors with AVX512_BF16."`
}

// ModelOptions checks the flags and returns what they say; all else is left open.
func (f *ModelFlags) ModelOptions() (Options, error) {
	types := map[string]kernels.DType{"f32": kernels.F32, "f16": kernels.F16, "bf16": kernels.BF16}
	device, err := ParseDevice(f.Device)
	if err == nil {
		_, err = f.Quantization()
	}
	if s := f.RankShare; err == nil && !(s >= 0 && s <= 1) {
		err = &command.UsageError{Err: fmt.Errorf("--rank-share must be above 0 and at most 1, got %g", s)}
	}
	return Options{Device: device, Sizing: Sizing{CacheType: types[f.CacheType]}, Activations: ActivationTypes[f.Activations]}, err
}

// SizeFlags name a model and decide how much memory serving it takes. Their defaults are in plan.go.
type SizeFlags struct {
	ModelFlags
	Context     int   `placeholder:"N" help:"Most tokens of a prompt and its answer. Default: what the model was trained for, at most 32768, and what memory holds."`
	Slots       int   `placeholder:"N" help:"Sequences that run at once. Default: 16."`
	CacheMemory Bytes `placeholder:"SIZE" help:"Memory of the cache, such as 2GiB. Default: the context of every slot, at most a quarter of free memory."`
	StepTokens  int   `placeholder:"N" help:"Most tokens of one step; longer prompts are computed in pieces. Default: 256."`
}

// SizeOptions checks the flags and returns what they say; all else is left open.
func (f *SizeFlags) SizeOptions() (Options, error) {
	o, err := f.ModelOptions()
	if err != nil {
		return o, err
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"context", f.Context}, {"slots", f.Slots}, {"step-tokens", f.StepTokens}} {
		if err := CheckCount(n.flag, n.value); err != nil {
			return o, err
		}
	}
	o.Context, o.Slots, o.StepTokens, o.CacheMemory = f.Context, f.Slots, f.StepTokens, int64(f.CacheMemory)
	return o, nil
}

// Flags are the flags by which the commands that generate text bring a model up.
type Flags struct {
	SizeFlags
	CompressFlags
	Threads      int    `placeholder:"N" help:"Processor threads. Default: the cores that this process may use."`
	ChatTemplate string `placeholder:"FILE" help:"Chat template to use instead of the checkpoint's."`
}

// Options checks the flags and returns what they say.
func (f *Flags) Options() (Options, error) {
	o, err := f.SizeOptions()
	if err == nil {
		err = CheckCount("threads", f.Threads)
	}
	if err == nil {
		err = f.Apply(&o, &f.ModelFlags)
	}
	o.Threads, o.Template = f.Threads, f.ChatTemplate
	return o, err
}

// ActivationTypes are the values of --activations.
var ActivationTypes = map[string]cpu.Activations{"auto": cpu.ActivationsAuto, "f32": cpu.ActivationsF32, "bf16": cpu.ActivationsBF16}

// CheckCount returns an error for a count that cannot be; 0 stands for "choose".
func CheckCount(flag string, n int) error {
	if n < 0 || n > maxCount {
		return &command.UsageError{Err: fmt.Errorf("--%s must be from 1 to %d, got %d", flag, maxCount, n)}
	}
	return nil
}

// maxCount bounds counts, so that products of them cannot overflow.
const maxCount = 1 << 24
