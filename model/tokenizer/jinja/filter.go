package jinja

import (
	"errors"
)

// filterFunc is what stands behind a bar.
type filterFunc func(r *run, v Value, args []Value, kwargs []named) (Value, error)

// bound makes a filter whose arguments bind to params.
func bound(name string, params []string, required int, f func(r *run, v Value, a []Value) (Value, error)) filterFunc {
	return func(r *run, v Value, args []Value, kwargs []named) (Value, error) {
		a, err := bind("filter "+quote(name), params, required, args, kwargs)
		if err != nil {
			return nil, err
		}
		return f(r, v, a)
	}
}

// refusedFilter says why a filter of jinja2's is left out.
func refusedFilter(name string) (string, bool) {
	switch name {
	case "random":
		return "the same messages must render the same", true
	case "pprint":
		return "it prints for people; use tojson(indent=...)", true
	case "urlize":
		return "it makes HTML links", true
	}
	return "", false
}

// filterNamed returns a filter of jinja2's, or nil.
func filterNamed(name string) filterFunc {
	with := func(f func(r *run, v Value, a []Value) (Value, error), required int, params ...string) filterFunc {
		return bound(name, params, required, f)
	}
	switch name {
	case "abs":
		return with(filterAbs, 0)
	case "attr":
		return with(filterAttr, 1, "name")
	case "batch":
		return with(filterBatch, 1, "linecount", "fill_with")
	case "capitalize", "lower", "upper":
		m, _ := strMethodNamed(name)
		return with(func(r *run, v Value, _ []Value) (Value, error) { return r.onText(m, v) }, 0)
	case "center":
		return with(func(r *run, v Value, a []Value) (Value, error) {
			if a[0] == missing {
				a[0] = intValue(80)
			}
			m, _ := strMethodNamed("center")
			return r.onText(m, v, a[0], missing)
		}, 0, "width")
	case "count", "length":
		return with(func(r *run, v Value, _ []Value) (Value, error) {
			n, err := r.length(v)
			return intValue(n), err
		}, 0)
	case "d", "default":
		return with(func(r *run, v Value, a []Value) (Value, error) {
			if !isUndefined(v) && (a[1] == missing || !r.truth(a[1]) || r.truth(v)) {
				return v, nil
			}
			if a[0] == missing {
				return strValue(""), nil
			}
			return a[0], nil
		}, 0, "default_value", "boolean")
	case "dictsort":
		return with(filterDictSort, 0, "case_sensitive", "by", "reverse")
	case "e", "escape":
		return with(func(r *run, v Value, _ []Value) (Value, error) {
			if isMarkup(v) {
				return v, nil
			}
			return r.escaped(v)
		}, 0)
	case "forceescape":
		return with(func(r *run, v Value, _ []Value) (Value, error) { return r.escaped(v) }, 0)
	case "filesizeformat":
		return with(filterFileSize, 0, "binary")
	case "first":
		return with(filterFirst, 0)
	case "float":
		return with(filterFloat, 0, "default")
	case "format":
		return filterFormat
	case "groupby":
		return with(filterGroupBy, 1, "attribute", "default", "case_sensitive")
	case "indent":
		return with(filterIndent, 0, "width", "first", "blank")
	case "int":
		return with(filterInt, 0, "default", "base")
	case "items":
		return with(filterItems, 0)
	case "join":
		return with(filterJoin, 0, "d", "attribute")
	case "last":
		return with(filterLast, 0)
	case "list":
		return with(func(r *run, v Value, _ []Value) (Value, error) {
			items, err := r.list(v)
			return &listValue{items: items}, err
		}, 0)
	case "map":
		return filterMap
	case "max", "min":
		return with(func(r *run, v Value, a []Value) (Value, error) { return r.extreme(v, a, name == "max") }, 0, "case_sensitive", "attribute")
	case "reject", "select":
		return func(r *run, v Value, args []Value, kwargs []named) (Value, error) {
			return r.selectFrom(name, v, nil, args, kwargs)
		}
	case "rejectattr", "selectattr":
		return func(r *run, v Value, args []Value, kwargs []named) (Value, error) {
			if len(args) == 0 {
				return nil, errors.New("missing parameter for attribute name")
			}
			return r.selectFrom(name, v, args[:1], args[1:], kwargs)
		}
	case "replace":
		return with(filterReplace, 2, "old", "new", "count")
	case "reverse":
		return with(filterReverse, 0)
	case "round":
		return with(filterRound, 0, "precision", "method")
	case "safe":
		return with(func(r *run, v Value, _ []Value) (Value, error) {
			s, err := r.str(v)
			return markupValue(s), err
		}, 0)
	case "slice":
		return with(filterSlice, 1, "slices", "fill_with")
	case "sort":
		return with(filterSort, 0, "reverse", "case_sensitive", "attribute")
	case "string":
		return with(func(r *run, v Value, _ []Value) (Value, error) { return r.soft(v) }, 0)
	case "striptags":
		return with(filterStripTags, 0)
	case "sum":
		return with(filterSum, 0, "attribute", "start")
	case "title":
		return with(filterTitle, 0)
	case "tojson":
		return with(filterToJSON, 0, "ensure_ascii", "indent", "separators", "sort_keys")
	case "trim":
		return with(func(r *run, v Value, a []Value) (Value, error) {
			m, _ := strMethodNamed("strip")
			return r.onText(m, v, a[0])
		}, 0, "chars")
	case "truncate":
		return with(filterTruncate, 0, "length", "killwords", "end", "leeway")
	case "unique":
		return with(filterUnique, 0, "case_sensitive", "attribute")
	case "urlencode":
		return with(filterURLEncode, 0)
	case "wordcount":
		return with(filterWordCount, 0)
	case "wordwrap":
		return with(filterWordWrap, 0, "width", "break_long_words", "wrapstring", "break_on_hyphens")
	case "xmlattr":
		return with(filterXMLAttr, 0, "autospace")
	}
	return nil
}

// soft is str(), which leaves Markup as it is.
func (r *run) soft(v Value) (Value, error) {
	if _, ok := Text(v); ok {
		return v, nil
	}
	s, err := r.str(v)
	return strValue(s), err
}

// onText calls a method of str on str(v).
func (r *run) onText(m strMethod, v Value, a ...Value) (Value, error) {
	s, err := r.soft(v)
	if err != nil {
		return nil, err
	}
	plain, _ := Text(s)
	if err := r.read(len(plain)); err != nil {
		return nil, err
	}
	out, err := m.run(r, plain, a)
	if err != nil || !isMarkup(s) {
		return out, err
	}
	return asMarkup(out), nil
}

func (r *run) escaped(v Value) (Value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if err := r.alloc(int64(len(s))); err != nil {
		return nil, err
	}
	s = escapeHTML(s)
	return markupValue(s), r.alloc(int64(len(s)))
}
