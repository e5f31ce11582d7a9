package tokenizer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"eckart/model/tokenizer"
)

// document returns a small tokenizer.json with some fields replaced: those of the document by name, those of its model as
// model.name. A value of "" removes the field.
func document(replace ...string) string {
	fields := map[string]string{
		"version": `"1.0"`, "added_tokens": `[]`, "normalizer": `null`, "pre_tokenizer": `null`, "post_processor": `null`,
		"decoder": `{"type":"Fuse"}`,
	}
	model := map[string]string{
		"type": `"BPE"`, "unk_token": `"?"`, "vocab": `{"a":0,"b":1,"ab":2,"?":3}`, "merges": `[["a","b"]]`,
	}
	for i := 0; i < len(replace); i += 2 {
		if name, ok := strings.CutPrefix(replace[i], "model."); ok {
			model[name] = replace[i+1]
		} else {
			fields[replace[i]] = replace[i+1]
		}
	}
	object := func(fields map[string]string) string {
		var parts []string
		for name, value := range fields {
			if value != "" {
				parts = append(parts, fmt.Sprintf("%q:%s", name, value))
			}
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ",") + "}"
	}
	if fields["model"] == "" {
		fields["model"] = object(model)
	}
	return object(fields)
}

func added(content string, id int, more string) string {
	c, err := json.Marshal(content)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"id":%d,"content":%s,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true%s}`, id, c, more)
}

func unigramModel(vocab string) string {
	return `{"type":"Unigram","unk_id":0,"vocab":` + vocab + `}`
}

func splitBy(pattern string) string {
	p, err := json.Marshal(pattern)
	if err != nil {
		panic(err)
	}
	return `{"type":"Split","pattern":{"Regex":` + string(p) + `},"behavior":"Isolated","invert":false}`
}

// TestBadFiles holds files that are wrong, or ask for what is not supported, to one sentence that names what is at fault. The
// names of the rows begin with the row of the table of bad input that they belong to.
func TestBadFiles(t *testing.T) {
	if _, err := tokenizer.New([]byte(document())); err != nil {
		t.Fatalf("the document itself: %v", err)
	}
	deep := strings.Repeat(`{"type":"Sequence","normalizers":[`, 1000) + strings.Repeat(`]}`, 1000)
	for _, row := range []struct {
		name, file string
		want       []string // all of these are in the error
	}{
		{"T1 too large", "{" + strings.Repeat(" ", tokenizer.MaxFileBytes) + "}", []string{"bytes"}},
		{"T1 empty", "", []string{"EOF"}},
		{"T1 not JSON", "{", []string{"unexpected"}},
		{"T1 an array", "[]", []string{"array"}},
		{"T1 not UTF-8", strings.Replace(document(), "?", "\xff", 2), []string{"UTF-8"}},
		{"T1 more behind", document() + "{}", []string{"more follows"}},
		{"T1 version", document("version", `"2.0"`), []string{"version", "2.0"}},
		{"T1 unknown field", document("fancy", `1`), []string{`"fancy"`}},
		{"T1 no model", document("model", `null`), []string{"model", "missing"}},
		{"T1 model of unknown type", document("model", `{"type":"WordPiece","vocab":{},"max_input_chars_per_word":3}`), []string{"model", `"WordPiece"`}},
		{"T1 model without type", document("model", `{"vocab":{}}`), []string{"model", "type"}},
		{"T1 unknown field of the model", document("model.fancy", `1`), []string{"model", `"fancy"`}},
		{"T1 dropout", document("model.dropout", `0.1`), []string{"dropout"}},
		{"T1 continuing prefix", document("model.continuing_subword_prefix", `"##"`), []string{"continuing_subword_prefix"}},
		{"T1 suffix", document("model.end_of_word_suffix", `"</w>"`), []string{"end_of_word_suffix"}},
		{"T1 vocab of another shape", document("model.vocab", `[["a",0]]`), []string{"vocab", "object"}},
		{"T1 no vocab", document("model.vocab", ""), []string{"vocab"}},
		{"T1 no merges", document("model.merges", ""), []string{"merges"}},
		{"T1 merge names an unknown token on the left", document("model.merges", `[["x","b"]]`), []string{"merges", "number 0", `"x"`, "not in the vocabulary"}},
		{"T1 merge names an unknown token on the right", document("model.merges", `["a x"]`), []string{"merges", "number 0", `"x"`, "not in the vocabulary"}},
		{"T1 merge gives an unknown token", document("model.merges", `[["b","a"]]`), []string{"merges", `"ba"`, "not in the vocabulary"}},
		{"T1 merge of three", document("model.merges", `[["a","b","a"]]`), []string{"merges", "number 0"}},
		{"T1 merge string of three", document("model.merges", `["a b a"]`), []string{"merges", "number 0"}},
		{"T1 merge of a number", document("model.merges", `[3]`), []string{"merges", "number 0"}},
		{"T1 cyclic merge", document("model.vocab", `{"":4,"a":0,"b":1,"ab":2,"?":3}`, "model.merges", `[["a",""],["","a"]]`), []string{"merges", "empty"}},
		{"T1 duplicate id", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":3,"c":1}`), []string{"id 1", `"b"`, `"c"`}},
		{"T1 duplicate token", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":3,"a":4}`), []string{`"a"`, "0", "4"}},
		{"T1 id 2^31", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":2147483648}`), []string{"2147483648", `"?"`}},
		{"T1 id 2^31-1", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":2147483647}`), []string{"2147483647", "highest"}},
		{"T1 id 2^64", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":18446744073709551616}`), []string{"18446744073709551616"}},
		{"T1 negative id", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":-1}`), []string{"-1"}},
		{"T1 id with a fraction", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":1.5}`), []string{"1.5"}},
		{"T1 id of another kind", document("model.vocab", `{"a":0,"b":1,"ab":2,"?":"3"}`), []string{"vocab", `"?"`}},
		{"T1 unknown token missing", document("model.unk_token", `"!"`), []string{"unk_token", `"!"`}},
		{"T1 added token empty", document("added_tokens", "["+added("", 4, "")+"]"), []string{"added token", "id 4", "empty"}},
		{"T1 added token too long", document("added_tokens", "["+added(strings.Repeat("x", 2000), 4, "")+"]"), []string{"added token", "2000 bytes"}},
		{"T1 added token with a gap", document("added_tokens", "["+added("x", 9, "")+"]"), []string{`"x"`, "9", "4"}},
		{"T1 added token of another id", document("added_tokens", "["+added("ab", 1, "")+"]"), []string{`"ab"`, "1", "2"}},
		{"T1 added token twice", document("added_tokens", "["+added("x", 4, "")+","+added("x", 5, "")+"]"), []string{`"x"`}},
		{"T1 added token without field", document("added_tokens", `[{"id":4,"content":"x"}]`), []string{"added token", "single_word"}},
		{"T1 added token with unknown field", document("added_tokens", "["+added("x", 4, `,"fancy":1`)+"]"), []string{`"fancy"`}},
		{"T1 added token id 2^31", document("added_tokens", "["+added("x", 1<<31, "")+"]"), []string{"added_tokens", "2147483648"}},
		{"T1 added token that vanishes", document("normalizer", `{"type":"Strip","strip_left":true,"strip_right":true}`,
			"added_tokens", `[{"id":4,"content":"  ","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}]`), []string{"normalizer", `"  "`}},
		{"T1 regex of bad syntax", document("pre_tokenizer", splitBy(`(a`)), []string{"pre_tokenizer", "Split", `"(a"`}},
		{"T1 regex with a back reference", document("pre_tokenizer", splitBy(`(a)\1`)), []string{"pre_tokenizer", `\1`}},
		{"T1 catastrophic regex", document("pre_tokenizer", splitBy(`(a+)+$`)), []string{"pre_tokenizer", "exponential"}},
		{"T1 catastrophic regex in disguise", document("pre_tokenizer", splitBy(`(?:x|(?:a|b+)+)*c`)), []string{"pre_tokenizer", "exponential"}},
		{"T1 catastrophic regex of optional parts", document("pre_tokenizer", splitBy(`(a?b?)*c`)), []string{"pre_tokenizer", "empty"}},
		{"T1 regex too long", document("pre_tokenizer", splitBy(strings.Repeat(`a{1000}`, 20))), []string{"pre_tokenizer", "instructions"}},
		{"T1 regex that matches nothing", document("pre_tokenizer", splitBy(`a*`)), []string{"pre_tokenizer", "empty string"}},
		{"T1 regex of deep groups", document("pre_tokenizer", splitBy(strings.Repeat("(", 1e5)+"a"+strings.Repeat(")", 1e5))), []string{"pre_tokenizer", "deeper"}},
		{"T1 regex of deep sets", document("pre_tokenizer", splitBy(strings.Repeat("[", 1e5))), []string{"pre_tokenizer", "deeper"}},
		{"T1 replace by a bad regex", document("normalizer", `{"type":"Replace","pattern":{"Regex":"["},"content":""}`), []string{"normalizer", "Replace", "set"}},
		{"T1 pattern of both kinds", document("normalizer", `{"type":"Replace","pattern":{"Regex":"a","String":"a"},"content":""}`), []string{"normalizer", "neither"}},
		{"T1 behavior", document("pre_tokenizer", `{"type":"Split","pattern":{"String":"a"},"behavior":"Fancy","invert":false}`), []string{"pre_tokenizer", `"Fancy"`}},
		{"T1 no behavior", document("pre_tokenizer", `{"type":"Split","pattern":{"String":"a"},"invert":false}`), []string{"pre_tokenizer", "behavior"}},
		{"T1 normalizer of unknown type", document("normalizer", `{"type":"Precompiled","precompiled_charsmap":"AA=="}`), []string{"normalizer", `"Precompiled"`}},
		{"T1 normalizer within a sequence", document("normalizer", `{"type":"Sequence","normalizers":[{"type":"Nmt"}]}`), []string{"normalizer", `"Nmt"`}},
		{"T1 pre-tokenizer of unknown type", document("pre_tokenizer", `{"type":"BertPreTokenizer"}`), []string{"pre_tokenizer", `"BertPreTokenizer"`}},
		{"T1 decoder of unknown type", document("decoder", `{"type":"CTC"}`), []string{"decoder", `"CTC"`}},
		{"T1 decoder with a regex", document("decoder", `{"type":"Replace","pattern":{"Regex":"a"},"content":""}`), []string{"decoder", "Replace", "String"}},
		{"T1 decoder that strips a word", document("decoder", `{"type":"Strip","content":"ab","start":1,"stop":0}`), []string{"decoder", "Strip"}},
		{"T1 post-processor of unknown type", document("post_processor", `{"type":"Fancy"}`), []string{"post_processor", `"Fancy"`}},
		{"T1 template without text", document("post_processor", `{"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}`), []string{"post_processor", "0 times"}},
		{"T1 template of an unknown token", document("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}}],"pair":[],"special_tokens":{}}`), []string{"post_processor", `"<s>"`}},
		{"T1 template of an unknown id", document("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[77],"tokens":["<s>"]}}}`), []string{"post_processor", "77"}},
		{"T1 component without type", document("normalizer", `{"normalizers":[]}`), []string{"normalizer", "type"}},
		{"T1 component that is no object", document("normalizer", `3`), []string{"normalizer", "object"}},
		{"T1 deep sequences", document("normalizer", deep), []string{"deep"}},
		{"T1 metaspace scheme", document("pre_tokenizer", `{"type":"Metaspace","replacement":"▁","prepend_scheme":"last"}`), []string{"pre_tokenizer", "Metaspace", `"last"`}},
		{"T1 metaspace of two characters", document("pre_tokenizer", `{"type":"Metaspace","replacement":"▁▁","prepend_scheme":"first"}`), []string{"pre_tokenizer", "Metaspace"}},
		{"T1 unigram without unk_id", document("model", `{"type":"Unigram","vocab":[["a",0]]}`), []string{"model", "unk_id"}},
		{"T1 unigram with unk_id too high", document("model", `{"type":"Unigram","unk_id":1,"vocab":[["a",0]]}`), []string{"model", "unk_id 1"}},
		{"T1 unigram token twice", document("model", unigramModel(`[["a",0],["a",1]]`)), []string{"vocab", `"a"`}},
		{"T1 unigram score missing", document("model", unigramModel(`[["a"]]`)), []string{"vocab", `"a"`}},
		{"T1 unigram score out of range", document("model", unigramModel(`[["a",1e999]]`)), []string{"vocab", "1e999"}},
		{"T1 unigram piece too long", document("model", unigramModel(`[["a",0],["`+strings.Repeat("a", 5000)+`",1]]`)), []string{"5000 bytes"}},
		{"T1 unigram vocab of another shape", document("model", unigramModel(`{"a":0}`)), []string{"vocab", "array"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := tokenizer.New([]byte(row.file))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), "read tokenizer: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is no sentence of ours: %v", err)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
		})
	}
}

// TestByteTokens holds tokens that resemble those for bytes, row T4, to being text.
func TestByteTokens(t *testing.T) {
	tok, err := tokenizer.New([]byte(document(
		"model.vocab", `{"a":0,"b":1,"ab":2,"?":3,"<0x-1>":4,"<0x1FF>":5,"<0xZZ>":6,"<0x41>":7,"<0xC3>":8,"<0xa9>":9,"<0x+1>":10}`,
		"model.byte_fallback", `true`,
		"decoder", `{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]}`,
	)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   int32
		text string
	}{{4, "<0x-1>"}, {5, "<0x1FF>"}, {6, "<0xZZ>"}, {7, "A"}, {8, "\uFFFD"}, {10, "<0x+1>"}} {
		if got := tok.Decode([]int32{c.id}, false); got != c.text {
			t.Errorf("decode %d: %q, want %q", c.id, got, c.text)
		}
	}
	if got := tok.Decode([]int32{8, 9}, false); got != "é" {
		t.Errorf("decode the two bytes of é: %q", got)
	}
	// A is in the vocabulary as a byte, é as only one of its two bytes.
	if got := tok.Encode("Aé", tokenizer.EncodeOptions{}); !slices.Equal(got, []int32{7, 3}) {
		t.Errorf("encode Aé: %v, want [7 3]", got)
	}
	if got := tok.Bytes(7); !bytes.Equal(got, []byte("A")) {
		t.Errorf("bytes of <0x41>: %q", got)
	}
}

// FuzzNew checks that no file makes New panic, and that what it takes can be used.
func FuzzNew(f *testing.F) {
	f.Add([]byte(document()))
	f.Add([]byte(document("pre_tokenizer", splitBy(`[^\r\n\p{L}]?\p{L}+|\s+(?!\S)|(?<=a)b{1,3}?|x++`))))
	f.Add([]byte(document("model", unigramModel(`[["<unk>",0],["a",-1.5],["\u2581",-2]]`), "pre_tokenizer", `{"type":"Metaspace","replacement":"▁"}`)))
	f.Add([]byte(document("added_tokens", "["+added("<x>", 4, "")+"]", "normalizer", `{"type":"NFKC"}`)))
	f.Add([]byte(document("model.merges", `["a b"]`, "decoder", `null`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tok, err := tokenizer.New(raw)
		if err != nil {
			return
		}
		ids := tok.Encode("ab <x>é\xff\n  a1", tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
		for _, id := range ids {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Fatalf("id %d of %d", id, tok.VocabSize())
			}
			tok.Bytes(id)
		}
		streamed(t, tok, ids, false)
	})
}
