package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eckart/cmd/internal/command"
)

// eckart runs the program with arguments and standard input. Where it measures memory, it takes little of it.
func eckart(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	c := new(commands)
	c.Bench.Model.sweep = 1 << 20
	name := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(name, []byte(stdin), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out, errs bytes.Buffer
	env := command.Env{Program: "eckart", Stdin: in, Stdout: &out, Stderr: &errs}
	status = command.Run(context.Background(), env, "", c, args)
	return status, out.String(), errs.String()
}

// TestChat holds a conversation through a pipe: only replies on standard output, the same ones for the same seed.
func TestChat(t *testing.T) {
	args := []string{"chat", "--context", "512", "--threads", "2", "--max-tokens", "12", "--seed", "7"}
	const ask = "Add returns the sum of a and b.\n"
	status, once, stderr := eckart(t, ask+"\n/exit\nnever asked\n", args...)
	if status != 0 || stderr != "" || strings.TrimSpace(once) == "" {
		t.Fatalf("status %d, replies %q, stderr %q", status, once, stderr)
	}
	status, twice, stderr := eckart(t, ask+"/reset\n"+ask, args...)
	if status != 0 || stderr != "" || twice != once+once {
		t.Errorf("status %d, replies %q after a reset, want %q two times; stderr %q", status, twice, once, stderr)
	}
}

// TestChatOverflow: with nobody at the keyboard, a refusal ends the program, with the numbers.
func TestChatOverflow(t *testing.T) {
	status, _, stderr := eckart(t, strings.Repeat("sum ", 600)+"\n", "chat", "--context", "256")
	if status != command.Failed || !strings.Contains(stderr, "the context holds 256 tokens") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

func TestInspect(t *testing.T) {
	status, stdout, stderr := eckart(t, "", "inspect", "--context", "1024", "--slots", "2")
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	for _, want := range []string{"LlamaForCausalLM", "7.0 M", "74 of BF16  13.3 MiB", "4096 ids", "understood", "context 1024, f16; 2.0 sequences", "of 2 sequences"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("report lacks %q:\n%s", want, stdout)
		}
	}

	status, stdout, _ = eckart(t, "", "inspect", "--json")
	var r inspection
	if err := json.Unmarshal([]byte(stdout), &r); status != 0 || err != nil {
		t.Fatalf("status %d, error %v in\n%s", status, err, stdout)
	}
	// A token takes a key and a value of 2 heads of 64 in each of 8 layers, two bytes each.
	const tokenBytes = 2 * 2 * 64 * 8 * 2
	if m := r.Memory; m == nil || m.Context != 2048 || m.Cache != int64(tokenBytes*2048*m.Slots) || m.Weights < 2*int64(r.Parameters) {
		t.Errorf("memory %+v", r.Memory)
	}
	if r.Config == nil || r.Config.Layers != 8 || r.Parameters < 6_900_000 || r.Parameters > 7_100_000 || r.Refusal != "" {
		t.Errorf("report %+v", r)
	}
}

// TestInspectRefusal: what can be said is said, then the reason, and the exit status tells a script.
func TestInspectRefusal(t *testing.T) {
	dir := t.TempDir()
	demo := filepath.Join("..", "internal", "demo", "gopher-dense")
	for _, name := range []string{"model.safetensors", "tokenizer.json", "config.json"} {
		text, err := os.ReadFile(filepath.Join(demo, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "config.json" {
			text = bytes.Replace(text, []byte("LlamaForCausalLM"), []byte("ParrotForCausalLM"), 1)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, stdout, stderr := eckart(t, "", "inspect", dir)
	if status != command.Failed || !strings.Contains(stderr, "ParrotForCausalLM") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
	for _, want := range []string{"74 of BF16", "none: completions only"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("report lacks %q:\n%s", want, stdout)
		}
	}

	status, _, stderr = eckart(t, "", "inspect", filepath.Join(dir, "nowhere"))
	if status != command.Failed || !strings.Contains(stderr, "nowhere") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

func TestVersion(t *testing.T) {
	status, stdout, stderr := eckart(t, "", "version")
	if status != 0 || stderr != "" || !strings.HasPrefix(stdout, "eckart ") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

// TestServeIsTheServer: `eckart serve` reads the same flags as `serve`.
func TestServeIsTheServer(t *testing.T) {
	status, _, stderr := eckart(t, "", "serve", "--slots=-1")
	if status != command.BadUsage || !strings.HasPrefix(stderr, "eckart serve: --slots must be") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}
