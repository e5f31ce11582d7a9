package tokenizer_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"eckart/model/tokenizer"
)

// streamed checks that a stream gives what Decode gives, in whole characters.
func streamed(t testing.TB, tok *tokenizer.Tokenizer, ids []int32, skip bool) {
	t.Helper()
	s := tok.NewStream(skip)
	var b strings.Builder
	for _, id := range ids {
		text := s.Push(id)
		if !utf8.ValidString(text) {
			t.Errorf("push %d of %v: %q is not valid UTF-8", id, ids, text)
		}
		b.WriteString(text)
	}
	b.WriteString(s.Flush())
	if want := tok.Decode(ids, skip); b.String() != want {
		t.Errorf("stream %v: %q, want %q", ids, b.String(), want)
	}
}
