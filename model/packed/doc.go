// Package packed is our own checkpoint format: a model of which some matrices are compressed, in plain safetensors. It
// knows how each kind of weight is laid out in tensors, and reads and writes them. docs/format.md is the specification;
// comments cite its sections.
//
// The table of kinds (kinds.go) has a row for each: what its arrays are called, which types and shapes they have, and how
// a layers.Weight is made of them. Whatever is not a compressed matrix keeps its name, type and bytes and is none of this
// package's business.
package packed
