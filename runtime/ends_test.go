package runtime

import (
	"errors"
	"strings"
	"testing"
)

// id returns the id of a character of the test's tokenizer.
func id(c rune) int32 { return int32(c - '\u4e00') }

func TestEnds(t *testing.T) {
	const a, b, c, d = '\u4e05', '\u4e06', '\u4e07', '\u4e08'
	const eos = '\u4e02'
	for _, test := range []struct {
		name   string
		says   string
		r      Request
		text   string
		n      int // tokens
		finish Finish
		stop   string
		stopID int32
	}{
		{"limit", string(a), Request{MaxTokens: 3}, strings.Repeat(string(a), 3), 3, FinishLength, "", -1},
		{"one token", string(a), Request{MaxTokens: 1}, string(a), 1, FinishLength, "", -1},
		{"context", string(a), Request{}, strings.Repeat(string(a), 127), 127, FinishLength, "", -1},
		{"end of sequence", string([]rune{a, b, eos, c}), Request{MaxTokens: 9}, string([]rune{a, b}), 3, FinishStop, "", -1},
		{"at once", string(eos), Request{MaxTokens: 9}, "", 1, FinishStop, "", -1},
		{"ignored", string([]rune{a, eos}), Request{MaxTokens: 4, IgnoreEOS: true}, string([]rune{a, eos, a, eos}), 4, FinishLength, "", -1},
		{"stop id", string([]rune{a, b, c}), Request{MaxTokens: 9, StopIDs: []int32{id(c)}}, string([]rune{a, b}), 3, FinishStop, "", id(c)},
		{"stop id shown", string([]rune{a, b, c}), Request{MaxTokens: 9, StopIDs: []int32{id(c)}, IncludeStop: true}, string([]rune{a, b, c}), 3, FinishStop, "", id(c)},
		{"stop id that is the model's own", string([]rune{a, eos}), Request{MaxTokens: 9, StopIDs: []int32{id(eos)}}, string(a), 2, FinishStop, "", id(eos)},
		{"stop id though the model's own are ignored", string([]rune{a, eos}), Request{MaxTokens: 9, StopIDs: []int32{id(eos)}, IgnoreEOS: true}, string(a), 2, FinishStop, "", id(eos)},
		{"stop string", string([]rune{a, b, c, d}), Request{MaxTokens: 9, Stop: []string{string([]rune{b, c})}}, string(a), 3, FinishStop, string([]rune{b, c}), -1},
		{"stop string shown", string([]rune{a, b, c, d}), Request{MaxTokens: 9, Stop: []string{string([]rune{b, c})}, IncludeStop: true}, string([]rune{a, b, c}), 3, FinishStop, string([]rune{b, c}), -1},
		{"stop string with the last token", string([]rune{a, b, c, d}), Request{MaxTokens: 3, Stop: []string{string([]rune{b, c})}}, string(a), 3, FinishStop, string([]rune{b, c}), -1},
		{"held back until the limit", string([]rune{a, b, c, d}), Request{MaxTokens: 2, Stop: []string{string([]rune{b, c})}}, string([]rune{a, b}), 2, FinishLength, "", -1},
		{"held back until the end of sequence", string([]rune{a, b, eos}), Request{MaxTokens: 9, Stop: []string{string([]rune{b, c})}}, string([]rune{a, b}), 3, FinishStop, "", -1},
		{"not before min tokens", string([]rune{a, b, eos}), Request{MaxTokens: 9, MinTokens: 4, Stop: []string{string(b)}}, "", 5, FinishStop, string(b), -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEngine(t, roomy)
			var ids []int32
			for _, c := range test.says {
				ids = append(ids, id(c))
			}
			e.fake(e.says(ids...))
			e.serve(t)
			r := test.r
			r.Prompt, r.Logprobs = []int32{7}, -1
			got := e.ask(t.Context(), r)
			check(t, got.err)
			last := got.last()
			if test.name == "not before min tokens" {
				// Of a, b, eos, eos is banned in the third place: then the lowest id, 0, is as likely as any other. The
				// fourth is a again, the fifth b.
				test.text = string([]rune{a, b, '\u4e00', a})
			}
			if got.text() != test.text || len(got.tokens) != test.n || last.Finish != test.finish || last.StopString != test.stop || last.StopID != test.stopID {
				t.Errorf("%q, %d tokens, last %+v; want %q, %d, %q, stop %q, id %d", got.text(), len(got.tokens), last, test.text, test.n, test.finish, test.stop, test.stopID)
			}
			for _, x := range got.tokens[:len(got.tokens)-1] {
				if x.Finish != "" {
					t.Errorf("a token before the last: %+v", x)
				}
			}
		})
	}
}

func TestContext(t *testing.T) {
	small := roomy
	small.blocks = 10 // forty tokens: less than the context asked for
	e := newEngine(t, small).serve(t)
	if e.Context() != 40 {
		t.Errorf("context is %d tokens, want 40", e.Context())
	}
	for _, test := range []struct{ prompt, most, want int }{{40, 0, 0}, {41, 0, 0}, {39, 0, 1}, {39, 1, 1}, {39, 2, 0}, {30, 11, 0}, {30, 10, 10}, {1, 1 << 40, 0}} {
		a := e.ask(t.Context(), Request{Prompt: make([]int32, test.prompt), MaxTokens: test.most, IgnoreEOS: true, Logprobs: -1})
		var refused *ContextError
		switch {
		case test.want > 0 && (a.err != nil || len(a.tokens) != test.want || a.last().Finish != FinishLength):
			t.Errorf("prompt %d, at most %d: %d tokens, error %v, want %d", test.prompt, test.most, len(a.tokens), a.err, test.want)
		case test.want == 0 && (!errors.As(a.err, &refused) || *refused != ContextError{test.prompt, test.most, 40}):
			t.Errorf("prompt %d, at most %d: error %v, want a ContextError", test.prompt, test.most, a.err)
		}
	}
	if a := e.ask(t.Context(), Request{Prompt: []int32{320}}); !errors.Is(a.err, ErrInvalid) {
		t.Errorf("a token outside the vocabulary: %v", a.err)
	}
}
