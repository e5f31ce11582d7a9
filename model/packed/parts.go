package packed

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"eckart/layers"
	"eckart/model/checkpoint"
)

// A place is where a tensor lies.
type place struct {
	c *checkpoint.Checkpoint
	t *checkpoint.Tensor
}

// parts gives the arrays and matrices of a matrix whose tensors have been held against its form.
type parts struct {
	places map[string]place // by the names of tensors
	shared *shared
	name   string // of the matrix
	form   Form
	terms  []term
}

// array returns the array called name, which may be a dense matrix.
func (p parts) array(name string) layers.Part {
	at, ok := p.places[p.form.root(p.name, name)]
	if !ok {
		panic("BUG: a matrix has no array " + p.form.root(p.name, name))
	}
	rows, cols, t := at.t.Shape[0], at.t.Shape[1], types[at.t.Type]
	rowBytes := int64(cols) * int64(t.Bytes())
	return layers.Part{Name: name, Type: t, Rows: rows, Cols: cols, Read: func(dst []byte, row int) error {
		return at.c.ReadFinite(dst, at.t, int64(row)*rowBytes)
	}}
}

// int32s returns the elements of an array of type I32 that is small beside its matrix.
func (p parts) int32s(name string) ([]int32, error) {
	a := p.array(name)
	raw := make([]byte, a.Rows*a.Cols*a.Type.Bytes())
	if err := a.Read(raw, 0); err != nil {
		return nil, err
	}
	out := make([]int32, len(raw)/4)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out, nil
}

// float32s is int32s for F32.
func (p parts) float32s(name string) ([]float32, error) {
	a := p.array(name)
	raw := make([]byte, a.Rows*a.Cols*a.Type.Bytes())
	if err := a.Read(raw, 0); err != nil {
		return nil, err
	}
	return layers.Float32s(raw, a.Type), nil
}

// matrix returns the matrix called name.
func (p parts) matrix(name string) (layers.Weight, error) {
	i := slices.IndexFunc(p.terms, func(t term) bool { return t.name == name })
	if i < 0 {
		panic("BUG: a matrix has no matrix " + name)
	}
	t, of, root := p.terms[i], p.form.Of[name], p.form.root(p.name, name)
	if of.Shared == "" || p.shared == nil {
		return build(p.places, p.shared, root, of, t.out, t.in)
	}
	p.shared.mu.Lock()
	defer p.shared.mu.Unlock()
	if w := p.shared.matrices[root]; w != nil {
		return w, nil
	}
	w, err := build(p.places, nil, root, of, t.out, t.in)
	if err == nil {
		p.shared.matrices[root] = w
	}
	return w, err
}

// shared holds matrices that several others consist of, so that all of those get one and the same.
type shared struct {
	mu       sync.Mutex
	matrices map[string]layers.Weight
}

// build makes the weight of form f that is called name, of tensors that have been held against the form. Without shared
// each matrix has its own.
func build(places map[string]place, shared *shared, name string, f Form, out, in int) (layers.Weight, error) {
	_, terms, err := f.layout(out, in)
	if err != nil {
		return nil, err
	}
	w, err := kinds[f.Kind].build(f, out, in, parts{places, shared, name, f, terms})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return w, nil
}
