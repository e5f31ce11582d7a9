// Package model says which layers an architecture is made of and where its weights come from. It reads config.json,
// builds a Decoder from a Source of weights on a device, and runs it over batches.
package model

import (
	"fmt"
	"slices"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
	"eckart/model/factored"
	"eckart/model/packed"
	"eckart/model/quantized"
)

// A Source gives a model's weights by their published names. It may wrap another, as compression does; weights are read
// when they are bound, in ranges of rows, so that one large matrix never needs twice its bytes.
type Source interface {
	Config() []byte                            // config.json
	Names() []string                           // of every weight and vector, sorted
	Weight(name string) (layers.Weight, error) // a matrix
	Vector(name string) ([]float32, error)     // a norm's gain or a bias
}

// maxConfigBytes bounds config.json; published ones stay under 100 KB.
const maxConfigBytes = 4 << 20

// NewSource returns the weights of a checkpoint, quantized, factorized and compressed ones included. The checkpoint must stay open
// while they are read.
func NewSource(c *checkpoint.Checkpoint) (Source, error) {
	s := &checkpointSource{c: c}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	return s, nil
}

// Notes says in a line for each kind of quantized weight of src, or of what it wraps, what it is computed as, and which
// weights are compressed.
func Notes(src Source) []string {
	if s, ok := innermost(src).(*checkpointSource); ok {
		return slices.Concat(s.packed.Notes(), s.factored.Notes(), s.quantized.Notes())
	}
	return nil
}

// Parameters returns the elements of all weights and vectors of the checkpoint behind src: of a quantized or compressed
// matrix those that it stands for.
func Parameters(src Source) int {
	s, ok := innermost(src).(*checkpointSource)
	if !ok {
		return 0
	}
	total := 0
	for _, name := range s.names {
		if n, ok := s.packed.Elements(name); ok {
			total += n
		} else if n, ok := s.factored.Elements(name); ok {
			total += n
		} else if n, ok := s.quantized.Elements(name); ok {
			total += n
		} else if t, ok := s.c.Tensor(s.factored.Tensor(name)); ok {
			total += t.Elements()
		}
	}
	return total
}

// innermost returns the source that src wraps, over any number of others, or itself.
func innermost(src Source) Source {
	for {
		w, ok := src.(interface{ Unwrap() Source })
		if !ok {
			return src
		}
		src = w.Unwrap()
	}
}

// A checkpointSource gives the weights of a checkpoint: some are stored as other tensors than one of their name.
type checkpointSource struct {
	c         *checkpoint.Checkpoint
	config    []byte
	names     []string
	packed    *packed.Reader
	factored  *factored.Reader
	quantized *quantized.Reader
}

func (s *checkpointSource) open() error {
	var err error
	if s.config, err = s.c.ReadFile("config.json", maxConfigBytes); err != nil {
		return err
	}
	if s.packed, err = packed.Open(s.c, s.config); err != nil {
		return err
	}
	if s.factored, err = factored.Open(s.c, s.config); err != nil {
		return err
	}
	s.config = s.factored.Config()
	if s.quantized, err = quantized.Open(s.c, s.packed.Config()); err != nil {
		return err
	}
	s.names = slices.Concat(s.packed.Matrices(), s.factored.Names())
	for _, tensor := range s.quantized.Names() {
		if name, ok := s.factored.Name(tensor); ok && !s.packed.Hidden(tensor) {
			s.names = append(s.names, name)
		}
	}
	slices.Sort(s.names)
	s.names = slices.Compact(s.names)
	return nil
}

func (s *checkpointSource) Config() []byte  { return s.config }
func (s *checkpointSource) Names() []string { return s.names }

func (s *checkpointSource) Weight(name string) (layers.Weight, error) {
	if w, ok, err := s.packed.Weight(name); ok {
		return w, err
	}
	if w, ok, err := s.factored.Weight(name); ok {
		return w, err
	}
	if w, ok := s.quantized.Weight(name); ok {
		return w, nil
	}
	t, dtype, err := s.tensor(name, 2)
	if err != nil {
		return nil, err
	}
	rowBytes := int64(t.Shape[1]) * int64(dtype.Bytes())
	return layers.NewDense(layers.Part{
		Name: "weight", Type: dtype, Rows: t.Shape[0], Cols: t.Shape[1],
		Read: func(dst []byte, row int) error { return s.c.ReadFinite(dst, t, int64(row)*rowBytes) },
	}), nil
}

func (s *checkpointSource) Vector(name string) ([]float32, error) {
	t, dtype, err := s.tensor(name, 1)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, t.Bytes())
	if err := s.c.ReadFinite(raw, t, 0); err != nil {
		return nil, err
	}
	return layers.Float32s(raw, dtype), nil
}

// tensor returns the tensor if it exists, has the dimensions and a type that verbs read.
func (s *checkpointSource) tensor(name string, dims int) (*checkpoint.Tensor, kernels.DType, error) {
	t, ok := s.c.Tensor(s.factored.Tensor(name))
	if !ok {
		return nil, 0, MissingError(name)
	}
	if len(t.Shape) != dims {
		return nil, 0, &shapeError{name: name, got: t.Shape}
	}
	switch t.Type {
	case checkpoint.F32:
		return t, kernels.F32, nil
	case checkpoint.F16:
		return t, kernels.F16, nil
	case checkpoint.BF16:
		return t, kernels.BF16, nil
	}
	return nil, 0, fmt.Errorf("read %s: type %s: %w (F32, F16 and BF16 are)", name, t.Type, ErrUnsupported)
}

// MissingError is what a Source answers for a tensor that it does not have.
type MissingError string

// Error names the tensor.
func (e MissingError) Error() string { return string(e) + " is missing" }

// A shapeError is a tensor whose shape is not what the config implies. want is nil while it is not known.
type shapeError struct {
	name      string
	want, got []int
}

func (e *shapeError) Error() string {
	if e.want == nil {
		return fmt.Sprintf("%s has %d dimensions, %v", e.name, len(e.got), e.got)
	}
	return fmt.Sprintf("%s has shape %v, want %v", e.name, e.got, e.want)
}
