package chat

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"eckart/model/tokenizer/jinja"
)

// ErrInput is wrapped by errors about the input of a render, which are the
// caller's. A refusal by the template is a *jinja.RaisedError.
var ErrInput = errors.New("chat input")

// Input is what a conversation is rendered from.
type Input struct {
	// Messages is a list of objects, each with a role, at least one.
	Messages jinja.Value
	// Tools is a list of JSON schemas, or None.
	Tools jinja.Value
	// AddGenerationPrompt opens a turn for the model behind the last message.
	AddGenerationPrompt bool
	// ContinueFinal leaves the last message open, for the model to continue it. It
	// excludes AddGenerationPrompt.
	ContinueFinal bool
	// Kwargs are further variables for the template (chat_template_kwargs); may be
	// nil. The names of the other fields are refused.
	Kwargs *jinja.Map
	// Now is the clock behind strftime_now; nil is time.Now.
	Now func() time.Time
	// Fit lets messages be put into the form that the template takes: parts of
	// text joined where it takes only text, arguments of tool calls parsed where it
	// takes only objects. Without it the messages are rendered as they are, and the
	// result is that of transformers' apply_chat_template.
	Fit bool
}

// reserved are the names that Kwargs may not give: the arguments of
// apply_chat_template that Input has fields for, or that are the server's.
var reserved = map[string]bool{
	"add_generation_prompt": true, "chat_template": true, "continue_final_message": true, "conversation": true,
	"max_length": true, "messages": true, "padding": true, "return_assistant_tokens_mask": true, "return_dict": true,
	"return_tensors": true, "sanitize_control_tokens": true, "tokenize": true, "tokenizer_kwargs": true, "tools": true,
	"truncation": true,
}

// Render renders a conversation. Its errors wrap ErrInput, a *jinja.RaisedError or
// jinja.ErrLimit, or say what in the template failed.
func (t *Template) Render(in Input) (string, error) {
	messages, err := normalMessages(in.Messages, false)
	if err != nil {
		return "", err
	}
	v := t.choose(in.Tools != nil)
	if v == nil {
		return "", fmt.Errorf("%w: the checkpoint has a chat template for tools only, and no tools are given", ErrInput)
	}
	if in.Tools != nil {
		if _, ok := jinja.Elements(in.Tools); !ok {
			return "", fmt.Errorf("%w: tools is not a list", ErrInput)
		}
	}
	if in.AddGenerationPrompt && in.ContinueFinal {
		return "", fmt.Errorf("%w: add_generation_prompt and continue_final_message exclude one another", ErrInput)
	}
	if in.Fit {
		if v.takes.nullContent {
			if messages, err = normalMessages(in.Messages, true); err != nil {
				return "", err
			}
		}
		messages = v.takes.fit(messages)
	}
	vars := jinja.NewMap()
	for key, token := range t.tokens.All() {
		vars.Set(key, token)
	}
	vars.Set("documents", nil)
	if in.Kwargs != nil {
		for key, value := range in.Kwargs.All() {
			if reserved[key] {
				return "", fmt.Errorf("%w: chat_template_kwargs cannot set %q", ErrInput, key)
			}
			vars.Set(key, value)
		}
	}
	vars.Set("tools", in.Tools)
	vars.Set("add_generation_prompt", jinja.Bool(in.AddGenerationPrompt))
	options := jinja.Options{Now: in.Now}
	if in.ContinueFinal {
		return v.renderOpen(vars, messages, options)
	}
	vars.Set("messages", jinja.List(messages...))
	return v.Template.Render(vars, options)
}

// normalMessages copies messages as transformers does before it renders: keys
// with null are dropped, since most templates take a missing key better than a
// null one, and reasoning is given under each of the names that templates read.
// The copies may be changed.
func normalMessages(v jinja.Value, keepNullContent bool) ([]jinja.Value, error) {
	list, ok := jinja.Elements(v)
	if !ok {
		return nil, fmt.Errorf("%w: messages is not a list", ErrInput)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: messages is empty; give at least one message", ErrInput)
	}
	messages := make([]jinja.Value, len(list))
	for i, e := range list {
		m, ok := e.(*jinja.Map)
		if !ok {
			return nil, fmt.Errorf("%w: messages[%d] is not an object", ErrInput, i)
		}
		messages[i] = normalMessage(m, keepNullContent)
	}
	return messages, nil
}

func normalMessage(m *jinja.Map, keepNullContent bool) *jinja.Map {
	c := jinja.NewMap()
	var reasoning jinja.Value
	for _, key := range []string{"reasoning_content", "thinking", "reasoning"} {
		if v, _ := m.Get(key); v != nil {
			reasoning = v
			break
		}
	}
	if reasoning != nil {
		c.Set("thinking", reasoning)
	}
	for key, v := range m.All() {
		if v != nil || keepNullContent && key == "content" {
			c.Set(key, v)
		}
	}
	if reasoning != nil {
		c.Set("reasoning_content", reasoning)
	}
	return c
}

// openTag marks the end of the message that is to be continued. It is the mark
// that transformers uses, so that templates treat it alike.
const openTag = "CONTINUE_FINAL_MESSAGE_TAG "

// renderOpen renders up to the end of the last message's text: a mark behind the
// text is found again in the result, which ends there.
func (v *variant) renderOpen(vars *jinja.Map, messages []jinja.Value, o jinja.Options) (string, error) {
	last := messages[len(messages)-1].(*jinja.Map)
	content, _ := last.Get("content")
	final, ok := jinja.Text(content)
	if ok {
		last.Set("content", jinja.String(final+openTag))
	} else if final, content, ok = markLastText(content); ok {
		last.Set("content", content)
	} else {
		return "", fmt.Errorf("%w: continue_final_message is set, but the last message has no text to continue", ErrInput)
	}
	vars.Set("messages", jinja.List(messages...))
	out, err := v.Template.Render(vars, o)
	if err != nil {
		return "", err
	}
	at := strings.LastIndex(out, strings.TrimSpace(openTag))
	if at < 0 || !strings.Contains(out, strings.TrimFunc(final, unicode.IsSpace)) {
		return "", fmt.Errorf("%w: continue_final_message is set, but the chat template does not keep the last message as it is", ErrInput)
	}
	if strings.HasPrefix(out[at:], openTag) {
		return out[:at], nil
	}
	// The template trims messages, so what stands before the mark is trimmed too.
	return strings.TrimRightFunc(out[:at], unicode.IsSpace), nil
}

// markLastText marks the last part of a content that has text, in a copy.
func markLastText(content jinja.Value) (final string, marked jinja.Value, ok bool) {
	parts, _ := jinja.Elements(content)
	for i := len(parts) - 1; i >= 0; i-- {
		part, isMap := parts[i].(*jinja.Map)
		if !isMap {
			continue
		}
		if final, ok = text(part, "text"); !ok {
			continue
		}
		c := jinja.NewMap()
		for key, v := range part.All() {
			c.Set(key, v)
		}
		c.Set("text", jinja.String(final+openTag))
		all := append([]jinja.Value(nil), parts...)
		all[i] = c
		return final, jinja.List(all...), true
	}
	return "", nil, false
}
