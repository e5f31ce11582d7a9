package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// MaxFileBytes is the size of tokenizer.json up to which [New] reads it: several times that of the largest published
	// vocabularies. A caller that reads the file should not read more.
	MaxFileBytes = 128 << 20
	// maxID bounds ids: tables are indexed by them.
	maxID = 1<<22 - 1
	// maxNesting bounds sequences of sequences of components.
	maxNesting = 20
)

// document is tokenizer.json.
type document struct {
	Version       string
	Truncation    json.RawMessage
	Padding       json.RawMessage
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    json.RawMessage
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage
	Model         json.RawMessage
}

// file is what is known while a file is read.
type file struct {
	*classes
	*alphabet
	// ids is the vocabulary of the model. tokens spells all ids, those of added tokens too, and present tells which there are.
	ids     map[string]int32
	tokens  []string
	present []bool
	depth   int
}

// strict reads JSON into v and refuses fields that v does not have.
func strict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more follows the end of the value")
	}
	return nil
}

// kindOf returns the field type of a component, "" when the component is absent or null.
func kindOf(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var v struct{ Type string }
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fmt.Errorf("%.40q is not an object with a type", raw)
	}
	if v.Type == "" {
		return "", fmt.Errorf("it has no type")
	}
	return v.Type, nil
}

// bare checks that a component has no field but its type.
func bare(raw json.RawMessage) error {
	return strict(raw, new(struct{ Type string }))
}

func unknown(kind string) error { return fmt.Errorf("the type %.60q is not supported", kind) }

// nested reads a sequence and counts it as one level deeper, until leave.
func (f *file) nested(raw json.RawMessage, v any) error {
	if f.depth >= maxNesting {
		return fmt.Errorf("sequences nest deeper than %d", maxNesting)
	}
	if err := strict(raw, v); err != nil {
		return err
	}
	f.depth++
	return nil
}

func (f *file) leave() { f.depth-- }

func checkID(token string, id int64) error {
	switch {
	case id < 0 || id > math.MaxInt32:
		return fmt.Errorf("the id %d of %.60q is not a number of 31 bits", id, token)
	case id > maxID:
		return fmt.Errorf("the id %d of %.60q is beyond %d, the highest supported", id, token, maxID)
	}
	return nil
}

// enter adds a token to the vocabulary ids.
func (f *file) enter(ids map[string]int32, token string, id int64) error {
	if err := checkID(token, id); err != nil {
		return err
	}
	for int64(len(f.tokens)) <= id {
		f.tokens = append(f.tokens, "")
		f.present = append(f.present, false)
	}
	if f.present[id] {
		// The lower one first: the vocabulary comes in no order.
		a, b := min(token, f.tokens[id]), max(token, f.tokens[id])
		return fmt.Errorf("the id %d stands for both %.60q and %.60q", id, a, b)
	}
	ids[token], f.tokens[id], f.present[id] = int32(id), token, true
	return nil
}

// byteTokens returns the ids of the tokens <0x00> to <0xFF>, -1 for those that are not in the vocabulary. Tokens that only
// resemble them are text.
func (f *file) byteTokens() (ids [256]int32) {
	for b := range ids {
		id, ok := f.ids[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			id = -1
		}
		ids[b] = id
	}
	return ids
}

// byteToken returns the byte that a token <0xHH> stands for, -1 for other tokens.
func byteToken(token string) int {
	if len(token) != 6 || token[:3] != "<0x" || token[5] != '>' {
		return -1
	}
	value := 0
	for _, c := range []byte(token[3:5]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return -1
		}
		value = 16*value + int(c)
	}
	return value
}

// modelFile is a model of any supported type.
type modelFile struct {
	Type                    string
	Dropout                 *float64
	UnkToken                *string `json:"unk_token"`
	UnkID                   *int64  `json:"unk_id"`
	ContinuingSubwordPrefix *string `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string `json:"end_of_word_suffix"`
	FuseUnk                 bool    `json:"fuse_unk"`
	ByteFallback            bool    `json:"byte_fallback"`
	IgnoreMerges            bool    `json:"ignore_merges"`
	Vocab                   json.RawMessage
	Merges                  json.RawMessage
}

// readModel reads the field model. Files of 2020 have no type in it.
func (f *file) readModel(raw json.RawMessage) (model, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, fmt.Errorf("it is missing")
	}
	var v modelFile
	if err := strict(raw, &v); err != nil {
		if kind, e := kindOf(raw); e == nil && kind != "BPE" && kind != "Unigram" {
			return nil, unknown(kind)
		}
		return nil, err
	}
	switch {
	case v.Type == "BPE" || v.Type == "" && v.Merges != nil:
		return f.readBPE(&v)
	case v.Type == "Unigram" || v.Type == "" && v.UnkID != nil:
		return f.readUnigram(&v)
	case v.Type == "":
		return nil, fmt.Errorf("it has no type")
	}
	return nil, unknown(v.Type)
}

// New reads a tokenizer.json. The error names the component, token or rule at fault.
func New(tokenizerJSON []byte) (*Tokenizer, error) {
	t, err := read(tokenizerJSON)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer: %w", err)
	}
	return t, nil
}

func read(raw []byte) (*Tokenizer, error) {
	if len(raw) > MaxFileBytes {
		return nil, fmt.Errorf("the file has %d bytes, at most %d are read", len(raw), MaxFileBytes)
	}
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("the file is not valid UTF-8")
	}
	var d document
	if err := strict(raw, &d); err != nil {
		return nil, err
	}
	if d.Version != "" && d.Version != "1.0" {
		return nil, fmt.Errorf("the version %.60q is not supported", d.Version)
	}
	f := &file{classes: newClasses(), alphabet: newAlphabet(), ids: make(map[string]int32)}
	t := new(Tokenizer)
	var err error
	if t.model, err = f.readModel(d.Model); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if t.normalizer, err = f.readNormalizer(d.Normalizer); err != nil {
		return nil, fmt.Errorf("read normalizer: %w", err)
	}
	if t.preTokenizers, err = f.readPreTokenizers(d.PreTokenizer); err != nil {
		return nil, fmt.Errorf("read pre_tokenizer: %w", err)
	}
	if t.decoders, err = f.readDecoders(d.Decoder); err != nil {
		return nil, fmt.Errorf("read decoder: %w", err)
	}
	if err := f.addTokens(t, d.AddedTokens); err != nil {
		return nil, err
	}
	t.ids, t.tokens, t.present = f.ids, f.tokens, f.present
	if err := f.readPostProcessor(t, d.PostProcessor); err != nil {
		return nil, fmt.Errorf("read post_processor: %w", err)
	}
	// A byte-level pre-tokenizer in the last place need not spell bytes for a model that can read them.
	if m, ok := t.model.(*bpe); ok && len(t.preTokenizers) > 0 {
		if b, ok := t.preTokenizers[len(t.preTokenizers)-1].(*byteLevel); ok {
			b.raw = m.readBytes()
		}
	}
	t.model.mark(t.special, t.tokens)
	t.encoders.New = func() any { return t.newEncoder() }
	return t, nil
}

// addTokens enters the added tokens. The reference gives a token that the model does not know the next free id; a file that says
// otherwise is refused.
func (f *file) addTokens(t *Tokenizer, added []addedToken) error {
	next := 0
	for _, is := range f.present {
		if is {
			next++
		}
	}
	t.added = make(map[string]int32)
	t.special = make([]bool, len(f.tokens))
	// decoded differs from tokens for a token that is normalised, since a text shows it normalised too.
	t.decoded = make(map[int32]string)
	seen := make(map[int32]bool)
	for i := range added {
		a := &added[i]
		if err := a.check(); err != nil {
			return err
		}
		content, id := *a.Content, int32(*a.ID)
		known, ok := f.ids[content]
		if !ok {
			known = int32(next)
			next++
		}
		if known != id {
			return fmt.Errorf("read added_tokens: %.60q has id %d, but the vocabulary leaves id %d for it", content, id, known)
		}
		if seen[id] {
			return fmt.Errorf("read added_tokens: %.60q is there twice", content)
		}
		seen[id] = true
		if !ok {
			if err := f.enter(t.added, content, int64(id)); err != nil {
				return fmt.Errorf("read added_tokens: %w", err)
			}
			t.special = append(t.special, make([]bool, len(f.tokens)-len(t.special))...)
		}
		t.added[content] = id
		t.special[id] = *a.Special
		matched, into := content, &t.literal
		if *a.Normalized {
			into = &t.normalized
			if t.normalizer != nil {
				matched = t.normalizer.normalize(piece{text: content}).text
				if matched == "" {
					return fmt.Errorf("read added_tokens: the normalizer leaves nothing of %.60q", content)
				}
				if matched != content {
					t.decoded[id] = matched
				}
			}
		}
		err := into.add(matched, marker{id: id, singleWord: *a.SingleWord, lstrip: *a.LStrip, rstrip: *a.RStrip, hidden: *a.Special})
		if err != nil {
			return err
		}
	}
	return nil
}
