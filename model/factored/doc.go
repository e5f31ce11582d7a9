// Package factored knows how other tools lay factorized matrices out in a checkpoint, and the adapters that are added to
// a model's matrices.
//
// A factorized matrix M.weight is recognised by its tensors; docs/formats.md lists the layouts. What config.json says of
// ranks is held against them, and what it says of the model is put into the form that it has for a model that is not
// factorized. An Adapter is what PEFT saves of LoRA: a product of two factors for each matrix that it was trained on.
package factored
