package tokenizer

import (
	"slices"
	"unicode/utf8"
)

// The engine for patterns that have no scanner. It backtracks like the reference's engine (Oniguruma), so that the leftmost match
// in the order of the alternatives is found, but it never looks twice at the same state and position: once a search
// takes more than a few steps per character it writes down which pairs of branch and position have failed, and skips them.
// Patterns have no back references, so what follows from a pair depends on nothing else, and the whole text is searched in
// time O(length of program x length of text), whatever the pattern. (Go's regexp has that bound but no lookahead, which nearly
// all split patterns use.)

type opcode uint8

const (
	opSet    opcode = iota // one character of set
	opRun                  // min to max characters of set, as many as there are, never fewer (possessive)
	opJump                 // go on at x
	opSplit                // try x, then y
	opLook                 // the program at x matches here (or does not, if negated); goes on at y
	opBehind               // the character before is of set (or is not, if negated)
	opAssert               // the assertion holds
	opMatch                // done
)

// instruction is one step of a compiled pattern. All but jumps, splits and looks go on at the next instruction.
type instruction struct {
	op       opcode
	negated  bool
	assert   assertion
	x, y     int
	min, max int // max < 0: no bound
	set      *set
	// slot numbers splits and looks for the memory of the search, and possessive runs for theirs.
	slot int
}

type assertion uint8

const (
	textStart assertion = iota
	textEnd
	lineStart
	lineEnd
	boundary
	noBoundary
)

// regex is a compiled pattern. It is immutable.
type regex struct {
	program []instruction
	// branches and runs count the slots of splits and looks, and of possessive runs.
	branches, runs int
}

// frame is an alternative still to be tried (pc >= 0), or, once all that lies above it has failed, a pair to be marked as failed
// (pc < 0, slot ^pc).
type frame struct{ pc, pos int }

// search runs a regex over one text.
type search struct {
	*regex
	text  string
	stack []frame
	steps int
	// failed and passed hold a bit for each slot and position, once they are needed; passed is for looks, whose end is of no
	// interest.
	failed, passed []uint64
	// known holds, for each possessive run, the last stretch of characters of its set that was found.
	known []frame
}

// matches calls yield with each match in text, from left to right, until yield returns false.
func (re *regex) matches(text string, yield func(start, end int) bool) {
	s := search{regex: re, text: text, known: make([]frame, re.runs)}
	for i := range s.known {
		s.known[i] = frame{-1, -1}
	}
	for i := 0; i < len(text); {
		if end := s.match(0, i, false); end > i {
			if !yield(i, end) {
				return
			}
			i = end
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		i += size
	}
}

// match returns the end of the match of the program at pc that begins at pos, -1 when there is none. Within a look the pairs
// on the way to a match are marked as passed, and coming by one of them is a match, whose end means nothing.
func (s *search) match(pc, pos int, looking bool) int {
	base := len(s.stack)
	for {
		end := s.follow(pc, pos, looking)
		if end >= 0 {
			for _, f := range s.stack[base:] {
				if looking && f.pc < 0 && s.passed != nil {
					set1(s.passed, s.bit(^f.pc, f.pos))
				}
			}
			s.stack = s.stack[:base]
			return end
		}
		// That way failed: the last alternative left is next.
		if s.failed == nil && s.steps > 32*(len(s.text)+64) {
			words := (s.branches*(len(s.text)+1) + 63) / 64
			s.failed, s.passed = make([]uint64, words), make([]uint64, words)
		}
		for {
			if len(s.stack) == base {
				return -1
			}
			f := s.stack[len(s.stack)-1]
			s.stack = s.stack[:len(s.stack)-1]
			if f.pc >= 0 {
				pc, pos = f.pc, f.pos
				break
			}
			if s.failed != nil {
				set1(s.failed, s.bit(^f.pc, f.pos))
			}
		}
	}
}

func (s *search) bit(slot, pos int) int { return slot*(len(s.text)+1) + pos }

func set1(bits []uint64, i int)      { bits[i/64] |= 1 << (i % 64) }
func get1(bits []uint64, i int) bool { return bits[i/64]>>(i%64)&1 != 0 }

// follow goes on from pc until the pattern has matched or fails, and returns the end of the match or -1. Alternatives go on
// the stack.
func (s *search) follow(pc, pos int, looking bool) int {
	for {
		s.steps++
		in := &s.program[pc]
		switch in.op {
		case opMatch:
			return pos
		case opSet:
			if pos == len(s.text) {
				return -1
			}
			r, size := rune(s.text[pos]), 1
			if r >= utf8.RuneSelf {
				r, size = utf8.DecodeRuneInString(s.text[pos:])
			}
			if !in.set.has(r) {
				return -1
			}
			pos += size
			pc++
		case opRun:
			end := s.run(in, pos)
			if end < 0 {
				return -1
			}
			pos = end
			pc++
		case opJump:
			pc = in.x
		case opSplit:
			if s.failed != nil && get1(s.failed, s.bit(in.slot, pos)) {
				return -1
			}
			if looking && s.passed != nil && get1(s.passed, s.bit(in.slot, pos)) {
				return pos
			}
			s.stack = append(s.stack, frame{^in.slot, pos}, frame{in.y, pos})
			pc = in.x
		case opLook:
			if s.look(in, pos) == in.negated {
				return -1
			}
			pc = in.y
		case opBehind:
			holds := false
			if pos > 0 {
				r, _ := utf8.DecodeLastRuneInString(s.text[:pos])
				holds = in.set.has(r)
			}
			if holds == in.negated {
				return -1
			}
			pc++
		case opAssert:
			if !s.holds(in.assert, pos) {
				return -1
			}
			pc++
		}
	}
}

// look reports whether the program of a look matches at pos.
func (s *search) look(in *instruction, pos int) bool {
	if s.failed != nil {
		if get1(s.passed, s.bit(in.slot, pos)) {
			return true
		}
		if get1(s.failed, s.bit(in.slot, pos)) {
			return false
		}
	}
	found := s.match(in.x, pos, true) >= 0
	if s.failed != nil {
		if found {
			set1(s.passed, s.bit(in.slot, pos))
		} else {
			set1(s.failed, s.bit(in.slot, pos))
		}
	}
	return found
}

// run returns the end of a possessive run at pos, -1 when it is too short.
func (s *search) run(in *instruction, pos int) int {
	if in.max < 0 {
		// A run that begins inside of another one of the same set ends where that does.
		k := &s.known[in.slot]
		if pos < k.pc || pos >= k.pos {
			end := pos
			for end < len(s.text) {
				r, size := utf8.DecodeRuneInString(s.text[end:])
				if !in.set.has(r) {
					break
				}
				end += size
				s.steps++
			}
			*k = frame{pos, end}
			if end == pos {
				*k = frame{-1, -1}
				if in.min > 0 {
					return -1
				}
				return pos
			}
		}
		n, at := 0, pos
		for ; n < in.min && at < k.pos; n++ {
			_, size := utf8.DecodeRuneInString(s.text[at:])
			at += size
		}
		if n < in.min {
			return -1
		}
		return k.pos
	}
	n := 0
	for ; n < in.max && pos < len(s.text); n++ {
		r, size := utf8.DecodeRuneInString(s.text[pos:])
		if !in.set.has(r) {
			break
		}
		pos += size
	}
	if n < in.min {
		return -1
	}
	return pos
}

// holds reports whether an assertion is true at pos. Lines end at \n, and ^ and $ speak of lines, as they do in Ruby.
func (s *search) holds(a assertion, pos int) bool {
	switch a {
	case textStart:
		return pos == 0
	case textEnd:
		return pos == len(s.text)
	case lineStart:
		return pos == 0 || s.text[pos-1] == '\n' && pos < len(s.text)
	case lineEnd:
		return pos == len(s.text) || s.text[pos] == '\n'
	}
	before, after := false, false
	if pos > 0 {
		r, _ := utf8.DecodeLastRuneInString(s.text[:pos])
		before = inPatternWord(r)
	}
	if pos < len(s.text) {
		r, _ := utf8.DecodeRuneInString(s.text[pos:])
		after = inPatternWord(r)
	}
	return (before != after) == (a == boundary)
}

// set is a set of characters: those for which one of its parts speaks, or the others.
type set struct {
	negated bool
	ranges  []rune // pairs, first and last
	classes []func(rune) bool
	// ascii caches the answer for ASCII.
	ascii [128]bool
}

func (t *set) add(first, last rune)           { t.ranges = append(t.ranges, first, last) }
func (t *set) addClass(class func(rune) bool) { t.classes = append(t.classes, class) }

// close fills the cache; the set does not change after it.
func (t *set) close() *set {
	for r := range rune(128) {
		t.ascii[r] = t.compute(r)
	}
	return t
}

func (t *set) has(r rune) bool {
	if r < 128 {
		return t.ascii[r]
	}
	return t.compute(r)
}

func (t *set) compute(r rune) bool {
	for i := 0; i < len(t.ranges); i += 2 {
		if r >= t.ranges[i] && r <= t.ranges[i+1] {
			return !t.negated
		}
	}
	return slices.ContainsFunc(t.classes, func(in func(rune) bool) bool { return in(r) }) != t.negated
}
