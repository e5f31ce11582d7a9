package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eckart/internal/race"
)

// asServer in the environment makes the test binary the program itself.
const asServer = "ECKART_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A process is a server that was started as a user would.
type process struct {
	cmd    *exec.Cmd
	url    string
	said   *strings.Builder // on stderr before it listened
	stderr io.Reader
}

// launch starts the program and returns once it says where it listens, or has ended.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), said: new(strings.Builder)}
	p.cmd.Env = append(os.Environ(), asServer+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill() // an error says that it has ended, as it should
		p.cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			p.url = url
			break
		}
		fmt.Fprintln(p.said, lines.Text())
	}
	p.stderr = stderr
	return p
}

// end waits for the process and returns its exit status and what it wrote since it listened.
func (p *process) end(t *testing.T) (status int, wrote string) {
	t.Helper()
	rest, err := io.ReadAll(p.stderr)
	if err != nil {
		t.Errorf("read stderr: %v", err)
	}
	p.cmd.Wait() // the status says it
	return p.cmd.ProcessState.ExitCode(), string(rest)
}

func (p *process) get(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: status %d, error %v: %s", path, response.StatusCode, err, body)
	}
	return string(body)
}

// stream posts a body and returns the answer, which the caller reads.
func (p *process) stream(ctx context.Context, t *testing.T, path, body string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("POST %s: status %d: %s", path, response.StatusCode, text)
	}
	return response
}

// metric returns the value of a metric without labels of its own.
func (p *process) metric(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(p.get(t, "/metrics")) {
		if strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+" ") {
			fields := strings.Fields(line)
			return fields[len(fields)-1]
		}
	}
	t.Fatalf("there is no metric %s", name)
	return ""
}

// TestSmoke serves the built-in model, streams a chat to its end, leaves another in the middle, and stops the server
// while a third is under way: it must be finished first.
func TestSmoke(t *testing.T) {
	p := launch(t, "--addr", "127.0.0.1:0", "--threads", "2", "--context", "512")
	if p.url == "" {
		t.Fatalf("the server did not come up:\n%s", p.said)
	}
	for _, want := range []string{"model", "gopher-dense", "to serve another: serve FOLDER", "context    512 tokens (--context)", "maximum concurrency for 512 tokens: 16.0"} {
		if !strings.Contains(p.said.String(), want) {
			t.Errorf("what it says at start lacks %q:\n%s", want, p.said)
		}
	}
	if got := p.get(t, "/health"); !strings.Contains(got, "ok") {
		t.Errorf("health: %s", got)
	}

	chat := `{"model": "gopher-dense", "stream": true, "seed": 1, "max_tokens": %d, "ignore_eos": true, "messages": [{"role": "user", "content": "Add returns the sum of a and b."}]}`
	text, done := readEvents(t, p.stream(t.Context(), t, "/v1/chat/completions", fmt.Sprintf(chat, 24)).Body)
	if text == "" || !done {
		t.Errorf("stream: text %q, ended by [DONE]: %v", text, done)
	}
	again, _ := readEvents(t, p.stream(t.Context(), t, "/v1/chat/completions", fmt.Sprintf(chat, 24)).Body)
	if again != text {
		t.Errorf("the same seed gives %q, then %q", text, again)
	}

	// A client that leaves gives its blocks back.
	ctx, leave := context.WithCancel(t.Context())
	left := bufio.NewScanner(p.stream(ctx, t, "/v1/chat/completions", fmt.Sprintf(chat, 400)).Body)
	if !left.Scan() {
		t.Error("the stream to be left has no first line")
	}
	leave()
	for deadline := time.Now().Add(10 * time.Second); p.metric(t, "eckart_kv_cache_blocks_used") != "0"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s blocks are held after the client left", p.metric(t, "eckart_kv_cache_blocks_used"))
		}
	}

	// A request under way when the server is told to stop.
	response := p.stream(t.Context(), t, "/v1/chat/completions", fmt.Sprintf(chat, 300))
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text, done = readEvents(t, response.Body)
	if text == "" || !done {
		t.Errorf("stream during shutdown: text %q, ended by [DONE]: %v", text, done)
	}
	if status, wrote := p.end(t); status != 0 || !strings.Contains(wrote, "shutting down") {
		t.Errorf("exit status %d after SIGTERM, and on stderr:\n%s", status, wrote)
	}
}

// readEvents returns the text of a streamed chat and whether it ended as it should.
func readEvents(t *testing.T, body io.Reader) (text string, done bool) {
	t.Helper()
	var b strings.Builder
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		event, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok:
		case event == "[DONE]":
			done = true
		default:
			var chunk struct {
				Choices []struct{ Delta struct{ Content string } }
			}
			if err := json.Unmarshal([]byte(event), &chunk); err != nil {
				t.Fatalf("event %s: %v", event, err)
			}
			for _, c := range chunk.Choices {
				b.WriteString(c.Delta.Content)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String(), done
}

// TestRefusals starts the server with what cannot work: one line, and an exit status that tells usage from failure.
func TestRefusals(t *testing.T) {
	if race.Enabled {
		t.Skip("these programs end before anything runs at once")
	}
	dir := t.TempDir()
	noKey := filepath.Join(dir, "keys")
	if err := os.WriteFile(noKey, []byte("# none\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := launch(t, "--addr", "127.0.0.1:0", "--context", "256")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--adr", "x"}, 2, "unknown flag --adr"},
		{[]string{"--slots", "-1"}, 2, "--slots"},
		{[]string{"--slots=-1"}, 2, "--slots must be from 1 to"},
		{[]string{"--cache-type", "f8"}, 2, "--cache-type must be one of"},
		{[]string{"--cache-memory", "much"}, 2, "amount of memory such as 512MiB"},
		{[]string{"--temperature", "NaN"}, 2, "--temperature must be from 0 to"},
		{[]string{"--log-level", "loud"}, 2, "--log-level"},
		{[]string{filepath.Join(dir, "nowhere")}, 1, "no such file or directory"},
		{[]string{dir}, 1, "no weights"},
		{[]string{"--context", "4096"}, 1, "--context 4096 is more than the 2048 positions"},
		{[]string{"--context", "2048", "--step-tokens", "4194304", "--slots", "4194304"}, 1, "it would fit with"},
		{[]string{"--step-tokens", "4", "--slots", "8"}, 1, "--step-tokens 4 is less than --slots 8"},
		{[]string{"--api-key-file", noKey}, 1, "holds no key"},
		{[]string{"--api-key-file", filepath.Join(dir, "nowhere")}, 1, "read --api-key-file"},
		{[]string{"--chat-template", filepath.Join(dir, "nowhere")}, 1, "read --chat-template"},
		{[]string{"--addr", strings.TrimPrefix(taken.url, "http://")}, 1, "address already in use"},
		{[]string{"--addr", "nonsense"}, 1, "listen on --addr nonsense"},
	} {
		p := launch(t, append([]string{"--addr", "127.0.0.1:0"}, c.args...)...)
		if p.url != "" {
			t.Errorf("%q: listening, want %q", c.args, c.want)
			p.cmd.Process.Kill()
			continue
		}
		status, _ := p.end(t)
		said := p.said.String()
		if status != c.status || !strings.Contains(said, c.want) {
			t.Errorf("%q: exit status %d, want %d and %q; stderr:\n%s", c.args, status, c.status, c.want, said)
		}
		if !strings.HasPrefix(said, "serve: ") || strings.Count(said, "\n") != 1 {
			t.Errorf("%q: want one line that begins with serve:, got\n%s", c.args, said)
		}
	}
}

// TestKey asks with and without the key from a file.
func TestKey(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("# comment\nsesame\n  other  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "--addr", "127.0.0.1:0", "--context", "256", "--api-key-file", keys, "--served-model-name", "name")
	for key, want := range map[string]int{"": 401, "wrong": 401, "sesame": 200, "other": 200} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != want || want == 200 && !bytes.Contains(body, []byte(`"name"`)) {
			t.Errorf("key %q: status %d, want %d, error %v: %s", key, response.StatusCode, want, err, body)
		}
	}
}
