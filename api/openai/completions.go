package openai

import (
	"net/http"

	"eckart/model/tokenizer"
)

// complete serves POST /v1/completions.
func (s *Server) complete(w *response, r *http.Request) error {
	q, err := s.readRequest(w, r, false, false)
	if err != nil {
		return err
	}
	if err := s.checkModel(q); err != nil {
		return err
	}
	prompts, texts, err := s.readPrompts(q)
	if err != nil {
		return err
	}
	usual := defaultCompletionTokens
	if s.o.Defaults.MaxTokens != nil {
		usual = *s.o.Defaults.MaxTokens
	}
	rooms := make([]int, len(prompts))
	for i, ids := range prompts {
		if rooms[i], err = s.room("prompt", len(ids), q.maxTokens, q.minTokens, usual); err != nil {
			return err
		}
	}
	var begin []string
	if q.echo {
		for _, text := range texts {
			for range q.n {
				begin = append(begin, text)
			}
		}
	}
	return s.answer(r.Context(), w, q, q.sequences(w.id, prompts, rooms), begin)
}

// readPrompts returns the prompts as ids, and as text where echo asks for it. The four forms of OpenAI: a string, a list
// of strings, a list of ids, a list of lists of ids.
func (s *Server) readPrompts(q *request) (prompts [][]int32, texts []string, err error) {
	const want = "a string, a list of strings, a list of token ids or a list of lists of token ids"
	v := q.prompt
	add := func(ids []int32, text string) {
		prompts = append(prompts, ids)
		if q.echo {
			texts = append(texts, text)
		}
	}
	fromText := func(v value) error {
		text, err := v.str()
		if err != nil {
			return err
		}
		ids, err := s.encodePrompt(v.path, q, text)
		add(ids, text)
		return err
	}
	fromIDs := func(v value) error {
		ids, err := s.readIDs(v)
		if q.echo && err == nil {
			add(ids, s.o.Tokenizer.Decode(ids, !q.keepSpecial))
			return nil
		}
		add(ids, "")
		return err
	}
	switch v.kind() {
	case '"':
		err = fromText(v)
		return prompts, texts, err
	case '[':
	default:
		return nil, nil, v.wrong(want)
	}
	var kind byte
	for i, e := range v.elements() {
		if i == 0 {
			kind = e.kind()
			if kind == 0 {
				break
			}
		}
		switch {
		case e.kind() != kind || kind != '"' && kind != '[':
			return nil, nil, e.at(i).wrong(want[len("a string, "):])
		case (i+1)*q.n > maxPrompts:
			return nil, nil, invalid("prompt", "invalid_value", "prompt must be at most %d prompts times n", maxPrompts)
		case kind == '"':
			err = fromText(e.at(i))
		default:
			err = fromIDs(e.at(i))
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if kind == 0 { // ids, or nothing at all
		if err := fromIDs(v); err != nil {
			return nil, nil, err
		}
	}
	return prompts, texts, nil
}

// encodePrompt turns a prompt's text into ids: with what the tokenizer puts around a text unless add_special_tokens says
// no, and special tokens in it parsed, since a raw prompt is written by who knows the model's format.
func (s *Server) encodePrompt(param string, q *request, text string) ([]int32, error) {
	if err := s.fits(param, int64(len(text)), s.byteLimit(s.o.Context)); err != nil {
		return nil, err
	}
	ids := s.o.Tokenizer.Encode(text, tokenizer.EncodeOptions{AddSpecial: q.addSpecial == nil || *q.addSpecial, ParseSpecial: true})
	if len(ids) == 0 {
		return nil, invalid(param, "invalid_value", "%s must make at least one token", param)
	}
	return ids, nil
}

// readIDs reads a list of ids of the vocabulary. It stops at the first one beyond the context: a list of a million ids
// costs what the context costs.
func (s *Server) readIDs(v value) ([]int32, error) {
	var ids []int32
	for i, e := range v.elements() {
		if i == s.o.Context {
			return nil, invalid(v.path, "context_length_exceeded",
				"%s has more ids than the context of %d tokens holds: shorten it, or start the server with a larger --context", v.path, s.o.Context)
		}
		id, err := e.integer(0, int64(s.o.Vocab)-1)
		if err != nil {
			_, err = e.at(i).integer(0, int64(s.o.Vocab)-1) // the same, with the place
			return nil, err
		}
		ids = append(ids, int32(id))
	}
	if len(ids) == 0 {
		return nil, invalid(v.path, "invalid_value", "%s must hold at least one token id", v.path)
	}
	return ids, nil
}
