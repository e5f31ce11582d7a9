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
// The pieces in the order of a trip: lexer.go, parser.go and expression.go make
// the tree of ast.go; scope.go resolves its names; statement.go and eval.go run
// it; the rest is what Python's types, jinja2's filters and its tests do.
package jinja
