package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// This file is what the methods of str do; strings.go is how they are called.

func (r *run) strip(name, s string, chars Value) (Value, error) {
	in := isSpace
	if chars = orNone(chars); chars != nil {
		set, err := needText(name, chars)
		if err != nil {
			return nil, err
		}
		if err := r.step(len(set)); err != nil {
			return nil, err
		}
		members := make(map[rune]bool)
		for _, c := range set {
			members[c] = true
		}
		in = func(c rune) bool { return members[c] }
	}
	if name != "rstrip" {
		s = strings.TrimLeftFunc(s, in)
	}
	if name != "lstrip" {
		s = strings.TrimRightFunc(s, in)
	}
	return strValue(s), nil
}

// window cuts s to the code points from start to stop, as find and startswith
// do. It also returns how many code points it cut in front, and false where
// start lies behind the end, so that not even "" is found.
func window(s string, start, stop Value) (cut string, front int, ok bool, err error) {
	start, stop = orNone(start), orNone(stop)
	if start == nil && stop == nil {
		return s, 0, true, nil
	}
	n := utf8.RuneCountInString(s)
	from, to, _, err := sliceBounds(n, start, stop, nil)
	if err != nil {
		return "", 0, false, err
	}
	if i, isInt := toInt(start); isInt && i > int64(n) || from > to {
		return "", 0, false, nil
	}
	return s[offset(s, from):offset(s, to)], from, true, nil
}

// offset is the byte at which code point i begins, the length behind the last.
func offset(s string, i int) int {
	if at, ok := runeOffset(s, int64(i)); ok {
		return at
	}
	return len(s)
}

func (r *run) affix(name, s string, a []Value) (Value, error) {
	cut, _, ok, err := window(s, a[1], a[2])
	if err != nil {
		return nil, err
	}
	has := strings.HasPrefix
	if name == "endswith" {
		has = strings.HasSuffix
	}
	options := []Value{a[0]}
	if t, isTuple := a[0].(*tupleValue); isTuple {
		options = t.items
	}
	if err := r.step(len(options)); err != nil {
		return nil, err
	}
	for _, o := range options {
		part, err := needText(name, o)
		if err != nil {
			return nil, err
		}
		if ok && has(cut, part) {
			return boolValue(true), nil
		}
	}
	return boolValue(false), nil
}

func findText(name, s string, a []Value) (Value, error) {
	sub, err := needText(name, a[0])
	if err != nil {
		return nil, err
	}
	cut, front, ok, err := window(s, a[1], a[2])
	if err != nil {
		return nil, err
	}
	at := -1
	switch {
	case !ok:
	case name == "count":
		return intValue(strings.Count(cut, sub)), nil
	case name == "find" || name == "index":
		at = strings.Index(cut, sub)
	default:
		at = strings.LastIndex(cut, sub)
	}
	if name == "count" {
		return intValue(0), nil
	}
	if at >= 0 {
		return intValue(front + utf8.RuneCountInString(cut[:at])), nil
	}
	if name == "index" || name == "rindex" {
		return nil, errors.New("substring not found")
	}
	return intValue(-1), nil
}

func (r *run) replaceText(s, old, repl string, count int64) (Value, error) {
	n := int64(strings.Count(s, old))
	if count >= 0 {
		n = min(n, count)
	}
	if n == 0 {
		return strValue(s), nil
	}
	// old may be empty, and repl longer: the result is known before it is made.
	if err := r.alloc(int64(len(s)) + times(n, int64(len(repl)))); err != nil {
		return nil, err
	}
	return strValue(strings.Replace(s, old, repl, int(n))), r.read(len(s))
}

func (r *run) splitText(s, sep string, most int64, fromRight bool) (Value, error) {
	if sep == "" {
		return nil, errors.New("empty separator")
	}
	n := int64(strings.Count(s, sep))
	if most >= 0 {
		n = min(n, most)
	}
	if err := r.elements(2 * int(n+1)); err != nil {
		return nil, err
	}
	parts := make([]Value, n+1)
	if fromRight {
		for i := n; i > 0; i-- {
			at := strings.LastIndex(s, sep)
			parts[i] = strValue(s[at+len(sep):])
			s = s[:at]
		}
		parts[0] = strValue(s)
		return &listValue{items: parts}, nil
	}
	for i := range n {
		at := strings.Index(s, sep)
		parts[i] = strValue(s[:at])
		s = s[at+len(sep):]
	}
	parts[n] = strValue(s)
	return &listValue{items: parts}, nil
}

func (r *run) splitSpace(s string, most int64, fromRight bool) (Value, error) {
	l := &listValue{}
	if most < 0 {
		most = math.MaxInt64
	}
	for {
		if fromRight {
			s = strings.TrimRightFunc(s, isSpace)
		} else {
			s = strings.TrimLeftFunc(s, isSpace)
		}
		if s == "" {
			break
		}
		if err := r.elements(4); err != nil {
			return nil, err
		}
		if int64(len(l.items)) == most {
			if fromRight {
				s = strings.TrimRightFunc(s, isSpace)
			}
			l.items = append(l.items, strValue(s))
			break
		}
		if fromRight {
			at := strings.LastIndexFunc(s, isSpace)
			from := 0
			if at >= 0 {
				_, n := utf8.DecodeRuneInString(s[at:])
				from = at + n
			}
			l.items = append(l.items, strValue(s[from:]))
			s = s[:from]
			continue
		}
		at := strings.IndexFunc(s, isSpace)
		if at < 0 {
			at = len(s)
		}
		l.items = append(l.items, strValue(s[:at]))
		s = s[at:]
	}
	if fromRight {
		for i, j := 0, len(l.items)-1; i < j; i, j = i+1, j-1 {
			l.items[i], l.items[j] = l.items[j], l.items[i]
		}
	}
	return l, r.step(len(l.items))
}

func partition(s, sep string, fromRight bool) (Value, error) {
	if sep == "" {
		return nil, errors.New("empty separator")
	}
	at := strings.Index(s, sep)
	if fromRight {
		at = strings.LastIndex(s, sep)
	}
	switch {
	case at >= 0:
		return Tuple(strValue(s[:at]), strValue(sep), strValue(s[at+len(sep):])), nil
	case fromRight:
		return Tuple(strValue(""), strValue(""), strValue(s)), nil
	}
	return Tuple(strValue(s), strValue(""), strValue("")), nil
}

// lineEnd returns the length of the line break at the beginning of s, 0 if there
// is none. Python breaks lines at more than newlines.
func lineEnd(s string) int {
	switch s[0] {
	case '\r':
		if len(s) > 1 && s[1] == '\n' {
			return 2
		}
		return 1
	case '\n', '\v', '\f', 0x1c, 0x1d, 0x1e:
		return 1
	}
	for _, sep := range []string{"\u0085", "\u2028", "\u2029"} {
		if strings.HasPrefix(s, sep) {
			return len(sep)
		}
	}
	return 0
}

func (r *run) lines(s string, keepEnds bool) ([]string, error) {
	var lines []string
	from := 0
	for i := 0; i < len(s); {
		n := lineEnd(s[i:])
		if n == 0 {
			i++
			continue
		}
		if err := r.elements(4); err != nil {
			return nil, err
		}
		end := i
		if keepEnds {
			end += n
		}
		lines = append(lines, s[from:end])
		i += n
		from = i
	}
	if from < len(s) {
		lines = append(lines, s[from:])
	}
	return lines, r.step(len(lines))
}

func (r *run) splitLines(s string, keepEnds bool) (Value, error) {
	lines, err := r.lines(s, keepEnds)
	if err != nil {
		return nil, err
	}
	l := &listValue{items: make([]Value, len(lines))}
	for i, line := range lines {
		l.items[i] = strValue(line)
	}
	return l, nil
}

func joinMethod(r *run, s string, markup bool, args []Value, kwargs []named) (Value, error) {
	a, err := bind("str.join", oneParam, 1, args, kwargs)
	if err != nil {
		return nil, err
	}
	items, err := r.list(a[0])
	if err != nil {
		return nil, err
	}
	// What the separators come to is known, so it is refused before it is made.
	if n := times(int64(len(s)), int64(len(items))); n > r.maxBytes-r.bytes {
		return nil, r.alloc(n)
	}
	t := text{m: &r.meter}
	for i, e := range items {
		if i > 0 {
			t.write(s)
		}
		if markup {
			r.writeEscaped(&t, e)
			continue
		}
		part, ok := Text(e)
		if !ok {
			return nil, fmt.Errorf("sequence item %d: expected str instance, %s found", i, typeName(e))
		}
		t.write(part)
	}
	joined, err := t.result()
	return strLike(joined, markup), err
}

// writeEscaped writes markupsafe.escape(v).
func (r *run) writeEscaped(t *text, v Value) {
	if isMarkup(v) {
		r.writeStr(t, v, 0)
		return
	}
	s, err := r.str(v)
	if err == nil {
		err = r.alloc(int64(len(s)))
	}
	if err != nil {
		t.fail(err)
		return
	}
	t.write(escapeHTML(s))
}

func (r *run) justify(name, s string, width, fill Value) (Value, error) {
	w, err := needInt(name, width)
	if err != nil {
		return nil, err
	}
	pad := " "
	if fill != missing {
		if pad, err = needText(name, fill); err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(pad) != 1 {
			return nil, fmt.Errorf("%s needs a fill of exactly one character", name)
		}
	}
	n := int(min(w, math.MaxInt32)) - utf8.RuneCountInString(s)
	if n <= 0 {
		return strValue(s), nil
	}
	left := 0
	switch name {
	case "rjust":
		left = n
	case "center":
		left = n/2 + (n & int(w) & 1)
	}
	t := text{m: &r.meter}
	t.fill(pad, left)
	t.write(s)
	t.fill(pad, n-left)
	v, err := t.result()
	return strValue(v), err
}

func (r *run) expandTabs(s string, size int) (Value, error) {
	t := text{m: &r.meter}
	column := 0
	for _, c := range s {
		switch c {
		case '\t':
			if size > 0 {
				n := size - column%size
				t.fill(" ", n)
				column += n
			}
			continue
		case '\n', '\r':
			column = -1
		}
		t.write(string(c))
		column++
		if t.err != nil {
			break
		}
	}
	v, err := t.result()
	return strValue(v), err
}
