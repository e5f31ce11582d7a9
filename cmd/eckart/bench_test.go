package main

import (
	"context"
	"encoding/json"
	"math"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"eckart/api/openai"
	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/kernels"
)

// asProgram in the environment makes the test binary the program itself.
const asProgram = "ECKART_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestBench prints the table of the built-in model, for people and for programs.
func TestBench(t *testing.T) {
	status, stdout, stderr := eckart(t, "", "bench", "-p", "16", "-n", "4", "-d", "0,32", "--batch", "2", "-t", "1", "-r", "2")
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	for _, want := range []string{"gopher-dense", "pp16 ", "tg4x2 ", "pp16 @ d32", "tg4x2 @ d32", "GB/s", " ± "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("table lacks %q:\n%s", want, stdout)
		}
	}
	status, stdout, stderr = eckart(t, "", "bench", "run", "-p", "0", "-n", "4", "-t", "2", "-r", "1", "--format", "json")
	var results []map[string]any
	if err := json.Unmarshal([]byte(stdout), &results); status != 0 || err != nil || len(results) != 1 || results[0]["n_threads"] != 2.0 {
		t.Errorf("status %d, error %v, stderr %q in\n%s", status, err, stderr, stdout)
	}
}

// TestBenchHelp: the help of bench is that of measuring a model, and leads to that of loads.
func TestBenchHelp(t *testing.T) {
	status, stdout, _ := eckart(t, "", "bench", "--help")
	for _, want := range []string{"--depth", "eckart bench load"} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("status %d, help lacks %q:\n%s", status, want, stdout)
		}
	}
}

func TestBenchRefusals(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"-p 0 -n 0", command.BadUsage, "nothing to measure"},
		{"--path air", command.BadUsage, "--path must be"},
		{"--format xml", command.BadUsage, "--format must be one of"},
		{"/no/such/model", command.Failed, "no such file"},
		{"-t 1 --batch 65536 -d 100000000000", command.BadUsage, "--depth must be from 0"},
		{"-t 1 --batch 65536 -d 4000", command.Failed, "a smaller --depth or --batch needs less"},
		{"load", command.BadUsage, "either the URL of a server is needed, or --spawn MODEL"},
		{"load http://x --spawn demo", command.BadUsage, "either the URL"},
		{"load http://x --serve-flags x", command.BadUsage, "--serve-flags"},
		{"load http://x --clients 0", command.BadUsage, "--clients must be from 1"},
		{"load http://x --clients 1 --rate 1", command.BadUsage, "--clients and --rate exclude each other"},
		{"load http://x --rate 0", command.BadUsage, "--rate must be more than 0"},
		{"load http://x --rate NaN", command.BadUsage, "--rate must be more than 0"},
		{"load http://x --input 0", command.BadUsage, "--input must be at least 1"},
		{"load http://x --output 0", command.BadUsage, "--output must be at least 1"},
		{"load http://x --requests 1 --duration 1s", command.BadUsage, "exclude each other"},
		{"load http://x --timeout 0s", command.BadUsage, "--timeout must be positive"},
		{"load 127.0.0.1:80", command.BadUsage, "URL must be that of a server"},
		{"load http://127.0.0.1:1", command.Failed, "list models"},
		{"load http://x --api-key-file /no/such/file", command.Failed, "read --api-key-file"},
	} {
		status, stdout, stderr := eckart(t, "", append([]string{"bench"}, strings.Fields(c.args)...)...)
		if status != c.status || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, stdout %q, stderr %q, want %q", c.args, status, stdout, stderr, c.want)
		}
	}
}

// TestLoad loads our own server with the built-in model: every request is answered, in full, and prompts have about the
// tokens asked for.
func TestLoad(t *testing.T) {
	m, err := launch.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	i, err := launch.Start(t.Context(), m, launch.Options{Sizing: launch.Sizing{Slots: 4, CacheType: kernels.F16}, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	api, err := openai.New(openai.Options{
		Engine: i.Engine, Tokenizer: i.Tokenizer, Template: i.Template, Model: m.Name, Context: i.Plan.Context, Vocab: m.Config.Vocab,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	defer func() {
		server.Close()
		stop()
		<-ended
	}()

	const requests, input, output = 6, 64, 5
	for _, more := range [][]string{{"--clients", "1,3"}, {"--chat", "--rate", "1000,2000"}} {
		status, stdout, stderr := eckart(t, "", slices.Concat([]string{
			"bench", "load", server.URL, "--input", "64", "--output", "5", "--requests", "6", "--seed", "1", "--format", "json",
		}, more)...)
		var results []struct {
			Completed int     `json:"completed"`
			Failed    int     `json:"failed"`
			Input     int     `json:"total_input_tokens"`
			Output    int     `json:"total_output_tokens"`
			TTFT      float64 `json:"mean_ttft_ms"`
			E2EL      float64 `json:"mean_e2el_ms"`
		}
		if err := json.Unmarshal([]byte(stdout), &results); status != 0 || err != nil || stderr != "" || len(results) != 2 {
			t.Fatalf("%v: status %d, error %v, stderr %q in\n%s", more, status, err, stderr, stdout)
		}
		for _, r := range results {
			if r.Completed != requests || r.Failed != 0 || r.Output != requests*output || !(r.TTFT > 0 && r.E2EL >= r.TTFT) {
				t.Errorf("%v: %+v", more, r)
			}
			if math.Abs(float64(r.Input-requests*input)) > 0.25*requests*input {
				t.Errorf("%v: prompts have %d tokens, want about %d", more, r.Input, requests*input)
			}
		}
	}

	// What the server refuses is told, and fails the command when nothing else comes.
	status, stdout, stderr := eckart(t, "", "bench", "load", server.URL, "--input", "64", "--output", "4000", "--requests", "2")
	if status != command.Failed || !strings.Contains(stdout, "1 client") || !strings.Contains(stderr, "the context holds 2048 tokens") || !strings.Contains(stderr, "no request was answered") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

// TestLoadSpawn starts a server, loads it and stops it.
func TestLoadSpawn(t *testing.T) {
	t.Setenv(asProgram, "1")
	status, stdout, stderr := eckart(t, "", "bench", "load", "--spawn", "demo", "--serve-flags=--threads 1 --context 256", "--input", "16", "--output", "2", "--requests", "2", "--format", "csv")
	if status != 0 || stderr != "" || strings.Count(stdout, "\n") != 2 {
		t.Errorf("status %d, stderr %q, stdout %q", status, stderr, stdout)
	}
	status, stdout, stderr = eckart(t, "", "bench", "load", "--spawn", "/no/such/model")
	if status != command.Failed || stdout != "" || !strings.Contains(stderr, "start a server: eckart serve: ") || !strings.Contains(stderr, "no such file") {
		t.Errorf("status %d, stderr %q, stdout %q", status, stderr, stdout)
	}
}
