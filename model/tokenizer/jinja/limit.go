package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// ErrLimit is wrapped by every error that says a template asked for more than
// its caps allow: length, nesting, recursion, steps, output, memory.
var ErrLimit = errors.New("template limit exceeded")

// RaisedError is a template's own refusal, made with raise_exception. It is the
// fault of the messages, not of the template.
type RaisedError struct {
	Message string // the template's own words
}

// Error returns the template's own words.
func (e *RaisedError) Error() string { return e.Message }

// Options are what a render may use. The zero value is the default of each.
type Options struct {
	// Now is the clock behind strftime_now; nil is time.Now.
	Now func() time.Time
	// MaxSteps caps the work of a render: about one step for each node of the
	// tree that runs, each element visited and each 64 bytes of text looked through.
	// 0 is 3 Mi; published templates take 20 to 80 for each message.
	MaxSteps int64
	// MaxOutput caps the bytes of the result. 0 is 32 MiB.
	MaxOutput int64
	// MaxBytes caps the bytes of all intermediate values of a render together,
	// freed ones included. 0 is 64 MiB.
	MaxBytes int64
}

const (
	defaultMaxSteps  = 3 << 20
	defaultMaxOutput = 32 << 20
	defaultMaxBytes  = 64 << 20

	// maxSource is the longest template in bytes; the longest published ones have
	// some tens of thousands.
	maxSource = 1 << 20
	// maxBrackets bounds how deep brackets nest; CPython itself gives up on about 90.
	maxBrackets = 100
	// maxNesting bounds how deep blocks and expressions nest, a bracket being two.
	maxNesting = 200
	// maxTree bounds the depth of the tree, which chains of operators and of
	// attributes deepen too.
	maxTree = 400
	// maxArguments bounds the arguments of a call and the parameters of a macro.
	maxArguments = 1000
	// maxResolve bounds the work of resolving names, which long chains of elif with
	// many names could drive to the square of a template's length.
	maxResolve = 1 << 19
	// maxCalls bounds how deep macros, callers and recursive loops call one
	// another; CPython's stack ends such a template at about 190.
	maxCalls = 180
	// maxDepth bounds how deep the lists and dicts of a value nest.
	maxDepth = 200
	// maxRange is the longest range, that of jinja2's sandbox.
	maxRange = 100_000
	// maxIntBits bounds an integer.
	maxIntBits = 1 << 16
	// maxIntDigits is the most digits Python converts between text and integer.
	maxIntDigits = 4300
)

func limitf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLimit, fmt.Sprintf(format, args...))
}

// meter counts what a render uses.
type meter struct {
	steps, maxSteps int64
	bytes, maxBytes int64
}

func (m *meter) step(n int) error {
	m.steps += int64(n)
	if m.steps > m.maxSteps {
		return limitf("more than %d steps", m.maxSteps)
	}
	return nil
}

// alloc accounts for n bytes of a value about to be made.
func (m *meter) alloc(n int64) error {
	if n < 0 || n > m.maxBytes-m.bytes {
		return limitf("values of more than %d bytes in all", m.maxBytes)
	}
	m.bytes += n
	return nil
}

// read accounts for looking through n bytes of text.
func (m *meter) read(n int) error { return m.step(1 + n>>6) }

// elements accounts for a list of n elements about to be made.
func (m *meter) elements(n int) error {
	if err := m.step(n >> 3); err != nil {
		return err
	}
	return m.alloc(16 * int64(n))
}

// times multiplies two sizes that are not negative, without overflow.
func times(a, b int64) int64 {
	if a != 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}

// text builds a string against the meter; the first error sticks.
type text struct {
	m   *meter
	b   strings.Builder
	err error
}

func (t *text) write(s string) {
	if t.err == nil {
		if t.err = t.m.alloc(int64(len(s))); t.err == nil {
			t.b.WriteString(s)
		}
	}
}

func (t *text) fill(s string, n int) {
	if n <= 0 || t.err != nil {
		return
	}
	if t.err = t.m.alloc(times(int64(len(s)), int64(n))); t.err == nil {
		t.b.WriteString(strings.Repeat(s, n))
	}
}

func (t *text) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *text) result() (string, error) {
	if t.err != nil {
		return "", t.err
	}
	return t.b.String(), nil
}
