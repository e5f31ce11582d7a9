// Command versus measures tokens a second side by side with llama.cpp's llama-bench: in turns (ours, the peer's, ours,
// ...), with the same threads, prompt and output lengths, depths and cache type, and prints a table of medians and
// ratios in Markdown. bench/README.md says how to get what it needs.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// A run is one result of a program that measures: the keys that `eckart bench --format json` and llama-bench share, and
// some that only ours has.
type run struct {
	Prompt        int       `json:"n_prompt"`
	Tokens        int       `json:"n_gen"`
	Depth         int       `json:"n_depth"`
	Build         string    `json:"build_commit"`
	CPU           string    `json:"cpu_info"`
	Samples       []float64 `json:"samples_ts"`
	BytesPerToken int64     `json:"bytes_per_token"`
	CacheBytes    int64     `json:"cache_bytes_per_token"`
	ReadShare     float64   `json:"read_share"`
}

// name returns the test's name, as llama-bench prints it.
func (r *run) name() string {
	name := fmt.Sprintf("pp%d", r.Prompt)
	if r.Tokens > 0 {
		name = fmt.Sprintf("tg%d", r.Tokens)
	}
	if r.Depth > 0 {
		name += fmt.Sprintf(" @ d%d", r.Depth)
	}
	return name
}

// A side is a program that measures, with what it is always given.
type side struct {
	who, program string
	args         []string
}

// measure runs the program with more arguments and returns the results by the names of their tests.
func (s *side) measure(args ...string) (map[string]run, error) {
	args = slices.Concat(s.args, args)
	cmd := exec.Command(s.program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s %s: %w\n%s", s.program, strings.Join(args, " "), err, stderr.String())
	}
	var results []run
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("read output of %s: %w", s.program, err)
	}
	byName := map[string]run{}
	for _, r := range results {
		if len(r.Samples) == 0 {
			return nil, fmt.Errorf("read output of %s: %s has no samples_ts", s.program, r.name())
		}
		byName[r.name()] = r
	}
	return byName, nil
}

// A plan is what is measured on both sides.
type plan struct {
	prompt, tokens int
	depths         []int // before generation
	threads        []int
	repeat, turns  int
}

// calls returns the arguments of the runs that make a turn, which both programs understand: the prompt in an empty
// cache, then generation at every depth.
func (p *plan) calls(threads int) [][]string {
	var calls [][]string
	call := func(prompt, tokens int, depths string) {
		calls = append(calls, []string{
			"-p", strconv.Itoa(prompt), "-n", strconv.Itoa(tokens), "-d", depths, "-t", strconv.Itoa(threads), "-r", strconv.Itoa(p.repeat),
		})
	}
	if p.prompt > 0 {
		call(p.prompt, 0, "0")
	}
	if p.tokens > 0 {
		call(0, p.tokens, join(p.depths, strconv.Itoa))
	}
	return calls
}

// tests returns the tests of a turn, in order.
func (p *plan) tests() []string {
	var names []string
	if p.prompt > 0 {
		names = append(names, (&run{Prompt: p.prompt}).name())
	}
	for _, d := range p.depths {
		if p.tokens > 0 {
			names = append(names, (&run{Tokens: p.tokens, Depth: d}).name())
		}
	}
	return names
}

func main() {
	program := flag.String("eckart", "", "our `program`, built from cmd/eckart")
	checkpoint := flag.String("model", "", "checkpoint `folder`")
	flags := flag.String("ours", "", "more `flags` of ours, such as \"--quantize int4\"")
	peer := flag.String("peer", "", "llama-bench `program`")
	gguf := flag.String("gguf", "", "the same model as a GGUF `file`")
	peerFlags := flag.String("theirs", "", "more `flags` of the peer's")
	prompt := flag.Int("p", 512, "prompt `tokens`; 0 for no such test")
	tokens := flag.Int("n", 64, "generated `tokens`; 0 for no such test")
	depths := flag.String("d", "0,512", "`tokens` in the cache before generation, a list")
	threads := flag.String("t", "1,2", "`threads`, a list")
	repeat := flag.Int("r", 3, "`repetitions` in each turn: fresh memory is slow for seconds on some virtual machines")
	turns := flag.Int("turns", 5, "`turns` of each")
	cache := flag.String("cache-type", "f16", "`type` of keys and values, for both")
	flag.Parse()

	p := plan{prompt: *prompt, tokens: *tokens, repeat: *repeat, turns: *turns}
	err := func() (err error) {
		if p.depths, err = numbers("d", *depths, 0); err != nil {
			return err
		}
		if p.threads, err = numbers("t", *threads, 1); err != nil {
			return err
		}
		if len(p.tests()) == 0 || p.repeat < 1 || p.turns < 1 {
			return fmt.Errorf("-p, -n, -r and -turns leave nothing to measure")
		}
		model, err := readGGUF(*gguf)
		if err != nil {
			return err
		}
		ours := &side{"ours", *program, slices.Concat([]string{"bench", "--format", "json", "--cache-type", *cache}, strings.Fields(*flags), []string{*checkpoint})}
		theirs := &side{"peer", *peer, slices.Concat([]string{"-o", "json", "-ngl", "0", "-ctk", *cache, "-ctv", *cache}, strings.Fields(*peerFlags), []string{"-m", *gguf})}
		return compare(os.Stdout, ours, theirs, model, p)
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "versus: %v\n", err)
		os.Exit(1)
	}
}

// numbers reads a list of numbers, each at least least, from a flag.
func numbers(name, list string, least int) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < least {
			return nil, fmt.Errorf("-%s must be a list of numbers of at least %d, got %q", name, least, list)
		}
		all = append(all, n)
	}
	return all, nil
}

// compare runs both in turns and prints a row for each number of threads and test. model is the peer's.
func compare(w io.Writer, ours, theirs *side, model ggufModel, p plan) error {
	first := true
	for _, t := range p.threads {
		samples := map[*side]map[string][]float64{ours: {}, theirs: {}}
		last := map[*side]map[string]run{ours: {}, theirs: {}}
		for range p.turns {
			for _, call := range p.calls(t) {
				for _, s := range []*side{ours, theirs} {
					results, err := s.measure(call...)
					if err != nil {
						return err
					}
					for name, r := range results {
						samples[s][name] = append(samples[s][name], median(r.Samples))
						last[s][name] = r
					}
				}
			}
		}
		for _, test := range p.tests() {
			for _, s := range []*side{ours, theirs} {
				if len(samples[s][test]) != p.turns {
					return fmt.Errorf("%s reported %s %d times, want %d", s.program, test, len(samples[s][test]), p.turns)
				}
			}
			a, b := last[ours][test], last[theirs][test]
			if first {
				first = false
				fmt.Fprintf(w, "ours: %s, %s, `%s`\npeer: build %s, `%s`\n\n", a.Build, a.CPU, strings.Join(ours.args, " "), b.Build, strings.Join(theirs.args, " "))
				fmt.Fprintln(w, "| threads | test | ours t/s | peer t/s | ratio | ours, MB a token | peer | of the read rate | ours, each turn | peer, each turn |")
				fmt.Fprintln(w, "|---:|---|---:|---:|---:|---:|---:|---:|---|---|")
			}
			x, y := median(samples[ours][test]), median(samples[theirs][test])
			fmt.Fprintf(w, "| %d | %s | %.1f | %.1f | %.2f | %s | %s | %s |\n", t, test, x, y, x/y, bytesRead(a, model),
				join(samples[ours][test], rate), join(samples[theirs][test], rate))
		}
	}
	return nil
}

// bytesRead returns the cells that say what a generated token reads on both sides; prompts have none. Keys and values
// take the same on both.
func bytesRead(r run, model ggufModel) string {
	if r.Tokens == 0 {
		return "| |"
	}
	return fmt.Sprintf("%.1f | %.1f | %.0f %%", float64(r.BytesPerToken)/1e6, float64(model.read+r.CacheBytes)/1e6, 100*r.ReadShare)
}

func rate(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// join writes values as a list: numbers with commas, as flags have them.
func join[T any](values []T, text func(T) string) string {
	var words []string
	for _, v := range values {
		words = append(words, text(v))
	}
	return strings.Join(words, ",")
}
