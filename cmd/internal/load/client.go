package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Client sends requests to a server.
type Client struct {
	URL   string // without /v1
	Model string
	Key   string // "" for none
	Chat  bool   // use /v1/chat/completions instead of /v1/completions
	HTTP  *http.Client
}

// NewClient returns a client of the server at address, which may end in /v1. timeout bounds a request; 0 does not.
func NewClient(address, key string, chat bool, timeout time.Duration) (Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Client{}, fmt.Errorf("URL must be that of a server, such as http://127.0.0.1:8080, got %q", address)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1<<16 // a connection for every client, kept
	transport.DisableCompression = true
	return Client{
		URL: strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/v1"), Key: key, Chat: chat,
		HTTP: &http.Client{Transport: transport, Timeout: timeout},
	}, nil
}

// do sends a request with the client's key.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.Key != "" {
		request.Header.Set("Authorization", "Bearer "+c.Key)
	}
	request.Header.Set("Content-Type", "application/json")
	// A server may close a kept connection just when the next request goes out on it. A key without a value is not sent
	// and lets the transport try again on a new one.
	request.Header["Idempotency-Key"] = nil
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, refusal(response)
	}
	return response, nil
}

// refusal returns the error that a response is.
func refusal(r *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return fmt.Errorf("the server answers %s", r.Status)
	}
	var body struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(text, &body) != nil || body.Error.Message == "" {
		return fmt.Errorf("the server answers %s", r.Status)
	}
	return fmt.Errorf("the server answers %s: %s", r.Status, body.Error.Message)
}

// FindModel sets the model to the first one that the server lists.
func (c *Client) FindModel(ctx context.Context) error {
	response, err := c.do(ctx, http.MethodGet, "/v1/models", nil)
	if err != nil {
		return fmt.Errorf("list models: %w", err)
	}
	defer response.Body.Close()
	var list struct {
		Data []struct{ ID string }
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<24)).Decode(&list); err != nil {
		return fmt.Errorf("list models: %w", err)
	}
	if len(list.Data) == 0 {
		return errors.New("list models: the server has none")
	}
	c.Model = list.Data[0].ID
	return nil
}

// event is what is read of an event of a stream.
type event struct {
	Choices []struct {
		FinishReason string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	}
	Error *struct{ Message string }
}

// A Request says what to ask a server for.
type Request struct {
	Prompt    any // a text or, where no chat is asked for, the ids of tokens ([]int32)
	Tokens    int // most tokens of the answer
	IgnoreEOS bool
}

// Send streams one answer and records when what came.
func (c *Client) Send(ctx context.Context, q Request) Record {
	fields := map[string]any{
		"model": c.Model, "stream": true, "stream_options": map[string]any{"include_usage": true}, "temperature": 0, "max_tokens": q.Tokens,
	}
	if q.IgnoreEOS {
		fields["ignore_eos"] = true
	}
	path := "/v1/completions"
	if c.Chat {
		path = "/v1/chat/completions"
		fields["messages"] = []map[string]any{{"role": "user", "content": q.Prompt}}
	} else {
		fields["prompt"] = q.Prompt
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return Record{Err: err}
	}
	r := Record{Start: time.Now()}
	response, err := c.do(ctx, http.MethodPost, path, body)
	if err != nil {
		r.Err = err
		return r
	}
	defer response.Body.Close()
	if r.Err = r.read(response.Body); r.Err == nil {
		io.Copy(io.Discard, io.LimitReader(response.Body, 1<<10)) // a connection is kept only when its answer was read to the end
	}
	return r
}

// read reads a stream of events.
func (r *Record) read(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<24)
	finished := false
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue // a comment, or the blank between two events
		}
		text = strings.TrimSpace(text)
		if text == "[DONE]" {
			finished = true
			break
		}
		now := time.Now()
		var e event
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		if e.Error != nil {
			return fmt.Errorf("the server breaks off: %s", e.Error.Message)
		}
		if len(e.Choices) > 0 {
			// As in vLLM's benchmark, an event counts whether it has a text or not.
			r.Outputs = append(r.Outputs, now)
			finished = finished || e.Choices[0].FinishReason != ""
		}
		if e.Usage != nil {
			r.Input, r.Output = e.Usage.Prompt, e.Usage.Completion
		}
	}
	switch err := lines.Err(); {
	case err != nil:
		return fmt.Errorf("read stream: %w", err)
	case !finished:
		return errors.New("the stream ended in the middle")
	case len(r.Outputs) == 0:
		return errors.New("the stream had no output")
	}
	return nil
}
