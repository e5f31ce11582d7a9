package launch

import (
	"errors"
	"fmt"
	"strconv"

	"eckart/cmd/internal/command"
	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
)

// QuantizeFlags say how the weights of a model are rounded when it is loaded.
type QuantizeFlags struct {
	Quantize       string `enum:"none,int8,int4,int3,int2" default:"none" help:"Round the model's matrices to so many bits as they are loaded: int8, int4, int3 or int2. Default: none. Matrices that are stored quantized, and norms, stay as they are."`
	QuantizeGroup  string `enum:",32,64,128,row" default:"" placeholder:"N" help:"Columns that share a scale: 32 (the default), 64, 128 or row. More take fewer bytes and round worse."`
	QuantizeZeros  bool   `help:"Store a zero point for each group too: a quarter of a bit a weight in groups of 32, and better for int4 and below."`
	QuantizeTables string `enum:",int8,int4,int3,int2,same,keep" default:"" placeholder:"TYPE" help:"Of the embedding and the head: int8 (the default: fewer bits cost more there than anywhere), int4, int3, int2, same (as --quantize), or keep (as stored). It may stand without --quantize."`
}

var roundingBits = map[string]int{"int8": 8, "int4": 4, "int3": 3, "int2": 2}

// Quantization checks the flags and returns what they say, nil where nothing is to be rounded.
func (f *QuantizeFlags) Quantization() (*model.Quantization, error) {
	blocks := f.Quantize != "none" && f.Quantize != ""
	tables := f.QuantizeTables
	switch {
	case blocks && tables == "":
		tables = "int8"
	case blocks && tables == "same":
		tables = f.Quantize
	case !blocks && tables == "same":
		return nil, &command.UsageError{Err: errors.New("--quantize-tables same is as --quantize, and there is no --quantize")}
	case !blocks && (tables == "" || tables == "keep"):
		for _, other := range []struct {
			flag string
			set  bool
		}{{"group", f.QuantizeGroup != ""}, {"zeros", f.QuantizeZeros}, {"tables", tables != ""}} {
			if other.set {
				return nil, &command.UsageError{Err: fmt.Errorf("--quantize-%s says how --quantize rounds, and there is no --quantize", other.flag)}
			}
		}
		return nil, nil
	}
	r := layers.Rounding{Group: 32, ScaleType: kernels.F16, Zeros: f.QuantizeZeros}
	switch f.QuantizeGroup {
	case "":
	case "row":
		r.Group = 0
	default:
		r.Group, _ = strconv.Atoi(f.QuantizeGroup) // one of the enum
	}
	of := func(bits int) *layers.Rounding {
		if bits == 0 { // as stored
			return nil
		}
		r := r
		r.Bits = bits
		return &r
	}
	return &model.Quantization{Blocks: of(roundingBits[f.Quantize]), Tables: of(roundingBits[tables])}, nil
}

// Open opens the model that the flags name, rounded and with the adapter added as they say.
func (f *ModelFlags) Open() (*Model, error) {
	if _, err := f.ModelOptions(); err != nil {
		return nil, err
	}
	m, err := Open(f.Model)
	if err != nil {
		return nil, err
	}
	if err := m.Prepare(f); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Prepare has the matrices of m, which must have been read, cut, rounded and added to as the flags say.
func (m *Model) Prepare(f *ModelFlags) error {
	q, err := f.Quantization()
	if err != nil {
		return err
	}
	if err := m.cutRank(f.RankShare); err != nil {
		return err
	}
	m.Quantize(q)
	return m.Adapt(f.Adapter)
}

// cutRank cuts nested factors to a share of their rank; 0 leaves them whole.
func (m *Model) cutRank(share float64) error {
	if share == 0 {
		return nil
	}
	cut, err := model.CutRank(m.Source, share)
	if err != nil {
		return fmt.Errorf("--rank-share %g: %w", share, err)
	}
	m.Source = cut
	m.Cut = fmt.Sprintf("%d matrices with nested factors to %g of their rank: %v of %v", cut.Nested, share, Bytes(cut.After), Bytes(cut.Before))
	return nil
}

// Quantize has the matrices of m rounded as they are loaded; nil leaves them as they are. m must have been read.
func (m *Model) Quantize(q *model.Quantization) {
	if q != nil {
		m.how, m.rounded = *q, model.Quantize(m.Source, *q)
		m.Source = m.rounded
	}
}

// RoundedTables returns the modules of the embedding and the head if --quantize-tables rounds them.
func (m *Model) RoundedTables() []string {
	if m.rounded == nil || m.how.Tables == nil {
		return nil
	}
	return model.Tables(m.Config)
}

// A Rounding sums up what --quantize does to a model.
type Rounding struct {
	How           string  `json:"how"` // "int4 in groups of 32, embedding and head int8 in groups of 32"
	Before        int64   `json:"before_bytes"`
	After         int64   `json:"after_bytes"` // of the matrices, before they are packed
	BitsPerWeight float64 `json:"bits_per_weight"`
	Kept          int     `json:"kept"` // matrices that were stored quantized
}

// Rounding returns what --quantize does to m, which must have been measured; nil without it.
func (m *Model) Rounding() *Rounding {
	if m.rounded == nil {
		return nil
	}
	s := m.rounded.Sum()
	how, tables := roundingName(m.how.Blocks), roundingName(m.how.Tables)
	switch {
	case m.how.Blocks == nil:
		how = "embedding and head " + tables
	case tables != how:
		how += ", embedding and head " + tables
	}
	return &Rounding{How: how, Before: s.Before, After: s.After, BitsPerWeight: s.BitsPerWeight(), Kept: s.Kept}
}

// Lines says the same in a line or two.
func (r *Rounding) Lines() []string {
	lines := []string{fmt.Sprintf("%s: %v became %v, %.2f bits a weight", r.How, Bytes(r.Before), Bytes(r.After), r.BitsPerWeight)}
	switch {
	case r.Kept == 1:
		lines = append(lines, "1 matrix was stored quantized and stays as it is")
	case r.Kept > 1:
		lines = append(lines, fmt.Sprintf("%d matrices were stored quantized and stay as they are", r.Kept))
	}
	return lines
}

// roundingName says how matrices are rounded, as in "int4 in groups of 32 with zero points".
func roundingName(r *layers.Rounding) string {
	if r == nil {
		return "as stored"
	}
	name := fmt.Sprintf("int%d in groups of %d", r.Bits, r.Group)
	if r.Group == 0 {
		name = fmt.Sprintf("int%d by rows", r.Bits)
	}
	if r.Zeros {
		name += " with zero points"
	}
	return name
}

// refusal names the flag in an error about numbers that cannot be rounded.
func (m *Model) refusal(err error) error {
	var bad *layers.ValueError
	if m.rounded != nil && errors.As(err, &bad) {
		return fmt.Errorf("load with %s: %w", m.rounding(), err)
	}
	return err
}

// loading says what takes the time while m is loaded.
func (m *Model) loading() string {
	if m.rounded == nil || m.how.Blocks == nil {
		return "loading"
	}
	return fmt.Sprintf("rounding to int%d", m.how.Blocks.Bits)
}

// rounding returns the flag that has m rounded.
func (m *Model) rounding() string {
	if m.how.Blocks == nil {
		return fmt.Sprintf("--quantize-tables int%d", m.how.Tables.Bits)
	}
	return fmt.Sprintf("--quantize int%d", m.how.Blocks.Bits)
}
