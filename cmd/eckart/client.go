package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A message is one turn of a chat on the wire.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A client sends chats to a server that speaks OpenAI's API.
type client struct {
	url   string // without /v1
	key   string
	model string
	seed  *uint64
}

// A refusal is a server's answer that is not a reply. Its text is the server's.
type refusal struct {
	Message string `json:"message"`
}

// Error returns what the server said.
func (r *refusal) Error() string { return r.Message }

// chunk is what is read of an event.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *struct {
		Tokens int `json:"completion_tokens"`
	} `json:"usage"`
	Error *refusal `json:"error"`
}

// send streams the reply to messages to emit and returns the number of its tokens. It returns a *refusal for what the
// server would not do.
func (c *client) send(ctx context.Context, messages []message, emit func(piece string) error) (tokens int, err error) {
	body, err := json.Marshal(struct {
		Model    string          `json:"model"`
		Messages []message       `json:"messages"`
		Stream   bool            `json:"stream"`
		Options  map[string]bool `json:"stream_options"`
		Seed     *uint64         `json:"seed,omitempty"`
	}{c.model, messages, true, map[string]bool{"include_usage": true}, c.seed})
	if err != nil {
		return 0, fmt.Errorf("write chat: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("send chat: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("send chat: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var answer chunk
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Error == nil {
			return 0, fmt.Errorf("send chat: the server answers %s", response.Status)
		}
		return 0, answer.Error
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		event, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if event == "[DONE]" {
			return tokens, nil
		}
		var part chunk
		if err := json.Unmarshal([]byte(event), &part); err != nil {
			return tokens, fmt.Errorf("read reply: %w", err)
		}
		if part.Error != nil {
			return tokens, part.Error
		}
		if part.Usage != nil {
			tokens = part.Usage.Tokens
		}
		if len(part.Choices) > 0 && part.Choices[0].Delta.Content != "" {
			if err := emit(part.Choices[0].Delta.Content); err != nil {
				return tokens, fmt.Errorf("write reply: %w", err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return tokens, fmt.Errorf("read reply: %w", err)
	}
	return tokens, errors.New("read reply: the server ended it in the middle")
}
