"""Renders small templates with jinja2, set up as transformers sets it up, and
writes what they print, or the error they raise, to probes.json.

    python -m venv venv && venv/bin/pip install jinja2==3.1.6
    venv/bin/python generate.py
"""

import copy
import json
import os
from datetime import datetime

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.runtime
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"refused name {name!r}")


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime(2026, 1, 2, 3, 4, 5, 678901).strftime(f)
    env.globals["dict"] = Dict()
    env.globals["namespace"] = Namespace
    # JSON has no such numbers, and jinja2 cannot compile them as constants.
    env.globals["inf"], env.globals["nan"] = float("inf"), float("nan")
    return env


VARS = {
    "t": True,
    "f": False,
    "n": None,
    "i": 42,
    "neg": -7,
    "big": 123456789012345678901234567890,
    "x": 3.5,
    "s": "Hello World",
    "u": "Grüße, 日本語 🙂 ß",
    "quotes": "it's \"q\" \\ \n\t\x01\u200b",
    "html": "<a href='x'>B & \"C\"</a>",
    "words": "the quick brown-fox  jumps\tover the lazy dog",
    "lines": "one\ntwo\n\nthree  \n",
    "l": [3, 1, 2],
    "names": ["bob", "Alice", "carol", "Bob"],
    "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "empty": [],
    "d": {"b": 1, "a": 2, "C": 3},
    "nested": {"list": [{"x": 1}, {"x": 2}], "items": "shadowed", "update": 5, "text": "T"},
    "users": [
        {"name": "Zed", "age": 30, "city": {"n": "Rome"}, "ok": True},
        {"name": "amy", "age": 25, "city": {"n": "Oslo"}, "ok": False},
        {"name": "Bo", "age": 30, "city": {"n": "rome"}},
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi\n"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"q": "é", "n": 1}}}]},
        {"role": "tool", "content": "[1, 2]"},
    ],
}

# Each line is an expression, to be printed.
EXPRESSIONS = r"""
i
-i
+i
i + 1
i - 50
i * 2
i / 4
i // 5
neg // 2
neg % 3
7 % -3
-7 // 2
7.5 // 2
-7.5 // 2
-7.5 % 2
7.5 % -2
6 / 3
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
2 ** 100
big
big + 1
big * big
-big
big // 7
big % 1000
big / 10
9223372036854775807 + 1
-9223372036854775808 - 1
9223372036854775807 * 2
3000000000 * 3000000000
1 / 0
1 // 0
1 % 0
1.0 / 0
0 ** -1
0 ** 0
1e308 * 10
1e16
1e15
123456789.123
1e-5
0.0001
1.0
-0.0
0.1 + 0.2
1e400
5e-324
1_000
0x1F
0o17
0b101
0XfF
1_0.5_0
1e+3
t + 1
t * 3
t / 2
-t
not t
not n
not not s
t and f
f or 'x'
n or s
s and i
1 and 0 or 2
i == 42
i == 42.0
1 == true
1.0 == true
'a' == 'a'
'a' == 1
n == none
l == [3, 1, 2]
(1, 2) == (1, 2)
(1, 2) == [1, 2]
d == {'a': 2, 'b': 1, 'C': 3}
{'a': 1} != {'a': 1.0}
1 < 2 < 3
1 < 3 < 2
1 < 2 > 1
1 == 1.0 == true
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
(1, 2) < (1, 2, 3)
1 < 'a'
n < 1
[1] < (1,)
d < d
big > 1e29
big == 123456789012345678901234567890
1 in l
4 not in l
'ell' in s
'' in s
1 in s
'a' in d
1 in d
[1] in d
'x' in undefinedvar
i in range(50)
2.0 in l
(1 in [1]) in [true]
not 1 in l
s ~ i ~ n ~ t ~ x
s + '!'
s + 1
1 + s
s * 2
2 * s
s * -1
s * 1.5
l + [4]
l + (4,)
l * 2
[0] * 3
(1, 2) + (3,)
(1,) * 2
l - 1
d + d
s - 'x'
s / 2
n + 1
'a' 'b' 'c'
'a' "b"
'a' ~ 'b' + 'c'
1 + 2 ~ 3
1 ~ 2 + 3
s[0]
s[-1]
s[100]
s[100] is defined
u[7]
u[-1]
u[7:10]
u[::-1]
s[1:3]
s[:-1]
s[-5:]
s[::2]
s[::-1]
s[3:1]
s[10:0:-3]
s[5::-1]
s[:100]
s[100:]
s[1:2:0]
s[none:2]
s['a':]
s[1.0:]
l[0]
l[-1]
l[3] is defined
l['x'] is defined
l[1.0] is defined
l[true]
l[::-1]
l[1:]
l[:1]
l[-2:]
(1, 2, 3)[1:]
(1, 2, 3)[::-1]
range(10)[2:8:2]
range(10)[::-1]
range(10)[3]
range(5)
range(1, 10, 3)
range(5)|list
range(5, 0, -2)|list
range(0)|list
range(1, 5)|last
range(1, 5)|length
range(3) == range(0, 3)
range(0, 5, 2) == range(0, 6, 2)
range(1.5)
range()
range(1, 2, 0)
d.a
d['a']
d.zzz is defined
d.zzz
d.zzz.yyy
d['zzz']['yyy']
undefinedvar
undefinedvar.x
undefinedvar['x']
undefinedvar()
undefinedvar + 1
undefinedvar ~ 'a'
-undefinedvar
undefinedvar == undefinedother
undefinedvar == none
undefinedvar < 1
undefinedvar|length
undefinedvar|list
undefinedvar|upper
undefinedvar|int
undefinedvar|float
undefinedvar|join(',')
undefinedvar|first
undefinedvar|last
undefinedvar|tojson
undefinedvar|string
undefinedvar|items|list
undefinedvar|map('upper')|list
undefinedvar|sort
undefinedvar|sum
undefinedvar|trim
undefinedvar|replace('a', 'b')
undefinedvar|default('x')
undefinedvar|d
undefinedvar is sequence
undefinedvar is iterable
undefinedvar is mapping
undefinedvar is callable
undefinedvar is string
undefinedvar is none
undefinedvar is undefined
undefinedvar is not defined
undefinedvar in [1, undefinedother]
{undefinedvar: 1}
[undefinedvar]
'%s|' % undefinedvar
'{}|'.format(undefinedvar)
undefinedvar[1:]
none.foo
none.foo.bar
none[0]
i.foo
i.real
i.bit_length()
x.is_integer()
(2.0).is_integer()
i.denominator
nested.items
nested['items']
nested.text
nested.update
nested.update is defined
nested.list[0].x
nested.list.0.x
nested['list'][1]['x']
d.items()
d.items()|list
d.keys()
d.values()
d.keys()|list
d.values()|list|sort
d.items()|length
d.items()[0] is defined
d.items()|first
d.items()|last
d.keys() is sequence
d.items() is iterable
d.keys() is mapping
'a' in d.keys()
('a', 2) in d.items()
2 in d.values()
d.get('a')
d.get('zzz')
d.get('zzz', 5)
d.get('a', default=5)
d.get([1])
d.get()
d.copy()
d.pop('a')
d.pop is defined
d.update({'z': 1})
d.setdefault('a', 1)
d.clear()
d.fromkeys(['x'], 1)
dict(a=1, b=2)
dict([('a', 1), ('b', 2)])
dict({'a': 1}, b=2)
dict([[1, 2]], **{'k': 3})
dict([1])
dict.fromkeys('ab')
dict.fromkeys('ab', 0)
dict.nothing is defined
dict(a=1).__class__ is defined
l.append(4)
l.append is defined
l.pop()
l.sort()
l.count(1)
l.index(2)
l.index(9)
l.copy()
l.insert(0, 1)
(1, 2, 1).count(1)
(1, 2).index(2)
''.__class__.__mro__
[].__class__.__bases__[0]
s.__init__.__globals__
d.__getattribute__('x')
range.__call__(3)
namespace.__init__.__globals__
{}
{'a': 1, 2: 'b', none: true, 1.5: [], (1, 2): 3}
{1: 'a', true: 'b', 1.0: 'c'}
{'a': 1, 'a': 2}
{[1]: 2}
{'x': 1,}
[1, 2,]
[]
()
(1,)
(1, 2,)
1, 2
(i)
[[1, 'a'], {'k': (1, none)}]
mixed
quotes
[quotes]
['it\'s']
["a\"b"]
["a'b\"c"]
['\x00\x1f\x7f\xa0\u00ad\u2028\ufeff']
['é日🙂\U000e0001']
['\\']
u
[u]
[1.0, -0.0, 1e22, 0.1]
[true, none]
'\n\t\\\'\"\a\b\f\v\r\0'|tojson
'\x41\u0042\U00000043\103'
'\q'
'a\
b'
"\é"
s if t else 'no'
s if f else 'no'
'a' if f
('a' if f) is defined
('a' if f) ~ 'x'
'a' if f else 'b' if f else 'c'
('a' if t else 'b') ~ 'c'
'a' if t else 'b' ~ 'c'
1 if t else 2 + 3
-1 if i > 3 else 1
i is defined
i is number
t is number
x is float
i is integer
t is integer
t is boolean
1 is boolean
n is none
n is not none
s is string
l is string
l is sequence
s is sequence
d is sequence
i is sequence
l is iterable
i is iterable
s is iterable
d is mapping
l is mapping
range(3) is sequence
range(3) is iterable
3 is odd
4 is odd
4 is even
-3 is odd
2.0 is even
'a' is odd
9 is divisibleby(3)
9 is divisibleby 4
9 is divisibleby 0
i is eq(42)
i is equalto 42
i is ne 42
i is gt 41
i is ge 42
i is lt 41
i is le 42
i is lessthan 50
i is greaterthan 50
1 is in l
1 is in [2]
1 is not in [2]
'a' is in 'abc'
'abc' is lower
'ABC' is upper
'aBC' is upper
'' is lower
'1' is upper
t is true
1 is true
f is false
0 is false
n is sameas none
t is sameas true
1 is sameas true
l is sameas l
[1] is sameas [1]
range is callable
i is callable
dict is callable
'upper' is filter
'nope' is filter
'odd' is test
'nope' is test
(s|escape) is escaped
s is escaped
not i is odd
i is even and i > 40
i is even or fail.x
i is not odd and t
s is defined and s is string and s|length > 3
i is nosuchtest
i|nosuchfilter
i|abs
neg|abs
-2.5|abs
(-2.5)|abs
s|abs
t|abs
d|attr('keys')
d|attr('a') is defined
s|attr('upper')
s|attr('upper') is defined
l|batch(2)|list
l|batch(2, 'x')|list
range(7)|batch(3)|map('list')|list
range(7)|slice(3)|list
range(7)|slice(3, 'x')|list
l|slice(0)|list
s|capitalize
'ßa'|capitalize
u|capitalize
'éA'|capitalize
s|center(20) ~ '|'
s|center(4)
'ab'|center(5) ~ '|'
'abc'|center(6) ~ '|'
s|center|length
l|count
s|length
u|length
d|length
i|length
n|default('x')
n|default('x', true)
''|default('x')
''|default('x', true)
''|default('x', boolean=true)
0|d(5, true)
undefinedvar|default
undefinedvar|default(default_value='z')
d.zz|default('x')
d.zz.yy|default('x')
d|dictsort
d|dictsort(true)
d|dictsort(false, 'value')
d|dictsort(by='value', reverse=true)
d|dictsort(reverse=true)
d|dictsort(by='nope')
l|dictsort
html|e
html|escape
html|escape|escape
html|forceescape
html|escape|forceescape
html|safe
(html|safe) ~ '<'
(html|safe) + '<'
'<' + (html|safe)
(html|escape) ~ html
('<b>'|safe)|upper
('<b>'|safe) * 2
('<b>%s</b>'|safe) % '<i>'
('<b>%s %d</b>'|safe)|format('<i>', 5)
('<b>{}</b>'|safe).format('<i>')
(', '|safe).join(['<', '>'|safe])
('<b>'|safe).replace('b', '<')
('<b>'|safe)[0]
[('<b>'|safe)]
('<b>'|safe)|tojson
('<b>'|safe)|length
('a b'|safe).split()
('<b>'|safe) == '<b>'
('<b>'|safe) is string
1|filesizeformat
0|filesizeformat
100|filesizeformat
1000|filesizeformat
1500000|filesizeformat
1024|filesizeformat(true)
1500000|filesizeformat(binary=true)
1e30|filesizeformat
'1234'|filesizeformat
'x'|filesizeformat
l|first
empty|first
empty|first is defined
s|first
d|first
n|first
l|last
empty|last
s|last
d|last
i|last
'3.7'|float
'abc'|float
'abc'|float(1.5)
'abc'|float(default=2)
'1e3'|float
' 1.5 '|float
'1_0.5'|float
'inf'|float
'-nan'|float
n|float
t|float
i|float
[1]|float
'%s-%d'|format('a', 5)
'%(a)s'|format(a=1)
'%s'|format(1, a=2)
'%5.2f|'|format(3.14159)
users|groupby('age')
users|groupby('city.n')
users|groupby('city.n')|map(attribute='grouper')|list
users|groupby('city.n', case_sensitive=true)|map('first')|list
users|groupby('ok', default=false)|map('first')|list
(users|groupby('age')|first).list|length
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, true, true)
lines|indent('> ')
lines|indent(width=1, first=true)
lines|indent(0)
''|indent(first=true)
i|indent
'42'|int
'42.9'|int
'abc'|int
'abc'|int(-1)
'0x1F'|int(base=16)
'1F'|int(0, 16)
'0b11'|int(base=2)
'0o17'|int(base=8)
'z'|int(base=36)
'10'|int(base=0)
'0x10'|int(base=0)
'010'|int(base=0)
'1_000'|int
'1__0'|int
' 12 '|int
'-5'|int
'+5'|int
'- 5'|int
''|int
'1e3'|int
'inf'|int
3.99|int
-3.99|int
1e300|int
n|int
n|int(default=7)
t|int
l|int
'99999999999999999999'|int
d|items|list
d|items
i|items|list
l|join
l|join(', ')
l|join(d='-')
users|join(', ', attribute='name')
users|join(', ', 'city.n')
mixed|join('|')
s|join('-')
d|join(',')
n|join
i|join
l|join(1)
s|list
d|list
l|list
n|list
s|lower
s|upper
u|upper
u|lower
'ΑΣ'|lower
'ǆ'|upper
'ﬁ'|upper
'İ'|lower
i|upper
n|lower
l|map('string')|list
names|map('upper')|join(' ')
names|map('replace', 'o', '0')|list
users|map(attribute='name')|list
users|map(attribute='city.n')|list
users|map(attribute='zz', default='?')|list
users|map(attribute='ok')|list
users|map(attribute='ok')|map('default', 'none')|list
[[1, 2], [3, 4]]|map(attribute=0)|list
[[1, 2], [3, 4]]|map(attribute='1')|list
[[1, 2], [3, 4]]|map('sum')|list
l|map
l|map('nosuch')|list
l|map(attribute='x', nope=1)|list
l|map('nosuch') is iterable
(l|map('string')) is sequence
(l|map('string'))|length
'yes' if []|map('upper') else 'no'
l|max
l|min
names|max
names|min
names|max(case_sensitive=true)
names|min(case_sensitive=true)
users|max(attribute='age')
users|min(attribute='name')
empty|max is defined
mixed|max
n|max
[1, 2, 3, 4]|select('odd')|list
[1, 2, 3, 4]|reject('odd')|list
[1, 2, 3, 4]|select('gt', 2)|list
[0, 1, '', 'a', none]|select|list
[0, 1, '', 'a', none]|reject|list
[1, 2, 3]|select('in', [2, 3])|list
[1]|select('nosuch')|list
users|selectattr('ok')|map(attribute='name')|list
users|rejectattr('ok')|map(attribute='name')|list
users|selectattr('ok', 'defined')|map(attribute='name')|list
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list
users|selectattr('age', '==', 30)|list|length
users|selectattr('age', '>=', 26)|map(attribute='name')|join(',')
users|rejectattr('city.n', 'eq', 'Rome')|map(attribute='name')|list
users|selectattr|list
messages|selectattr('role', 'equalto', 'user')|list
messages|selectattr('content', 'none')|map(attribute='role')|list
messages|rejectattr('role', 'in', ['system', 'tool'])|map(attribute='role')|list
'x' if messages|selectattr('role', 'equalto', 'nobody') else 'y'
messages|selectattr('role', 'equalto', 'nobody')|list|length
s|replace('l', 'L')
s|replace('l', 'L', 1)
s|replace('l', 'L', count=2)
s|replace('', '-')
s|replace('', '-', 3)
s|replace('zz', 'y')
i|replace(4, 5)
'aaa'|replace('aa', 'b')
s|reverse
u|reverse
l|reverse|list
d|reverse|list
d.items()|reverse|list
(1, 2)|reverse|list
l|map('string')|reverse|list
i|reverse
42.55|round
42.55|round(1)
42.55|round(1, 'floor')
42.55|round(1, 'ceil')
2.5|round
3.5|round
-2.5|round
2.675|round(2)
0.5|round
1234.5|round(-2)
1250|round(-2)
1350|round(-2)
-1250|round(-2)
42|round
42|round(0, 'floor')
42|round(2, 'ceil')
42.3|round|int
42.3|round(method='ceil')|int
1e300|round(2)
1.5|round('x')
1.5|round(0, 'nope')
s|round
1.15|round(1)
1e22|round(-20)
5.015|round(2)
l|sort
l|sort(true)
l|sort(reverse=true)
names|sort
names|sort(case_sensitive=true)
names|sort(true)
users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='age,name')|map(attribute='name')|list
users|sort(attribute='age', reverse=true)|map(attribute='name')|list
users|sort(attribute='city.n')|map(attribute='name')|list
mixed|sort
s|sort
d|sort
[[2, 1], [1, 2], [1, 1]]|sort
[(1, 'b'), (1, 'a')]|sort
[true, 0, 2.5, -1]|sort
n|sort
i|string
n|string
t|string ~ x|string
d|string
'<b>x</b>  y\n z <!-- c --> &amp; &lt;'|striptags
l|sum
l|sum(start=10)
users|sum(attribute='age')
users|sum('age', 5)
[[1], [2]]|sum(start=[])
['a']|sum
[1.5, 2]|sum
['a']|sum(start='')
'hello wORLD foo-bar (baz) [q] {x} <y>'|title
"it's o'neil"|title
u|title
'1a 2B'|title
'  x  '|trim ~ '|'
'xxaxx'|trim('x')
'xyaxy'|trim('xy')
'\u00a0 a\u2003'|trim
'\u200b a'|trim|length
'\x1c a \x1f'|trim
i|trim
n|trim
'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(9, true)
'foo bar baz qux'|truncate(11)
'foo bar baz qux'|truncate(11, false, '...', 0)
'foo bar baz qux'|truncate(11, end='~', leeway=0)
'foo bar baz qux'|truncate(2)
'日本語日本語日本語'|truncate(4, true, '…', 0)
names|unique|list
names|unique(true)|list
users|unique(attribute='age')|map(attribute='name')|list
[1, 1.0, true, '1']|unique|list
[[1], [1]]|unique|list
'hello world & co/é?'|urlencode
d|urlencode
{'a b': 'c&d/é', 'x': 1}|urlencode
[('a', 1), ('b', 2)]|urlencode
i|urlencode
words|wordcount
u|wordcount
'a_b-c d'|wordcount
words|wordwrap(10)
words|wordwrap(12, wrapstring='|')
'averyveryverylongword short'|wordwrap(8)
'averyveryverylongword short'|wordwrap(8, false)
'well-known-word-with-hyphens and more'|wordwrap(12)
'well-known-word-with-hyphens and more'|wordwrap(12, break_on_hyphens=false)
'a -- b--c word--another thing'|wordwrap(9)
'line one is long\nline two'|wordwrap(8)
'   lead and trail   '|wordwrap(6)
'x'|wordwrap(0)
'ab-cd ef1-gh 12-34 a-b-c-d'|wordwrap(5)
{'class': 'a b', 'id': none, 'x': '<'}|xmlattr
{'class': 'a'}|xmlattr(false)
{}|xmlattr
{'a b': 1}|xmlattr
{'n': 1, 'u': undefinedvar}|xmlattr
d|tojson
mixed|tojson
u|tojson
quotes|tojson
html|tojson
u|tojson(ensure_ascii=true)
'\x7f\ud7ff\u2028'|tojson
'\x7f\u2028🙂'|tojson(ensure_ascii=true)
d|tojson(indent=2)
nested|tojson(indent=4)
nested|tojson(2)
nested|tojson(ensure_ascii=false, indent=1)
mixed|tojson(indent=0)
mixed|tojson(indent='--')
mixed|tojson(indent=-1)
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}]|tojson(indent=2)
d|tojson(separators=(',', ':'))
mixed|tojson(separators=(', ', ': '), indent=2)
d|tojson(separators=[',', ':'])
d|tojson(sort_keys=true)
{1: 'a', true: 'b', none: 'c', 2.5: 'd', 'x': 'e'}|tojson
{(1, 2): 3}|tojson
(1, 2)|tojson
1.0|tojson
1e22|tojson
0.1|tojson
big|tojson
t|tojson
n|tojson
'inf'|float|tojson
range(3)|tojson
d.items()|tojson
l|map('string')|tojson
d|tojson|length
'a/b'|tojson
namespace(a=1)|tojson
{'b': {'d': 1, 'c': 2}, 'a': 0}|tojson(sort_keys=true)
{1: 2, 'a': 3}|tojson(sort_keys=true)
s.upper()
s.lower()
s.title()
"they're bill's ǆ"|replace('x', 'y')
"they're bill's".title()
s.capitalize()
s.swapcase()
'ß'.upper()
'Straße'.casefold()
'  a '.strip() ~ '|'
'  a '.lstrip() ~ '|'
'  a '.rstrip() ~ '|'
'xxaxx'.strip('x')
'abcba'.strip('ab')
'a'.strip(none)
'a'.strip(1)
s.startswith('He')
s.startswith(('x', 'H'))
s.startswith('World', 6)
s.startswith('World', 6, 8)
s.startswith('')
s.startswith('', 100)
s.startswith(1)
s.startswith(['H'])
s.endswith('ld')
s.endswith(('ld', 'x'))
s.endswith('Hello', 0, 5)
s.find('o')
s.find('o', 5)
s.find('zz')
s.find('')
s.find('', 100)
s.find('o', -4)
u.find('日')
s.rfind('o')
s.rfind('o', 0, 5)
s.index('W')
s.index('zz')
s.rindex('l')
s.count('l')
s.count('')
s.count('l', 4)
'aaaa'.count('aa')
s.replace('l', 'L')
s.replace('l', 'L', 1)
s.replace('l', 'L', -1)
s.replace('l')
s.replace('', '.')
s.replace(old='l', new='x')
s.replace(1, 2)
s.split()
s.split(' ')
s.split('l')
s.split('l', 1)
s.split(maxsplit=1)
s.split(sep='o', maxsplit=1)
s.split(none, 1)
s.split('')
words.split()
'  a  b  '.split()
'  a  b  '.split(' ')
'  a  b c '.split(none, 1)
'a,b,c'.rsplit(',', 1)
'  a  b c '.rsplit(none, 1)
'a b c'.rsplit()
''.split()
''.split(',')
'a\u00a0b\u3000c'.split()
s.split('World')[-1]
s.partition(' ')
s.partition('zz')
'a.b.c'.rpartition('.')
'abc'.rpartition('.')
s.partition('')
lines.splitlines()
lines.splitlines(true)
lines.splitlines(keepends=true)
'a\r\nb\rc\x0bd\u2028e\x1cf'.splitlines()
''.splitlines()
'\n'.splitlines()
', '.join(names)
', '.join(l)
'-'.join('abc')
'-'.join(d)
''.join(l|map('string'))
'-'.join()
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'abc'.removeprefix('x')
'ab'.center(5, '*')
'ab'.center(5)  ~ '|'
'abc'.center(6, '*')
'ab'.ljust(5, '.')
'ab'.rjust(5, '.')
'ab'.ljust(1)
'ab'.ljust(5, 'xy')
'42'.zfill(5)
'-42'.zfill(5)
'+4'.zfill(1)
'é'.zfill(3)
'a\tb\tcc\td'.expandtabs()
'a\tb'.expandtabs(4)
'a\n\tb'.expandtabs(4)
'abc'.isalpha()
'ab1'.isalpha()
''.isalpha()
'123'.isdigit()
'²'.isdigit()
'²'.isdecimal()
'½'.isnumeric()
'½'.isdigit()
'a1'.isalnum()
' \t'.isspace()
'abc'.islower()
'ABC1'.isupper()
'Hello World'.istitle()
'Hello world'.istitle()
'a_1'.isidentifier()
'1a'.isidentifier()
'é'.isascii()
''.isascii()
'a\n'.isprintable()
''.isprintable()
'日本'.isalpha()
s.nosuch
s.nosuch()
s.upper
s.upper is callable
s.format_map({'a': 1})
'{a}{b}'.format_map({'a': 1, 'b': 2})
'{} {}'.format(1, 'a')
'{0} {1} {0}'.format('a', 'b')
'{a} {b}'.format(a=1, b='x')
'{} {0}'.format(1)
'{'.format()
'}'.format()
'{{}}'.format()
'{}'.format()
'{x}'.format()
'{!r} {!s} {!a}'.format('é', 'é', 'é')
'{!z}'.format(1)
'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')
'{:*^7}'.format('x')
'{:5}|{:5}|'.format('a', 1)
'{:05d}|{:+d}|{: d}|{:-d}'.format(42, 42, 42, 42)
'{:x} {:X} {:o} {:b} {:#x} {:#b} {:#o}'.format(255, 255, 8, 5, 255, 5, 8)
'{:,} {:_} {:,.2f}'.format(1234567, 1234567, 1234567.891)
'{:010,}|{:012,.1f}|{:_x}'.format(1234, 1234.5, 1048575)
'{:.3}|{:.2s}|{:10.3}|'.format('abcdef', 'xyz', 'abcdef')
'{:.2f} {:.0f} {:e} {:.3e} {:g} {:.3g} {:G}'.format(3.14159, 2.5, 12345.678, 0.00012, 1e10, 123456.0, 1e-10)
'{:.1%} {:%}'.format(0.256, 1)
'{:.3} {:.10} {:} {:5.1f}|'.format(3.14159, 1e20, 2.0, 2.25)
'{:.3}'.format(1234.5)
'{:.2}'.format(10.0)
'{:c}'.format(65)
'{:d}'.format(3.5)
'{:d}'.format('a')
'{:s}'.format(1)
'{:.2d}'.format(1)
'{:=+6d}|{:0<5}|{:x<+6}'.format(5, 3, 4)
'{:05}|{:05}'.format('a', -3)
'{:>{w}}|{:{f}>5}'.format('a', 'b', w=4, f='*')
'{0[a]} {0.b} {1[0]}'.format(d, l)
'{0[C]}'.format(d)
'{0.__class__.__mro__}'.format(s)
'{0.zz}|'.format(d)
'{}'.format(none)
'{:5}'.format(none)
'{} {}'.format(true, [1, 'a'])
'{:5}|{:d}'.format(true, true)
'{:}'.format('a')
'{:n}'.format(1234)
'{:<6}|{:^6}|'.format(3.5, 42)
'{a[b]}'.format(a={'b': 'c'})
'{a[0]}{a[-1]}'.format(a='xyz')
'{:inf}'.format(1)
'{:f} {:F} {:e}'.format(inf, nan, -inf)
'{:#.0f} {:#g}'.format(3.0, 3.0)
'%s' % 'a'
'%s %s' % ('a', 'b')
'%s' % ('a', 'b')
'%s %s' % 'a'
'abc' % 'a'
'abc' % []
'abc' % {}
'abc' % ()
'%s' % l
'%s' % ((1, 2),)
'%d' % 3.99
'%d' % '3'
'%d' % true
'%i %u' % (1, 2)
'%5d|%-5d|%05d|%+d|% d' % (42, 42, 42, 42, 42)
'%x %X %o %#x %#o' % (255, 255, 8, 255, 8)
'%x' % 1.5
'%.3d|%8.3d|%-8.3d|' % (5, 5, 5)
'%e %.2e %E' % (12345.678, 0.00012, 1.5)
'%f %.2f %.0f %10.3f|%-10.1f|' % (3.14159, 2.675, 2.5, 3.14159, 2.0)
'%g %g %g %g' % (100000, 1000000, 0.0001, 0.00001)
'%.3g %G %#g' % (1234.5, 1e-10, 1.0)
'%c%c' % (65, 'é')
'%c' % 'ab'
'%r %a' % ('é', 'é')
'%%' % ()
'%%'
'%5s|%-5s|%.2s|' % ('a', 'b', 'cde')
'%*d|%-*d|%.*f' % (5, 42, 5, 42, 2, 3.14159)
'%(a)s %(b)05d' % {'a': 'x', 'b': 42}
'%(a)s' % {'b': 1}
'%(a)s' % 'x'
'%(a)s %s' % {'a': 1}
'%z' % 1
'%' % 1
'%5' % 1
'%ld' % 5
'%s' % none
'%s' % d
'%s' % 1.0
'%08.2f' % -3.14159
'%+.1e' % 0.0
'%d' % big
'%x' % big
'%f %g %F' % (inf, nan, -inf)
'{} {:.2f} {:>6}'.format(inf, nan, inf)
[inf, -inf, nan]
inf|int
nan|int(5)
inf|tojson
inf > big
nan == nan
nan < 1
inf|round

'%05s|' % 'a'
'%-05d|' % 5
'%+05d|' % 5
'% 05d|' % 5
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%d %b %Y')
strftime_now('%A %a %B %b %j %p %I %y %%')
strftime_now('%-d %-m %-H %e %U %W %w %u %V %G %f')
strftime_now('%c | %x | %X | %D | %F | %T | %R | %r')
strftime_now('%Z%z|%n|%t|')
raise_exception('no: ' ~ i)
raise_exception()
namespace(a=1).a
namespace({'a': 1}, b=2).b
namespace(a=1).zz is defined
namespace(a=1)['a'] is defined
namespace(_a=1)
namespace()
namespace(a=1)
cycler('a', 'b').next()
cycler()
joiner('|')()
loop is defined
caller is defined
varargs is defined
true
True
none
None
false
False
TRUE is defined
i|string|length
i | string | length
(i + 1)|string
-i|abs
i.__str__ is defined and f
1 if 0 else 2 if 0 else 3
[1, 2, 3][1]
{'a': {'b': [1, 2]}}.a.b[1]
'abc'[1]
'a,b'.split(',')[1].upper()
(1, 2)[0]
[[1, 2], [3]]|sum(start=[])|length
'a' in 'abc' and 'z' not in 'abc'
'a' not in 'abc'
not 'a' in 'abc'
f(1) is defined
i()
s()
none()
d()
range(*[1, 4])|list
range(**{})
dict(**d)
dict(*[[(1, 2)]])
dict(a=1, **{'a': 2})
dict(1, 2)
s.split(sep=' ', sep='o')
'%s' % (1,) ~ '%s'
i > 3 and x < 10
i.0
l.0
l.1
l.9 is defined
l[0:2][1]
d['a':'b']
n[1:]
i[1:]
l[1, 2] is defined
{(1, 2): 'x'}[1, 2]
1.5.real
'x'.join(['a'] * 3)
'a' * 3 ~ 'b'
i ~ -1
[i, -i]
[not t]
1 == 2 or 3 == 3
1 -1
1-1
i-1
"{{ nested }}"
'%}' ~ '}}'
{'a':1}['a']
{'a':{'b':1}}['a']['b']
'a'|upper ~ 'b'|upper
('a' ~ 'b')|upper
'a' + 'b'|upper
-1|abs
2 * 3|string
l|first + l|last
l|length > 2
l|length == 3 and t
not l|length
u|upper|lower|capitalize
'α'.upper() ~ 'Ω'.lower()
'ŉ'.upper() ~ 'ΐ'.upper()|length
'ǆ'.title() ~ 'ﬁx'.title()
'ΑΣ ΑΣΑ Σ'.lower()
'ς'.upper().lower()
'A.Σ'.lower()
"""

# Each line is a template; those of several lines are SPECIAL and BLOCKS.
STATEMENTS = r'''
{% if t %}a{% endif %}
{% if f %}a{% elif t %}b{% else %}c{% endif %}
{% if f %}a{% elif n %}b{% else %}c{% endif %}
{% if d %}x{% endif %}{% if empty %}y{% endif %}{% if 0.0 %}z{% endif %}
{% for a in l %}{{ a }},{% endfor %}
{% for a in empty %}x{% else %}none{% endfor %}
{% for a in l %}x{% else %}none{% endfor %}
{% for a in n %}x{% endfor %}
{% for a in i %}x{% endfor %}
{% for a in undefinedvar %}x{% else %}e{% endfor %}
{% for c in u %}[{{ c }}]{% endfor %}
{% for k in d %}{{ k }}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}
{% for k, v in l %}{{ k }}{% endfor %}
{% for a, b in [(1, 2), (3, 4, 5)] %}{{ a }}{% endfor %}
{% for a, b in ['xy', 'zw'] %}{{ a }}-{{ b }} {% endfor %}
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}
{% for a, in [(1,), (2,)] %}{{ a }}{% endfor %}
{% for a in 1, 2, 3 %}{{ a }}{% endfor %}
{% for a in [1, 2] + [3] %}{{ a }}{% endfor %}
{% for a in range(10) if a is odd %}{{ a }}{% endfor %}
{% for a in range(10) if a > 20 %}{{ a }}{% else %}none{% endfor %}
{% for a in range(6) if a is even %}{{ loop.index }}/{{ loop.length }}:{{ a }}{{ ',' if not loop.last }}{% endfor %}
{% for a in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}|{% endfor %}
{% for a in l %}{{ loop.previtem }}<{{ a }}>{{ loop.nextitem }}|{% endfor %}
{% for a in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}|{% endfor %}
{% for a in l %}{{ loop.cycle('x', 'y') }}{% endfor %}
{% for a in l %}{{ loop.cycle() }}{% endfor %}
{% for a in [1, 1, 2, 2, 1] %}{{ loop.changed(a) }}{% endfor %}
{% for a in l %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}
{% for a in l %}{{ loop }}{% endfor %}
{% for a in l %}{{ loop|length }}{% endfor %}
{% for a in l %}{{ loop.nosuch is defined }}{% endfor %}
{% for a in l %}{% for b in 'xy' %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
{% for a in l %}{% set outer = loop %}{% for b in 'xy' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% for a in l|map('string') %}{{ loop.index }}/{{ loop.length }}={{ a }} {% endfor %}
{% for a in l|map('string') %}{{ a }}{{ loop.last }} {% endfor %}
{% for a in l %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endfor %}
{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endfor %}
{% for a in l %}{% break %}{% else %}E{% endfor %}
{% for a in l %}{% continue %}{% else %}E{% endfor %}
{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{% else %}E{% endfor %}
{% for a in l %}{% if loop.first %}{% continue %}{% endif %}{{ a }}{% else %}E{% endfor %}
{% for a in [1, 2] %}{% for b in [1, 2] %}{% break %}{% endfor %}{{ a }}{% endfor %}
{% for a in [] %}{% else %}{% for b in [1] %}{{ b }}{% endfor %}{% endfor %}
{% for a in [1, 2] %}{% for b in [] %}{% else %}{% break %}{% endfor %}{{ a }}{% endfor %}X
{% break %}
{% for a in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for a in [[1, [2, 3]], [4]] recursive %}{% if a is iterable %}({{ loop(a) }}){% else %}{{ a }}{% endif %}{% endfor %}
{% for a in [[1], 2] recursive %}{{ loop.depth }}{% if a is iterable %}{{ loop(a) }}{% endif %}{% endfor %}
{% for a in l recursive %}{{ loop.index }}/{{ loop.length }}{% else %}E{% endfor %}
{% for a in [] recursive %}x{% else %}E{% endfor %}
{% for a in [1, [2, 3]] if a != 2 recursive %}{{ loop(a) if a is iterable else a }}{% endfor %}
{% for a in l %}{{ loop(l) }}{% endfor %}
{% set o = 5 %}{% for a in [1, [2]] recursive %}{% set o = o + 1 %}{{ o }}{{ loop(a) if a is iterable }}{% endfor %}{{ o }}
{% set a = 1 %}{{ a }}
{% set a = 1 %}{% set a = a + 1 %}{{ a }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set a, b = [1] %}{{ a }}
{% set a, b = 'xy' %}{{ a }}{{ b }}
{% set (a, b) = (1, 2) %}{{ b }}{{ a }}
{% set a = 1, 2 %}{{ a }}
{% set a, b = b, a %}{{ a is defined }}
{% set i, x = x, i %}{{ i }} {{ x }}
{% set a %}text {{ i }}{% endset %}{{ a }}
{% set a | upper %}text {{ i }}{% endset %}{{ a }}
{% set a | upper | replace('T', '.') %}text{% endset %}{{ a }}
{% set a %}{% set b = 5 %}{{ b }}{% endset %}{{ a }}{{ b is defined }}
{% set a %}<b>{% endset %}{{ a|e }}{{ a is string }}
{% for x in l %}{% set y = x %}{% endfor %}{{ y is defined }}
{% set y = 0 %}{% for x in l %}{% set y = y + x %}{{ y }} {% endfor %}{{ y }}
{% set y = 0 %}{% if t %}{% set y = 1 %}{% endif %}{{ y }}
{% if t %}{% set y = 1 %}{% endif %}{{ y }}
{% if f %}{% set y = 1 %}{% endif %}{{ y is defined }}
{% if f %}{% set i = 1 %}{% endif %}{{ i }}
{% if t %}{% if t %}{% set i = 1 %}{% endif %}{% endif %}{{ i }}
{% for q in l %}{% if q == 1 %}{% set i = q %}{% endif %}{{ i }} {% endfor %}{{ i }}
{% for q in l %}{% set i = i + 1 %}{{ i }} {% endfor %}{{ i }}
{{ z }}{% set z = 1 %}{{ z }}
{{ i }}{% set i = 1 %}{{ i }}
{% for i in l %}{{ i }}{% endfor %}{{ i }}
{% for i in l %}{% endfor %}{{ i }}
{% for q in [i] %}{% for i in [1] %}{{ i }}{% endfor %}{{ i }}{% endfor %}
{% for q in l %}{% set w = q %}{% for r in [1] %}{% set w = w + 1 %}{{ w }}{% endfor %}{{ w }} {% endfor %}
{% for q in l %}{{ w is defined }}{% set w = q %}{{ w }} {% endfor %}
{% set ns = namespace(a=0) %}{% for q in l %}{% set ns.a = ns.a + q %}{% endfor %}{{ ns.a }}
{% set ns = namespace() %}{% set ns.x = 1 %}{% set ns.y = [ns.x] %}{{ ns.y }}{{ ns }}
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}
{% set ns = namespace() %}{% set ns.a, q = 1, 2 %}{{ ns.a }}{{ q }}
{% set ns = namespace() %}{% set ns.a %}block{% endset %}{{ ns.a }}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% set d.a = 1 %}
{% set nosuch.a = 1 %}
{% set q = {} %}{% set q.a = 1 %}
{% set d['a'] = 1 %}
{% set l[0] = 1 %}
{% set 1 = 2 %}
{% set true = 2 %}
{% set 'a' = 2 %}
{% for true in l %}{% endfor %}
{% for loop in l %}{% endfor %}
{% for a in l %}{% set loop = 1 %}{% endfor %}
{% set loop = 1 %}{{ loop }}
{% for a in [1] %}{{ loop.index }}{% endfor %}{{ loop is defined }}
{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m(a=1) }}
{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}
{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}
{% macro m(a) %}{{ a }}{{ kwargs }}{% endmacro %}{{ m(1, y=2) }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}
{% macro m(a=b, b=1) %}{{ a is defined }}{{ b }}{% endmacro %}{{ m() }}
{% macro m(a=i) %}{{ a }}{% endmacro %}{{ m() }}
{% macro m(a, b=1, c) %}{% endmacro %}
{% macro m(a=1) %}{{ a }}{% endmacro %}{{ m(none) }}{{ m(undefinedvar) }}
{% macro m() %}{{ i }}{% endmacro %}{% set i = 5 %}{{ m() }}
{% macro m() %}{{ q }}{% endmacro %}{% set q = 5 %}{{ m() }}
{% macro m() %}{% set i = 9 %}{{ i }}{% endmacro %}{{ m() }}{{ i }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{{ m() }}{% macro m() %}x{% endmacro %}
{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}
{% macro m() %}x{% endmacro %}{{ m }}
{% macro m(a, b) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}
{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body {{ i }}{% endcall %}
{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}
{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(a, b=7) m() %}{{ a }}+{{ b }}{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
{% macro m(caller=none) %}{{ caller() if caller else 'no' }}{% endmacro %}{{ m() }}{% call m() %}y{% endcall %}
{% macro m(caller) %}{% endmacro %}
{% macro o() %}{{ caller() }}{% endmacro %}{% macro p() %}{% call o() %}{{ caller() }}{% endcall %}{% endmacro %}{% call p() %}deep{% endcall %}
{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% for q in l %}{% call(v) m(q) %}{{ v }}{{ q }}{{ loop.index }}{% endcall %}{% endfor %}
{% call i %}x{% endcall %}
{% call i() %}x{% endcall %}
{% call cycler(1) %}x{% endcall %}
{% macro m() %}{% for a in l %}{{ a }}{% endfor %}{% endmacro %}{{ m()|length }}
{% macro m() %}  x  {% endmacro %}[{{ m() }}]
{% macro m() %}<b>{% endmacro %}{{ m()|e }}{{ m() ~ '<' }}
{% macro m(a, a) %}{% endmacro %}
{% for q in [1, 2] %}{% macro m() %}{{ q }}{% endmacro %}{{ m() }}{% endfor %}
{% if t %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}
{% if f %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}
{% macro m(x) %}{% set x = x + 1 %}{{ x }}{% endmacro %}{{ m(1) }}
{% macro outer() %}{% macro inner() %}{{ v }}{% endmacro %}{% set v = 3 %}{{ inner() }}{% endmacro %}{{ outer() }}
{% macro m(*args) %}{% endmacro %}
{% macro m(kwargs) %}{{ kwargs }}{% endmacro %}{{ m(1) }}
{% macro m(l) %}{{ l|join }}{% endmacro %}{{ m([1, 2]) }}{{ l }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ [1, 2]|map('string')|map('upper')|join }}{{ m(*[1]) }}{{ m(**{'a': 2}) }}
{% with a = 1 %}{{ a }}{% endwith %}{{ a is defined }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}
{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% with a, b = (1, 2) %}{{ a }}{{ b }}{% endwith %}
{% for q in l %}{% with w = q %}{% if w == 1 %}{% break %}{% endif %}{{ w }}{% endwith %}{% endfor %}
{% filter upper %}abc {{ s }}{% endfilter %}
{% filter upper|trim|replace('A', '*') %} abc {% endfilter %}
{% filter upper %}{% set q = 1 %}{{ q }}{% endfilter %}{{ q is defined }}
{% for q in l %}{% filter upper %}a{% if q == 1 %}{% break %}{% endif %}{{ q }}{% endfilter %}{% endfor %}
{% for q in l %}{% set v %}a{% if q == 1 %}{% continue %}{% endif %}{{ q }}{% endset %}{{ v }}{% endfor %}
{% filter nosuch %}{% endfilter %}
{% filter length %}abc{% endfilter %}
{% call namespace() %}{% endcall %}
{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}
{% set ns = namespace() %}{% set ns.a = [1, ns] %}{{ ns.a }}
{% set ns = namespace() %}{% set q = [ns] %}{% set ns.a = {'q': q} %}{{ q }}
{{ (range(4)).index(2) }}{{ range(4).count(1) }}
{{ '' * big }}
{{ names|safe|list }}{{ ('ab'|safe)|list }}{{ [('ab'|safe)|last] }}
{{ html|sort(attribute='name') }}
{{ [1, 2]|truncate(5) }}{{ [1]|truncate(3, leeway=0)|length }}
{{ ([1] * 9)|truncate(3, leeway=0) }}
{{ {(l|map('string')): 1}|length }}{{ {joiner: 1} is mapping }}
{% generation %}a{{ i }}{% endgeneration %}b
{% for m in messages %}{% if m.role == 'user' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}
{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}
{% for a in l %}{% generation %}{{ loop.index }}{{ a }}{% endgeneration %}{% endfor %}
{% for a in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% block b %}x{{ i }}{% endblock %}
{% set q = 5 %}{% block b %}{{ q }}{% endblock b %}
{% for q in l %}{% block b %}{{ q is defined }}{% endblock %}{% endfor %}
{% for q in l %}{% block b scoped %}{{ q }}{% endblock %}{% endfor %}
{% block b %}{% endblock %}{% block b %}{% endblock %}
{% if t %}{% set q = 5 %}{% endif %}{% block b %}{{ q }}{% endblock %}
{% macro m() %}M{% endmacro %}{% block b %}{{ m() }}{% endblock %}
{% print 1 %}{% print i, s %}
{% raw %}{{ not }} {% parsed %}{% endraw %}
{%- raw -%}  x  {%- endraw -%}  y
{% raw %}x
{# comment #}a{# {{ b }} #}c
a {#- strip -#} b
{# open
{{ '{{' }}{{ '}}' }}{{ "{%" }}
{% set q = cycler('a', 'b') %}{{ q.next() }}{{ q.next() }}{{ q.next() }}{{ q.current }}{% set _ = q.reset() %}{{ q.current }}
{% set j = joiner(', ') %}{% for a in l %}{{ j() }}{{ a }}{% endfor %}
{% set j = joiner() %}{{ j() }}a{{ j() }}b
{% for u in users %}{{ u.name }}{% if u.ok is defined %}:{{ u.ok }}{% endif %} {% endfor %}
{% for g in users|groupby('age') %}{{ g.grouper }}:{% for u in g.list %}{{ u.name }}{% endfor %} {% endfor %}
{% for g, us in users|groupby('age') %}{{ g }}={{ us|length }} {% endfor %}
{% for row in range(5)|batch(2, '-') %}{{ row|join }};{% endfor %}
{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.tool_calls|tojson if m.tool_calls }};{% endfor %}
{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}
{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') + '<|im_end|>\n' }}{% endfor %}
{% for m in messages[::-1] %}{{ loop.index0 }}{{ m.role }} {% endfor %}
{% set sys = messages[0].content if messages[0].role == 'system' else none %}{{ sys }}
{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ rest|length }}
{% if not messages|selectattr('role', 'eq', 'nobody')|list %}none{% endif %}
{{ raise_exception('roles must alternate') if messages[0].role != 'user' }}
{% if messages[0].role != 'user' %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}
{% set q = [] %}{% for a in l %}{% set q = q + [a] %}{% endfor %}{{ q }}
{% set q = [] %}{% set _ = q.append(1) %}{{ q }}
{% set ns = namespace(q=[]) %}{% for a in l %}{% set ns.q = ns.q + [a * 2] %}{% endfor %}{{ ns.q }}
{% set ns = namespace(found=false) %}{% for a in l if not ns.found %}{{ a }}{% if a == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}
{% set ns = namespace(found=false) %}{% for a in l if not ns.found %}{{ loop.last }}{{ a }}{% if a == 3 %}{% set ns.found = true %}{% endif %}{% endfor %}
{% set g = l|map('string') %}{{ g|list }}{{ g|list }}
{% set g = l|select('odd') %}{% for a in g %}{{ a }}{% break %}{% endfor %}{{ g|list }}
{% if f %}{{ i|nosuchfilter }}{% endif %}ok
{% if t %}{{ i|nosuchfilter }}{% endif %}ok
{% if f %}{{ i is nosuchtest }}{% endif %}ok
{{ (i|nosuchfilter) if f else 'ok' }}
{% if f %}{% for a in l %}{{ a|nosuchfilter }}{% endfor %}{% endif %}ok
{% include 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% extends 'x' %}
{% do l.append(1) %}
{% nosuch %}
{% endif %}
{% if t %}
{% for a in l %}
{% for a l %}{% endfor %}
{% if %}{% endif %}
{% set %}
{% set a = %}
{% set a = 1
{{ i
{{ }}
{{ i i }}
{{ i + }}
{{ (i }}
{{ [1 }}
{{ {1 }}
{{ {1: } }}
{{ i) }}
{{ i] }}
{{ 'a }}
{{ i ! 1 }}
{{ i & 1 }}
{{ i = 1 }}
{{ f(a=1, 2) }}
{{ f(**a, *b) }}
{{ i is odd is even }}
{{ i. }}
{{ i.'a' }}
{{ i| }}
{{ i is }}
{{ l[] is defined }}
{{ 1if t else 2 }}
{{ 1.e }}
{{ 1..2 }}
{{ @ }}
{{ i }
{% if t %}a{% else %}b{% else %}c{% endif %}
{% if t %}a{% endfor %}
{% macro m %}{% endmacro %}
{% macro 1() %}{% endmacro %}
{% for a in l: %}{{ a }}{% endfor %}
{% if t: %}x{% endif %}
{% set a=1 %}{{a}}
{%if t%}x{%endif%}
{%- if t -%} x {%- endif -%} y
{{- i -}} x
a {{- i -}} b
a {{ i }} b
{{+ i }}
{{ -i }}
{{-i}}
{{ i -}}   {{ i }}
a  {% if t %}b{% endif %}  c
  {%- set q = 1 %}  x
  {%- set q = 1 -%}  x
{% if t %}  {% endif %}|
{% set x %}  {{ i }}  {% endset %}[{{ x|trim }}]
'''

# Templates with line breaks that the list above cannot hold.
SPECIAL = [
    "a\r\nb\rc\n",
    "{{ i }}\n",
    "{{ i }}\n\n",
    "\n{{ i }}",
    "\r\n{% if t %}\r\nx\r\n{% endif %}\r\n",
    "{{ 'a\r\nb' }}",
    "{% if t %}\n\n\nx\n\n{% endif %}\n\n",
    "   {% if t %}   \n   x   \n   {% endif %}   \n",
    "\t{%- if t -%}\n\tx\n\t{%- endif -%}\n",
    "x\u00a0{%- if t %}y{% endif %}",
    "x\n\u00a0{% if t %}y{% endif %}",
    "\u2003{% if t %}y{% endif %}",
    "x {{- '' }}\n\n{{ '' -}} y",
    "{% raw %}\n  {{ x }}\n{% endraw %}\nend",
    "{% raw -%}\n  {{ x }}\n{%- endraw %}\nend",
    "  {%- raw %} {{ x }} {% endraw -%}  end",
    "{%raw%}{%endraw%}",
    "{% raw %}{% endraw x %}",
    "{# a #}\n{# b #}\nc",
    "  {# a #}  {# b #}\nc",
    "{#\n multi\n line\n#}\nx",
    "a{#-\n#}b",
    "",
    "\n",
    "{",
    "{{",
    "{%",
    "{#",
    "}}",
    "%}",
    "{ {{ i }} }",
    "{{{ 'a': 1 }}}",
    "{{ {'a': {'b': {}}} }}",
    "{{ {} }}{{ {}}}",
    "line1\nline2 {{ nosuch.attr }}",
    "日本語 {{ u }} é",
    "{% set café = 1 %}{{ café }}",
    "{% set 变量 = 2 %}{{ 变量 }}",
    "{{ '\\ud83d\\ude00'|length }}",
    "\ufeff{{ i }}",
    "{% for a in [1,2] %}{{ a }}{% if not loop.last %}\n{% endif %}{% endfor %}",
    "{%- for m in messages %}\n{{- m.role }}\n{%- endfor %}",
    "{% for m in messages -%}\n    {{ m.role }}\n{% endfor -%}\nend",
    "{% if t -%}\n\n  x\n\n{%- endif %}\n\n  y",
    "<s>{% for m in messages %}\n[{{ m.role }}] {{ m.content|default('', true)|trim }}\n{% endfor %}</s>\n",
]


def split(text):
    """One template a line."""
    return [line for line in text.strip("\n").split("\n") if line.strip()]


def probes():
    env = environment()
    out = []
    sources = ["{{ " + e + " }}" for e in split(EXPRESSIONS)]
    sources += split(STATEMENTS)
    sources += SPECIAL + BLOCKS
    seen = set()
    for source in sources:
        if source in seen:
            continue
        seen.add(source)
        probe = {"template": source}
        try:
            # A copy, since |indent adds a newline to a list in place.
            probe["output"] = env.from_string(source).render(**copy.deepcopy(VARS))
            probe["output"].encode()
            if " at 0x" in probe["output"]:
                continue  # an address differs from run to run
        except UnicodeEncodeError:
            continue  # half a surrogate pair: text that no model could be given
        except Exception as e:  # noqa: BLE001: whatever a template can raise
            probe.pop("output", None)
            probe["error"] = f"{type(e).__name__}: {e}".split("\n")[0]
            if " at 0x" in probe["error"]:
                probe["error"] = type(e).__name__
        out.append(probe)
    return out


# Templates of several lines about white space.
BLOCKS = [
    "a\n\n  {%- if t %}  b{% endif %}",
    "  {% if t %}\nx\n  {% endif %}\ny",
    "    {%+ if t %}x{% endif %}",
    "  {% if t +%}\nx{% endif %}",
    "  {% if t %}  \nx{% endif %}",
    "\t{% if t %}tab{% endif %}",
    "{% for a in l %}\n  {{ a }}\n{% endfor %}\nend",
    "{% for a in l -%}\n  {{ a }}\n{%- endfor %}\nend",
    "  {{ i }}\n  {% set q = 1 %}\n  {{ q }}\n",
    "x  {#- c #}  y\nx  {# c -#}  y\n  {# c #}\ny\n{#+ c +#}\ny",
    "{% set a %}\n  x\n{% endset %}\n[{{ a }}]",
    "{% macro m() %}\n  x\n{% endmacro %}\n[{{ m() }}]",
    "{% macro m() -%}\n  x\n{%- endmacro %}\n[{{ m() }}]",
    "a{% if t %}{% endif %}\nb\na{{ '' }}\nb",
    "{% filter indent(2) %}\na\nb\n{% endfilter %}\nc",
    "  {% generation %}\n  x\n  {% endgeneration %}\ny",
    "{% call(x) range(2) %}{% endcall %}",
    "{%- set q = 1 %}\n\n{%- set r = 2 %}\n{{ q }}{{ r }}",
    "{% if f %}\na\n{% elif t %}\nb\n{% else %}\nc\n{% endif %}\nd",
    "{{ 'a'\n  ~ 'b'\n}}\nc",
    "{%\n  if t\n%}x{%\n  endif\n%}",
    "{% for m in messages %}\n    {% if m.role == 'user' %}\n        {{ m.content }}\n    {% elif m.role == 'system' %}\n        {{- m.content }}\n    {% endif %}\n{% endfor %}\n",
]

if __name__ == "__main__":
    result = {"jinja2": jinja2.__version__, "vars": VARS, "probes": probes()}
    with open(os.path.join(HERE, "probes.json"), "w", encoding="utf-8") as f:
        f.write('{"jinja2": %s,\n"vars": %s,\n"probes": [\n' % (json.dumps(result["jinja2"]), json.dumps(VARS, ensure_ascii=True)))
        f.write(",\n".join(json.dumps(p, ensure_ascii=True) for p in result["probes"]))
        f.write("\n]}\n")
    errors = sum("error" in p for p in result["probes"])
    print(f"{len(result['probes'])} probes, {errors} of them errors")
