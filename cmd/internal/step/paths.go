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

func decoderPrefill(b *bench) (float64, error) {
	ids, table := b.ids(b.prompt), blocks(b, b.prompt)
	start := time.Now()
	b.Batch.Reset()
	b.Batch.Add(ids, 0, table, []int{b.prompt - 1})
	_, err := b.Decoder.Forward(b.Batch)
	return float64(b.prompt) / time.Since(start).Seconds(), err
}

func decoderDecode(b *bench) (float64, error) {
	if b.streams > 1 {
		return 0, errors.New("the decoder's path runs one stream")
	}
	ids, table, sample := b.ids(b.tokens), blocks(b, b.tokens), []int{0}
	start := time.Now()
	for i := range ids {
		b.Batch.Reset()
		b.Batch.Add(ids[i:i+1], i, table[:i/b.Cache.BlockTokens()+1], sample)
		if _, err := b.Decoder.Forward(b.Batch); err != nil {
			return 0, err
		}
	}
	return float64(b.tokens) / time.Since(start).Seconds(), nil
}

// span is when a client saw the first and the last token of an answer, since a common start.
type span struct{ first, last time.Duration }

// together runs generations at once and returns the tokens a second of all of them, from the first token that any of
// them shows to the last. tokens is what each generates after its first, which belongs to its prompt.
func together(n, tokens int, one func(start time.Time, i int) (span, error)) (float64, error) {
	spans, errs := make([]span, n), make([]error, n)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { spans[i], errs[i] = one(start, i) })
	}
	wg.Wait()
	all := spans[0]
	for _, s := range spans[1:] {
		all.first, all.last = min(all.first, s.first), max(all.last, s.last)
	}
	return float64(n*tokens) / (all.last - all.first).Seconds(), errors.Join(errs...)
}

// prompts returns a prompt of n tokens for each stream.
func (b *bench) prompts(n int) [][]int32 {
	all := make([][]int32, b.streams)
	for i := range all {
		all[i] = b.ids(n)
	}
	return all
}

func enginePrefill(b *bench) (float64, error) {
	s, err := generate(b, time.Now(), b.ids(b.prompt), 1)
	return float64(b.prompt) / s.first.Seconds(), err
}

func engineDecode(b *bench) (float64, error) {
	prompts := b.prompts(1)
	return together(b.streams, b.tokens, func(start time.Time, i int) (span, error) {
		return generate(b, start, prompts[i], b.tokens+1)
	})
}

// generate asks the engine for exactly so many tokens, greedily.
func generate(b *bench, start time.Time, prompt []int32, tokens int) (span, error) {
	var s span
	request := runtime.Request{Prompt: prompt, MaxTokens: tokens, IgnoreEOS: true, Logprobs: -1}
	n := 0
	for _, err := range b.Engine.Generate(context.Background(), request) {
		if err != nil {
			return s, err
		}
		s.last = time.Since(start)
		if n++; n == 1 {
			s.first = s.last
		}
	}
	if n != tokens {
		return s, fmt.Errorf("generated %d tokens, want %d", n, tokens)
	}
	return s, nil
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

func (s *server) prefill(b *bench) (float64, error) {
	t, err := s.stream(time.Now(), b.ids(b.prompt), 1)
	return float64(b.prompt) / t.first.Seconds(), err
}

func (s *server) decode(b *bench) (float64, error) {
	prompts := b.prompts(1)
	return together(b.streams, b.tokens, func(start time.Time, i int) (span, error) {
		return s.stream(start, prompts[i], b.tokens+1)
	})
}

// stream reads a streamed completion. Random tokens need not be whole characters, so a chunk is not a token; the usage
// at the end says how many there were.
func (s *server) stream(start time.Time, prompt []int32, tokens int) (span, error) {
	var t span
	body, err := json.Marshal(map[string]any{
		"model": "m", "prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "temperature": 0, "stream": true,
		"stream_options": map[string]any{"include_usage": true},
	})
	if err != nil {
		return t, err
	}
	response, err := http.Post(s.url+"/v1/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		return t, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return t, fmt.Errorf("status %d: %s", response.StatusCode, text)
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
			return t, err
		}
		if counted = chunk.Usage.Tokens; counted > 0 {
			break
		}
		t.last = time.Since(start)
		if t.first == 0 {
			t.first = t.last
		}
	}
	if counted != tokens {
		return t, fmt.Errorf("generated %d tokens, want %d", counted, tokens)
	}
	return t, nil
}
