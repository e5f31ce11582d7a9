package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"eckart/api/openai"
	"eckart/cmd/internal/launch"
	"eckart/runtime"
)

// The paths through the engine and through HTTP run the same tests as a client would: a prompt test asks for one token,
// and a generation begins with a prompt of one token, so that its first step is like any other.

// together asks for every sequence of the test at once and returns the time from the first request to the last token.
func (b *bench) together(t Test, ask func(prompt []int32, tokens int) error) (time.Duration, error) {
	prompts, errs := make([][]int32, t.Batch), make([]error, t.Batch)
	for i := range prompts {
		prompts[i] = b.ids(max(1, t.Prompt))
	}
	start := time.Now()
	var all sync.WaitGroup
	for i := range prompts {
		all.Go(func() { errs[i] = ask(prompts[i], max(1, t.Tokens)) })
	}
	all.Wait()
	return time.Since(start), errors.Join(errs...)
}

// engine runs a test through the engine.
func (b *bench) engine(ctx context.Context, t Test) (time.Duration, error) {
	return b.together(t, func(prompt []int32, tokens int) error {
		request := runtime.Request{Prompt: prompt, MaxTokens: tokens, IgnoreEOS: true, Logprobs: -1}
		n := 0
		for _, err := range b.Engine.Generate(ctx, request) {
			if err != nil {
				return err
			}
			n++
		}
		return checkTokens(n, tokens)
	})
}

// http runs a test through the server, over loopback.
func (b *bench) http(ctx context.Context, t Test) (time.Duration, error) {
	return b.together(t, func(prompt []int32, tokens int) error { return b.server.stream(ctx, prompt, tokens) })
}

func checkTokens(got, want int) error {
	if got != want {
		return fmt.Errorf("generated %d tokens, want %d", got, want)
	}
	return nil
}

// A server answers on loopback.
type server struct {
	*http.Server
	url string
}

func newServer(i *launch.Instance) (*server, error) {
	api, err := openai.New(openai.Options{
		Engine: i.Engine, Tokenizer: i.Tokenizer, Template: i.Template, Model: "m", Context: i.Plan.Context, Vocab: i.Model.Config.Vocab,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	s := &server{&http.Server{Handler: api, ReadHeaderTimeout: time.Second}, "http://" + listener.Addr().String()}
	go s.Serve(listener)
	return s, nil
}

// stream reads a streamed completion. Random tokens need not be whole characters, so an event is not a token; the usage
// at the end says how many there were.
func (s *server) stream(ctx context.Context, prompt []int32, tokens int) error {
	body, err := json.Marshal(map[string]any{
		"model": "m", "prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "temperature": 0, "stream": true,
		"stream_options": map[string]any{"include_usage": true},
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		return fmt.Errorf("the server answers %s: %s", response.Status, text)
	}
	counted := 0
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		event, ok := strings.CutPrefix(lines.Text(), "data: {")
		if !ok {
			continue
		}
		var chunk struct {
			Usage struct {
				Tokens int `json:"completion_tokens"`
			} `json:"usage"`
		}
		if err := json.Unmarshal([]byte("{"+event), &chunk); err != nil {
			return err
		}
		counted = max(counted, chunk.Usage.Tokens)
	}
	return errors.Join(lines.Err(), checkTokens(counted, tokens))
}
