package launch

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/model"
)

const mib = 1 << 20

// toy measures a model with weights of 100 MiB, whose workspace takes 64 KiB for each row of a step and 1 MiB for each
// sample, and whose cache takes 4 KiB a token as f16: 64 KiB a block.
func toy(l model.Limits) (model.Footprint, error) {
	return model.Footprint{
		Weights: 100 * mib, Workspace: int64(l.Rows)*65536 + int64(l.Samples)*mib,
		Specs: slices.Repeat([]kvcache.Spec{{Heads: 4, KeyDim: 64, ValueDim: 64}}, 4),
	}, nil
}

func TestPlanDefaults(t *testing.T) {
	// Plenty: every slot gets its context.
	p, err := NewPlan(toy, 2048, Sizing{CacheType: kernels.F16}, 64<<30)
	if err != nil {
		t.Fatal(err)
	}
	if p.Context != 2048 || p.Slots != defaultSlots || p.StepTokens != defaultStepTokens {
		t.Errorf("plan %+v, want context 2048 and the defaults", p.Sizing)
	}
	if want := defaultSlots * 2048 / blockTokens; p.Blocks != want || p.Cache != int64(want)*65536 {
		t.Errorf("cache of %d blocks, %d bytes, want %d and %d", p.Blocks, p.Cache, want, want*65536)
	}
	if p.Concurrency() != defaultSlots {
		t.Errorf("concurrency %v, want %d", p.Concurrency(), defaultSlots)
	}

	// A context trained for more than the default.
	p, err = NewPlan(toy, 131072, Sizing{CacheType: kernels.F16}, 64<<30)
	if err != nil || p.Context != maxDefaultContext {
		t.Errorf("context %d, error %v, want %d", p.Context, err, maxDefaultContext)
	}

	// Memory unknown: at most a GiB of cache, and nothing is refused.
	p, err = NewPlan(toy, 32768, Sizing{CacheType: kernels.F16}, 0)
	if err != nil || p.Cache != 1<<30 {
		t.Errorf("cache of %d bytes, error %v, want 1 GiB", p.Cache, err)
	}
}

// TestPlanQuarter holds the rule for a cache that cannot hold all slots: a quarter of what is left.
func TestPlanQuarter(t *testing.T) {
	const free = 1 << 30
	p, err := NewPlan(toy, 2048, Sizing{CacheType: kernels.F16, Slots: 64, StepTokens: 64}, free)
	if err != nil {
		t.Fatal(err)
	}
	left := free - margin(free) - p.Weights - p.Workspace
	if p.Cache > left/4 || p.Cache < left/4-65536 {
		t.Errorf("cache takes %d bytes, want a quarter of %d", p.Cache, left)
	}
	if p.Context != 2048 {
		t.Errorf("context %d, want 2048", p.Context)
	}
}

// TestPlanShrinks: a default context gives way to memory, to the last block.
func TestPlanShrinks(t *testing.T) {
	const free = 300 * mib
	p, err := NewPlan(toy, 32768, Sizing{CacheType: kernels.F16}, free)
	if err != nil {
		t.Fatal(err)
	}
	if !p.fits() || p.Context >= 32768 || p.Context < minContext || !strings.Contains(p.ContextFrom, "memory") {
		t.Fatalf("plan %+v", p)
	}
	q, err := size(toy, Sizing{Context: p.Context + blockTokens, Slots: p.Slots, StepTokens: p.StepTokens, CacheType: kernels.F16}, free)
	if err != nil {
		t.Fatal(err)
	}
	if q.fits() {
		t.Errorf("context %d was chosen where %d fits", p.Context, q.Context)
	}
}

// follow returns a sizing changed as a piece of advice says: flags and values in turn.
func follow(t *testing.T, s Sizing, advice string) Sizing {
	words := strings.Fields(advice)
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == "--cache-type" {
			s.CacheType = kernels.F16
			continue
		}
		n, err := strconv.Atoi(words[i+1])
		if err != nil {
			t.Fatalf("advice %q: %v", advice, err)
		}
		switch words[i] {
		case "--context":
			s.Context = n
		case "--slots":
			s.Slots = n
		case "--step-tokens":
			s.StepTokens = n
		default:
			t.Fatalf("advice %q names an unknown flag", advice)
		}
	}
	return s
}

// TestPlanRefusals follows the advice of each refusal: it must fit.
func TestPlanRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		sizing Sizing
		free   int64
		advice []string // flags that are named, in order; none: no setting helps
	}{
		{"long context", Sizing{Context: 32768, CacheType: kernels.F16}, 300 * mib, []string{"--context"}},
		{"wide cache", Sizing{Context: 2048, CacheType: kernels.F32}, 215 * mib, []string{"--context", "--cache-type f16"}},
		{"many slots", Sizing{Context: 1024, Slots: 200, CacheType: kernels.F16}, 400 * mib, []string{"--slots"}},
		{"long steps", Sizing{Context: 1024, StepTokens: 4096, CacheType: kernels.F16}, 400 * mib, []string{"--step-tokens"}},
		{"all together", Sizing{Context: 8192, StepTokens: 2048, Slots: 128, CacheType: kernels.F32}, 200 * mib, []string{"--context", "--slots", "--step-tokens", "--cache-type f16"}},
		{"weights alone", Sizing{Context: 1024, CacheType: kernels.F16}, 100 * mib, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewPlan(toy, 32768, c.sizing, c.free)
			var fit *FitError
			if !errors.As(err, &fit) {
				t.Fatalf("error %v, want a FitError", err)
			}
			t.Log(err)
			if (len(fit.Advice) == 0) != (len(c.advice) == 0) {
				t.Fatalf("advice %q, want %q", fit.Advice, c.advice)
			}
			for _, advice := range fit.Advice {
				if p, err := NewPlan(toy, 32768, follow(t, fit.Sizing, advice), c.free); err != nil || !p.fits() {
					t.Errorf("advice %q does not fit: %v", advice, err)
				}
			}
			all := strings.Join(fit.Advice, " ")
			for _, flag := range c.advice {
				_, after, found := strings.Cut(all, flag)
				if !found {
					t.Errorf("advice %q does not name %s", fit.Advice, flag)
				}
				all = after
			}
		})
	}
}

func TestPlanBadFlags(t *testing.T) {
	for _, c := range []struct {
		sizing Sizing
		want   string
	}{
		{Sizing{Context: 4096, CacheType: kernels.F16}, "--context 4096 is more than the 2048 positions"},
		{Sizing{Slots: 100, StepTokens: 64, CacheType: kernels.F16}, "--step-tokens 64 is less than --slots 100"},
	} {
		_, err := NewPlan(toy, 2048, c.sizing, 64<<30)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestBarLine(t *testing.T) {
	got := barLine("loading", 5*mib, 10*mib, 2*mib)
	if want := "loading [" + strings.Repeat("#", 15) + strings.Repeat(".", 15) + "]  50 %  5.0 MiB of 10.0 MiB  2.0 MiB/s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
