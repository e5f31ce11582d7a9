package layers

import (
	"errors"
	"fmt"

	"eckart/kernels"
)

// A Weight is a matrix as it is stored: a kind and named parts, and nothing of any device.
type Weight interface {
	Kind() string              // "dense"; how the matrix is represented
	Dims() (out, in int)       // the shape of the matrix it stands for
	Parts() []Part             // exactly the arrays of the checkpoint
	Dense() ([]float32, error) // the matrix (out, in), row-major: tests, planning, error reports
	Bind(a kernels.Arena, s kernels.Stream) (Linear, error)
}

// A Linear computes y = x·Wᵀ for one representation of W, on the device it was bound to.
type Linear interface {
	Dims() (out, in int)
	// Apply computes y = x·Wᵀ, or adds it to y, for y (tokens, out) and x (tokens, in).
	Apply(p *Pass, y, x kernels.Mat, m kernels.Mode)
	Bytes() int64 // read from memory to apply it once
}

// A Part is one array of a stored weight. Its rows are read when they are needed, so that a matrix never exists twice.
type Part struct {
	Name       string // what follows the module's name in the checkpoint: "weight"
	Type       kernels.DType
	Rows, Cols int
	Read       func(dst []byte, row int) error // fills dst with the bytes from the start of row on; for several goroutines at once
}

// StoredBytes returns the bytes of all parts of w.
func StoredBytes(w Weight) int64 {
	var n int64
	for _, p := range w.Parts() {
		n += int64(p.Rows) * int64(p.Cols) * int64(p.Type.Bytes())
	}
	return n
}

// Nested returns the parts of w as parts of a weight that holds it under name: a dense matrix is the part called name
// itself; another kind has parts called name.kind.part, so that a reader knows the kind from the name ("a.grouped.codes").
func Nested(name string, w Weight) []Part {
	parts := w.Parts()
	prefix := name + "." + w.Kind() + "."
	for i := range parts {
		if _, dense := w.(*Dense); dense {
			parts[i].Name = name
		} else {
			parts[i].Name = prefix + parts[i].Name
		}
	}
	return parts
}

// A ValueError is a stored number that no matrix has, such as a scale that is not finite.
type ValueError struct {
	Name string // of the matrix; empty where nobody has named it
	Part string // of the matrix that the row is of, as in "b.v"; empty where the matrix is one
	Row  int
	What string // "the scale of group 2 is NaN, want ..."
}

// Error names the matrix, the part, the row and the number.
func (e *ValueError) Error() string {
	name, part := e.Name, e.Part
	if name == "" {
		name = "weights"
	}
	if part != "" {
		part = "part " + part + ": "
	}
	return fmt.Sprintf("read %s: %srow %d: %s", name, part, e.Row, e.What)
}

// Named returns err with the name of the matrix that it is about, where it is a *ValueError that has none yet.
func Named(err error, name string) error {
	var bad *ValueError
	if errors.As(err, &bad) && bad.Name == "" {
		bad.Name = name
	}
	return err
}

// InPart returns err with the part of a weight that it is about: a *ValueError is given it, another error wrapped.
func InPart(err error, part string) error {
	var bad *ValueError
	if !errors.As(err, &bad) {
		return fmt.Errorf("part %s: %w", part, err)
	}
	if bad.Part != "" {
		part += "." + bad.Part
	}
	bad.Part = part
	return err
}

// stagingBytes bounds what is read at once for a device that does not share the host's memory.
const stagingBytes = 16 << 20

// load brings the part into the packed matrix dst: straight into the host's memory where the device shares it, else
// through a buffer in ranges of rows. A matrix without memory, from a kernels.Counter, is left alone.
func (p Part) load(dst kernels.Mat, s kernels.Stream) error {
	rowBytes := p.Cols * p.Type.Bytes()
	if p.Rows == 0 || rowBytes == 0 {
		return nil
	}
	if dst.Host != nil {
		return p.Read(dst.Host[:p.Rows*rowBytes], 0)
	}
	if dst.Addr == 0 {
		return nil
	}
	n := max(1, min(p.Rows, stagingBytes/rowBytes))
	buf := make([]byte, n*rowBytes)
	for row := 0; row < p.Rows; row += n {
		n := min(n, p.Rows-row)
		if err := p.Read(buf[:n*rowBytes], row); err != nil {
			return err
		}
		s.Upload(dst.Slice(row, n), buf[:n*rowBytes])
		if err := s.Sync(); err != nil {
			return fmt.Errorf("upload %s: %w", p.Name, err)
		}
	}
	return nil
}
