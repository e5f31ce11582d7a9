package tokenizer_test

import (
	"slices"
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

// FuzzStream decodes ids that no text gave.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 200, 1, 255, 9})
	f.Add([]byte("\x00\xe7\x00\xbb\x00\x99\x0b\xff"))
	toks := []*tokenizer.Tokenizer{}
	for _, kind := range []string{"llama3", "llama2-bytefallback", "gemma-bytefallback", "unigram"} {
		toks = append(toks, goldenTokenizer(f, kind))
	}
	_, all := variants(f)
	for _, v := range all {
		if strings.Contains(v.Name, "decode") || strings.Contains(v.Name, "strip of") || v.Name == "unigram with bytes" {
			tok, err := tokenizer.New(v.build(f))
			if err != nil {
				f.Fatal(err)
			}
			toks = append(toks, tok)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ids []int32
		for i := 0; i+1 < len(raw); i += 2 {
			ids = append(ids, int32(raw[i])<<8%4096|int32(raw[i+1]))
		}
		for _, tok := range toks {
			streamed(t, tok, ids, false)
			streamed(t, tok, ids, true)
			if text := tok.Decode(ids, false); !utf8.ValidString(text) {
				t.Errorf("decode %v: %q is not valid UTF-8", ids, text)
			}
		}
	})
}

// TestStreamHolds checks what a stream holds back, and what it does not.
func TestStreamHolds(t *testing.T) {
	llama2 := goldenTokenizer(t, "llama2-bytefallback")
	id := func(token string) int32 {
		id, ok := llama2.ID(token)
		if !ok {
			t.Fatalf("no token %q", token)
		}
		return id
	}
	the := id("▁the")
	for _, c := range []struct {
		name    string
		context []int32
		push    []int32
		want    []string // the last one is of Flush
	}{
		{"the first space goes", nil, []int32{the, the}, []string{"the", " the", ""}},
		{"behind others it stays", []int32{the}, []int32{the, the}, []string{" the", " the", ""}},
		{"special tokens that are skipped are no context", []int32{1}, []int32{the}, []string{"the", ""}},
		{"characters come whole", nil, []int32{id("<0xE4>"), id("<0xB8>"), id("<0x96>"), the}, []string{"", "", "世", " the", ""}},
		{"and at once", nil, []int32{id("<0x41>"), id("<0xC3>"), id("<0xA9>")}, []string{"A", "", "é", ""}},
		{"a byte of none", nil, []int32{id("<0xE4>"), id("<0x41>")}, []string{"", "\uFFFDA", ""}},
		{"half a character at the end", nil, []int32{the, id("<0xE4>"), id("<0xB8>")}, []string{"the", "", "", "\uFFFD\uFFFD"}},
		{"half a character in the context", []int32{id("<0xC3>")}, []int32{id("<0xA9>"), the}, []string{"é", " the", ""}},
		{"unknown ids", nil, []int32{-1, 1 << 30, the}, []string{"", "", "the", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := llama2.NewStream(true, c.context...)
			var got []string
			for _, id := range c.push {
				got = append(got, s.Push(id))
			}
			if got = append(got, s.Flush()); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	bytes := goldenTokenizer(t, "llama3")
	var ids []int32
	for _, b := range "\u00e4\u00b8\u0138" { // the bytes E4 B8 96 in the byte-level alphabet
		id, ok := bytes.ID(string(b))
		if !ok {
			t.Fatalf("no token %q", b)
		}
		ids = append(ids, id)
	}
	s := bytes.NewStream(false)
	if a, b, c := s.Push(ids[0]), s.Push(ids[1]), s.Push(ids[2]); a != "" || b != "" || c != "世" {
		t.Errorf("three bytes of a character: %q %q %q", a, b, c)
	}
	if a, b := s.Push(ids[0]), s.Push(ids[0]); a != "" || b != "\uFFFD" {
		t.Errorf("a byte of none: %q %q", a, b)
	}
	if got := s.Flush(); got != "\uFFFD" {
		t.Errorf("flush: %q", got)
	}
	unigram := goldenTokenizer(t, "unigram")
	space, _ := unigram.ID("▁")
	u := unigram.NewStream(true)
	if a, b := u.Push(space), u.Push(space); a != "" || b != " " {
		t.Errorf("spaces: %q %q", a, b)
	}
	if got := unigram.NewStream(true, space).Push(space); got != " " {
		t.Errorf("a space behind others: %q", got)
	}
}

// TestStripEnd checks a decoder that strips the end of the text, which the reference cannot decode an empty text with.
func TestStripEnd(t *testing.T) {
	tok, err := tokenizer.New([]byte(document(
		"decoder", `{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":"b","start":0,"stop":2},{"type":"Replace","pattern":{"String":"aba"},"content":"-"}]}`,
	)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ids  []int32
		want string
	}{
		{nil, ""},
		{[]int32{1}, ""},
		{[]int32{1, 1, 1, 1}, "bb"},
		{[]int32{0, 1, 1, 1, 3, 1, 1}, "abbb?"},
		{[]int32{2, 2, 0, 1, 0}, "-b-"},
		{[]int32{0, 1, 0}, "-"},
		{[]int32{0, 1, 2, 0}, "-ba"},
	} {
		if got := tok.Decode(c.ids, false); got != c.want {
			t.Errorf("decode %v: %q, want %q", c.ids, got, c.want)
		}
		streamed(t, tok, c.ids, false)
	}
}

// TestLongStream pushes many ids: if a push looked at what came before, the test would run for minutes.
func TestLongStream(t *testing.T) {
	for _, kind := range []string{"llama3", "llama2-bytefallback", "unigram"} {
		tok := goldenTokenizer(t, kind)
		s := tok.NewStream(true)
		n, length := 200_000, 0
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(i * 7919 % tok.VocabSize())
			length += len(s.Push(ids[i]))
		}
		length += len(s.Flush())
		if want := len(tok.Decode(ids, true)); length != want {
			t.Errorf("%s: %d bytes, want %d", kind, length, want)
		}
	}
}
