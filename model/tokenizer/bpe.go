package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// bpe is a model of byte-pair encoding (Sennrich et al., 2016, arXiv:1508.07909): a word begins as single characters, and
// the two neighbours whose merge has the lowest rank become one, the leftmost first, until no merge applies.
type bpe struct {
	vocabulary map[string]int32
	*alphabet
	// raw is set when words come as bytes rather than in the byte-level alphabet.
	raw bool
	// bytes holds the id of each byte in a raw word.
	bytes [256]int32
	// ascii and runes hold the ids of single characters.
	ascii [utf8.RuneSelf]int32
	runes map[rune]int32
	// fallback holds the ids of <0x00> to <0xFF>, -1 for those that are not in the vocabulary.
	fallback     [256]int32
	byteFallback bool
	// unknown stands for characters without id, which vanish when it is -1.
	unknown      int32
	fuseUnknown  bool
	ignoreMerges bool
	// merges maps a pair of ids to rank << 32 | id.
	merges *pairs
	// joins holds the pairs of characters that stand side by side in some token that a merge gives. Between others a word can be
	// cut before it is merged. It is nil when tokens are not made of characters alone.
	joins *pairs
	// special tells which ids are special; mergesSpecial, that a merge or a whole word can give one.
	special       []bool
	mergesSpecial bool
}

// shortWord is the number of symbols up to which a word is merged by looking through all of it each time. BenchmarkMerge found
// it.
const shortWord = 20

// bpeScratch is what encoding a word needs; it is kept to be used again.
type bpeScratch struct {
	ids     []int32
	next    []int32
	prev    []int32
	pending []uint64 // what each symbol and the one behind it would merge into, as in merges
	heap    []uint64 // rank << 32 | position
	spelled []byte
}

// encode appends the ids of a word. With plain set no special token comes out of more than one character.
func (m *bpe) encode(dst []int32, word string, plain bool, sc *scratch) []int32 {
	plain = plain && m.mergesSpecial
	s := &sc.bpe
	if m.ignoreMerges {
		if id, ok := m.lookup(word, s); ok && (!plain || !m.special[id]) {
			return append(dst, id)
		}
	}
	s.ids = s.ids[:0]
	if m.raw {
		for i := range len(word) {
			s.ids = append(s.ids, m.bytes[word[i]])
		}
	} else {
		m.symbols(word, s)
	}
	for ids := s.ids; len(ids) > 0; {
		n := len(ids)
		if n > shortWord && m.joins != nil {
			n = 1
			for n < len(ids) && m.joins.get(pair(ids[n-1], ids[n])) != noPair {
				n++
			}
		}
		if n <= shortWord {
			dst = append(dst, m.mergeShort(ids[:n], plain, s)...)
		} else {
			dst = append(dst, m.mergeLong(ids[:n], plain, s)...)
		}
		ids = ids[n:]
	}
	return dst
}

// lookup finds a whole word in the vocabulary.
func (m *bpe) lookup(word string, s *bpeScratch) (int32, bool) {
	if !m.raw {
		id, ok := m.vocabulary[word]
		return id, ok
	}
	s.spelled = m.spell(s.spelled[:0], word)
	id, ok := m.vocabulary[string(s.spelled)]
	return id, ok
}

// symbols sets s.ids to the ids of the characters of word. A character without id becomes its bytes, or else the unknown token;
// an unknown token waits for the next character that has an id, behind the bytes of those that have none, as in the reference.
func (m *bpe) symbols(word string, s *bpeScratch) {
	waiting := false
	for i := 0; i < len(word); {
		r, size := utf8.DecodeRuneInString(word[i:])
		id := m.symbol(r)
		character := word[i : i+size]
		i += size
		if id >= 0 {
			if waiting {
				s.ids = append(s.ids, m.unknown)
				waiting = false
			}
			s.ids = append(s.ids, id)
			continue
		}
		if m.byteFallback && m.appendBytes(character, s) {
			continue
		}
		if m.unknown >= 0 {
			if waiting && !m.fuseUnknown {
				s.ids = append(s.ids, m.unknown)
			}
			waiting = true
		}
	}
	if waiting {
		s.ids = append(s.ids, m.unknown)
	}
}

// appendBytes appends the ids of the bytes of a character, if all of them have one.
func (m *bpe) appendBytes(character string, s *bpeScratch) bool {
	for i := range len(character) {
		if m.fallback[character[i]] < 0 {
			return false
		}
	}
	for i := range len(character) {
		s.ids = append(s.ids, m.fallback[character[i]])
	}
	return true
}

// merge returns rank << 32 | id for two neighbours, noPair when they do not merge.
func (m *bpe) merge(a, b int32, plain bool) uint64 {
	v := m.merges.get(pair(a, b))
	if plain && v != noPair && m.special[uint32(v)] {
		return noPair
	}
	return v
}

// mergeShort merges ids in place, taking the lowest rank of all pairs each time. It is the plain form of mergeLong.
func (m *bpe) mergeShort(ids []int32, plain bool, s *bpeScratch) []int32 {
	pending := s.pending[:0]
	for i := 1; i < len(ids); i++ {
		pending = append(pending, m.merge(ids[i-1], ids[i], plain))
	}
	for {
		best, at := noPair, 0
		for i, v := range pending {
			// A pair stands for one rank, so equal values are equal merges, of which the leftmost comes first.
			if v < best {
				best, at = v, i
			}
		}
		if best == noPair {
			break
		}
		ids[at] = int32(uint32(best))
		copy(ids[at+1:], ids[at+2:])
		ids = ids[:len(ids)-1]
		copy(pending[at:], pending[at+1:])
		pending = pending[:len(pending)-1]
		if at > 0 {
			pending[at-1] = m.merge(ids[at-1], ids[at], plain)
		}
		if at < len(pending) {
			pending[at] = m.merge(ids[at], ids[at+1], plain)
		}
	}
	s.pending = pending
	return ids
}

// mergeLong merges ids in place in O(n log n): a heap holds the pairs that merge, a list links the symbols that are left. An
// entry of the heap whose pair has changed since is passed over.
func (m *bpe) mergeLong(ids []int32, plain bool, s *bpeScratch) []int32 {
	n := len(ids)
	s.next, s.prev = resize(s.next, n), resize(s.prev, n)
	s.pending = resize(s.pending, n)
	heap := s.heap[:0]
	for i := range n {
		s.next[i], s.prev[i] = int32(i+1), int32(i-1)
		s.pending[i] = noPair
		if i+1 < n {
			if v := m.merge(ids[i], ids[i+1], plain); v != noPair {
				s.pending[i] = v
				heap = append(heap, v&^0xFFFFFFFF|uint64(i))
			}
		}
	}
	for i := (len(heap) - 2) / 4; i >= 0 && len(heap) > 1; i-- {
		siftDown(heap, i)
	}
	update := func(i int32) {
		v := noPair
		if int(s.next[i]) < n {
			v = m.merge(ids[i], ids[s.next[i]], plain)
		}
		s.pending[i] = v
		if v != noPair {
			heap = append(heap, v&^0xFFFFFFFF|uint64(uint32(i)))
			siftUp(heap, len(heap)-1)
		}
	}
	for len(heap) > 0 {
		top := heap[0]
		heap[0] = heap[len(heap)-1]
		heap = heap[:len(heap)-1]
		siftDown(heap, 0)
		i := int32(uint32(top))
		v := s.pending[i]
		if v == noPair || v>>32 != top>>32 {
			continue
		}
		gone := s.next[i]
		ids[i] = int32(uint32(v))
		s.pending[gone] = noPair
		s.next[i] = s.next[gone]
		if int(s.next[i]) < n {
			s.prev[s.next[i]] = i
		}
		if s.prev[i] >= 0 {
			update(s.prev[i])
		}
		update(i)
	}
	s.heap = heap
	left := 0
	for i := int32(0); int(i) < n; i = s.next[i] {
		ids[left] = ids[i]
		left++
	}
	return ids[:left]
}

// resize returns a slice of n elements of any value, in the memory of s if that suffices.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// The heap has four children to a node: half the levels of a binary one, and the four lie together.

func siftDown(h []uint64, i int) {
	for {
		child := 4*i + 1
		if child >= len(h) {
			return
		}
		least := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if h[c] < h[least] {
				least = c
			}
		}
		if h[i] <= h[least] {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

func siftUp(h []uint64, i int) {
	for i > 0 {
		parent := (i - 1) / 4
		if h[parent] <= h[i] {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

// readBPE reads a model of type BPE into f.
func (f *file) readBPE(v *modelFile) (*bpe, error) {
	for _, refused := range []struct {
		name string
		set  bool
	}{
		{"dropout", v.Dropout != nil && *v.Dropout != 0},
		{"continuing_subword_prefix", v.ContinuingSubwordPrefix != nil && *v.ContinuingSubwordPrefix != ""},
		{"end_of_word_suffix", v.EndOfWordSuffix != nil && *v.EndOfWordSuffix != ""},
		{"unk_id", v.UnkID != nil},
	} {
		if refused.set {
			return nil, fmt.Errorf("the setting %s is not supported", refused.name)
		}
	}
	if err := f.readIDs(v.Vocab); err != nil {
		return nil, err
	}
	m := &bpe{
		vocabulary: f.ids, alphabet: f.alphabet, runes: make(map[rune]int32), byteFallback: v.ByteFallback, unknown: -1,
		fuseUnknown: v.FuseUnk, ignoreMerges: v.IgnoreMerges, merges: newPairs(len(f.ids)),
	}
	for i := range m.ascii {
		m.ascii[i] = -1
	}
	for id, token := range f.tokens {
		if r, size := utf8.DecodeRuneInString(token); size == len(token) && size > 0 {
			if r < utf8.RuneSelf {
				m.ascii[r] = int32(id)
			} else {
				m.runes[r] = int32(id)
			}
		}
	}
	m.fallback = f.byteTokens()
	if v.UnkToken != nil {
		id, ok := f.ids[*v.UnkToken]
		if !ok {
			return nil, fmt.Errorf("the unk_token %.60q is not in the vocabulary", *v.UnkToken)
		}
		m.unknown = id
	}
	var joined []byte
	err := readMerges(v.Merges, func(rank int, a, b string) error {
		joined = append(append(joined[:0], a...), b...)
		left, leftKnown := f.ids[a]
		right, rightKnown := f.ids[b]
		id, known := f.ids[string(joined)]
		if !leftKnown || !rightKnown || !known {
			missing := a + b
			if !leftKnown {
				missing = a
			} else if !rightKnown {
				missing = b
			}
			return fmt.Errorf("read merges: number %d, of %.60q and %.60q, needs %.60q, which is not in the vocabulary", rank, a, b, missing)
		}
		m.merges.set(pair(left, right), uint64(rank)<<32|uint64(id))
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.findJoins(f.tokens)
	return m, nil
}

// findJoins sets joins.
func (m *bpe) findJoins(tokens []string) {
	atomic := make(map[int32]bool)
	for _, id := range m.fallback {
		atomic[id] = true
	}
	atomic[m.unknown] = true
	joins := newPairs(1024)
	for _, merge := range m.merges.slots {
		if merge.value == noPair {
			continue
		}
		id := int32(uint32(merge.value))
		if atomic[id] || atomic[int32(merge.key>>32)] || atomic[int32(uint32(merge.key))] {
			return
		}
		before := int32(-1)
		for _, r := range tokens[id] {
			symbol := m.symbol(r)
			if before >= 0 && symbol >= 0 {
				joins.set(pair(before, symbol), 0)
			}
			before = symbol
		}
	}
	m.joins = joins
}

// symbol returns the id of a character, -1 when it has none.
func (m *bpe) symbol(r rune) int32 {
	if r < utf8.RuneSelf {
		return m.ascii[r]
	}
	if id, ok := m.runes[r]; ok {
		return id
	}
	return -1
}

// readBytes makes the model read words as bytes, if each byte has an id; it reports whether it does.
func (m *bpe) readBytes() bool {
	for b := range m.bytes {
		if m.bytes[b] = m.symbol(m.char[b]); m.bytes[b] < 0 {
			return false
		}
	}
	m.raw = true
	return true
}

// mark tells the model which ids are special.
func (m *bpe) mark(special []bool, tokens []string) {
	m.special = special
	for _, s := range m.merges.slots {
		m.mergesSpecial = m.mergesSpecial || s.value != noPair && special[uint32(s.value)]
	}
	for id, is := range special {
		_, own := m.vocabulary[tokens[id]]
		m.mergesSpecial = m.mergesSpecial || is && own && m.ignoreMerges
	}
}

func (m *bpe) plainDiffers() bool { return m.mergesSpecial }
