package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/kernels"
	"eckart/model/compress"
)

// ownCache gives the test a cache directory of its own.
func ownCache(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // of os.UserCacheDir on Linux
	t.Setenv("HOME", t.TempDir())           // and elsewhere
}

// goText returns the path of a file with Go, which the built-in model knows. The test has a cache of its own, in which are
// costs of kernels, made up: they take seconds to measure, which TestCompressMet does.
func goText(t *testing.T) string {
	t.Helper()
	ownCache(t)
	store, err := launch.StatisticsStore()
	if err != nil {
		t.Fatal(err)
	}
	if err := launch.WithDevice(launch.Options{Threads: 2}, func(d kernels.Device) error {
		costs := compress.Costs{Device: d.Name(), Rates: map[int]float64{16: 9e9, 8: 9e9, 4: 8e9, 3: 7e9, 2: 6e9}, Overhead: 1e-6}
		return store.Keep(compress.KindCosts, compress.Key(d.Name(), nil, compress.KindCosts), costs)
	}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, f := range files {
		part, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	name := filepath.Join(t.TempDir(), "text.go")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestCompress writes a compressed model, and finds the model that was compressed while it was loaded in it: the same
// perplexity, to the last digit.
func TestCompress(t *testing.T) {
	if testing.Short() {
		t.Skip("plans and compresses a model twice")
	}
	text := goText(t)
	plan := filepath.Join(t.TempDir(), "plan.json")
	known := []string{"--calibration", text, "--calibration-windows", "3", "--verify", "none", "--threads", "2"}
	status, stdout, stderr := eckart(t, "", append([]string{"compress", "--ratio", "0.4", "--plan-only"}, known...)...)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	if err := os.WriteFile(plan, []byte(stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := append([]string{"--plan", plan, "--no-drift"}, known...)
	dir := filepath.Join(t.TempDir(), "small")
	status, stdout, stderr = eckart(t, "", append([]string{"compress", "-o", dir}, flags...)...)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	if !strings.Contains(stdout, "--plan plan.json") {
		t.Errorf("the report does not say what was asked for:\n%s", stdout)
	}
	score := func(args ...string) evaluation {
		t.Helper()
		status, stdout, stderr := eckart(t, "", append([]string{"eval", "--json", "--text", text, "--windows", "2"}, args...)...)
		var e evaluation
		if err := json.Unmarshal([]byte(stdout), &e); status != 0 || err != nil {
			t.Fatalf("status %d, error %v, stderr %q", status, err, stderr)
		}
		return e
	}
	loaded, packed, whole := score(flags...), score(dir, "--threads", "2"), score("--threads", "2")
	if loaded.Perplexity != packed.Perplexity {
		t.Errorf("perplexity %v compressed while loading, %v packed", loaded.Perplexity, packed.Perplexity)
	}
	if packed.Perplexity == whole.Perplexity || packed.Perplexity > 1.1*whole.Perplexity {
		t.Errorf("perplexity %v compressed, %v before", packed.Perplexity, whole.Perplexity)
	}
	if status, stdout, stderr := eckart(t, "", "inspect", dir); status != 0 || !strings.Contains(stdout, "eckart 1.0") {
		t.Errorf("status %d, stderr %q, inspected as\n%s", status, stderr, stdout)
	}
	// What the first run found out was there for those after it.
	if status, stdout, _ := eckart(t, "", "cache", "list", "--json"); status != 0 || strings.Count(stdout, `"kind": "statistics"`) != 1 ||
		strings.Count(stdout, `"kind": "sensitivities"`) != 1 || strings.Count(stdout, `"kind": "predictions"`) != 1 {
		t.Errorf("status %d, kept are %s", status, stdout)
	}
}

// TestPlanOnly has a plan printed, and carried out by another run.
func TestPlanOnly(t *testing.T) {
	if testing.Short() {
		t.Skip("rounds a model twice")
	}
	goText(t)
	without := []string{"--calibration", "none", "--verify", "none", "--threads", "2"}
	status, stdout, stderr := eckart(t, "", append([]string{"compress", "--plan-only", "--method", "int4/64"}, without...)...)
	p, err := compress.ParsePlan([]byte(stdout))
	if status != 0 || err != nil || len(p.Modules) != 56 {
		t.Fatalf("status %d, error %v, stderr %q, plan of %d bytes", status, err, stderr, len(stdout))
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	edited := strings.Replace(stdout, `"form": "round"`, `"form": "keep"`, 1)
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.json")
	dir := filepath.Join(t.TempDir(), "small")
	status, _, stderr = eckart(t, "", append([]string{"compress", "--plan", file, "--report", report, "-o", dir}, without...)...)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r compress.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Modules) != 56 || r.Modules[0].Form != "keep" || r.Modules[1].Form != "round" || r.Modules[1].Reached == 0 {
		t.Errorf("a report of %d modules, the first %+v and %+v", len(r.Modules), r.Modules[0], r.Modules[1])
	}
}

// TestCompressRefuses has flags that cannot be be named.
func TestCompressRefuses(t *testing.T) {
	goText(t)
	small := filepath.Join(t.TempDir(), "small.txt")
	if err := os.WriteFile(small, []byte("package main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type refusal struct{ args, want string }
	cases := []refusal{
		{"--ratio 0.5 --bits 4", "--ratio and --bits: each sets how far to compress"},
		{"--ratio 1.5", "--ratio must be above 0 and at most 1, got 1.5"},
		{"--ratio=-1", "--ratio must be above 0 and at most 1, got -1"},
		{"--bits 17", "--bits must be above 0 and at most 16"},
		{"--method int5", "--method: form \"int5\""},
		{"--method lowrank", "--method lowrank needs --ratio"},
		{"--method int4 --ratio 0.5", "--ratio says nothing of --method int4"},
		{"--method int4 --memory 1GB", "--method stores every matrix in one form, and --memory"},
		{"--method lowrank@8:weighted", "--method lowrank@8:weighted needs --importance FILE"},
		{"--method int4 --importance x", "--importance says nothing of --method int4"},
		{"--ratio 0.5 --importance x", "--importance is for --method lowrank:weighted"},
		{"--method lowrank@8:diagonal --importance nowhere", "--importance: read importance: "},
		{"--ratio 0.5 --calibration-sampling 1.5", "--calibration-sampling must be above 0 and at most 1, got 1.5"},
		{"--kl 0.1 --verify none", "--kl needs the comparison"},
		{"--quantize int4 --ratio 0.5", "--quantize rounds every matrix alike"},
		{"--threads 2", "nothing says how far to compress"},
		{"--ratio 0.5 --plan-only -o x", "leave out -o"},
		{"--ratio 0.5 --calibration " + small, "which do not fill a window of 512"},
		{"--ratio 0.5 --calibration none --verify none --plan-only --gate=-1", "--gate must be above 0"},
		{"--plan " + small + " --verify none --calibration none --plan-only", "read plan"},
		{"--plan nowhere.json --verify none --calibration none --plan-only", "read --plan: open nowhere.json"},
	}
	if !testing.Short() { // what it takes a planner to find out
		cases = append(cases,
			refusal{"--ratio 0.01 --calibration none --verify none --plan-only", "plan compression: the budget leaves"},
			refusal{"--memory 1MB --calibration none --verify none --plan-only", "plan compression: the budget leaves nothing"})
	}
	for _, c := range cases {
		args := strings.Fields("compress " + c.args)
		if !strings.Contains(c.args, "-o ") && !strings.Contains(c.args, "--plan-only") {
			args = append(args, "-o", filepath.Join(t.TempDir(), "out"))
		}
		status, _, stderr := eckart(t, "", args...)
		if status == 0 || !strings.Contains(stderr, c.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 1 {
			t.Errorf("%s: status %d, stderr %q, want %q", c.args, status, stderr, c.want)
		}
	}
	if status, _, stderr := eckart(t, "", "eval", "--text", small, "--gate", "1"); status != command.BadUsage || !strings.Contains(stderr, "--gate is about compression") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

// TestGate has a model that is too far from the one it was made of refused, with the figures.
func TestGate(t *testing.T) {
	if testing.Short() {
		t.Skip("compresses a model and compares it")
	}
	text := goText(t)
	status, _, stderr := eckart(t, "", "eval", "--text", text, "--windows", "1", "--method", "int2:nearest", "--calibration", "none", "--verify", text,
		"--gate", "0.001", "--threads", "2")
	if status != command.Failed || !strings.Contains(stderr, "more than the 0.001 that --gate allows") || !strings.Contains(stderr, "perplexity") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

// TestCompressMet asks for what the model is already: nothing is learned, planned or changed, and the report says so.
func TestCompressMet(t *testing.T) {
	if testing.Short() {
		t.Skip("walks a model and measures kernels")
	}
	ownCache(t)
	dir := filepath.Join(t.TempDir(), "same")
	status, stdout, stderr := eckart(t, "", "compress", "--memory", "1GB", "--threads", "2", "-o", dir)
	if status != 0 || !strings.Contains(stdout, "which the model meets as it is") || !strings.Contains(stdout, "16.00 bits a weight became 16.00") {
		t.Errorf("status %d, stderr %q, reported\n%s", status, stderr, stdout)
	}
	if status, stdout, _ := eckart(t, "", "cache", "list", "--json"); status != 0 || strings.Contains(stdout, "statistics\"\n") || strings.Contains(stdout, `"kind": "text"`) {
		t.Errorf("status %d, kept are %s", status, stdout)
	}
}
