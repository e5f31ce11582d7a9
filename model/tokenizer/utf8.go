package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// state tells what stands at the start of some bytes.
type state uint8

const (
	whole   state = iota // a complete character
	invalid              // bytes that no character begins with
	cut                  // the beginning of a character, with bytes to come
)

const replacement = "\uFFFD"

// leading returns how many bytes at the start of b belong together and what they are. An invalid sequence is as long as it
// agrees with some character ("maximal subpart", Unicode 15.0 section 3.9, which Rust's from_utf8_lossy follows too); bytes that
// end before a character does are cut. b must not be empty.
func leading[T string | []byte](b T) (int, state) {
	c := b[0]
	if c < utf8.RuneSelf {
		return 1, whole
	}
	// The second byte is confined after some first bytes: no overlong forms, no surrogates, nothing above U+10FFFF.
	low, high, total := byte(0x80), byte(0xBF), 0
	switch {
	case c >= 0xC2 && c <= 0xDF:
		total = 2
	case c >= 0xE0 && c <= 0xEF:
		total = 3
		switch c {
		case 0xE0:
			low = 0xA0
		case 0xED:
			high = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		total = 4
		switch c {
		case 0xF0:
			low = 0x90
		case 0xF4:
			high = 0x8F
		}
	default:
		return 1, invalid
	}
	for i := 1; i < total; i++ {
		if i == len(b) {
			return i, cut
		}
		if b[i] < low || b[i] > high {
			return i, invalid
		}
		low, high = 0x80, 0xBF
	}
	return total, whole
}

// lossy returns s with U+FFFD in place of every invalid sequence.
func lossy(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for len(s) > 0 {
		n, st := leading(s)
		if st == whole {
			b.WriteString(s[:n])
		} else {
			b.WriteString(replacement)
		}
		s = s[n:]
	}
	return b.String()
}

// The byte-level alphabet writes every byte as a printable character: those that are printable in Latin-1 as themselves, the
// other 68 as U+0100 and following, in order (gpt-2/src/encoder.py, bytes_to_unicode).

// plain reports whether the alphabet writes b as itself.
func plain(b byte) bool {
	return b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE
}

// alphabet holds the byte-level alphabet in both directions.
type alphabet struct {
	char [256]rune
	// spelled is the UTF-8 of char.
	spelled [256]string
	// value holds the byte of each character below U+0144, -1 for those outside of the alphabet.
	value [0x144]int16
}

func newAlphabet() *alphabet {
	a := new(alphabet)
	for i := range a.value {
		a.value[i] = -1
	}
	next := rune(0x100)
	for i := range 256 {
		r := rune(i)
		if !plain(byte(i)) {
			r = next
			next++
		}
		a.char[i] = r
		a.spelled[i] = string(r)
		a.value[r] = int16(i)
	}
	return a
}

// spell appends s in the alphabet.
func (a *alphabet) spell(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = append(dst, a.spelled[s[i]]...)
	}
	return dst
}

// bytes appends what a token stands for: the bytes of its characters, or the token as it is when one of them is outside of the
// alphabet.
func (a *alphabet) bytes(dst []byte, token string) []byte {
	start := len(dst)
	for _, r := range token {
		if int(r) >= len(a.value) || a.value[r] < 0 {
			return append(dst[:start], token...)
		}
		dst = append(dst, byte(a.value[r]))
	}
	return dst
}
