// Package jinja renders the Jinja that published chat templates are written in.
//
// It owns the language as transformers configures jinja2: the immutable
// sandbox, trim_blocks and lstrip_blocks, loop controls, {% generation %}, a
// tojson that neither sorts nor escapes for HTML, raise_exception and
// strftime_now. Values keep Python's meaning (ordered dicts, code point
// strings, big integers, repr, Undefined), because templates print them.
//
// A template is untrusted: it arrives with a checkpoint. It sees the values
// that it is given and nothing else. There are no loaders, no Go methods and no
// reflection; what would mutate a value is refused as the sandbox refuses it.
// Template length, nesting, recursion, steps, output and the bytes of every
// intermediate value are capped, by counting and never by the clock, so the same
// input always ends the same way (ErrLimit).
//
// A Template is parsed once (names become slots, as jinja2's compiler resolves
// them) and may be rendered by any number of goroutines.
//
// Left out of jinja2, each refused by name where a template uses it: loading of
// other templates, autoescape, the filters random, pprint and urlize, str.encode
// and str.translate. Undefined here: lipsum, self and super. Different: attributes with
// two leading underscores are refused when they are looked up and not only when
// they are used; an object without a literal form prints without its address; a
// slice of what has no slices always fails, where jinja2 makes nothing of it if it
// is a constant; half of a surrogate pair is U+FFFD.
//
// The pieces in the order of a trip: lexer.go, parser.go and expression.go make
// the tree of ast.go; scope.go and resolve.go resolve its names; statement.go and eval.go run
// it; the rest is what Python's types, jinja2's filters and its tests do.
package jinja
