package tokenizer

// Decode returns the text of ids. Ids that the vocabulary does not have are passed over, and special tokens too if skipSpecial is
// set. Bytes that make no character become U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	s := t.NewStream(skipSpecial)
	for _, id := range ids {
		s.add(id)
	}
	return s.Flush()
}

// Bytes returns what an id stands for in the middle of a text: a word with the space before it, a byte of a character, a special
// token as it is written. It is nil for ids that the vocabulary does not have.
func (t *Tokenizer) Bytes(id int32) []byte {
	token := t.spelling(id)
	if token == "" {
		return nil
	}
	if t.special[id] {
		return []byte(t.tokens[id])
	}
	b := []byte(token)
	for _, d := range t.decoders {
		b = d.bytes(b)
	}
	return b
}

// spelling returns a token as the decoder gets it.
func (t *Tokenizer) spelling(id int32) string {
	if s, ok := t.decoded[id]; ok {
		return s
	}
	return t.Token(id)
}

// Stream decodes the ids of one sequence as they come. A push takes time in the length of its token, however many came before.
// It must not be used by several goroutines at once.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	head        stage
	tail        collector
}

// NewStream returns a stream. Ids of context are those that stand before the first one to be pushed: their text is not returned,
// but it decides whether that one begins the text, and loses a leading space. (A character that context leaves incomplete comes
// with the push that completes it.)
func (t *Tokenizer) NewStream(skipSpecial bool, context ...int32) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial}
	s.head = &s.tail
	for i := len(t.decoders) - 1; i >= 0; i-- {
		s.head = t.decoders[i].start(s.head)
	}
	for _, id := range context {
		s.add(id)
	}
	s.tail.text = s.tail.text[:0]
	return s
}

// Push takes the next id and returns the text that has become certain: whole characters, "" if there are none yet. All that Push
// and then Flush return is together what Decode returns for the same ids.
func (s *Stream) Push(id int32) string {
	s.add(id)
	text := string(s.tail.text)
	s.tail.text = s.tail.text[:0]
	return text
}

// Flush ends the sequence and returns what was held back; bytes of a character that did not become whole are U+FFFD. The stream
// takes no more ids.
func (s *Stream) Flush() string {
	s.head.end()
	text := string(s.tail.text)
	s.tail.text = s.tail.text[:0]
	return text
}

func (s *Stream) add(id int32) {
	t := s.t
	if id < 0 || int(id) >= len(t.tokens) || !t.present[id] || s.skipSpecial && t.special[id] {
		return
	}
	s.head.push(t.spelling(id), true)
}
