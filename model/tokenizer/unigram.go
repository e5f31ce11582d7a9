package tokenizer

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// unigram is a unigram language model (Kudo, 2018, arXiv:1804.10959): of all ways to spell a word with pieces of the vocabulary,
// the one with the highest sum of scores. Ties go to the way found first, and sums are taken from left to right, as in the
// reference.
type unigram struct {
	vocabulary map[string]int32
	scores     []float64
	// trie maps a node and a byte to the next node; ends holds the id of the piece that ends at each node, or -1.
	trie         *pairs
	ends         []int32
	unknown      int32
	unknownScore float64
	byteFallback bool
	fallback     [256]int32
	special      []bool
	// spellsSpecial is set when a special token of several characters is a piece.
	spellsSpecial bool
}

// maxPiece bounds the bytes of a piece: each position of a word may be compared with so many bytes.
const maxPiece = 1024

// unknownPenalty is how much worse than the worst piece an unknown character is (kUnkPenalty of sentencepiece).
const unknownPenalty = 10.0

// hop is the best way to reach a position: by the piece id that began at start, -1 when there is none.
type hop struct {
	score float64
	start int32
	id    int32
}

// encode appends the ids of a word. With plain set no special token comes out of more than one character.
func (m *unigram) encode(dst []int32, word string, plain bool, sc *scratch) []int32 {
	if len(word) > math.MaxInt32 {
		panic("BUG: a word beyond 2 GiB")
	}
	best := resize(sc.hops, len(word)+1)
	sc.hops = best
	for i := range best {
		best[i] = hop{start: -1}
	}
	reach := func(at, from int, score float64, id int32) {
		if h := &best[at]; h.start < 0 || score > h.score {
			*h = hop{score, int32(from), id}
		}
	}
	for at := 0; at < len(word); {
		_, size := utf8.DecodeRuneInString(word[at:])
		here := best[at].score
		single := false
		node := int32(0)
		for end := at; end < len(word); {
			to := m.trie.get(pair(node, int32(word[end])))
			if to == noPair {
				break
			}
			node = int32(to)
			end++
			id := m.ends[node]
			if id < 0 || plain && end-at > size && m.special[id] {
				continue
			}
			reach(end, at, here+m.scores[id], id)
			single = single || end-at == size
		}
		if !single {
			reach(at+size, at, here+m.unknownScore, m.unknown)
		}
		at += size
	}
	// The way is walked from its end; neighbouring unknown characters are one.
	start := len(dst)
	for end := len(word); end > 0; {
		h := best[end]
		from := int(h.start)
		if h.id != m.unknown {
			dst = append(dst, h.id)
			end = from
			continue
		}
		for from > 0 && best[from].id == m.unknown {
			from = int(best[from].start)
		}
		dst = m.appendUnknown(dst, word[from:end], plain)
		end = from
	}
	for i, j := start, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}

// appendUnknown appends, in reverse, the ids of a stretch of unknown characters: that of the stretch as a token, those of its
// bytes, or the unknown token.
func (m *unigram) appendUnknown(dst []int32, s string, plain bool) []int32 {
	if id, ok := m.vocabulary[s]; ok && (!plain || !m.special[id]) {
		return append(dst, id)
	}
	if !m.byteFallback {
		return append(dst, m.unknown)
	}
	for i := range len(s) {
		if m.fallback[s[i]] < 0 {
			return append(dst, m.unknown)
		}
	}
	for i := len(s) - 1; i >= 0; i-- {
		dst = append(dst, m.fallback[s[i]])
	}
	return dst
}

// readUnigram reads a model of type Unigram into f.
func (f *file) readUnigram(v *modelFile) (*unigram, error) {
	if v.Merges != nil || v.Dropout != nil || v.UnkToken != nil || v.ContinuingSubwordPrefix != nil || v.EndOfWordSuffix != nil ||
		v.FuseUnk || v.IgnoreMerges {
		return nil, fmt.Errorf("it has settings of a model of type BPE")
	}
	scores, err := f.readScores(v.Vocab)
	if err != nil {
		return nil, err
	}
	if v.UnkID == nil {
		return nil, fmt.Errorf("it has no unk_id")
	}
	if *v.UnkID < 0 || *v.UnkID >= int64(len(scores)) {
		return nil, fmt.Errorf("the unk_id %d is not below the %d tokens of the vocabulary", *v.UnkID, len(scores))
	}
	m := &unigram{
		scores: scores, trie: newPairs(4 * len(scores)), ends: []int32{-1}, unknown: int32(*v.UnkID),
		unknownScore: slices.Min(scores) - unknownPenalty, byteFallback: v.ByteFallback,
	}
	for id, token := range f.tokens {
		if len(token) > maxPiece {
			return nil, fmt.Errorf("the token of id %d has %d bytes, at most %d are supported", id, len(token), maxPiece)
		}
		if token == "" {
			continue
		}
		node := int32(0)
		for i := range len(token) {
			key := pair(node, int32(token[i]))
			to := m.trie.get(key)
			if to == noPair {
				to = uint64(len(m.ends))
				m.ends = append(m.ends, -1)
				m.trie.set(key, to)
			}
			node = int32(to)
		}
		m.ends[node] = int32(id)
	}
	m.vocabulary = f.ids
	m.fallback = f.byteTokens()
	return m, nil
}

// mark tells the model which ids are special.
func (m *unigram) mark(special []bool, tokens []string) {
	m.special = special
	for id, is := range special {
		m.spellsSpecial = m.spellsSpecial || is && id < len(m.scores) && utf8.RuneCountInString(tokens[id]) > 1
	}
}

func (m *unigram) plainDiffers() bool { return m.spellsSpecial }
