package model

import (
	"math"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/layers"
)

// llama describes LlamaForCausalLM and MistralForCausalLM: pre-norm blocks, grouped-query attention with rotary
// positions, gated MLP. Mistral's sliding window comes with the config.
func llama(l Loader, c Config, layer int) Block {
	return newBlock(l, c, preNorm{qkvBias: c.AttentionBias, oBias: c.AttentionBias}, layer)
}

// qwen2 describes Qwen2ForCausalLM: llama with biases on q, k and v.
func qwen2(l Loader, c Config, layer int) Block {
	return newBlock(l, c, preNorm{qkvBias: true}, layer)
}

// qwen3 describes Qwen3ForCausalLM: llama whose queries and keys are normed head by head before they are rotated.
func qwen3(l Loader, c Config, layer int) Block {
	return newBlock(l, c, preNorm{qkvBias: c.AttentionBias, oBias: c.AttentionBias, headNorms: true}, layer)
}

// preNorm is what the architectures of this family differ in.
type preNorm struct {
	qkvBias, oBias bool
	headNorms      bool
}

func newBlock(l Loader, c Config, f preNorm, layer int) *block {
	b := &block{
		spec:     kvcache.Spec{Heads: c.KVHeads, KeyDim: c.HeadDim, ValueDim: c.HeadDim, Window: c.Windows[layer]},
		attnNorm: l.RMSNorm("input_layernorm", c.Dim, c.Eps),
		qkv: l.Group(c.Dim,
			Proj{"self_attn.q_proj", c.Heads * c.HeadDim, f.qkvBias},
			Proj{"self_attn.k_proj", c.KVHeads * c.HeadDim, f.qkvBias},
			Proj{"self_attn.v_proj", c.KVHeads * c.HeadDim, f.qkvBias}),
		rope: l.Rope(c.Rope, c.HeadDim),
		attn: layers.Attention{
			Layer: layer, ValueDim: c.HeadDim,
			Attention: kernels.Attention{Heads: c.Heads, Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Window: c.Windows[layer]},
		},
		o:       l.Group(c.Heads*c.HeadDim, Proj{"self_attn.o_proj", c.Dim, f.oBias}),
		mlpNorm: l.RMSNorm("post_attention_layernorm", c.Dim, c.Eps),
		gateUp: l.Group(c.Dim,
			Proj{"mlp.gate_proj", c.Hidden, c.MLPBias},
			Proj{"mlp.up_proj", c.Hidden, c.MLPBias}),
		down: l.Group(c.Hidden, Proj{"mlp.down_proj", c.Dim, c.MLPBias}),
	}
	if f.headNorms {
		b.headNorms = true
		b.qNorm = l.RMSNorm("self_attn.q_norm", c.HeadDim, c.Eps)
		b.kNorm = l.RMSNorm("self_attn.k_norm", c.HeadDim, c.Eps)
	}
	return b
}

// block is one pre-norm transformer block.
type block struct {
	spec kvcache.Spec

	attnNorm     layers.RMSNorm
	qkv          *layers.Group
	headNorms    bool
	qNorm, kNorm layers.RMSNorm
	rope         *layers.Rope
	attn         layers.Attention
	o            *layers.Group
	mlpNorm      layers.RMSNorm
	gateUp, down *layers.Group
}

// KV says how the block keeps a token.
func (b *block) KV() kvcache.Spec { return b.spec }

// Forward adds attention and MLP to the hidden state x (tokens, dim).
func (b *block) Forward(p *layers.Pass, x kernels.Mat) {
	mark := p.Mark()
	q, k, v := b.qkv.NormedOut3(p, b.attnNorm, x)
	if b.headNorms {
		b.qNorm.Apply(p, q)
		b.kNorm.Apply(p, k)
	}
	a := b.attn.Out(p, b.rope, q, k, v) // rotates q and k, stores k and v, then attends
	b.o.Apply(p, x, a, kernels.Add)     // x += W_o·a
	p.Release(mark)

	g := b.gateUp.NormedSwiGLU(p, b.mlpNorm, x) // silu(gate)·up
	b.down.Apply(p, x, g, kernels.Add)          // x += W_down·g
	p.Release(mark)
}
