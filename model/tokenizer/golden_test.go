package tokenizer_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/model/tokenizer"
)

// goldenCase is a text and what the reference made of it.
type goldenCase struct {
	Text        string
	IDs         []int32
	IDsPlain    []int32 `json:"ids_plain"`
	Decoded     string
	DecodedSkip string `json:"decoded_skip"`
}

const shared = "../../../shared/"

// kinds returns the folders of golden tokenizers: those of the project, and those of the shared folder where there is one.
func kinds(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"testdata/*/cases.json.gz", shared + "golden/tokenizers/*/cases.json"} {
		if testing.Short() && len(all) > 0 {
			break
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			all = append(all, filepath.Dir(f))
		}
	}
	if len(all) < 10 {
		t.Fatalf("testdata has %d golden tokenizers, want 10", len(all))
	}
	return all
}

// read returns a file, or what is packed in the file of that name with .gz behind it.
func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		return raw
	}
	if raw, err = os.ReadFile(path + ".gz"); err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = io.ReadAll(packed); err != nil {
		t.Fatal(err)
	}
	return raw
}

func load(t testing.TB, path string) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.New(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func cases(t testing.TB, kind string) []goldenCase {
	t.Helper()
	var file struct{ Cases []goldenCase }
	if err := json.Unmarshal(read(t, filepath.Join(kind, "cases.json")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

// TestGolden holds ids and texts to those of the reference.
func TestGolden(t *testing.T) {
	for _, kind := range kinds(t) {
		t.Run(filepath.Base(filepath.Dir(kind))+"/"+filepath.Base(kind), func(t *testing.T) {
			tok := load(t, filepath.Join(kind, "tokenizer.json"))
			all := cases(t, kind)
			if len(all) < 50 {
				t.Fatalf("only %d cases", len(all))
			}
			for _, c := range all {
				ids := tok.Encode(c.Text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
				if !slices.Equal(ids, c.IDs) {
					t.Errorf("encode %q with special tokens: %v, want %v", c.Text, ids, c.IDs)
				}
				plain := tok.Encode(c.Text, tokenizer.EncodeOptions{ParseSpecial: true})
				if !slices.Equal(plain, c.IDsPlain) {
					t.Errorf("encode %q: %v, want %v", c.Text, plain, c.IDsPlain)
				}
				if got := tok.Decode(c.IDsPlain, false); got != c.Decoded {
					t.Errorf("decode %v: %q, want %q", c.IDsPlain, got, c.Decoded)
				}
				if got := tok.Decode(c.IDs, true); got != c.DecodedSkip {
					t.Errorf("decode %v without special tokens: %q, want %q", c.IDs, got, c.DecodedSkip)
				}
				streamed(t, tok, c.IDs, true)
				streamed(t, tok, c.IDsPlain, false)
			}
		})
	}
}

// variant is a golden tokenizer with something changed.
type variant struct {
	Name, Base string
	// Set gives fields of the document, or of its model as model.field, new values.
	Set map[string]json.RawMessage
	// Drop names tokens to take out of the vocabulary; Strings writes merges as strings; Bytes adds tokens for bytes.
	Drop           []string
	Strings, Bytes bool
	IDs            [][]int32
	Decoded        []string
}

// build returns the tokenizer.json of the variant.
func (v *variant) build(t testing.TB) []byte {
	t.Helper()
	var doc, model map[string]json.RawMessage
	unpack := func(raw []byte, into any) {
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	pack := func(v any) []byte {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	unpack(read(t, filepath.Join("testdata", v.Base, "tokenizer.json")), &doc)
	unpack(doc["model"], &model)
	for field, value := range v.Set {
		if inner, ok := strings.CutPrefix(field, "model."); ok {
			model[inner] = value
		} else {
			doc[field] = value
		}
	}
	if len(v.Drop) > 0 {
		var vocab map[string]int
		unpack(model["vocab"], &vocab)
		for _, token := range v.Drop {
			delete(vocab, token)
		}
		model["vocab"] = pack(vocab)
	}
	if v.Strings {
		var pairs [][2]string
		unpack(model["merges"], &pairs)
		var lines []string
		for _, p := range pairs {
			lines = append(lines, p[0]+" "+p[1])
		}
		model["merges"] = pack(lines)
	}
	if v.Bytes {
		var vocab [][2]any
		unpack(model["vocab"], &vocab)
		for b := range 256 {
			vocab = append(vocab, [2]any{fmt.Sprintf("<0x%02X>", b), -20})
		}
		model["vocab"] = pack(vocab)
	}
	doc["model"] = pack(model)
	return pack(doc)
}

func variants(t testing.TB) (texts []string, all []variant) {
	t.Helper()
	var file struct {
		Texts    []string
		Variants []variant
	}
	if err := json.Unmarshal(read(t, "testdata/variants.json"), &file); err != nil {
		t.Fatal(err)
	}
	return file.Texts, file.Variants
}

// TestVariants holds the components that no golden tokenizer has to the reference.
func TestVariants(t *testing.T) {
	texts, all := variants(t)
	if len(all) < 80 {
		t.Fatalf("only %d variants", len(all))
	}
	for i, v := range all {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			tok, err := tokenizer.New(v.build(t))
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range texts {
				ids := tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
				if !slices.Equal(ids, v.IDs[i]) {
					t.Errorf("encode %q: %v, want %v", text, ids, v.IDs[i])
				}
				if got := tok.Decode(v.IDs[i], false); got != v.Decoded[i] {
					t.Errorf("decode %v: %q, want %q", v.IDs[i], got, v.Decoded[i])
				}
				streamed(t, tok, v.IDs[i], false)
				streamed(t, tok, v.IDs[i], true)
			}
		})
	}
}
