// Package chat turns the messages of a conversation into the text that a model
// was trained on, by the chat template that its checkpoint carries.
//
// It owns where a checkpoint keeps its template and its special tokens, what a
// template is given (the variables of transformers' apply_chat_template, made the
// same way), and what a template can make of messages that come in another form
// than it expects. The language of templates is package jinja's.
package chat

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"eckart/model/tokenizer/jinja"
)

// ErrNone says that a checkpoint has no chat template.
var ErrNone = errors.New("checkpoint has no chat template")

// maxConfig bounds the length of the files that a template is looked for in.
const maxConfig = 64 << 20

// Template is the chat template of a checkpoint, or its several: one for
// conversations without tools and one for those with. It is immutable; any number
// of goroutines may render it.
type Template struct {
	byDefault, withTools *variant
	tokens               *jinja.Map // bos_token and the like
}

// variant is a template with what was found out about it.
type variant struct {
	*jinja.Template
	takes taste
}

// Load finds the chat template of a checkpoint, whose files read returns; an
// error of read that is fs.ErrNotExist says that there is no such file. The
// template is chat_template.jinja, else the "chat_template" of
// tokenizer_config.json (a text, or a list of names and templates, of which
// "default" and "tool_use" are used), else that of chat_template.json; the one for
// tools may also be additional_chat_templates/tool_use.jinja. Special tokens come
// from tokenizer_config.json, and from special_tokens_map.json where that has
// none. Without any template the error is ErrNone.
func Load(read func(name string) ([]byte, error)) (*Template, error) {
	config, err := readObject(read, "tokenizer_config.json")
	if err != nil {
		return nil, err
	}
	sources, err := findSources(read, config)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, ErrNone
	}
	more, err := readObject(read, "special_tokens_map.json")
	if err != nil {
		return nil, err
	}
	t := &Template{tokens: jinja.NewMap()}
	addTokens(t.tokens, config)
	addTokens(t.tokens, more)
	for name, into := range map[string]**variant{"default": &t.byDefault, "tool_use": &t.withTools} {
		src, ok := sources[name]
		if !ok {
			continue
		}
		parsed, err := jinja.Parse(src.text)
		if err != nil {
			return nil, fmt.Errorf("load chat template from %s: %w", src.file, err)
		}
		*into = &variant{Template: parsed}
		(*into).takes = t.try(parsed)
	}
	if t.byDefault == nil && t.withTools == nil {
		return nil, fmt.Errorf("load chat template: tokenizer_config.json names templates, but neither %q nor %q", "default", "tool_use")
	}
	return t, nil
}

// source is the text of a template and the file it was found in.
type source struct{ text, file string }

func findSources(read func(string) ([]byte, error), config *jinja.Map) (map[string]source, error) {
	found := map[string]source{}
	for name, file := range map[string]string{
		"default":  "chat_template.jinja",
		"tool_use": "additional_chat_templates/tool_use.jinja",
	} {
		b, err := readFile(read, file)
		if err != nil {
			return nil, err
		}
		if b != nil {
			found[name] = source{string(b), file}
		}
	}
	if _, ok := found["default"]; ok {
		return found, nil
	}
	if err := addSources(found, config, "tokenizer_config.json"); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		processor, err := readObject(read, "chat_template.json")
		if err != nil {
			return nil, err
		}
		if err := addSources(found, processor, "chat_template.json"); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// addSources takes the "chat_template" of a configuration file, in either form.
func addSources(found map[string]source, config *jinja.Map, file string) error {
	v, _ := config.Get("chat_template")
	if v == nil {
		return nil
	}
	add := func(name, text string) {
		if _, ok := found[name]; !ok {
			found[name] = source{text, file}
		}
	}
	if text, ok := jinja.Text(v); ok {
		add("default", text)
		return nil
	}
	list, ok := jinja.Elements(v)
	if !ok {
		return fmt.Errorf("read %s: chat_template is neither a text nor a list", file)
	}
	for i, e := range list {
		m, ok := e.(*jinja.Map)
		if !ok {
			return fmt.Errorf("read %s: chat_template[%d] is not an object", file, i)
		}
		name, named := text(m, "name")
		body, given := text(m, "template")
		if !named || !given {
			return fmt.Errorf("read %s: chat_template[%d] misses a name or a template", file, i)
		}
		add(name, body)
	}
	return nil
}

func text(m *jinja.Map, key string) (string, bool) {
	v, _ := m.Get(key)
	return jinja.Text(v)
}

// readFile returns nil for a file that does not exist.
func readFile(read func(string) ([]byte, error), name string) ([]byte, error) {
	b, err := read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(b) > maxConfig:
		return nil, fmt.Errorf("read %s: %d bytes, more than %d", name, len(b), maxConfig)
	case b == nil:
		b = []byte{}
	}
	return b, nil
}

// readObject reads a JSON object; a file that does not exist is an empty one.
func readObject(read func(string) ([]byte, error), name string) (*jinja.Map, error) {
	b, err := readFile(read, name)
	if err != nil || b == nil {
		return jinja.NewMap(), err
	}
	v, err := jinja.ParseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	m, ok := v.(*jinja.Map)
	if !ok {
		return nil, fmt.Errorf("read %s: not a JSON object", name)
	}
	return m, nil
}

// addTokens takes the special tokens of a configuration: every key that ends in
// _token, and those of the object extra_special_tokens. A token is a text or an
// object with its text as "content"; null is none.
func addTokens(tokens, config *jinja.Map) {
	add := func(key string, v jinja.Value) {
		if m, ok := v.(*jinja.Map); ok {
			v, _ = m.Get("content")
		}
		s, ok := jinja.Text(v)
		if _, known := tokens.Get(key); ok && !known {
			tokens.Set(key, jinja.String(s))
		}
	}
	for key, v := range config.All() {
		if strings.HasSuffix(key, "_token") {
			add(key, v)
		}
	}
	if v, _ := config.Get("extra_special_tokens"); v != nil {
		if m, ok := v.(*jinja.Map); ok {
			for key, v := range m.All() {
				add(key, v)
			}
		}
	}
}

// BOS returns the text of the token that begins a sequence, "" if there is none.
func (t *Template) BOS() string { return t.token("bos_token") }

// EOS returns the text of the token that ends a sequence, "" if there is none.
func (t *Template) EOS() string { return t.token("eos_token") }

func (t *Template) token(name string) string {
	s, _ := text(t.tokens, name)
	return s
}

// Source returns the text of the template: of the one for conversations with
// tools, if asked for and apart.
func (t *Template) Source(withTools bool) string {
	if v := t.choose(withTools); v != nil {
		return v.Source()
	}
	return ""
}

// choose returns the template for a conversation, or nil.
func (t *Template) choose(withTools bool) *variant {
	if withTools && t.withTools != nil {
		return t.withTools
	}
	return t.byDefault
}
