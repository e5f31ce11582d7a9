package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/tokenizer"
)

// clear is by how much in nats the likeliest token leads where both devices must choose it: a GPU rounds what it multiplies to
// BF16, which moves a logit by some hundredths.
const clear = 0.15

// prompts are answered side by side: of a block of the cache and of several.
var prompts = []string{
	"The gopher went down to the river and",
	"Once there was a compiler",
	"In the beginning there was a long list of things to do, and the first of them was to write a list of things to do. " +
		"The second was to find out who had written the first, and why there were so many gophers in it. After a while they sat down.",
}

// golden holds what a model says on the GPU against what it says on the processor, for every kind of weight, wherever the
// likeliest token leads clearly.
func golden(s *session) error {
	if err := s.open(); err != nil {
		return err
	}
	c, err := checkpoint.Open(s.model)
	if err != nil {
		return err
	}
	defer c.Close()
	src, err := model.NewSource(c)
	if err != nil {
		return err
	}
	file, err := os.ReadFile(filepath.Join(s.model, "tokenizer.json"))
	if err != nil {
		return err
	}
	words, err := tokenizer.New(file)
	if err != nil {
		return err
	}
	var ids [][]int32
	for _, p := range prompts[:s.replies] {
		ids = append(ids, words.Encode(p, tokenizer.EncodeOptions{}))
	}
	host, err := cpu.Open(cpu.Options{Threads: min(16, runtime.NumCPU())})
	if err != nil {
		return err
	}
	var errs []error
	for _, k := range compressions {
		if !slices.Contains(s.compressed, k.name) {
			continue
		}
		if err := s.ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		if err := s.compareReplies(host, src, k, ids); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
		}
	}
	return errors.Join(append(errs, host.Close())...)
}

// A compression makes another model of a source.
type compression struct {
	name string
	of   func(model.Source) (model.Source, error)
}

var compressions = []compression{
	{"dense", func(src model.Source) (model.Source, error) { return src, nil }},
	{"int8", rounded(8)},
	{"int4", rounded(4)},
	{"low rank", replaced(func(w linalg.Matrix) (layers.Weight, error) {
		f, err := lowrank.SVD(w, lowrank.RankFor(0.8, w.Rows, w.Cols, 8))
		if err != nil {
			return nil, err
		}
		return f.Store(kernels.BF16)
	})},
	{"pifa", replaced(func(w linalg.Matrix) (layers.Weight, error) {
		f, err := lowrank.SVD(w, lowrank.PIFARankFor(0.8, w.Rows, w.Cols, 8))
		if err != nil {
			return nil, err
		}
		return f.StorePIFA(kernels.BF16)
	})},
	{"int4 + rank 8", replaced(withResidual)},
}

func rounding(bits int) *layers.Rounding {
	return &layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}
}

// rounded rounds blocks to so many bits, and tables to 8.
func rounded(bits int) func(model.Source) (model.Source, error) {
	return func(src model.Source) (model.Source, error) {
		return model.Quantize(src, model.Quantization{Blocks: rounding(bits), Tables: rounding(8)}), nil
	}
}

// replaced replaces the matrices of the blocks.
func replaced(by func(w linalg.Matrix) (layers.Weight, error)) func(model.Source) (model.Source, error) {
	return func(src model.Source) (model.Source, error) {
		o := model.NewOverlay(src)
		for _, name := range src.Names() {
			if !strings.HasSuffix(name, "_proj.weight") {
				continue
			}
			stored, err := src.Weight(name)
			if err != nil {
				return nil, err
			}
			w, err := matrixOf(stored)
			if err != nil {
				return nil, err
			}
			small, err := by(w)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			o.Set(name, small)
		}
		return o, nil
	}
}

// matrixOf returns the numbers that a weight stands for.
func matrixOf(w layers.Weight) (linalg.Matrix, error) {
	values, err := w.Dense()
	if err != nil {
		return linalg.Matrix{}, err
	}
	out, in := w.Dims()
	m := linalg.New(out, in)
	for i, v := range values {
		m.Data[i] = float64(v)
	}
	return m, nil
}

// withResidual rounds a matrix to 4 bits and adds the best of rank 8 of what is missing.
func withResidual(w linalg.Matrix) (layers.Weight, error) {
	values := make([]float32, len(w.Data))
	for i, v := range w.Data {
		values[i] = float32(v)
	}
	base, err := rounding(4).Quantize(values, w.Rows, nil)
	if err != nil {
		return nil, err
	}
	missing, err := matrixOf(base)
	if err != nil {
		return nil, err
	}
	for i, v := range w.Data {
		missing.Data[i] = v - missing.Data[i]
	}
	f, err := lowrank.SVD(missing, 8)
	if err != nil {
		return nil, err
	}
	residual, err := f.Store(kernels.BF16)
	if err != nil {
		return nil, err
	}
	return layers.NewSum(base, residual)
}

// compareReplies has both devices reply and compares.
func (s *session) compareReplies(host kernels.Device, src model.Source, k compression, ids [][]int32) error {
	small, err := k.of(src)
	if err != nil {
		return err
	}
	stream, err := host.NewStream()
	if err != nil {
		return err
	}
	want, err := replies(host, stream, small, ids, nil, s.tokensOf)
	if err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	got, err := replies(s.device, s.stream, small, ids, want, s.tokensOf)
	if err != nil {
		return err
	}
	compared, wrong := 0, ""
	var apart float32
	for i, w := range want {
		for at, id := range w.ids {
			apart = max(apart, w.leads[at]-got[i].leads[at], got[i].leads[at]-w.leads[at])
			if w.leads[at] < clear {
				continue
			}
			compared++
			if got[i].ids[at] != id {
				wrong = fmt.Sprintf("reply %d, token %d: %d instead of %d, which leads by %.2f", i, at, got[i].ids[at], id, w.leads[at])
			}
		}
	}
	if compared == 0 {
		wrong = "no token leads clearly"
	}
	const group = "Replies as the processor's"
	return errors.Join(
		s.add(Figure{Group: group, Row: k.name, Column: "tokens compared", Value: float64(compared), Wrong: wrong}),
		s.add(Figure{Group: group, Row: k.name, Column: "leads differ by at most, nats", Value: float64(apart)}),
	)
}

// A reply is the likeliest token at each place, and by how much the token that was taken there leads the best of the others,
// in nats.
type reply struct {
	ids   []int32
	leads []float32
}

// replies generates n tokens after each prompt, side by side: the likeliest each time or, where there are some, those that
// others have found the likeliest, so that all places can be compared.
func replies(d kernels.Device, stream kernels.Stream, src model.Source, ids [][]int32, others []reply, n int) (all []reply, err error) {
	longest, total := 0, 0
	for _, p := range ids {
		longest, total = max(longest, len(p)), total+len(p)
	}
	longest += n
	b, err := bind(d, stream, src, len(ids)*(longest+blockTokens))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	l := model.Limits{Rows: total, Seqs: len(ids), Samples: len(ids), Blocks: b.cache.BlocksFor(longest), BlockTokens: blockTokens}
	all = make([]reply, len(ids))
	return all, b.within(l, func(batch *model.Batch) error {
		next := ids
		computed := make([]int, len(ids))
		for place := range n {
			batch.Reset()
			for i, tokens := range next {
				table, err := b.table(i, longest)
				if err != nil {
					return err
				}
				batch.Add(tokens, computed[i], table, []int{len(tokens) - 1})
				computed[i] += len(tokens)
			}
			logits, err := b.decoder.Forward(batch)
			if err != nil {
				return err
			}
			rows := make([]float32, logits.Rows*logits.Cols)
			stream.Download(kernels.Float32Bytes(rows), logits)
			if err := stream.Sync(); err != nil {
				return err
			}
			next = make([][]int32, len(ids))
			for i := range ids {
				row := rows[i*logits.Cols:][:logits.Cols]
				best := likeliest(row, -1)
				taken := best
				if others != nil {
					taken = int(others[i].ids[place])
				}
				all[i].ids = append(all[i].ids, int32(best))
				all[i].leads = append(all[i].leads, row[taken]-row[likeliest(row, taken)])
				next[i] = []int32{int32(taken)}
			}
		}
		return nil
	})
}

// likeliest returns the id of the largest logit but one, which may be -1 for none.
func likeliest(logits []float32, but int) int {
	best := -1
	for i, l := range logits {
		if i != but && (best < 0 || l > logits[best]) {
			best = i
		}
	}
	return best
}
