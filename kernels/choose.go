package kernels

import "math"

// A Chooser is a stream that picks tokens where their logits are, so that a step brings ids to the host and not
// vocabularies, and the next one can begin before the host has seen them.
type Chooser interface {
	// Choose picks a token for each row: ids[i] = the token that how[i] picks from logits[i]. ids is (rows, 1) I32, packed;
	// logits (rows, vocab) F32; how (rows, ChoiceWords) I32, rows that Choice.Put has written. A row of logits without one
	// that is finite, or with one that is NaN or +Inf, gives -1. A row's id depends on its logits and its choice alone.
	//
	// With top the largest logit, a token counts when its logit is at least top + Low, with the weight e^((logit-top)·Scale).
	// Of these the TopK largest stay, and of those the fewest that together reach TopP of their weight, at least one; of
	// equal logits that of the lower id comes first. Of what is left, by id, the token is chosen at which the running sum of
	// weights first exceeds Draw of their sum. Weights are F32, within 1e-6 of their value, and 0 below e^-87; sums are
	// added up in float64, in an order of the device's own.
	Choose(ids, logits, how Mat)
	// Follow replaces ids of a step by those that the step before it has chosen: ids[i] below 0 becomes
	// chosen[-1-ids[i]], or 0 where that is below 0. ids and chosen are (n, 1) I32, packed.
	Follow(ids, chosen Mat)
}

// A Choice says how the token of one row is picked.
type Choice struct {
	Scale float32 // reciprocal of the temperature; 0 for the largest logit, the lowest id of equals; below 0 for none, id -1
	Low   float32 // at most 0; -Inf for all tokens
	TopK  int     // 0, or what the vocabulary has and more, for all
	TopP  float32 // 0 or 1 for all
	Draw  uint64  // the token's random number, below 2^53, in units of 2^-53
}

// NoChoice is the choice of rows whose tokens are picked elsewhere.
var NoChoice = Choice{Scale: -1}

// ChoiceWords is the number of words of 32 bits that a Choice takes on a device.
const ChoiceWords = 8

// Put writes c into the first ChoiceWords words.
func (c Choice) Put(words []int32) {
	_ = words[ChoiceWords-1]
	words[0] = int32(math.Float32bits(c.Scale))
	words[1] = int32(math.Float32bits(c.Low))
	words[2] = int32(math.Float32bits(c.TopP))
	words[3] = int32(min(c.TopK, math.MaxInt32))
	words[4] = int32(uint32(c.Draw))
	words[5] = int32(uint32(c.Draw >> 32))
	words[6], words[7] = 0, 0
}
