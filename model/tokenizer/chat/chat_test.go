package chat_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eckart/model/tokenizer/chat"
	"eckart/model/tokenizer/jinja"
)

// checkpoint is a folder of files in memory.
type checkpoint map[string]string

func (c checkpoint) read(name string) ([]byte, error) {
	s, ok := c[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return []byte(s), nil
}

func load(t *testing.T, c checkpoint) *chat.Template {
	t.Helper()
	tmpl, err := chat.Load(c.read)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func parse(t testing.TB, s string) jinja.Value {
	t.Helper()
	v, err := jinja.ParseJSON([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func fixedNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func TestLoad(t *testing.T) {
	hi := `[{"role":"user","content":"hi"}]`
	list := `{"chat_template":[{"name":"default","template":"D{{ bos_token }}"},{"name":"tool_use","template":"T{{ tools|length }}"},{"name":"rag","template":"R"}],"bos_token":"<s>"}`
	for name, c := range map[string]struct {
		files          checkpoint
		plain, tooled  string
		bos, eos, says string
	}{
		"file": {
			files: checkpoint{"chat_template.jinja": "F{{ bos_token }}{{ eos_token }}\n", "tokenizer_config.json": `{"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"chat_template":"C"}`},
			plain: "F<s></s>", tooled: "F<s></s>", bos: "<s>", eos: "</s>",
		},
		"text in tokenizer_config.json": {
			files: checkpoint{"tokenizer_config.json": `{"chat_template":"C{{ pad_token }}{{ unk_token is defined }}","pad_token":"<p>","unk_token":null}`},
			plain: "C<p>False", tooled: "C<p>False",
		},
		"list in tokenizer_config.json": {files: checkpoint{"tokenizer_config.json": list}, plain: "D<s>", tooled: "T1", bos: "<s>"},
		"file beside a list":            {files: checkpoint{"tokenizer_config.json": list, "chat_template.jinja": "F"}, plain: "F", tooled: "F", bos: "<s>"},
		"further file for tools":        {files: checkpoint{"chat_template.jinja": "F", "additional_chat_templates/tool_use.jinja": "A"}, plain: "F", tooled: "A"},
		"chat_template.json":            {files: checkpoint{"chat_template.json": `{"chat_template":"J"}`, "tokenizer_config.json": "{}"}, plain: "J", tooled: "J"},
		"special_tokens_map.json": {
			files: checkpoint{
				"chat_template.jinja": "{{ bos_token }}{{ eos_token }}", "tokenizer_config.json": `{"bos_token":"<a>"}`,
				"special_tokens_map.json": `{"bos_token":"<b>","eos_token":{"content":"<e>"}}`,
			},
			plain: "<a><e>", tooled: "<a><e>", bos: "<a>", eos: "<e>",
		},
		"tokens of the model": {
			files: checkpoint{"tokenizer_config.json": `{"chat_template":"{{ image_token }}{{ boi_token }}","image_token":"<i>","extra_special_tokens":{"boi_token":"<b>"},"add_bos_token":true}`},
			plain: "<i><b>", tooled: "<i><b>",
		},
		"empty template": {files: checkpoint{"chat_template.jinja": ""}},
		"tools only":     {files: checkpoint{"tokenizer_config.json": `{"chat_template":[{"name":"tool_use","template":"T"}]}`}, tooled: "T", says: "for tools only"},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl := load(t, c.files)
			got, err := tmpl.Render(chat.Input{Messages: parse(t, hi)})
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
			} else if err != nil || got != c.plain {
				t.Errorf("got %q, %v, want %q", got, err, c.plain)
			}
			got, err = tmpl.Render(chat.Input{Messages: parse(t, hi), Tools: parse(t, `[{}]`)})
			if err != nil || got != c.tooled {
				t.Errorf("with tools: got %q, %v, want %q", got, err, c.tooled)
			}
			if tmpl.BOS() != c.bos || tmpl.EOS() != c.eos {
				t.Errorf("tokens %q and %q, want %q and %q", tmpl.BOS(), tmpl.EOS(), c.bos, c.eos)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, c := range map[string]struct {
		files checkpoint
		says  string
	}{
		"no template":            {checkpoint{"tokenizer_config.json": `{"bos_token":"<s>"}`}, "no chat template"},
		"no file":                {checkpoint{}, "no chat template"},
		"template null":          {checkpoint{"tokenizer_config.json": `{"chat_template":null}`}, "no chat template"},
		"broken template":        {checkpoint{"chat_template.jinja": "a\n{% if %}"}, "load chat template from chat_template.jinja: parse template: line 2"},
		"broken tool template":   {checkpoint{"chat_template.jinja": "a", "additional_chat_templates/tool_use.jinja": "{{"}, "additional_chat_templates/tool_use.jinja"},
		"template is a number":   {checkpoint{"tokenizer_config.json": `{"chat_template":5}`}, "neither a text nor a list"},
		"list of texts":          {checkpoint{"tokenizer_config.json": `{"chat_template":["a"]}`}, "chat_template[0] is not an object"},
		"list without a name":    {checkpoint{"tokenizer_config.json": `{"chat_template":[{"template":"a"}]}`}, "chat_template[0] misses a name"},
		"neither known name":     {checkpoint{"tokenizer_config.json": `{"chat_template":[{"name":"rag","template":"a"}]}`}, "neither"},
		"config is no JSON":      {checkpoint{"tokenizer_config.json": `{`}, "read tokenizer_config.json: parse JSON"},
		"config is a list":       {checkpoint{"tokenizer_config.json": `[]`}, "read tokenizer_config.json: not a JSON object"},
		"tokens map is no JSON":  {checkpoint{"chat_template.jinja": "a", "special_tokens_map.json": `x`}, "read special_tokens_map.json"},
		"T5 template of 10 MB":   {checkpoint{"chat_template.jinja": strings.Repeat("a", 10<<20)}, "more than 1048576"},
		"T5 include of the host": {checkpoint{"chat_template.jinja": "{% include '/etc/passwd' %}"}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := chat.Load(c.files.read)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %q", err, c.says)
			}
			if none := strings.Contains(c.says, "no chat template"); none != errors.Is(err, chat.ErrNone) {
				t.Errorf("ErrNone: %v", !none)
			}
		})
	}
	if _, err := chat.Load(func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the reader", err)
	}
}

// strict is a template that, like many, insists on the order of roles.
const strict = `{% for m in messages %}
{% if m.role == 'system' and not loop.first %}{{ raise_exception('Only one system message, at the beginning') }}{% endif %}
{% if m.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('Unknown role: ' + m.role) }}{% endif %}
{% if loop.first and m.role == 'assistant' %}{{ raise_exception('Conversation must not begin with the assistant') }}{% endif %}
{% if m.role == 'tool' and m.tool_call_id is not defined %}{{ raise_exception('Tool message without an id') }}{% endif %}
<{{ m.role }}>{{ m.content|trim if m.content is string else m.content|map(attribute='text')|join }}
{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}`

// TestBadMessages is rows T6 and T7 of the table of bad inputs, as far as the
// template decides them: the caller's fault comes out as ErrInput, the template's
// refusal in its own words, and the rest renders.
func TestBadMessages(t *testing.T) {
	tmpl := load(t, checkpoint{"chat_template.jinja": strict})
	many := `[` + strings.Repeat(`{"role":"user","content":"a"},{"role":"assistant","content":"b"},`, 4999) + `{"role":"user","content":"a"}]`
	for _, c := range []struct {
		name, messages, kwargs string
		raises, input          string // what the error says, or
		want                   string
	}{
		{name: "T6 empty list", messages: `[]`, input: "give at least one message"},
		{name: "T6 no list", messages: `{"role":"user"}`, input: "messages is not a list"},
		{name: "T6 null", messages: `null`, input: "messages is not a list"},
		{name: "T6 a text", messages: `"hi"`, input: "messages is not a list"},
		{name: "T6 a text in the list", messages: `[{"role":"user","content":"a"},"hi"]`, input: "messages[1] is not an object"},
		{name: "T6 two systems", messages: `[{"role":"system","content":"a"},{"role":"system","content":"b"}]`, raises: "Only one system message, at the beginning"},
		{name: "T6 assistant first", messages: `[{"role":"assistant","content":"a"}]`, raises: "Conversation must not begin with the assistant"},
		{name: "T6 unknown role", messages: `[{"role":"wizard","content":"a"}]`, raises: "Unknown role: wizard"},
		{name: "T6 content null", messages: `[{"role":"user","content":null}]`, want: "<user><assistant>"},
		{name: "T6 content []", messages: `[{"role":"user","content":[]}]`, want: "<user><assistant>"},
		{name: "T6 tool message without id", messages: `[{"role":"user","content":"a"},{"role":"tool","content":"a"}]`, raises: "Tool message without an id"},
		{name: "T6 10 000 messages", messages: many, want: strings.TrimSuffix(strings.Repeat("<user>a<assistant>b", 5000), "b")},
		{name: "T7 messages", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"messages":[]}`, input: `cannot set "messages"`},
		{name: "T7 tools", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"tools":[]}`, input: `cannot set "tools"`},
		{name: "T7 tokenize", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"tokenize":true}`, input: `cannot set "tokenize"`},
		{name: "T7 chat_template", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"chat_template":"x"}`, input: `cannot set "chat_template"`},
		{name: "T7 add_generation_prompt", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"add_generation_prompt":false}`, input: `cannot set "add_generation_prompt"`},
		{name: "T7 continue_final_message", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"continue_final_message":true}`, input: `cannot set "continue_final_message"`},
		{name: "T7 another name", messages: `[{"role":"user","content":"a"}]`, kwargs: `{"enable_thinking":false}`, want: "<user>a<assistant>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := chat.Input{Messages: parse(t, c.messages), AddGenerationPrompt: true}
			if c.kwargs != "" {
				in.Kwargs = parse(t, c.kwargs).(*jinja.Map)
			}
			got, err := tmpl.Render(in)
			var raised *jinja.RaisedError
			switch {
			case c.raises != "":
				if !errors.As(err, &raised) || raised.Message != c.raises {
					t.Errorf("got %q, %v, want the template to say %q", got, err, c.raises)
				}
			case c.input != "":
				if !errors.Is(err, chat.ErrInput) || !strings.Contains(err.Error(), c.input) {
					t.Errorf("got %q, %v, want ErrInput about %q", got, err, c.input)
				}
			case err != nil || strings.ReplaceAll(got, "\n", "") != c.want:
				t.Errorf("got %.100q, %v, want %.100q", got, err, c.want)
			}
		})
	}
}

func TestInputErrors(t *testing.T) {
	tmpl := load(t, checkpoint{"chat_template.jinja": strict})
	hi := parse(t, `[{"role":"user","content":"hi"}]`)
	for says, in := range map[string]chat.Input{
		"exclude one another": {Messages: hi, AddGenerationPrompt: true, ContinueFinal: true},
		"tools is not a list": {Messages: hi, Tools: jinja.String("x")},
		"no text to continue": {Messages: parse(t, `[{"role":"user","content":null}]`), ContinueFinal: true},
		"has no text":         {Messages: parse(t, `[{"role":"user","content":[{"type":"image"}]}]`), ContinueFinal: true},
	} {
		if _, err := tmpl.Render(in); !errors.Is(err, chat.ErrInput) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want ErrInput about %q", err, says)
		}
	}
}

func TestContinueFinal(t *testing.T) {
	keeps := load(t, checkpoint{"chat_template.jinja": "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"})
	trims := load(t, checkpoint{"chat_template.jinja": strict})
	drops := load(t, checkpoint{"chat_template.jinja": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"})
	const open = `[{"role":"user","content":"q"},{"role":"assistant","content":"Sure: "}]`
	for name, c := range map[string]struct {
		tmpl                 *chat.Template
		messages, want, says string
	}{
		"as it is":      {tmpl: keeps, messages: open, want: "<user>q</user>\n<assistant>Sure: "},
		"trimmed":       {tmpl: trims, messages: open, want: "<user>q\n<assistant>Sure:"},
		"parts":         {tmpl: trims, messages: `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`, want: "<user>ab"},
		"empty text":    {tmpl: keeps, messages: `[{"role":"assistant","content":""}]`, want: "<assistant>"},
		"dropped":       {tmpl: drops, messages: open, says: "does not keep the last message"},
		"says it twice": {tmpl: keeps, messages: `[{"role":"user","content":"Sure: "},{"role":"assistant","content":"Sure: "}]`, want: "<user>Sure: </user>\n<assistant>Sure: "},
	} {
		in := chat.Input{Messages: parse(t, c.messages), ContinueFinal: true}
		before, _ := jinja.JSON(in.Messages)
		got, err := c.tmpl.Render(in)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, c.says)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
		if after, _ := jinja.JSON(in.Messages); after != before {
			t.Errorf("%s: messages became %s", name, after)
		}
	}
}

// TestVariables checks what a template is given, which is what transformers
// gives it.
func TestVariables(t *testing.T) {
	tmpl := load(t, checkpoint{
		"tokenizer_config.json": `{"bos_token":"<s>"}`,
		"chat_template.jinja":   `{{ messages|tojson }} {{ tools }} {{ documents }} {{ add_generation_prompt }} {{ bos_token }} {{ enable_thinking }} {{ strftime_now('%Y') }} {{ eos_token is defined }}`,
	})
	kwargs := parse(t, `{"enable_thinking":true,"documents":[1]}`).(*jinja.Map)
	got, err := tmpl.Render(chat.Input{
		Messages: parse(t, `[{"role":"assistant","content":null,"reasoning":"hm","tool_calls":null,"name":"x"}]`),
		Kwargs:   kwargs, Now: fixedNow,
	})
	want := `[{"thinking": "hm", "role": "assistant", "reasoning": "hm", "name": "x", "reasoning_content": "hm"}] None [1] False <s> True 2026 False`
	if err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestFit(t *testing.T) {
	const calls = `{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ %s }};{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}`
	textOnly := `{% for m in messages %}{{ '[' + m.content + ']' }}{% endfor %}`
	partsOnly := `{% for m in messages %}{% for p in m.content %}{{ p.text }}|{% endfor %}{% endfor %}`
	both := `{% for m in messages %}{% if m.content is string %}S{{ m.content }}{% else %}{% for p in m.content %}P{{ p.text }}{% endfor %}{% endif %}{% endfor %}`
	objects := strings.Replace(calls, "%s", "c.function.arguments|tojson", 1)
	loops := strings.Replace(calls, "{{ %s }}", "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}", 1)
	texts := strings.Replace(calls, "%s", "c.function.name + c.function.arguments", 1)
	either := strings.Replace(calls, "%s", "c.function.arguments if c.function.arguments is string else c.function.arguments|tojson", 1)
	nulls := `{% for m in messages %}{% if m.role == 'assistant' and m['content'] is none %}calls{% else %}{{ m['role'] + m['content'] }}{% endif %}{% endfor %}`
	const parts = `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`
	const plain = `[{"role":"user","content":"a"}]`
	const image = `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}]`
	call := func(arguments string) string {
		return `[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":` + arguments + `}}]},{"role":"tool","content":"r","tool_call_id":"c"}]`
	}
	for name, c := range map[string]struct {
		template, messages string
		asIs, fitted       string // "!" for an error
	}{
		"parts where text is taken":        {textOnly, parts, "!", "[a\nb]"},
		"text where text is taken":         {textOnly, plain, "[a]", "[a]"},
		"an image where text is taken":     {textOnly, image, "!", "!"},
		"text where parts are taken":       {partsOnly, plain, "|", "a|"},
		"parts where parts are taken":      {partsOnly, parts, "a|b|", "a|b|"},
		"text where both are taken":        {both, plain, "Sa", "Sa"},
		"parts where both are taken":       {both, parts, "PaPb", "PaPb"},
		"JSON text where objects are":      {objects, call(`"{\"x\": 1}"`), `q"{\"x\": 1}";r`, `q{"x": 1};r`},
		"objects where objects are":        {objects, call(`{"x": 1}`), `q{"x": 1};r`, `q{"x": 1};r`},
		"JSON text where pairs are":        {loops, call(`"{\"x\": 1}"`), "!", "qx=1;r"},
		"broken JSON where pairs are":      {loops, call(`"{"`), "!", "!"},
		"a JSON list where pairs are":      {loops, call(`"[1]"`), "!", "!"},
		"JSON text where text is":          {texts, call(`"{\"x\":1}"`), `qf{"x":1};r`, `qf{"x":1};r`},
		"JSON text where either is":        {either, call(`"{\"x\":1}"`), `q{"x":1};r`, `q{"x":1};r`},
		"null content where null is asked": {nulls, call(`{}`), "!", "userqcallstoolr"},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl := load(t, checkpoint{"chat_template.jinja": c.template})
			messages := parse(t, c.messages)
			before, _ := jinja.JSON(messages)
			for fit, want := range map[bool]string{false: c.asIs, true: c.fitted} {
				got, err := tmpl.Render(chat.Input{Messages: messages, Fit: fit})
				if want == "!" {
					if err == nil {
						t.Errorf("fit %v: got %q, want an error", fit, got)
					}
				} else if err != nil || got != want {
					t.Errorf("fit %v: got %q, %v, want %q", fit, got, err, want)
				}
			}
			if after, _ := jinja.JSON(messages); after != before {
				t.Errorf("messages became %s", after)
			}
		})
	}
}

func TestConcurrentRenders(t *testing.T) {
	tmpl := load(t, checkpoint{"chat_template.jinja": strict})
	messages := parse(t, `[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b"}]`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 30 {
				if got, err := tmpl.Render(chat.Input{Messages: messages, Fit: true}); err != nil || got != "<user>a\n<assistant>b\n" {
					t.Errorf("got %q, %v", got, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// TestPublishedTemplates renders the shared goldens by way of a checkpoint.
func TestPublishedTemplates(t *testing.T) {
	const dir = "../../../../shared/golden/chat"
	raw, err := os.ReadFile(filepath.Join(dir, "_inputs.json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no shared goldens beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	inputs := parse(t, string(raw)).(*jinja.Map)
	files, err := filepath.Glob(filepath.Join(dir, "[^_]*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens in %s: %v", dir, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var golden struct {
			Template string `json:"template"`
			Rendered []struct {
				Case, Output string
				Error        *string
			} `json:"rendered"`
		}
		if err := json.Unmarshal(raw, &golden); err != nil {
			t.Fatal(err)
		}
		tmpl := load(t, checkpoint{"chat_template.jinja": golden.Template, "tokenizer_config.json": `{"bos_token":"<s>","eos_token":"</s>"}`})
		for _, want := range golden.Rendered {
			v, _ := inputs.Get(want.Case)
			in := chat.Input{Kwargs: jinja.NewMap(), Now: fixedNow}
			for key, v := range v.(*jinja.Map).All() {
				switch key {
				case "messages":
					in.Messages = v
				case "tools":
					in.Tools = v
				case "add_generation_prompt":
					in.AddGenerationPrompt = v == jinja.Bool(true)
				default:
					in.Kwargs.Set(key, v)
				}
			}
			got, err := tmpl.Render(in)
			if (want.Error != nil) != (err != nil) || err == nil && got != want.Output {
				t.Errorf("%s, %s: got %q, %v\nwant %q, error %v", filepath.Base(file), want.Case, got, err, want.Output, want.Error != nil)
			}
		}
	}
}
