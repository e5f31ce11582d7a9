// Command versus measures tokens a second side by side with llama.cpp's llama-bench: in turns (ours, the peer's, ours,
// ...), with the same threads, prompt and output lengths and cache type, and prints a table of medians and ratios in
// Markdown. bench/README.md says how to get what it needs.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// An entrant runs the tests once and returns tokens a second by test name ("pp512", "tg64").
type entrant func(threads int) (map[string]float64, error)

func main() {
	step := flag.String("step", "", "our `program`, built from cmd/internal/step")
	peer := flag.String("peer", "", "llama-bench `program`")
	checkpoint := flag.String("model", "", "checkpoint `folder`")
	gguf := flag.String("gguf", "", "the same model as a GGUF `file`")
	prompt := flag.Int("p", 512, "prompt `tokens`")
	tokens := flag.Int("n", 64, "generated `tokens`")
	threads := flag.String("t", "1,2", "`threads`, a list")
	repeat := flag.Int("r", 3, "`repetitions` in each turn: fresh memory is slow for seconds on some virtual machines")
	turns := flag.Int("turns", 5, "`turns` of each")
	cache := flag.String("cache-type", "f16", "`type` of keys and values, for both")
	activations := flag.String("activations", "auto", "`type` of our activations, auto, f32 or bf16; the peer's are bf16 beside bf16 weights")
	flag.Parse()

	ours := func(t int) (map[string]float64, error) {
		var results []struct {
			Test   string
			Median float64
		}
		err := output(&results, *step, "-p", strconv.Itoa(*prompt), "-n", strconv.Itoa(*tokens), "-t", strconv.Itoa(t), "-r", strconv.Itoa(*repeat),
			"-cache-type", *cache, "-activations", *activations, *checkpoint)
		rates := map[string]float64{}
		for _, r := range results {
			rates[r.Test] = r.Median
		}
		return rates, err
	}
	theirs := func(t int) (map[string]float64, error) {
		var results []struct {
			Prompt int     `json:"n_prompt"`
			Tokens int     `json:"n_gen"`
			Rate   float64 `json:"avg_ts"`
		}
		err := output(&results, *peer, "-m", *gguf, "-p", strconv.Itoa(*prompt), "-n", strconv.Itoa(*tokens), "-t", strconv.Itoa(t), "-r", strconv.Itoa(*repeat),
			"-ngl", "0", "-ctk", *cache, "-ctv", *cache, "-o", "json")
		rates := map[string]float64{}
		for _, r := range results {
			if r.Tokens > 0 {
				rates[fmt.Sprintf("tg%d", r.Tokens)] = r.Rate
			} else {
				rates[fmt.Sprintf("pp%d", r.Prompt)] = r.Rate
			}
		}
		return rates, err
	}
	tests := []string{fmt.Sprintf("pp%d", *prompt), fmt.Sprintf("tg%d", *tokens)}
	if err := compare(ours, theirs, tests, strings.Split(*threads, ","), *turns); err != nil {
		fmt.Fprintf(os.Stderr, "versus: %v\n", err)
		os.Exit(1)
	}
}

// output runs a program and decodes the JSON it prints.
func output(v any, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("read output of %s: %w", name, err)
	}
	return nil
}

// compare runs both in turns and prints a row for each number of threads and test.
func compare(ours, theirs entrant, tests, threads []string, turns int) error {
	fmt.Println("| threads | test | ours t/s | peer t/s | ratio | ours, each turn | peer, each turn |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, word := range threads {
		t, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("read -t: %w", err)
		}
		samples := [2]map[string][]float64{{}, {}}
		for range turns {
			for who, run := range []entrant{ours, theirs} {
				rates, err := run(t)
				if err != nil {
					return err
				}
				for _, test := range tests {
					rate, ok := rates[test]
					if !ok {
						return fmt.Errorf("entrant %d reported no %s", who+1, test)
					}
					samples[who][test] = append(samples[who][test], rate)
				}
			}
		}
		for _, test := range tests {
			a, b := median(samples[0][test]), median(samples[1][test])
			fmt.Printf("| %d | %s | %.1f | %.1f | %.2f | %s | %s |\n", t, test, a, b, a/b, join(samples[0][test]), join(samples[1][test]))
		}
	}
	return nil
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

func join(samples []float64) string {
	var words []string
	for _, s := range samples {
		words = append(words, strconv.FormatFloat(s, 'f', 1, 64))
	}
	return strings.Join(words, " ")
}
