package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"eckart/api/openai"
	"eckart/cmd/internal/launch"
	"eckart/cmd/internal/load"
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
	client load.Client
}

func newServer(i *launch.Instance) (*server, error) {
	const name = "m"
	api, err := openai.New(openai.Options{
		Engine: i.Engine, Tokenizer: i.Tokenizer, Template: i.Template, Model: name, Context: i.Plan.Context, Vocab: i.Model.Config.Vocab,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	client, err := load.NewClient("http://"+listener.Addr().String(), "", false, 0)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	client.Model = name
	s := &server{&http.Server{Handler: api, ReadHeaderTimeout: time.Second}, client}
	go s.Serve(listener)
	return s, nil
}

// stream asks for a streamed completion. Random tokens need not be whole characters, so an event is not a token; the usage
// at the end says how many there were.
func (s *server) stream(ctx context.Context, prompt []int32, tokens int) error {
	r := s.client.Send(ctx, load.Request{Prompt: prompt, Tokens: tokens, IgnoreEOS: true})
	if r.Err != nil {
		return r.Err
	}
	return checkTokens(r.Output, tokens)
}
