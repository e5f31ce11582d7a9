package quantized

import (
	"encoding/json"
	"fmt"
	"strings"

	"eckart/kernels"
	"eckart/model/checkpoint"
)

// awq is the layout that AutoAWQ calls "gemm":
//
//	qweight (in, out/8) I32       codes of 4 bits along out; nibble i of a word is of column awqOrder[i] of eight
//	qzeros  (groups, out/8) I32   zero points, likewise
//	scales  (groups, out)
//
// "gemv" and "gemv_fast" pack along in, with padded groups; "marlin" is the order of one kernel.
type awq struct {
	group int
	wide  kernels.DType
}

func newAWQ(text []byte, wide kernels.DType) (method, error) {
	var raw struct {
		Bits      *int   `json:"bits"`
		GroupSize *int   `json:"group_size"`
		ZeroPoint *bool  `json:"zero_point"`
		Version   string `json:"version"`
		Format    string `json:"format"` // its newer name
		Backend   string `json:"backend"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	if _, err := bitsOf(raw.Bits, 4); err != nil {
		return nil, err
	}
	a := &awq{wide: wide}
	var err error
	if a.group, err = groupOf(raw.GroupSize); err != nil {
		return nil, err
	}
	for _, f := range []struct{ field, value string }{{"version", raw.Version}, {"format", raw.Format}} {
		if f.value != "" && strings.ToLower(f.value) != "gemm" {
			return nil, fmt.Errorf("%s %q: %w (gemm is)", f.field, f.value, ErrUnsupported)
		}
	}
	switch {
	case raw.ZeroPoint != nil && !*raw.ZeroPoint:
		return nil, fmt.Errorf("zero_point false: %w", ErrUnsupported)
	case raw.Backend == "llm-awq":
		return nil, fmt.Errorf("backend %q: %w", raw.Backend, ErrUnsupported)
	}
	return a, nil
}

func (a *awq) layouts() []layout { return []layout{awqLayout} }

func (a *awq) read(m *module) (matrix, error) {
	qweight, err := m.matrixOf("qweight", checkpoint.I32)
	if err != nil {
		return matrix{}, err
	}
	in, words := qweight.Shape[0], qweight.Shape[1]
	w := &columnwise{c: m.c, rows: words * 8, cols: in, bits: 4, group: a.group, awq: true}
	if w.group == 0 {
		w.group = in
	}
	if in%w.group != 0 {
		return matrix{}, fmt.Errorf("%s has shape %v, and group_size %d does not divide its rows", qweight.Name, qweight.Shape, w.group)
	}
	return w.matrix(m, qweight, words, "awq, 4 bits, "+groupText(a.group), a.wide)
}
