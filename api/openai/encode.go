package openai

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// The wire is written by appending, not by encoding/json: a chunk a token is the one thing here that is done per
// token, and its frame is the same every time. encode_test.go holds these against encoding/json.

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are no UTF-8 become U+FFFD; U+2028 and U+2029 are escaped, since
// a JavaScript client may paste the text into a script.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, s[from:i]...)
			b = append(b, "\uFFFD"...)
			from = i + n
		case r == '\u2028' || r == '\u2029':
			b = append(b, s[from:i]...)
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&15])
			from = i + n
		}
		i += n
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendInt(b []byte, i int) []byte { return strconv.AppendInt(b, int64(i), 10) }

// impossible is what OpenAI reports as the log-probability of a token that cannot be: JSON has no infinity.
const impossible = -9999

// appendLogprob appends a log-probability, natural logarithm.
func appendLogprob(b []byte, p float32) []byte {
	if math.IsInf(float64(p), 0) || p != p || p < impossible {
		return append(b, "-9999.0"...)
	}
	return strconv.AppendFloat(b, float64(p), 'g', -1, 32)
}
