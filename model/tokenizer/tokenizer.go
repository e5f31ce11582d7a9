package tokenizer

import (
	"strings"
	"sync"
)

// Tokenizer encodes and decodes text as one tokenizer.json says. It does not change after [New] and may be used by many
// goroutines at once.
type Tokenizer struct {
	// ids and added are the vocabulary of the model and the added tokens; tokens spells them all.
	ids, added map[string]int32
	tokens     []string
	// present tells which ids there are, special which of them are special tokens.
	present, special []bool
	// decoded holds what the decoder sees in place of tokens, where that differs.
	decoded map[int32]string
	// literal are the added tokens that are cut out of the text as it comes, normalized those cut out of the normalised text.
	literal, normalized markers
	normalizer          normalizer
	preTokenizers       []preTokenizer
	model               model
	// prefix and suffix frame a sequence.
	prefix, suffix []int32
	decoders       []decoder
	// encoders holds memory of earlier calls of Encode, with the words they remember.
	encoders sync.Pool
}

// model turns words into ids.
type model interface {
	// encode appends the ids of a word, which is not empty. With plain set no special token comes out of more than one
	// character.
	encode(dst []int32, word string, plain bool, sc *scratch) []int32
	// mark tells the model which ids are special and how all ids are spelled, once.
	mark(special []bool, tokens []string)
	// plainDiffers reports whether plain can make a difference.
	plainDiffers() bool
}

// scratch is the memory that a model needs for a word.
type scratch struct {
	bpe  bpeScratch
	hops []hop
}

// EncodeOptions says what Encode does beyond turning text into ids. The zero value is for text of a user.
type EncodeOptions struct {
	// AddSpecial frames the ids as the post-processor says, with a token for the beginning or the end of a sequence.
	AddSpecial bool
	// ParseSpecial makes special tokens that are written in the text become their ids. Without it they are text like any other,
	// so that a user cannot write a turn of somebody else. Added tokens that are not special always match.
	ParseSpecial bool
}

// Encode returns the ids of text. Text that is not valid UTF-8 counts as having U+FFFD in the places that are not.
func (t *Tokenizer) Encode(text string, o EncodeOptions) []int32 {
	e := t.encoders.Get().(*encoder)
	ids := e.encode(lossy(text), o)
	t.encoders.Put(e)
	return ids
}

// VocabSize returns the highest id plus one.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of an entry of the vocabulary or an added token, spelled as there.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.added[token]
	if !ok {
		id, ok = t.ids[token]
	}
	return id, ok
}

// Token returns how the vocabulary spells an id, "" for one that it does not have.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

// IsSpecial reports whether id is a special token.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

// Limits of the words that an encoder remembers: their bytes each, and the ids of all together.
const (
	rememberedBytes = 64
	rememberedIDs   = 1 << 16
)

// encoder is the state of one call of Encode at a time.
type encoder struct {
	t *Tokenizer
	// known remembers the ids of words, start and end in ids; the second map is for plain text, where that makes a difference.
	known [2]map[string][2]int32
	ids   []int32
	plain bool
	out   []int32
	scratch
	// steps holds one function for each pre-tokenizer and one for the model: each hands its pieces to the next.
	steps []func(piece)
}

func (t *Tokenizer) newEncoder() *encoder {
	e := &encoder{t: t}
	for i := range e.known {
		e.known[i] = make(map[string][2]int32)
	}
	e.steps = make([]func(piece), len(t.preTokenizers)+1)
	for i, p := range t.preTokenizers {
		e.steps[i] = func(piece piece) {
			if piece.text != "" {
				p.cut(piece, e.steps[i+1])
			}
		}
	}
	e.steps[len(t.preTokenizers)] = e.word
	return e
}

func (e *encoder) encode(text string, o EncodeOptions) []int32 {
	t := e.t
	e.plain = !o.ParseSpecial
	e.out = e.out[:0]
	if o.AddSpecial {
		e.out = append(e.out, t.prefix...)
	}
	t.literal.cut(text, o.ParseSpecial, func(start, end int, token *marker) {
		if token != nil {
			e.out = append(e.out, token.id)
			return
		}
		p := piece{text[start:end], start == 0}
		if t.normalizer != nil {
			p = t.normalizer.normalize(p)
		}
		t.normalized.cut(p.text, o.ParseSpecial, func(start, end int, token *marker) {
			if token != nil {
				e.out = append(e.out, token.id)
				return
			}
			e.steps[0](piece{p.text[start:end], p.first && start == 0})
		})
	})
	if o.AddSpecial {
		e.out = append(e.out, t.suffix...)
	}
	ids := append(make([]int32, 0, len(e.out)), e.out...)
	const kept = 1 << 20 // memory of a longer text is not kept
	if cap(e.out) > kept {
		e.out, e.scratch = nil, scratch{}
	}
	return ids
}

// word appends the ids of a word, from memory if they are there.
func (e *encoder) word(p piece) {
	if p.text == "" {
		return
	}
	if len(p.text) > rememberedBytes {
		e.out = e.t.model.encode(e.out, p.text, e.plain, &e.scratch)
		return
	}
	known := e.known[0]
	if e.plain && e.t.model.plainDiffers() {
		known = e.known[1]
	}
	if at, ok := known[p.text]; ok {
		e.out = append(e.out, e.ids[at[0]:at[1]]...)
		return
	}
	start := len(e.out)
	e.out = e.t.model.encode(e.out, p.text, e.plain, &e.scratch)
	ids := e.out[start:]
	if len(e.ids)+len(ids) > rememberedIDs || len(known) >= rememberedIDs {
		for _, words := range e.known {
			clear(words)
		}
		e.ids = e.ids[:0]
	}
	known[strings.Clone(p.text)] = [2]int32{int32(len(e.ids)), int32(len(e.ids) + len(ids))}
	e.ids = append(e.ids, ids...)
}
