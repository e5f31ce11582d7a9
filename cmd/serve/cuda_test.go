package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"eckart/kernels/cuda/shim"
)

// launchOnShim starts the program on the shim's GPU. Wherever the test goes, the process ends within a minute.
func launchOnShim(t *testing.T, args ...string) *process {
	t.Helper()
	if testing.Short() {
		t.Skip("seconds of emulation")
	}
	t.Setenv("ECKART_LIBCUDA", shim.ForTest(t))
	p := launch(t, append([]string{"--addr", "127.0.0.1:0", "--device", "cuda", "--context", "512", "--slots", "2"}, args...)...)
	if p.url == "" {
		t.Fatalf("the server did not come up:\n%s", p.said)
	}
	watch := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() })
	t.Cleanup(func() { watch.Stop() })
	return p
}

// ask posts a completion and returns what comes of it: the status, 0 for none, and the body.
func (p *process) ask(tokens int) <-chan string {
	answer := make(chan string, 1)
	body := fmt.Sprintf(`{"model": "gopher-dense", "max_tokens": %d, "ignore_eos": true, "prompt": %q}`, tokens, strings.Repeat("the gopher digs ", 12))
	go func() {
		response, err := http.Post(p.url+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		answer <- fmt.Sprintf("%d %s %v", response.StatusCode, text, err)
	}()
	return answer
}

// TestSignalInStep stops the server in the middle of a prompt, a step that takes the shim long: the request is cut off after
// --shutdown-timeout, and the process ends as if it had had nothing to do.
func TestSignalInStep(t *testing.T) {
	p := launchOnShim(t, "--shutdown-timeout", "50ms")
	answer := p.ask(100)
	for p.metric(t, "eckart_num_requests_running") == "0" {
		select {
		case got := <-answer:
			t.Fatalf("the request ended before the signal: %s", got)
		case <-time.After(time.Millisecond):
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	status, wrote := p.end(t)
	if status != 0 || !strings.Contains(wrote, "shutting down") || !strings.Contains(wrote, "cut off at the end of --shutdown-timeout") {
		t.Errorf("exit status %d after SIGTERM, and on stderr:\n%s", status, wrote)
	}
	if got := <-answer; strings.HasPrefix(got, "200") {
		t.Errorf("a request that was cut off: %s", got)
	}
}

// TestLostGPU has the device fail while a request runs: the request gets an error that tells nothing of the device, and the
// process ends with one line that does, so that whoever watches it starts it again.
func TestLostGPU(t *testing.T) {
	const steps, unknown = 3, 999
	t.Setenv("ECKART_SHIM_FAIL", fmt.Sprintf("cuGraphLaunch:%d:%d", steps, unknown))
	p := launchOnShim(t)
	got := <-p.ask(100)
	if !strings.HasPrefix(got, "500 ") || !strings.Contains(got, "engine_failed") && !strings.Contains(got, "internal_error") || strings.Contains(got, "cuda") {
		t.Errorf("the request got %s", got)
	}
	status, wrote := p.end(t)
	if status != 1 || strings.Count(wrote, "serve: run engine: ") != 1 || !strings.Contains(wrote, "cuGraphLaunch") {
		t.Errorf("exit status %d, and on stderr:\n%s", status, wrote)
	}
}
