package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Prompts are random words, others for every request, so that no server can answer from a cache of prefixes.

const (
	consonants = "bcdfghjklmnprstvwz"
	vowels     = "aeiou"
)

// prompt returns so many random words of one to three syllables.
func prompt(random *rand.Rand, words int) string {
	var b strings.Builder
	for i := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		for range 1 + random.IntN(3) {
			b.WriteByte(consonants[random.IntN(len(consonants))])
			b.WriteByte(vowels[random.IntN(len(vowels))])
		}
	}
	return b.String()
}

// calibrate returns how many words come nearest to Input tokens. It asks the server what one word takes, with whatever
// the server puts around it, and what many words take. A server that does not tell is taken to need two tokens a word.
func (o *Options) calibrate(ctx context.Context, random *rand.Rand) (int, error) {
	// A word has at most six letters, so that a quarter of Input words fits wherever Input tokens do.
	many := max(2, o.Input/4)
	var took [2]int
	for i, words := range []int{1, many} {
		r := o.Client.Send(ctx, Request{Prompt: prompt(random, words), Tokens: 1})
		if r.Err != nil {
			return 0, fmt.Errorf("try a request: %w", r.Err)
		}
		took[i] = r.Input
	}
	if took[1] <= took[0] {
		return max(1, o.Input/2), nil
	}
	perWord := float64(took[1]-took[0]) / float64(many-1)
	return max(1, 1+int(float64(o.Input-took[0])/perWord+0.5)), nil
}
