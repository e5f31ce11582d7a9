// Package tokenizer turns text into token ids and ids into text, as a Hugging Face tokenizer.json says.
//
// It owns the whole path of that file: added tokens are cut out of the text, the rest is normalised, split into words and
// given to a model (byte-pair encoding or unigram); a post-processor adds the ids that frame a sequence; a decoder turns ids
// back into text, whole or one id at a time ([Stream]). The reference is the Rust library tokenizers of Hugging Face: where it
// is odd, this package is odd in the same way, and the tests hold it to ids that the reference gave. What a file asks for and
// this package does not know is refused by name when the file is read; nothing is guessed, and encoding cannot fail.
//
// Deliberate differences from the reference:
//   - With [EncodeOptions].ParseSpecial unset, no special token of more than one character ever comes out of text. The reference
//     lets a unigram model, or a byte-pair model that ignores merges, spell one.
//   - A run of byte-fallback tokens that is not valid UTF-8 as a whole decodes character by character, one U+FFFD for each
//     byte that belongs to none, as sentencepiece does. The reference turns every byte of such a run into U+FFFD, so that a
//     stream could show nothing before the run ends.
//   - The fields truncation and padding are read and not applied: they concern batches for training.
//   - Duplicate ids, added tokens whose declared id is not the one the reference would give them, and empty added tokens are
//     errors.
//
// Classes of characters come from Go's tables (Unicode 15.0), normal forms from golang.org/x/text (15.0); the reference links
// libraries of several other versions. Characters assigned, or given another class, between those versions may therefore be
// split differently; assigned letters, digits and signs of older versions are not affected.
//
// Text that is not valid UTF-8 is read as Rust's String::from_utf8_lossy reads it: U+FFFD stands for each longest invalid
// sequence that begins like a character.
//
// Every step takes time linear in the text, or n log n in the length of a word. That holds for patterns too: published split
// patterns have scanners written by hand, and any other runs on a matcher that visits no pair of pattern state and position twice
// ([New] refuses constructs for which this could not be kept, such as back references).
package tokenizer
