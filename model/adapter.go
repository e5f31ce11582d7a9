package model

import (
	"fmt"
	"slices"
	"strings"

	"eckart/layers"
	"eckart/model/factored"
)

// An AdaptedSource adds an adapter to the matrices of another source. The sums stay sums: what is added is not rounded
// with the matrix that it is added to.
type AdaptedSource struct {
	Source
	adapter *factored.Adapter
	modules map[string]string // by the name of the weight: the module as the adapter spells it
}

// Adapt returns src with an adapter added to its matrices. Each module of the adapter must be one of the model's.
func Adapt(src Source, adapter *factored.Adapter) (*AdaptedSource, error) {
	a := &AdaptedSource{src, adapter, map[string]string{}}
	for _, module := range adapter.Modules() {
		name := module + ".weight"
		// Adapters that were saved without the model's head leave out the "model" that it stands beside.
		if other := "model." + name; !slices.Contains(src.Names(), name) && slices.Contains(src.Names(), other) {
			name = other
		}
		w, err := src.Weight(name)
		if err != nil {
			return nil, fmt.Errorf("open adapter: it adds to %s: %w", module, err)
		}
		out, in := w.Dims()
		if o, i := adapter.Dims(module); o != out || i != in {
			return nil, fmt.Errorf("open adapter: it adds [%d %d] to %s, which has shape [%d %d]", o, i, name, out, in)
		}
		if a.modules[name] != "" {
			return nil, fmt.Errorf("open adapter: it adds to %s twice", name)
		}
		a.modules[name] = module
	}
	return a, nil
}

// Unwrap returns the source that the adapter is added to.
func (a *AdaptedSource) Unwrap() Source { return a.Source }

// Weight implements Source.
func (a *AdaptedSource) Weight(name string) (layers.Weight, error) {
	w, err := a.Source.Weight(name)
	module := a.modules[name]
	if err != nil || module == "" {
		return w, err
	}
	added, err := a.adapter.Weight(module)
	if err != nil {
		return nil, fmt.Errorf("adapter of %s: %w", strings.TrimSuffix(name, ".weight"), err)
	}
	return layers.NewSum(w, added)
}
