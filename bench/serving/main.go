// Command serving measures the server from outside, as a client does: the time from starting the process to the first
// token it streams, the most memory it has had by the time it listens, and tokens a second of many streams at once
// against one. bench/README.md says how to run it.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	serve := flag.String("serve", "bin/serve", "the server `program`")
	threads := flag.Int("t", 2, "`threads`")
	turns := flag.Int("turns", 5, "`starts` of the server; medians are printed")
	streams := flag.Int("streams", 16, "streams at `once`")
	tokens := flag.Int("n", 64, "`tokens` of a stream")
	flag.Parse()
	if err := measure(*serve, flag.Arg(0), *threads, *turns, *streams, *tokens); err != nil {
		fmt.Fprintf(os.Stderr, "serving: %v\n", err)
		os.Exit(1)
	}
}

// cacheBytes is the cache asked for, so that the memory of loading can be set against something.
const cacheBytes = 256 << 20

func measure(serve, model string, threads, turns, streams, tokens int) error {
	var listening, first, peak, one, many []float64
	for range turns {
		s, err := start(serve, model, threads, streams)
		if err != nil {
			return err
		}
		peak = append(peak, s.peakMemory())
		listening = append(listening, s.listening.Seconds()*1000)
		// The greeting of the process is a prompt of a few tokens.
		at, _, err := s.stream("Hello, world", 1)
		if err == nil {
			first = append(first, at.Sub(s.begin).Seconds()*1000)
			var rate float64
			if rate, err = s.together(1, tokens); err == nil {
				one = append(one, rate)
				rate, err = s.together(streams, tokens)
				many = append(many, rate)
			}
		}
		if err := errors.Join(err, s.stop()); err != nil {
			return err
		}
	}
	fmt.Println("| measure | median | each |\n|---|---|---|")
	row := func(name, format string, samples []float64) {
		fmt.Printf("| %s | "+format+" | %.0f |\n", name, median(samples), samples)
	}
	row("start to listening, ms", "%.0f", listening)
	row("start to first token, ms", "%.0f", first)
	row("peak memory when listening, MiB", "%.1f", peak)
	if size := weightBytes(model); size > 0 {
		fmt.Printf("| of the checkpoint's %.1f MiB (nothing of the cache is touched yet) | %.3f | |\n", size/(1<<20), median(peak)*(1<<20)/size)
	}
	row("tokens a second, 1 stream", "%.1f", one)
	row(fmt.Sprintf("tokens a second, %d streams", streams), "%.1f", many)
	fmt.Printf("| ratio | %.2f | |\n", median(many)/median(one))
	return nil
}

// A server is a running process.
type server struct {
	process   *exec.Cmd
	begin     time.Time
	listening time.Duration
	url       string
}

func start(program, model string, threads, slots int) (*server, error) {
	args := []string{
		"--addr", "127.0.0.1:0", "--threads", strconv.Itoa(threads), "--slots", strconv.Itoa(slots), "--log-level", "error",
		"--cache-memory", strconv.Itoa(cacheBytes), "--context", "1024", "--served-model-name", "m",
	}
	if model != "" {
		args = append(args, model)
	}
	s := &server{process: exec.Command(program, args...)}
	stderr, err := s.process.StderrPipe()
	if err != nil {
		return nil, err
	}
	s.begin = time.Now()
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			s.listening, s.url = time.Since(s.begin), url
			go io.Copy(io.Discard, stderr)
			return s, nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	return nil, fmt.Errorf("start %s: %w\n%s", program, s.process.Wait(), said.String())
}

// peakMemory returns the most memory that the process has had, in MiB; 0 where the system does not tell.
func (s *server) peakMemory() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			if err == nil {
				return kib / 1024
			}
		}
	}
	return 0
}

// stream asks for a completion and returns when its first and its last event came.
func (s *server) stream(prompt string, tokens int) (first, last time.Time, err error) {
	body := fmt.Sprintf(`{"model": "m", "prompt": %q, "max_tokens": %d, "ignore_eos": true, "temperature": 0, "stream": true}`, prompt, tokens)
	response, err := http.Post(s.url+"/v1/completions", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		return first, last, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return first, last, fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: {") {
			last = time.Now()
			if first.IsZero() {
				first = last
			}
		}
	}
	return first, last, nil
}

// together runs streams of different short prompts at once and returns tokens a second, from the first request to the
// last token.
func (s *server) together(n, tokens int) (float64, error) {
	lasts, errs := make([]time.Time, n), make([]error, n)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, lasts[i], errs[i] = s.stream(fmt.Sprintf("%d: ", i), tokens) })
	}
	wg.Wait()
	span := slices.MaxFunc(lasts, time.Time.Compare).Sub(start)
	return float64(n*tokens) / span.Seconds(), errors.Join(errs...)
}

// stop ends the process, which must end well.
func (s *server) stop() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.process.Wait(); err != nil {
		return fmt.Errorf("stop server: %w", err)
	}
	return nil
}

// weightBytes returns the bytes of a folder's safetensors files.
func weightBytes(folder string) float64 {
	files, err := filepath.Glob(filepath.Join(folder, "*.safetensors"))
	if err != nil || folder == "" {
		return 0
	}
	total := 0.0
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			total += float64(info.Size())
		}
	}
	return total
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}
