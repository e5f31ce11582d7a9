package main

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model"
)

// Weights need no file: a megabyte of random numbers is repeated over all of them, each matrix and row beginning somewhere
// else in it. What is done with them costs as much as with weights that mean something: no zeros, no two rows alike in a
// cache's reach.

// noise is random bytes that repeat for ever.
type noise []byte

// noiseElements is odd against the powers of two that rows are, so that rows begin at different places of the noise.
const noiseElements = 1<<19 - 19

// floats returns noise of normal numbers of the standard deviation 1/64, in F16 or BF16.
func floats(t kernels.DType) noise {
	rng := rand.New(rand.NewPCG(1, 2))
	n := make(noise, 2*noiseElements)
	for i := 0; i < len(n); i += 2 {
		x := float32(rng.NormFloat64() / 64)
		bits := uint16(math.Float32bits(x) >> 16)
		if t == kernels.F16 {
			bits = half(x)
		}
		n[i], n[i+1] = byte(bits), byte(bits>>8)
	}
	return n
}

// half returns a number of magnitude below 65504 in F16, cut off; what is too small for a normal number is zero.
func half(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, exponent := uint16(bits>>16&0x8000), int(bits>>23&0xff)-127
	if exponent < -14 {
		return sign
	}
	return sign | uint16(exponent+15)<<10 | uint16(bits>>13&0x3ff)
}

// codes returns noise of codes of so many bits, one in a byte.
func codes(bits int) noise {
	rng := rand.New(rand.NewPCG(3, 4))
	n := make(noise, noiseElements)
	for i := range n {
		n[i] = byte(rng.UintN(1 << bits))
	}
	return n
}

// fill sets dst to the noise from byte at on.
func (n noise) fill(dst []byte, at int64) {
	some := n[at%int64(len(n)):]
	for len(dst) > 0 {
		dst = dst[copy(dst, some):]
		some = n
	}
}

// random makes weights of noise.
type random struct {
	bf16   noise
	codes4 noise
	codes8 noise
}

func newRandom() *random { return &random{floats(kernels.BF16), codes(4), codes(8)} }

// dense returns the matrix (out, in) in BF16. salt tells matrices apart.
func (r *random) dense(salt int64, out, in int) *layers.Dense {
	return layers.NewDense(layers.Part{Name: "weight", Type: kernels.BF16, Rows: out, Cols: in, Read: func(dst []byte, row int) error {
		r.bf16.fill(dst, 2*(salt+int64(row)*int64(in)))
		return nil
	}})
}

// grouped returns the matrix (out, in) of codes in groups of 32, as --quantize rounds to them.
func (r *random) grouped(salt int64, out, in, bits int) (layers.Weight, error) {
	n, scale := r.codes8, half(1./64/64)
	if bits == 4 {
		n, scale = r.codes4, half(1./64/4)
	}
	format := kernels.Grouped{Rows: out, Cols: in, Bits: bits, Group: 32, ScaleType: kernels.F16}
	return layers.NewGrouped(format, nil, func(dst layers.GroupedRows, row int) error {
		n.fill(dst.Codes, salt+int64(row)*int64(in))
		for i := 0; i < len(dst.Scales); i += 2 {
			dst.Scales[i], dst.Scales[i+1] = byte(scale), byte(scale>>8)
		}
		return nil
	})
}

// lowRank returns the matrix (out, in) as two factors in BF16 that have ratio times its elements.
func (r *random) lowRank(salt int64, out, in int, ratio float64) (layers.Weight, error) {
	rank := max(8, lowrank.RankFor(ratio, out, in, 8))
	return lowrank.New(r.dense(salt, out, rank), r.dense(salt+7919, rank, in))
}

// A shape is a model's config.json.
type shape struct {
	name   string
	layers int
	dim    int
	hidden int
	heads  int
	keys   int
	width  int // of a head
	vocab  int
	tied   bool
}

// The shapes of published models.
var (
	smollm  = shape{name: "smollm2-360m", layers: 32, dim: 960, hidden: 2560, heads: 15, keys: 5, width: 64, vocab: 49152, tied: true}
	llama1b = shape{name: "llama3.2-1b", layers: 16, dim: 2048, hidden: 8192, heads: 32, keys: 8, width: 64, vocab: 128256, tied: true}
	llama8b = shape{name: "llama3.1-8b", layers: 32, dim: 4096, hidden: 14336, heads: 32, keys: 8, width: 128, vocab: 128256}
	tiny    = shape{name: "tiny", layers: 2, dim: 64, hidden: 96, heads: 4, keys: 2, width: 64, vocab: 128}
	wordy   = shape{name: "wordy", layers: 2, dim: 64, hidden: 96, heads: 4, keys: 2, width: 64, vocab: 4096} // with room for a tokenizer
)

// Config returns the shape as config.json.
func (m shape) Config() []byte {
	return fmt.Appendf(nil, `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-05,
"hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d,
"vocab_size": %d, "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": %t, "torch_dtype": "bfloat16",
"bos_token_id": 0, "eos_token_id": 0}`, m.dim, m.hidden, m.layers, m.heads, m.keys, m.width, m.vocab, m.tied)
}

// matrices returns the matrices of the model by name: (out, in).
func (m shape) matrices() map[string][2]int {
	all := map[string][2]int{"model.embed_tokens.weight": {m.vocab, m.dim}}
	if !m.tied {
		all["lm_head.weight"] = [2]int{m.vocab, m.dim}
	}
	for i := range m.layers {
		for name, dims := range map[string][2]int{
			"self_attn.q_proj": {m.heads * m.width, m.dim}, "self_attn.k_proj": {m.keys * m.width, m.dim},
			"self_attn.v_proj": {m.keys * m.width, m.dim}, "self_attn.o_proj": {m.dim, m.heads * m.width},
			"mlp.gate_proj": {m.hidden, m.dim}, "mlp.up_proj": {m.hidden, m.dim}, "mlp.down_proj": {m.dim, m.hidden},
		} {
			all[fmt.Sprintf("model.layers.%d.%s.weight", i, name)] = dims
		}
	}
	return all
}

// vectors returns the norms of the model, all of dim features.
func (m shape) vectors() []string {
	all := []string{"model.norm.weight"}
	for i := range m.layers {
		all = append(all, fmt.Sprintf("model.layers.%d.input_layernorm.weight", i), fmt.Sprintf("model.layers.%d.post_attention_layernorm.weight", i))
	}
	return all
}

// The kinds of weights that models are made of here. Embedding and head are BF16, but for int4, which has them in 8 bits.
const (
	dense   = "bf16"
	int4    = "int4"
	lowRank = "low rank 0.5"
)

// A source is a model of a shape whose weights are noise of one kind.
type source struct {
	shape
	*random
	kind string
	dims map[string][2]int
}

var _ model.Source = (*source)(nil)

func (r *random) source(m shape, kind string) *source { return &source{m, r, kind, m.matrices()} }

// Names implements model.Source.
func (s *source) Names() []string {
	names := s.vectors()
	for name := range s.dims {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Weight implements model.Source.
func (s *source) Weight(name string) (layers.Weight, error) {
	dims, ok := s.dims[name]
	if !ok {
		return nil, model.MissingError(name)
	}
	hash := fnv.New32a()
	hash.Write([]byte(name))
	salt, table := int64(hash.Sum32()), !strings.HasPrefix(name, "model.layers.")
	switch {
	case s.kind == int4 && table:
		return s.grouped(salt, dims[0], dims[1], 8)
	case s.kind == int4:
		return s.grouped(salt, dims[0], dims[1], 4)
	case s.kind == lowRank && !table:
		return s.lowRank(salt, dims[0], dims[1], 0.5)
	}
	return s.dense(salt, dims[0], dims[1]), nil
}

// Vector implements model.Source: gains are 1.
func (s *source) Vector(name string) ([]float32, error) {
	if !slices.Contains(s.vectors(), name) {
		return nil, model.MissingError(name)
	}
	return slices.Repeat([]float32{1}, s.dim), nil
}
