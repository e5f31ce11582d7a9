package model

import "eckart/layers"

// An Overlay is a source of which some weights have been replaced: what compression has made of them so far.
type Overlay struct {
	Source
	replaced map[string]layers.Weight
}

// NewOverlay returns src with nothing replaced.
func NewOverlay(src Source) *Overlay { return &Overlay{src, map[string]layers.Weight{}} }

// Set replaces the weight called name, which src has, by w, of the same shape.
func (o *Overlay) Set(name string, w layers.Weight) { o.replaced[name] = w }

// Weight implements Source.
func (o *Overlay) Weight(name string) (layers.Weight, error) {
	if w, ok := o.replaced[name]; ok {
		return w, nil
	}
	return o.Source.Weight(name)
}

// Unwrap returns the source as it was.
func (o *Overlay) Unwrap() Source { return o.Source }
