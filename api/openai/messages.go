package openai

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
	"eckart/model/tokenizer/jinja"
)

// roles are the speakers that a chat template is given. A role is printed between a template's special tokens, so
// that a free text there would be a way to write a turn of someone else.
var roles = map[string]bool{"system": true, "developer": true, "user": true, "assistant": true, "tool": true, "function": true}

// untrusted are the roles whose text comes from outside the application: what looks like a special token in it is
// text, see quoting.
var untrusted = map[string]bool{"user": true, "tool": true, "function": true}

// render makes the prompt of a chat: the messages checked, keys in their order (templates print whole messages), run
// through the model's template. Pieces of the result are to be encoded one by one, see quoting.
func (s *Server) render(q *request) (string, *quoting, error) {
	if s.o.Template == nil {
		return "", nil, unsupported("messages", "the model has no chat template: use /v1/completions")
	}
	quote := newQuoting(s.specials, q.messages.text)
	if quote.sign == "" {
		return "", nil, invalid("messages", "invalid_value", "messages must not hold all of the noncharacters U+FDD0 to U+FDEF")
	}
	messages, err := readMessages(q.messages, quote)
	if err != nil {
		return "", nil, err
	}
	in := chat.Input{Messages: messages, ContinueFinal: q.continueFinal, Now: s.o.Now, Fit: true}
	in.AddGenerationPrompt = !q.continueFinal
	if q.addPrompt != nil {
		in.AddGenerationPrompt = *q.addPrompt
	}
	if q.tools.text != nil {
		if in.Tools, err = jinja.ParseJSON(q.tools.text); err != nil {
			return "", nil, invalid("tools", "invalid_value", "tools cannot be given to the chat template: %v", err)
		}
	}
	in.Kwargs = jinja.NewMap()
	if q.effort != "" {
		in.Kwargs.Set("reasoning_effort", jinja.String(q.effort))
	}
	if q.kwargs.text != nil {
		for name, m := range q.kwargs.members() {
			v, err := jinja.ParseJSON(m.text)
			if err != nil {
				return "", nil, invalid(m.path, "invalid_value", "%s cannot be given to the chat template: %v", m.path, err)
			}
			in.Kwargs.Set(name, v)
		}
	}
	prompt, err := s.o.Template.Render(in)
	if err != nil {
		return "", nil, templateError(err)
	}
	return prompt, quote, nil
}

// templateError is a template that raised, ran into a limit or stumbled over a message: all of them answers to what
// the client sent, since the template was parsed when the model was opened.
func templateError(err error) error {
	text := err.Error()
	if raised := (*jinja.RaisedError)(nil); errors.As(err, &raised) {
		text = raised.Message
	}
	return invalid("messages", "template_error", "the chat template refuses the messages: %s", cut(printable(text), 4*clipBytes))
}

// readMessages checks a conversation and returns it as a template sees it: text parts joined by a newline. Every other key is passed as it is (name, tool_call_id, reasoning_content, ...).
func readMessages(v value, quote *quoting) (jinja.Value, error) {
	if v.kind() != '[' {
		return nil, v.wrong("a list of messages")
	}
	var all []jinja.Value
	for i, e := range v.elements() {
		if i == maxMessages {
			return nil, invalid(v.path, "invalid_value", "messages must be a list of at most %d messages", maxMessages)
		}
		m, err := readMessage(e.at(i), quote)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, invalid(v.path, "invalid_value", "messages must hold at least one message")
	}
	return jinja.List(all...), nil
}

func readMessage(v value, quote *quoting) (*jinja.Map, error) {
	if v.kind() != '{' {
		return nil, v.wrong("an object")
	}
	r, ok := v.member("role")
	if !ok {
		return nil, invalid(v.path+".role", "missing_required_parameter", "%s.role is missing", v.path)
	}
	role, err := r.str()
	if err != nil {
		return nil, err
	}
	if !roles[role] {
		return nil, r.wrong(`"system", "developer", "user", "assistant" or "tool"`)
	}
	m := jinja.NewMap()
	content, calls, callID := false, false, false
	for key, x := range v.members() {
		var to jinja.Value
		switch {
		case key == "content" && !x.isNull():
			text, err := readContent(x)
			if err != nil {
				return nil, err
			}
			if untrusted[role] {
				text = quote.mark(text)
			}
			to, content = jinja.String(text), true
		case key == "tool_calls" && !x.isNull():
			if role != "assistant" {
				return nil, invalid(x.path, "invalid_value", "%s belongs to a message of the assistant, not of the role %s", x.path, role)
			}
			if to, err = readToolCalls(x); err != nil {
				return nil, err
			}
			calls = true
		case key == "audio" && !x.isNull():
			return nil, unsupported(x.path, "audio is not supported")
		default:
			if to, err = jinja.ParseJSON(x.text); err != nil {
				return nil, invalid(x.path, "invalid_value", "%s cannot be given to the chat template: %v", x.path, err)
			}
			callID = callID || key == "tool_call_id" && x.kind() == '"'
			calls = calls || key == "function_call" && !x.isNull()
		}
		m.Set(key, to)
	}
	if !content && !(role == "assistant" && calls) {
		return nil, invalid(v.path+".content", "missing_required_parameter", "%s.content is missing: only a message of the assistant with tool_calls may lack it", v.path)
	}
	if role == "tool" && !callID {
		return nil, invalid(v.path+".tool_call_id", "missing_required_parameter", "%s.tool_call_id is missing: it says which call the message answers", v.path)
	}
	return m, nil
}

// readContent returns a message's text; parts are joined by a newline, as vLLM and llama.cpp join them for templates
// that take a string.
func readContent(v value) (string, error) {
	switch v.kind() {
	case '"':
		return v.str()
	case '[':
	default:
		return "", v.wrong("a string or a list of text parts")
	}
	var texts []string
	for i, e := range v.elements() {
		part := e.at(i)
		if part.kind() != '{' {
			return "", part.wrong("an object")
		}
		t, ok := part.member("type")
		if !ok {
			return "", invalid(part.path+".type", "missing_required_parameter", "%s.type is missing", part.path)
		}
		kind, err := t.str()
		if err != nil {
			return "", err
		}
		name := "text"
		switch kind {
		case "text":
		case "refusal":
			name = "refusal"
		case "image_url", "image", "input_image":
			return "", unsupported(part.path, "images are not supported: "+part.path+" is one")
		case "input_audio", "audio", "audio_url":
			return "", unsupported(part.path, "audio is not supported: "+part.path+" is audio")
		case "video", "video_url":
			return "", unsupported(part.path, "video is not supported: "+part.path+" is one")
		case "file", "input_file":
			return "", unsupported(part.path, "files are not supported: "+part.path+" is one")
		default:
			return "", t.wrong(`"text"`)
		}
		x, ok := part.member(name)
		if !ok {
			return "", invalid(part.path+"."+name, "missing_required_parameter", "%s.%s is missing", part.path, name)
		}
		text, err := x.str()
		if err != nil {
			return "", err
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return "", invalid(v.path, "invalid_value", "%s must hold at least one part", v.path)
	}
	return strings.Join(texts, "\n"), nil
}

// readToolCalls returns earlier calls with their arguments as objects. On the wire they are JSON inside a string;
// templates were written for transformers, where they are dicts, and print them with tojson.
func readToolCalls(v value) (jinja.Value, error) {
	if v.kind() != '[' {
		return nil, v.wrong("a list of tool calls")
	}
	var all []jinja.Value
	for i, e := range v.elements() {
		call := e.at(i)
		if call.kind() != '{' {
			return nil, call.wrong("an object")
		}
		made, err := jinja.ParseJSON(call.text)
		if err != nil {
			return nil, invalid(call.path, "invalid_value", "%s cannot be given to the chat template: %v", call.path, err)
		}
		f, ok := call.member("function")
		if !ok {
			return nil, invalid(call.path+".function", "missing_required_parameter", "%s.function is missing", call.path)
		}
		if f.kind() != '{' {
			return nil, f.wrong("an object")
		}
		if a, ok := f.member("arguments"); ok && a.kind() == '"' {
			text, _ := a.str()
			if strings.TrimSpace(text) == "" {
				text = "{}"
			}
			if checkJSON([]byte(text)) != nil || trimBlank([]byte(text))[0] != '{' {
				return nil, a.wrong("a JSON object in a string")
			}
			function, _ := made.(*jinja.Map).Get("function")
			function.(*jinja.Map).Set("arguments", jinja.String(text))
		}
		all = append(all, made)
	}
	return jinja.List(all...), nil
}

// A quoting keeps what users write from becoming special tokens. A template's output is encoded with special tokens
// parsed, since it writes them itself; a user's text that spells one would then end the user's turn and begin another.
// mark puts a character that no request holds into such spellings before rendering, and split cuts the prompt there:
// the pieces are encoded one by one and none of them spells the token. Text without such a spelling is not touched.
type quoting struct {
	specials []string // of the tokenizer
	sign     string   // one noncharacter that the body does not hold
	used     bool
}

// newQuoting chooses a sign for a body. U+FDD0 to U+FDEF are noncharacters: no text has a use for them.
func newQuoting(specials []string, body []byte) *quoting {
	q := &quoting{specials: specials}
	text := unescaped(body)
	for r := rune(0xFDD0); r <= 0xFDEF; r++ {
		if !strings.ContainsRune(text, r) {
			q.sign = string(r)
			break
		}
	}
	return q
}

// unescaped undoes the \u escapes that could hide a sign; escapes of anything else do not matter here.
func unescaped(body []byte) string {
	text := string(body)
	if !strings.Contains(strings.ToLower(text), `\ufd`) {
		return text
	}
	var all strings.Builder
	all.WriteString(text)
	lower := strings.ToLower(text)
	for r := rune(0xFDD0); r <= 0xFDEF; r++ {
		if strings.Contains(lower, `\ufd`+string(hexDigits[r>>4&15])+string(hexDigits[r&15])) {
			all.WriteRune(r)
		}
	}
	return all.String()
}

// mark puts the sign behind the first character of every spelling of a special token.
func (q *quoting) mark(text string) string {
	for _, token := range q.specials {
		if !strings.Contains(text, token) {
			continue
		}
		_, first := utf8.DecodeRuneInString(token)
		text = strings.ReplaceAll(text, token, token[:first]+q.sign+token[first:])
		q.used = true
	}
	return text
}

// split returns the pieces of a rendered prompt.
func (q *quoting) split(prompt string) []string {
	if q == nil || !q.used {
		return []string{prompt}
	}
	return strings.Split(prompt, q.sign)
}

// clean is the prompt as text.
func (q *quoting) clean(prompt string) string {
	return strings.Join(q.split(prompt), "")
}

// encode turns a rendered prompt into ids.
func (s *Server) encode(prompt string, quote *quoting, addSpecial bool) []int32 {
	var ids []int32
	for i, piece := range quote.split(prompt) {
		ids = append(ids, s.o.Tokenizer.Encode(piece, tokenizer.EncodeOptions{AddSpecial: addSpecial && i == 0, ParseSpecial: true})...)
	}
	return ids
}

// specialTokens lists the spellings of the special tokens that have more than one character, longest first, so that
// one inside another is found last.
func specialTokens(t *tokenizer.Tokenizer) []string {
	var all []string
	for id := range int32(t.VocabSize()) {
		if token := t.Token(id); utf8.RuneCountInString(token) > 1 && t.IsSpecial(id) {
			all = append(all, token)
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}
