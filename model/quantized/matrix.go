package quantized

import (
	"fmt"

	"eckart/kernels"
	"eckart/layers"
)

// ints is a matrix of elements s·(q - z) whose groups may have any width. Its fields are those of a layers.Grouped.
type ints struct {
	rows, cols int
	bits       int // of q: 8, 4, 3 or 2
	group      int // columns; the last one of a row may be shorter
	scaleType  kernels.DType
	zeros      bool
	order      []int32
	read       func(dst layers.GroupedRows, row int) error
}

// format returns the sizes of the matrix.
func (m ints) format() kernels.Grouped {
	return kernels.Grouped{Rows: m.rows, Cols: m.cols, Bits: m.bits, Group: m.group, ScaleType: m.scaleType, Zeros: m.zeros}
}

// weight returns the matrix with the values that it has, or, where its groups are not of a width that kernels take,
// widened.
func (m ints) weight(wide kernels.DType, what string) (w layers.Weight, exact bool, err error) {
	f := m.format()
	if f.Group >= f.Cols {
		f.Group = (f.Cols + kernels.GroupedBlock - 1) / kernels.GroupedBlock * kernels.GroupedBlock
	}
	if f.Group%kernels.GroupedBlock == 0 {
		w, err = layers.NewGrouped(f, m.order, m.read)
		return w, true, err
	}
	return dense(m.rows, m.cols, wide, what, m.values), false, nil
}

// values sets dst to the elements of rows from row on.
func (m ints) values(dst []float32, row int) error {
	f := m.format()
	n, scales := len(dst)/f.Cols, f.Groups()*f.ScaleType.Bytes()
	r := layers.GroupedRows{Codes: make([]byte, n*f.Cols), Scales: make([]byte, n*scales)}
	if f.Zeros {
		r.Zeros = make([]byte, n*f.Groups())
	}
	if err := m.read(r, row); err != nil {
		return err
	}
	r.Values(dst, f, m.order)
	return nil
}

// dense returns a matrix of type t whose rows are worked out as they are read: values sets its argument to those from a
// row on. what names it.
func dense(rows, cols int, t kernels.DType, what string, values func(dst []float32, row int) error) *layers.Dense {
	rowBytes := cols * t.Bytes()
	return layers.NewDense(layers.Part{
		Name: "weight", Type: t, Rows: rows, Cols: cols,
		Read: func(dst []byte, row int) error {
			first := row
			return inPieces(row, len(dst)/rowBytes, cols, func(row, n int) error {
				buf := make([]float32, n*cols)
				if err := values(buf, row); err != nil {
					return err
				}
				if i := narrow(dst[(row-first)*rowBytes:(row-first+n)*rowBytes], buf, t); i >= 0 {
					return fmt.Errorf("read %s: row %d, column %d is %g, no finite %s", what, row+i/cols, i%cols, buf[i], t)
				}
				return nil
			})
		},
	})
}

// became returns the matrix that the module is: w, which is what text and how say.
func (m *module) became(w layers.Weight, text, how string) matrix {
	rows, cols := w.Dims()
	return matrix{weight: w, text: text + ": " + how, elements: rows * cols, stored: m.bytes(), computed: layers.StoredBytes(w)}
}

// widened is became for a matrix that is computed in a wider type.
func (m *module) widened(w layers.Weight, text string) matrix {
	return m.became(w, text, fmt.Sprintf("widened to %s", w.Parts()[0].Type))
}
