package launch

import (
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// maxText bounds the texts that flags name: their tokens are held in memory.
const maxText = 256 << 20

// ReadText reads the file called name, or standard input. Bytes that are not UTF-8 are refused: replaced, they would be
// scored as text that nobody wrote.
func ReadText(flag, name string, stdin io.Reader) (string, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read --%s: %w", flag, err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxText+1))
	if err != nil {
		return "", fmt.Errorf("read --%s: %w", flag, err)
	}
	if len(text) > maxText {
		return "", fmt.Errorf("read --%s: %s has more than the %v that can be read", flag, name, Bytes(maxText))
	}
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n == 1 {
			return "", fmt.Errorf("read --%s: %s is not UTF-8: byte %d is 0x%02x", flag, name, at, text[at])
		}
		at += n
	}
	return string(text), nil
}
