package main

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
	"eckart/runtime"
)

// The decoder's path does what llama-bench does: no sampling, no scheduling, random tokens. The engine is idle
// meanwhile, and what lies in the cache has no influence on time.

// blocks returns a block table for a sequence that has the cache to itself.
func blocks(b *bench, tokens int) []int32 {
	table := make([]int32, b.Cache.BlocksFor(tokens))
	for i := range table {
		table[i] = int32(i)
	}
	return table
}

func decoderPrefill(b *bench) (int, time.Duration, error) {
	ids, table := b.ids(b.prompt), blocks(b, b.prompt)
	start := time.Now()
	b.Batch.Reset()
	b.Batch.Add(ids, 0, table, []int{b.prompt - 1})
	_, err := b.Decoder.Forward(b.Batch)
	return b.prompt, time.Since(start), err
}

func decoderDecode(b *bench) (int, time.Duration, error) {
	if b.streams > 1 {
		return 0, 0, errors.New("the decoder's path runs one stream")
	}
	ids, table, sample := b.ids(b.tokens), blocks(b, b.tokens), []int{0}
	start := time.Now()
	for i := range ids {
		b.Batch.Reset()
		b.Batch.Add(ids[i:i+1], i, table[:i/b.Cache.BlockTokens()+1], sample)
		if _, err := b.Decoder.Forward(b.Batch); err != nil {
			return 0, 0, err
		}
	}
	return b.tokens, time.Since(start), nil
}

// together runs a generation for each stream at once and returns the tokens of all, and the time from the first request
// to the last token. A prompt has one token, so its step is like any other.
func together(b *bench, one func(prompt []int32, tokens int) error) (int, time.Duration, error) {
	prompts, errs := make([][]int32, b.streams), make([]error, b.streams)
	for i := range prompts {
		prompts[i] = b.ids(1)
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range prompts {
		wg.Go(func() { errs[i] = one(prompts[i], b.tokens) })
	}
	wg.Wait()
	return b.streams * b.tokens, time.Since(start), errors.Join(errs...)
}

func enginePrefill(b *bench) (int, time.Duration, error) {
	prompt := b.ids(b.prompt)
	start := time.Now()
	err := generate(b, prompt, 1)
	return b.prompt, time.Since(start), err
}

func engineDecode(b *bench) (int, time.Duration, error) {
	return together(b, func(prompt []int32, tokens int) error { return generate(b, prompt, tokens) })
}

// generate asks the engine for exactly so many tokens, greedily.
func generate(b *bench, prompt []int32, tokens int) error {
	request := runtime.Request{Prompt: prompt, MaxTokens: tokens, IgnoreEOS: true, Logprobs: -1}
	n := 0
	for _, err := range b.Engine.Generate(context.Background(), request) {
		if err != nil {
			return err
		}
		n++
	}
	if n != tokens {
		return fmt.Errorf("generated %d tokens, want %d", n, tokens)
	}
	return nil
}

// A server answers on loopback.
type server struct {
	*http.Server
	url string
}

func newServer(b *bench) (*server, error) {
	api, err := openai.New(openai.Options{
		Engine: b.Engine, Tokenizer: b.Tokenizer, Template: b.Template, Model: "m", Context: b.Plan.Context, Vocab: b.Model.Config.Vocab,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{&http.Server{Handler: api, ReadHeaderTimeout: time.Second}, "http://" + listener.Addr().String()}
	go s.Serve(listener)
	return s, nil
}

func (s *server) prefill(b *bench) (int, time.Duration, error) {
	prompt := b.ids(b.prompt)
	start := time.Now()
	err := s.stream(prompt, 1)
	return b.prompt, time.Since(start), err
}

func (s *server) decode(b *bench) (int, time.Duration, error) { return together(b, s.stream) }

// stream reads a streamed completion. Random tokens need not be whole characters, so an event is not a token; the usage
// at the end says how many there were.
func (s *server) stream(prompt []int32, tokens int) error {
	body, err := json.Marshal(map[string]any{
		"model": "m", "prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "temperature": 0, "stream": true,
		"stream_options": map[string]any{"include_usage": true},
	})
	if err != nil {
		return err
	}
	response, err := http.Post(s.url+"/v1/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	counted := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
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
	if counted != tokens {
		return fmt.Errorf("generated %d tokens, want %d", counted, tokens)
	}
	return nil
}
