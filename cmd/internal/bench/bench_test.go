package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/kernels"
	"eckart/kvcache"
)

func TestNames(t *testing.T) {
	var names []string
	for _, test := range Tests([]string{Decoder}, []int{512, 0}, []int{64}, []int{0, 4096}, []int{1, 16}) {
		names = append(names, test.String())
	}
	want := []string{"pp512", "tg64", "tg64x16", "pp512 @ d4096", "tg64 @ d4096", "tg64x16 @ d4096"}
	if !slices.Equal(names, want) {
		t.Errorf("tests %q, want %q", names, want)
	}
}

func open(t *testing.T) *launch.Model {
	t.Helper()
	m, err := launch.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestRun measures the built-in model on every path, at a depth that it was not trained for too.
func TestRun(t *testing.T) {
	o := Options{
		Launch: launch.Options{Sizing: launch.Sizing{CacheType: kernels.F16}},
		Tests: slices.Concat(
			Tests([]string{Decoder}, []int{20}, []int{3}, []int{0, 2100}, []int{1, 3}),
			Tests([]string{Engine, HTTP}, []int{20}, []int{3}, []int{0}, []int{2})),
		Threads: []int{1, 2}, Repeat: 2, Sweep: 1 << 20,
	}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	results, err := Run(t.Context(), open(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2*len(o.Tests) {
		t.Fatalf("%d results, want %d", len(results), 2*len(o.Tests))
	}
	for i, r := range results {
		test := o.Tests[i%len(o.Tests)]
		if r.Test != test.String() || r.Path != test.Path || r.Threads != 1+i/len(o.Tests) || r.Batch != test.Batch || r.Depth != test.Depth {
			t.Errorf("result %d is of %s on %s with %d threads, want %+v", i, r.Test, r.Path, r.Threads, test)
		}
		if len(r.Samples) != 2 || len(r.SamplesNS) != 2 || !(r.Median > 0) || r.ReadRate <= 0 || r.SweepBytes <= 0 {
			t.Errorf("%s: %+v", r.Test, r)
		}
		tokens := float64(test.Batch * (test.Prompt + test.Tokens))
		if got := r.Samples[0] * float64(r.SamplesNS[0]) / 1e9; math.Abs(got-tokens) > 1e-6*tokens {
			t.Errorf("%s: %g tokens a second for %d ns are %g tokens, want %g", r.Test, r.Samples[0], r.SamplesNS[0], got, tokens)
		}
		// 6,946,816 elements of bf16 in matrices, 4352 gains of f32; the table is the head as well.
		const weights = 2*6_946_816 + 4*4352
		if r.WeightBytes != weights || r.ModelBytes < weights || r.Parameters != 6_946_816+4352 {
			t.Errorf("%s reads %d bytes of weights, %d of them in memory, for %d parameters, want %d", r.Test, r.WeightBytes, r.ModelBytes, r.Parameters, weights)
		}
		if inside := r.ForwardShare > 0 && r.ForwardShare <= 1; inside == (r.Path == Decoder) {
			t.Errorf("%s on %s: %g of the time in the model", r.Test, r.Path, r.ForwardShare)
		}
		if (r.BytesPerToken > 0) != (test.Tokens > 0) || (r.ReadShare > 0) != (test.Tokens > 0) {
			t.Errorf("%s: %d bytes a token, %g of the read rate", r.Test, r.BytesPerToken, r.ReadShare)
		}
	}
}

// TestFill: a depth's blocks all hold something, and no two sequences share one.
func TestFill(t *testing.T) {
	test := Test{Path: Decoder, Tokens: 4, Depth: 700, Batch: 3, Threads: 2}
	m := open(t)
	sizing, err := sizingFor(m, []Test{test}, kernels.F16)
	if err != nil {
		t.Fatal(err)
	}
	i, err := launch.Start(t.Context(), m, launch.Options{Sizing: sizing, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}()
	b := &bench{Instance: i, random: rand.New(rand.NewPCG(1, 2))}
	if err := b.fill(test); err != nil {
		t.Fatal(err)
	}
	seen := map[int32]bool{}
	for s := range test.Batch {
		table := b.table(test, s)
		if want := (700 + 4 + 15) / 16; len(table) != want {
			t.Fatalf("%d blocks, want %d", len(table), want)
		}
		for n, block := range table {
			if seen[block] || int(block) >= b.Cache.Blocks() {
				t.Fatalf("block %d of sequence %d is %d, of %d, and taken: %v", n, s, block, b.Cache.Blocks(), seen[block])
			}
			seen[block] = true
			for l := range b.Plan.Specs {
				k := b.Cache.Layer(l).K.Slice(int(block), 1)
				if zero := !slices.ContainsFunc(k.Uint16s(0), func(v uint16) bool { return v != 0 }); zero {
					t.Fatalf("block %d of sequence %d holds nothing in layer %d", n, s, l)
				}
			}
		}
	}
}

// TestInterrupted: what is measured before an interruption is not lost.
func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	o := Options{
		Launch:  launch.Options{Sizing: launch.Sizing{CacheType: kernels.F16}},
		Tests:   Tests([]string{Decoder}, []int{4, 8}, nil, []int{0}, []int{1}),
		Threads: []int{1}, Repeat: 1, Sweep: 1 << 20, Progress: writerFunc(func(p []byte) {
			if bytes.Contains(p, []byte("pp8")) {
				stop()
			}
		}),
	}
	results, err := Run(ctx, open(t), o)
	if !errors.Is(err, errInterrupted) || len(results) != 1 || results[0].Test != "pp4" {
		t.Errorf("results %+v, error %v", results, err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// TestCacheBytes counts what is attended to, in a layer that sees all and in one with a window.
func TestCacheBytes(t *testing.T) {
	specs := []kvcache.Spec{{Heads: 2, KeyDim: 4, ValueDim: 6}, {Heads: 1, KeyDim: 3, ValueDim: 3, Window: 11}}
	// Three tokens after ten: 11, 12 and 13 of 2·10 elements; 11 of 6 each.
	want := int64((11+12+13)*20*2+3*11*6*2) / 3
	if got := cacheBytes(specs, Test{Tokens: 3, Depth: 10, Batch: 5}, 2); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

// given is a result of made-up times.
func given() Result {
	r := Result{
		Model: "m", Backend: "CPU", CPU: "cpu: x (avx2), 2 threads", ModelBytes: 3 << 20, Parameters: 7_000_000, Threads: 2, Tokens: 10,
		Batch: 4, Test: "tg10x4", Path: Decoder, BytesPerToken: 1 << 20, SweepBytes: 1 << 27,
	}
	for _, ms := range []time.Duration{100, 200, 400} {
		r.add(ms*time.Millisecond, 0)
	}
	r.finish(Test{Path: Decoder}, 1<<30)
	return r
}

func TestFigures(t *testing.T) {
	r := given()
	for _, f := range []struct {
		name      string
		got, want float64
	}{
		{"avg_ts", r.Average, (400. + 200 + 100) / 3},
		{"stddev_ts", r.Deviation, math.Sqrt((166.6666666667*166.6666666667 + 33.3333333333*33.3333333333 + 133.3333333333*133.3333333333) / 2)},
		{"median_ts", r.Median, 200},
		{"avg_ns", float64(r.AverageNS), 233333333},
		{"read_share", r.ReadShare, 200. / 1024},
	} {
		if math.Abs(f.got-f.want) > 1e-6*f.want {
			t.Errorf("%s is %g, want %g", f.name, f.got, f.want)
		}
	}
	if mean, deviation := moments([]float64{5}); mean != 5 || deviation != 0 {
		t.Errorf("a single sample: %g ± %g", mean, deviation)
	}
}

func TestFormats(t *testing.T) {
	write := func(format string, results ...Result) string {
		var b bytes.Buffer
		if err := Write(&b, format, results); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	prompt := given()
	prompt.Test, prompt.BytesPerToken, prompt.ReadShare = "pp512 @ d4096", 0, 0

	want := `model   m, 7.0 M parameters, weights 3.0 MiB
device  cpu: x (avx2), 2 threads
memory  the read rate is that of sweeps over 128.0 MiB with as many threads

test           threads              t/s  bytes/token  read rate  share
pp512 @ d4096        2  233.33 ± 152.75                1.1 GB/s
tg10x4               2  233.33 ± 152.75      1.0 MiB   1.1 GB/s   20 %
`
	if got := write("table", prompt, given()); got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
	want = `| model | size | params | backend | test | threads | t/s | bytes/token | read rate | share |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| m | 3.0 MiB | 7.0 M | CPU | tg10x4 | 2 | 233.33 ± 152.75 | 1.0 MiB | 1.1 GB/s | 20 % |
`
	if got := write("markdown", given()); got != want {
		t.Errorf("markdown:\n%s\nwant:\n%s", got, want)
	}

	var fields []map[string]any
	if err := json.Unmarshal([]byte(write("json", given())), &fields); err != nil || len(fields) != 1 {
		t.Fatalf("json: %d results, error %v", len(fields), err)
	}
	rows, err := csv.NewReader(strings.NewReader(write("csv", given()))).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("csv: %d rows, error %v", len(rows), err)
	}
	for i, key := range rows[0] {
		value, ok := fields[0][key]
		if !ok {
			t.Errorf("csv has %s, which json lacks", key)
		}
		if text, ok := value.(string); ok && text != rows[1][i] {
			t.Errorf("%s is %q in csv, %q in json", key, rows[1][i], text)
		}
	}
	for _, key := range []string{
		"build_commit", "cpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params", "n_ubatch", "n_threads", "type_k",
		"type_v", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts",
	} {
		if _, ok := fields[0][key]; !ok {
			t.Errorf("json lacks llama-bench's %s", key)
		}
	}

	prompt.Path, prompt.ForwardShare = HTTP, 0.9876
	if got := write("table", prompt); !strings.Contains(got, "in the model") || !strings.Contains(got, "98.8 %") {
		t.Errorf("table of a path:\n%s", got)
	}
}

func TestCheck(t *testing.T) {
	good := Test{Path: Decoder, Tokens: 1, Batch: 1}
	for _, c := range []struct {
		change func(*Options, *Test)
		want   string
	}{
		{func(o *Options, _ *Test) { o.Tests = nil }, "nothing to measure"},
		{func(o *Options, _ *Test) { o.Repeat = 0 }, "--repeat"},
		{func(o *Options, _ *Test) { o.Threads = []int{1, -1} }, "--threads"},
		{func(_ *Options, t *Test) { t.Batch = 0 }, "--batch"},
		{func(_ *Options, t *Test) { t.Batch = 1 << 20 }, "--batch"},
		{func(_ *Options, t *Test) { t.Depth = -1 }, "--depth"},
		{func(_ *Options, t *Test) { t.Prompt = 1 << 30 }, "--prompt"},
		{func(_ *Options, t *Test) { t.Tokens = 1 << 30 }, "--tokens"},
		{func(_ *Options, t *Test) { t.Batch, t.Depth = 1<<16, 1<<20 }, "--batch 65536 at --depth 1048576"},
		{func(_ *Options, t *Test) { t.Path = "air" }, "--path"},
		{func(_ *Options, t *Test) { t.Path, t.Depth = HTTP, 5 }, "--path http measures at --depth 0"},
	} {
		test := good
		o := Options{Tests: []Test{test}, Repeat: 1, Threads: []int{1}}
		c.change(&o, &test)
		if o.Tests != nil {
			o.Tests = []Test{test}
		}
		var usage *command.UsageError
		if err := o.Check(); !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	o := Options{Tests: []Test{good}, Repeat: 1}
	if err := o.Check(); err != nil || len(o.Threads) != 1 {
		t.Errorf("threads %v, error %v", o.Threads, err)
	}
}
