package quantized

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"eckart/kernels"
	"eckart/model/checkpoint"
)

// fp8 is a matrix (out, in) F8_E4M3 with scales for blocks, rows or the whole. The name of the scales does not tell what
// they do:
//
//   - weight_scale multiplies, and so does weight_scale_inv of DeepSeek and transformers, the inverse of what the
//     original was multiplied by;
//   - weight_scale_inv of GPTQModel divides. It says weight_scale_semantics "inverse" in its config.
type fp8 struct {
	block   []int // rows and columns; nil for a scale a row or a matrix
	divides bool  // the matrix is weight / scale
	wide    kernels.DType
}

func newFP8(text []byte, wide kernels.DType) (method, error) {
	var raw struct {
		Block     []int           `json:"weight_block_size"`
		Semantics *string         `json:"weight_scale_semantics"`
		Method    string          `json:"weight_scale_method"`
		Format    string          `json:"format"`
		Fmt       string          `json:"fmt"`
		Scheme    string          `json:"activation_scheme"`
		KVCache   json.RawMessage `json:"kv_cache_scheme"`
		Dynamic   json.RawMessage `json:"dynamic"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	f := &fp8{block: raw.Block, wide: wide}
	switch format := strings.ToLower(cmp.Or(raw.Format, raw.Fmt, "e4m3")); format {
	case "e4m3", "e4m3fn", "float8_e4m3fn", "fp8":
	default:
		return nil, fmt.Errorf("format %q: %w (float8_e4m3fn is)", format, ErrUnsupported)
	}
	switch {
	case raw.Block != nil && (len(raw.Block) != 2 || min(raw.Block[0], raw.Block[1]) < 1 || max(raw.Block[0], raw.Block[1]) > maxDim):
		return nil, fmt.Errorf("weight_block_size must be two numbers between 1 and %d, got %v", maxDim, raw.Block)
	case raw.Scheme != "" && raw.Scheme != "dynamic" && raw.Scheme != "static":
		return nil, fmt.Errorf("activation_scheme %q: %w", raw.Scheme, ErrUnsupported)
	case !neutral(raw.KVCache):
		return nil, fmt.Errorf("kv_cache_scheme %.40s: %w", raw.KVCache, ErrUnsupported)
	case raw.Semantics == nil && raw.Method != "":
		return nil, fmt.Errorf("weight_scale_method %q needs weight_scale_semantics, which tells whether scales multiply or divide", raw.Method)
	case raw.Semantics != nil && *raw.Semantics != "inverse":
		return nil, fmt.Errorf("weight_scale_semantics %q: %w (inverse is)", *raw.Semantics, ErrUnsupported)
	}
	f.divides = raw.Semantics != nil
	return f, onlyExclusions(raw.Dynamic)
}

func (f *fp8) layouts() []layout {
	if f.divides {
		return []layout{fp8Layout}
	}
	return []layout{fp8Layout, floatLayout}
}

func (f *fp8) read(m *module) (matrix, error) {
	weight, err := m.matrixOf("weight", checkpoint.F8E4M3)
	if err != nil {
		return matrix{}, err
	}
	part := "weight_scale"
	if m.layout == fp8Layout {
		part = "weight_scale_inv"
	}
	out, in := weight.Shape[0], weight.Shape[1]
	high, wide, text := out, in, "fp8, a scale a matrix"
	switch t := m.parts[part]; {
	case f.block != nil:
		high, wide, text = f.block[0], f.block[1], fmt.Sprintf("fp8, blocks of %dx%d", f.block[0], f.block[1])
		if f.divides && (out%high != 0 || in%wide != 0) {
			return matrix{}, fmt.Errorf("%s has shape %v, which blocks of %v do not divide", weight.Name, weight.Shape, f.block)
		}
	case t != nil && t.Elements() == out && out > 1:
		high, text = 1, "fp8, a scale a row"
	}
	g, err := m.takeGrid(part, out, in, high, wide, append(floatTypes, checkpoint.F8E8M0)...)
	if err != nil {
		return matrix{}, err
	}
	m.skip("activation_scale", "input_scale", "input_scale_inv")
	if f.divides {
		text += ", which divides"
	}
	return m.float8(weight, g, f.divides, text, f.wide)
}

// float8 returns the matrix of F8_E4M3 elements that are multiplied, or divided, by the scale of their block.
func (m *module) float8(weight *checkpoint.Tensor, g *grid, divide bool, text string, t kernels.DType) (matrix, error) {
	rows, cols := weight.Shape[0], weight.Shape[1]
	values := func(dst []float32, row int) error {
		n := len(dst) / cols
		scales, first, err := g.rows(row, n)
		if err != nil {
			return err
		}
		codes := make([]byte, n*cols)
		if err := m.c.ReadAt(codes, weight, int64(row)*int64(cols)); err != nil {
			return err
		}
		for i := range n {
			line, of := codes[i*cols:(i+1)*cols], scales[((row+i)/g.high-first)*g.blocks:]
			y := dst[i*cols : (i+1)*cols]
			for b := range g.blocks {
				s := of[b]
				for j := b * g.wide; j < min((b+1)*g.wide, cols); j++ {
					if divide {
						y[j] = e4m3[line[j]] / s
					} else {
						y[j] = e4m3[line[j]] * s
					}
				}
			}
		}
		return nil
	}
	w := dense(rows, cols, t, weight.Name, values)
	return m.widened(w, text), nil
}
