package openai

import (
	"net/http"
	"unicode/utf8"

	"eckart/model/tokenizer"
)

// The three routes here take and return what llama-server's do (tools/server/README.md of llama.cpp), so that its
// clients work; only a field that neither knows is refused, as everywhere else here.

// tokenize serves POST /tokenize: {"content", "add_special": false, "parse_special": true, "with_pieces": false} to
// {"tokens": [...]}, ids or {"id", "piece"}. content may be a list that mixes texts and ids; only a text at its
// beginning gets special tokens added.
func (s *Server) tokenize(w *response, r *http.Request) error {
	var content value
	add, parse, pieces := false, true, false
	err := s.readFields(w, r, map[string]func(value) error{
		"content":       func(v value) error { content = v; return nil },
		"add_special":   func(v value) (err error) { add, err = v.boolean(); return err },
		"parse_special": func(v value) (err error) { parse, err = v.boolean(); return err },
		"with_pieces":   func(v value) (err error) { pieces, err = v.boolean(); return err },
	})
	if err != nil {
		return err
	}
	var ids []int32
	switch {
	case content.text == nil:
		return invalid("content", "missing_required_parameter", "content is missing")
	case content.kind() == '[':
		for i, e := range content.elements() {
			if e.kind() == '"' {
				text, _ := e.str()
				ids = append(ids, s.o.Tokenizer.Encode(text, tokenizer.EncodeOptions{AddSpecial: add && i == 0, ParseSpecial: parse})...)
				continue
			}
			id, err := e.at(i).integer(0, int64(s.o.Vocab)-1)
			if err != nil {
				return err
			}
			ids = append(ids, int32(id))
		}
	default:
		text, err := content.str()
		if err != nil {
			return content.wrong("a string or a list of strings and token ids")
		}
		ids = s.o.Tokenizer.Encode(text, tokenizer.EncodeOptions{AddSpecial: add, ParseSpecial: parse})
	}
	b := append([]byte(nil), `{"tokens":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		if !pieces {
			b = appendInt(b, int(id))
			continue
		}
		b = append(b, `{"id":`...)
		b = appendInt(b, int(id))
		b = append(b, `,"piece":`...)
		if piece := s.o.Tokenizer.Bytes(id); utf8.Valid(piece) {
			b = appendString(b, string(piece))
		} else {
			b = append(b, '[')
			for j, c := range piece {
				if j > 0 {
					b = append(b, ',')
				}
				b = appendInt(b, int(c))
			}
			b = append(b, ']')
		}
		b = append(b, '}')
	}
	s.writeJSON(w, http.StatusOK, append(b, "]}"...))
	return nil
}

// detokenize serves POST /detokenize: {"tokens": [...]} to {"content"}, the pieces of /tokenize one after the other,
// special tokens too.
func (s *Server) detokenize(w *response, r *http.Request) error {
	var tokens value
	if err := s.readFields(w, r, map[string]func(value) error{
		"tokens": func(v value) error { tokens = v; return nil },
	}); err != nil {
		return err
	}
	switch {
	case tokens.text == nil:
		return invalid("tokens", "missing_required_parameter", "tokens is missing")
	case tokens.kind() != '[':
		return tokens.wrong("a list of token ids")
	}
	var text []byte
	for i, e := range tokens.elements() {
		id, err := e.integer(0, int64(s.o.Vocab)-1)
		if err != nil {
			_, err = e.at(i).integer(0, int64(s.o.Vocab)-1)
			return err
		}
		// Ids are digits and a comma: a body's worth of the longest token would be a hundred times the body.
		if int64(len(text)) > s.o.MaxBody {
			return invalid("tokens", "invalid_value", "tokens make a text of more than %d bytes, the limit of a body", s.o.MaxBody)
		}
		text = append(text, s.o.Tokenizer.Bytes(int32(id))...)
	}
	b := append([]byte(nil), `{"content":`...)
	s.writeJSON(w, http.StatusOK, append(appendString(b, string(text)), '}'))
	return nil
}

// applyTemplate serves POST /apply-template: the body of a chat to {"prompt"}, the text that the model would be given.
// Unlike a chat it takes tools, which templates can render.
func (s *Server) applyTemplate(w *response, r *http.Request) error {
	q, err := s.readRequest(w, r, true, true)
	if err != nil {
		return err
	}
	if q.model != "" && q.model != s.o.Model {
		return s.modelNotFound("model", q.model)
	}
	prompt, quote, err := s.render(q)
	if err != nil {
		return err
	}
	b := append([]byte(nil), `{"prompt":`...)
	s.writeJSON(w, http.StatusOK, append(appendString(b, quote.clean(prompt)), '}'))
	return nil
}

// readFields decodes a body of a few fields. "model" is taken and left aside: clients send it everywhere.
func (s *Server) readFields(w *response, r *http.Request, fields map[string]func(value) error) error {
	body, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	if err := checkJSON(body); err != nil {
		return err
	}
	top := value{text: trimBlank(body)}
	if top.kind() != '{' {
		return badBody("the body must be a JSON object, got %s", clip(string(top.text)))
	}
	for name, v := range top.members() {
		set, known := fields[name]
		switch {
		case name == "model" || known && v.isNull():
			continue
		case !known:
			return invalid(v.path, "unknown_parameter", "unknown field %q", v.path)
		}
		if err := set(v); err != nil {
			return err
		}
	}
	return nil
}
