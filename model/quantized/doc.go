// Package quantized knows how other tools lay quantized matrices out in a checkpoint: which tensors stand for one
// matrix M.weight, how codes and scales are packed in them, and what config.json must say of it.
//
// A matrix whose elements are s·(q - z) becomes a layers.Grouped, with the very values that the file has. Any other
// becomes a layers.Dense of a wider type whose rows are worked out as they are read, so that memory never holds both
// forms; Reader.Notes says so. A module is recognised by its tensors. That config.json and tensors speak of different
// formats, that a tensor has another shape than the rest of its module implies, or that an option is set which would
// change the result and is not implemented, is an error when the checkpoint is opened. Scales, and codes that stand for
// no finite number, are judged where they are read.
//
// The layouts follow the tools that write them: GPTQModel and AutoGPTQ, AutoAWQ, compressed-tensors, bitsandbytes, and
// the fp8 and mxfp4 integrations of transformers. docs/formats.md lists what is read and what is refused.
package quantized
