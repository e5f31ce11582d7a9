package openai

import (
	"context"
	"strings"

	"eckart/model/tokenizer"
	"eckart/runtime"
)

// A reply is what all chunks of a stream, or the one answer, begin with.
type reply struct {
	chat    bool
	id      string
	created int64
	model   string
}

func (s *Server) newReply(chat bool) reply {
	r := reply{chat: chat, id: newID("cmpl-"), created: s.o.Now().Unix(), model: s.o.Model}
	if chat {
		r.id = newID("chatcmpl-")
	}
	return r
}

// open appends the object up to and with the bracket of its choices.
func (r reply) open(b []byte, chunk bool) []byte {
	object := "text_completion"
	switch {
	case r.chat && chunk:
		object = "chat.completion.chunk"
	case r.chat:
		object = "chat.completion"
	}
	b = append(b, `{"id":`...)
	b = appendString(b, r.id)
	b = append(b, `,"object":"`...)
	b = append(b, object...)
	b = append(b, `","created":`...)
	b = appendInt(b, int(r.created))
	b = append(b, `,"model":`...)
	b = appendString(b, r.model)
	return append(b, `,"choices":[`...)
}

// A choice collects what a client gets in one piece.
type choice struct {
	text    strings.Builder
	record  record
	entries []entry
	last    runtime.Token
}

func (c *choice) add(q *request, t *runtime.Token) {
	c.text.WriteString(t.Text)
	if q.logprobs >= 0 {
		c.entries = append(c.entries, c.record.add(t, q.includeStop)...)
	}
	if t.Finish != "" {
		c.last = *t
	}
}

func (c *choice) append(b []byte, q *request, t *tokenizer.Tokenizer, index int) []byte {
	b = append(b, `{"index":`...)
	b = appendInt(b, index)
	if q.chat {
		b = append(b, `,"message":{"role":"assistant","content":`...)
		b = appendString(b, c.text.String())
		b = append(b, `,"refusal":null}`...)
	} else {
		b = append(b, `,"text":`...)
		b = appendString(b, c.text.String())
	}
	b = append(b, `,"logprobs":`...)
	b = q.appendLogprobs(b, t, c.entries)
	return appendFinish(b, &c.last)
}

// appendLogprobs appends log-probabilities in the shape of the request's endpoint, null where there are none.
func (q *request) appendLogprobs(b []byte, t *tokenizer.Tokenizer, entries []entry) []byte {
	switch {
	case q.logprobs < 0 || entries == nil:
		return append(b, "null"...)
	case q.chat:
		return appendChatLogprobs(b, t, entries, q.logprobs)
	}
	return appendLegacyLogprobs(b, t, entries, q.logprobs)
}

func appendStopReason(b []byte, last *runtime.Token) []byte {
	switch {
	case last.Finish != runtime.FinishStop:
		return b
	case last.StopString != "":
		b = append(b, `,"stop_reason":`...)
		return appendString(b, last.StopString)
	case last.StopID >= 0:
		b = append(b, `,"stop_reason":`...)
		return appendInt(b, int(last.StopID))
	}
	return b
}

// answer runs the sequences of a request and sends what they become, as a stream or in one piece. texts are what each
// choice begins with, for echo.
func (s *Server) answer(ctx context.Context, w *response, q *request, all []sequence, texts []string) error {
	head := s.newReply(q.chat)
	w.model, w.stream = q.model, q.stream
	if q.stream {
		t := s.newStream(w, q, head, len(all), texts)
		tallies, err := s.generate(ctx, w, all, t.token)
		t.finish(count(w, all, tallies), err)
		return err
	}
	choices := make([]choice, len(all))
	for i := range choices {
		choices[i].record = record{tokenizer: s.o.Tokenizer, special: q.keepSpecial}
		choices[i].entries = []entry{} // an answer without a token has an empty list, not null
		if len(texts) > 0 {
			choices[i].text.WriteString(texts[i])
		}
	}
	tallies, err := s.generate(ctx, w, all, func(i int, t *runtime.Token) error {
		choices[i].add(q, t)
		return nil
	})
	u := count(w, all, tallies)
	if err != nil {
		return err
	}
	b := head.open(nil, false)
	for i := range choices {
		if i > 0 {
			b = append(b, ',')
		}
		b = choices[i].append(b, q, s.o.Tokenizer, i)
	}
	b = append(b, `],"usage":`...)
	b = u.append(b)
	s.writeJSON(w, 200, append(b, '}'))
	return nil
}
