package jinja

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// globalNamed returns what every template can call.
func globalNamed(name string) (Value, bool) {
	switch name {
	case "range":
		return &builtin{name: name, call: makeRange}, true
	case "dict":
		return &builtin{name: name, call: makeDict, attribute: func(attr string) Value {
			if attr == "fromkeys" {
				return &builtin{name: attr, call: fromKeys}
			}
			return missing
		}}, true
	case "namespace":
		return &builtin{name: name, call: makeNamespace}, true
	case "cycler":
		return &builtin{name: name, call: func(_ *run, args []Value, kwargs []named) (Value, error) {
			if len(args) == 0 || len(kwargs) > 0 {
				return nil, errors.New("cycler needs at least one item and takes no keyword arguments")
			}
			return &cycler{items: args}, nil
		}}, true
	case "joiner":
		return &builtin{name: name, call: func(_ *run, args []Value, kwargs []named) (Value, error) {
			a, err := bind("joiner", []string{"sep"}, 0, args, kwargs)
			if err != nil {
				return nil, err
			}
			if a[0] == missing {
				a[0] = strValue(", ")
			}
			return &joiner{sep: a[0]}, nil
		}}, true
	case "raise_exception":
		return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
			a, err := bind("raise_exception", []string{"message"}, 1, args, kwargs)
			if err != nil {
				return nil, err
			}
			s, err := r.str(a[0])
			if err != nil {
				return nil, err
			}
			return nil, &RaisedError{Message: s}
		}}, true
	case "strftime_now":
		return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
			a, err := bind("strftime_now", []string{"format"}, 1, args, kwargs)
			if err != nil {
				return nil, err
			}
			format, err := needText("strftime_now", a[0])
			if err != nil {
				return nil, err
			}
			t := text{m: &r.meter}
			strftime(&t, format, r.now())
			s, err := t.result()
			return strValue(s), err
		}}, true
	}
	return nil, false
}

func makeRange(_ *run, args []Value, kwargs []named) (Value, error) {
	a, err := bind("range", []string{"", "", ""}, 1, args, kwargs)
	if err != nil {
		return nil, err
	}
	// Bounds beyond these make a range that is too long anyway, or an empty one.
	const most = 1 << 40
	n := [3]int64{0, 0, 1}
	for i, v := range a {
		if v == missing {
			continue
		}
		if n[i], err = needInt("range", v); err != nil {
			return nil, err
		}
		if n[i] < -most || n[i] > most {
			return nil, limitf("a range bound of more than %d", int64(most))
		}
	}
	g := &rangeValue{start: n[0], stop: n[1], step: n[2]}
	if a[1] == missing {
		g.start, g.stop = 0, n[0]
	}
	if g.step == 0 {
		return nil, errors.New("range() arg 3 must not be zero")
	}
	if g.length() > maxRange {
		return nil, limitf("a range of more than %d elements", maxRange)
	}
	return g, nil
}

// makeDict is dict(): of a mapping or of pairs, then the keyword arguments.
func makeDict(r *run, args []Value, kwargs []named) (Value, error) {
	if len(args) > 1 {
		return nil, fmt.Errorf("dict expected at most 1 argument, got %d", len(args))
	}
	m := NewMap()
	if len(args) == 1 {
		if src, ok := args[0].(*Map); ok {
			for i, k := range src.keys {
				if err := r.put(m, k, src.vals[i]); err != nil {
					return nil, err
				}
			}
		} else {
			items, err := r.list(args[0])
			if err != nil {
				return nil, err
			}
			for _, e := range items {
				pair, err := r.unpack(e, 2)
				if err != nil {
					return nil, err
				}
				if err := r.put(m, pair[0], pair[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, k := range kwargs {
		if err := r.put(m, strValue(k.name), k.value); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// namespace is the one value that a template may change, so that loops and
// macros can leave something behind.
type namespace struct{ attrs *Map }

func (*namespace) typeName() string { return "Namespace" }

func (ns *namespace) set(name string, v Value) error {
	// transformers refuses these so that no template can plant Python internals.
	if strings.HasPrefix(name, "_") {
		return fmt.Errorf("a namespace cannot hold %s: names with a leading underscore are refused", quote(name))
	}
	ns.attrs.Set(name, v)
	return nil
}

func makeNamespace(r *run, args []Value, kwargs []named) (Value, error) {
	v, err := makeDict(r, args, kwargs)
	if err != nil {
		return nil, err
	}
	ns := &namespace{attrs: v.(*Map)}
	for _, k := range ns.attrs.keys {
		if name, ok := Text(k); ok && strings.HasPrefix(name, "_") {
			return nil, fmt.Errorf("a namespace cannot hold %s: names with a leading underscore are refused", quote(name))
		}
	}
	return ns, nil
}

// cycler goes through its items again and again.
type cycler struct {
	items []Value
	pos   int
}

func (*cycler) typeName() string { return "Cycler" }

func (c *cycler) attribute(name string) Value {
	switch name {
	case "current":
		return c.items[c.pos]
	case "items":
		return &tupleValue{items: c.items}
	case "pos":
		return intValue(c.pos)
	case "next":
		return method0(name, func(*run) (Value, error) {
			v := c.items[c.pos]
			c.pos = (c.pos + 1) % len(c.items)
			return v, nil
		})
	case "reset":
		return method0(name, func(*run) (Value, error) {
			c.pos = 0
			return nil, nil
		})
	}
	return missing
}

// joiner is nothing when first called, then its separator.
type joiner struct {
	sep  Value
	used bool
}

func (*joiner) typeName() string { return "Joiner" }

func (j *joiner) next() Value {
	if !j.used {
		j.used = true
		return strValue("")
	}
	return j.sep
}

// strftime writes a time without zone as C's strftime does in the C locale, with
// glibc's flags '-', '_', '0' and '^'. An unknown conversion stays as written.
func strftime(t *text, format string, now time.Time) {
	for t.err == nil {
		at := strings.IndexByte(format, '%')
		if at < 0 || at+1 >= len(format) {
			break
		}
		t.write(format[:at])
		i := at + 1
		var flag byte
		if strings.IndexByte("-_0^#", format[i]) >= 0 && i+1 < len(format) {
			flag = format[i]
			i++
		}
		s, ok := strftimeField(format[i], flag, now)
		if !ok {
			s = format[at : i+1]
		}
		if flag == '^' {
			s = strings.ToUpper(s)
		}
		t.write(s)
		format = format[i+1:]
	}
	t.write(format)
}

func strftimeField(c, flag byte, now time.Time) (string, bool) {
	number := func(n, width int, pad string) (string, bool) {
		switch flag {
		case '-':
			width = 0
		case '_':
			pad = " "
		case '0':
			pad = "0"
		}
		s := big.NewInt(int64(n)).String()
		return strings.Repeat(pad, max(width-len(s), 0)) + s, true
	}
	hour12 := (now.Hour()+11)%12 + 1
	isoYear, isoWeek := now.ISOWeek()
	switch c {
	case 'Y':
		return number(now.Year(), 0, "0")
	case 'C':
		return number(now.Year()/100, 2, "0")
	case 'y':
		return number(now.Year()%100, 2, "0")
	case 'm':
		return number(int(now.Month()), 2, "0")
	case 'd':
		return number(now.Day(), 2, "0")
	case 'e':
		return number(now.Day(), 2, " ")
	case 'H':
		return number(now.Hour(), 2, "0")
	case 'k':
		return number(now.Hour(), 2, " ")
	case 'I':
		return number(hour12, 2, "0")
	case 'l':
		return number(hour12, 2, " ")
	case 'M':
		return number(now.Minute(), 2, "0")
	case 'S':
		return number(now.Second(), 2, "0")
	case 'f':
		return number(now.Nanosecond()/1000, 6, "0")
	case 'j':
		return number(now.YearDay(), 3, "0")
	case 'u':
		return number((int(now.Weekday())+6)%7+1, 1, "0")
	case 'w':
		return number(int(now.Weekday()), 1, "0")
	case 'U':
		return number((now.YearDay()+6-int(now.Weekday()))/7, 2, "0")
	case 'W':
		return number((now.YearDay()+6-(int(now.Weekday())+6)%7)/7, 2, "0")
	case 'V':
		return number(isoWeek, 2, "0")
	case 'G':
		return number(isoYear, 0, "0")
	case 'g':
		return number(isoYear%100, 2, "0")
	case 's':
		return number(int(now.Unix()), 0, "0")
	case 'B':
		return now.Month().String(), true
	case 'b', 'h':
		return now.Month().String()[:3], true
	case 'A':
		return now.Weekday().String(), true
	case 'a':
		return now.Weekday().String()[:3], true
	case 'p':
		return now.Format("PM"), true
	case 'P':
		return now.Format("pm"), true
	case 'c':
		return now.Format("Mon Jan _2 15:04:05 2006"), true
	case 'D', 'x':
		return now.Format("01/02/06"), true
	case 'F':
		return now.Format("2006-01-02"), true
	case 'T', 'X':
		return now.Format("15:04:05"), true
	case 'R':
		return now.Format("15:04"), true
	case 'r':
		return now.Format("03:04:05 PM"), true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case '%':
		return "%", true
	case 'Z', 'z':
		// The time has no zone, as Python's datetime.now() has none.
		return "", true
	}
	return "", false
}
