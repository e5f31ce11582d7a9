package launch

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"eckart/cmd/internal/command"
	"eckart/model/compress"
)

// CompressFlags say how a model is compressed while it is loaded. One of Memory, Ratio, Bits, Latency, KL, Method and Plan
// asks for it.
type CompressFlags struct {
	Memory      Bytes         `placeholder:"SIZE" help:"Compress the model until all of it fits into so much memory, such as 4GB: weights, cache and workspace for the context and slots asked for."`
	Ratio       float64       `placeholder:"R" help:"Compress the matrices of the blocks to this share of their bytes, such as 0.6; embedding and head are not counted."`
	Bits        float64       `placeholder:"N" help:"Compress the matrices of the blocks to so many bits a weight, such as 4.5."`
	Latency     time.Duration `placeholder:"TIME" help:"Compress until generating a token for one client is expected to take at most this, such as 20ms."`
	KL          float64       `name:"kl" placeholder:"NATS" help:"Compress as far as the mean divergence from the model stays under this, such as 0.05, on text that the calibration has not seen."`
	Method      string        `placeholder:"FORM" help:"Store every matrix in this form, for research: lowrank, joint or pifa (with --ratio), int8 to int2, or one of these with a residual of rank N, such as int3+r16."`
	Importance  string        `placeholder:"FILE" help:"Tensors named and shaped as the weights, or with a number for each column, in safetensors: what an error costs there, such as squared gradients. --method lowrank:weighted and lowrank:diagonal go by them."`
	Plan        string        `placeholder:"FILE" help:"Carry out the plan in FILE, which eckart compress --plan-only printed."`
	Calibration string        `placeholder:"TEXT" help:"What the inputs of the matrices are learned from: a file of text, self (the default: text that the model writes) or none."`
	Windows     int           `name:"calibration-windows" placeholder:"N" help:"Windows of 512 tokens to learn from. Default: 32."`
	Sampling    float64       `name:"calibration-sampling" placeholder:"SHARE" help:"Sum up the inputs of this share of the tokens, such as 0.25, chosen by how much they tell: less time where matrices are wide. Default: 1, all of them."`
	Verify      string        `placeholder:"TEXT" help:"What the result is compared with the model on: a file of text, or none. Default: as --calibration, windows that were not learned from."`
	Gate        float64       `placeholder:"NATS" help:"Refuse a result whose mean divergence from the model is above this. Default: 1."`
	NoDrift     bool          `help:"Do not let matrices make up for what the compression before them changed: less time, more lost."`
	Report      string        `placeholder:"FILE" help:"Write what was done, and what it cost, to FILE: a page if it ends in .html, else JSON."`
}

// defaultGate is the mean divergence above which a compressed model is refused: its text has little to do with the model's.
const defaultGate = 1

// goals returns the flags that ask for compression.
func (f *CompressFlags) goals() []string {
	var set []string
	for _, g := range []struct {
		flag string
		set  bool
	}{{"memory", f.Memory != 0}, {"ratio", f.Ratio != 0}, {"bits", f.Bits != 0}, {"latency", f.Latency != 0}, {"kl", f.KL != 0}, {"plan", f.Plan != ""}} {
		if g.set {
			set = append(set, "--"+g.flag)
		}
	}
	return set
}

// Asked reports whether the flags ask for compression.
func (f *CompressFlags) Asked() bool { return len(f.goals()) > 0 || f.Method != "" }

// Apply checks the flags beside those of the model, and has o compress as they say.
func (f *CompressFlags) Apply(o *Options, m *ModelFlags) error {
	o.Compress = f
	if f.Asked() && m.Adapter != "" {
		return &command.UsageError{Err: errors.New("--adapter adds to matrices as they are stored, and cannot be given with flags that compress them")}
	}
	if f.Asked() && m.RankShare != 0 {
		return &command.UsageError{Err: errors.New("--rank-share cuts what a compression has left, and cannot be given with flags that ask for another")}
	}
	return f.check(m.Quantize != "" && m.Quantize != "none")
}

// check refuses flags that contradict each other or cannot be.
func (f *CompressFlags) check(quantize bool) error {
	refuse := func(format string, args ...any) error { return &command.UsageError{Err: fmt.Errorf(format, args...)} }
	goals := f.goals()
	switch {
	case len(goals) > 1:
		return refuse("%s: each sets how far to compress, give one of them", strings.Join(goals, " and "))
	case len(goals) == 0 && f.Method == "":
		for _, o := range []struct {
			flag string
			set  bool
		}{
			{"importance", f.Importance != ""},
			{"calibration", f.Calibration != ""},
			{"calibration-windows", f.Windows != 0},
			{"calibration-sampling", f.Sampling != 0},
			{"verify", f.Verify != ""},
			{"gate", f.Gate != 0},
			{"no-drift", f.NoDrift},
			{"report", f.Report != ""},
		} {
			if o.set {
				return refuse("--%s is about compression, and nothing asks for it: give --memory, --ratio, --bits, --latency, --kl, --method or --plan", o.flag)
			}
		}
		return nil
	case quantize:
		return refuse("--quantize rounds every matrix alike, and %s compresses: give one of them (--quantize-tables may stay)", strings.Join(append(goals, f.method()...), ", "))
	case f.Ratio < 0 || f.Ratio > 1:
		return refuse("--ratio must be above 0 and at most 1, got %g", f.Ratio)
	case f.Bits < 0 || f.Bits > 16:
		return refuse("--bits must be above 0 and at most 16, got %g", f.Bits)
	case f.KL < 0 || math.IsInf(f.KL, 0):
		return refuse("--kl must be above 0, got %g", f.KL)
	case f.Latency < 0:
		return refuse("--latency must be above 0, got %v", f.Latency)
	case !(f.Sampling >= 0 && f.Sampling <= 1):
		return refuse("--calibration-sampling must be above 0 and at most 1, got %g", f.Sampling)
	case f.Gate < 0:
		return refuse("--gate must be above 0, got %g", f.Gate)
	case f.Method != "" && len(goals) > 0 && goals[0] != "--ratio":
		return refuse("--method stores every matrix in one form, and %s is for choosing forms: leave one out", goals[0])
	case f.KL != 0 && f.Verify == "none":
		return refuse("--kl needs the comparison that --verify none leaves out")
	}
	if f.Importance != "" && f.Method == "" && f.Plan == "" {
		return refuse("--importance is for --method lowrank:weighted and lowrank:diagonal, and for a --plan that has them")
	}
	if f.Method != "" {
		c, err := compress.ParseChoice(f.Method, f.Calibration != "none")
		switch {
		case err != nil:
			return refuse("--method: %w", err)
		case c.IsProduct() && c.Rank == 0 && f.Ratio == 0:
			return refuse("--method %s needs --ratio, or a rank as in %s@64", f.Method, c.Form)
		case (!c.IsProduct() || c.Rank != 0) && f.Ratio != 0:
			return refuse("--ratio says nothing of --method %s, whose size is set", f.Method)
		case f.Importance != "" && !c.UsesImportance():
			return refuse("--importance says nothing of --method %s: lowrank:weighted and lowrank:diagonal go by it", f.Method)
		case c.NeedsImportance() && f.Importance == "":
			return refuse("--method %s needs --importance FILE, what an error of each element costs", f.Method)
		}
	}
	return CheckCount("calibration-windows", f.Windows)
}

func (f *CompressFlags) method() []string {
	if f.Method == "" {
		return nil
	}
	return []string{"--method"}
}

// words returns what was asked for, for people and for the plan.
func (f *CompressFlags) words() string {
	var w []string
	add := func(set bool, format string, args ...any) {
		if set {
			w = append(w, fmt.Sprintf(format, args...))
		}
	}
	add(f.Memory != 0, "--memory %v", f.Memory)
	add(f.Ratio != 0, "--ratio %g", f.Ratio)
	add(f.Bits != 0, "--bits %g", f.Bits)
	add(f.Latency != 0, "--latency %v", f.Latency)
	add(f.KL != 0, "--kl %g", f.KL)
	add(f.Method != "", "--method %s", f.Method)
	add(f.Plan != "", "--plan %s", filepath.Base(f.Plan))
	return strings.Join(w, " ")
}
