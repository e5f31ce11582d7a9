package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eckart/api/openai"
	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
	"eckart/runtime"
)

// A scripted engine answers every request with what its script says. It stands in for the engine where a test is about
// HTTP: the real one is driven by smoke_test.go.
type scripted struct {
	script func(r runtime.Request) []runtime.Token // the answer
	fail   func(r runtime.Request) error           // before the first token
	midway error                                   // after the last token of the script, which then has no Finish
	gate   chan struct{}                           // if set, each token waits for one receive
	fault  error                                   // what Healthy says

	mu       sync.Mutex
	requests []runtime.Request
	active   atomic.Int64
	most     atomic.Int64
}

func (e *scripted) Generate(ctx context.Context, r runtime.Request) iter.Seq2[runtime.Token, error] {
	return func(yield func(runtime.Token, error) bool) {
		e.mu.Lock()
		e.requests = append(e.requests, r)
		e.mu.Unlock()
		if n := e.active.Add(1); n > e.most.Load() {
			e.most.Store(n)
		}
		defer e.active.Add(-1)
		if e.fail != nil {
			if err := e.fail(r); err != nil {
				yield(runtime.Token{}, err)
				return
			}
		}
		for _, t := range e.script(r) {
			if e.gate != nil {
				select {
				case <-e.gate:
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				yield(runtime.Token{}, context.Cause(ctx))
				return
			}
			if !yield(t, nil) {
				return
			}
		}
		if e.midway != nil {
			yield(runtime.Token{}, e.midway)
		}
	}
}

func (e *scripted) Stats() runtime.Stats {
	return runtime.Stats{Running: int(e.active.Load()), BlocksUsed: 3, BlocksTotal: 12}
}

func (e *scripted) Healthy() error { return e.fault }

// request returns the i-th request that reached the engine.
func (e *scripted) request(t *testing.T, i int) runtime.Request {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if i >= len(e.requests) {
		t.Fatalf("request %d never reached the engine: it has %d", i, len(e.requests))
	}
	return e.requests[i]
}

// says answers with the given pieces, one token each (its id is the piece's first byte), and an end.
func says(pieces ...string) func(runtime.Request) []runtime.Token {
	return func(r runtime.Request) []runtime.Token {
		var all []runtime.Token
		for i, p := range pieces {
			k := runtime.Token{ID: id(p), Text: p, StopID: -1, Logprob: -0.5}
			for j := range max(0, r.Logprobs) {
				k.Top = append(k.Top, runtime.Candidate{ID: int32('a' + j), Logprob: -0.5 - float32(j)})
			}
			if i == 0 {
				k.Cached = 2
			}
			all = append(all, k)
		}
		return append(all, runtime.Token{ID: endID, Finish: runtime.FinishStop, StopID: -1})
	}
}

func id(piece string) int32 {
	if piece == "" {
		return 'x'
	}
	return int32(piece[0])
}

// The tokenizer of the tests has a token for every byte, at the byte's value, and these.
const (
	endOfText = 256
	startID   = 257
	endID     = 258
	vocab     = 259
)

// byteLevel is the alphabet in which byte-level vocabularies spell bytes (GPT-2's bytes_to_unicode).
func byteLevel(b int) string {
	switch {
	case '!' <= b && b <= '~', 0xA1 <= b && b <= 0xAC, 0xAE <= b:
		return string(rune(b))
	case b <= ' ':
		return string(rune(256 + b))
	case b <= 0xA0:
		return string(rune(256 + 33 + b - 0x7F))
	}
	return string(rune(256 + 33 + 34)) // 0xAD
}

var byteTokenizer = sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
	ids := map[string]int{}
	for b := range 256 {
		ids[byteLevel(b)] = b
	}
	var added []map[string]any
	for i, s := range []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"} {
		added = append(added, map[string]any{
			"id": 256 + i, "content": s, "special": true,
			"single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
		})
	}
	text, err := json.Marshal(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"post_processor": map[string]any{
			"type": "TemplateProcessing",
			"single": []any{
				map[string]any{"SpecialToken": map[string]any{"id": "<|endoftext|>", "type_id": 0}},
				map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}},
			},
			"pair": []any{
				map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}},
				map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}},
			},
			"special_tokens": map[string]any{
				"<|endoftext|>": map[string]any{"id": "<|endoftext|>", "ids": []int{256}, "tokens": []string{"<|endoftext|>"}},
			},
		},
		"decoder": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": ids, "merges": []string{},
		},
	})
	if err != nil {
		return nil, err
	}
	return tokenizer.New(text)
})

// template is ChatML with two complaints and tools.
const template = `{%- if messages[0].role == 'assistant' %}{{ raise_exception('a chat begins with the user') }}{% endif %}
{%- if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if note %}{{ note }}{% endif %}
{%- if reasoning_effort %}{{ 'effort ' + reasoning_effort }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

var chatTemplate = sync.OnceValues(func() (*chat.Template, error) {
	return chat.Load(func(name string) ([]byte, error) {
		switch name {
		case "chat_template.jinja":
			return []byte(template), nil
		case "tokenizer_config.json":
			return []byte(`{"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}`), nil
		}
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	})
})

const testContext = 2048

// options are those of the tests: model "m", a context of 2048, a clock that stands at 1700000000.
func options(t testing.TB, e openai.Engine) openai.Options {
	t.Helper()
	k, err := byteTokenizer()
	if err != nil {
		t.Fatal(err)
	}
	c, err := chatTemplate()
	if err != nil {
		t.Fatal(err)
	}
	return openai.Options{
		Engine: e, Tokenizer: k, Template: c, Model: "m", Context: testContext, Version: "1.2.3",
		Now: func() time.Time { return time.Unix(1700000000, 0) },
	}
}

// serve starts a server on loopback and, at the end of the test, checks that it left no goroutine.
func serve(t testing.TB, o openai.Options) (*openai.Server, string) {
	t.Helper()
	before := goruntime.NumGoroutine()
	s, err := openai.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(s)
	h.Config = openai.NewHTTPServer(s, slog.New(slog.DiscardHandler))
	h.Start()
	t.Cleanup(func() {
		h.Close()
		for wait := 0; ; wait++ {
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			n := goruntime.NumGoroutine()
			if n <= before {
				return
			}
			if wait == 500 {
				stacks := make([]byte, 1<<20)
				t.Errorf("%d goroutines at the end, %d at the beginning:\n%s", n, before, stacks[:goruntime.Stack(stacks, true)])
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return s, h.URL
}

// handle gives one request to a server without a network.
func handle(s http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func post(s http.Handler, path, body string, header ...string) *httptest.ResponseRecorder {
	return handle(s, http.MethodPost, path, body, header...)
}

func newServer(t testing.TB, o openai.Options) *openai.Server {
	t.Helper()
	s, err := openai.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wireError is OpenAI's error object.
type wireError struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	} `json:"error"`
}

// wantError checks a refusal: its status, its code, and that its message holds text.
func wantError(t *testing.T, status int, body []byte, wantStatus int, wantCode, text string) wireError {
	t.Helper()
	var e wireError
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Fatalf("status %d with a body that is no error object (%v): %.200s", status, err, body)
	}
	if status != wantStatus || e.Error.Code != wantCode || !strings.Contains(e.Error.Message, text) {
		t.Errorf("got %d %s %q, want %d %s %q", status, e.Error.Code, e.Error.Message, wantStatus, wantCode, text)
	}
	if len(e.Error.Message) > 1024 {
		t.Errorf("the message has %d bytes", len(e.Error.Message))
	}
	return e
}

func readAll(t *testing.T, r io.ReadCloser) string {
	t.Helper()
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("read the answer: %v after %q", err, b)
	}
	return string(b)
}
