// Package checkpoint owns the bytes of a checkpoint on disk: which files make
// it up, which tensors lie in them, and the limits that both must satisfy
// before anything is allocated on their word. It reads and writes safetensors
// and nothing else; pickles are refused, since reading one can run code.
//
// Open takes a folder, one .safetensors file or the Hugging Face cache folder
// of a model, and reads headers only. Tensor bytes are fetched afterwards with
// ReadAt, by positioned reads rather than through a memory map: a file that is
// cut while it is in use then gives an error instead of a fault.
//
// What the package checks of every file, following the format's own rules
// (https://github.com/huggingface/safetensors, "Format"):
//
//   - the header's length is at least 2, at most 16 MiB and within the file;
//   - the header is UTF-8, begins with "{" and ends in spaces only;
//   - no tensor name, field or metadata key occurs twice;
//   - metadata maps strings to strings;
//   - types are known, dimensions are natural numbers, and no product overflows;
//   - tensors cover the bytes after the header exactly: no overlap, no hole,
//     nothing left over.
//
// What a checkpoint's tensors mean, and whether a type can be used, is for
// package model to say.
package checkpoint
