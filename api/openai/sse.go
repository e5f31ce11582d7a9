package openai

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"eckart/runtime"
)

// A stream writes the chunks of one request as server-sent events. The order is OpenAI's: for a chat a chunk with the
// role for every choice, chunks with text, per choice a chunk with the reason of its end and no text, a chunk with the
// usage and no choice if asked for, [DONE].
//
// Nothing is sent before the first token or the first error is known, so that a refusal by the engine still has a
// status of its own; a prompt that takes longer than PingInterval begins the stream early and keeps it alive with
// comments. Choices and pings come from several goroutines; mu orders them.
type stream struct {
	server *Server
	w      *response
	q      *request
	open   []byte   // a chunk up to its choices
	close  []byte   // from behind its choices on
	prompt []string // text to begin each choice with (echo)

	mu       sync.Mutex
	buf      []byte
	began    bool
	ended    bool
	err      error     // of the connection, sticky
	deadline time.Time // of writes, as last set
	last     time.Time // of the last write
	ping     *time.Timer
	records  []record
}

func (s *Server) newStream(w *response, q *request, head reply, choices int, prompt []string) *stream {
	t := &stream{server: s, w: w, q: q, prompt: prompt, last: time.Now()}
	t.open = head.open(append([]byte(nil), "data: "...), true)
	t.close = []byte("]}\n\n")
	if q.usage {
		t.close = []byte("],\"usage\":null}\n\n")
	}
	t.records = make([]record, choices)
	for i := range t.records {
		t.records[i] = record{tokenizer: s.o.Tokenizer, special: q.keepSpecial}
	}
	t.mu.Lock() // the timer may run before it has been noted
	defer t.mu.Unlock()
	t.ping = time.AfterFunc(s.o.PingInterval, t.keepAlive)
	return t
}

// begin sends the header and, for a chat, the roles. mu is held.
func (t *stream) begin() {
	if t.began {
		return
	}
	t.began = true
	h := t.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx collects a stream otherwise
	t.w.WriteHeader(http.StatusOK)
	for i := range t.records {
		switch {
		case t.q.chat:
			t.chunk(i, `"delta":{"role":"assistant","content":""}`, "", nil, nil)
		case len(t.prompt) > 0:
			t.chunk(i, "", t.prompt[i], nil, nil)
		}
	}
}

// chunk appends one chunk for choice i to buf. A chat's delta is given as text or, for role and end, as it is; last is
// the token that ended the choice. mu is held.
func (t *stream) chunk(i int, delta, text string, entries []entry, last *runtime.Token) {
	b := append(t.buf, t.open...)
	if t.q.chat {
		b = append(b, `{"index":`...)
		b = appendInt(b, i)
		b = append(b, ',')
		if delta != "" {
			b = append(b, delta...)
		} else {
			b = append(b, `"delta":{"content":`...)
			b = appendString(b, text)
			b = append(b, '}')
		}
	} else {
		b = append(b, `{"index":`...)
		b = appendInt(b, i)
		b = append(b, `,"text":`...)
		b = appendString(b, text)
	}
	b = append(b, `,"logprobs":`...)
	b = t.q.appendLogprobs(b, t.server.o.Tokenizer, entries)
	t.buf = append(appendFinish(b, last), t.close...)
}

// appendFinish appends how a choice ended and closes it; nil is a choice that goes on. stop_reason says which stop
// string or token id it was, where the request named one (an extension of vLLM).
func appendFinish(b []byte, last *runtime.Token) []byte {
	if last == nil {
		return append(b, `,"finish_reason":null}`...)
	}
	b = append(b, `,"finish_reason":`...)
	b = appendString(b, string(last.Finish))
	return append(appendStopReason(b, last), '}')
}

// token sends what a token adds to choice i: one write, or none while its text is held back.
func (t *stream) token(i int, k *runtime.Token) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	t.begin()
	var entries []entry
	if t.q.logprobs >= 0 {
		entries = t.records[i].add(k, t.q.includeStop)
	}
	if k.Text != "" || len(entries) > 0 {
		t.chunk(i, "", k.Text, entries, nil)
	}
	if k.Finish != "" {
		delta := ""
		if t.q.chat {
			delta = `"delta":{}`
		}
		t.chunk(i, delta, "", nil, k)
	}
	return t.flush()
}

// finish ends the stream: with the usage, or with an error that came after the stream had begun. An error before that
// is left to the caller, who can give it a status.
func (t *stream) finish(u usage, err error) {
	t.ping.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.err != nil || err != nil && !t.began || errors.Is(err, context.Canceled) {
		return
	}
	t.begin()
	switch {
	case err != nil:
		t.buf = append(t.buf, "data: "...)
		t.buf = toRequestError(err, t.server.o.RetryAfter).append(t.buf)
		t.buf = append(t.buf, "\n\n"...)
	case t.q.usage:
		t.buf = append(t.buf, t.open...)
		t.buf = append(t.buf, `],"usage":`...)
		t.buf = u.append(t.buf)
		t.buf = append(t.buf, "}\n\n"...)
	}
	t.buf = append(t.buf, "data: [DONE]\n\n"...)
	_ = t.flush()
}

// keepAlive sends a comment when the stream has been silent for PingInterval, and looks again later.
func (t *stream) keepAlive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.err != nil {
		return
	}
	wait := t.server.o.PingInterval
	if silent := time.Since(t.last); silent < wait {
		t.ping.Reset(wait - silent)
		return
	}
	t.begin()
	t.buf = append(t.buf, ": ping\n\n"...)
	_ = t.flush()
	t.ping.Reset(wait)
}

// flush writes buf. The deadline moves along with the writes, in steps of a quarter, since setting it costs as much as
// making a chunk; a client that takes nothing is dropped after WriteTimeout at the latest. mu is held.
func (t *stream) flush() error {
	if len(t.buf) == 0 {
		return nil
	}
	now := time.Now()
	if now.Sub(t.deadline) > -t.server.o.WriteTimeout*3/4 {
		t.deadline = now.Add(t.server.o.WriteTimeout)
		if err := t.w.control.SetWriteDeadline(t.deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
			t.err = errGone
			return t.err
		}
	}
	_, err := t.w.Write(t.buf)
	if err == nil {
		err = t.w.control.Flush()
	}
	t.buf, t.last = t.buf[:0], now
	if err != nil {
		t.err = errGone
	}
	return t.err
}
