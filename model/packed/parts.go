package packed

import (
	"encoding/binary"
	"fmt"
	"slices"

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
	name   string           // of the matrix
	form   Form
	terms  []term
}

// array returns the array called name.
func (p parts) array(name string) layers.Part {
	at, ok := p.places[p.form.below(p.name, name)]
	if !ok {
		panic("BUG: a matrix has no array " + p.form.below(p.name, name))
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

// matrix returns the matrix called name.
func (p parts) matrix(name string) (layers.Weight, error) {
	i := slices.IndexFunc(p.terms, func(t term) bool { return t.name == name })
	if i < 0 {
		panic("BUG: a matrix has no matrix " + name)
	}
	t := p.terms[i]
	return build(p.places, p.form.below(p.name, name), p.form.Of[name], t.out, t.in)
}

// build makes the weight of form f that is called name, of tensors that have been held against the form.
func build(places map[string]place, name string, f Form, out, in int) (layers.Weight, error) {
	_, terms, err := f.layout(out, in)
	if err != nil {
		return nil, err
	}
	w, err := kinds[f.Kind].build(f, out, in, parts{places, name, f, terms})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return w, nil
}
