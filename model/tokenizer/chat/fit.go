package chat

import (
	"strings"

	"eckart/model/tokenizer/jinja"
)

// taste is what a template makes of messages, found out by rendering short
// conversations when it is loaded. llama.cpp finds out the same way
// (common/chat.cpp); the text of a template does not tell.
type taste struct {
	textOnly    bool // takes content as text and not as parts
	partsOnly   bool // takes content as parts and not as text
	objectArgs  bool // takes the arguments of a tool call as an object and not as JSON text
	nullContent bool // takes a null as the content beside tool calls and not its absence
}

// Words that no template writes by itself.
const (
	probeText     = "ZqxText"
	probeArgument = "zqx_argument"
)

func object(pairs ...any) *jinja.Map {
	m := jinja.NewMap()
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case string:
			m.Set(pairs[i].(string), jinja.String(v))
		case jinja.Value:
			m.Set(pairs[i].(string), v)
		case nil:
			m.Set(pairs[i].(string), nil)
		}
	}
	return m
}

// try finds out the taste of a template.
func (t *Template) try(tmpl *jinja.Template) taste {
	render := func(messages ...jinja.Value) (string, bool) {
		vars := jinja.NewMap()
		for key, token := range t.tokens.All() {
			vars.Set(key, token)
		}
		vars.Set("documents", nil)
		vars.Set("tools", nil)
		vars.Set("add_generation_prompt", jinja.Bool(true))
		vars.Set("messages", jinja.List(messages...))
		out, err := tmpl.Render(vars, jinja.Options{MaxSteps: 1 << 17, MaxBytes: 8 << 20, MaxOutput: 1 << 20})
		return out, err == nil
	}
	var takes taste
	part := object("type", "text", "text", probeText)
	out, ok := render(object("role", "user", "content", probeText))
	asText := ok && strings.Contains(out, probeText)
	out, ok = render(object("role", "user", "content", jinja.List(part)))
	// A template that prints a list shows its keys.
	asParts := ok && strings.Contains(out, probeText) && !strings.Contains(out, "'text'") && !strings.Contains(out, `"text"`)
	takes.textOnly = asText && !asParts
	takes.partsOnly = asParts && !asText

	question := object("role", "user", "content", "q")
	result := object("role", "tool", "content", "r", "tool_call_id", "call00000", "name", "f")
	call := func(arguments jinja.Value, content ...any) jinja.Value {
		f := object("name", "f", "arguments", arguments)
		c := object("id", "call00000", "type", "function", "function", f)
		return object(append([]any{"role", "assistant", "tool_calls", jinja.List(c)}, content...)...)
	}
	args := object(probeArgument, "v")
	const encoded = `{"` + probeArgument + `": "v"}`
	out, ok = render(question, call(jinja.String(encoded), "content", ""), result)
	asJSON := ok && strings.Contains(out, encoded)
	out, ok = render(question, call(args, "content", ""), result)
	takes.objectArgs = !asJSON && ok && strings.Contains(out, probeArgument)

	var given jinja.Value = args
	if !takes.objectArgs {
		given = jinja.String(encoded)
	}
	if _, ok := render(question, call(given), result); !ok {
		_, takes.nullContent = render(question, call(given, "content", nil), result)
	}
	return takes
}

// fit puts messages, which it may change, into the form that the template takes.
func (takes taste) fit(messages []jinja.Value) []jinja.Value {
	for _, v := range messages {
		m := v.(*jinja.Map)
		content, _ := m.Get("content")
		if takes.textOnly {
			if joined, ok := joinParts(content); ok {
				m.Set("content", jinja.String(joined))
			}
		}
		if takes.partsOnly {
			if s, ok := jinja.Text(content); ok {
				m.Set("content", jinja.List(object("type", "text", "text", s)))
			}
		}
		if takes.objectArgs {
			if calls, ok := m.Get("tool_calls"); ok {
				m.Set("tool_calls", parseArguments(calls))
			}
		}
	}
	return messages
}

// joinParts joins the parts of a content with newlines, if all of them are text.
func joinParts(content jinja.Value) (string, bool) {
	parts, ok := jinja.Elements(content)
	if !ok {
		return "", false
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		m, ok := p.(*jinja.Map)
		if !ok {
			return "", false
		}
		if texts[i], ok = text(m, "text"); !ok {
			return "", false
		}
	}
	return strings.Join(texts, "\n"), true
}

// parseArguments returns tool calls with the arguments that are the JSON text of
// an object as that object. Others stay as they are.
func parseArguments(v jinja.Value) jinja.Value {
	calls, ok := jinja.Elements(v)
	if !ok {
		return v
	}
	out := make([]jinja.Value, len(calls))
	for i, c := range calls {
		out[i] = c
		call, _ := c.(*jinja.Map)
		if call == nil {
			continue
		}
		fv, _ := call.Get("function")
		f, _ := fv.(*jinja.Map)
		if f == nil {
			continue
		}
		encoded, ok := text(f, "arguments")
		if !ok {
			continue
		}
		parsed, err := jinja.ParseJSON([]byte(encoded))
		if err != nil {
			continue
		}
		if _, ok := parsed.(*jinja.Map); !ok {
			continue
		}
		out[i] = with(call, "function", with(f, "arguments", parsed))
	}
	return jinja.List(out...)
}

// with returns a copy of m with another value under key.
func with(m *jinja.Map, key string, v jinja.Value) *jinja.Map {
	c := jinja.NewMap()
	for k, old := range m.All() {
		c.Set(k, old)
	}
	c.Set(key, v)
	return c
}
