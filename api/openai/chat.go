package openai

import (
	"fmt"
	"net/http"
)

// chat serves POST /v1/chat/completions: body, fields, template, ids, room, engine, answer.
func (s *Server) chat(w *response, r *http.Request) error {
	q, err := s.readRequest(w, r, true, false)
	if err != nil {
		return err
	}
	if err := s.checkModel(q); err != nil {
		return err
	}
	if err := s.fits("messages", int64(len(q.messages.text)), s.o.MaxBody); err != nil {
		return err
	}
	prompt, quote, err := s.render(q)
	if err != nil {
		return err
	}
	if err := s.fits("messages", int64(len(prompt)), s.byteLimit(s.o.Context)); err != nil {
		return err
	}
	// The template writes the beginning of the sequence itself, where the model has one.
	ids := s.encode(prompt, quote, q.addSpecial != nil && *q.addSpecial)
	if len(ids) == 0 {
		return invalid("messages", "invalid_value", "messages must make a prompt of at least one token")
	}
	usual := 0
	if s.o.Defaults.MaxTokens != nil {
		usual = *s.o.Defaults.MaxTokens
	}
	room, err := s.room("messages", len(ids), q.maxTokens, q.minTokens, usual)
	if err != nil {
		return err
	}
	return s.answer(r.Context(), w, q, q.sequences(w.id, [][]int32{ids}, []int{room}), nil)
}

// readRequest reads and decodes a body.
func (s *Server) readRequest(w *response, r *http.Request, chat, tools bool) (*request, error) {
	body, err := s.readBody(w, r)
	if err != nil {
		return nil, err
	}
	return decode(body, chat, s.base, limits{vocab: s.o.Vocab, maxChoices: s.o.MaxChoices, allowTools: tools})
}

// checkModel: one model is served, under one name, and another name is not answered by it.
func (s *Server) checkModel(q *request) error {
	if q.model == "" {
		return invalid("model", "missing_required_parameter", "model is missing: this server serves %q", s.o.Model)
	}
	if q.model != s.o.Model {
		return s.modelNotFound("model", q.model)
	}
	return nil
}

func (s *Server) modelNotFound(param, name string) error {
	return &requestError{
		status: http.StatusNotFound, kind: kindNotFound, param: param, code: "model_not_found",
		message: fmt.Sprintf("there is no model %q: this server serves %q", clip(printable(name)), s.o.Model),
	}
}

// fits refuses a text that is too long for any context before it costs the time of tokenizing it.
func (s *Server) fits(param string, bytes, limit int64) error {
	if bytes <= limit {
		return nil
	}
	return invalid(param, "context_length_exceeded",
		"%s has %d bytes, which cannot fit into the context of %d tokens: shorten it, or start the server with a larger --context", param, bytes, s.o.Context)
}
