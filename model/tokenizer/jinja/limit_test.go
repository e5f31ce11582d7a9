package jinja_test

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"eckart/internal/race"
	"eckart/model/tokenizer/jinja"
)

// TestBadTemplates is row T5 of the table of bad inputs: what a hostile or broken
// template may try. Every case ends in an error, by counting and not by the
// clock, and without much memory.
func TestBadTemplates(t *testing.T) {
	if race.Enabled {
		t.Skip("one goroutine runs into limits")
	}
	huge := strings.Repeat("a", 10<<20)
	cases := []struct {
		name, source string
		limit        bool   // errors.Is ErrLimit
		says         string // part of the message
	}{
		{"T5 infinite for", "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}", true, "steps"},
		{"T5 infinite for with text", "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", true, ""},
		{"T5 endless recursive loop", "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", true, "deep"},
		{"T5 doubling recursive loop", "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}", true, ""},
		{"T5 range(10**9)", "{{ range(10**9)|list }}", true, "range"},
		{"T5 range(10**30)", "{% for i in range(10**30) %}{% endfor %}", true, "range"},
		{"T5 text times 10**9", "{{ 'a' * 10**9 }}", true, "bytes"},
		{"T5 text times 10**30", "{{ 'a' * 10**30 }}", false, "index-sized"},
		{"T5 list times 10**9", "{{ [1] * 10**9 }}", true, "bytes"},
		{"T5 empty list times 10**18", "{{ ([[]] * 10**6) * 10**12 }}", true, "bytes"},
		{"T5 doubling text", "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", true, "bytes"},
		{"T5 doubling list", "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", true, "bytes"},
		{"T5 shared lists printed", "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}", true, ""},
		{"T5 shared lists compared", "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}", true, "steps"},
		{"T5 shared lists as JSON", "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}", true, ""},
		{"T5 shared tuples as key", "{% set ns = namespace(s=(1,)) %}{% for i in range(99) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ {ns.s: 1} }}", true, ""},
		{"T5 deep list", "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}", true, "deep"},
		{"T5 power", "{{ 10 ** (10 ** 9) }}", true, "bits"},
		{"T5 factorial", "{% set ns = namespace(n=1) %}{% for i in range(1, 99999) %}{% set ns.n = ns.n * i %}{% endfor %}", true, "bits"},
		{"T5 macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", true, "deep"},
		{"T5 macro that calls itself twice", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", true, "deep"},
		{"T5 macros that call one another", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", true, "deep"},
		{"T5 caller that calls its macro", "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}", true, "deep"},
		{"T5 template of 10 MB", huge, true, "bytes"},
		{"T5 brackets 3 million deep", "{{" + strings.Repeat("(", 1<<19), true, "deep"},
		{"T5 brackets deep", "{{ " + strings.Repeat("(", 1<<19) + " }}", true, "deep"},
		{"T5 lists deep", "{{ " + strings.Repeat("[", 1<<19) + " }}", true, "deep"},
		{"T5 not deep", "{{ " + strings.Repeat("not ", 1<<17) + "x }}", true, "deep"},
		{"T5 minus deep", "{{ " + strings.Repeat("-", 1<<19) + "x }}", true, "deep"},
		{"T5 conditions deep", "{{ " + strings.Repeat("a if b else ", 1<<16) + "x }}", true, "deep"},
		{"T5 blocks deep", strings.Repeat("{% if x %}", 1<<16), true, "deep"},
		{"T5 sum long", "{{ 1" + strings.Repeat("+1", 1<<18) + " }}", true, "operations"},
		{"T5 attributes long", "{{ x" + strings.Repeat(".y", 1<<18) + " }}", true, "operations"},
		{"T5 filters long", "{{ x" + strings.Repeat("|e", 1<<18) + " }}", true, "operations"},
		{"T5 calls long", "{{ x" + strings.Repeat("()", 1<<18) + " }}", true, "operations"},
		{"T5 elif with many names", "{% if x %}" + elifs(20000) + "{% endif %}", true, "lookups"},
		{"T5 wide center", "{{ 'a'.center(10**9) }}", true, "bytes"},
		{"T5 wide zfill", "{{ 'a'.zfill(10**9) }}", true, "bytes"},
		{"T5 wide ljust", "{{ 'a'.ljust(10**12) }}", true, "bytes"},
		{"T5 wide filter center", "{{ 'a'|center(10**9) }}", true, "bytes"},
		{"T5 wide indent", "{{ 'a\nb'|indent(10**9) }}", true, "bytes"},
		{"T5 wide tabs", "{{ ('\t' * 1000).expandtabs(10**9) }}", true, "bytes"},
		{"T5 wide percent", "{{ '%1000000000d' % 1 }}", true, "bytes"},
		{"T5 wide percent star", "{{ '%*d' % (10**9, 1) }}", true, "bytes"},
		{"T5 precise percent", "{{ '%.1000000000d' % 1 }}", true, "bytes"},
		{"T5 wide format", "{{ '{:1000000000}'.format(1) }}", true, "bytes"},
		{"T5 wide format of groups", "{{ '{:01000000000,}'.format(1) }}", true, "bytes"},
		{"T5 wide JSON", "{{ [1]|tojson(indent=10**9) }}", true, "bytes"},
		{"T5 batch fill", "{{ [1]|batch(10**9, 'x')|list }}", true, "batch"},
		{"T5 slices", "{{ [1]|slice(10**12)|list }}", true, ""},
		{"T5 replace nothing", "{{ ('a' * 10**6).replace('', 'b' * 10**6) }}", true, "bytes"},
		{"T5 filter replace nothing", "{{ ('a' * 10**6)|replace('', 'b' * 10**6) }}", true, "bytes"},
		{"T5 join", "{{ ('b' * 10**6).join(['a'] * 10**6) }}", true, "bytes"},
		{"T5 split", "{% for i in range(99999) %}{% set x = ('a ' * 10**6).split() %}{% endfor %}", true, "bytes"},
		{"T5 output", "{% set s = 'a' * 10**6 %}{% for i in range(99999) %}{{ s }}{% endfor %}", true, "output"},
		{"T5 captured output", "{% set s = 'a' * 10**6 %}{% set t %}{% for i in range(99999) %}{{ s }}{% endfor %}{% endset %}", true, "bytes"},
		{"T5 search", "{% set s = 'a' * 10**6 %}{% for i in range(99999) %}{% set x = 'b' in s %}{% endfor %}", true, "steps"},
		{"T5 strip", "{{ ('a' * 10**6).strip('b' * 10**6 ~ 'a') ~ ('a' * 10**6).strip('a' * 10**8) }}", true, ""},
		{"T5 sort", "{{ range(99999)|map('string')|sort|length * (range(99999)|list|sort|length) * (range(99999)|list * 99)|sort|length }}", true, ""},
		{"T5 hyphens to wrap", "{{ ('-' * 10**6)|wordwrap(5)|length }}{{ ('-' * 10**7)|wordwrap(5)|length }}", true, ""},
		{"T5 tower of filters", "{% set ns = namespace(g=[1]) %}{% for i in range(99999) %}{% set ns.g = ns.g|map('string') %}{% endfor %}{{ ns.g|list }}", true, "deep"},
		{"T5 names behind a false condition", nested("{% if false %}" + elifs(300) + "{% endif %}"), true, "steps"},
		{"T5 prints of nothing", nested(strings.Repeat("{{ '' }}", 1<<12)), true, "steps"},
		{"T5 sums of nothing", nested("{% set x = ''" + strings.Repeat("~''", 1<<12) + " %}"), true, "steps"},
		{"T5 targets", nested("{% with a = 1" + strings.Repeat(", a = 1", 1<<12) + " %}{% endwith %}"), true, "steps"},
		{"T5 long key", "{% set k = 'k' * 10**6 %}{% set d = {k: 1} %}" + nested("{% set x = d[k] %}"), true, "steps"},
		{"T5 tuple key", "{% set k = (1,) * 10**4 %}{% set d = {k: 1} %}" + nested("{% set x = k in d %}"), true, "steps"},
		{"T5 long division", "{% set a = 3**30000 %}{% set b = 7**17000 %}" + nested("{% set x = b / a %}"), true, "steps"},
		{"T5 long integer printed", "{% set a = 3**9000 %}" + nested("{% set x = a|string|length %}"), true, "steps"},
		{"T5 long format", "{% set a = '%' ~ '-' * 10**6 ~ 'd' %}" + nested("{% set x = a % 1 %}"), true, "steps"},
		{"T5 long set to strip", "{% set a = 'b' * 10**6 %}" + nested("{% set x = 'a'.strip(a) %}"), true, "steps"},
		{"T5 many arguments by name", "{% macro m(" + params(900, "p", "=0, ") + "z=1) %}{% endmacro %}{% set d = {" + params(900, "'p", "': 1, ") + "} %}" + nested("{% set x = m(**d) %}"), true, "steps"},
		{"T5 too many arguments", "{{ f(" + strings.Repeat("1, ", 5000) + ") }}", true, "arguments"},
		{"T5 too many parameters", "{% macro m(" + params(5000, "p", ", ") + ") %}{% endmacro %}", true, "parameters"},
		{"T5 scoped blocks", "{% set a = 1 %}" + nested("{% block b scoped %}{% endblock %}"), true, "steps"},
		{"T5 include", "{% include '/etc/passwd' %}", false, "refused"},
		{"T5 import", "{% import 'os' as os %}", false, "refused"},
		{"T5 from", "{% from 'os' import system %}", false, "refused"},
		{"T5 extends", "{% extends 'base' %}", false, "refused"},
		{"T5 class", "{{ ''.__class__ }}", false, "unsafe"},
		{"T5 class chain", "{{ ''.__class__.__mro__[1].__subclasses__() }}", false, "unsafe"},
		{"T5 class by item", "{{ ''['__class__'] }}", false, "unsafe"},
		{"T5 class by attr", "{{ ''|attr('__class__') }}", false, "unsafe"},
		{"T5 class by map", "{{ ['']|map(attribute='__class__')|list }}", false, "unsafe"},
		{"T5 class by format", "{{ '{0.__class__}'.format('') }}", false, "unsafe"},
		{"T5 globals of a function", "{{ range.__globals__ }}", false, "unsafe"},
		{"T5 globals of a macro", "{% macro m() %}{% endmacro %}{{ m.__globals__ }}", false, "unsafe"},
		{"T5 namespace internals", "{{ namespace.__init__.__globals__ }}", false, "unsafe"},
		{"T5 append", "{{ [].append(1) }}", false, "unsafe"},
		{"T5 update", "{{ {}.update(a=1) }}", false, "unsafe"},
		{"T5 raise_exception", "{{ raise_exception('roles must alternate') }}", false, "roles must alternate"},
		{"T5 unknown filter", "{{ 'a'|nosuch }}", false, "no filter named 'nosuch'"},
		{"T5 unknown test", "{{ 'a' is nosuch }}", false, "no test named 'nosuch'"},
		{"T5 unknown tag", "{% nosuch %}", false, "unknown tag 'nosuch'"},
		{"T5 unclosed block", "a\n{% if x %}", false, "line 2: close the 'if' block"},
		{"T5 text that is not UTF-8", "a\xff", false, "UTF-8"},
		{"T5 random", "{{ [1]|random }}", false, "random"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out, err := render(c.source, jinja.NewMap())
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("rendered %d bytes", len(out))
			}
			if c.limit != errors.Is(err, jinja.ErrLimit) {
				t.Errorf("limit %v: %v", !c.limit, err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is no short sentence: %q", err)
			}
			// All that was ever allocated, freed or not: the 64 MiB of values, and what
			// they take beside their bytes.
			if got := after.TotalAlloc - before.TotalAlloc; got > 256<<20 {
				t.Errorf("allocated %d MiB", got>>20)
			}
		})
	}
}

// nested repeats a body more often than any limit allows.
func nested(body string) string {
	return "{% for i in range(99999) %}{% for j in range(99999) %}" + body + "{% endfor %}{% endfor %}"
}

// params writes numbered names, letters only, between a prefix and a separator.
func params(n int, prefix, after string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(prefix)
		for j := i + 1; j > 0; j /= 26 {
			b.WriteByte(byte('a' + j%26))
		}
		b.WriteString(after)
	}
	return b.String()
}

// elifs makes branches that set a name each.
func elifs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("{% elif a %}{% set x")
		for ; i > 0; i /= 26 {
			b.WriteByte(byte('a' + i%26))
		}
		b.WriteString(" = 1 %}")
	}
	return b.String()
}

func TestRaisedError(t *testing.T) {
	_, err := render("a\n{{ raise_exception('only \"user\" may speak') }}", jinja.NewMap())
	var raised *jinja.RaisedError
	if !errors.As(err, &raised) {
		t.Fatalf("got %v, want a RaisedError", err)
	}
	if raised.Message != `only "user" may speak` {
		t.Errorf("message %q", raised.Message)
	}
	if errors.Is(err, jinja.ErrLimit) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v", err)
	}
}

func TestOptionsLimits(t *testing.T) {
	tmpl, err := jinja.Parse("{% for i in range(100) %}{{ 'a' * 10 }}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := tmpl.Render(nil, jinja.Options{}); err != nil || len(out) != 1000 {
		t.Fatalf("got %d bytes, %v", len(out), err)
	}
	for name, o := range map[string]jinja.Options{
		"steps":  {MaxSteps: 100},
		"output": {MaxOutput: 999},
		"bytes":  {MaxBytes: 999},
	} {
		if _, err := tmpl.Render(nil, o); !errors.Is(err, jinja.ErrLimit) {
			t.Errorf("%s: got %v, want ErrLimit", name, err)
		}
	}
	if _, err := tmpl.Render(nil, jinja.Options{MaxOutput: 1000}); err != nil {
		t.Errorf("output of exactly the limit: %v", err)
	}
}

// TestConcurrentRenders renders one template from many goroutines over shared
// values; the race detector watches.
func TestConcurrentRenders(t *testing.T) {
	_, vars := readProbes(t)
	tmpl, err := jinja.Parse(typical)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tmpl.Render(vars, jinja.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if got, err := tmpl.Render(vars, jinja.Options{}); err != nil || got != want {
					t.Errorf("got %q, %v", got, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// typical does what published chat templates do.
const typical = `{%- macro tool(t) -%}
{{ t.function.name }}({% for k, v in t.function.arguments.items() %}{{ k }}={{ v|tojson }}{{ ", " if not loop.last }}{% endfor %})
{%- endmacro -%}
{%- set ns = namespace(tools=0) -%}
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- for message in rest %}
    {%- if message.content is string %}
        {%- set content = message.content|trim %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + content }}
    {%- if message.tool_calls %}
        {%- for t in message.tool_calls %}
            {%- set ns.tools = ns.tools + 1 %}
            {{- '\n<tool_call>' ~ tool(t) ~ '</tool_call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
`

func BenchmarkRender(b *testing.B) {
	_, vars := readProbes(b)
	tmpl, err := jinja.Parse(typical)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.Render(vars, jinja.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		if _, err := jinja.Parse(typical); err != nil {
			b.Fatal(err)
		}
	}
}
