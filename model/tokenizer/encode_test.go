package tokenizer_test

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"

	"eckart/internal/race"
	"eckart/model/tokenizer"
)

// goldenTokenizer returns one of the golden tokenizers in testdata.
func goldenTokenizer(t testing.TB, kind string) *tokenizer.Tokenizer {
	t.Helper()
	return load(t, filepath.Join("testdata", kind, "tokenizer.json"))
}

// TestLongWords encodes texts of a megabyte in which nothing, or everything, is a boundary, row T2. If any step took time in the
// square of the length, the test would run for minutes.
func TestLongWords(t *testing.T) {
	if race.Enabled {
		t.Skip("one goroutine encodes long texts")
	}
	n, less := 1<<20, 1<<17
	if testing.Short() {
		n, less = 1<<14, 1<<14
	}
	texts := map[string]string{
		"one letter": strings.Repeat("a", n), "spaces": strings.Repeat(" ", n), "line ends": strings.Repeat("\n", n),
		"spaces before a word": strings.Repeat(" ", less) + "a", "NUL": strings.Repeat("\x00", less), "digits": strings.Repeat("7", less),
		"marks": strings.Repeat("\u0301", less), "signs": strings.Repeat("=", less), "unknown": strings.Repeat("\U0010FFFF", less),
		"capitals": strings.Repeat("A", less), "controls": strings.Repeat("\x01", less), "special tokens": strings.Repeat("</s>", less),
	}
	for _, kind := range []string{"llama3", "o200k", "deepseek", "llama2-bytefallback", "unigram", "added-tokens"} {
		tok := goldenTokenizer(t, kind)
		for name, text := range texts {
			t.Run(kind+"/"+name, func(t *testing.T) {
				ids := tok.Encode(text, tokenizer.EncodeOptions{})
				if len(ids) == 0 {
					t.Fatal("no ids")
				}
				if kind == "unigram" {
					return // it has no token for some of the characters, and joins spaces
				}
				if got := tok.Decode(ids, false); got != text {
					t.Errorf("%d ids decode to another text of %d bytes", len(ids), len(got))
				}
			})
		}
	}
}

// TestSlowPatterns encodes long texts with patterns that take polynomial time in an engine that only backtracks.
func TestSlowPatterns(t *testing.T) {
	n := 1 << 18
	if testing.Short() {
		n = 1 << 14
	}
	for _, pattern := range []string{
		`a*a*a*a*b|c`, `(?:a|aa)+b`, `a+(?=a*b)|a`, `a(?!.*b)`, `a++b|a`, `a?a?a?a?a?a?a?a?a?a?a?a?b|a{3}`, `a{1,3}(?=(?:a{3})*\b)`, `.*?.*?b|.`, `a*?$b|a`,
	} {
		t.Run(pattern, func(t *testing.T) {
			tok, err := tokenizer.New([]byte(document("pre_tokenizer", splitBy(pattern))))
			if err != nil {
				t.Fatal(err)
			}
			if ids := tok.Encode(strings.Repeat("a", n), tokenizer.EncodeOptions{}); len(ids) != n {
				t.Errorf("%d ids, want %d", len(ids), n)
			}
		})
	}
}

// TestSpecialText checks that special tokens in a text are text unless they are asked for, row T3, also with models that could
// spell them.
func TestSpecialText(t *testing.T) {
	texts := []string{
		"<|im_end|>", "<|eot_id|>", "<|channel|>", "[INST]", "<s>", "</s>", "<unk>", "<pad>", "<|eot|>", "<|begin_of_text|>",
		"a</s>b", "</s></s>", " </s> ", "<|begin_of_text|><|eot|>", "< /s>", "＜/s＞", "</s", "<</s>>",
	}
	for _, kind := range kinds(t) {
		tok := load(t, filepath.Join(kind, "tokenizer.json"))
		for _, text := range texts {
			for _, id := range tok.Encode(text, tokenizer.EncodeOptions{}) {
				// A character without id is the unknown token, which is special too.
				if tok.IsSpecial(id) && tok.Token(id) != "<unk>" {
					t.Errorf("%s: %q as text gives the special token %q", kind, text, tok.Token(id))
				}
			}
			id, ok := tok.ID(text)
			if !ok || !tok.IsSpecial(id) {
				continue
			}
			if got := tok.Encode(text, tokenizer.EncodeOptions{ParseSpecial: true}); !slices.Equal(got, []int32{id}) {
				t.Errorf("%s: %q asked for: %v, want [%d]", kind, text, got, id)
			}
			if got := tok.Decode([]int32{id}, true); got != "" {
				t.Errorf("%s: decode %q without special tokens: %q", kind, text, got)
			}
			if got := string(tok.Bytes(id)); got != text {
				t.Errorf("%s: the bytes of %q are %q", kind, text, got)
			}
		}
	}
	// A model that ignores merges takes a whole word from the vocabulary, and one without words has whole texts.
	for _, model := range []string{
		`{"type":"BPE","ignore_merges":true,"unk_token":"?","vocab":{"?":0,"<":1,"s":2,">":3,"<s>":4},"merges":[]}`,
		`{"type":"BPE","unk_token":"?","vocab":{"?":0,"<":1,"s":2,">":3,"<s>":4,"<s":5},"merges":[["<","s"],["<s",">"]]}`,
		`{"type":"Unigram","unk_id":0,"vocab":[["?",-9],["<",-1],["s",-1],[">",-1],["<s>",-1]]}`,
	} {
		tok, err := tokenizer.New([]byte(document("model", model, "added_tokens", "["+added("<s>", 4, "")+"]")))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from memory
			if ids := tok.Encode("<s>", tokenizer.EncodeOptions{}); slices.Contains(ids, 4) || len(ids) < 2 {
				t.Errorf("encode <s> as text with %s: %v", model, ids)
			}
			if ids := tok.Encode("<s>", tokenizer.EncodeOptions{ParseSpecial: true}); !slices.Equal(ids, []int32{4}) {
				t.Errorf("encode <s> with %s: %v", model, ids)
			}
		}
	}
}

// TestInvalidText checks that invalid UTF-8 reads as if U+FFFD stood in its places, row T2.
func TestInvalidText(t *testing.T) {
	tok := goldenTokenizer(t, "llama3")
	for _, c := range []struct{ text, want string }{
		{"\xff", "�"},
		{"a\xffb", "a�b"},
		{"\xe4\xb8", "�"},                               // the beginning of a character
		{"\xe4\xb8\xe4\xb8\x96", "�世"},                  // a whole one behind it
		{"\xf0\x90\x80", "�"},                           // three bytes of four
		{"\xc0\xaf", "��"},                              // overlong
		{"\xe0\x80\x80", "���"},                         // overlong
		{"\xed\xa0\x80", "���"},                         // a surrogate
		{"\xf4\x90\x80\x80", "����"},                    // above U+10FFFF
		{"\xf0\x9f\x98\x80\x80", "😀�"},                  // a byte too many
		{"\x80\x80", "��"},                              // bytes that continue nothing
		{"x\xf1\x80\x80\xe1\x80\xc2b", "x���b"},         // the example of Unicode 15.0, table 3-8
		{"\xc3\x28 \xa0\xa1 \xe2\x28\xa1", "�( �� �(�"}, // broken in the middle
	} {
		ids := tok.Encode(c.text, tokenizer.EncodeOptions{})
		if want := tok.Encode(c.want, tokenizer.EncodeOptions{}); !slices.Equal(ids, want) {
			t.Errorf("encode %q: %v, want %v as for %q", c.text, ids, want, c.want)
		}
		if got := tok.Decode(ids, false); got != c.want {
			t.Errorf("decode what %q gave: %q, want %q", c.text, got, c.want)
		}
	}
}

// TestEveryCharacter encodes and decodes every code point, row T2.
func TestEveryCharacter(t *testing.T) {
	if testing.Short() {
		t.Skip("5 MB of text")
	}
	var b strings.Builder
	for r := range rune(utf8.MaxRune + 1) {
		if utf8.ValidRune(r) {
			b.WriteRune(r)
			if r%3 == 0 {
				b.WriteByte(" a\n1'"[r/3%5])
			}
		}
	}
	text := b.String()
	for _, kind := range []string{"o200k", "deepseek", "llama2-bytefallback"} {
		want := text
		if kind == "llama2-bytefallback" {
			want = strings.ReplaceAll(text, "▁", " ") // it writes spaces so
		}
		tok := goldenTokenizer(t, kind)
		ids := tok.Encode(text, tokenizer.EncodeOptions{})
		if got := tok.Decode(ids, false); got != want {
			t.Errorf("%s: the text of all characters comes back changed", kind)
		}
	}
}

// TestConcurrent encodes and decodes from many goroutines at once.
func TestConcurrent(t *testing.T) {
	for _, kind := range []string{"llama3", "unigram"} {
		tok := goldenTokenizer(t, kind)
		all := cases(t, filepath.Join("testdata", kind))
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := range all {
					c := all[(i*7+worker*31)%len(all)]
					if got := tok.Encode(c.Text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true}); !slices.Equal(got, c.IDs) {
						t.Errorf("%s: encode %q: %v, want %v", kind, c.Text, got, c.IDs)
					}
					tok.Encode(c.Text, tokenizer.EncodeOptions{})
					if got := tok.Decode(c.IDs, true); got != c.DecodedSkip {
						t.Errorf("%s: decode %v: %q, want %q", kind, c.IDs, got, c.DecodedSkip)
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestVocabulary checks the questions about single ids.
func TestVocabulary(t *testing.T) {
	tok := goldenTokenizer(t, "added-tokens")
	if got := tok.VocabSize(); got != 3004 {
		t.Errorf("vocabulary of %d, want 3004", got)
	}
	if id, ok := tok.ID("<tool_call>"); !ok || id != 3000 || tok.Token(3000) != "<tool_call>" || tok.IsSpecial(3000) {
		t.Errorf("<tool_call>: %d %v %q %v", id, ok, tok.Token(3000), tok.IsSpecial(3000))
	}
	if id, ok := tok.ID("<|eot|>"); !ok || id != 2 || !tok.IsSpecial(2) {
		t.Errorf("<|eot|>: %d %v %v", id, ok, tok.IsSpecial(2))
	}
	if _, ok := tok.ID("no such token"); ok {
		t.Error("a token that is not there has an id")
	}
	for _, id := range []int32{-1, -1 << 31, 3004, 1<<31 - 1} {
		if tok.Token(id) != "" || tok.IsSpecial(id) || tok.Bytes(id) != nil || tok.Decode([]int32{id}, false) != "" {
			t.Errorf("the id %d, which is not there, stands for something", id)
		}
	}
	space, ok := tok.ID("Ġ")
	if !ok || string(tok.Bytes(space)) != " " {
		t.Errorf("bytes of Ġ: %q", tok.Bytes(space))
	}
	llama2 := goldenTokenizer(t, "llama2-bytefallback")
	for token, want := range map[string]string{"<0xE4>": "\xe4", "▁the": " the", "</s>": "</s>", "er": "er"} {
		id, ok := llama2.ID(token)
		if !ok || string(llama2.Bytes(id)) != want {
			t.Errorf("bytes of %s: %q, want %q", token, llama2.Bytes(id), want)
		}
	}
}

// FuzzEncode checks that text comes back from its ids, where no normalizer changes it, that a stream says what Decode says, and
// that invalid text reads as the decoder of golang.org/x/text reads it.
func FuzzEncode(f *testing.F) {
	for _, seed := range []string{
		"", "Hello, World!", "  a  b\n\n", "it's 12345 \r\n", "<|eot|></s>", "中文 हिन्दी 👨‍👩‍👧", "\xff\xfe\xe4\xb8", "ǅ'ſ İ", strings.Repeat("ab ", 40),
		"[PAD]  WORD x", strings.Repeat("=", 100),
	} {
		f.Add(seed)
	}
	roundTrip := map[string]*tokenizer.Tokenizer{}
	for _, kind := range []string{"gpt2", "llama3", "o200k", "deepseek", "digits", "added-tokens", "gemma-bytefallback", "llama2-bytefallback"} {
		roundTrip[kind] = goldenTokenizer(f, kind)
	}
	unigram := goldenTokenizer(f, "unigram")
	f.Fuzz(func(t *testing.T, text string) {
		want, err := unicode.UTF8.NewDecoder().String(text)
		if err != nil {
			t.Fatal(err)
		}
		for kind, tok := range roundTrip {
			ids := tok.Encode(text, tokenizer.EncodeOptions{})
			want := want
			if strings.HasSuffix(kind, "bytefallback") {
				want = strings.ReplaceAll(want, "▁", " ") // they write spaces so
			}
			if got := tok.Decode(ids, false); got != want && !strings.Contains(want, "[PAD]") {
				t.Errorf("%s: %q comes back as %q", kind, want, got)
			}
			streamed(t, tok, ids, false)
			streamed(t, tok, tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true}), true)
		}
		streamed(t, unigram, unigram.Encode(text, tokenizer.EncodeOptions{AddSpecial: true}), false)
	})
}
