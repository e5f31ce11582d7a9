package tokenizer_test

import (
	"os"
	"path/filepath"
	"testing"

	"eckart/model/tokenizer"
)

// BenchmarkEncode encodes the calibration text in pieces of 4 kB, as prompts come, on one thread. The reference
// makes 1 to 5 MB/s of the same pieces, through its Python package.
func BenchmarkEncode(b *testing.B) {
	text, err := os.ReadFile(shared + "models/text/calibration.txt")
	if err != nil {
		b.Skip(err)
	}
	for _, path := range []string{
		"models/gopher-dense", "golden/tokenizers/llama3", "golden/tokenizers/o200k", "golden/tokenizers/deepseek",
		"golden/tokenizers/gpt2", "golden/tokenizers/llama2-bytefallback", "golden/tokenizers/unigram",
	} {
		b.Run(filepath.Base(path), func(b *testing.B) {
			tok := load(b, filepath.Join(shared, path, "tokenizer.json"))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				for at := 0; at < len(text); at += 4096 {
					tok.Encode(string(text[at:min(at+4096, len(text))]), tokenizer.EncodeOptions{})
				}
			}
		})
	}
}
