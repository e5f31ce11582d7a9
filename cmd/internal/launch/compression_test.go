package launch

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/model"
	"eckart/model/compress"
)

// testCompression returns one of the model at path with a store of its own, and what is heard of its stages.
func testCompression(t *testing.T, path string, f *CompressFlags) (*compression, *[]string) {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		d.Close()
	})
	stages := new([]string)
	o := &Options{Sizing: Sizing{CacheType: kernels.F16}, Threads: 2, Stage: func(s string) {
		if !slices.Contains(*stages, s) {
			*stages = append(*stages, s)
		}
	}}
	digest, err := m.Checkpoint.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return &compression{
		flags: f, model: m, device: d, options: o, asked: o.Sizing, seconds: map[string]float64{}, bar: newStageBar(nil), digest: digest,
		store: compress.Store{Dir: filepath.Join(t.TempDir(), "kept"), Limit: compress.DefaultLimit},
	}, stages
}

// TestWriteOnce: a model writes its text once, and fewer windows are the first of more.
func TestWriteOnce(t *testing.T) {
	c, stages := testCompression(t, "", new(CompressFlags))
	const window = 64
	two, err := c.write(t.Context(), window, 2)
	if err != nil || len(*stages) != 1 || c.source != compress.FromSelf {
		t.Fatalf("stages %q, source %s, %v", *stages, c.source, err)
	}
	*stages = nil
	one, err := c.write(t.Context(), window, 1)
	if err != nil || !reflect.DeepEqual(one, two[:1]) || len(*stages) != 0 {
		t.Errorf("stages %q, %v; windows %v, want the first of %v", *stages, err, one, two)
	}
	if _, err := c.write(t.Context(), window/2, 1); err != nil || len(*stages) != 1 {
		t.Errorf("shorter windows: stages %q, %v", *stages, err)
	}
}

// TestTooLargeToWrite: a model that does not fit into memory as a whole learns from the project's own text, of which no two
// windows are the same.
func TestTooLargeToWrite(t *testing.T) {
	c, stages := testCompression(t, "", new(CompressFlags))
	const window = 512 // 8 of which score 4088 tokens, and 7 fewer than verifyTokens
	size := writingSize(c.options.CacheType, window, 40)
	p, err := c.model.Plan(size, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.free = p.Need() // without the margin
	if err := c.texts(t.Context(), window); err != nil {
		t.Fatal(err)
	}
	if c.source != compress.FromProject || len(*stages) != 0 || len(c.learn) != defaultWindows || len(c.verify) != 8 {
		t.Errorf("source %s, stages %q, %d windows to learn from, %d to compare on", c.source, *stages, len(c.learn), len(c.verify))
	}
	all := append(slices.Clone(c.learn), c.verify...)
	for i, a := range all {
		for j, b := range all[:i] {
			if slices.Equal(a, b) {
				t.Errorf("windows %d and %d are the same", j, i)
			}
		}
	}
	if _, err := c.projectText(window, 1<<20); err == nil {
		t.Error("more windows than the text fills")
	}
}

// giveText gives c a walker and a window to learn from.
func giveText(t *testing.T, c *compression) {
	t.Helper()
	const window = 40
	var err error
	if c.walker, err = model.NewWalker(c.model.stored, c.device, window); err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, window)
	for i := range ids {
		ids[i] = int32(7 * i * i % c.model.Config.Vocab)
	}
	c.learn, c.source = [][]int32{ids}, compress.FromSelf
}

// TestKnownOnce: statistics, sensitivities, predictions and costs are found out once, and a plan that is made of what was kept
// is the same.
func TestKnownOnce(t *testing.T) {
	c, stages := testCompression(t, "../../../model/testdata/qwen2", &CompressFlags{Ratio: 0.6})
	giveText(t, c)
	var first *compress.Plan
	// Costs take seconds to measure: what stands in for them here was kept by an earlier run.
	costs := compress.Costs{Device: c.device.Name(), Rates: map[int]float64{8: 123, 16: 456}, Overhead: 7}
	if err := c.store.Keep(compress.KindCosts, compress.Key(c.device.Name(), nil, compress.KindCosts), costs); err != nil {
		t.Fatal(err)
	}
	if err := c.measureCosts(); err != nil || !reflect.DeepEqual(*c.costs, costs) || len(*stages) != 0 {
		t.Errorf("costs %+v, %v, stages %q, want %+v", c.costs, err, *stages, costs)
	}
	for round, want := range [][]string{{"calibrating", "measuring sensitivities", "planning"}, {"planning"}} {
		*stages = nil
		if err := c.survey(t.Context()); err != nil {
			t.Fatal(err)
		}
		p, err := c.plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.cached != (round == 1) || !slices.Equal(*stages, want) {
			t.Errorf("start %d: statistics cached %v, stages %q, want %q", round, c.cached, *stages, want)
		}
		if round == 0 {
			first = p
		} else if !reflect.DeepEqual(p, first) {
			t.Errorf("planned from what was kept, %+v, want %+v", p, first)
		}
		if err := c.known.Close(); err != nil {
			t.Error(err)
		}
	}
	c.known = nil
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// TestPlanningInterrupted: what was predicted before an interrupt is not predicted again.
func TestPlanningInterrupted(t *testing.T) {
	c, _ := testCompression(t, "../../../model/testdata/qwen2", &CompressFlags{Ratio: 0.6})
	giveText(t, c)
	if err := c.survey(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, interrupt := context.WithCancel(t.Context())
	c.options.Stage = func(s string) {
		if s == "planning" { // heard first when a block is done
			interrupt()
		}
	}
	if _, err := c.plan(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	list, err := c.store.List()
	at := slices.IndexFunc(list, func(e compress.Entry) bool { return e.Kind == compress.KindPredictions })
	if err != nil || at < 0 {
		t.Fatalf("kept are %+v, %v", list, err)
	}
	known := compress.Predictions{}
	if ok, err := c.store.Recall(compress.KindPredictions, list[at].Digest, &known); !ok || err != nil {
		t.Fatal(ok, err)
	}
	// Errors that nothing predicts show in the plan which of them were not predicted again.
	const sign = 0x1p-30
	for module, of := range known {
		if !strings.HasPrefix(module, "model.layers.0.") {
			t.Errorf("interrupted after the first block, %s is known", module)
		}
		for choice := range of {
			of[choice] = sign
		}
	}
	if err := c.store.Keep(compress.KindPredictions, list[at].Digest, known); err != nil {
		t.Fatal(err)
	}
	p, err := c.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, m := range p.Modules {
		if m.Choice.Form == compress.FormKeep {
			continue
		}
		first := strings.HasPrefix(m.Name, "model.layers.0.")
		if first != (m.Error == sign) {
			t.Errorf("%s as %s is planned with an error of %g, kept was %g for the first block", m.Name, m.Choice, m.Error, sign)
		}
		if first {
			made++
		}
	}
	if made == 0 {
		t.Error("nothing of the first block is compressed")
	}
}

// What is advised is met by a flag as it is parsed and multiplied, also where an exact quotient would fall a byte short.
func TestShortest(t *testing.T) {
	sum := compress.Sum{Bytes: 12800000, Elements: 44800000}
	for _, c := range []struct {
		parts float64
		bytes int64
		of    func(float64, compress.Sum) int64
		per   float64
	}{{1e4, 7024640, ratioBytes, 12800000}, {1e3, 29915200, bitsBytes, 5600000}} {
		got := shortest(c.parts, float64(c.bytes)/c.per, func(v float64) bool { return c.of(v, sum) >= c.bytes })
		if have := c.of(got, sum); have < c.bytes {
			t.Errorf("%v gives %d bytes of %d", got, have, c.bytes)
		}
		if have := c.of(got-2/c.parts, sum); have >= c.bytes {
			t.Errorf("two steps less than %v give %d bytes of %d as well", got, have, c.bytes)
		}
	}
}

// TestSmallest: where nothing is as small as was asked for, the error names a flag that can be met, and little less cannot.
func TestSmallest(t *testing.T) {
	c, _ := testCompression(t, "../../../model/testdata/qwen2", nil)
	giveText(t, c)
	c.learn = nil
	c.costs = &compress.Costs{Rates: map[int]float64{16: 1e8, 8: 1e8, 4: 1e8, 3: 1e8, 2: 1e8}, Overhead: 1e-6}
	c.asked.StepTokens = 4096 // some megabytes
	plan := func(f CompressFlags) error {
		c.flags, c.options.Sizing = &f, c.asked
		_, err := c.plan(t.Context())
		return err
	}
	for _, asked := range []CompressFlags{{Ratio: 0.01}, {Bits: 0.01}, {Memory: 1}, {Memory: 5 << 20}, {Latency: 10 * time.Microsecond}} {
		err := plan(asked)
		var short *compress.BudgetError
		if !errors.As(err, &short) {
			t.Errorf("%s: %v", asked.words(), err)
			continue
		}
		flag, value, _ := strings.Cut(err.Error()[strings.LastIndex(err.Error(), "--"):], " ")
		least, less := asked, asked
		switch flag {
		case "--ratio":
			least.Ratio, err = strconv.ParseFloat(value, 64)
			less.Ratio = least.Ratio - 1.1e-4
		case "--bits":
			least.Bits, err = strconv.ParseFloat(value, 64)
			less.Bits = least.Bits - 1.1e-3
		case "--latency":
			least.Latency, err = time.ParseDuration(value)
			less.Latency = least.Latency - 11*time.Microsecond
		case "--memory":
			err = least.Memory.UnmarshalText([]byte(value))
			less.Memory = least.Memory - 1<<20
		}
		if err != nil {
			t.Errorf("%s: %v", asked.words(), err)
		}
		if err := plan(least); err != nil {
			t.Errorf("%s, which is said to be the least: %v", least.words(), err)
		}
		if err := plan(less); !errors.As(err, &short) {
			t.Errorf("%s, less than the least: %v", less.words(), err)
		}
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}
